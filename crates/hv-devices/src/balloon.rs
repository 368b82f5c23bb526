//! Dynamic memory: the guest gives up pages, and gets them back, as the embedder wants it.
//!
//! The device keeps a record of the pages that the guest has given up: a bit for each page of its memory, in words that
//! the embedder lends ([`Balloon::set_record`]). What the guest says it gives up is judged page by page: it must lie
//! in the guest's memory, be asked for, and not be given up already. The back end is requested to discard it
//! ([`Discard`]), so that the host can use the memory; the bus does not tell the guest that it has disconnected before
//! the back end has answered, so that no page is discarded which the guest's next kernel has begun to use.
//!
//! The pages stay where they are: a guest that touches one that it gave up finds zeros there, and has it again without
//! the record knowing. Closing the channel gives all of them back. Memory is never added beyond that of the start.
//!
//! Sources: Linux 6.12, drivers/hv/hv_balloon.c; QEMU, hw/hyperv/hv-balloon.c.

mod device;
mod record;

use core::sync::atomic::AtomicU64;

use hv_tlfs::vmbus::balloon::{
    BalloonHeader, BalloonRequest, BalloonResponse, CHUNK_PAGES, Capabilities, CapabilitiesReport,
    CapabilitiesResponse, MessageType, PageRange, StatusReport, UnballoonRequest, VERSION_0_3, VERSION_1_0,
    VERSION_2_0, VersionRequest, VersionResponse,
};
use hv_tlfs::vmbus::ic::{Status, Version};
use hv_tlfs::vmbus::{ChannelOffer, Guid, guid};
use hv_vmbus::{Backend, BusPort, Channel, Io, Message, Packet, SendError, Work};
use record::Record;
use zerocopy::IntoBytes;

use crate::ic::{AGREED, IGNORED, Outcome, READY, Refused, State};

/// Note for the observer: the guest gives up pages that are not its own, that it was not asked for, or that it has
/// given up already. The value is the range: number of pages in bits 63 to 40, first page below.
pub const REFUSED: u32 = 4;

/// The device as Hyper-V offers it: no pipe.
pub const OFFER: ChannelOffer = hv_vmbus::offer(
    guid::DYNAMIC_MEMORY,
    Guid::new(0x1ecc_fd72, 0x4b41, 0x45ef, [0xb7, 0x3a, 0x4a, 0x6e, 0x44, 0xc1, 0x29, 0x24]),
);

/// Maximum number of ranges in a message: Linux's have 4096 bytes, in both directions.
pub const RANGES: usize = (4096 - size_of::<BalloonResponse>()) / size_of::<PageRange>();

/// A request to the back end: the contents of the pages in [`Balloon::discarding`] are no longer needed. They read as
/// zeros when that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discard;

impl Work for Discard {
    type Outcome = ();
}

/// What the guest has said of its memory last, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Pages that are available.
    pub available: u64,
    /// Pages that it needs, those that it has given up included.
    pub committed: u64,
}

/// Progress of the guest's driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Step {
    /// The channel is closed.
    Closed = 0,
    /// The driver has not asked for a version.
    Opened,
    /// It speaks a version.
    Agreed,
    /// It has said what it can do.
    Ready,
    /// It has asked for its last version, which the host does not support.
    Incompatible,
}

/// What the guest is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Task {
    /// Nothing.
    None = 0,
    /// It gives pages up.
    Take,
    /// It has given up all that it will, and the back end has the last of them.
    TakeLast,
    /// It gets pages back, and has yet to answer.
    Give,
    /// It gets pages back, and its ring was full.
    GiveLater,
}

/// Outcome of the last task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Ended {
    /// Nothing, or the embedder knows it.
    No = 0,
    /// It is done.
    Done,
    /// The guest has said what is not a message of the protocol.
    Malformed,
    /// The guest closed the channel first.
    Closed,
}

impl Ended {
    const fn outcome(self) -> Option<Outcome> {
        match self {
            Self::No => None,
            Self::Done => Some(Outcome::Answered(Status::SUCCESS)),
            Self::Malformed => Some(Outcome::Malformed),
            Self::Closed => Some(Outcome::Closed),
        }
    }
}

