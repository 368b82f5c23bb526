//! The guest's memory, its allocator, and pages that bounce. The host accesses what the guest has shared, and a test
//! fails if it is told an address of anything else.

use std::cell::Cell;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use hv_drivers::hv_vmbus_client::{Direction, Dma, Error};
use hv_guest::page::{Memory, Page};
use hv_memory::{BadAddress, GuestMemory};

use super::host::World;

/// Where the guest's memory begins for the host.
pub(crate) const BASE: u64 = 1 << 40;
/// Pages of it.
const PAGES: usize = 2048;
/// Pages through which data bounce, where they do.
pub(crate) const BOUNCES: usize = 256;

thread_local! {
    /// Whether data bounce in the worlds that this thread makes.
    static BOUNCING: Cell<bool> = const { Cell::new(false) };
}

/// Runs a test in worlds in which data bounce.
pub(crate) fn bounce(test: impl FnOnce()) {
    BOUNCING.set(true);
    test();
    BOUNCING.set(false);
}

/// Guest memory: pages that both sides access by atomics.
pub(crate) struct Ram {
    pub(crate) pages: Box<[Page]>,
    used: AtomicUsize,
    /// Pages that were allocated by the guest and not freed.
    pub(crate) live: AtomicUsize,
    /// Pages that the host may access: how often each was shared.
    shared: Box<[AtomicUsize]>,
    /// Data bounce through the first pages.
    pub(crate) bounces: bool,
    loans: Mutex<Vec<Loan>>,
}

/// Pages that are lent, and those in their place.
#[derive(Debug)]
struct Loan {
    own: *const Page,
    bytes: Range<usize>,
    direction: Direction,
    places: Range<usize>,
}

// SAFETY: the pointer is compared and never followed.
#[expect(unsafe_code, reason = "a pointer as a number")]
unsafe impl Send for Loan {}

impl Ram {
    pub(crate) fn new() -> Self {
        Self {
            pages: (0..PAGES).map(|_| Page::new()).collect(),
            used: AtomicUsize::new(BOUNCES),
            live: AtomicUsize::new(0),
            shared: (0..PAGES).map(|_| AtomicUsize::new(0)).collect(),
            bounces: BOUNCING.get(),
            loans: Mutex::default(),
        }
    }

    /// Lets the host access these pages, or no more.
    pub(crate) fn share(&self, pages: &[Page], begins: bool) {
        let first = (pages.as_ptr() as usize - self.pages.as_ptr() as usize) / 4096;
        for page in &self.shared[first..first + pages.len()] {
            let before = if begins {
                page.fetch_add(1, Ordering::Relaxed) + 1
            } else {
                page.fetch_sub(1, Ordering::Relaxed)
            };
            assert!(before > 0, "pages are unshared that were not shared");
        }
    }

    /// Returns the number of pages that the host may access, and of loans.
    pub(crate) fn shared(&self) -> (usize, usize) {
        let shared = self.shared.iter().filter(|count| count.load(Ordering::Relaxed) > 0).count();
        (shared, self.loans.lock().unwrap().len())
    }

    /// Finds pages to bounce through, and copies the bytes there.
    fn lend(&self, pages: &[Page], bytes: Range<usize>, direction: Direction) -> Result<(), Error> {
        let mut loans = self.loans.lock().unwrap();
        let taken = |place: usize| loans.iter().any(|loan| loan.places.contains(&place));
        let free = (0..=BOUNCES - pages.len()).find(|first| !(*first..first + pages.len()).any(taken));
        let first = free.ok_or(Error::Memory)?;
        let places = first..first + pages.len();
        let bounce = &self.pages[places.clone()];
        // Whatever was there before is none of this request's.
        bounce.iter().for_each(|page| page.write(0, &[0xee; 4096]));
        copy(pages, bounce, &bytes);
        self.share(bounce, true);
        loans.push(Loan { own: pages.as_ptr(), bytes, direction, places });
        Ok(())
    }

    fn take_back(&self, pages: &[Page]) {
        let mut loans = self.loans.lock().unwrap();
        let place = loans.iter().position(|loan| loan.own == pages.as_ptr()).expect("pages that are lent");
        let Loan { bytes, direction, places, .. } = loans.swap_remove(place);
        let bounce = &self.pages[places];
        self.share(bounce, false);
        if direction != Direction::ToHost {
            copy(bounce, pages, &bytes);
        }
    }

    fn at(&self, gpa: u64, len: usize) -> Result<(&Page, usize), BadAddress> {
        let offset = usize::try_from(gpa.checked_sub(BASE).ok_or(BadAddress)?).map_err(|_| BadAddress)?;
        let page = self.pages.get(offset / 4096).ok_or(BadAddress)?;
        let shared = self.shared[offset / 4096].load(Ordering::Relaxed) > 0;
        assert!(shared, "the host was told {gpa:#x}, which was not shared");
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

    /// Returns the pages that the guest allocated last.
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

    fn share(&self, pages: &[Page]) -> Result<(), Error> {
        self.0.host.ram.share(pages, true);
        Ok(())
    }

    fn unshare(&self, pages: &[Page]) {
        self.0.host.ram.share(pages, false);
    }

    fn lend(&self, pages: &[Page], bytes: Range<usize>, direction: Direction) -> Result<(), Error> {
        let ram = self.0.host.ram;
        if ram.bounces { ram.lend(pages, bytes, direction) } else { self.share(pages) }
    }

    fn lent_gpa(&self, pages: &[Page], n: usize) -> Option<u64> {
        let ram = self.0.host.ram;
        if !ram.bounces {
            return pages.get(n).map(|page| self.gpa(page));
        }
        let loans = ram.loans.lock().unwrap();
        let loan = loans.iter().find(|loan| loan.own == pages.as_ptr())?;
        ram.pages[loan.places.clone()].get(n).map(|page| self.gpa(page))
    }

    fn take_back(&self, pages: &[Page]) {
        let ram = self.0.host.ram;
        if ram.bounces { ram.take_back(pages) } else { self.unshare(pages) }
    }
}

/// Copies bytes from pages to others, as far as there are some.
fn copy(from: &[Page], to: &[Page], bytes: &Range<usize>) {
    for (n, (from, to)) in from.iter().zip(to).enumerate() {
        let (start, end) = (bytes.start.max(n * 4096), bytes.end.min((n + 1) * 4096));
        if start < end {
            let mut part = vec![0; end - start];
            from.read(start % 4096, &mut part);
            to.write(start % 4096, &part);
        }
    }
}
