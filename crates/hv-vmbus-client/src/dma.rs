//! Memory that the host reads and writes: allocated, shared and freed by the OS.
//!
//! A [`PageRun`] owns pages that the guest alone uses. A [`Shared`] owns pages that the host may access. The way back
//! is not public: only the host's answer (GPADL_TORNDOWN, a completion, the end of the connection) makes a run of
//! shared pages. **A `Shared` that is dropped leaks its pages**, since the host may still write to them; so does every
//! type that owns one ([`Gpadl`](crate::Gpadl), [`Channel`](crate::Channel), [`Queue`](crate::Queue)).
//!
//! A program that would reuse memory too early does not compile. What the host may access has no public way back:
//!
//! ```compile_fail,E0624
//! # use hv_vmbus_client::{Dma, PageRun, Shared};
//! fn early<D: Dma>(pages: Shared<D>) -> PageRun<D> {
//!     pages.take_back()
//! }
//! ```
//!
//! Pages that were shared, or that a request has, are not the guest's:
//!
//! ```compile_fail,E0382
//! # use hv_vmbus_client::{Dma, Error, PageRun, Shared};
//! fn late<D: Dma>(pages: PageRun<D>) -> Result<Shared<D>, Error> {
//!     let shared = pages.share()?;
//!     pages.write(0, b"still mine");
//!     Ok(shared)
//! }
//! ```
//!
//! ```compile_fail,E0382
//! # use hv_guest::conduit::Conduit;
//! # use hv_vmbus_client::{Buffer, Dma, Error, PageRun, Queue};
//! fn twice<D: Dma, C: Conduit>(queue: &mut Queue<'_, D, C, u8, 8>, pages: PageRun<D>) -> Result<(), Error> {
//!     queue.submit(1, &[0; 8], Some(Buffer { pages, offset: 0, len: 64 }))?;
//!     queue.submit(2, &[0; 8], Some(Buffer { pages, offset: 0, len: 64 }))?;
//!     Ok(())
//! }
//! ```
//!
//! A GPADL that is being torn down is the host's until it has answered:
//!
//! ```
//! # use hv_vmbus_client::{Dma, PageRun, Progress, Teardown};
//! fn ended<D: Dma>(teardown: Teardown<'_, D>) -> Option<PageRun<D>> {
//!     match teardown.poll() {
//!         Progress::Done(pages) => Some(pages),
//!         // Dropped, and so leaked.
//!         Progress::Pending(_) => None,
//!     }
//! }
//! ```
//!
//! ```compile_fail,E0308
//! # use hv_vmbus_client::{Dma, PageRun, Progress, Teardown};
//! fn ended<D: Dma>(teardown: Teardown<'_, D>) -> Option<PageRun<D>> {
//!     match teardown.poll() {
//!         Progress::Done(pages) | Progress::Pending(pages) => Some(pages),
//!     }
//! }
//! ```
//!
//! A channel's rings are not in use once it is closed:
//!
//! ```compile_fail,E0382
//! # use hv_guest::conduit::Conduit;
//! # use hv_vmbus_client::{Channel, Client, Dma, Error, Gpadl, ring::Outgoing};
//! fn closed<'t, D: Dma, C: Conduit>(
//!     mut channel: Channel<'t, D, C>,
//!     client: &mut Client<'_, C>,
//! ) -> Result<Gpadl<'t, D>, Error> {
//!     let rings = channel.close(client)?;
//!     channel.send(&Outgoing::in_band(1, b"too late"))?;
//!     Ok(rings)
//! }
//! ```
//!
//! Memory that both sides use at the same time (rings, GPADLs) is shared as it is. The data of a request are
//! [lent](Dma::lend): an OS whose pages the host cannot access lends others in their place, and copies.
//!
//! All sizes count pages of 4096 bytes, which are the pages of the interface whatever the guest's page size is. A guest
//! with pages of 16 or 64 KiB sets [`Dma::GRANULE`], and shares no page of its own in part.

