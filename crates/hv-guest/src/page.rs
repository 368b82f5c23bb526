//! Pages that the guest shares with the hypervisor, and where the OS says they are.
//!
//! A page of Hyper-V is 4096 bytes, whatever the guest's own page size is. A [`Page`] is made of atomics: the
//! hypervisor may write it at any time, so each word is read once, and what was read is judged.
//!
//! Source: TLFS, "Inter-Partition Communication", "SIM Page" and "SIEF Page"; "Timers", "Partition Reference Time
//! Enlightenment".
//!
//! This module and [`crate::arch`] hold all the unsafe code of the crate. Here it does one thing: it looks at the same
//! 4096 bytes as words, as message slots, as event flags, or as the reference TSC page.

use core::ptr::NonNull;

use hv_tlfs::page::SIZE;
use hv_tlfs::synic::SINT_COUNT;

use crate::message::Slot;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::synic::Flags;
use crate::tsc::TscPage;

/// Where the guest's pages are in guest physical memory. The OS implements it.
///
/// # Safety
///
/// [`gpa`](Self::gpa) returns the guest physical address at which the hypervisor finds exactly these 4096 bytes, and
/// the page stays there for as long as the reference lives: the hypervisor writes to the address it is given.
pub unsafe trait Memory {
    /// The guest physical address of a page: a multiple of 4096.
    fn gpa(&self, page: &Page) -> u64;
}

// SAFETY: the reference answers as what it refers to.
unsafe impl<M: Memory + ?Sized> Memory for &M {
    fn gpa(&self, page: &Page) -> u64 {
        (**self).gpa(page)
    }
}

/// Guest physical memory that is mapped one to one, or not mapped at all: address and guest physical address are the
/// same. What firmware, unikernels and kernels before paging have.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdentityMapped(());

impl IdentityMapped {
    /// Vouches for the identity map.
    ///
    /// # Safety
    ///
    /// Every [`Page`] given to this crate is at the guest physical address that equals its address.
    #[must_use]
    pub const unsafe fn new() -> Self {
        Self(())
    }
}

// SAFETY: who made the value has vouched for it.
unsafe impl Memory for IdentityMapped {
    fn gpa(&self, page: &Page) -> u64 {
        page as *const Page as u64
    }
}

/// Memory of a model hypervisor in the same process: pages that stand, one after the other, at a guest physical address
/// of their own.
#[derive(Clone, Copy)]
pub struct Pages {
    base: u64,
    pages: &'static [Page],
}

impl Pages {
    /// These pages, from guest physical address `base` on, a multiple of 4096. The model reaches them by
    /// [`all`](Self::all).
    #[must_use]
    pub const fn new(base: u64, pages: &'static [Page]) -> Self {
        Self { base, pages }
    }

    /// The pages, from the first on.
    #[must_use]
    pub fn all(&self) -> &'static [Page] {
        self.pages
    }
}

impl core::fmt::Debug for Pages {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} pages from {:#x} on", self.pages.len(), self.base)
    }
}

// SAFETY: there is no hypervisor, only a model that writes through the same references. The address of a page that is not
// one of these is one that no page has.
unsafe impl Memory for Pages {
    fn gpa(&self, page: &Page) -> u64 {
        let offset = (page as *const Page as usize).wrapping_sub(self.pages.as_ptr() as usize);
        if offset < size_of_val(self.pages) { self.base + offset as u64 } else { hv_tlfs::page::MASK }
    }
}

/// 4096 bytes at a multiple of 4096, writable by the guest and by the hypervisor at the same time.
///
/// As a static it is an array of zeros; memory from an allocator becomes one by [`Page::at`].
#[doc(alias = "hv_alloc_hyperv_page")]
#[doc(alias = "hv_alloc_hyperv_zeroed_page")]
#[repr(C, align(4096))]
pub struct Page([AtomicU64; SIZE / 8]);

const _: () = assert!(size_of::<Page>() == SIZE && align_of::<Page>() == SIZE);

impl core::fmt::Debug for Page {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // Not its 4096 bytes, which may change meanwhile.
        write!(f, "Page({:p})", self)
    }
}

