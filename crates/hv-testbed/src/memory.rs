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

impl GuestMemory for Ram {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), BadAddress> {
        self.check(gpa, buf.len() as u64)?;
        for (address, byte) in (gpa..).zip(buf) {
            let word = self.word(address)?.load(Ordering::Relaxed);
            *byte = word.to_le_bytes()[(address % 8) as usize];
        }
        Ok(())
    }

    fn write(&self, gpa: u64, data: &[u8]) -> Result<(), BadAddress> {
        self.check(gpa, data.len() as u64)?;
        for (address, byte) in (gpa..).zip(data) {
            let shift = address % 8 * 8;
            replace(self.word(address)?, 0xff << shift, u64::from(*byte) << shift, Ordering::Relaxed);
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
