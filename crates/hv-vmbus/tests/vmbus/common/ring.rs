//! A guest's end of a ring.

use hv_memory::GuestMemory as _;

use super::Memory;

/// The guest's view of one ring, written from Linux's drivers/hv/ring_buffer.c and without the crate's own rings.
pub(crate) struct GuestRing {
    pages: Vec<u64>,
}

/// A packet as the guest reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GuestPacket {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) transaction: u64,
    pub(crate) payload: Vec<u8>,
}

impl GuestRing {
    pub(crate) fn new(pages: &[u64]) -> Self {
        Self { pages: pages.to_vec() }
    }

    pub(crate) fn size(&self) -> u32 {
        (self.pages.len() as u32 - 1) * 4096
    }

    pub(crate) fn word(&self, memory: &Memory, offset: u64) -> u32 {
        memory.load_acquire(self.pages[0] * 4096 + offset).unwrap()
    }

    pub(crate) fn set_word(&self, memory: &Memory, offset: u64, value: u32) {
        memory.store_release(self.pages[0] * 4096 + offset, value).unwrap();
    }

    fn byte(&self, at: u32) -> u64 {
        let at = at % self.size();
        self.pages[1 + at as usize / 4096] * 4096 + u64::from(at % 4096)
    }

    pub(crate) fn poke(&self, memory: &Memory, at: u32, bytes: &[u8]) {
        for (i, byte) in bytes.iter().enumerate() {
            memory.write(self.byte(at + i as u32), &[*byte]).unwrap();
        }
    }

    fn peek(&self, memory: &Memory, at: u32, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        for (i, byte) in bytes.iter_mut().enumerate() {
            memory.read(self.byte(at + i as u32), std::slice::from_mut(byte)).unwrap();
        }
        bytes
    }

    /// Sends a packet; `None` if the ring is full, else whether the host must be signalled.
    pub(crate) fn send(&self, memory: &Memory, packet: &GuestPacket) -> Option<bool> {
        let (write, read) = (self.word(memory, 0), self.word(memory, 4));
        let len = 16 + packet.payload.len().next_multiple_of(8);
        let used = (self.size() + write - read) % self.size();
        if self.size() - used <= len as u32 + 8 {
            return None;
        }
        let mut bytes = Vec::new();
        for word in [packet.kind, 2, (len / 8) as u16, packet.flags] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(packet.transaction.to_le_bytes());
        bytes.extend(&packet.payload);
        bytes.resize(len, 0);
        bytes.extend((u64::from(write) << 32).to_le_bytes());
        self.poke(memory, write, &bytes);
        self.set_word(memory, 0, (write + bytes.len() as u32) % self.size());
        Some(self.word(memory, 8) == 0 && self.word(memory, 4) == write)
    }

    /// Receives a packet, and says whether the host must be signalled for the room.
    pub(crate) fn receive(&self, memory: &Memory) -> Option<(GuestPacket, bool)> {
        let (write, read) = (self.word(memory, 0), self.word(memory, 4));
        if write == read {
            return None;
        }
        let head = self.peek(memory, read, 16);
        let half = |i: usize| u16::from_le_bytes([head[i], head[i + 1]]);
        let (offset, len) = (usize::from(half(2)) * 8, usize::from(half(4)) * 8);
        let payload = self.peek(memory, read + offset as u32, len - offset);
        let trailer = self.peek(memory, read + len as u32, 8);
        assert_eq!(
            trailer,
            (u64::from(read) << 32).to_le_bytes(),
            "the trailer tells where the packet began"
        );
        let next = (read + len as u32 + 8) % self.size();
        self.set_word(memory, 4, next);
        let pending = self.word(memory, 12);
        let room = |read: u32| self.size() - (self.size() + write - read) % self.size();
        let signal = pending != 0 && room(read) <= pending && room(next) > pending;
        let transaction = u64::from_le_bytes(head[8..].try_into().unwrap());
        Some((GuestPacket { kind: half(0), flags: half(6), transaction, payload }, signal))
    }
}
