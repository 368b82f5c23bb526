//! The SCSI controller: disks behind one channel and its sub-channels.
//!
//! A guest's request is answered at once where it is about the disk itself; where blocks move, the back end is asked for a
//! [`Request`], and the guest hears of it when that is done. What stands behind a disk is the back end's: it knows it by the
//! number that [`Storage::attach`] was given.
//!
//! Sources: Linux 6.12, drivers/scsi/storvsc_drv.c; OpenVMM, storvsp.

mod srb;

use crate::scsi::{Disk, Reply, Sense, Transfer};
use hv_memory::save::{Reader, RestoreError, Writer};
use hv_tlfs::vmbus::storage::{FLAG_MULTI_CHANNEL, PacketHeader};
use hv_tlfs::vmbus::storage::{
    Operation, Packet as Vstor, Properties, ProtocolVersion, VERSION_5_1, VERSION_6_0, VERSION_6_2,
};
use hv_tlfs::vmbus::{ChannelOffer, Guid, NtStatus, PacketType, guid};
use hv_vmbus::{
    Backend, Channel, Device, Done, Head, Io, Message, Opening, Packet, Refusal, RequestError, Taken, Work,
    offer,
};
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
    /// What to do. The data of [`Transfer::Read`], [`Transfer::Write`] and [`Transfer::Fill`] go with the request.
    pub transfer: Transfer,
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
}

