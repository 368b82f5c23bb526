//! A host whose every word is the test's own: for drivers, against hosts that break the rules.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use hv_guest::conduit::{Conduit, FAST_WORDS, FastOutput};
use hv_guest::page::{CallPage, Memory, Page};
use hv_tlfs::hypercall::{HypercallCode, HypercallInput, HypercallOutput};
use hv_tlfs::status::HvStatus;
use hv_vmbus_client::{Client, Dma, Lent, Window};

use crate::{RAM_BASE, lock};

/// Address of the first [window](ScriptedHost::window): below all RAM, as the others, which follow it.
pub const WINDOW_BASE: u64 = RAM_BASE >> 1;

/// Guest memory, and hypercalls that are noted and not carried out.
///
/// The test gives the [client](Self::client) the host's messages, and writes what the host writes into
/// [pages](Self::page). Unlike a [`Testbed`](crate::Testbed) it ends with its scope.
#[derive(Debug)]
pub struct ScriptedHost {
    pages: Box<[Page]>,
    used: AtomicUsize,
    /// Pages of windows so far.
    windows: AtomicU64,
    live: AtomicUsize,
    posted: Mutex<Vec<(u32, Vec<u8>)>>,
    signals: Mutex<Vec<u32>>,
    signalled: Mutex<Option<Signalled>>,
    status: AtomicU16,
    /// A connection that does not exist, or 0.
    missing: AtomicU32,
}

/// What the test does when the guest signals the host.
struct Signalled(Box<dyn FnMut() + Send>);

impl fmt::Debug for Signalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signalled")
    }
}

impl ScriptedHost {
    /// Makes a host for a guest with `pages` pages of memory.
    #[must_use]
    pub fn new(pages: usize) -> Self {
        Self {
            pages: (0..pages).map(|_| Page::new()).collect(),
            used: AtomicUsize::new(0),
            windows: AtomicU64::new(0),
            live: AtomicUsize::new(0),
            posted: Mutex::default(),
            signals: Mutex::default(),
            signalled: Mutex::default(),
            status: AtomicU16::new(0),
            missing: AtomicU32::new(0),
        }
    }

    /// Makes a client of this host.
    ///
    /// # Panics
    ///
    /// If no page is left.
    pub fn client<'h>(&'h self, slots: Lent<'h>) -> Client<'h, &'h Self> {
        let page = self.allocate(1).and_then(|pages| pages.first()).expect("the guest has no page left");
        let page = CallPage::new(page, &self.dma());
        // SAFETY: behind this conduit there is no host that accesses memory: only the test does, by atomics. So no
        // message can make memory be reused too early, whatever it says.
        #[expect(unsafe_code, reason = "vouches that there is no host")]
        unsafe {
            Client::new(self, page, slots)
        }
    }

    /// Returns the guest's allocator. It gives each page once.
    #[must_use]
    pub fn dma(&self) -> ScriptedDma<'_> {
        ScriptedDma(self)
    }

    /// Returns memory of a device, with `count` pages that are nothing else's; `None` if fewer are left.
    #[must_use]
    pub fn window(&self, count: usize) -> Option<Window<'_>> {
        let pages = self.allocate(count)?;
        let given = self.windows.fetch_add(count as u64, Ordering::Relaxed);
        let address = WINDOW_BASE + (given << 12);
        // SAFETY: behind this conduit there is no host that puts memory anywhere, and no RAM below `RAM_BASE`. All
        // windows together have at most the pages of RAM, so that they end below it, and no address is given twice. The
        // pages are given to this window alone, and all accesses to them are atomic.
        #[expect(unsafe_code, reason = "vouches for memory that no host has")]
        Some(unsafe { Window::new(pages, address) })
    }

    /// Returns the number of pages that were allocated and not freed.
    #[must_use]
    pub fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// Returns the page of guest memory with this number.
    #[must_use]
    pub fn page(&self, pfn: u64) -> Option<&Page> {
        self.pages.get(usize::try_from(pfn.checked_sub(RAM_BASE >> 12)?).ok()?)
    }

    /// Returns guest memory, all of it: what was allocated first comes first.
    #[must_use]
    pub fn pages(&self) -> &[Page] {
        &self.pages
    }

    /// Takes the messages that the guest has posted, each with its connection.
    pub fn take_posted(&self) -> Vec<(u32, Vec<u8>)> {
        std::mem::take(&mut *lock(&self.posted))
    }

    /// Takes the connections that the guest has signalled.
    pub fn take_signals(&self) -> Vec<u32> {
        std::mem::take(&mut *lock(&self.signals))
    }

    /// Calls this at each signal of the guest, before the hypercall returns: what a host on another processor does
    /// meanwhile. It signals nothing itself.
    pub fn on_signal(&self, act: impl FnMut() + Send + 'static) {
        *lock(&self.signalled) = Some(Signalled(Box::new(act)));
    }

    /// Answers hypercalls with this status from now on. What is refused is not noted.
    pub fn set_status(&self, status: HvStatus) {
        self.status.store(status.0, Ordering::Relaxed);
    }

    /// Makes a connection one that does not exist.
    pub fn remove_connection(&self, connection: u32) {
        self.missing.store(connection, Ordering::Relaxed);
    }

    fn allocate(&self, count: usize) -> Option<&[Page]> {
        let end = |first: usize| first.checked_add(count).filter(|end| *end <= self.pages.len());
        let first = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, end).ok()?;
        self.pages.get(first..first + count)
    }
}

