//! Packets to the guest: answers, and unsolicited packets of a device.

use super::Context;
use crate::event::Event;
use crate::id::Channel;
use crate::line::{Line, Open};
use crate::packet::{Answer, Packet, Ticket};
use crate::port::BusPort;
use crate::protocol::ic::{PIPE_PACKET_DATA, PipeHeader};
use crate::protocol::{ChannelId, PACKET_FLAG_COMPLETION_REQUESTED, PacketType, TransferPageRange};
use crate::ring::{Draft, Outgoing, Producer, PushError, Ring, RingError};
use crate::seen::{Front, Listed, Seen};
use core::fmt;
use core::sync::atomic::AtomicU64;
use hv_memory::GuestMemory;
use zerocopy::IntoBytes;

/// Maximum number of ranges in a transfer-page packet: as many as Linux accepts with receive-segment coalescing
/// (drivers/net/hyperv/hyperv_net.h).
pub const TRANSFER_RANGES: usize = 562;

/// Reason why a packet was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// The channel is not open, or its ring is corrupt.
    Closed,
    /// The ring has no room; [`Device::room`](crate::Device::room) is called when it has.
    Full,
    /// Longer than the device's packets may be ([`Device::PACKET_LIMIT`](crate::Device::PACKET_LIMIT)), or than the
    /// ring can ever hold.
    TooLong,
    /// The packet was already answered.
    Answered,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "the channel is not open",
            Self::Full => "the ring has no room",
            Self::TooLong => "the packet is longer than the ring or than the device's packets may be",
            Self::Answered => "the packet was already answered",
        })
    }
}

impl core::error::Error for SendError {}

/// An unsolicited packet of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The device's id for it, which the guest's completion repeats; 0 if none is expected.
    pub transaction: u64,
    /// The guest must complete it.
    pub wants_completion: bool,
}

