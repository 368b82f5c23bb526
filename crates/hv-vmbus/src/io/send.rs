//! Packets to the guest: answers, and unsolicited packets of a device.

use super::Context;
use crate::event::Event;
use crate::id::Channel;
use crate::line::{Line, Open};
use crate::packet::{Answer, Packet, Ticket};
use crate::port::BusPort;
use crate::protocol::ic::{PIPE_PACKET_DATA, PipeHeader};
use crate::protocol::{ChannelId, PACKET_FLAG_COMPLETION_REQUESTED, PacketType, TransferPageRange};
use crate::ring::{Outgoing, Producer, PushError, RingError};
use crate::seen::{Front, Listed, Seen};
use core::fmt;
use zerocopy::IntoBytes;

/// Maximum number of ranges in a transfer-page packet: as many as Linux accepts with receive-segment coalescing
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
        let pushed = self.push(ticket.line, &packet, 0, reserved, &mut copier(&[payload]));
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
        let pushed = self.push(line, &out, 0, reserved, &mut |into| {
            packet.read(into);
            packet.fault.map_or(Ok(()), Err)
        });
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
        self.push(channel.index(), &packet, 0, 0, &mut copier(payload))
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
        self.push(channel.index(), &packet, header, 0, &mut copier(&parts))
    }

    /// Returns the number of bytes that fit into the ring to the guest and are not reserved for answers, including
    /// descriptor and trailer.
    #[must_use]
    pub fn free(&self, channel: Channel) -> u32 {
        let line = self.lines.get(channel.index()).filter(|line| line.is_live());
        let free = |open: &Open| {
            let (_, outgoing) = open.rings(self.env.port.memory(), self.env.pool).ok()?;
            Some(open.producer.free(&outgoing).ok()?.saturating_sub(open.reserved))
        };
        line.and_then(|line| line.open.as_ref()).and_then(free).unwrap_or(0)
    }

    /// Has [`Device::room`](crate::Device::room) called once this many bytes, including descriptors and trailers, are free in the
    /// ring to the guest, or as many as it ever has. Returns true, and nothing is called, if they are free already.
    pub fn await_room(&mut self, channel: Channel, bytes: u32) -> bool {
        let Some(open) = self.lines.get_mut(channel.index()).and_then(Line::live) else { return false };
        let rings = open.rings(self.env.port.memory(), self.env.pool);
        let free = rings.and_then(|(_, outgoing)| {
            let needed = bytes.saturating_add(open.reserved).min(outgoing.size() - 8);
            open.producer.wait_for(&outgoing, needed)
        });
        // If the ring is corrupt, that is found as it is checked for room again.
        let free = free == Ok(true);
        let waited = core::mem::replace(&mut open.wanted, if free { 0 } else { bytes.max(1) });
        self.counts.room = self.counts.room + usize::from(!free) - usize::from(waited > 0);
        if !free {
            self.counts.poll_by(self.env.now.saturating_add(super::POLL));
        }
        free
    }

    /// Puts a packet into a channel's ring. `reserved` bytes of room are reserved for it.
    fn push(
        &mut self,
        line: usize,
        packet: &Outgoing,
        header: u32,
        reserved: u32,
        fill: &mut dyn FnMut(&mut [u8]) -> Result<(), RingError>,
    ) -> Result<(), SendError> {
        let id = self.env.place.id(line);
        let offer = self.lines.get(line).map(|line| (line.offer.flags.named_pipe(), line.offer.interface));
        let (piped, interface) = offer.ok_or(SendError::Closed)?;
        let open = self.lines.get_mut(line).and_then(Line::live).ok_or(SendError::Closed)?;
        open.reserved = open.reserved.saturating_sub(reserved);
        let (_, outgoing) =
            open.rings(self.env.port.memory(), self.env.pool).map_err(|_| SendError::Closed)?;
        let pipe = PipeHeader { packet_type: PIPE_PACKET_DATA, message_size: packet.len };
        let piped = piped && packet.packet_type == PacketType::DATA_IN_BAND;
        let prefix = if piped { size_of::<PipeHeader>() } else { 0 };
        let len = packet.len.checked_add(prefix as u32).ok_or(SendError::TooLong)?;
        let total = len.checked_add(header).and_then(Producer::total).ok_or(SendError::TooLong)?;
        // The limit includes the descriptor, but not the trailer.
        if total - crate::protocol::PACKET_TRAILER_SIZE > self.env.limits.packet {
            return Err(SendError::TooLong);
        }
        // Room reserved for others is not available to this packet, unless it has a reservation of its own.
        let others = if total <= reserved { 0 } else { open.reserved };
        let free = if others == 0 { Ok(u32::MAX) } else { open.producer.free(&outgoing) };
        let mut front = self.env.port.sees_packets().then(Front::new);
        let outcome = match free {
            Ok(free) if total.saturating_add(others) > free && total <= outgoing.size() - 8 => {
                Err(PushError::Full(total))
            }
            Ok(_) => {
                open.producer.push_behind(&outgoing, &Outgoing { len, ..*packet }, header, |at, into| {
                    // The first part has the pipe header, which is shorter than any part.
                    let skip = if at == 0 { prefix } else { 0 };
                    let (first, rest) = into.split_at_mut(skip);
                    first.copy_from_slice(&pipe.as_bytes()[..skip]);
                    fill(rest)?;
                    if let Some(front) = &mut front {
                        let behind = (header.saturating_sub(at) as usize).min(into.len());
                        front.keep(at.saturating_sub(header) as usize, &into[behind..]);
                    }
                    Ok(())
                })
            }
            Err(error) => Err(error.into()),
        };
        match outcome {
            Ok(signal) => {
                self.run.traffic.packets_out += 1;
                self.run.traffic.bytes_out = self.run.traffic.bytes_out.saturating_add(len);
                if let Some(mut front) = front {
                    let padded = len.next_multiple_of(8);
                    self.env.port.packet(&Seen {
                        channel: id,
                        interface,
                        from_guest: false,
                        kind: packet.packet_type,
                        flags: packet.flags,
                        transaction: packet.transaction_id,
                        len: padded,
                        listed: Ok(Listed::default()),
                        payload: front.of(padded),
                    });
                }
                let asked = open.wanted > 0;
                if signal || self.env.limits.signal_each {
                    open.signal = true;
                    self.mark(line);
                }
                // The packet has cancelled the request for a signal.
                if asked {
                    self.wait_for_room(line);
                }
                Ok(())
            }
            // A guest that moves its index back has taken away room that was free when it was reserved.
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
        let Ok((_, outgoing)) = open.rings(self.env.port.memory(), self.env.pool) else { return };
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

/// Copies the bytes of some parts, one after another; what is behind them stays zeros.
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