#[expect(unsafe_code, reason = "as the trait has it; no call has an effect on memory")]
impl Conduit for ScriptedHost {
    unsafe fn call(&self, control: HypercallInput, block: &mut [u64; FAST_WORDS]) -> HypercallOutput {
        let status = self.status.load(Ordering::Relaxed);
        if status == 0 && control.code() == HypercallCode::POST_MESSAGE {
            let mut input = [0; 256];
            if let Some(page) = self.page(block[0] >> 12) {
                page.read((block[0] % 4096) as usize, &mut input);
            }
            let word =
                |at: usize| u32::from_le_bytes([input[at], input[at + 1], input[at + 2], input[at + 3]]);
            if word(0) == self.missing.load(Ordering::Relaxed) {
                return HypercallOutput::from_bits(HvStatus::INVALID_CONNECTION_ID.0.into());
            }
            let payload = input[16..].iter().take(word(12) as usize).copied().collect();
            lock(&self.posted).push((word(0), payload));
        } else if status == 0 && control.code() == HypercallCode::SIGNAL_EVENT {
            lock(&self.signals).push(block[0] as u32);
            if let Some(Signalled(act)) = &mut *lock(&self.signalled) {
                act();
            }
        }
        HypercallOutput::from_bits(status.into())
    }

    fn fast_output(&self) -> FastOutput {
        FastOutput::AfterInput
    }

    unsafe fn smccc(&self, _: u32, _: [u64; 3]) -> [u64; 4] {
        [u64::MAX; 4]
    }
}

/// The allocator of a [`ScriptedHost`]'s guest.
#[derive(Clone, Copy, Debug)]
pub struct ScriptedDma<'h>(&'h ScriptedHost);

// SAFETY: the host's pages are not moved, and this is the address by which the host's `page` finds each. No other host
// has memory there.
#[expect(unsafe_code, reason = "vouches for where the pages are")]
unsafe impl Memory for ScriptedDma<'_> {
    fn gpa(&self, page: &Page) -> u64 {
        let offset = (page as *const Page as usize).wrapping_sub(self.0.pages.as_ptr() as usize);
        // The address of a page that is not one of these is one that no page has.
        if offset < size_of_val(&*self.0.pages) { RAM_BASE + offset as u64 } else { hv_tlfs::page::MASK }
    }
}

// SAFETY: each page is given once, lives as long as the host that the allocator borrows, and is neighbour to the next.
#[expect(unsafe_code, reason = "vouches for its pages")]
unsafe impl Dma for ScriptedDma<'_> {
    fn allocate(&self, count: usize) -> Option<NonNull<[Page]>> {
        let pages = self.0.allocate(count)?;
        self.0.live.fetch_add(count, Ordering::Relaxed);
        Some(pages.into())
    }

    unsafe fn free(&self, pages: NonNull<[Page]>) {
        self.0.live.fetch_sub(pages.len(), Ordering::Relaxed);
    }
}
