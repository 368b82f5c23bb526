//! What a device has to work with while it is called.

use crate::device::{Channel, DeviceId, Token};
use crate::event::Event;
use crate::gpadl::{Gpadl, Pool};
use crate::line::{Line, Open, Stage};
use crate::packet::{Answer, Data, Packet, Ticket};
use crate::pages::{Builder, Pages, PagesError, Segment};
use crate::port::Port;
use crate::protocol::ic::{PIPE_PACKET_DATA, PipeHeader};
use crate::protocol::{
    ChannelId, ChannelOffer, GpadlId, PACKET_FLAG_COMPLETION_REQUESTED, PacketType, TransferPageRange,
};
use crate::requests::{Entry, State};
use crate::ring::{Outgoing, Producer, PushError, RingError};
use crate::shared::Shared;
use core::fmt;
use core::ops::Range;
use core::sync::atomic::Ordering;
use hv_memory::{BadAddress, GuestMemory};
use zerocopy::IntoBytes;

/// Ranges of a transfer-page packet at most: as many as Linux takes with receive-segment coalescing
/// (drivers/net/hyperv/hyperv_net.h).
pub const TRANSFER_RANGES: usize = 562;

/// Why a packet was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// The channel is not open, or its ring is corrupt.
    Closed,
    /// The ring has no room; [`Device::room`](crate::Device::room) is called when it has.
    Full,
    /// Longer than the device's packets may be ([`Device::PACKET_LIMIT`](crate::Device::PACKET_LIMIT)), or than the ring can ever hold.
    TooLong,
    /// The packet was answered already.
    Answered,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "the channel is not open",
            Self::Full => "the ring has no room",
            Self::TooLong => "the packet is longer than the ring or than the device's packets may be",
            Self::Answered => "the packet was answered already",
        })
    }
}

impl core::error::Error for SendError {}

/// Why a request was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestError {
    /// The device was given no room for requests, or one was made of this packet already.
    None,
    /// The data that the packet names was refused.
    Pages(PagesError),
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("no request can be made of this packet"),
            Self::Pages(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for RequestError {}

/// A packet that a device sends of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The device's name for it, which the guest's completion repeats; 0 if none is wanted.
    pub transaction: u64,
    /// The guest has to complete it.
    pub wants_completion: bool,
}

/// Where a device is among all devices, and where its channels begin.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub(crate) device: u16,
    /// Number of its first channel, less 1.
    pub(crate) line: u16,
}

impl Place {
    pub(crate) const FIRST: Self = Self { device: 0, line: 0 };

    /// The place behind devices of so many.
    #[must_use]
    pub const fn behind(self, devices: usize, lines: usize) -> Self {
        Self { device: self.device + devices as u16, line: self.line + lines as u16 }
    }

    pub(crate) fn id(self, line: usize) -> ChannelId {
        ChannelId(u32::from(self.line) + line as u32 + 1)
    }

    pub(crate) fn channels(self, lines: usize) -> Range<u32> {
        self.id(0).0..self.id(lines).0
    }
}

/// Counts of a device's channels that have something to do later, and what the device demands of the bus.
#[derive(Debug)]
pub(crate) struct Counts {
    pub(crate) budget: usize,
    pub(crate) room: usize,
    pub(crate) later: usize,
    /// Requests that the back end had no room for.
    pub(crate) queued: usize,
    /// The back end was not asked for them: the call had done enough.
    pub(crate) unstarted: bool,
    pub(crate) free: usize,
    pub(crate) order: u32,
    /// Reference time of the next look at rings that were full.
    pub(crate) poll: u64,
    /// Sub-channels that the device demands.
    pub(crate) subchannels: u16,
}

impl Counts {
    pub(crate) const fn new(free: usize) -> Self {
        Self {
            budget: 0,
            room: 0,
            later: 0,
            queued: 0,
            unstarted: false,
            free,
            order: 0,
            poll: crate::worker::NEVER,
            subchannels: 0,
        }
    }
}

