//! A device at work: takes packets, starts and completes requests, and signals the guest.

mod flight;

use crate::device::{Head, Taken};
use crate::event::Event;
use crate::id::{Channel, DeviceId};
use crate::io::{Context, LEAST};
use crate::judge;
use crate::line::{Line, Stall};
use crate::packet::{Data, Packet, Ticket};
use crate::pages::PagesError;
use crate::port::{BusFaults as _, BusPort, Moment};
use crate::protocol::connection::MESSAGE_SINT;
use crate::protocol::ic::{PIPE_PACKET_DATA, PipeHeader};
use crate::protocol::{
    PACKET_FLAG_COMPLETION_REQUESTED, PACKET_TRAILER_SIZE, PacketDescriptor, PacketType, TARGET_VP_NONE,
};
use crate::requests::State;
use crate::ring::{Consumer, Producer, RingError};
use crate::seen::{Front, Listed, Seen};
use crate::typed::Handler;
use core::sync::atomic::Ordering;
use hv_memory::Deadline;
use hv_tlfs::time::ReferenceTime;
use zerocopy::FromBytes;

/// The SINT of messages and interrupts.
pub(crate) const SINT: u8 = MESSAGE_SINT as u8;

const DESCRIPTOR: u32 = size_of::<PacketDescriptor>() as u32;
const PIPE_HEADER: u32 = size_of::<PipeHeader>() as u32;

/// Reason why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// The ring is empty.
    Empty,
    Budget,
    /// An answer needs this many bytes.
    Room(u32),
    Later,
    Held,
    /// No more packets are taken.
    Closed,
}

/// A device with its context, during one call.
pub(crate) struct Worker<'w, 'a, P: BusPort> {
    pub(crate) device: &'w mut (dyn Handler<P> + 'w),
    pub(crate) io: &'w mut Context<'a, P>,
}