/// The host side of dynamic memory. A new one is all zeros, so that one in a static takes no room in a program's file.
#[derive(Clone, Copy, Debug)]
pub struct Balloon {
    step: Step,
    task: Task,
    ended: Ended,
    /// The guest has reported its need for memory.
    reported: bool,
    version: u32,
    capabilities: Capabilities,
    pressure: Pressure,
    record: Record,
    /// Pages in the record.
    taken: u64,
    /// Pages of the task that are yet to come or to be given.
    left: u64,
    /// While pages are given: none before this one is in the record.
    from: u64,
    /// Number of the last message that the host has begun itself.
    transaction: u32,
    /// Ranges that the back end discards.
    kept: u16,
    /// They; or those of a message to the guest, while it is made.
    ranges: [PageRange; RANGES],
}

impl Balloon {
    /// Creates a device without a record: the guest is not asked for pages.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            step: Step::Closed,
            task: Task::None,
            ended: Ended::No,
            reported: false,
            version: 0,
            capabilities: Capabilities(0),
            pressure: Pressure { available: 0, committed: 0 },
            record: Record::NONE,
            taken: 0,
            left: 0,
            from: 0,
            transaction: 0,
            kept: 0,
            ranges: [PageRange(0); RANGES],
        }
    }

    /// Lends words to the record: one for each 64 pages of the guest's memory, of which there are `pages` from number
    /// `first` on. They are zeros, and nothing else writes to them. Call it before the guest starts.
    pub fn set_record(&mut self, words: &'static [AtomicU64], first: u64, pages: u64) {
        self.record = Record::new(words, first, pages);
    }

    /// Returns the state of the guest's driver, in the terms of the services.
    #[must_use]
    pub const fn state(&self) -> State {
        match self.step {
            Step::Closed => State::Closed,
            Step::Opened | Step::Agreed => State::Negotiating,
            Step::Ready => {
                let version = Version { major: (self.version >> 16) as u16, minor: self.version as u16 };
                State::Ready { framework: version, version }
            }
            Step::Incompatible => State::Incompatible,
        }
    }

    /// Returns the number of pages that the guest has given up.
    #[must_use]
    pub const fn taken(&self) -> u64 {
        self.taken
    }

    /// Returns what the guest has said of its memory last, if it has.
    #[must_use]
    pub fn pressure(&self) -> Option<Pressure> {
        self.reported.then_some(self.pressure)
    }

    /// Returns the ranges that the back end is requested to discard; none while there is no request, or if the guest
    /// has closed the channel since.
    #[must_use]
    pub fn discarding(&self) -> &[PageRange] {
        self.ranges.get(..usize::from(self.kept)).unwrap_or_default()
    }

    /// Asks the guest to give up pages, or gives it pages back, until it has given up `wanted`. Pages are asked for by
    /// the chunk, of which a part is left out. Returns false if there is nothing to ask or to give.
    ///
    /// The [outcome](Self::take) tells when the guest is done. It may have given up fewer: see [`taken`](Self::taken).
    ///
    /// # Errors
    /// See [`Refused`]; [`Refused::Unsupported`] if the guest's driver gives up no pages, [`Refused::Invalid`] for more
    /// pages than it has.
    pub fn resize<P: BusPort>(&mut self, io: &mut Io<'_, P, Discard>, wanted: u64) -> Result<bool, Refused> {
        match self.step {
            Step::Closed => return Err(Refused::Closed),
            Step::Opened | Step::Agreed => return Err(Refused::Negotiating),
            Step::Incompatible => return Err(Refused::Incompatible),
            Step::Ready => {}
        }
        if self.task != Task::None || self.ended != Ended::No || self.kept > 0 {
            return Err(Refused::Busy);
        }
        if wanted > self.record.pages() {
            return Err(Refused::Invalid);
        }
        if !self.capabilities.balloon() {
            return Err(Refused::Unsupported);
        }
        if wanted < self.taken {
            (self.left, self.from) = (self.taken - wanted, 0);
            let given = self.give(io);
            self.left = if given.is_ok() { self.left } else { 0 };
            return given.map(|()| true).map_err(refused);
        }
        let chunks = (wanted - self.taken) / u64::from(CHUNK_PAGES);
        let pages = chunks.min(u64::from(u32::MAX / CHUNK_PAGES)) as u32 * CHUNK_PAGES;
        if pages == 0 {
            return Ok(false);
        }
        let header = self.header(MessageType::BALLOON_REQUEST, size_of::<BalloonRequest>());
        let request = BalloonRequest { header, pages, reserved: 0 };
        io.send(Channel::PRIMARY, Message::default(), request.as_bytes()).map_err(refused)?;
        (self.task, self.left) = (Task::Take, pages.into());
        Ok(true)
    }

    /// Takes the outcome of the last task, which allows another one.
    pub fn take(&mut self) -> Option<Outcome> {
        core::mem::replace(&mut self.ended, Ended::No).outcome()
    }

    fn header(&mut self, message_type: MessageType, size: usize) -> BalloonHeader {
        self.transaction = self.transaction.wrapping_add(1);
        BalloonHeader { message_type, size: size as u16, transaction: self.transaction }
    }

    /// Ends the task, if there is one.
    fn end<P: BusPort>(&mut self, io: &Io<'_, P, Discard>, ended: Ended) {
        self.left = 0;
        if core::mem::replace(&mut self.task, Task::None) == Task::None {
            return;
        }
        self.ended = ended;
        if let Some(outcome) = ended.outcome() {
            io.observe(Channel::PRIMARY, READY, outcome.number());
        }
    }

    /// Gives pages back: as many ranges as fit into a message. Each message is a transaction of its own, since Linux
    /// answers only the last message of one, and reads one packet per interrupt.
    fn give<P: BusPort>(&mut self, io: &mut Io<'_, P, Discard>) -> Result<(), SendError> {
        let (record, mut count, mut pages, mut from) = (self.record, 0, 0, self.from);
        for place in &mut self.ranges {
            let Some((start, run)) = record.next(from).filter(|_| pages < self.left) else { break };
            let run = run.min(self.left - pages);
            *place = PageRange(0).with_start(start).with_count(run as u32);
            (count, pages, from) = (count + 1, pages + run, start + run);
        }
        let size = size_of::<UnballoonRequest>() + count * size_of::<PageRange>();
        let header = self.header(MessageType::UNBALLOON_REQUEST, size);
        let request = UnballoonRequest { header, more: 0, ranges: count as u32 };
        let ranges = self.ranges.get(..count).unwrap_or_default();
        io.send_parts(Channel::PRIMARY, Message::default(), &[request.as_bytes(), ranges.as_bytes()])?;
        // The guest may use them from now on.
        for range in ranges {
            record.put(range.start(), range.count().into(), false);
        }
        (self.task, self.from) = (Task::Give, from);
        (self.taken, self.left) = (self.taken - pages, self.left - pages);
        Ok(())
    }

    /// Gives the next pages back, or ends.
    fn go_on<P: BusPort>(&mut self, io: &mut Io<'_, P, Discard>) {
        if self.left == 0 {
            return self.end(io, Ended::Done);
        }
        match self.give(io) {
            Ok(()) => {}
            // It continues in `room`.
            Err(SendError::Full) => self.task = Task::GiveLater,
            Err(_) => self.end(io, Ended::Closed),
        }
    }

    /// Handles a request for a version.
    fn agree<P: BusPort>(
        &mut self,
        packet: &mut Packet<'_, P::Memory>,
        io: &mut Io<'_, P, Discard>,
        (version, last): (u32, bool),
    ) {
        let known = matches!(version, VERSION_0_3 | VERSION_1_0 | VERSION_2_0);
        let accepted = known && !io.refuses(version);
        let header = self.header(MessageType::VERSION_RESPONSE, size_of::<VersionResponse>());
        let _ = io.respond(packet, VersionResponse { header, accepted: accepted.into() }.as_bytes());
        self.step = match accepted {
            true => Step::Agreed,
            false if last => Step::Incompatible,
            false => Step::Opened,
        };
        if accepted {
            self.version = version;
            io.observe(Channel::PRIMARY, AGREED, version.into());
        }
    }

    /// Handles pages that the guest gives up. Returns false if the message is none.
    fn give_up<P: Backend<Discard>>(
        &mut self,
        packet: &mut Packet<'_, P::Memory>,
        io: &mut Io<'_, P, Discard>,
        size: usize,
    ) -> bool {
        let Some([_, word]) = packet.take::<[u32; 2]>() else { return false };
        let (more, count) = (word & 1 != 0, (word >> 1) as usize);
        let bytes = count.saturating_mul(size_of::<PageRange>());
        if count > RANGES || size != size_of::<BalloonResponse>() + bytes || packet.left() < bytes {
            return false;
        }
        self.kept = 0;
        for _ in 0..count {
            let Some(bits) = packet.take::<u64>() else {
                self.kept = 0;
                return false;
            };
            self.judge(io, PageRange(bits));
        }
        if !more {
            self.task = Task::TakeLast;
        }
        // The guest may not have had any, and a request is free, or there was no packet.
        if self.kept == 0 || io.request(packet, Discard).is_err() {
            self.discarded(io);
        }
        true
    }

    /// Judges a range that the guest gives up. A range is right or wrong as a whole, and counts as one that was asked
    /// for in either case: so the work for an answer is bounded by what was asked for.
    fn judge<P: BusPort>(&mut self, io: &Io<'_, P, Discard>, range: PageRange) {
        let (start, count) = (range.start(), u64::from(range.count()));
        let asked = count <= self.left;
        let right = asked && self.record.contains(start, count) && !self.record.has_any(start, count);
        self.left = self.left.saturating_sub(count);
        let Some(place) = self.ranges.get_mut(usize::from(self.kept)).filter(|_| right) else {
            return io.observe(Channel::PRIMARY, REFUSED, range.bits());
        };
        *place = range;
        self.kept += 1;
        self.record.put(start, count, true);
        self.taken += count;
    }

    /// Completes a request: the back end has discarded what the guest gave up with one message.
    fn discarded<P: BusPort>(&mut self, io: &Io<'_, P, Discard>) {
        self.kept = 0;
        if self.task == Task::TakeLast {
            self.end(io, Ended::Done);
        }
    }

    /// Takes all pages out of the record: the guest has them again.
    fn forget(&mut self) {
        self.record.clear(core::mem::take(&mut self.taken));
    }

    /// Handles a message.
    fn message<P: Backend<Discard>>(
        &mut self,
        packet: &mut Packet<'_, P::Memory>,
        io: &mut Io<'_, P, Discard>,
    ) {
        let whole = packet.left();
        let Some(header) = packet.take::<BalloonHeader>() else {
            return io.observe(Channel::PRIMARY, IGNORED, whole as u64);
        };
        let size = usize::from(header.size);
        let rest = size.checked_sub(size_of::<BalloonHeader>()).filter(|_| size <= whole);
        let is = |wanted: usize| rest == Some(wanted - size_of::<BalloonHeader>());
        match (header.message_type, self.step) {
            (MessageType::VERSION_REQUEST, Step::Opened | Step::Agreed | Step::Incompatible)
                if is(size_of::<VersionRequest>()) =>
            {
                if let Some([version, last]) = packet.take::<[u32; 2]>() {
                    self.agree(packet, io, (version, last & 1 != 0));
                }
            }
            (MessageType::CAPABILITIES_REPORT, Step::Agreed) if is(size_of::<CapabilitiesReport>()) => {
                if let Some([capabilities, ..]) = packet.take::<[u64; 3]>() {
                    self.capabilities = Capabilities(capabilities);
                    let header =
                        self.header(MessageType::CAPABILITIES_RESPONSE, size_of::<CapabilitiesResponse>());
                    let _ = io.respond(packet, CapabilitiesResponse { header, accepted: 1 }.as_bytes());
                    self.step = Step::Ready;
                }
            }
            (MessageType::STATUS_REPORT, Step::Ready) if is(size_of::<StatusReport>()) => {
                if let Some([available, committed]) = packet.take::<[u64; 2]>() {
                    (self.reported, self.pressure) = (true, Pressure { available, committed });
                }
            }
            (MessageType::BALLOON_RESPONSE, Step::Ready) if self.task == Task::Take => {
                let valid = self.give_up(packet, io, rest.map_or(0, |_| size));
                if !valid {
                    self.end(io, Ended::Malformed);
                }
            }
            (MessageType::UNBALLOON_RESPONSE, Step::Ready) if self.task == Task::Give => self.go_on(io),
            // What has no answer, or answers what was not asked. Memory is never added, so nothing answers that.
            _ => io.observe(Channel::PRIMARY, IGNORED, whole as u64),
        }
    }
}

impl Default for Balloon {
    fn default() -> Self {
        Self::new()
    }
}

const fn refused(error: SendError) -> Refused {
    match error {
        SendError::Full => Refused::Full,
        _ => Refused::Closed,
    }
}