/// A disk at its place.
#[derive(Clone, Copy, Debug)]
struct Unit {
    target: u8,
    lun: u8,
    backend: u16,
    disk: Disk,
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
    units: [Option<Unit>; DISKS],
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
        Self { units: [None; DISKS], state: State::Start, version: 0, announce: false }
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
        let place = self.units.iter_mut().find(|unit| unit.is_none()).ok_or(AttachError::Full)?;
        *place = Some(Unit { target, lun, backend, disk });
        Ok(())
    }

    /// Takes a disk away and returns the back end's number for it. Requests in flight are completed as ever.
    pub fn detach(&mut self, target: u8, lun: u8) -> Option<u16> {
        let place =
            self.units.iter_mut().find(|unit| unit.is_some_and(|u| (u.target, u.lun) == (target, lun)))?;
        place.take().map(|unit| unit.backend)
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
        let mut units = self.units.iter_mut().flatten();
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
                self.units.iter_mut().flatten().for_each(|unit| unit.disk.reset());
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

    /// Handles a SCSI command. Returns false if it is to be shown again later.
    fn execute<P: Backend<Request>>(
        &mut self,
        packet: &mut Packet<'_, P::Memory>,
        vstor: &Vstor,
        len: usize,
        io: &mut Io<'_, P, Request>,
    ) -> Option<Srb> {
        let mut srb = Srb::read(vstor).of_length(len);
        let room = match io.pages(packet) {
            // One range, and as long as the request says: what is more or less is no request.
            Ok(pages) if packet.ranges() <= 1 && pages.len() >= srb.transfer().into() => srb.transfer(),
            _ => {
                srb.invalid();
                return Some(srb);
            }
        };
        let (path, target, lun) = (srb.path(), srb.target(), srb.lun());
        if srb.is_report_luns() {
            let data = self.luns(path, target);
            return Some(answer_data(packet, io, srb, data.as_ref().map(|d| &d[..]), room));
        }
        let Some(unit) = self.unit(path, target, lun) else {
            return Some(absent(packet, io, srb, room));
        };
        let reply = unit.disk.command(srb.cdb(), |into| {
            let pages = io.pages(packet).ok()?;
            let len = into.len().min(room as usize);
            pages.read(io.memory(), 0, &mut into[..len]).ok()?;
            Some(len)
        });
        let disk = unit.backend;
        match reply {
            Reply::Good => srb.good(0),
            Reply::Data(data) => return Some(answer_data(packet, io, srb, Some(data.bytes()), room)),
            Reply::Check(sense) => {
                observe(io, packet.channel(), sense);
                srb.check(sense);
            }
            Reply::Transfer(transfer) => return start(packet, io, Request { disk, transfer, srb }, room),
        }
        Some(srb)
    }

    /// REPORT LUNS: what there is at a target, or `None` if nothing is.
    fn luns(&self, path: u8, target: u8) -> Option<[u8; 8 + 8 * 64]> {
        let mut data = [0; 8 + 8 * 64];
        let mut count = 0;
        let there = |unit: &&Unit| path == 0 && unit.target == target;
        for (unit, entry) in self.units.iter().flatten().filter(there).zip(data[8..].chunks_exact_mut(8)) {
            entry[1] = unit.lun;
            count += 1;
        }
        let bytes: u32 = 8 * count;
        data[..4].copy_from_slice(&bytes.to_be_bytes());
        (count > 0).then_some(data)
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

fn observe<P: Backend<Request>>(io: &Io<'_, P, Request>, channel: Channel, sense: Sense) {
    let value = u64::from(sense.key as u8) << 16 | u64::from(sense.code) << 8 | u64::from(sense.qualifier);
    io.observe(channel, note::REFUSED, value);
}

/// Copies data to the guest, as far as it has room.
fn answer_data<P: Backend<Request>>(
    packet: &Packet<'_, P::Memory>,
    io: &Io<'_, P, Request>,
    mut srb: Srb,
    data: Option<&[u8]>,
    room: u32,
) -> Srb {
    let Some(data) = data else {
        srb.no_lun();
        return srb;
    };
    let data = &data[..data.len().min(room as usize).min(srb.allocation(data.len()))];
    match io.pages(packet).map(|pages| pages.write(io.memory(), 0, data)) {
        Ok(Ok(())) => srb.good(data.len() as u32),
        _ => srb.invalid(),
    }
    srb
}

/// Answers for a logical unit that is not there. INQUIRY never fails: Linux does not look at its status.
fn absent<P: Backend<Request>>(
    packet: &Packet<'_, P::Memory>,
    io: &Io<'_, P, Request>,
    mut srb: Srb,
    room: u32,
) -> Srb {
    if srb.is_inquiry() {
        let data = crate::scsi::absent_inquiry();
        return answer_data(packet, io, srb, Some(data.bytes()), room);
    }
    srb.no_lun();
    srb
}

/// Makes a request of a command. Returns the answer if none was made.
fn start<P: Backend<Request>>(
    packet: &mut Packet<'_, P::Memory>,
    io: &mut Io<'_, P, Request>,
    mut request: Request,
    room: u32,
) -> Option<Srb> {
    let block = 512;
    let wanted = match request.transfer {
        Transfer::Read { len, .. } | Transfer::Write { len, .. } => len,
        Transfer::Fill { .. } => block,
        Transfer::Flush | Transfer::Discard { .. } => 0,
    };
    let mut len = wanted;
    if wanted > room.into() {
        let Transfer::Read { offset, .. } = request.transfer else {
            request.srb.check(Sense::INVALID_FIELD);
            return Some(request.srb);
        };
        // The guest gets the blocks that it has room for.
        len = u64::from(room) / block * block;
        if len == 0 {
            request.srb.check(Sense::INVALID_FIELD);
            return Some(request.srb);
        }
        request.transfer = Transfer::Read { offset, len };
        request.srb.overruns();
    }
    let mut srb = request.srb;
    match io.request_part(packet, request, 0, len) {
        Ok(_) => None,
        Err(RequestError::Pages(_)) => {
            srb.invalid();
            Some(srb)
        }
        // The bus shows a packet only when a request is free.
        Err(_) => {
            srb.busy();
            Some(srb)
        }
    }
}

impl<const DISKS: usize> Device for Storage<DISKS> {
    type Request = Request;

    const NAME: [u8; 4] = *b"scsi";
    const REPLY: u32 = PACKET as u32;
    /// Linux's driver reads no more of a packet (drivers/scsi/storvsc_drv.c, `storvsc_connect_to_vsp`).
    const PACKET_LIMIT: u32 = 80;

    fn reply_len(&self, _: Channel, head: &Head) -> Option<u32> {
        head.wants_completion.then_some(head.len.min(Self::REPLY))
    }

    fn opened<P: Backend<Request>>(
        &mut self,
        channel: Channel,
        _: &Opening<'_>,
        _: &mut Io<'_, P, Request>,
    ) -> Result<(), Refusal> {
        if channel == Channel::PRIMARY {
            self.state = State::Start;
            self.version = 0;
        }
        Ok(())
    }

    fn packet<P: Backend<Request>>(
        &mut self,
        packet: &mut Packet<'_, P::Memory>,
        io: &mut Io<'_, P, Request>,
    ) -> Taken {
        // Windows opens sub-channels before it has ended the initialization.
        if packet.channel() != Channel::PRIMARY && self.state != State::Ready {
            return Taken::Later;
        }
        let mut vstor = Vstor::new_zeroed();
        let len = packet.read(&mut vstor.as_mut_bytes()[..]);
        if len < HEADER
            || !matches!(packet.kind(), PacketType::DATA_IN_BAND | PacketType::DATA_USING_GPA_DIRECT)
        {
            return Taken::Fault;
        }
        let mut answer = vstor;
        if vstor.header.operation == Operation::EXECUTE_SRB && self.state == State::Ready {
            match self.execute(packet, &vstor, len, io) {
                Some(srb) => srb.write(&mut answer),
                None => return Taken::Done,
            }
        } else {
            answer.header.status = self.control(packet, &mut answer, io);
            answer.header.operation = Operation::COMPLETE_IO;
        }
        // A guest that asks for no answer gets none.
        let _ = io.complete(packet, &answer.as_bytes()[..len]);
        Taken::Done
    }

    fn completed<P: Backend<Request>>(
        &mut self,
        done: &mut Done<Request>,
        outcome: Result<(), Failure>,
        io: &mut Io<'_, P, Request>,
    ) {
        let Request { transfer, mut srb, .. } = done.request;
        match (outcome, transfer) {
            (Ok(()), Transfer::Read { len, .. } | Transfer::Write { len, .. }) => srb.good(len as u32),
            (Ok(()), _) => srb.good(srb.transfer()),
            (Err(failure), transfer) => {
                let sense = match (failure, transfer) {
                    (Failure::Sense(sense), _) => sense,
                    (Failure::Medium, Transfer::Read { .. }) => Sense::READ_ERROR,
                    (Failure::Medium, _) => Sense::WRITE_ERROR,
                    (Failure::Target, _) => Sense::TARGET_FAILURE,
                };
                observe(io, done.channel(), sense);
                srb.check(sense);
            }
        }
        let mut answer = Vstor::new_zeroed();
        srb.write(&mut answer);
        let _ = io.complete(done, &answer.as_bytes()[..srb.len()]);
    }

    fn room<P: Backend<Request>>(&mut self, _: Channel, io: &mut Io<'_, P, Request>) {
        if self.announce {
            self.announce(io);
        }
    }

    fn closed<P: Backend<Request>>(&mut self, channel: Channel, _: &mut Io<'_, P, Request>) {
        if channel == Channel::PRIMARY {
            self.state = State::Start;
            self.announce = false;
        }
    }

    fn reset(&mut self) {
        (self.state, self.version, self.announce) = (State::Start, 0, false);
    }

    fn save(&self, w: &mut Writer<'_>) {
        w.u8(match self.state {
            State::Start => 0,
            State::Begun => 1,
            State::Ready => 2,
        });
        w.u32(self.version.into());
        w.u8(self.announce.into());
    }

    fn restore(&mut self, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        let state = match r.u8()? {
            0 => State::Start,
            1 => State::Begun,
            2 => State::Ready,
            _ => return Err(RestoreError::Invalid("state of a SCSI controller")),
        };
        let version = u16::try_from(r.u32()?).ok().filter(|v| *v == 0 || VERSIONS.contains(v));
        let version = version.ok_or(RestoreError::Invalid("version of a SCSI controller"))?;
        let announce = match r.u8()? {
            0 => false,
            1 => true,
            _ => return Err(RestoreError::Invalid("flag of a SCSI controller")),
        };
        (self.state, self.version, self.announce) = (state, version, announce);
        Ok(())
    }
}
