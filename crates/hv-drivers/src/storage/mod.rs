//! The SCSI controller: disks behind a channel.
//!
//! A [`Controller`] is made of an open channel, and initializes itself as it is polled. Requests are submitted with a tag and
//! with memory, up to `DEPTH` in flight, and [`poll`](Controller::poll) returns them in the order in which the host ends
//! them. The functions that block ([`read`](Controller::read), [`write`](Controller::write), ...) copy through memory of the
//! controller's own, and take a function that waits: for the channel's interrupt, or for a moment.
//!
//! Sources: Linux 6.12, drivers/scsi/storvsc_drv.c; SPC-4; SBC-3.

mod blocking;
mod cdb;
mod reply;

use core::fmt;

use hv_guest::conduit::Conduit;
use hv_tlfs::vmbus::storage::{
    CDB_OR_SENSE_SIZE, DIRECTION_NONE, DIRECTION_READ, DIRECTION_WRITE, FLAG_REQUEST_COMPLETION, Operation,
    Packet, Properties, ProtocolVersion, ScsiRequest, VERSION_5_1, VERSION_6_0, VERSION_6_2,
};
use hv_tlfs::vmbus::{NtStatus, PacketType};
use hv_vmbus_client::{
    Buffer, Channel, Client, Dma, Event, Landed, PageRun, Progress, Queue, Request, Returned, Wake,
};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

pub use cdb::Cdb;
pub use reply::{Failure, Sense};

use reply::Reply;

/// Why a request was not made, or did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The channel failed.
    Client(hv_vmbus_client::Error),
    /// The host or the disk failed the request.
    Failed(Failure),
    /// The controller is not initialized yet.
    NotReady,
    /// The host speaks none of the versions 6.2, 6.0 and 5.1.
    NoVersion,
    /// The host refused a step of the initialization, or its answer was invalid.
    Initialization(NtStatus),
    /// Blocks beyond the end of the disk, or bytes that are no whole number of blocks.
    Range,
    /// More bytes than the controller transfers at once.
    TooLong(u32),
    /// The disk does not discard blocks.
    Unsupported,
}

impl From<hv_vmbus_client::Error> for Error {
    fn from(error: hv_vmbus_client::Error) -> Self {
        Self::Client(error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(error) => error.fmt(f),
            Self::Failed(failure) => failure.fmt(f),
            Self::NotReady => f.write_str("controller is not initialized; poll it"),
            Self::NoVersion => f.write_str("host speaks none of the storage versions 6.2, 6.0, 5.1"),
            Self::Initialization(status) => {
                write!(f, "host refused the controller's initialization: status {:#x}", status.0)
            }
            Self::Range => f.write_str("blocks beyond the end of the disk, or a part of a block"),
            Self::TooLong(most) => write!(f, "more than the {most} bytes of one transfer; split it"),
            Self::Unsupported => f.write_str("disk does not discard blocks"),
        }
    }
}

impl core::error::Error for Error {}

/// Where a logical unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// Number of the bus.
    pub path: u8,
    /// Target.
    pub target: u8,
    /// Logical unit.
    pub lun: u8,
}

/// A disk, as it was when it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Where it is.
    pub address: Address,
    /// Bytes of a block: a power of 2, 512 at least.
    pub block_size: u32,
    /// Number of blocks.
    pub blocks: u64,
    /// It refuses to be written.
    pub read_only: bool,
    /// Blocks that are discarded at once at most; 0: it does not discard.
    pub max_discard: u32,
}

/// Blocks of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first block.
    pub block: u64,
    /// How many.
    pub count: u32,
}

/// A request that has ended.
pub struct Completion<T, D: Dma> {
    /// The tag that it was submitted with.
    pub tag: T,
    /// Bytes moved, or why it failed.
    pub outcome: Result<u32, Failure>,
    /// Its memory.
    pub data: Option<Buffer<D>>,
}

impl<T: fmt::Debug, D: Dma> fmt::Debug for Completion<T, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completion")
            .field("tag", &self.tag)
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

/// Versions of the protocol, the newest first.
const VERSIONS: [u16; 3] = [VERSION_6_2, VERSION_6_0, VERSION_5_1];

/// How far the initialization is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The packet of this step has to be sent.
    Send(Step),
    /// The host has to answer it.
    Await(Step),
    Ready,
    Failed(Error),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Begin,
    Version(usize),
    Properties,
    End,
}

