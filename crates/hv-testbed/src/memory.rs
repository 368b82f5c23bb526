//! Guest memory: pages that the guest's code has references to and the hypervisor addresses.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

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
    /// Each of them: to pass on a reference to all costs Miri a look at every word of them.
    each: Vec<&'static Page>,
    used: AtomicUsize,
}

impl Ram {
    pub(crate) fn new() -> Self {
        let pages: Vec<Page> = (0..PAGES).map(|_| Page::new()).collect();
        let pages: &'static [Page] = pages.leak();
        Self { pages: Pages::new(RAM_BASE, pages), each: pages.iter().collect(), used: AtomicUsize::new(0) }
    }

    pub(crate) fn memory(&self) -> &Pages {
        &self.pages
    }

    pub(crate) fn allocate(&self, count: usize) -> &'static [Page] {
        let first = self.used.fetch_add(count, Ordering::Relaxed);
        self.pages.all().get(first..first + count).expect("the testbed is out of guest memory")
    }

    pub(crate) fn page(&self, gpa: u64) -> Option<&'static Page> {
        self.each.get(usize::try_from(gpa.checked_sub(RAM_BASE)? / PAGE).ok()?).copied()
    }

    /// The four bytes at `gpa`.
    fn half(&self, gpa: u64) -> Result<&'static AtomicU32, BadAddress> {
        let page = self.page(gpa).ok_or(BadAddress)?;
        if gpa % 4 != 0 {
            return Err(BadAddress);
        }
        Ok(&page.halves()[(gpa % PAGE / 4) as usize])
    }

    fn check(&self, gpa: u64, len: u64) -> Result<(), BadAddress> {
        if self.contains(gpa, len) { Ok(()) } else { Err(BadAddress) }
    }
}

/// Splits `len` bytes at `gpa` into parts that lie in one block of `block` bytes each: the part's address, and its place among the bytes.
fn by(block: u64, gpa: u64, len: usize) -> impl Iterator<Item = (u64, Range<usize>)> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let address = gpa + from as u64;
        let part = from..len.min(from + (block - address % block) as usize);
        from = part.end;
        (!part.is_empty()).then_some((address, part))
    })
}

/// Reads bytes of a page. A field of the interface is read as wide as it is, as far as that can be known here: Rust does
/// not let threads access one place with different widths at a time.
fn read_page(page: &Page, offset: u64, buf: &mut [u8]) {
    let (words, halves) = (page.words(), page.halves());
    for (at, part) in by(8, offset, buf.len()) {
        let first = (at % 8) as usize;
        if part.len() == 4 && at % 4 == 0 {
            buf[part].copy_from_slice(&halves[(at / 4) as usize].load(Ordering::Relaxed).to_le_bytes());
        } else {
            let word = words[(at / 8) as usize].load(Ordering::Relaxed).to_le_bytes();
            let count = part.len();
            buf[part].copy_from_slice(&word[first..first + count]);
        }
    }
}

/// Writes bytes of a page, likewise.
fn write_page(page: &Page, offset: u64, data: &[u8]) {
    let (words, halves) = (page.words(), page.halves());
    for (at, part) in by(8, offset, data.len()) {
        let bytes = &data[part];
        let (mut bits, mut mask) = ([0; 8], [0; 8]);
        let first = (at % 8) as usize;
        bits[first..first + bytes.len()].copy_from_slice(bytes);
        mask[first..first + bytes.len()].fill(0xff);
        let (word, bits, mask) =
            (&words[(at / 8) as usize], u64::from_le_bytes(bits), u64::from_le_bytes(mask));
        match bytes.len() {
            8 => word.store(bits, Ordering::Relaxed),
            4 if at % 4 == 0 => {
                halves[(at / 4) as usize].store((bits >> (8 * first)) as u32, Ordering::Relaxed);
            }
            _ => {
                let replaced = |old| Some(old & !mask | bits);
                let _ = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, replaced);
            }
        }
    }
}

impl GuestMemory for Ram {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), BadAddress> {
        self.check(gpa, buf.len() as u64)?;
        for (address, part) in by(PAGE, gpa, buf.len()) {
            read_page(self.page(address).ok_or(BadAddress)?, address % PAGE, &mut buf[part]);
        }
        Ok(())
    }

    fn write(&self, gpa: u64, data: &[u8]) -> Result<(), BadAddress> {
        self.check(gpa, data.len() as u64)?;
        for (address, part) in by(PAGE, gpa, data.len()) {
            write_page(self.page(address).ok_or(BadAddress)?, address % PAGE, &data[part]);
        }
        Ok(())
    }

    fn load_acquire(&self, gpa: u64) -> Result<u32, BadAddress> {
        Ok(self.half(gpa)?.load(Ordering::Acquire))
    }

    fn store_release(&self, gpa: u64, value: u32) -> Result<(), BadAddress> {
        self.half(gpa)?.store(value, Ordering::Release);
        Ok(())
    }

    fn fetch_or(&self, gpa: u64, bits: u32) -> Result<u32, BadAddress> {
        Ok(self.half(gpa)?.fetch_or(bits, Ordering::SeqCst))
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
        assert!(ram.load_acquire(RAM_BASE + 2).is_err());
        assert!(!ram.contains(u64::MAX, 2));
    }
}
