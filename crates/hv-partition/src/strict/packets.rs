//! Rules on packets of any device.

use hv_tlfs::vmbus::ic::{PIPE_PACKET_DATA, PipeHeader};
use hv_tlfs::vmbus::{PACKET_FLAG_COMPLETION_REQUESTED, PacketType};
use hv_vmbus::{PagesError, Seen};
use zerocopy::FromBytes;

use super::bus::{Class, State};
use super::{Found, rules};

/// A packet whose completion is pending. All zeros if there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flight {
    pub(super) channel: u32,
    /// It came from the host.
    from_host: bool,
    id: u64,
    /// The first word of its payload.
    pub(super) operation: u32,
}

impl Flight {
    pub(super) const NONE: Self = Self { channel: 0, from_host: false, id: 0, operation: 0 };
}

/// Returns the word at a byte of a payload, or 0 if it is not there.
pub(super) fn word(payload: &[u8], at: usize) -> u32 {
    let bytes = payload.get(at..).and_then(|bytes| bytes.first_chunk());
    bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

impl State {
    /// Checks a packet.
    pub(super) fn packet(&mut self, packet: &Seen<'_>, found: &mut Found<'_>) {
        let Some(channel) = self.channel(packet.channel.0) else { return };
        let (class, pipe, index, first) = (channel.class, channel.pipe, channel.index, channel.first);
        if packet.from_guest {
            self.sent(packet, pipe, found);
        }
        let answers = self.follow(packet, found);
        let primary = if class == Class::Storage && index > 0 { first } else { packet.channel.0 };
        let Some(channel) = self.channel(primary) else { return };
        match (class, packet.from_guest) {
            (Class::Other, _) => {}
            (Class::Storage, true) => channel.storage.request(packet, index, found),
            (Class::Storage, false) => channel.storage.answer(packet, answers),
            (Class::Service, true) => channel.service.response(packet, found),
            (Class::Service, false) => channel.service.request(packet),
            (Class::Keyboard, true) => channel.keyboard.message(packet, found),
            (Class::Keyboard, false) => channel.keyboard.answer(packet),
            (Class::Socket, true) => channel.socket.sent(packet, found),
            (Class::Socket, false) => {}
        }
    }

    /// Checks what is common to all packets of a guest.
    fn sent(&self, packet: &Seen<'_>, pipe: bool, found: &mut Found<'_>) {
        let Seen { kind, flags, channel, .. } = *packet;
        let listing = kind == PacketType::DATA_USING_GPA_DIRECT;
        let known = listing || matches!(kind, PacketType::DATA_IN_BAND | PacketType::COMPLETION);
        found.add_if(!known, &rules::PACKET_TYPE, kind.0);
        found.add_if(flags & !PACKET_FLAG_COMPLETION_REQUESTED != 0, &rules::PACKET_FLAGS, flags);
        match packet.listed {
            Ok(listed) => found.add_if(listing && listed.ranges == 0, &rules::PACKET_RANGES, channel.0),
            Err(PagesError::NotMemory) => found.add(&rules::PACKET_OUTSIDE, channel.0),
            Err(PagesError::TooMany) => found.add(&rules::PACKET_PAGES, channel.0),
            Err(_) => found.add(&rules::PACKET_RANGES, channel.0),
        }
        if pipe && kind == PacketType::DATA_IN_BAND {
            let header = PipeHeader::read_from_prefix(packet.payload).ok();
            let room = packet.len.saturating_sub(size_of::<PipeHeader>() as u32);
            let valid = header.is_some_and(|(header, _)| {
                header.packet_type == PIPE_PACKET_DATA && header.message_size <= room
            });
            found.add_if(!valid, &rules::PIPE_HEADER, channel.0);
        }
    }

    /// Follows packets to their completions. Returns the first word of the packet that this one completes.
    fn follow(&mut self, packet: &Seen<'_>, found: &mut Found<'_>) -> Option<u32> {
        let Seen { from_guest, transaction: id, .. } = *packet;
        let number = packet.channel.0;
        let same = |flight: &&mut Flight, from_host| {
            flight.channel == number && flight.from_host == from_host && flight.id == id
        };
        if packet.kind == PacketType::COMPLETION {
            // It completes a packet of the other side.
            let Some(flight) = self.flights.iter_mut().find(|flight| same(flight, from_guest)) else {
                found.add_if(from_guest, &rules::PACKET_UNASKED, id);
                return None;
            };
            let operation = flight.operation;
            *flight = Flight::NONE;
            if !from_guest && let Some(channel) = self.channel(number) {
                channel.pending = channel.pending.saturating_sub(1);
            }
            return Some(operation);
        }
        if packet.flags != PACKET_FLAG_COMPLETION_REQUESTED {
            return None;
        }
        if from_guest {
            found.add_if(id == 0, &rules::PACKET_ID_ZERO, number);
            if self.flights.iter_mut().any(|flight| same(&flight, false)) {
                found.add(&rules::PACKET_ID_USED, id);
                return None;
            }
        }
        if let Some(flight) = self.flights.iter_mut().find(|flight| flight.channel == 0) {
            let operation = word(packet.payload, 0);
            *flight = Flight { channel: number, from_host: !from_guest, id, operation };
            if from_guest && let Some(channel) = self.channel(number) {
                channel.pending += 1;
            }
        }
        None
    }
}