/// Whose request it is.
#[derive(Debug)]
enum Tag<T> {
    /// The initialization's.
    Control,
    /// That of a function that blocks.
    Own(u32),
    /// The driver's user's, with the bytes that it asks for.
    User(T, u32),
}

/// A SCSI controller with up to `DEPTH` requests in flight.
///
/// Dropping it leaks the memory in flight: [`close`](Self::close) it.
#[must_use = "the memory of a controller is leaked when it is dropped; close it"]
pub struct Controller<'t, D: Dma, C, T, const DEPTH: usize> {
    queue: Queue<'t, D, C, Tag<T>, DEPTH>,
    dma: D,
    state: State,
    version: u16,
    max_transfer: u32,
    max_channels: u16,
    /// Completions that arrived while a function blocked.
    done: [Option<Completion<T, D>>; DEPTH],
    /// The request that a function blocks for, and its answer.
    own: u32,
    answer: Option<Reply>,
    /// Memory for the functions that block, unless it is in flight.
    bounce: Option<PageRun<D>>,
    changed: bool,
}

impl<D: Dma, C, T, const DEPTH: usize> fmt::Debug for Controller<'_, D, C, T, DEPTH> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controller")
            .field("state", &self.state)
            .field("version", &self.version)
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}

impl<'t, D: Dma, C: Conduit, T, const DEPTH: usize> Controller<'t, D, C, T, DEPTH> {
    /// Begins with a channel that was just opened. Rings of 64 KiB each way hold some 300 requests; 8 pages are enough for 32.
    pub fn new(channel: Channel<'t, D, C>, dma: D) -> Self {
        Self {
            queue: Queue::new(channel),
            dma,
            state: State::Send(Step::Begin),
            version: 0,
            max_transfer: 0,
            max_channels: 0,
            done: [const { None }; DEPTH],
            own: 0,
            answer: None,
            bounce: None,
            changed: false,
        }
    }

    /// Returns true once the controller is initialized.
    ///
    /// # Errors
    ///
    /// The initialization has failed for good.
    pub fn is_ready(&self) -> Result<bool, Error> {
        match self.state {
            State::Ready => Ok(true),
            State::Failed(error) => Err(error),
            _ => Ok(false),
        }
    }

    /// Returns the protocol version agreed on: major number in the high byte, minor number in the low.
    #[must_use]
    pub fn version(&self) -> u16 {
        self.version
    }

    /// Returns the bytes of one transfer at most.
    #[must_use]
    pub fn max_transfer(&self) -> u32 {
        self.max_transfer
    }

    /// Returns the number of sub-channels that the host would offer.
    #[must_use]
    pub fn max_channels(&self) -> u16 {
        self.max_channels
    }