/// A call ends with [`end`](Worker::end): what returns a deadline has done that, and the device must run
/// then.
impl<'w, 'a, P: BusPort> Worker<'w, 'a, P> {
    pub(crate) fn new(device: &'w mut (dyn Handler<P> + 'w), io: &'w mut Context<'a, P>) -> Self {
        Self { device, io }
    }

    /// Handles a signal of the guest to a channel, if it is open with this connection: it may have been closed, or
    /// opened with another connection, since the signal.
    pub(crate) fn signalled(&mut self, line: usize, connection: u32) -> Deadline {
        let open = self.io.lines.get(line).and_then(|line| line.open.as_ref());
        if open.is_some_and(|open| open.connection == connection) {
            self.offer_room(line);
            self.start_waiting();
            self.run(line);
            self.due();
            self.settle(Some(line));
        }
        self.end()
    }

    /// Handles signals to channels that came while the device was in use, with this much work. Returns what is left of
    /// it, and when the device must run next.
    pub(crate) fn called(
        &mut self,
        budget: usize,
        lines: &mut dyn Iterator<Item = usize>,
    ) -> (usize, Deadline) {
        self.io.run.budget = budget;
        self.start_waiting();
        for line in lines {
            self.offer_room(line);
            self.run(line);
        }
        self.due();
        self.settle(None);
        // Another look is work too.
        (self.io.run.budget.saturating_sub(LEAST), self.end())
    }

    /// Runs the device if what has just happened made it due.
    fn due(&mut self) {
        if self.device.deadline().is_some_and(|deadline| deadline <= self.io.env.now) {
            self.device.tick(self.io);
        }
    }

    /// Handles the passage of time.
    pub(crate) fn tick(&mut self) -> Deadline {
        self.due();
        let now = self.io.env.now;
        self.io.unhold(|_, entry| entry.until <= now);
        self.start_waiting();
        if self.io.counts.poll.is_due(self.io.env.now) {
            self.io.counts.poll = Deadline::NEVER;
            for line in 0..self.io.counts.reach {
                self.offer_room(line);
                if self.io.lines[line].open.as_ref().is_some_and(|open| open.stall == Stall::Room) {
                    self.run(line);
                }
            }
        }
        self.take_turns();
        self.settle(None);
        self.end()
    }

    /// Takes packets from the channels that had reached the work limit, each in its turn: one that is always full does
    /// not keep the others waiting.
    fn take_turns(&mut self) {
        let lines = self.io.counts.reach;
        let first = self.io.counts.turn;
        for line in (first..lines).chain(0..first.min(lines)) {
            if self.io.counts.budget == 0 || self.io.run.budget == 0 {
                break;
            }
            if self.io.lines[line].open.as_ref().is_some_and(|open| open.stall == Stall::Budget) {
                self.run(line);
                self.io.counts.turn = line + 1;
            }
        }
    }

    /// Continues after input from the embedder: its own work with the device, or a completion by the back end.
    pub(crate) fn proceed(&mut self) -> Deadline {
        self.due();
        if core::mem::take(&mut self.io.run.resumed) {
            self.take_turns();
        }
        self.settle(None);
        self.end()
    }

    /// Starts pending requests, and takes packets again that found the device busy. `but` was just served.
    pub(crate) fn settle(&mut self, but: Option<usize>) {
        self.start_waiting();
        if self.io.counts.queued > 0 || self.io.counts.later + self.io.counts.room == 0 {
            return;
        }
        for line in 0..self.io.counts.reach {
            let stall = self.io.lines[line].open.as_ref().map(|open| open.stall);
            // An answer that has been sent since has cancelled the request for a signal.
            if Some(line) != but && matches!(stall, Some(Stall::Later | Stall::Room)) {
                self.run(line);
            }
        }
    }

    /// Notifies a device of the room that it needed, or that the ring is corrupt: it waits for one of the two.
    fn offer_room(&mut self, line: usize) {
        // Usually no channel waits.
        if self.io.counts.room == 0 {
            return;
        }
        let (memory, pool) = (self.io.env.port.memory(), self.io.env.pool);
        let Some(open) = self.io.lines.get_mut(line).and_then(Line::live) else { return };
        if core::mem::take(&mut open.wanted) == 0 {
            return;
        }
        self.io.counts.room -= 1;
        match open.producer.free(&open.outgoing(memory, pool)) {
            Ok(_) => self.device.room(Channel(line as u16), self.io),
            Err(error) => self.corrupt(line, error),
        }
    }

    /// Ends the service of a channel with a corrupt ring, and tells the device.
    fn corrupt(&mut self, line: usize, error: RingError) {
        self.io.corrupt(line, self.io.env.place.id(line), error);
        self.device.corrupt(Channel(line as u16), self.io);
    }

    /// Starts requests that wait, before packets are taken: a packet that finds one waiting stays in its ring, and the
    /// channel that was just served is not looked at again.
    fn start_waiting(&mut self) {
        if self.io.counts.queued > 0 {
            self.start();
        }
    }

    /// Takes packets from a channel's ring until it is empty, the work limit is reached, or something is lacking.
    pub(crate) fn run(&mut self, line: usize) {
        if let Err(error) = self.drain(line) {
            self.corrupt(line, error);
        }
        // A channel from which no more packets are taken has none that wait.
        if !self.io.lines.get(line).is_some_and(Line::is_live) {
            self.io.stall(line, Stall::None);
        }
    }

    fn drain(&mut self, line: usize) -> Result<(), RingError> {
        let (memory, pool) = (self.io.env.port.memory(), self.io.env.pool);
        let Some(open) = self.io.lines.get_mut(line).and_then(Line::live) else { return Ok(()) };
        let (incoming, outgoing) = open.rings(memory, pool);
        loop {
            let stop = self.take(line, &incoming, &outgoing)?;
            let Some(open) = self.io.lines.get_mut(line).and_then(Line::live) else { return Ok(()) };
            // The guest does not signal before it sees the room of these packets, and what it has written before that
            // is seen here.
            let committed = open.consumer.commit(&incoming)?;
            open.signal |= committed.signal;
            let (signal, before) = (open.signal, open.stall);
            let again = match stop {
                Stop::Empty | Stop::Budget => committed.more,
                Stop::Room(bytes) => {
                    let needed = bytes.saturating_add(open.reserved).max(open.wanted);
                    // More than the ring's size: requests in flight will make the room.
                    needed <= outgoing.size() - 8 && open.producer.wait_for(&outgoing, needed)?
                }
                Stop::Later | Stop::Held | Stop::Closed => false,
            };
            if signal {
                self.io.signal(line);
            }
            let stall = match stop {
                Stop::Empty | Stop::Budget if !again => Stall::None,
                Stop::Room(_) if !again => Stall::Room,
                Stop::Later => Stall::Later,
                Stop::Held => Stall::Held,
                Stop::Closed => Stall::None,
                _ if self.io.run.budget == 0 => Stall::Budget,
                Stop::Empty | Stop::Budget | Stop::Room(_) => {
                    // Another look is work too: a guest can change an index between any two.
                    self.io.run.budget = self.io.run.budget.saturating_sub(LEAST);
                    continue;
                }
            };
            if stall != Stall::None || before != Stall::None {
                self.io.stall(line, stall);
            }
            return Ok(());
        }
    }

    /// Takes the packets that the guest has written by now.
    fn take(
        &mut self,
        line: usize,
        incoming: &Incoming<'a, P>,
        outgoing: &Incoming<'a, P>,
    ) -> Result<Stop, RingError> {
        let longest = outgoing.size() - 8 - DESCRIPTOR - PACKET_TRAILER_SIZE;
        let written = Consumer::written(incoming)?;
        loop {
            if self.io.run.budget == 0 {
                return Ok(Stop::Budget);
            }
            if self.io.counts.queued > 0 || self.is_paused() {
                return Ok(Stop::Later);
            }
            let Some(open) = self.io.lines.get_mut(line).and_then(Line::live) else {
                return Ok(Stop::Closed);
            };
            let Some(raw) = open.consumer.next_before(incoming, written)? else { return Ok(Stop::Empty) };
            let head = head(&raw, longest);
            let reply = self.device.reply_len(Channel(line as u16), &head);
            let reserved = reply.map_or(0, |bytes| Producer::total(bytes).unwrap_or(u32::MAX));
            if reserved > 0 && reserved.saturating_add(open.reserved) > open.producer.free(outgoing)? {
                open.consumer.put_back(&raw);
                return Ok(Stop::Room(reserved));
            }
            let mut entry = None;
            if head.kind != PacketType::COMPLETION && !self.io.requests.is_empty() {
                entry = self.free_entry();
                if entry.is_none() {
                    self.put_back(line, &raw);
                    return Ok(Stop::Later);
                }
            }
            self.io.run.budget =
                self.io.run.budget.saturating_sub((raw.descriptor.len() as usize).max(LEAST));
            match self.show(line, incoming, raw, entry, reserved, head.wants_completion)? {
                Taken::Done => {}
                Taken::Later => {
                    self.put_back(line, &raw);
                    return Ok(Stop::Later);
                }
                Taken::Held => {
                    self.put_back(line, &raw);
                    return Ok(Stop::Held);
                }
                Taken::Fault => return Ok(Stop::Closed),
            }
            self.taken(line, head.len);
        }
    }

    /// Counts a packet that was taken, and starts what was requested for it.
    #[inline(always)]
    fn taken(&mut self, line: usize, len: u32) {
        let traffic = &mut self.io.run.traffic;
        traffic.packets_in += 1;
        traffic.bytes_in = traffic.bytes_in.saturating_add(len);
        if self.io.env.planned
            && self.io.env.port.faults().rescinds(&self.io.lines[line].offer.interface, Moment::Packet)
        {
            self.io.take_away(line);
        }
        if self.io.counts.queued > 0 {
            self.start();
        }
    }

    /// Returns true while no packets are taken.
    fn is_paused(&self) -> bool {
        self.io.env.shared.paused.load(Ordering::Relaxed)
            || self.io.env.planned && self.io.env.port.faults().is_mute()
    }

    fn put_back(&mut self, line: usize, raw: &crate::ring::Packet) {
        if let Some(open) = self.io.lines.get_mut(line).and_then(|line| line.open.as_mut()) {
            open.consumer.put_back(raw);
        }
    }

    fn free_entry(&self) -> Option<usize> {
        if self.io.counts.used == self.io.requests.len() {
            return None;
        }
        self.io.requests.iter().position(|entry| entry.state == State::Free)
    }

    /// Presents a packet to the device.
    fn show(
        &mut self,
        line: usize,
        incoming: &Incoming<'a, P>,
        raw: crate::ring::Packet,
        entry: Option<usize>,
        reserved: u32,
        wanted: bool,
    ) -> Result<Taken, RingError> {
        let (data, ranges) = self.judge(incoming, &raw, entry)?;
        let mut front = None;
        if self.io.env.observed {
            self.see(line, incoming, &raw, (data, ranges), front.insert(Front::new()))?;
        }
        let io = &mut *self.io;
        let this = &mut io.lines[line];
        let session = this.session;
        let piped = this.offer.flags.named_pipe() && raw.descriptor.packet_type == PacketType::DATA_IN_BAND;
        let Some(open) = this.open.as_mut() else { return Ok(Taken::Done) };
        open.reserved = open.reserved.saturating_add(reserved);
        let end = raw.payload_len();
        let mut packet = Packet {
            ticket: Ticket {
                line,
                entry,
                transaction: raw.descriptor.transaction_id,
                wanted,
                reserved,
                answered: false,
                requested: false,
                ranges,
                data: data.unwrap_or(Data::NONE),
                rejected: data.err(),
                gpadl: None,
            },
            kind: raw.descriptor.packet_type,
            ring: incoming,
            raw,
            at: 0,
            end,
            pipe: None,
            fault: None,
            front: front.as_ref(),
        };
        if piped {
            unwrap_pipe(&mut packet);
        }
        let taken = self.device.packet(&mut packet, self.io);
        let (reserved, fault) = (packet.ticket.reserved, packet.fault);
        self.shown(line, session, reserved, taken);
        match fault {
            Some(error) => Err(error),
            None => Ok(taken),
        }
    }

    /// Records on the channel what the device did with a packet, unless the channel has been closed meanwhile.
    #[inline(always)]
    fn shown(&mut self, line: usize, session: u32, reserved: u32, taken: Taken) {
        let same = self.io.lines.get_mut(line).filter(|line| line.session == session);
        if let Some(open) = same.and_then(|line| line.open.as_mut()) {
            open.reserved = open.reserved.saturating_sub(reserved);
            open.shown = taken == Taken::Later;
            if taken == Taken::Fault {
                open.corrupt = true;
                self.io.env.port.observe(Event::Fault { channel: self.io.env.place.id(line) });
            }
        }
    }

    /// Shows a packet to the port, and keeps the beginning of its payload.
    fn see(
        &mut self,
        line: usize,
        incoming: &Incoming<'a, P>,
        raw: &crate::ring::Packet,
        (data, ranges): (Result<Data, PagesError>, u32),
        front: &mut Front,
    ) -> Result<(), RingError> {
        let len = raw.payload_len();
        raw.read(incoming, 0, front.of(len))?;
        let channel = self.io.env.place.id(line);
        let this = &self.io.lines[line];
        if this.open.as_ref().is_some_and(|open| !open.shown) {
            self.io.env.port.packet(&Seen {
                channel,
                interface: this.offer.interface,
                from_guest: true,
                kind: raw.descriptor.packet_type,
                flags: raw.descriptor.flags,
                transaction: raw.descriptor.transaction_id,
                len,
                listed: data
                    .map(|data| Listed { ranges, bytes: u32::try_from(data.len).unwrap_or(u32::MAX) }),
                payload: front.bytes(),
            });
        }
        Ok(())
    }

    /// Validates the ranges of a packet that lists pages, into the list of the request that may be made from it.
    fn judge(
        &mut self,
        incoming: &Incoming<'a, P>,
        raw: &crate::ring::Packet,
        entry: Option<usize>,
    ) -> Result<(Result<Data, PagesError>, u32), RingError> {
        if raw.descriptor.packet_type != PacketType::DATA_USING_GPA_DIRECT {
            return Ok((Ok(Data::NONE), 0));
        }
        let per = self.io.env.per;
        let list = entry.and_then(|at| self.io.segments.get_mut(at * per..(at + 1) * per));
        let judged = judge::ranges(incoming, raw, self.io.env.port.memory(), list.unwrap_or_default())?;
        let Ok(ranges) = judged else { return Ok((judged.map(|_| Data::NONE), 0)) };
        // Validation is work too: a page costs as much as its number.
        self.io.run.budget = self.io.run.budget.saturating_sub(ranges.data.segments * 8);
        Ok((Ok(ranges.data), ranges.count))
    }

    /// Sends the guest its interrupts, and returns when the device must run next.
    pub(crate) fn end(&mut self) -> Deadline {
        let io = &mut *self.io;
        if !io.run.traffic.is_none() {
            io.env.port.traffic(DeviceId(io.env.place.device), &io.run.traffic);
        }
        for line in io.run.signals.clone() {
            let Some(open) = io.lines.get_mut(line).and_then(|line| line.open.as_mut()) else { continue };
            if core::mem::take(&mut open.signal) && open.live && open.vp != TARGET_VP_NONE {
                io.env.port.interrupt(open.vp, SINT, open.flag);
            }
        }
        if io.counts.budget > 0 || io.counts.unstarted {
            return Deadline::at(ReferenceTime::ZERO);
        }
        let poll = if io.counts.room > 0 { io.counts.poll } else { Deadline::NEVER };
        let due = self.device.deadline().map_or(Deadline::NEVER, Deadline::at).earlier(poll);
        if io.counts.held == 0 {
            return due;
        }
        let held = io.requests.iter().filter(|entry| entry.state == State::Held).map(|entry| entry.until);
        held.min().map_or(Deadline::NEVER, Deadline::at).earlier(due)
    }
}

/// A ring of the guest.
type Incoming<'a, P> = crate::ring::Ring<'a, <P as BusPort>::Memory, core::sync::atomic::AtomicU64>;

/// Describes a packet for its device, before the device gets it.
#[inline(always)]
fn head(raw: &crate::ring::Packet, longest: u32) -> Head {
    let wants_completion = raw.descriptor.flags == PACKET_FLAG_COMPLETION_REQUESTED;
    Head { kind: raw.descriptor.packet_type, len: raw.payload_len(), wants_completion, longest }
}

/// Removes the pipe header from a packet.
fn unwrap_pipe<M: hv_memory::GuestMemory>(packet: &mut Packet<'_, M>) {
    let mut bytes = [0; PIPE_HEADER as usize];
    let whole = packet.read(&mut bytes) == bytes.len();
    let valid = PipeHeader::read_from_bytes(&bytes).ok().filter(|header| {
        whole && header.packet_type == PIPE_PACKET_DATA && header.message_size <= packet.end - packet.at
    });
    match valid {
        Some(header) => {
            packet.end = packet.at + header.message_size;
            packet.pipe = Some(true);
        }
        None => {
            packet.end = packet.at;
            packet.pipe = Some(false);
        }
    }
}