use core::fmt;
use core::mem::ManuallyDrop;
use core::ops::Range;
use core::ptr::NonNull;

use hv_guest::page::{Memory, Page};
use hv_tlfs::page::SIZE;

use crate::Error;

/// Which way the data of a request go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The host reads them.
    ToHost,
    /// The host writes them.
    FromHost,
    /// The host may do either.
    Both,
}

/// Memory for the host, from the OS. Cloned into every run of pages: usually it is a reference or has no size.
///
/// # Safety
///
/// [`allocate`](Self::allocate) returns pages that keep the contract of [`Page::at`] until they are freed: initialized,
/// writable, aligned, neighbours in the guest's address space, and not used in any other way. The address that
/// [`Memory::gpa`] returns for each of them is where the host finds exactly this page, until it is freed. Neighbours
/// need not be neighbours in guest physical memory.
///
/// The host may read and write the pages whose addresses [`lent_gpa`](Self::lent_gpa) returns, until
/// [`take_back`](Self::take_back): they are those that were lent, or pages that keep the same contract and that nothing
/// else uses meanwhile.
pub unsafe trait Dma: Memory + Clone {
    /// Pages of 4096 bytes in a page of the guest: 1, 4 or 16. Only whole pages of the guest are allocated.
    const GRANULE: usize = 1;

    /// Allocates `count` pages of zeros, a multiple of [`GRANULE`](Self::GRANULE) and not 0.
    fn allocate(&self, count: usize) -> Option<NonNull<[Page]>>;

    /// Frees pages.
    ///
    /// # Safety
    ///
    /// `pages` is what [`allocate`](Self::allocate) returned, unchanged and whole, and is not used again: not by the
    /// guest, and not by the host.
    unsafe fn free(&self, pages: NonNull<[Page]>);

    /// Lets the host access pages. By default it can access all memory of the guest, and nothing is to be done; in an
    /// isolated partition this is where pages become visible to it.
    ///
    /// # Errors
    ///
    /// [`Error::Memory`]: the pages remain inaccessible.
    fn share(&self, pages: &[Page]) -> Result<(), Error> {
        let _ = pages;
        Ok(())
    }

    /// Ends the host's access to pages that were shared. The contents remain as they are.
    fn unshare(&self, pages: &[Page]) {
        let _ = pages;
    }

    /// Lends the host bytes of pages for one request: `bytes` counts from the first page's first byte. By default it
    /// [shares](Self::share) the pages.
    ///
    /// An OS that bounces lends pages of its own that the host can access, with a copy of the bytes, for every
    /// direction: those that the host does not write are the same in the end. Bytes beyond the last page are not there.
    ///
    /// # Errors
    ///
    /// [`Error::Memory`]: nothing is lent. The request's user gets it, and may try again when another request has
    /// ended.
    #[inline]
    fn lend(&self, pages: &[Page], bytes: Range<usize>, direction: Direction) -> Result<(), Error> {
        let _ = (bytes, direction);
        self.share(pages)
    }

    /// Returns the guest physical address at which the host accesses the `n`-th of pages that are lent; `None` after
    /// the last. By default it is the page's own.
    #[inline]
    fn lent_gpa(&self, pages: &[Page], n: usize) -> Option<u64> {
        pages.get(n).map(|page| self.gpa(page))
    }

    /// Ends a loan: the host's access has ended. By default it [ends the share](Self::unshare).
    ///
    /// An OS that bounces copies the bytes back, unless the host was only to read them.
    #[inline]
    fn take_back(&self, pages: &[Page]) {
        self.unshare(pages);
    }
}

// SAFETY: the reference forwards every call to an implementation that keeps the contract, and returns what that
// returns.
unsafe impl<D: Dma> Dma for &D {
    const GRANULE: usize = D::GRANULE;

    fn allocate(&self, count: usize) -> Option<NonNull<[Page]>> {
        (**self).allocate(count)
    }

