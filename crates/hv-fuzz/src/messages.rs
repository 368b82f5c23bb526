//! VMBus messages of a guest, mostly well-formed.

use crate::input::{Input, RING_PAGES, SPLIT};
use crate::memory::RAM;

/// Maximum size of a message in bytes.
const MESSAGE: usize = 240;
/// Page number of the guest's first page.
const FIRST_PAGE: u64 = RAM / 4096;

/// Returns the page numbers of the rings in the guest's memory.
pub(crate) fn ring_pages() -> [u64; RING_PAGES.len()] {
    RING_PAGES.map(|page| FIRST_PAGE + page)
}

fn message(kind: u32, words: &[u32]) -> Vec<u8> {
    [kind, 0].iter().chain(words).flat_map(|word| word.to_le_bytes()).collect()
}

/// Builds INITIATE_CONTACT for VP `vp`, as Linux sends it.
pub(crate) fn contact(version: u32, vp: u32) -> Vec<u8> {
    message(14, &[version, vp, 2, 0, 0, 0, 0, 0])
}

/// Builds REQUESTOFFERS.
pub(crate) fn request_offers() -> Vec<u8> {
    message(3, &[])
}

/// Builds UNLOAD.
pub(crate) fn unload() -> Vec<u8> {
    message(16, &[])
}

/// Builds GPADL_HEADER with a range of these pages.
pub(crate) fn gpadl(channel: u32, id: u32, pages: &[u64]) -> Vec<u8> {
    let words = [pages.len() as u64 * 4096].into_iter().chain(pages.iter().copied());
    let mut bytes = message(8, &[channel, id, ((pages.len() as u32 + 1) * 8) | 1 << 16]);
    bytes.extend(words.flat_map(u64::to_le_bytes));
    bytes
}

/// Builds OPENCHANNEL with the ring from host to guest at page `split` of the GPADL.
pub(crate) fn open(channel: u32, gpadl: u32, vp: u32, split: u32) -> Vec<u8> {
    let mut bytes = message(5, &[channel, channel, gpadl, vp, split]);
    bytes.resize(148, 0);
    bytes
}

impl Input<'_> {
    fn small(&mut self) -> u32 {
        match self.byte() {
            250.. => self.word(),
            byte => u32::from(byte) % 5,
        }
    }

    /// Generates a message of a guest to VMBus.
    pub(crate) fn vmbus_message(&mut self) -> Vec<u8> {
        let mut bytes = match self.below(16) {
            0 => {
                let version = self.of(&[0x5_0003, 0x5_0003, 0x4_0000, 0x4_0001, 0x5_0000, 0x6_0000, 0, !0]);
                let mut bytes = contact(version, self.small());
                bytes[16] = self.of(&[2, 2, 2, 0, 3, 15, 16, 255]);
                bytes.extend(self.bytes(4));
                bytes
            }
            1 | 2 => request_offers(),
            3 => unload(),
            4 | 5 => {
                let (channel, id) = (self.small(), self.small());
                let count = [10, 2, 0, 1, 5, 12, 26, 27][self.below(8)];
                let pages: Vec<u64> = ring_pages().into_iter().cycle().take(count).collect();
                gpadl(channel, id, &pages)
            }
            6 => {
                // Any ranges, complete or not.
                let ranges = u32::from(self.half());
                let mut bytes =
                    message(8, &[self.small(), self.small(), ranges & 0xff | (ranges >> 8) << 16]);
                for _ in 0..self.below(24) {
                    bytes.extend(self.range_word().to_le_bytes());
                }
                bytes
            }
            7 => {
                let mut bytes = message(9, &[0, self.small()]);
                for _ in 0..self.below(28) {
                    bytes.extend(self.range_word().to_le_bytes());
                }
                bytes
            }
            8 | 9 => {
                let split = if self.byte() < 200 { SPLIT } else { self.small() };
                let mut bytes = open(self.small(), self.small(), self.small(), split);
                if self.byte() >= 200 {
                    let at = 28 + self.below(120);
                    bytes[at] = self.byte();
                }
                bytes
            }
            10 => message(7, &[self.small()]),
            11 => message(11, &[self.small(), self.small()]),
            12 => message(22, &[self.small(), self.small()]),
            13 => message(13, &[self.small()]),
            14 => message(21, &[0; 8]),
            _ => {
                let mut bytes =
                    message(self.small().wrapping_mul(5).wrapping_add(u32::from(self.byte() % 5)), &[]);
                bytes.extend(self.bytes(32));
                bytes
            }
        };
        bytes.truncate(MESSAGE);
        bytes
    }

    /// Generates a page number, or the head of a range.
    fn range_word(&mut self) -> u64 {
        match self.below(8) {
            0 => 4096,
            1 => 4096 * self.below(12) as u64,
            2 => u64::from(self.byte()) << 32 | u64::from(self.half()),
            3 => self.long(),
            _ => FIRST_PAGE + RING_PAGES[self.below(RING_PAGES.len())],
        }
    }
}
