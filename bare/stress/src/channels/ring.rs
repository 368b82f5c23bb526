//! The guest's ends of a channel's two rings.

use hv_tlfs::vmbus::PacketType;

use super::memory::{Memory, PAGE, RINGS};
use super::packet::{Packet, halves};

/// Pages of one ring, the first of them its header.
const RING_PAGES: usize = (RINGS.end - RINGS.start) / 2;
/// First page of the ring from the host, as OPENCHANNEL gives it.
pub(super) const SPLIT: u32 = RING_PAGES as u32;
/// Bytes of a ring's data.
pub(super) const RING: u32 = ((RING_PAGES - 1) * PAGE) as u32;
/// Offsets in the header (`RingHeader`).
const WRITE_INDEX: usize = 0;
const READ_INDEX: usize = 4;
/// Bytes of a descriptor, and of what follows a packet.
const DESCRIPTOR: u32 = 16;
const TRAILER: u32 = 8;

/// What is wrong about a packet, or about the ring that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lie {
    /// Nothing.
    None,
    /// `length8` of the descriptor.
    Length(u16),
    /// `data_offset8` of the descriptor.
    Offset(u16),
    /// The write index.
    WriteIndex(u32),
    /// The read index.
    ReadIndex(u32),
}

/// The ring to the host.
#[derive(Debug)]
pub(super) struct Outward {
    memory: Memory,
    at: u32,
}

impl Outward {
    /// Empties the ring.
    pub(super) fn new(memory: Memory) -> Self {
        memory.clear(0..RING_PAGES);
        Self { memory, at: 0 }
    }

    /// Returns true if the host has taken all packets.
    pub(super) fn is_empty(&self) -> bool {
        self.memory.load(READ_INDEX) == self.at
    }

    /// Returns true if there is room for a packet. The read index may be any number.
    pub(super) fn has_room(&self, packet: &Packet) -> bool {
        let read = self.memory.load(READ_INDEX) % RING;
        let free = (read + RING - self.at - 8) % RING;
        total(packet) <= free
    }

    fn put_word(&mut self, word: u32) {
        self.memory.store(PAGE + self.at as usize, word);
        self.at = (self.at + 4) % RING;
    }

    /// Writes a packet for which there is room.
    pub(super) fn put(&mut self, packet: &Packet, lie: Lie) {
        let start = self.at;
        let words = packet.all();
        let len = DESCRIPTOR as u16 / 8 + words.len().div_ceil(2) as u16;
        let offset = DESCRIPTOR as u16 / 8 + packet.head as u16 / 2;
        let len8 = if let Lie::Length(lie) = lie { lie } else { len };
        let offset8 = if let Lie::Offset(lie) = lie { lie } else { offset };
        for word in [
            halves(packet.kind, offset8),
            halves(len8, packet.flags),
            packet.id as u32,
            (packet.id >> 32) as u32,
        ] {
            self.put_word(word);
        }
        words.iter().for_each(|word| self.put_word(*word));
        if words.len() % 2 == 1 {
            self.put_word(0);
        }
        self.put_word(0);
        self.put_word(start);
        self.memory.store(WRITE_INDEX, if let Lie::WriteIndex(lie) = lie { lie } else { self.at });
        if let Lie::ReadIndex(lie) = lie {
            self.memory.store(READ_INDEX, lie);
        }
    }
}

/// Returns the number of bytes that a packet takes in the ring.
fn total(packet: &Packet) -> u32 {
    DESCRIPTOR + TRAILER + packet.all().len().next_multiple_of(2) as u32 * 4
}

/// A packet from the host, with the beginning of what follows its descriptor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received {
    pub(super) kind: PacketType,
    pub(super) id: u64,
    /// Words after the descriptor: of a packet without ranges the payload.
    pub(super) words: [u32; 20],
}

/// The ring from the host.
#[derive(Debug)]
pub(super) struct Inward {
    memory: Memory,
    at: u32,
}

impl Inward {
    const HEADER: usize = RING_PAGES * PAGE;

    /// Empties the ring.
    pub(super) fn new(memory: Memory) -> Self {
        memory.clear(RING_PAGES..2 * RING_PAGES);
        Self { memory, at: 0 }
    }

    fn word(&self, at: u32) -> u32 {
        self.memory.load(Self::HEADER + PAGE + ((self.at + at) % RING) as usize)
    }

    /// Takes the next packet. What is in the ring may be anything: if it is not a packet, all of it is skipped.
    pub(super) fn take(&mut self) -> Option<Received> {
        let written = (self.memory.load(Self::HEADER + WRITE_INDEX) % RING) & !7;
        let available = (written + RING - self.at) % RING;
        if available == 0 {
            return None;
        }
        let len = (self.word(4) & 0xffff) * 8;
        let received = Received {
            kind: PacketType(self.word(0) as u16),
            id: u64::from(self.word(8)) | u64::from(self.word(12)) << 32,
            words: core::array::from_fn(|word| self.word(DESCRIPTOR + word as u32 * 4)),
        };
        let total = if len < DESCRIPTOR || len + TRAILER > available { available } else { len + TRAILER };
        self.at = (self.at + total) % RING;
        self.memory.store(Self::HEADER + READ_INDEX, self.at);
        Some(received)
    }

    /// Writes anything into the ring's header: an index, the mask, the room that the host waits for.
    pub(super) fn garble(&mut self, word: usize, value: u32) {
        self.memory.store(Self::HEADER + word % 4 * 4, value);
    }
}