/// What a device has while it is called: its channels' rings, its requests, and the time.
pub struct Io<'a, P: Port, Q> {
    pub(crate) port: &'a P,
    pub(crate) pool: Pool<'a>,
    pub(crate) shared: &'a Shared,
    pub(crate) place: Place,
    pub(crate) lines: &'a mut [Line],
    pub(crate) requests: &'a mut [Entry<Q>],
    /// `per` segments for each request.
    pub(crate) segments: &'a mut [Segment],
    pub(crate) per: usize,
    pub(crate) counts: &'a mut Counts,
    pub(crate) now: u64,
    /// [`Device::PACKET_LIMIT`](crate::Device::PACKET_LIMIT).
    pub(crate) limit: u32,
    /// [`Device::SIGNAL_EACH`](crate::Device::SIGNAL_EACH).
    pub(crate) signal_each: bool,
    /// Channels that may have a signal for the guest.
    pub(crate) signals: Range<usize>,
}

impl<P: Port, Q> fmt::Debug for Io<'_, P, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io").field("place", &self.place).field("now", &self.now).finish_non_exhaustive()
    }
}

impl<'a, P: Port, Q> Io<'a, P, Q> {
    /// The reference time, in 100 ns.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.now
    }

    /// The guest's memory, for [`Pages::read`] and [`Pages::write`].
    #[must_use]
    pub fn memory(&self) -> &'a P::Memory {
        self.port.memory()
    }

    /// Place of the device among the bus's devices.
    #[must_use]
    pub fn device(&self) -> DeviceId {
        DeviceId(self.place.device)
    }

    /// Number of the device's channels, those that are not offered included.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.lines.len()
    }

    /// Returns true if the guest knows that the channel is open, and its rings are good.
    #[must_use]
    pub fn is_open(&self, channel: Channel) -> bool {
        self.lines.get(channel.index()).is_some_and(Line::is_live)
    }

    /// Tells the observer something of the device.
    pub fn observe(&self, channel: Channel, note: u32, value: u64) {
        self.port.observe(Event::Device { channel: self.place.id(channel.index()), note, value });
    }

    /// Answers with a completion, if the guest waits for one. Its room was reserved.
    ///
    /// # Errors
    /// See [`SendError`]; not [`SendError::Full`], unless the answer is longer than [`Device::reply_len`](crate::Device::reply_len) said.
    pub fn complete(&mut self, to: &mut impl Answer, payload: &[u8]) -> Result<(), SendError> {
        if !to.ticket().wanted {
            return Ok(());
        }
        self.reply(to.ticket_mut(), PacketType::COMPLETION, payload)
    }

    /// Answers with an in-band packet of the same transaction id. Its room was reserved.
    ///
    /// # Errors
    /// As [`complete`](Self::complete).
    pub fn respond(&mut self, to: &mut impl Answer, payload: &[u8]) -> Result<(), SendError> {
        self.reply(to.ticket_mut(), PacketType::DATA_IN_BAND, payload)
    }

    fn reply(&mut self, ticket: &mut Ticket, kind: PacketType, payload: &[u8]) -> Result<(), SendError> {
        if ticket.answered {
            return Err(SendError::Answered);
        }
        let packet = Outgoing {
            packet_type: kind,
            flags: 0,
            transaction_id: ticket.transaction,
            len: payload.len() as u32,
        };
        let reserved = core::mem::take(&mut ticket.reserved);
        let pushed = self.push(ticket.line, &packet, 0, reserved, &mut copier(&[payload]));
        self.answered(ticket, reserved, pushed)
    }

    /// Answers a packet with its own payload: as a completion where one was requested, else in-band.
    ///
    /// # Errors
    /// As [`complete`](Self::complete).
    pub fn reflect(&mut self, packet: &mut Packet<'_, P::Memory>, len: u32) -> Result<(), SendError> {
        if packet.ticket.answered {
            return Err(SendError::Answered);
        }
        let wanted = packet.ticket.wanted;
        let out = Outgoing {
            packet_type: if wanted { PacketType::COMPLETION } else { PacketType::DATA_IN_BAND },
            flags: 0,
            transaction_id: packet.ticket.transaction,
            len,
        };
        let reserved = core::mem::take(&mut packet.ticket.reserved);
        let line = packet.ticket.line;
        let pushed = self.push(line, &out, 0, reserved, &mut |into| {
            packet.read(into);
            packet.fault.map_or(Ok(()), Err)
        });
        self.answered(&mut packet.ticket, reserved, pushed)
    }

    /// Notes that an answer was sent; room that was reserved stays so if it was not.
    fn answered(
        &mut self,
        ticket: &mut Ticket,
        reserved: u32,
        pushed: Result<(), SendError>,
    ) -> Result<(), SendError> {
        ticket.answered = pushed.is_ok();
        if pushed.is_err()
            && let Some(open) = self.lines.get_mut(ticket.line).and_then(Line::live)
        {
            ticket.reserved = reserved;
            open.reserved = open.reserved.saturating_add(reserved);
        }
        pushed
    }

    /// Sends an in-band packet, into room that is not promised to answers.
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn send(&mut self, channel: Channel, message: Message, payload: &[u8]) -> Result<(), SendError> {
        let packet = message.outgoing(PacketType::DATA_IN_BAND, payload.len());
        self.push(channel.index(), &packet, 0, 0, &mut copier(&[payload]))
    }

    /// Sends a packet whose data lies in transfer pages: a buffer that the guest has given the device under the number
    /// `page_set`.
    ///
    /// # Errors
    /// See [`SendError`]; [`SendError::TooLong`] also for more than [`TRANSFER_RANGES`] ranges.
    pub fn send_transfer_pages(
        &mut self,
        channel: Channel,
        message: Message,
        page_set: u16,
        ranges: &[TransferPageRange],
        payload: &[u8],
    ) -> Result<(), SendError> {
        if ranges.len() > TRANSFER_RANGES {
            return Err(SendError::TooLong);
        }
        let packet = message.outgoing(PacketType::DATA_USING_TRANSFER_PAGES, payload.len());
        // Behind the descriptor: set, owner, a reserved byte, and the count.
        let mut head = [0; 8];
        head[..2].copy_from_slice(&page_set.to_le_bytes());
        head[4..].copy_from_slice(&(ranges.len() as u32).to_le_bytes());
        let header = (head.len() + size_of_val(ranges)) as u32;
        let parts = [&head[..], ranges.as_bytes(), payload];
        self.push(channel.index(), &packet, header, 0, &mut copier(&parts))
    }

    /// Bytes that fit into the ring to the guest now and are not promised to answers, descriptor and trailer included.
    #[must_use]
    pub fn free(&self, channel: Channel) -> u32 {
        let line = self.lines.get(channel.index()).filter(|line| line.is_live());
        let free = |open: &Open| {
            let (_, outgoing) = open.rings(self.port.memory(), self.pool).ok()?;
            Some(open.producer.free(&outgoing).ok()?.saturating_sub(open.reserved))
        };
        line.and_then(|line| line.open.as_ref()).and_then(free).unwrap_or(0)
    }

    /// Puts a packet into a channel's ring. `reserved` bytes of its room were promised to it.
    fn push(
        &mut self,
        line: usize,
        packet: &Outgoing,
        header: u32,
        reserved: u32,
        fill: &mut dyn FnMut(&mut [u8]) -> Result<(), RingError>,
    ) -> Result<(), SendError> {
        let id = self.place.id(line);
        let piped = self.lines.get(line).is_some_and(|line| line.offer.flags.named_pipe());
        let open = self.lines.get_mut(line).and_then(Line::live).ok_or(SendError::Closed)?;
        open.reserved = open.reserved.saturating_sub(reserved);
        let (_, outgoing) = open.rings(self.port.memory(), self.pool).map_err(|_| SendError::Closed)?;
        let pipe = PipeHeader { packet_type: PIPE_PACKET_DATA, message_size: packet.len };
        let piped = piped && packet.packet_type == PacketType::DATA_IN_BAND;
        let front = if piped { pipe.as_bytes() } else { &[] };
        let len = packet.len.checked_add(front.len() as u32).ok_or(SendError::TooLong)?;
        let total = len.checked_add(header).and_then(Producer::total).ok_or(SendError::TooLong)?;
        // The limit counts the descriptor, and not the trailer.
        if total - crate::protocol::PACKET_TRAILER_SIZE > self.limit {
            return Err(SendError::TooLong);
        }
        // What is promised to others is not for this packet, unless it has a promise of its own.
        let others = if total <= reserved { 0 } else { open.reserved };
        let free = if others == 0 { Ok(u32::MAX) } else { open.producer.free(&outgoing) };
        let outcome = match free {
            Ok(free) if total.saturating_add(others) > free && total <= outgoing.size() - 8 => {
                Err(PushError::Full(total))
            }
            Ok(_) => {
                open.producer.push_behind(&outgoing, &Outgoing { len, ..*packet }, header, |at, into| {
                    // The first part has the pipe header, which is shorter than any part.
                    let skip = if at == 0 { front.len() } else { 0 };
                    let (first, rest) = into.split_at_mut(skip);
                    first.copy_from_slice(&front[..skip]);
                    fill(rest)
                })
            }
            Err(error) => Err(error.into()),
        };
        match outcome {
            Ok(signal) => {
                let asked = open.wanted > 0;
                if signal || self.signal_each {
                    open.signal = true;
                    self.mark(line);
                }
                // The packet has taken back what the guest was asked for.
                if asked {
                    self.wait_for_room(line);
                }
                Ok(())
            }
            // A guest that moves its index back has taken away what was free when it was promised.
            Err(PushError::Full(_)) if total <= reserved => {
                self.corrupt(line, id, RingError::Index { index: total, size: reserved });
                Err(SendError::Closed)
            }
            Err(PushError::Full(bytes)) => {
                if open.wanted == 0 {
                    self.counts.room += 1;
                }
                open.wanted = bytes;
                self.wait_for_room(line);
                Err(SendError::Full)
            }
            Err(PushError::TooLong) => Err(SendError::TooLong),
            Err(PushError::Ring(error)) => {
                self.corrupt(line, id, error);
                Err(SendError::Closed)
            }
        }
    }

    fn mark(&mut self, line: usize) {
        if self.signals.is_empty() {
            self.signals = line..line + 1;
        } else {
            self.signals = self.signals.start.min(line)..self.signals.end.max(line + 1);
        }
    }

    pub(crate) fn signal(&mut self, line: usize) {
        if let Some(open) = self.lines.get_mut(line).and_then(Line::live) {
            open.signal = true;
            self.mark(line);
        }
    }

    /// Asks the guest for a signal once there is room, and looks again later all the same: old guests forget it.
    fn wait_for_room(&mut self, line: usize) {
        let id = self.place.id(line);
        self.counts.poll = self.counts.poll.min(self.now.saturating_add(crate::worker::POLL));
        let Some(open) = self.lines.get_mut(line).and_then(Line::live) else { return };
        let Ok((_, outgoing)) = open.rings(self.port.memory(), self.pool) else { return };
        let bytes = open.wanted.saturating_add(open.reserved).min(outgoing.size() - 8);
        if let Err(error) = open.producer.wait_for(&outgoing, bytes) {
            self.corrupt(line, id, error);
        }
    }

    /// The guest has put nonsense into a ring, or taken its memory away.
    pub(crate) fn corrupt(&mut self, line: usize, channel: ChannelId, error: RingError) {
        if let Some(open) = self.lines.get_mut(line).and_then(|line| line.open.as_mut()) {
            open.corrupt = true;
        }
        self.port.observe(Event::RingCorrupt { channel, error });
    }

    /// The data that a packet or request names outside of the ring: judged, and empty if it names none.
    ///
    /// # Errors
    /// The guest's ranges were refused.
    pub fn pages(&self, of: &impl Answer) -> Result<Pages<'_>, PagesError> {
        let ticket = of.ticket();
        let data = ticket.data?;
        let Some(at) = ticket.entry.filter(|_| data.len > 0) else { return Ok(Pages::EMPTY) };
        let all = Pages::new(self.list(at).get(..data.segments).unwrap_or_default());
        Ok(all.slice(data.offset, data.len).unwrap_or(Pages::EMPTY))
    }

    fn list(&self, entry: usize) -> &[Segment] {
        self.segments.get(entry * self.per..(entry + 1) * self.per).unwrap_or_default()
    }

    /// Puts `len` bytes from byte `offset` of a GPADL on before the data that the packet lists. The GPADL is held until the
    /// request made of the packet is done.
    ///
    /// # Errors
    /// Nothing is put there: see [`PagesError`].
    pub fn attach(
        &mut self,
        to: &mut impl Answer,
        gpadl: GpadlId,
        offset: u64,
        len: u64,
    ) -> Result<(), PagesError> {
        let ticket = to.ticket_mut();
        let data = ticket.data?;
        let at = ticket.entry.filter(|_| ticket.gpadl.is_none()).ok_or(PagesError::TooMany)?;
        let (entry, gpadl) = self.gpadl(gpadl).ok_or(PagesError::UnknownGpadl)?;
        let list = self.segments.get_mut(at * self.per..(at + 1) * self.per).unwrap_or_default();
        let mut builder = Builder::new(list.get_mut(data.segments..).unwrap_or_default(), 0);
        self.pool.slice(&gpadl, offset, len, self.port.memory(), &mut builder)?;
        let more = builder.count;
        let segments = data.segments + more;
        let all = list.iter().take(segments).map(Segment::len).sum();
        if let Some(list) = list.get_mut(..segments) {
            list.rotate_right(more);
        }
        ticket.gpadl = Some(entry);
        ticket.data = Ok(Data { segments, offset: 0, len: all });
        Ok(())
    }

    fn gpadl(&self, id: GpadlId) -> Option<(usize, Gpadl)> {
        self.pool.ready(id, self.place.channels(self.lines.len()))
    }

    /// A GPADL of the device's channels, or `None` if the guest has none with this name, or has begun to take it back. Look
    /// it up for every use.
    #[must_use]
    pub fn buffer(&self, id: GpadlId) -> Option<Buffer<'_, P::Memory>> {
        let (_, gpadl) = self.gpadl(id)?;
        Some(Buffer { memory: self.port.memory(), pool: self.pool, gpadl })
    }

    /// Makes a request of a packet, or another one of a request that is done. It is started when the device returns; the
    /// data that the packet names goes with it.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn request(&mut self, of: &mut impl Answer, request: Q) -> Result<Token, RequestError> {
        let ticket = of.ticket_mut();
        ticket.data.map_err(RequestError::Pages)?;
        let at = ticket.entry.filter(|_| !ticket.requested).ok_or(RequestError::None)?;
        let (pool, session) = (self.pool, self.lines.get(ticket.line).map_or(0, |l| l.session));
        let entry = self.requests.get_mut(at).ok_or(RequestError::None)?;
        if entry.state == State::Free {
            let line = self.lines.get_mut(ticket.line).ok_or(RequestError::None)?;
            let rings = line.open.as_ref().ok_or(RequestError::None)?.entry;
            line.in_flight += 1;
            pool.hold(rings);
            entry.rings = rings;
            entry.session = session;
            self.counts.free -= 1;
            self.shared.outstanding.fetch_add(1, Ordering::Relaxed);
        }
        if entry.gpadl.is_none()
            && let Some(gpadl) = ticket.gpadl
        {
            pool.hold(gpadl);
            entry.gpadl = Some(gpadl);
        }
        entry.state = State::Queued;
        entry.order = self.counts.order;
        entry.line = ticket.line;
        entry.transaction = ticket.transaction;
        entry.wanted = ticket.wanted;
        entry.answered = ticket.answered;
        entry.reserved = core::mem::take(&mut ticket.reserved);
        entry.ranges = ticket.ranges;
        entry.data = ticket.data.unwrap_or(Data::NONE);
        entry.request = Some(request);
        self.counts.order = self.counts.order.wrapping_add(1);
        self.counts.queued += 1;
        ticket.requested = true;
        Ok(entry.token(at))
    }

    /// The same with a part of the data: `len` bytes from byte `offset` on, counted from the first byte of all of it.
    ///
    /// # Errors
    /// See [`RequestError`]; [`PagesError::Beyond`] if the data is shorter.
    pub fn request_part(
        &mut self,
        of: &mut impl Answer,
        request: Q,
        offset: u64,
        len: u64,
    ) -> Result<Token, RequestError> {
        let ticket = of.ticket_mut();
        let data = ticket.data.map_err(RequestError::Pages)?;
        let at = ticket.entry.ok_or(RequestError::None)?;
        let all: u64 = self.list(at).iter().take(data.segments).map(Segment::len).sum();
        if offset.checked_add(len).is_none_or(|end| end > all) {
            return Err(RequestError::Pages(PagesError::Beyond));
        }
        let ticket = of.ticket_mut();
        ticket.data = Ok(Data { segments: data.segments, offset, len });
        self.request(of, request)
    }

    /// Demands sub-channels, and returns how many there will be: the guest may be told that number, and is offered exactly
    /// that many, with the indices from 1 on. They are rescinded when the primary channel is closed.
    pub fn subchannels(&mut self, count: u16) -> u16 {
        let granted = usize::from(count).min(self.lines.len().saturating_sub(1)) as u16;
        self.counts.subchannels = self.counts.subchannels.max(granted);
        self.shared.call();
        granted
    }

    /// A channel that is not offered, and can be ([`offer`](Self::offer)).
    #[must_use]
    pub fn vacant(&self) -> Option<Channel> {
        let at = self.lines.iter().position(|line| line.stage == Stage::Vacant && line.in_flight == 0)?;
        Some(Channel(at as u16))
    }

    /// Offers a channel that is vacant, or that was kept for a connection. It lasts until it is rescinded or the guest ends
    /// the connection. Returns false if the channel cannot be offered, or the guest knows another with the same interface and
    /// instance.
    pub fn offer(&mut self, channel: Channel, offer: &ChannelOffer) -> bool {
        let same = |line: &Line| {
            !matches!(line.stage, Stage::Vacant | Stage::Connecting | Stage::Refused)
                && line.offer.interface == offer.interface
                && line.offer.instance == offer.instance
                && line.offer.subchannel_index == offer.subchannel_index
        };
        if self.lines.iter().any(same) {
            return false;
        }
        let Some(line) = self.lines.get_mut(channel.index()) else { return false };
        if !matches!(line.stage, Stage::Vacant | Stage::Connecting) || line.in_flight > 0 {
            return false;
        }
        line.fill(offer, false);
        self.shared.call();
        true
    }

    /// Refuses the connection for which the channel was kept. Returns false if it was not.
    pub fn refuse(&mut self, channel: Channel) -> bool {
        let line = self.lines.get_mut(channel.index()).filter(|line| line.stage == Stage::Connecting);
        let Some(line) = line else { return false };
        line.stage = Stage::Refused;
        self.shared.call();
        true
    }

    /// Takes a channel away. No packet of it is taken any more; the guest is told as soon as nothing is in flight.
    /// [`Device::closed`](crate::Device::closed) follows if it is open, [`Device::released`](crate::Device::released) when the guest has given up its number.
    pub fn rescind(&mut self, channel: Channel) {
        let Some(line) = self.lines.get_mut(channel.index()) else { return };
        match line.stage {
            Stage::Known => line.stage = Stage::Leaving,
            Stage::Hidden | Stage::Declined => line.vacate(),
            Stage::Vacant | Stage::Leaving | Stage::Gone | Stage::Connecting | Stage::Refused => return,
        }
        self.shared.call();
    }
}