impl<P: BusPort> Context<'_, P> {
    /// Answers with a completion, if the guest expects one. Its room is reserved.
    ///
    /// # Errors
    /// See [`SendError`]; not [`SendError::Full`], unless the answer is longer than
    /// [`Device::reply_len`](crate::Device::reply_len) returned.
    pub fn complete(&mut self, to: &mut impl Answer, payload: &[u8]) -> Result<(), SendError> {
        if !to.ticket().wanted {
            return Ok(());
        }
        self.reply(to.ticket_mut(), PacketType::COMPLETION, payload)
    }

    /// Answers with an in-band packet of the same transaction id. Its room is reserved.
    ///
    /// # Errors
    /// The same as for [`complete`](Self::complete).
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
        let pushed = self.push(ticket.line, packet, 0, reserved, Payload::Parts(&[payload]));
        self.answered(ticket, reserved, pushed)
    }

    /// Answers a packet with its own payload: as a completion if one was requested, else in-band.
    ///
    /// # Errors
    /// The same as for [`complete`](Self::complete).
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
        let pushed = self.push(line, out, 0, reserved, Payload::Rest(&mut *packet));
        self.answered(&mut packet.ticket, reserved, pushed)
    }

    /// Records that an answer was sent; if it was not, reserved room stays reserved.
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

    /// Sends an in-band packet, into room that is not reserved for answers.
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn send(&mut self, channel: Channel, message: Message, payload: &[u8]) -> Result<(), SendError> {
        self.send_parts(channel, message, &[payload])
    }

    /// Does the same with a payload in consecutive parts.
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn send_parts(
        &mut self,
        channel: Channel,
        message: Message,
        payload: &[&[u8]],
    ) -> Result<(), SendError> {
        self.send_padded(channel, message, payload, payload.iter().map(|part| part.len()).sum())
    }

    /// Does the same with zeros after the last part, up to `len` bytes in total.
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn send_padded(
        &mut self,
        channel: Channel,
        message: Message,
        payload: &[&[u8]],
        len: usize,
    ) -> Result<(), SendError> {
        let packet = message.outgoing(PacketType::DATA_IN_BAND, len);
        self.push(channel.index(), packet, 0, 0, Payload::Parts(payload))
    }

    /// Sends a packet whose data is in transfer pages: a buffer that the guest has given the device under the number
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
        // After the descriptor: set, owner, a reserved byte, and the count.
        let mut head = [0; 8];
        head[..2].copy_from_slice(&page_set.to_le_bytes());
        head[4..].copy_from_slice(&(ranges.len() as u32).to_le_bytes());
        let header = (head.len() + size_of_val(ranges)) as u32;
        let parts = [&head[..], ranges.as_bytes(), payload];
        self.push(channel.index(), packet, header, 0, Payload::Parts(&parts))
    }

    /// Returns the number of bytes that fit into the ring to the guest and are not reserved for answers, including
    /// descriptor and trailer.
    #[must_use]
    pub fn free(&self, channel: Channel) -> u32 {
        let line = self.lines.get(channel.index()).filter(|line| line.is_live());
        let free = |open: &Open| {
            let outgoing = open.outgoing(self.env.port.memory(), self.env.pool);
            Some(open.producer.free(&outgoing).ok()?.saturating_sub(open.reserved))
        };
        line.and_then(|line| line.open.as_ref()).and_then(free).unwrap_or(0)
    }

    /// Has [`Device::room`](crate::Device::room) called once this many bytes, including descriptors and trailers, are
    /// free in the ring to the guest, or as many as it ever has. Returns true, and nothing is called, if they are free
    /// already.
    pub fn await_room(&mut self, channel: Channel, bytes: u32) -> bool {
        let Some(open) = self.lines.get_mut(channel.index()).and_then(Line::live) else { return false };
        let outgoing = open.outgoing(self.env.port.memory(), self.env.pool);
        let needed = bytes.saturating_add(open.reserved).min(outgoing.size() - 8);
        let free = open.producer.wait_for(&outgoing, needed);
        // If the ring is corrupt, that is found as it is checked for room again.
        let free = free == Ok(true);
        let waited = core::mem::replace(&mut open.wanted, if free { 0 } else { bytes.max(1) });
        self.counts.room = self.counts.room + usize::from(!free) - usize::from(waited > 0);
        if !free {
            self.counts.poll_by(self.env.now.saturating_add(super::POLL));
        }
        free
    }

    /// Puts a packet into a channel's ring, with `header` bytes of the payload's parts before the payload. `reserved`
    /// bytes of room are reserved for it.
    fn push(
        &mut self,
        line: usize,
        mut packet: Outgoing,
        header: u32,
        reserved: u32,
        payload: Payload<'_, '_, P::Memory>,
    ) -> Result<(), SendError> {
        let this = self.lines.get_mut(line).ok_or(SendError::Closed)?;
        let piped = this.offer.flags.named_pipe() && packet.packet_type == PacketType::DATA_IN_BAND;
        let open = this.live().ok_or(SendError::Closed)?;
        open.reserved = open.reserved.saturating_sub(reserved);
        let outgoing = open.outgoing(self.env.port.memory(), self.env.pool);
        let prefix = if piped { size_of::<PipeHeader>() as u32 } else { 0 };
        let message = packet.len;
        let len = message.checked_add(prefix).ok_or(SendError::TooLong)?;
        packet.len = len;
        let total = len.checked_add(header).and_then(Producer::total).ok_or(SendError::TooLong)?;
        // The limit includes the descriptor, but not the trailer.
        if total - crate::protocol::PACKET_TRAILER_SIZE > self.env.limits.packet {
            return Err(SendError::TooLong);
        }
        // Room reserved for others is not available to this packet, unless it has a reservation of its own.
        let others = if total <= reserved { 0 } else { open.reserved };
        let mut front = None;
        let shown = if self.env.observed { Some(front.insert(Front::new())) } else { None };
        let mut writing =
            Writing { producer: &mut open.producer, ring: &outgoing, front: shown, hidden: header };
        match writing.write(&packet, others, piped.then_some(message), payload) {
            Ok(signal) => {
                self.run.traffic.packets_out += 1;
                self.run.traffic.bytes_out = self.run.traffic.bytes_out.saturating_add(len);
                let asked = open.wanted > 0;
                if signal || self.env.limits.signal_each {
                    open.signal = true;
                    self.mark(line);
                }
                if let Some(front) = &mut front {
                    self.show_sent(line, &packet, front);
                }
                // The packet has cancelled the request for a signal.
                if asked {
                    self.wait_for_room(line);
                }
                Ok(())
            }
            Err(error) => Err(self.not_sent(line, error, reserved)),
        }
    }

    /// Shows an observer a packet that is in the ring.
    #[cold]
    #[inline(never)]
    fn show_sent(&self, line: usize, packet: &Outgoing, front: &mut Front) {
        let padded = packet.len.next_multiple_of(8);
        self.env.port.packet(&Seen {
            channel: self.env.place.id(line),
            interface: self.lines[line].offer.interface,
            from_guest: false,
            kind: packet.packet_type,
            flags: packet.flags,
            transaction: packet.transaction_id,
            len: padded,
            listed: Ok(Listed::default()),
            payload: front.of(padded),
        });
    }

    /// Records that a packet was not sent, for which this much room was reserved.
    #[cold]
    #[inline(never)]
    fn not_sent(&mut self, line: usize, error: PushError, reserved: u32) -> SendError {
        let id = self.env.place.id(line);
        match error {
            // A guest that moves its index back has taken away room that was free when it was reserved.
            PushError::Full(bytes) if bytes <= reserved => {
                self.corrupt(line, id, RingError::Index { index: bytes, size: reserved });
                SendError::Closed
            }
            PushError::Full(bytes) => {
                if let Some(open) = self.lines.get_mut(line).and_then(Line::live) {
                    if open.wanted == 0 {
                        self.counts.room += 1;
                    }
                    open.wanted = bytes;
                }
                self.wait_for_room(line);
                SendError::Full
            }
            PushError::TooLong => SendError::TooLong,
            PushError::Ring(error) => {
                self.corrupt(line, id, error);
                SendError::Closed
            }
        }
    }

    fn mark(&mut self, line: usize) {
        if self.run.signals.is_empty() {
            self.run.signals = line..line + 1;
        } else {
            self.run.signals = self.run.signals.start.min(line)..self.run.signals.end.max(line + 1);
        }
    }

    pub(crate) fn signal(&mut self, line: usize) {
        if let Some(open) = self.lines.get_mut(line).and_then(Line::live) {
            open.signal = true;
            self.mark(line);
        }
    }

    /// Requests a signal from the guest once there is room, and checks again later anyway: old guests forget it.
    pub(crate) fn wait_for_room(&mut self, line: usize) {
        self.counts.poll_by(self.env.now.saturating_add(super::POLL));
        let Some(open) = self.lines.get_mut(line).and_then(Line::live) else { return };
        let outgoing = open.outgoing(self.env.port.memory(), self.env.pool);
        let bytes = open.wanted.saturating_add(open.reserved).min(outgoing.size() - 8);
        // If the ring is corrupt, that is found as it is checked for room again.
        let _ = open.producer.wait_for(&outgoing, bytes);
    }

    /// Handles a corrupt ring, or one whose memory the guest has taken away.
    pub(crate) fn corrupt(&mut self, line: usize, channel: ChannelId, error: RingError) {
        if let Some(open) = self.lines.get_mut(line).and_then(|line| line.open.as_mut()) {
            open.corrupt = true;
        }
        self.env.port.observe(Event::RingCorrupt { channel, error });
    }
}