    /// Returns true if the host has rescinded the controller.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.queue.is_over()
    }

    /// Returns true, once, if the host said since the last call that disks have come, gone or changed: look at all of them.
    pub fn take_changed(&mut self) -> bool {
        core::mem::take(&mut self.changed)
    }

    /// Sends what the initialization has to send, and returns the next request that has ended; `None` if there is none now.
    ///
    /// # Errors
    ///
    /// The channel is dead, or the initialization has failed: [`close`](Self::close) the controller.
    pub fn poll(&mut self) -> Result<Option<Completion<T, D>>, Error> {
        loop {
            if let Some(done) = self.done.iter_mut().find_map(Option::take) {
                return Ok(Some(done));
            }
            if !self.advance()? {
                return self.is_ready().map(|_| None);
            }
        }
    }

    /// Takes one event from the host. Returns false if there is none.
    fn advance(&mut self) -> Result<bool, Error> {
        if let State::Send(step) = self.state {
            self.send_step(step)?;
        }
        let mut packet = Packet::new_zeroed();
        match self.queue.next(packet.as_mut_bytes())? {
            None => return Ok(false),
            Some(Event::Packet { kind, payload, .. }) => {
                let len = payload.len();
                self.unsolicited(kind, &packet, len);
            }
            Some(Event::Completed { tag, data, payload }) => {
                let len = payload.len();
                self.completed(tag, data, &packet, len);
            }
        }
        Ok(true)
    }

    fn unsolicited(&mut self, kind: PacketType, packet: &Packet, len: usize) {
        let known = matches!(packet.header.operation, Operation::ENUMERATE_BUS | Operation::REMOVE_DEVICE);
        // The operation is all that the guest looks at.
        if kind == PacketType::DATA_IN_BAND && len >= size_of::<u32>() && known {
            self.changed = true;
        }
    }

    fn completed(&mut self, tag: Tag<T>, data: Option<Buffer<D>>, packet: &Packet, len: usize) {
        match tag {
            Tag::Control => self.step_answered(packet, len),
            Tag::Own(own) => {
                if let Some(data) = data {
                    self.bounce = Some(data.pages);
                }
                // The answer to a request that was given up is dropped.
                if own == self.own {
                    self.answer = Some(Reply::judge(packet, len));
                }
            }
            Tag::User(tag, asked) => {
                let reply = Reply::judge(packet, len);
                if reply.says_changed() {
                    self.changed = true;
                }
                let completion = Completion { tag, outcome: reply.outcome(asked), data };
                if let Some(free) = self.done.iter_mut().find(|done| done.is_none()) {
                    *free = Some(completion);
                }
            }
        }
    }

    fn send_step(&mut self, step: Step) -> Result<(), Error> {
        let mut packet = Packet::new_zeroed();
        packet.header.flags = FLAG_REQUEST_COMPLETION;
        packet.header.operation = match step {
            Step::Begin => Operation::BEGIN_INITIALIZATION,
            Step::Version(n) => {
                let version = VERSIONS.get(n).copied().unwrap_or(0);
                put(&mut packet, ProtocolVersion { version, revision: 0 }.as_bytes());
                Operation::QUERY_PROTOCOL_VERSION
            }
            Step::Properties => Operation::QUERY_PROPERTIES,
            Step::End => Operation::END_INITIALIZATION,
        };
        match self.queue.submit(Tag::Control, packet.as_bytes(), None) {
            Ok(()) => self.state = State::Await(step),
            // The next poll sends it.
            Err(returned) if returned.error.may_retry() => {}
            Err(returned) => return Err(returned.error.into()),
        }
        Ok(())
    }

    fn step_answered(&mut self, packet: &Packet, len: usize) {
        let State::Await(step) = self.state else { return };
        let status = packet.header.status;
        let answered =
            len >= size_of_val(&packet.header) && packet.header.operation == Operation::COMPLETE_IO;
        let good = answered && status == NtStatus::SUCCESS;
        self.state = match step {
            Step::Version(n) if answered && !good && n + 1 < VERSIONS.len() => {
                State::Send(Step::Version(n + 1))
            }
            Step::Version(_) if answered && !good => State::Failed(Error::NoVersion),
            _ if !good => State::Failed(Error::Initialization(status)),
            Step::Begin => State::Send(Step::Version(0)),
            Step::Version(n) => {
                self.version = VERSIONS.get(n).copied().unwrap_or(0);
                State::Send(Step::Properties)
            }
            Step::Properties => self.properties(packet),
            Step::End => State::Ready,
        };
    }

    fn properties(&mut self, packet: &Packet) -> State {
        let Ok((properties, _)) = Properties::read_from_prefix(&packet.body) else {
            return State::Failed(Error::Initialization(NtStatus::INVALID_PARAMETER));
        };
        // As Linux has it: whole pages. Less is of no use.
        self.max_transfer = properties.max_transfer_bytes & !0xfff;
        let multi = properties.flags & hv_tlfs::vmbus::storage::FLAG_MULTI_CHANNEL != 0;
        self.max_channels = if multi { properties.max_channels } else { 0 };
        if self.max_transfer == 0 {
            return State::Failed(Error::Initialization(NtStatus::INVALID_PARAMETER));
        }
        State::Send(Step::End)
    }

    /// Submits a command of the user's own. The direction of the data is that of the command.
    ///
    /// # Errors
    ///
    /// With tag and memory: [`Error::NotReady`], [`Error::TooLong`], [`Error::Client`] as of [`Queue::submit`].
    pub fn submit(
        &mut self,
        tag: T,
        address: Address,
        cdb: &Cdb,
        data: Option<Buffer<D>>,
    ) -> Result<(), Refused<T, D>> {
        let asked = data.as_ref().map_or(0, |data| data.len);
        let waiting = self.done.iter().flatten().count();
        let error = match self.state {
            State::Failed(error) => Some(error),
            State::Ready if asked > self.max_transfer => Some(Error::TooLong(self.max_transfer)),
            // So that each completion has a place while a function blocks.
            State::Ready if self.queue.in_flight() + waiting >= DEPTH => {
                Some(Error::Client(hv_vmbus_client::Error::InUse))
            }
            State::Ready => None,
            _ => Some(Error::NotReady),
        };
        if let Some(error) = error {
            return Err(Refused { tag, data, error });
        }
        let packet = srb(address, cdb, asked);
        match self.queue.submit(Tag::User(tag, asked), packet.as_bytes(), data) {
            Ok(()) => Ok(()),
            Err(Returned { value: (Tag::User(tag, _), data), error }) => {
                Err(Refused { tag, data, error: error.into() })
            }
            // A queue gives back what it was given.
            Err(_) => Ok(()),
        }
    }

    /// Submits a read of as many blocks as the memory has bytes for.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit), and [`Error::Range`].
    pub fn submit_read(
        &mut self,
        tag: T,
        disk: &Disk,
        block: u64,
        data: Buffer<D>,
    ) -> Result<(), Refused<T, D>> {
        match disk.count(block, data.len) {
            Ok(count) => self.submit(tag, disk.address, &Cdb::read(block, count), Some(data)),
            Err(error) => Err(Refused { tag, data: Some(data), error }),
        }
    }

    /// Submits a write of as many blocks as the memory has bytes for. `durable`: it ends when the blocks are on stable storage.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit), and [`Error::Range`].
    pub fn submit_write(
        &mut self,
        tag: T,
        disk: &Disk,
        block: u64,
        durable: bool,
        data: Buffer<D>,
    ) -> Result<(), Refused<T, D>> {
        match disk.count(block, data.len) {
            Ok(count) => self.submit(tag, disk.address, &Cdb::write(block, count, durable), Some(data)),
            Err(error) => Err(Refused { tag, data: Some(data), error }),
        }
    }

    /// Submits a flush: it ends when all that was written before is on stable storage.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit).
    pub fn submit_flush(&mut self, tag: T, disk: &Disk) -> Result<(), Refused<T, D>> {
        self.submit(tag, disk.address, &Cdb::flush(), None)
    }

    /// Submits a discard: the blocks need not be kept. Its list stands in memory of the driver's, which the completion returns.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit), and [`Error::Range`], [`Error::Unsupported`].
    pub fn submit_discard(&mut self, tag: T, disk: &Disk, extent: Extent) -> Result<(), Refused<T, D>> {
        let list = match self.discard_list(disk, extent) {
            Ok(list) => list,
            Err(error) => return Err(Refused { tag, data: None, error }),
        };
        self.submit(tag, disk.address, &Cdb::unmap(cdb::UNMAP_LIST), Some(list))
    }

    fn discard_list(&self, disk: &Disk, extent: Extent) -> Result<Buffer<D>, Error> {
        disk.check_discard(extent)?;
        let pages = PageRun::of_bytes(&self.dma, cdb::UNMAP_LIST)?;
        pages.write(0, &cdb::unmap_list(extent));
        Ok(Buffer { pages, offset: 0, len: cdb::UNMAP_LIST as u32 })
    }

    /// Begins to close the controller. Its memory comes back at the end; what was in flight may or may not have happened.
    ///
    /// # Errors
    ///
    /// With the controller: the message was not posted.
    #[expect(
        clippy::result_large_err,
        reason = "the controller comes back, and there is no allocator to box it"
    )]
    pub fn close<W: Wake>(
        self,
        client: &mut Client<'_, C, W>,
    ) -> Result<Closing<'t, D, T, DEPTH>, Returned<Self>> {
        let Self {
            queue,
            dma,
            state,
            version,
            max_transfer,
            max_channels,
            done,
            own,
            answer,
            bounce,
            changed,
        } = self;
        match queue.close(client) {
            Ok(closing) => Ok(Closing(closing)),
            Err(Returned { value: queue, error }) => Err(Returned {
                value: Self {
                    queue,
                    dma,
                    state,
                    version,
                    max_transfer,
                    max_channels,
                    done,
                    own,
                    answer,
                    bounce,
                    changed,
                },
                error,
            }),
        }
    }
}

