//! The SCSI controller: disks behind one channel and its sub-channels.
//!
//! A request about the disk itself is answered immediately; for a transfer of blocks, the back end gets a [`Request`],
//! and the guest is notified when that is done. The back end identifies a disk by the number given to
//! [`Storage::attach`].
//!
//! Sources: Linux 6.12, drivers/scsi/storvsc_drv.c; OpenVMM, storvsp.

mod command;
mod device;
mod job;
mod srb;

use crate::scsi::{Disk, Sense};
use hv_tlfs::vmbus::storage::{FLAG_MULTI_CHANNEL, PacketHeader};
use hv_tlfs::vmbus::storage::{
    Operation, Packet as Vstor, Properties, ProtocolVersion, ScsiRequest, VERSION_5_1, VERSION_6_0,
    VERSION_6_2,
};
use hv_tlfs::vmbus::{ChannelOffer, Guid, NtStatus, guid};
use hv_vmbus::{Backend, Channel, Io, Message, Packet, Work, offer};
use job::Job;
pub use job::Piece;
use srb::Srb;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// Maximum size of a request in bytes, as in Hyper-V.
pub const MAX_TRANSFER: u32 = 256 << 10;
/// Maximum number of segments of a request with this many bytes: its first page may begin anywhere.
pub const SEGMENTS: usize = MAX_TRANSFER as usize / 4096 + 1;

/// Instances of the four controllers of a machine on Azure, by which udev's rules there identify disks (Azure Linux
/// agent, 66-azure-storage.rules).
pub const CONTROLLERS: [Guid; 4] = [controller(0x1a), controller(0x1b), controller(0x1c), controller(0x1d)];

const fn controller(last: u32) -> Guid {
    Guid::new(0xf8b3_7800 | last, 0x1e82, 0x4818, [0xa1, 0xc3, 0x63, 0xd8, 0x06, 0xec, 0x15, 0xbb])
}

/// Returns the offer of a controller as in Hyper-V.
#[must_use]
pub const fn offer_of(instance: Guid) -> ChannelOffer {
    offer(guid::SCSI, instance)
}

/// Size of a packet in bytes, in both directions.
const PACKET: usize = size_of::<Vstor>();
/// Size of the header of every packet in bytes.
const HEADER: usize = size_of::<PacketHeader>();

/// Versions of the protocol, the newest first.
const VERSIONS: [u16; 3] = [VERSION_6_2, VERSION_6_0, VERSION_5_1];

/// Notes for the observer ([`Context::observe`](hv_vmbus::Context::observe)).
pub mod note {
    /// The guest has ended the initialization: version.
    pub const READY: u32 = 1;
    /// A command was rejected: sense key, code and qualifier.
    pub const REFUSED: u32 = 2;
}

/// A request of a controller to its back end.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// The disk, by the number given when it was attached.
    pub disk: u16,
    /// The work.
    pub piece: Piece,
    /// The command that it is part of.
    job: Job,
    /// What to answer when it is done.
    srb: Srb,
}

/// Reason why a back end failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// These blocks cannot be read or written.
    Medium,
    /// The back end is broken, or the disk is gone.
    Target,
    /// Another failure; the guest gets this sense.
    Sense(Sense),
    /// The command ends exactly like this: for injected faults.
    Exactly {
        /// Status of the port driver, without flags.
        srb: u8,
        /// Status of the target.
        scsi: u8,
        /// Sense key, code and qualifier.
        sense: Option<[u8; 3]>,
    },
}

impl Request {
    /// Returns one without a command.
    const fn empty() -> Self {
        Self { disk: 0, piece: Piece::Flush, job: Job::EMPTY, srb: Srb::EMPTY }
    }
}

impl Work for Request {
    type Outcome = Result<(), Failure>;

    fn cost(&self) -> usize {
        self.piece.cleared() as usize
    }

    fn begins(&self) -> bool {
        self.job.is_at_start()
    }

    fn extent(&self) -> Option<(u64, u64)> {
        self.piece.extent()
    }
}

/// A disk and its address.
#[derive(Clone, Copy, Debug)]
struct Unit {
    target: u8,
    lun: u8,
    backend: u16,
    disk: Disk,
}

/// Room for a disk.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
enum Bay {
    /// All zeros, as required of a new controller: it is part of a bare-metal host's static.
    Free = 0,
    Taken(Unit),
}

