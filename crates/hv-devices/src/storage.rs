//! The SCSI controller: disks behind one channel and its sub-channels.
//!
//! A guest's request is answered at once where it is about the disk itself; where blocks move, the back end is asked for a
//! [`Request`], and the guest hears of it when that is done. What stands behind a disk is the back end's: it knows it by the
//! number that [`Storage::attach`] was given.
//!
//! Sources: Linux 6.12, drivers/scsi/storvsc_drv.c; OpenVMM, storvsp.

mod command;
mod device;
mod job;
mod srb;

use crate::scsi::{Disk, Sense};
use hv_tlfs::vmbus::storage::{FLAG_MULTI_CHANNEL, PacketHeader};
use hv_tlfs::vmbus::storage::{
    Operation, Packet as Vstor, Properties, ProtocolVersion, VERSION_5_1, VERSION_6_0, VERSION_6_2,
};
use hv_tlfs::vmbus::{ChannelOffer, Guid, NtStatus, guid};
use hv_vmbus::{Backend, Channel, Io, Message, Packet, Work, offer};
use job::Job;
pub use job::{PIECE, Piece};
use srb::Srb;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// Bytes of one request at most, as Hyper-V has it.
pub const MAX_TRANSFER: u32 = 256 << 10;
/// Segments that a request of so many bytes needs at most: its first page may begin anywhere.
pub const SEGMENTS: usize = MAX_TRANSFER as usize / 4096 + 1;

/// Instances of the four controllers of a machine on Azure, by which udev's rules there know disks (Azure Linux agent,
/// 66-azure-storage.rules).
pub const CONTROLLERS: [Guid; 4] = [controller(0x1a), controller(0x1b), controller(0x1c), controller(0x1d)];

const fn controller(last: u32) -> Guid {
    Guid::new(0xf8b3_7800 | last, 0x1e82, 0x4818, [0xa1, 0xc3, 0x63, 0xd8, 0x06, 0xec, 0x15, 0xbb])
}

/// A controller as Hyper-V offers it.
#[must_use]
pub const fn offer_of(instance: Guid) -> ChannelOffer {
    offer(guid::SCSI, instance)
}

/// Bytes of a packet, both ways.
const PACKET: usize = size_of::<Vstor>();
/// Bytes of what begins every packet.
const HEADER: usize = size_of::<PacketHeader>();

/// Versions of the protocol, the newest first.
const VERSIONS: [u16; 3] = [VERSION_6_2, VERSION_6_0, VERSION_5_1];

/// Notes for the observer ([`Io::observe`]).
pub mod note {
    /// The guest has ended the initialization: version.
    pub const READY: u32 = 1;
    /// A command was refused: sense key, code and qualifier.
    pub const REFUSED: u32 = 2;
}

/// What a controller asks its back end for.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// The disk, by the number that it was attached with.
    pub disk: u16,
    /// What to do.
    pub piece: Piece,
    /// The command of which it is a part.
    job: Job,
    /// What has to be said when it is done.
    srb: Srb,
}

/// Why a back end failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// These blocks cannot be read or written.
    Medium,
    /// The back end is broken, or the disk is gone.
    Target,
    /// Something else; the guest is told this.
    Sense(Sense),
}

impl Work for Request {
    type Outcome = Result<(), Failure>;

    fn cost(&self) -> usize {
        self.piece.cleared() as usize
    }
}

/// A disk at its place.
#[derive(Clone, Copy, Debug)]
struct Unit {
    target: u8,
    lun: u8,
    backend: u16,
    disk: Disk,
}

/// A place for a disk.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
enum Place {
    /// All zeros, as a new controller is to be: it is a part of a bare-metal host's static.
    Free = 0,
    Taken(Unit),
}

impl Place {
    const fn unit(&self) -> Option<&Unit> {
        match self {
            Self::Free => None,
            Self::Taken(unit) => Some(unit),
        }
    }

    const fn unit_mut(&mut self) -> Option<&mut Unit> {
        match self {
            Self::Free => None,
            Self::Taken(unit) => Some(unit),
        }
    }
}

/// How far the guest has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The channel is closed, or nothing was said yet.
    Start,
    /// The guest has begun.
    Begun,
    /// The guest has ended the initialization.
    Ready,
}

/// A controller with up to `DISKS` disks.
#[derive(Clone, Copy, Debug)]
pub struct Storage<const DISKS: usize> {
    units: [Place; DISKS],
    state: State,
    /// The version agreed on; 0 for none.
    version: u16,
    /// The guest is to be told that disks have come or gone.
    announce: bool,
}

/// Why a disk was not attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttachError {
    /// There is a disk at that place.
    Occupied,
    /// The controller has all the disks that it can have.
    Full,
}

impl core::fmt::Display for AttachError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Occupied => "the controller has a disk at that target and logical unit",
            Self::Full => "the controller has room for no more disks",
        })
    }
}

impl core::error::Error for AttachError {}

impl<const DISKS: usize> Default for Storage<DISKS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const DISKS: usize> Storage<DISKS> {
    /// Makes a controller without disks.
    #[must_use]
    pub const fn new() -> Self {
        Self { units: [Place::Free; DISKS], state: State::Start, version: 0, announce: false }
    }

