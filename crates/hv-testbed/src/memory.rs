//! Guest memory: pages that the guest's code has references to and the hypervisor addresses.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use hv_guest::page::{Page, Pages};
use hv_host::{BadAddress, GuestMemory};

/// First guest physical address of the memory.
pub const RAM_BASE: u64 = 0x4000_0000;
/// Pages of it; Miri needs seconds for each hundred.
const PAGES: usize = if cfg!(miri) { 16 } else { 256 };
const PAGE: u64 = hv_tlfs::page::SIZE as u64;

#[derive(Debug)]
pub(crate) struct Ram {
    pages: Pages,
    used: AtomicUsize,
}

impl Ram {
    pub(crate) fn new() -> Self {
        let pages: Vec<Page> = (0..PAGES).map(|_| Page::new()).collect();
        Self { pages: Pages::new(RAM_BASE, pages.leak()), used: AtomicUsize::new(0) }
    }

    pub(crate) fn memory(&self) -> &Pages {
        &self.pages
    }

    pub(crate) fn allocate(&self, count: usize) -> &'static [Page] {
        let first = self.used.fetch_add(count, Ordering::Relaxed);
        self.pages.all().get(first..first + count).expect("the testbed is out of guest memory")
    }

    pub(crate) fn page(&self, gpa: u64) -> Option<&'static Page> {
        self.pages.all().get(usize::try_from(gpa.checked_sub(RAM_BASE)? / PAGE).ok()?)
    }

    /// The word that holds the byte at `gpa`.
    fn word(&self, gpa: u64) -> Result<&'static AtomicU64, BadAddress> {
        let page = self.page(gpa).ok_or(BadAddress)?;
        Ok(&page.words()[(gpa % PAGE / 8) as usize])
    }

    /// The word that holds the four bytes at `gpa`, and how far up they are.
    fn half(&self, gpa: u64) -> Result<(&'static AtomicU64, u64), BadAddress> {
        if gpa % 4 != 0 {
            return Err(BadAddress);
        }
        Ok((self.word(gpa)?, gpa % 8 * 8))
    }

    fn check(&self, gpa: u64, len: u64) -> Result<(), BadAddress> {
        if self.contains(gpa, len) { Ok(()) } else { Err(BadAddress) }
    }
}

/// Changes the bits of `mask` in a word to those of `bits`.
fn replace(word: &AtomicU64, mask: u64, bits: u64, order: Ordering) {
    let _ = word.fetch_update(order, Ordering::Relaxed, |old| Some(old & !mask | bits));
}

/// Splits `len` bytes at `gpa` into parts that lie in one word each: the part's address, and its place among the bytes.
fn parts(gpa: u64, len: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let address = gpa + from as u64;
        let part = from..len.min(from + 8 - (address % 8) as usize);
        from = part.end;
        (!part.is_empty()).then_some((address, part))
    })
}

impl GuestMemory for Ram {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), BadAddress> {
        self.check(gpa, buf.len() as u64)?;
        for (address, part) in parts(gpa, buf.len()) {
            let word = self.word(address)?.load(Ordering::Relaxed).to_le_bytes();
            let first = (address % 8) as usize;
            let count = part.len();
            buf[part].copy_from_slice(&word[first..first + count]);
        }
        Ok(())
    }

    fn write(&self, gpa: u64, data: &[u8]) -> Result<(), BadAddress> {
        self.check(gpa, data.len() as u64)?;
        for (address, part) in parts(gpa, data.len()) {
            let (mut bits, mut mask) = ([0; 8], [0; 8]);
            let first = (address % 8) as usize;
            bits[first..first + part.len()].copy_from_slice(&data[part.clone()]);
            mask[first..first + part.len()].fill(0xff);
            let (mask, bits) = (u64::from_le_bytes(mask), u64::from_le_bytes(bits));
            replace(self.word(address)?, mask, bits, Ordering::Relaxed);
        }
        Ok(())
    }

    fn load_u32(&self, gpa: u64) -> Result<u32, BadAddress> {
        let (word, shift) = self.half(gpa)?;
        Ok((word.load(Ordering::Acquire) >> shift) as u32)
    }

    fn store_u32(&self, gpa: u64, value: u32) -> Result<(), BadAddress> {
        let (word, shift) = self.half(gpa)?;
        replace(word, u64::from(u32::MAX) << shift, u64::from(value) << shift, Ordering::Release);
        Ok(())
    }

    fn fetch_or_u32(&self, gpa: u64, bits: u32) -> Result<u32, BadAddress> {
        let (word, shift) = self.half(gpa)?;
        Ok((word.fetch_or(u64::from(bits) << shift, Ordering::SeqCst) >> shift) as u32)
    }

    fn contains(&self, gpa: u64, len: u64) -> bool {
        let end = RAM_BASE + PAGES as u64 * PAGE;
        gpa >= RAM_BASE && gpa.checked_add(len).is_some_and(|last| last <= end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_at_any_address_come_back_and_their_neighbours_stay() {
        let ram = Ram::new();
        let data: Vec<u8> = (1..=40).collect();
        for gpa in (RAM_BASE..RAM_BASE + 9).chain([RAM_BASE + PAGE - 20]) {
            for len in [0, 1, 3, 7, 8, 9, 16, 17, 40] {
                ram.write(RAM_BASE, &[0xee; 64]).unwrap();
                ram.write(RAM_BASE + PAGE - 32, &[0xee; 64]).unwrap();
                ram.write(gpa, &data[..len]).unwrap();
                let mut read = [0; 42];
                ram.read(gpa, &mut read[..len + 1]).unwrap();
                assert_eq!((&read[..len], read[len]), (&data[..len], 0xee), "{len} bytes at {gpa:#x}");
                if gpa > RAM_BASE {
                    ram.read(gpa - 1, &mut read[..1]).unwrap();
                    assert_eq!(read[0], 0xee);
                }
            }
        }
    }

    #[test]
    fn what_is_not_memory_is_refused_as_a_whole() {
        let ram = Ram::new();
        let end = RAM_BASE + PAGES as u64 * PAGE;
        assert!(ram.write(end - 4, &[1; 5]).is_err());
        let mut last = [9; 4];
        ram.read(end - 4, &mut last).unwrap();
        assert_eq!(last, [0; 4]);
        assert!(ram.read(RAM_BASE - 1, &mut [0]).is_err());
        assert!(ram.load_u32(RAM_BASE + 2).is_err());
        assert!(!ram.contains(u64::MAX, 2));
    }
}