/// A controller that is being closed. Dropping it leaks its memory.
#[must_use = "the memory of a controller is leaked when this is dropped"]
pub struct Closing<'t, D: Dma, T, const DEPTH: usize>(hv_vmbus_client::Closing<'t, D, Tag<T>, DEPTH>);

impl<D: Dma, T, const DEPTH: usize> fmt::Debug for Closing<'_, D, T, DEPTH> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Closing").field(&self.0).finish()
    }
}

impl<D: Dma, T, C: Conduit, W: Wake, const DEPTH: usize> Request<C, W> for Closing<'_, D, T, DEPTH> {
    /// Tag and memory of each request that was in flight.
    type Output = [Option<Landed<T, D>>; DEPTH];

    fn poll(self, client: &mut Client<'_, C, W>) -> Progress<Self, Self::Output> {
        match self.0.poll(client) {
            Progress::Pending(closing) => Progress::Pending(Self(closing)),
            Progress::Done((_, flights)) => Progress::Done(flights.map(|flight| match flight {
                Some((Tag::User(tag, _), data)) => Some((tag, data)),
                _ => None,
            })),
        }
    }
}

/// Why a request was not submitted, with what it was submitted with.
pub struct Refused<T, D: Dma> {
    /// The tag.
    pub tag: T,
    /// The memory.
    pub data: Option<Buffer<D>>,
    /// Why.
    pub error: Error,
}

