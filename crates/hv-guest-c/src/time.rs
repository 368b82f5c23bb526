//! The reference clock.
#![expect(unsafe_code, reason = "symbols and pointers of C")]

use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicPtr, Ordering};

use hv_guest::clock;
use hv_guest::conduit::Counter;
use hv_guest::page::{Memory, Page};
use hv_guest::registers::{self, Register};
use hv_tlfs::page;
use hv_tlfs::status::HvStatus;

use crate::machine::Cntvct;
use crate::ms_hyperv_tsc_page;
use crate::os::{KernelMemory, conduit, status};

/// The reference TSC page, from `hv_setup_tsc_page` to `hyperv_cleanup`.
static PAGE: AtomicPtr<u8> = AtomicPtr::new(null_mut());

/// Switches the clock to the register, and returns its page, if it had one. The page is still lent to the hypervisor.
pub(crate) fn forget() -> Option<&'static Page> {
    let page = NonNull::new(PAGE.swap(null_mut(), Ordering::AcqRel))?;
    // SAFETY: the pointer was stored by `hv_setup_tsc_page`, whose caller vouches that the page is valid and otherwise
    // unused until `hyperv_cleanup` returns.
    Some(unsafe { Page::at(page) })
}

/// Reads the counter, CNTVCT_EL0, not ahead of program order.
#[unsafe(no_mangle)]
pub extern "C" fn hv_read_hwclock() -> u64 {
    Cntvct.counter()
}

/// Reads the reference time from a reference TSC page, in 100 ns, and stores the counter that it was computed from in
/// `cur_tsc`. Returns UINT64_MAX, without changing `cur_tsc`, if the page is invalid or being updated: then read the
/// register.
///
/// # Safety
///
/// `tsc_pg` is a reference TSC page; `cur_tsc` is valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_read_tsc_page_tsc(tsc_pg: *const ms_hyperv_tsc_page, cur_tsc: *mut u64) -> u64 {
    let Some(page) = NonNull::new(tsc_pg.cast_mut()) else { return u64::MAX };
    // SAFETY: `tsc_pg` is a reference TSC page, by this function's contract: 4096 aligned bytes that the hypervisor
    // writes and this kernel only reads.
    let page = unsafe { Page::at(page.cast()) };
    match clock::read_page(page, &Cntvct) {
        Some((counter, time)) => {
            // SAFETY: `cur_tsc` is valid for writes, by this function's contract.
            unsafe { cur_tsc.write(counter) };
            time.ticks()
        }
        None => u64::MAX,
    }
}

/// Lends a page to the hypervisor as the partition's reference TSC page. Returns 0 or the hypervisor's status.
///
/// # Safety
///
/// `tsc_pg` is aligned to 4096, and the kernel does not use the page until `hyperv_cleanup` and all calls to
/// `hv_read_reference_counter` that began before it have returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_setup_tsc_page(tsc_pg: *mut ms_hyperv_tsc_page) -> u64 {
    let Some(page) = NonNull::new(tsc_pg.cast::<u8>()).filter(|page| page.addr().get() % page::SIZE == 0)
    else {
        return u64::from(HvStatus::INVALID_PARAMETER.0);
    };
    // SAFETY: the page is aligned (checked above), valid and otherwise unused, by this function's contract.
    let gpa = KernelMemory.gpa(unsafe { Page::at(page) });
    let result = registers::get(&conduit(), Register::REFERENCE_TSC).and_then(|old| {
        let new = old.with_page_number(page::number(gpa)).with_enable(true);
        // SAFETY: the page is lent until `hyperv_cleanup`, by this function's contract.
        unsafe { registers::lend(&conduit(), Register::REFERENCE_TSC, new) }
    });
    if result.is_ok() {
        PAGE.store(page.as_ptr(), Ordering::Release);
    }
    status(result)
}

/// Returns the reference time in 100 ns: from the page of `hv_setup_tsc_page` while it is valid, else from the counter
/// register; 0 if the hypervisor rejects reading that.
#[unsafe(no_mangle)]
pub extern "C" fn hv_read_reference_counter() -> u64 {
    if let Some(page) = NonNull::new(PAGE.load(Ordering::Acquire)) {
        // SAFETY: the pointer was stored by `hv_setup_tsc_page`, whose caller vouches that the page is valid and
        // otherwise unused until this call returns.
        if let Some((_, time)) = clock::read_page(unsafe { Page::at(page) }, &Cntvct) {
            return time.ticks();
        }
    }
    registers::get(&conduit(), Register::TIME_REF_COUNT).map_or(0, |time| time.ticks())
}
