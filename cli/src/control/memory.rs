//! The guest's memory in the machine's RAM: what it gives up is a hole in the file.

use std::sync::Mutex;

use anyhow::{Context as _, ensure};
use hv_tlfs::vmbus::balloon::PageRange;
use hv_wire::platform::{GUEST_RAM_BASE, VIDEO_BYTES};

use crate::machine::Ram;

/// Bytes of a page of dynamic memory.
pub(super) const PAGE: u64 = 4096;

/// The guest's memory.
#[derive(Debug)]
pub(crate) struct Memory {
    ram: Ram,
    bytes: u64,
    /// Physical address of the video memory.
    video: Option<u64>,
    /// Why pages that the guest gave up stay in the host's memory.
    failed: Mutex<Option<std::io::Error>>,
}

impl Memory {
    /// Takes the RAM of a machine whose guest has this many bytes of it, and video memory at this physical address.
    pub(crate) fn new(ram: Ram, bytes: u64, video: Option<u64>) -> Self {
        Self { ram, bytes, video, failed: Mutex::new(None) }
    }

    /// Reads pixels: `bytes` from a place in the video memory on.
    pub(super) fn pixels(&self, offset: u64, bytes: &mut [u8]) -> anyhow::Result<()> {
        let base = self.video.context("the machine has no video memory")?;
        let room = VIDEO_BYTES.checked_sub(offset).is_some_and(|room| bytes.len() as u64 <= room);
        ensure!(room, "{} bytes at {offset:#x} are outside the video memory", bytes.len());
        self.ram.read_into(base + offset, bytes)
    }

    /// Returns the bytes that the guest has at most.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the bytes of the host's memory that the machine's RAM occupies.
    pub(super) fn host_bytes(&self) -> anyhow::Result<u64> {
        self.ram.occupied()
    }

    /// Makes ranges of pages a hole: they read as zeros. What is not the guest's memory is left alone.
    pub(super) fn discard(&self, ranges: &[u8]) {
        for bits in ranges.as_chunks().0 {
            let range = PageRange(u64::from_le_bytes(*bits));
            let (start, len) = (range.start() * PAGE, u64::from(range.count()) * PAGE);
            let offset = start.checked_sub(GUEST_RAM_BASE);
            let room = offset.and_then(|offset| self.bytes.checked_sub(offset));
            if len == 0 || room.is_none_or(|room| len > room) {
                continue;
            }
            if let Err(error) = self.ram.discard(start, len)
                && let Ok(mut failed) = self.failed.lock()
            {
                failed.get_or_insert(error);
            }
        }
    }

    /// Takes the reason why pages stayed in the host's memory, if any did since the last time.
    pub(super) fn take_failure(&self) -> Option<std::io::Error> {
        self.failed.lock().ok()?.take()
    }
}

#[cfg(test)]
mod tests {
    use hv_wire::platform::RAM_BASE;

    use super::*;

    #[test]
    fn what_is_given_up_is_a_hole_and_nothing_else_is() {
        let (below, bytes) = (GUEST_RAM_BASE - RAM_BASE, 1 << 20);
        let ram = Ram::new(below + 2 * bytes).unwrap();
        ram.write(GUEST_RAM_BASE - PAGE, &vec![7; bytes as usize + 2 * PAGE as usize]).unwrap();
        let memory = Memory::new(ram, bytes, None);
        let before = memory.host_bytes().unwrap();
        let first = GUEST_RAM_BASE / PAGE;
        let range =
            |start: u64, count: u32| PageRange(0).with_start(start).with_count(count).bits().to_le_bytes();
        let bad = [
            range(first - 1, 1),
            range(first + 256, 1),
            range(first + 255, 2),
            range(first, 0),
            range(first, 257),
            range((1 << 40) - 1, 1),
        ];
        memory.discard(&[bad.concat(), vec![0; 7]].concat());
        assert_eq!(memory.host_bytes().unwrap(), before);
        memory.discard(&[range(first, 100), range(first + 255, 1)].concat());
        assert_eq!(memory.host_bytes().unwrap(), before - 101 * PAGE);
        let byte = |page: u64| *memory.ram.read::<u8>(page * PAGE).unwrap();
        let bytes =
            [first - 1, first, first + 99, first + 100, first + 254, first + 255, first + 256].map(byte);
        assert_eq!(bytes, [7, 0, 0, 7, 7, 0, 7]);
        assert!(memory.take_failure().is_none());
    }
}
