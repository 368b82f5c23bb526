//! Rules on packets of any device.

use hv_tlfs::vmbus::ic::{PIPE_PACKET_DATA, PipeHeader};
use hv_tlfs::vmbus::{PACKET_FLAG_COMPLETION_REQUESTED, PacketType};
use hv_vmbus::{Contents, PagesError, Seen};
use zerocopy::FromBytes;

use super::bus::{Class, State};
use super::{Found, network, rules};

/// A packet whose completion is pending. All zeros if there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flight {
    pub(super) channel: u32,
    /// It came from the host.
    from_host: bool,
    id: u64,
    /// The first word of its payload.
    pub(super) operation: u32,
    /// The section of a network card's send buffer with its data, plus 1; 0 for none.
    section: u32,
}

impl Flight {
    pub(super) const NONE: Self = Self { channel: 0, from_host: false, id: 0, operation: 0, section: 0 };
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
        let section = if class == Class::Network { network::section(packet) } else { 0 };
        if section > 0 && self.is_in_use(section, first) {
            found.add(&rules::NETWORK_SECTION_USED, section - 1);
        }
        let answers = self.follow(packet, section, found);
        let shared = matches!(class, Class::Storage | Class::Network);
        let primary = if shared && index > 0 { first } else { packet.channel.0 };
        let Some(channel) = self.channel(primary) else { return };
        match (class, packet.from_guest) {
            (Class::Other, _) => {}
            (Class::Storage, true) => channel.storage.request(packet, index, found),
            (Class::Storage, false) => channel.storage.answer(packet, answers),
            (Class::Service, true) => channel.service.response(packet, found),
            (Class::Service, false) => channel.service.request(packet),
            (Class::Keyboard, true) => channel.keyboard.message(packet, found),
            (Class::Keyboard, false) => channel.keyboard.answer(packet),
            (Class::Balloon, true) => channel.balloon.message(packet, found),
            (Class::Balloon, false) => channel.balloon.request(packet),
            (Class::Mouse, true) => channel.mouse.message(packet, found),
            (Class::Mouse, false) => channel.mouse.answer(packet),
            (Class::Video, true) => channel.video.message(packet, found),
            (Class::Video, false) => channel.video.answer(packet),
            (Class::Network, true) => channel.network.request(packet, index, found),
            (Class::Network, false) => channel.network.answer(packet, answers, found),
            (Class::Socket, true) => channel.socket.sent(packet, found),
            (Class::Socket, false) => {}
        }
    }

    /// Checks a part of a packet's data.
    pub(super) fn contents(&mut self, contents: &Contents<'_>, found: &mut Found<'_>) {
        let Some(channel) = self.channel(contents.channel.0) else { return };
        let (class, index, first) = (channel.class, channel.index, channel.first);
        let primary = if index > 0 { first } else { contents.channel.0 };
        if let Some(channel) = self.channel(primary).filter(|_| class == Class::Network) {
            channel.network.contents(contents, found);
        }
    }

    /// Returns true if a packet of the device with this first channel has its data in a section, and is not completed.
    fn is_in_use(&self, section: u32, first: u32) -> bool {
        self.flights.iter().filter(|flight| flight.section == section).any(|flight| {
            let channel = self.channels.get(flight.channel as usize);
            channel.is_some_and(|channel| channel.first == first)
        })
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
    /// `section`: where its data is, as in [`Flight`].
    fn follow(&mut self, packet: &Seen<'_>, section: u32, found: &mut Found<'_>) -> Option<u32> {
        let Seen { from_guest, transaction: id, .. } = *packet;
        let number = packet.channel.0;
        let same = |flight: &&mut Flight, from_host| {
            flight.channel == number && flight.from_host == from_host && flight.id == id
        };
        if packet.kind == PacketType::COMPLETION {
            // It completes a packet of the other side.
            let Some(flight) = self.flights.iter_mut().find(|flight| same(flight, from_guest)) else {
                let untracked = self.channel(number).filter(|channel| from_guest && channel.untracked > 0);
                match untracked {
                    Some(channel) => channel.untracked -= 1,
                    None => found.add_if(from_guest, &rules::PACKET_UNASKED, id),
                }
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
        // A card may have many packets with the guest: those of guests are followed anyway.
        let free = |flight: &&mut Flight| flight.channel == 0;
        let half = self.flights.len() / 2;
        let place = match from_guest {
            true => self.flights.iter_mut().rev().find(free),
            false => self.flights.iter_mut().take(half).find(free),
        };
        if let Some(flight) = place {
            let operation = word(packet.payload, 0);
            *flight = Flight { channel: number, from_host: !from_guest, id, operation, section };
            if from_guest && let Some(channel) = self.channel(number) {
                channel.pending += 1;
            }
        } else if !from_guest && let Some(channel) = self.channel(number) {
            channel.untracked = channel.untracked.saturating_add(1);
        }
        None
    }
}