impl Bay {
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

/// State of the guest's driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The channel is closed, or nothing has been received yet.
    Start,
    /// The guest has started the initialization.
    Begun,
    /// The guest has ended the initialization.
    Ready,
}

/// A controller with up to `DISKS` disks.
#[derive(Clone, Copy, Debug)]
pub struct Storage<const DISKS: usize> {
    units: [Bay; DISKS],
    state: State,
    /// The negotiated version; 0 for none.
    version: u16,
    /// The guest has yet to be notified of added or removed disks.
    announce: bool,
}

/// Reason why a disk could not be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttachError {
    /// There already is a disk at this address.
    Occupied,
    /// The controller has its maximum number of disks.
    Full,
}

impl core::fmt::Display for AttachError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Occupied => "the controller already has a disk at that target and logical unit",
            Self::Full => "the controller has no room for another disk",
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
    /// Creates a controller without disks.
    #[must_use]
    pub const fn new() -> Self {
        Self { units: [Bay::Free; DISKS], state: State::Start, version: 0, announce: false }
    }

    /// Attaches a disk, before the guest runs or while it does. `backend` is the back end's number for it. Call
    /// [`announce`](Self::announce) afterwards if the guest may have scanned already.
    ///
    /// # Errors
    /// See [`AttachError`].
    pub fn attach(&mut self, target: u8, lun: u8, backend: u16, disk: Disk) -> Result<(), AttachError> {
        if self.unit(0, target, lun).is_some() {
            return Err(AttachError::Occupied);
        }
        let place = self.units.iter_mut().find(|place| place.unit().is_none()).ok_or(AttachError::Full)?;
        *place = Bay::Taken(Unit { target, lun, backend, disk });
        Ok(())
    }

    /// Detaches a disk and returns the back end's number for it. Requests in flight are still completed.
    pub fn detach(&mut self, target: u8, lun: u8) -> Option<u16> {
        let is_there = |unit: &Unit| (unit.target, unit.lun) == (target, lun);
        let place = self.units.iter_mut().find(|place| place.unit().is_some_and(is_there))?;
        let backend = place.unit().map(|unit| unit.backend);
        *place = Bay::Free;
        backend
    }

    /// Returns the disk at an address.
    pub fn disk_mut(&mut self, target: u8, lun: u8) -> Option<&mut Disk> {
        self.unit(0, target, lun).map(|unit| &mut unit.disk)
    }

    /// Returns the back end's number for the disk at an address.
    pub fn backend(&self, target: u8, lun: u8) -> Option<u16> {
        let mut units = self.units.iter().filter_map(Bay::unit);
        units.find(|unit| (unit.target, unit.lun) == (target, lun)).map(|unit| unit.backend)
    }

    /// Returns the negotiated version, once the guest has ended the initialization.
    #[must_use]
    pub fn version(&self) -> Option<u16> {
        (self.state == State::Ready).then_some(self.version)
    }

    /// Notifies the guest of added or removed disks: it scans all of them again. Does nothing before the guest has
    /// initialized the controller.
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
        let mut units = self.units.iter_mut().filter_map(Bay::unit_mut);
        units.find(|unit| (0, unit.target, unit.lun) == (path, target, lun))
    }

    /// Handles operations of the controller itself.
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
                let [minor, major] = asked.version.to_le_bytes();
                let known = VERSIONS.contains(&asked.version);
                if !known || io.refuses(u32::from(major) << 16 | u32::from(minor)) {
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
                self.units.iter_mut().filter_map(Bay::unit_mut).for_each(|unit| unit.disk.reset());
            }
            Operation::RESET_LUN => {
                let Ok(request) = ScsiRequest::read_from_bytes(&vstor.body) else {
                    return NtStatus::INVALID_PARAMETER;
                };
                let Some(unit) = self.unit(request.path, request.target, request.lun) else {
                    return NtStatus::INVALID_PARAMETER;
                };
                unit.disk.reset();
            }
            _ => return NtStatus::NOT_SUPPORTED,
        }
        NtStatus::SUCCESS
    }
}

/// Returns the properties of a controller for the guest.
fn properties(vstor: &mut Vstor, channels: usize) {
    let mut properties = Properties::new_zeroed();
    properties.max_channels = channels.saturating_sub(1) as u16;
    properties.flags = if channels > 1 { FLAG_MULTI_CHANNEL } else { 0 };
    properties.max_transfer_bytes = MAX_TRANSFER;
    let bytes = properties.as_bytes();
    vstor.body[..bytes.len()].copy_from_slice(bytes);
}