    unsafe fn free(&self, pages: NonNull<[Page]>) {
        // SAFETY: the caller keeps the contract of `free` for exactly this call.
        unsafe { (**self).free(pages) }
    }

    fn share(&self, pages: &[Page]) -> Result<(), Error> {
        (**self).share(pages)
    }

    fn unshare(&self, pages: &[Page]) {
        (**self).unshare(pages);
    }

    fn lend(&self, pages: &[Page], bytes: Range<usize>, direction: Direction) -> Result<(), Error> {
        (**self).lend(pages, bytes, direction)
    }

    fn lent_gpa(&self, pages: &[Page], n: usize) -> Option<u64> {
        (**self).lent_gpa(pages, n)
    }

    fn take_back(&self, pages: &[Page]) {
        (**self).take_back(pages);
    }
}

/// Pages that the guest alone uses. Dropping it frees them.
pub struct PageRun<D: Dma> {
    pages: NonNull<[Page]>,
    dma: D,
}

// SAFETY: the run owns its pages, which are atomics and may be accessed from any thread; the allocator that goes with
// them may be sent, by the bound.
unsafe impl<D: Dma + Send> Send for PageRun<D> {}
// SAFETY: a shared run gives access to atomics and to a shared allocator alone, which may be shared, by the bound.
unsafe impl<D: Dma + Sync> Sync for PageRun<D> {}

impl<D: Dma> fmt::Debug for PageRun<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageRun({} pages)", self.pages.len())
    }
}

impl<D: Dma> Drop for PageRun<D> {
    fn drop(&mut self) {
        // SAFETY: the pages are those that `allocate` returned, whole, since `new` keeps them unchanged. The run owns
        // them, and no borrow outlives it. The host has no access: what it was given stands in a `Shared`,
        // which drops no run.
        unsafe { self.dma.free(self.pages) }
    }
}

impl<D: Dma> PageRun<D> {
    /// Allocates pages of zeros: `count`, rounded up to whole pages of the guest.
    ///
    /// # Errors
    ///
    /// [`Error::Memory`] if the OS has none, or `count` is 0.
    pub fn new(dma: &D, count: usize) -> Result<Self, Error> {
        let count = count.checked_next_multiple_of(D::GRANULE.max(1)).filter(|count| *count > 0);
        let pages = dma.allocate(count.ok_or(Error::Memory)?).ok_or(Error::Memory)?;
        Ok(Self { pages, dma: dma.clone() })
    }

    /// Allocates pages for `bytes` bytes.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn of_bytes(dma: &D, bytes: usize) -> Result<Self, Error> {
        Self::new(dma, bytes.div_ceil(SIZE))
    }

    /// Returns the pages.
    #[must_use]
    pub fn pages(&self) -> &[Page] {
        // SAFETY: the pages are initialized, aligned and exclusively the run's until they are freed, by the contract of
        // `allocate`; they are freed when the run is dropped, and the borrow ends before.
        unsafe { self.pages.as_ref() }
    }

    /// Returns the number of bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.pages.len() * SIZE
    }

    /// Returns the number of the 4096-byte page at place `n`; `None` after the end.
    #[must_use]
    pub fn pfn(&self, n: usize) -> Option<u64> {
        self.pages().get(n).map(|page| hv_tlfs::page::number(self.dma.gpa(page)))
    }

    /// Copies bytes out of the pages, from byte `offset` on. Those of `into` that lie after the last page stay as they
    /// are.
    pub fn read(&self, offset: usize, into: &mut [u8]) {
        read(self.pages(), offset, into);
    }

    /// Copies bytes into the pages, from byte `offset` on, as far as there are pages.
    pub fn write(&self, offset: usize, from: &[u8]) {
        write(self.pages(), offset, from);
    }

    /// Lets the host access the pages permanently: they cannot be turned back into a run. For pages that come back
    /// there are [`Queue`](crate::Queue) and [`Gpadl`](crate::Gpadl), which take runs.
    ///
    /// # Errors
    ///
    /// [`Error`], with the pages.
    pub fn share(self) -> Result<Shared<D>, Returned<Self>> {
        match self.dma.share(self.pages()) {
            Ok(()) => Ok(Shared(ManuallyDrop::new(self))),
            Err(error) => Err(Returned { value: self, error }),
        }
    }
}