impl Message {
    fn outgoing(self, packet_type: PacketType, len: usize) -> Outgoing {
        let flags = if self.wants_completion { PACKET_FLAG_COMPLETION_REQUESTED } else { 0 };
        Outgoing { packet_type, flags, transaction_id: self.transaction, len: len as u32 }
    }
}

/// What is in a packet.
enum Payload<'p, 'r, M> {
    /// These bytes, one after another, and zeros after them.
    Parts(&'p [&'p [u8]]),
    /// What is left of a packet from the guest.
    Rest(&'p mut Packet<'r, M>),
}

/// Bytes that are copied at a time from one ring to the other: a multiple of 8.
const COPIED: usize = 256;

/// A packet on its way into a ring.
struct Writing<'w, 'r, M> {
    producer: &'w mut Producer,
    ring: &'w Ring<'r, M, AtomicU64>,
    /// Its beginning, for an observer.
    front: Option<&'w mut Front>,
    /// Bytes that the observer is not shown: those before the payload.
    hidden: u32,
}

impl<M: GuestMemory> Writing<'_, '_, M> {
    /// Writes a packet, if there is room for it besides what is reserved for others; in a pipe with a header, of a
    /// payload of this length.
    fn write(
        &mut self,
        packet: &Outgoing,
        others: u32,
        piped: Option<u32>,
        payload: Payload<'_, '_, M>,
    ) -> Result<bool, PushError> {
        let mut draft = self.producer.begin(self.ring, packet, self.hidden, others)?;
        if let Some(message_size) = piped {
            let pipe = PipeHeader { packet_type: PIPE_PACKET_DATA, message_size };
            self.put(&mut draft, pipe.as_bytes())?;
        }
        match payload {
            Payload::Parts(parts) => {
                for part in parts {
                    self.put(&mut draft, part)?;
                }
            }
            Payload::Rest(rest) => self.copy(&mut draft, rest)?,
        }
        Ok(self.producer.finish(self.ring, draft)?)
    }

    #[inline]
    fn put(&mut self, draft: &mut Draft, bytes: &[u8]) -> Result<(), RingError> {
        draft.put(self.ring, bytes)?;
        if let Some(front) = &mut self.front {
            let hidden = bytes.len().min(self.hidden as usize);
            self.hidden -= hidden as u32;
            front.append(&bytes[hidden..]);
        }
        Ok(())
    }

    #[inline(never)]
    fn copy(&mut self, draft: &mut Draft, rest: &mut Packet<'_, M>) -> Result<(), RingError> {
        let mut part = [0; COPIED];
        loop {
            let len = rest.read(&mut part);
            if let Some(error) = rest.fault {
                return Err(error);
            }
            if len == 0 {
                return Ok(());
            }
            self.put(draft, &part[..len])?;
        }
    }
}