impl Message {
    fn outgoing(self, packet_type: PacketType, len: usize) -> Outgoing {
        let flags = if self.wants_completion { PACKET_FLAG_COMPLETION_REQUESTED } else { 0 };
        Outgoing { packet_type, flags, transaction_id: self.transaction, len: len as u32 }
    }
}

/// Copies the bytes of some parts, one after the other.
fn copier<'p>(parts: &'p [&'p [u8]]) -> impl FnMut(&mut [u8]) -> Result<(), RingError> + 'p {
    let (mut part, mut at) = (0, 0);
    move |into| {
        let mut done = 0;
        while let Some(bytes) = parts.get(part) {
            let len = (bytes.len() - at).min(into.len() - done);
            into[done..done + len].copy_from_slice(&bytes[at..at + len]);
            done += len;
            at += len;
            if at < bytes.len() {
                break;
            }
            (part, at) = (part + 1, 0);
        }
        Ok(())
    }
}

/// A GPADL: memory that the guest has named, as its bytes. The guest can write to it at any time.
#[derive(Debug)]
pub struct Buffer<'a, M> {
    memory: &'a M,
    pool: Pool<'a>,
    gpadl: Gpadl,
}

impl<M: GuestMemory> Buffer<'_, M> {
    /// Number of bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.pool.bytes(&self.gpadl)
    }

    /// Returns true if it has none, which no valid GPADL does.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies bytes from byte `offset` on into `into`.
    ///
    /// # Errors
    /// [`BadAddress`] if the buffer is shorter, or a page is not guest memory.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), BadAddress> {
        self.pool.read(&self.gpadl, offset, self.memory, into)
    }

    /// Copies `bytes` to byte `offset` on.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), BadAddress> {
        self.pool.write(&self.gpadl, offset, self.memory, bytes)
    }
}
