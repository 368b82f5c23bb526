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
use hv_testbed::RAM_BASE;

use super::host::World;

/// Pages of the guest's memory.
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

/// Guest memory of which the host may access what is shared.
pub(crate) struct Ram {
    memory: hv_testbed::Ram,
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
        let memory = hv_testbed::Ram::new(PAGES);
        memory.allocate(BOUNCES).expect("pages to bounce through");
        Self {
            memory,
            live: AtomicUsize::new(0),
            shared: (0..PAGES).map(|_| AtomicUsize::new(0)).collect(),
            bounces: BOUNCING.get(),
            loans: Mutex::default(),
        }
    }

    /// Returns all pages.
    pub(crate) fn pages(&self) -> &'static [Page] {
        self.memory.pages()
    }

    /// Lets the host access these pages, or no longer.
    pub(crate) fn share(&self, pages: &[Page], begins: bool) {
        let Some(first) = pages.first() else { return };
        let first = ((self.memory.gpa(first) - RAM_BASE) / 4096) as usize;
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
        let bounce = &self.pages()[places.clone()];
        // What was there before does not belong to this request.
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
        let bounce = &self.pages()[places];
        self.share(bounce, false);
        if direction != Direction::ToHost {
            copy(bounce, pages, &bytes);
        }
    }

    /// Returns the memory. Fails the test if the host was told these bytes and their pages are not shared.
    fn shared_at(&self, gpa: u64, len: usize) -> &hv_testbed::Ram {
        let first = gpa.saturating_sub(RAM_BASE) as usize / 4096;
        let pages = (gpa as usize % 4096 + len).div_ceil(4096);
        let shared =
            self.shared.iter().skip(first).take(pages).all(|count| count.load(Ordering::Relaxed) > 0);
        assert!(shared, "the host was told {len} bytes at {gpa:#x}, which were not shared");
        &self.memory
    }

    pub(crate) fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// Returns the pages that the guest allocated last.
    pub(crate) fn last(&self, count: usize) -> &[Page] {
        let end = self.memory.used();
        &self.pages()[end - count..end]
    }

    pub(crate) fn allocate(&self, count: usize) -> Option<&'static [Page]> {
        self.memory.allocate(count)
    }
}

impl GuestMemory for Ram {
    fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), BadAddress> {
        self.shared_at(gpa, into.len()).read(gpa, into)
    }

    fn write(&self, gpa: u64, from: &[u8]) -> Result<(), BadAddress> {
        self.shared_at(gpa, from.len()).write(gpa, from)
    }

    fn load_acquire(&self, gpa: u64) -> Result<u32, BadAddress> {
        self.shared_at(gpa, 4).load_acquire(gpa)
    }

    fn store_release(&self, gpa: u64, value: u32) -> Result<(), BadAddress> {
        self.shared_at(gpa, 4).store_release(gpa, value)
    }

    fn fetch_or(&self, gpa: u64, bits: u32) -> Result<u32, BadAddress> {
        self.shared_at(gpa, 4).fetch_or(gpa, bits)
    }

    fn swap(&self, gpa: u64, value: u32) -> Result<u32, BadAddress> {
        self.shared_at(gpa, 4).swap(gpa, value)
    }

    fn contains(&self, gpa: u64, len: u64) -> bool {
        self.memory.contains(gpa, len)
    }
}

/// The guest's allocator, which never gives a page twice.
#[derive(Clone, Copy)]
pub(crate) struct TestDma(pub(crate) &'static World);

// SAFETY: the address at which the host finds the page.
#[expect(unsafe_code, reason = "vouches for the world's memory")]
unsafe impl Memory for TestDma {
    fn gpa(&self, page: &Page) -> u64 {
        self.0.host.ram.memory.gpa(page)
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
        ram.pages()[loan.places.clone()].get(n).map(|page| self.gpa(page))
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