impl<D: Dma> PageRun<D> {
    /// Lends the host bytes of the pages for one request.
    #[inline]
    pub(crate) fn lend(self, bytes: Range<usize>, direction: Direction) -> Result<Loan<D>, Returned<Self>> {
        match self.dma.lend(self.pages(), bytes, direction) {
            Ok(()) => Ok(Loan(ManuallyDrop::new(self))),
            Err(error) => Err(Returned { value: self, error }),
        }
    }
}

/// Copies bytes out of pages.
pub(crate) fn read(pages: &[Page], offset: usize, into: &mut [u8]) {
    let (mut offset, mut rest) = (offset, into);
    while let Some(page) = pages.get(offset / SIZE).filter(|_| !rest.is_empty()) {
        let len = (SIZE - offset % SIZE).min(rest.len());
        let (part, behind) = rest.split_at_mut(len);
        page.read(offset % SIZE, part);
        (offset, rest) = (offset + len, behind);
    }
}

/// Copies bytes into pages.
pub(crate) fn write(pages: &[Page], offset: usize, from: &[u8]) {
    let (mut offset, mut rest) = (offset, from);
    while let Some(page) = pages.get(offset / SIZE).filter(|_| !rest.is_empty()) {
        let (part, behind) = rest.split_at((SIZE - offset % SIZE).min(rest.len()));
        page.write(offset % SIZE, part);
        (offset, rest) = (offset + part.len(), behind);
    }
}

/// Pages that the host may access. Dropping it leaks them: see the module's documentation.
#[must_use = "pages that the host may access are leaked when this is dropped"]
pub struct Shared<D: Dma>(ManuallyDrop<PageRun<D>>);

impl<D: Dma> fmt::Debug for Shared<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shared({} pages)", self.pages().len())
    }
}

impl<D: Dma> Shared<D> {
    /// Returns the pages. Their contents may change at any time: read what is to be judged once.
    #[must_use]
    pub fn pages(&self) -> &[Page] {
        self.0.pages()
    }

    /// Returns the number of the 4096-byte page at place `n`; `None` after the end.
    #[must_use]
    pub fn pfn(&self, n: usize) -> Option<u64> {
        self.0.pfn(n)
    }

    /// Takes the pages back. The callers have the host's word that its access has ended.
    pub(crate) fn take_back(self) -> PageRun<D> {
        let run = ManuallyDrop::into_inner(self.0);
        run.dma.unshare(run.pages());
        run
    }
}

/// Pages that are lent to the host for one request. Dropping it leaks them, and what was lent in their place.
pub(crate) struct Loan<D: Dma>(ManuallyDrop<PageRun<D>>);

impl<D: Dma> Loan<D> {
    /// Takes the pages back. The callers have the host's word that its access has ended, or never told it of them.
    #[inline]
    pub(crate) fn take_back(self) -> PageRun<D> {
        let run = ManuallyDrop::into_inner(self.0);
        run.dma.take_back(run.pages());
        run
    }
}

impl<D: Dma> PageNumbers for Loan<D> {
    fn pfn(&self, n: usize) -> Option<u64> {
        self.0.dma.lent_gpa(self.0.pages(), n).map(hv_tlfs::page::number)
    }
}

/// Memory of a device in VMBus's address window, where the OS has mapped it: video memory.
///
/// The host puts the memory where the guest asks for it. It is not RAM, so nothing is allocated, shared or given back.
#[derive(Clone, Copy, Debug)]
pub struct Window<'w> {
    pages: &'w [Page],
    gpa: u64,
}

