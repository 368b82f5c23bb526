//! Guest memory: pages that guest code has references to and that the hypervisor addresses.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use hv_guest::page::{Memory, Page};
use hv_partition::{BadAddress, GuestMemory};

/// First guest physical address of the memory: in the last GiB that 52 bits reach, where no guest of Hyper-V has
/// memory. Page numbers of VMBus have 40 bits.
pub const RAM_BASE: u64 = (1 << 52) - (1 << 30);
/// Number of pages of a testbed; Miri takes seconds per hundred.
pub(crate) const PAGES: usize = if cfg!(miri) { 24 } else { 256 };
const PAGE: u64 = hv_tlfs::page::SIZE as u64;

/// Guest memory from [`RAM_BASE`] on, which lives as long as the process: for a test with a host of its own.
#[derive(Debug)]
pub struct Ram {
    pages: &'static [Page],
    /// A reference to each of them: passing on a reference to all makes Miri check every cell.
    each: Vec<&'static Page>,
    used: AtomicUsize,
}

impl Ram {
    /// Creates memory of this many pages, all zeros and none allocated.
    #[must_use]
    pub fn new(count: usize) -> Self {
        let pages: Vec<Page> = (0..count).map(|_| Page::new()).collect();
        let pages: &'static [Page] = pages.leak();
        Self { pages, each: pages.iter().collect(), used: AtomicUsize::new(0) }
    }

    /// Returns all pages.
    #[must_use]
    pub fn pages(&self) -> &'static [Page] {
        self.pages
    }

    /// Returns the number of pages that are allocated, which are the first ones.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Allocates this number of consecutive pages; `None` if there are fewer. They are never freed.
    pub fn allocate(&self, count: usize) -> Option<&'static [Page]> {
        let end = |first: usize| first.checked_add(count).filter(|&end| end <= self.pages.len());
        let first = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, end);
        first.ok().and_then(|first| self.pages.get(first..first + count))
    }

    /// Returns the page at this address.
    #[must_use]
    pub fn page(&self, gpa: u64) -> Option<&'static Page> {
        self.each.get(usize::try_from(gpa.checked_sub(RAM_BASE)? / PAGE).ok()?).copied()
    }

    /// Calls a function with the page of `gpa` and the offset in it.
    fn at<T>(&self, gpa: u64, access: impl FnOnce(&Page, usize) -> Option<T>) -> Result<T, BadAddress> {
        self.page(gpa).and_then(|page| access(page, (gpa % PAGE) as usize)).ok_or(BadAddress)
    }

    fn check(&self, gpa: u64, len: u64) -> Result<(), BadAddress> {
        if self.contains(gpa, len) { Ok(()) } else { Err(BadAddress) }
    }
}

// SAFETY: pages that are not moved, at addresses at which a hypervisor, if one were asked, finds no memory: it refuses
// them. The model writes through references to the pages, which are made of atomics.
#[expect(unsafe_code, reason = "vouches for where the pages are")]
unsafe impl Memory for Ram {
    fn gpa(&self, page: &Page) -> u64 {
        let offset = (page as *const Page as usize).wrapping_sub(self.pages.as_ptr() as usize);
        // The address of any other page is one that no page has.
        if offset < size_of_val(self.pages) { RAM_BASE + offset as u64 } else { hv_tlfs::page::MASK }
    }
}

/// Splits `len` bytes at `gpa` into parts within one page each: the part's address, and its range among the bytes.
fn by_page(gpa: u64, len: usize) -> impl Iterator<Item = (u64, Range<usize>)> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let address = gpa + from as u64;
        let part = from..len.min(from + (PAGE - address % PAGE) as usize);
        from = part.end;
        (!part.is_empty()).then_some((address, part))
    })
}

impl GuestMemory for Ram {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), BadAddress> {
        self.check(gpa, buf.len() as u64)?;
        for (address, part) in by_page(gpa, buf.len()) {
            self.page(address).ok_or(BadAddress)?.read((address % PAGE) as usize, &mut buf[part]);
        }
        Ok(())
    }

    fn write(&self, gpa: u64, data: &[u8]) -> Result<(), BadAddress> {
        self.check(gpa, data.len() as u64)?;
        for (address, part) in by_page(gpa, data.len()) {
            self.page(address).ok_or(BadAddress)?.write((address % PAGE) as usize, &data[part]);
        }
        Ok(())
    }

    fn load_acquire(&self, gpa: u64) -> Result<u32, BadAddress> {
        self.at(gpa, Page::load_u32)
    }

    fn store_release(&self, gpa: u64, value: u32) -> Result<(), BadAddress> {
        self.at(gpa, |page, offset| page.store_u32(offset, value))
    }

    fn fetch_or(&self, gpa: u64, bits: u32) -> Result<u32, BadAddress> {
        self.at(gpa, |page, offset| page.fetch_or_u32(offset, bits))
    }

    fn swap(&self, gpa: u64, value: u32) -> Result<u32, BadAddress> {
        self.at(gpa, |page, offset| page.swap_u32(offset, value))
    }

    fn contains(&self, gpa: u64, len: u64) -> bool {
        let end = RAM_BASE + self.pages.len() as u64 * PAGE;
        gpa >= RAM_BASE && gpa.checked_add(len).is_some_and(|last| last <= end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_at_any_address_come_back_and_their_neighbours_stay() {
        let ram = Ram::new(PAGES);
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
        let ram = Ram::new(PAGES);
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