    /// Puts a disk at a place, before the guest runs or while it does. `backend` is the back end's number for it. Call
    /// [`announce`](Self::announce) afterwards if the guest may have looked already.
    ///
    /// # Errors
    /// See [`AttachError`].
    pub fn attach(&mut self, target: u8, lun: u8, backend: u16, disk: Disk) -> Result<(), AttachError> {
        if self.unit(0, target, lun).is_some() {
            return Err(AttachError::Occupied);
        }
        let place = self.units.iter_mut().find(|place| place.unit().is_none()).ok_or(AttachError::Full)?;
        *place = Place::Taken(Unit { target, lun, backend, disk });
        Ok(())
    }

    /// Takes a disk away and returns the back end's number for it. Requests in flight are completed as ever.
    pub fn detach(&mut self, target: u8, lun: u8) -> Option<u16> {
        let is_there = |unit: &Unit| (unit.target, unit.lun) == (target, lun);
        let place = self.units.iter_mut().find(|place| place.unit().is_some_and(is_there))?;
        let backend = place.unit().map(|unit| unit.backend);
        *place = Place::Free;
        backend
    }

    /// The disk at a place.
    pub fn disk_mut(&mut self, target: u8, lun: u8) -> Option<&mut Disk> {
        self.unit(0, target, lun).map(|unit| &mut unit.disk)
    }

    /// The version agreed on, once the guest has ended the initialization.
    #[must_use]
    pub fn version(&self) -> Option<u16> {
        (self.state == State::Ready).then_some(self.version)
    }

    /// Tells the guest that disks have come or gone: it looks at all of them anew. Before the guest has initialized the
    /// controller there is nobody to tell.
    pub fn announce<P: Backend<Request>>(&mut self, io: &mut Io<'_, P, Request>) {
        if self.state != State::Ready {
            return;
        }
        let mut packet = Vstor::new_zeroed();
        packet.header.operation = Operation::ENUMERATE_BUS;
        let message = Message { transaction: 0, wants_completion: false };
        self.announce = io.send(Channel::PRIMARY, message, packet.as_bytes()).is_err();
    }

    fn unit(&mut self, path: u8, target: u8, lun: u8) -> Option<&mut Unit> {
        let mut units = self.units.iter_mut().filter_map(Place::unit_mut);
        units.find(|unit| (0, unit.target, unit.lun) == (path, target, lun))
    }

    /// Handles what belongs to the controller and not to a disk.
    fn control<P: Backend<Request>>(
        &mut self,
        packet: &Packet<'_, P::Memory>,
        vstor: &mut Vstor,
        io: &mut Io<'_, P, Request>,
    ) -> NtStatus {
        match vstor.header.operation {
            _ if packet.channel() != Channel::PRIMARY => return NtStatus::INVALID_DEVICE_STATE,
            Operation::BEGIN_INITIALIZATION => self.state = State::Begun,
            _ if self.state == State::Start => return NtStatus::INVALID_DEVICE_STATE,
            Operation::QUERY_PROTOCOL_VERSION => {
                let Ok((asked, _)) = ProtocolVersion::read_from_prefix(&vstor.body) else {
                    return NtStatus::INVALID_PARAMETER;
                };
                if !VERSIONS.contains(&asked.version) {
                    return NtStatus::REVISION_MISMATCH;
                }
                self.version = asked.version;
            }
            Operation::QUERY_PROPERTIES => properties(vstor, io.channels()),
            Operation::END_INITIALIZATION => {
                self.state = State::Ready;
                io.observe(Channel::PRIMARY, note::READY, self.version.into());
            }
            Operation::CREATE_SUB_CHANNELS => {
                let count = u16::from_le_bytes([vstor.body[0], vstor.body[1]]);
                if usize::from(count) >= io.channels() || io.subchannels(count) != count {
                    return NtStatus::INVALID_PARAMETER;
                }
            }
            Operation::RESET_BUS | Operation::RESET_ADAPTER => {
                self.units.iter_mut().filter_map(Place::unit_mut).for_each(|unit| unit.disk.reset());
            }
            Operation::RESET_LUN => match Srb::read(vstor) {
                srb if self.unit(srb.path(), srb.target(), srb.lun()).is_some() => {
                    if let Some(unit) = self.unit(srb.path(), srb.target(), srb.lun()) {
                        unit.disk.reset();
                    }
                }
                _ => return NtStatus::INVALID_PARAMETER,
            },
            _ => return NtStatus::NOT_SUPPORTED,
        }
        NtStatus::SUCCESS
    }
}

/// What the guest is told of a controller.
fn properties(vstor: &mut Vstor, channels: usize) {
    let mut properties = Properties::new_zeroed();
    properties.max_channels = channels.saturating_sub(1) as u16;
    properties.flags = if channels > 1 { FLAG_MULTI_CHANNEL } else { 0 };
    properties.max_transfer_bytes = MAX_TRANSFER;
    let bytes = properties.as_bytes();
    vstor.body[..bytes.len()].copy_from_slice(bytes);
}