impl Page {
    /// A page of zeros.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "4 KiB belong in a static, not on the stack")]
    pub const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; SIZE / 8])
    }

    /// The page at this address.
    ///
    /// # Safety
    ///
    /// `page` is a multiple of 4096; the 4096 bytes there are initialized and writable, live for `'a`, and are meanwhile
    /// reached in no other way.
    #[must_use]
    pub const unsafe fn at<'a>(page: NonNull<u8>) -> &'a Self {
        // SAFETY: aligned, initialized, writable and unaliased by the caller's word; any bytes are a valid `Page`.
        unsafe { page.cast::<Self>().as_ref() }
    }

    /// The page as words.
    #[must_use]
    pub fn words(&self) -> &[AtomicU64; SIZE / 8] {
        &self.0
    }

    /// The page as halves of words: half 2n is the lower one of word n.
    ///
    /// Threads of one program must not access the same bytes as words and as halves at the same time (see
    /// [`core::sync::atomic`] on differently-sized accesses). A model hypervisor in the program accesses each field as
    /// wide as the interface defines it.
    #[must_use]
    pub fn halves(&self) -> &[AtomicU32; SIZE / 4] {
        // SAFETY: as in `slots`. Two halves make a word, in this order, on a little-endian machine, which Hyper-V's are.
        unsafe { NonNull::from(self).cast().as_ref() }
    }

    /// Sets every byte to zero.
    pub fn clear(&self) {
        for word in &self.0 {
            word.store(0, Ordering::Relaxed);
        }
    }

    /// Copies `bytes` to `offset`, where they fit; else to nowhere. Bytes that share a word with the last one become
    /// zero. `offset` is a multiple of 8.
    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) {
        let Some(words) = self.0.get(offset / 8..) else { return };
        if bytes.len() > words.len() * 8 {
            return;
        }
        for (word, chunk) in words.iter().zip(bytes.chunks(8)) {
            let mut value = [0; 8];
            for (byte, from) in value.iter_mut().zip(chunk) {
                *byte = *from;
            }
            word.store(u64::from_ne_bytes(value), Ordering::Relaxed);
        }
    }

    /// Fills `bytes` from `offset`, each word read once; bytes beyond the page stay as they are. `offset` is a multiple
    /// of 8.
    pub(crate) fn read(&self, offset: usize, bytes: &mut [u8]) {
        let Some(words) = self.0.get(offset / 8..) else { return };
        for (word, chunk) in words.iter().zip(bytes.chunks_mut(8)) {
            let value = word.load(Ordering::Relaxed).to_ne_bytes();
            for (byte, from) in chunk.iter_mut().zip(value) {
                *byte = from;
            }
        }
    }

    /// The page as the message page: one slot per SINT.
    #[inline]
    pub(crate) fn slots(&self) -> &[Slot; SINT_COUNT] {
        const { assert!(size_of::<[Slot; SINT_COUNT]>() == SIZE && align_of::<Slot>() <= SIZE) };
        // SAFETY: both types are `repr(C)`, 4096 bytes, made of atomics alone, and valid whatever the bytes; a `Page` is
        // aligned for either. Shared atomics may be reached through both at once.
        unsafe { NonNull::from(self).cast().as_ref() }
    }

    /// The page as the event flags page: 2048 flags per SINT.
    #[inline]
    pub(crate) fn flags(&self) -> &[Flags; SINT_COUNT] {
        const { assert!(size_of::<[Flags; SINT_COUNT]>() == SIZE && align_of::<Flags>() <= SIZE) };
        // SAFETY: as in `slots`.
        unsafe { NonNull::from(self).cast().as_ref() }
    }

    /// The page as the reference TSC page.
    #[inline]
    pub(crate) fn tsc(&self) -> &TscPage {
        const { assert!(size_of::<TscPage>() <= SIZE && align_of::<TscPage>() <= SIZE) };
        // SAFETY: as in `slots`, for the page's first 24 bytes.
        unsafe { NonNull::from(self).cast().as_ref() }
    }
}

/// A page lent to the hypervisor for the length of a call: where the parameters of a memory-based hypercall go.
///
/// One per CPU is usual; there can be one for each context that makes such calls, since a call needs it exclusively.
#[doc(alias = "hyperv_pcpu_input_arg")]
#[doc(alias = "hyperv_pcpu_output_arg")]
pub struct CallPage<'a> {
    page: &'a Page,
    gpa: u64,
}

impl core::fmt::Debug for CallPage<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "CallPage({:#x})", self.gpa)
    }
}

impl<'a> CallPage<'a> {
    /// Sets this page aside for parameters. Nothing else may use it meanwhile: two calls at a time would mix up each
    /// other's parameters.
    #[must_use]
    pub fn new(page: &'a Page, memory: &impl Memory) -> Self {
        let gpa = memory.gpa(page);
        Self { page, gpa }
    }

    /// The page.
    pub(crate) fn page(&mut self) -> &Page {
        self.page
    }

    /// The guest physical address `offset` bytes into the page.
    pub(crate) fn gpa_at(&self, offset: usize) -> u64 {
        self.gpa + offset as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_in_and_come_out() {
        let page = Page::new();
        page.write(16, b"eleven byte");
        let mut bytes = [0xff; 16];
        page.read(16, &mut bytes);
        assert_eq!(&bytes, b"eleven byte\0\0\0\0\0");
    }

    #[test]
    fn what_does_not_fit_is_not_written() {
        let page = Page::new();
        page.write(SIZE - 8, &[1; 9]);
        page.write(SIZE, &[1; 1]);
        page.write(usize::MAX - 7, &[1; 1]);
        assert!(page.words().iter().all(|word| word.load(Ordering::Relaxed) == 0));
        let mut bytes = [7; 16];
        page.read(SIZE - 8, &mut bytes);
        assert_eq!(bytes, [0, 0, 0, 0, 0, 0, 0, 0, 7, 7, 7, 7, 7, 7, 7, 7]);
    }

    #[test]
    fn the_views_are_where_the_tlfs_has_them() {
        let page = Page::new();
        let base = page.words().as_ptr() as usize;
        assert_eq!(&raw const page.slots()[2] as usize - base, 512);
        assert_eq!(&raw const page.flags()[15] as usize - base, 15 * 256);
        assert_eq!(page.tsc() as *const TscPage as usize, base);
    }
}