impl<'w> Window<'w> {
    /// Names a part of the window: its guest physical address, and the pages that the OS has mapped to it.
    ///
    /// # Safety
    ///
    /// `gpa` is a multiple of 4096, and the range that starts there, as long as `pages`, lies in the range that
    /// firmware names for VMBus (ACPI `_CRS` of the device that has VMBus below it, `ranges` in a device tree). No RAM
    /// is at these addresses, and nothing else uses them, not even after `'w`: the host may put memory over what is
    /// there. `pages` is mapped to them, in their order, as normal memory, and keeps the contract of [`Page::at`].
    #[must_use]
    pub const unsafe fn new(pages: &'w [Page], gpa: u64) -> Self {
        Self { pages, gpa }
    }

    /// Returns the guest physical address of the first byte.
    #[must_use]
    pub const fn gpa(&self) -> u64 {
        self.gpa
    }

    /// Returns the number of bytes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.pages.len() * SIZE
    }

    /// Copies bytes out of the memory, from byte `offset` on. Those of `into` that lie after its end stay as they are.
    pub fn read(&self, offset: usize, into: &mut [u8]) {
        read(self.pages, offset, into);
    }

    /// Copies bytes into the memory, from byte `offset` on, as far as there is some.
    pub fn write(&self, offset: usize, from: &[u8]) {
        write(self.pages, offset, from);
    }
}

/// Numbers of the 4096-byte pages that data lie in.
pub trait PageNumbers {
    /// Returns the number at place `n`; `None` after the end.
    fn pfn(&self, n: usize) -> Option<u64>;
}

impl PageNumbers for [u64] {
    fn pfn(&self, n: usize) -> Option<u64> {
        self.get(n).copied()
    }
}

impl<D: Dma> PageNumbers for Shared<D> {
    fn pfn(&self, n: usize) -> Option<u64> {
        self.pfn(n)
    }
}

/// Bytes in pages of the guest, which a packet names to the host.
#[derive(Clone, Copy)]
pub struct Data<'a> {
    pages: &'a dyn PageNumbers,
    offset: usize,
    len: u32,
}

impl fmt::Debug for Data<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Data({} bytes at {:#x})", self.len, self.offset)
    }
}

impl<'a> Data<'a> {
    /// Names `len` bytes from byte `offset` on of pages that the host may access permanently.
    #[must_use]
    pub fn of<D: Dma>(pages: &'a Shared<D>, offset: usize, len: u32) -> Self {
        Self { pages, offset, len }
    }

    /// Names bytes of pages that are lent.
    pub(crate) fn lent<D: Dma>(pages: &'a Loan<D>, offset: usize, len: u32) -> Self {
        Self { pages, offset, len }
    }

    /// Names bytes in any pages.
    ///
    /// # Safety
    ///
    /// From the time on that a packet with them is sent, until the host answers it, nothing but atomics of this crate
    /// or another volatile way accesses the pages, and they are not used for anything else.
    #[must_use]
    pub unsafe fn at(pages: &'a dyn PageNumbers, offset: usize, len: u32) -> Self {
        Self { pages, offset, len }
    }

    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    pub(crate) fn pfn(&self, n: usize) -> Option<u64> {
        self.pages.pfn(n)
    }

    /// Returns the first page, the offset in it, and the number of pages; `None` for no bytes.
    pub(crate) fn span(&self) -> Option<(usize, u32, u32)> {
        let offset = (self.offset % SIZE) as u32;
        let end = self.len.checked_add(offset).filter(|_| self.len > 0)?;
        Some((self.offset / SIZE, offset, end.div_ceil(SIZE as u32)))
    }
}

/// An error, with the value that was given and not kept.
pub struct Returned<T> {
    /// The value.
    pub value: T,
    /// The error.
    pub error: Error,
}

impl<T> Returned<T> {
    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Returned<U> {
        Returned { value: change(self.value), error: self.error }
    }
}

impl<T> fmt::Debug for Returned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Returned").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<T> fmt::Display for Returned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T> core::error::Error for Returned<T> {}

impl<T> From<Returned<T>> for Error {
    fn from(returned: Returned<T>) -> Self {
        returned.error
    }
}
