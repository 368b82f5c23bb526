//! Values from a fuzzer's bytes. Each has its usual choices, selected by a byte, but can still be anything.

use arbitrary::Unstructured;

use crate::memory::{RAM, RAM_SIZE};

/// Page numbers of the rings that a guest gives VMBus; no two are adjacent. The first five are guest to host.
pub(crate) const RING_PAGES: [u64; 10] = [0x10, 0x18, 0x12, 0x1c, 0x14, 0x1f, 0x11, 0x13, 0x15, 0x17];
/// Number of pages of the guest-to-host ring.
pub(crate) const SPLIT: u32 = 5;

/// The remaining bytes. At their end every value is 0.
pub(crate) struct Input<'a>(Unstructured<'a>);

impl<'a> Input<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self(Unstructured::new(data))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.0.arbitrary().unwrap_or(0)
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 != 0
    }

    pub(crate) fn half(&mut self) -> u16 {
        self.0.arbitrary().unwrap_or(0)
    }

    pub(crate) fn word(&mut self) -> u32 {
        self.0.arbitrary().unwrap_or(0)
    }

    pub(crate) fn long(&mut self) -> u64 {
        self.0.arbitrary().unwrap_or(0)
    }

    /// Returns a number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    /// Returns one of these.
    pub(crate) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Returns at most this many of the remaining bytes.
    pub(crate) fn bytes(&mut self, most: usize) -> &'a [u8] {
        let count = most.min(self.0.len());
        self.0.bytes(count).unwrap_or_default()
    }

    /// Returns all remaining bytes.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        self.bytes(usize::MAX)
    }

    /// Returns a guest physical address: in memory, at its edges, or anywhere.
    pub(crate) fn address(&mut self) -> u64 {
        match self.below(8) {
            0..=2 => RAM + self.below(16) as u64 * 4096,
            3..=4 => RAM + u64::from(self.half()) * 8 % RAM_SIZE,
            5 => RAM + u64::from(self.half()),
            6 => RAM + RAM_SIZE - 32 + self.below(64) as u64,
            _ => self.long(),
        }
    }

    /// Returns the name of a VP register.
    pub(crate) fn register(&mut self) -> u64 {
        match self.below(8) {
            0..=1 => 0xa0000 + self.below(0x16) as u64,
            2..=3 => 0xb0000 + self.below(8) as u64,
            4 => 0x90000 + self.below(0x1b) as u64,
            5 => 0x200 + self.below(0x16) as u64,
            6 => self.of(&[2, 3, 0x100, 0x101, 0x115, 0x116, 0x4_0400, 0x4_0401]),
            _ => self.long(),
        }
    }

    /// Returns a register value or a parameter.
    pub(crate) fn value(&mut self) -> u64 {
        match self.below(8) {
            0 => self.below(32) as u64,
            1 => (RAM + self.below(16) as u64 * 4096) | 1,
            2 => u64::from(self.half()),
            3 => u64::from(self.word()),
            4 => 1 << (self.byte() % 64),
            5 => self.of(&[0, 1, u64::MAX, 0xffff_fffe, 0xffff_ffff, 1 << 63, (1 << 63) - 1]),
            // The configuration of a synthetic timer, with a vector or a SINT.
            6 => u64::from(self.byte() & 15) | self.of(&[3 << 16, 1 << 12 | 17 << 4, 3 << 16 | 1 << 12]),
            _ => self.long(),
        }
    }

    /// Returns a hypercall code.
    pub(crate) fn code(&mut self) -> u16 {
        const CODES: [u16; 20] = [
            0x50, 0x51, 0x5c, 0x5d, 0x02, 0x03, 0x08, 0x0b, 0x13, 0x14, 0x15, 0x46, 0x7e, 0x99, 0x9a, 0x8001,
            0x52, 0x0c, 0x0d, 0xffff,
        ];
        match self.below(24) {
            n @ 0..20 => CODES[n],
            _ => self.half(),
        }
    }

    /// Returns a control word for this code.
    pub(crate) fn control(&mut self, code: u16) -> u64 {
        let shape = self.byte();
        let fast = u64::from(shape & 1);
        let [count, start, variable] = match shape >> 1 & 7 {
            0..=1 => [0, 0, 0],
            2..=3 => [1, 0, 0],
            4 => [self.below(8) as u64, self.below(8) as u64, 0],
            5 => [self.half().into(), self.half().into(), self.below(8) as u64],
            6 => [0, 0, 1 + self.below(3) as u64],
            _ => return self.long(),
        };
        u64::from(code) | fast << 16 | variable << 17 | (count & 0xfff) << 32 | (start & 0xfff) << 48
    }

    /// Returns the parameters of a hypercall with this code, as in memory.
    pub(crate) fn parameters(&mut self, code: u16) -> Vec<u8> {
        let vp = |input: &mut Self| if input.flag() { 0xffff_fffe } else { u64::from(input.byte() % 6) };
        let words: Vec<u64> = match code {
            0x50 => {
                let (vp, names) = (vp(self), self.below(6));
                let names = (0..names).map(|_| self.register() << 32 | self.register() & 0xffff_ffff);
                [u64::MAX, vp].into_iter().chain(names).collect()
            }
            0x51 => {
                let (vp, sets) = (vp(self), self.below(4));
                let sets = (0..sets).flat_map(|_| [self.register(), 0, self.value(), 0]);
                [u64::MAX, vp].into_iter().chain(sets).collect()
            }
            0x5c => return self.post(),
            0x5d => vec![u64::from(self.of(&CONNECTIONS)) | u64::from(self.half()) << 32],
            _ => (0..self.below(12)).map(|_| self.value()).collect(),
        };
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Returns the parameters of HvCallPostMessage.
    fn post(&mut self) -> Vec<u8> {
        let connection = self.of(&CONNECTIONS);
        let message = if self.flag() { self.vmbus_message() } else { self.bytes(40).to_vec() };
        let size = if self.byte() < 240 { message.len() as u32 } else { self.word() };
        let kind = if self.byte() < 240 { 1 } else { self.word() };
        let mut parameters: Vec<u8> =
            [connection, 0, kind, size].iter().flat_map(|word| word.to_le_bytes()).collect();
        parameters.extend(message);
        parameters.resize(256, 0);
        parameters
    }
}

/// Connections: VMBus's, its first channels', the ports of `machine`, and one that does not exist.
pub(crate) const CONNECTIONS: [u32; 10] = [4, 1, 0x2001, 0x2002, 0x2003, 0x10, 0x11, 0x12, 0x13, 99];
