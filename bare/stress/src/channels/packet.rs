//! A packet, as words that need not make sense.

use hv_tlfs::vmbus::PacketType;

/// Words of a packet behind its descriptor at most.
pub(super) const MAX_WORDS: usize = 640;

/// A packet that the guest sends.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) id: u64,
    /// Words between descriptor and payload: ranges.
    pub(super) head: usize,
    words: [u32; MAX_WORDS],
    len: usize,
}

impl Packet {
    /// Creates a packet without ranges that requests a completion.
    pub(super) fn in_band(id: u64, payload: &[u32]) -> Self {
        let mut packet =
            Self { kind: PacketType::DATA_IN_BAND.0, flags: 1, id, head: 0, words: [0; MAX_WORDS], len: 0 };
        packet.words(payload);
        packet
    }

    /// Creates a packet with one range of the pages with these numbers, and no payload yet.
    pub(super) fn direct(id: u64, bytes: u32, pages: impl Iterator<Item = u64>) -> Self {
        let mut packet = Self::in_band(id, &[0, 1, bytes, 0]);
        packet.kind = PacketType::DATA_USING_GPA_DIRECT.0;
        pages.for_each(|number| packet.long(number));
        packet.head = packet.len;
        packet
    }

    /// Appends a word, as long as there is room.
    pub(super) fn word(&mut self, word: u32) {
        if let Some(place) = self.words.get_mut(self.len) {
            *place = word;
            self.len += 1;
        }
    }

    /// Appends some.
    pub(super) fn words(&mut self, words: &[u32]) {
        words.iter().for_each(|word| self.word(*word));
    }

    /// Appends two.
    pub(super) fn long(&mut self, long: u64) {
        self.words(&[long as u32, (long >> 32) as u32]);
    }

    /// Cuts the payload, or extends it with zeros.
    pub(super) fn resize(&mut self, words: usize) {
        let len = (self.head + words).min(MAX_WORDS);
        self.words[self.len.min(len)..].fill(0);
        self.len = len;
    }

    /// Returns all words after the descriptor.
    pub(super) fn all(&self) -> &[u32] {
        &self.words[..self.len]
    }
}

/// Packs bytes into a word.
pub(super) fn bytes(bytes: [u8; 4]) -> u32 {
    u32::from_le_bytes(bytes)
}

/// Packs half words into a word.
pub(super) fn halves(low: u16, high: u16) -> u32 {
    u32::from(low) | u32::from(high) << 16
}
