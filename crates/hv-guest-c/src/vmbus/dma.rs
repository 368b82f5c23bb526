//! Memory that the host may access: from the kernel's own allocator, or lent for a request.
#![expect(unsafe_code, reason = "memory of the kernel in C")]

use core::ffi::c_void;
use core::ptr::NonNull;

use hv_guest::page::{Memory, Page};
use hv_vmbus_client::{Buffer, Dma, Error, PageRun};

use super::bus::Shared;
use super::error::{Code, HV_E_ARGUMENT};
use crate::os::physical;

/// The kernel's memory, as its callbacks give it.
#[derive(Clone, Copy)]
pub(super) struct KernelDma {
    shared: &'static Shared,
    /// Pages that the kernel has lent for one request, which are not the allocator's.
    lent: Option<NonNull<[Page]>>,
}

impl KernelDma {
    /// Returns the kernel's allocator.
    pub(super) fn new(shared: &'static Shared) -> Self {
        Self { shared, lent: None }
    }

    /// Makes a buffer of memory that the kernel lends until the buffer is dropped.
    ///
    /// # Errors
    ///
    /// [`HV_E_ARGUMENT`] if the memory does not begin at a multiple of 4096, or there is none.
    ///
    /// # Safety
    ///
    /// The pages of 4096 bytes that the memory lies in are valid for reads and writes, and nothing in the kernel
    /// accesses them until the buffer is dropped.
    pub(super) unsafe fn lend(
        shared: &'static Shared,
        memory: *mut c_void,
        len: u32,
    ) -> Result<Buffer<Self>, Code> {
        let first = NonNull::new(memory.cast::<Page>()).filter(|page| page.is_aligned() && len > 0);
        let first = first.ok_or(HV_E_ARGUMENT)?;
        let count = (len as usize).div_ceil(size_of::<Page>());
        if memory.addr().checked_add(count * size_of::<Page>()).is_none() {
            return Err(HV_E_ARGUMENT.into());
        }
        let lent = Some(NonNull::slice_from_raw_parts(first, count));
        Ok(Buffer { pages: PageRun::new(&Self { shared, lent }, count)?, offset: 0, len })
    }
}

// SAFETY: `virt_to_phys` of the structure that was given to `hv_guest_init` returns the guest physical address of every
// page that the kernel passes to this library, as its caller vouches; pages of the kernel's allocator and pages that it
// lends are that, and stay in place until they are freed.
unsafe impl Memory for KernelDma {
    fn gpa(&self, page: &Page) -> u64 {
        physical(page)
    }
}

// SAFETY: pages come from the callback `allocate`, which gives pages that are aligned (checked here), valid for reads
// and writes, neighbours, and used by nothing else until `free`, as the caller of `hv_bus_init` vouches; or they are
// those of one buffer that the kernel lends, for which the caller of `lend` vouches the same until that buffer, which
// is the only one to get them, is dropped. Any bytes are a valid `Page`.
unsafe impl Dma for KernelDma {
    fn allocate(&self, count: usize) -> Option<NonNull<[Page]>> {
        if let Some(lent) = self.lent {
            return Some(lent).filter(|lent| lent.len() == count);
        }
        let config = &self.shared.config;
        let allocate = config.allocate?;
        // SAFETY: the caller of `hv_bus_init` vouches that the callback may be called with the context, and any number
        // of pages, from every call that allocates.
        let memory = unsafe { allocate(config.context, count) };
        let first = NonNull::new(memory.cast::<Page>()).filter(|page| page.is_aligned())?;
        let pages = NonNull::slice_from_raw_parts(first, count);
        // SAFETY: the callback has given `count` pages, which are aligned, as was just seen, and valid for reads and
        // writes and unused by anything else, as the caller of `hv_bus_init` vouches; any bytes are valid.
        unsafe { pages.as_ref() }.iter().for_each(Page::clear);
        Some(pages)
    }

    unsafe fn free(&self, pages: NonNull<[Page]>) {
        let config = &self.shared.config;
        if let (None, Some(free)) = (self.lent, config.free) {
            // SAFETY: the pages are those that the callback `allocate` gave, whole, and are not used again, by this
            // function's contract; the caller of `hv_bus_init` vouches that `free` takes such pages back.
            unsafe { free(config.context, pages.as_ptr().cast(), pages.len()) };
        }
    }

    fn share(&self, pages: &[Page]) -> Result<(), Error> {
        let config = &self.shared.config;
        let Some(share) = config.share else { return Ok(()) };
        let memory = pages.as_ptr().cast_mut().cast();
        // SAFETY: the caller of `hv_bus_init` vouches that the callback may be called with the context and with pages
        // that are allocated or lent, which these are: they are a run's.
        match unsafe { share(config.context, memory, pages.len()) } {
            0 => Ok(()),
            _ => Err(Error::Memory),
        }
    }

    fn unshare(&self, pages: &[Page]) {
        let config = &self.shared.config;
        if let Some(unshare) = config.unshare {
            let memory = pages.as_ptr().cast_mut().cast();
            // SAFETY: the caller of `hv_bus_init` vouches that the callback may be called with the context and with
            // pages that were shared, which these are: they were `share`'s.
            unsafe { unshare(config.context, memory, pages.len()) };
        }
    }
}
