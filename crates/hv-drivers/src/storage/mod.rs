//! The SCSI controller: disks behind a channel.
//!
//! A [`Controller`] is made of an open channel, and initializes itself as it is polled. Requests are submitted with a
//! tag and with memory, up to `DEPTH` in flight, and [`poll`](Controller::poll) returns them in the order in which the
//! host ends them. The functions that block ([`read`](Controller::read), [`write`](Controller::write), ...) copy
//! through memory of the controller's own, and take a function that waits: for the channel's interrupt, or for a
//! moment.
//!
//! Sources: Linux 6.12, drivers/scsi/storvsc_drv.c; SPC-4; SBC-3.

mod blocking;
#[cfg(feature = "embedded-sdmmc")]
mod blocks;
#[cfg(feature = "embedded-storage")]
mod bytes;
mod cdb;
mod done;
mod initialize;
mod reply;
mod submit;

use core::fmt;

use hv_guest::conduit::Conduit;
use hv_tlfs::vmbus::storage::{Operation, Packet};
use hv_tlfs::vmbus::{NtStatus, PacketType};
use hv_vmbus_client::{
    Buffer, Channel, Client, Dma, Event, Landed, PageRun, Progress, Queue, Request, Returned, Wake,
};
use zerocopy::{FromZeros, IntoBytes};

#[cfg(feature = "embedded-sdmmc")]
pub use blocks::Blocks;
#[cfg(feature = "embedded-storage")]
pub use bytes::Bytes;
pub use cdb::Cdb;
pub use reply::{Failure, Sense};
pub use submit::Refused;

use crate::aligned::Aligned;
use done::Done;
use initialize::State;
use reply::Reply;

/// Reason why a request was not made, or did not succeed.
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
    /// Blocks beyond the end of the disk, or bytes that are not a whole number of blocks.
    Range,
    /// More bytes than the controller transfers at once.
    TooLong(u32),
    /// The disk does not discard blocks.
    Unsupported,
}

channel_error!(Error);

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

/// Location of a logical unit.
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
#[non_exhaustive]
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

impl Disk {
    /// Returns a disk with these blocks, which can be written and discards nothing. [`Controller`]'s methods find
    /// disks; this is for a caller that has stored one elsewhere.
    #[must_use]
    pub const fn new(address: Address, block_size: u32, blocks: u64) -> Self {
        Self { address, block_size, blocks, read_only: false, max_discard: 0 }
    }

    /// Sets the bytes of a block.
    #[must_use]
    pub const fn with_block_size(mut self, block_size: u32) -> Self {
        self.block_size = block_size;
        self
    }

    /// Sets the number of blocks.
    #[must_use]
    pub const fn with_blocks(mut self, blocks: u64) -> Self {
        self.blocks = blocks;
        self
    }

    /// Sets whether it refuses to be written.
    #[must_use]
    pub const fn with_read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Sets how many blocks can be discarded at once; 0: none.
    #[must_use]
    pub const fn with_max_discard(mut self, max_discard: u32) -> Self {
        self.max_discard = max_discard;
        self
    }
}

/// Blocks of a disk. Exhaustive on purpose: a first block and a count are all there is to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first block.
    pub block: u64,
    /// How many.
    pub count: u32,
}

/// A request that has ended.
#[non_exhaustive]
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

/// Owner of a request.
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
    done: Done<Completion<T, D>, DEPTH>,
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
    /// Begins with a channel that was just opened. Rings of 64 KiB each way hold some 300 requests; 8 pages are enough
    /// for 32.
    pub fn new(channel: Channel<'t, D, C>, dma: D) -> Self {
        Self {
            queue: Queue::new(channel),
            dma,
            state: State::FIRST,
            version: 0,
            max_transfer: 0,
            max_channels: 0,
            done: Done::new(),
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
    /// The initialization has failed permanently.
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

    /// Returns true, once, if the host said since the last call that disks have come, gone or changed: look at all of
    /// them.
    pub fn take_changed(&mut self) -> bool {
        core::mem::take(&mut self.changed)
    }

    /// Sends what the initialization has to send, and returns the next request that has ended; `None` if there is none
    /// now.
    ///
    /// # Errors
    ///
    /// The channel is dead, or the initialization has failed: [`close`](Self::close) the controller.
    pub fn poll(&mut self) -> Result<Option<Completion<T, D>>, Error> {
        loop {
            if let Some(done) = self.done.pop() {
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
        let mut packet = Aligned(Packet::new_zeroed());
        match self.queue.next(packet.0.as_mut_bytes())? {
            None => return Ok(false),
            Some(Event::Packet { kind, payload, .. }) => {
                let len = payload.len();
                self.unsolicited(kind, &packet.0, len);
            }
            Some(Event::Completed { tag, data, payload }) => {
                let len = payload.len();
                self.completed(tag, data, &packet.0, len);
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
                self.done.push(completion);
            }
        }
    }

    /// Begins to close the controller. Its memory comes back at the end; what was in flight may or may not have
    /// happened.
    ///
    /// # Errors
    ///
    /// With the controller: the message was not posted.
    #[expect(
        clippy::result_large_err,
        reason = "the controller comes back, and there is no allocator to box it"
    )]
    pub fn close<W: Wake>(
        mut self,
        client: &mut Client<'_, C, W>,
    ) -> Result<Closing<'t, D, T, DEPTH>, Returned<Self>> {
        match self.begin_close(client) {
            Ok(()) => Ok(self.into_closing()),
            Err(error) => Err(Returned { value: self, error }),
        }
    }

    /// Does the first half of [`close`](Self::close) in place, for an OS whose stack is small.
    /// [`into_closing`](Self::into_closing) is the other half.
    ///
    /// # Errors
    ///
    /// The message was not posted.
    pub fn begin_close<W: Wake>(
        &mut self,
        client: &mut Client<'_, C, W>,
    ) -> Result<(), hv_vmbus_client::Error> {
        self.queue.begin_close(client)
    }

    /// Does the second half of [`close`](Self::close), after [`begin_close`](Self::begin_close) has succeeded.
    pub fn into_closing(self) -> Closing<'t, D, T, DEPTH> {
        Closing(self.queue.into_closing())
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

/// Puts the body of a packet into its place.
fn put(packet: &mut Packet, body: &[u8]) {
    if let Some(place) = packet.body.get_mut(..body.len()) {
        place.copy_from_slice(body);
    }
}