impl<T, D: Dma> fmt::Debug for Refused<T, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused").field("error", &self.error).finish_non_exhaustive()
    }
}

impl Disk {
    /// Returns the number of blocks in `bytes`, if they are on the disk from `block` on.
    fn count(&self, block: u64, bytes: u32) -> Result<u32, Error> {
        let count = bytes / self.block_size.max(1);
        let whole = count > 0 && bytes.is_multiple_of(self.block_size.max(1));
        let end = block.checked_add(count.into()).filter(|end| *end <= self.blocks && whole);
        end.map(|_| count).ok_or(Error::Range)
    }

    fn check_discard(&self, extent: Extent) -> Result<(), Error> {
        if self.max_discard == 0 || extent.count > self.max_discard {
            return Err(Error::Unsupported);
        }
        let end = extent.block.checked_add(extent.count.into());
        end.filter(|end| *end <= self.blocks && extent.count > 0).map(|_| ()).ok_or(Error::Range)
    }
}

/// Puts the body of a packet into its place.
fn put(packet: &mut Packet, body: &[u8]) {
    if let Some(place) = packet.body.get_mut(..body.len()) {
        place.copy_from_slice(body);
    }
}

/// Makes the packet of a command with `bytes` bytes of data.
fn srb(address: Address, cdb: &Cdb, bytes: u32) -> Packet {
    /// No tag: the host orders as it likes (Linux 6.12, `SP_UNTAGGED`, `SRB_SIMPLE_TAG_REQUEST`).
    const UNTAGGED: u8 = 0xff;
    const SIMPLE_TAG: u8 = 0x20;
    // Linux 6.12, SRB_FLAGS_*.
    const QUEUE_ACTION_ENABLE: u32 = 0x2;
    const DISABLE_SYNCH_TRANSFER: u32 = 0x8;
    const DATA_IN: u32 = 0x40;
    const DATA_OUT: u32 = 0x80;

    let (direction, flags) = match (bytes, cdb.writes()) {
        (0, _) => (DIRECTION_NONE, 0),
        (_, false) => (DIRECTION_READ, DATA_IN),
        (_, true) => (DIRECTION_WRITE, DATA_OUT),
    };
    let mut request = ScsiRequest::new_zeroed();
    request.length = size_of::<ScsiRequest>() as u16;
    request.path = address.path;
    request.target = address.target;
    request.lun = address.lun;
    request.cdb_length = cdb.bytes().len() as u8;
    request.sense_length = CDB_OR_SENSE_SIZE as u8;
    request.direction = direction;
    request.transfer_length = bytes;
    if let Some(place) = request.cdb_or_sense.get_mut(..cdb.bytes().len()) {
        place.copy_from_slice(cdb.bytes());
    }
    request.queue_tag = UNTAGGED;
    request.queue_action = SIMPLE_TAG;
    request.srb_flags = flags | QUEUE_ACTION_ENABLE | DISABLE_SYNCH_TRANSFER;
    request.timeout = 60;

    let mut packet = Packet::new_zeroed();
    packet.header.operation = Operation::EXECUTE_SRB;
    packet.header.flags = FLAG_REQUEST_COMPLETION;
    put(&mut packet, request.as_bytes());
    packet
}
