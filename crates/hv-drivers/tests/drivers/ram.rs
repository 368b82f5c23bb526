//! The guest's memory, which the host accesses as well, and its allocator.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

use hv_drivers::hv_vmbus_client::Dma;
use hv_guest::page::{Memory, Page};
use hv_memory::{BadAddress, GuestMemory};

use super::host::World;

/// Where the guest's memory begins for the host.
pub(crate) const BASE: u64 = 1 << 40;
/// Pages of it.
const PAGES: usize = 1024;

/// Guest memory: pages that both sides access by atomics.
pub(crate) struct Ram {
    pub(crate) pages: Box<[Page]>,
    used: AtomicUsize,
    /// Pages that were allocated by the guest and not freed.
    pub(crate) live: AtomicUsize,
}

impl Ram {
    pub(crate) fn new() -> Self {
        Self {
            pages: (0..PAGES).map(|_| Page::new()).collect(),
            used: AtomicUsize::new(0),
            live: AtomicUsize::new(0),
        }
    }

    fn at(&self, gpa: u64, len: usize) -> Result<(&Page, usize), BadAddress> {
        let offset = usize::try_from(gpa.checked_sub(BASE).ok_or(BadAddress)?).map_err(|_| BadAddress)?;
        let page = self.pages.get(offset / 4096).ok_or(BadAddress)?;
        if offset % 4096 + len > 4096 { Err(BadAddress) } else { Ok((page, offset % 4096)) }
    }

    fn each<E>(
        &self,
        gpa: u64,
        len: usize,
        mut access: impl FnMut(&Page, usize, std::ops::Range<usize>) -> E,
    ) -> Result<(), BadAddress> {
        let mut done = 0;
        while done < len {
            let at = gpa + done as u64;
            let part = (len - done).min(4096 - (at % 4096) as usize);
            let (page, offset) = self.at(at, part)?;
            access(page, offset, done..done + part);
            done += part;
        }
        Ok(())
    }

    pub(crate) fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// The pages that the guest allocated last.
    pub(crate) fn last(&self, count: usize) -> &[Page] {
        let end = self.used.load(Ordering::Relaxed);
        &self.pages[end - count..end]
    }

    pub(crate) fn allocate(&self, count: usize) -> Option<&[Page]> {
        let first = self.used.fetch_add(count, Ordering::Relaxed);
        self.pages.get(first..first + count)
    }
}

impl GuestMemory for Ram {
    fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), BadAddress> {
        self.each(gpa, into.len(), |page, offset, part| page.read(offset, &mut into[part]))
    }

    fn write(&self, gpa: u64, from: &[u8]) -> Result<(), BadAddress> {
        self.each(gpa, from.len(), |page, offset, part| page.write(offset, &from[part]))
    }

    fn load_acquire(&self, gpa: u64) -> Result<u32, BadAddress> {
        let (page, offset) = self.at(gpa, 4)?;
        page.load_u32(offset).ok_or(BadAddress)
    }

    fn store_release(&self, gpa: u64, value: u32) -> Result<(), BadAddress> {
        let (page, offset) = self.at(gpa, 4)?;
        page.store_u32(offset, value).ok_or(BadAddress)
    }

    fn fetch_or(&self, gpa: u64, bits: u32) -> Result<u32, BadAddress> {
        let (page, offset) = self.at(gpa, 4)?;
        page.fetch_or_u32(offset, bits).ok_or(BadAddress)
    }

    fn swap(&self, gpa: u64, value: u32) -> Result<u32, BadAddress> {
        let (page, offset) = self.at(gpa, 4)?;
        page.swap_u32(offset, value).ok_or(BadAddress)
    }

    fn contains(&self, gpa: u64, len: u64) -> bool {
        let end = BASE + PAGES as u64 * 4096;
        gpa >= BASE && gpa.checked_add(len).is_some_and(|last| last <= end)
    }
}

/// The guest's allocator, which never gives a page twice.
#[derive(Clone, Copy)]
pub(crate) struct TestDma(pub(crate) &'static World);

// SAFETY: the address at which the host finds the page.
#[expect(unsafe_code, reason = "vouches for the world's memory")]
unsafe impl Memory for TestDma {
    fn gpa(&self, page: &Page) -> u64 {
        let ram = self.0.host.ram;
        BASE + (page as *const Page as usize - ram.pages.as_ptr() as usize) as u64
    }
}

// SAFETY: each page is given once and never freed.
#[expect(unsafe_code, reason = "vouches for the world's memory")]
unsafe impl Dma for TestDma {
    fn allocate(&self, count: usize) -> Option<NonNull<[Page]>> {
        let pages = self.0.host.ram.allocate(count)?;
        self.0.host.ram.live.fetch_add(count, Ordering::Relaxed);
        Some(pages.into())
    }

    unsafe fn free(&self, pages: NonNull<[Page]>) {
        self.0.host.ram.live.fetch_sub(pages.len(), Ordering::Relaxed);
    }
}
