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

/// Sends the clock to the register, and returns the page that it had, if it had one. The page is still the hypervisor's.
pub(crate) fn forget() -> Option<&'static Page> {
    let page = NonNull::new(PAGE.swap(null_mut(), Ordering::AcqRel))?;
    // SAFETY: `hv_setup_tsc_page` stored it, whose caller promises that the page stays until `hyperv_cleanup` returns.
    Some(unsafe { Page::at(page) })
}

/// The counter, CNTVCT_EL0, not read ahead of time.
#[unsafe(no_mangle)]
pub extern "C" fn hv_read_hwclock() -> u64 {
    Cntvct.counter()
}

/// The reference time by a reference TSC page, in 100 ns; `cur_tsc` becomes the counter that it was made of. Returns
/// UINT64_MAX, and leaves `cur_tsc`, while the page is not valid or changes: then read the register.
///
/// # Safety
///
/// `tsc_pg` is a reference TSC page; `cur_tsc` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_read_tsc_page_tsc(tsc_pg: *const ms_hyperv_tsc_page, cur_tsc: *mut u64) -> u64 {
    let Some(page) = NonNull::new(tsc_pg.cast_mut()) else { return u64::MAX };
    // SAFETY: the caller's promise: a page of 4096 bytes, that the hypervisor writes and this kernel only reads.
    let page = unsafe { Page::at(page.cast()) };
    match clock::read_page(page, &Cntvct) {
        Some((counter, time)) => {
            // SAFETY: the caller's promise.
            unsafe { cur_tsc.write(counter) };
            time.ticks()
        }
        None => u64::MAX,
    }
}

/// Lends a page of zeros to the hypervisor as the partition's reference TSC page. Returns 0 or the hypervisor's status.
///
/// # Safety
///
/// `tsc_pg` is at a multiple of 4096, and stays the hypervisor's until `hyperv_cleanup` returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_setup_tsc_page(tsc_pg: *mut ms_hyperv_tsc_page) -> u64 {
    let Some(page) = NonNull::new(tsc_pg.cast::<u8>()).filter(|page| page.addr().get() % page::SIZE == 0)
    else {
        return u64::from(HvStatus::INVALID_PARAMETER.0);
    };
    // SAFETY: the caller's promise.
    let gpa = KernelMemory.gpa(unsafe { Page::at(page) });
    let result = registers::get(&conduit(), Register::REFERENCE_TSC).and_then(|old| {
        let new = old.with_page_number(page::number(gpa)).with_enable(true);
        // SAFETY: the page is lent until `hyperv_cleanup`, by the caller's promise.
        unsafe { registers::lend(&conduit(), Register::REFERENCE_TSC, new) }
    });
    if result.is_ok() {
        PAGE.store(page.as_ptr(), Ordering::Release);
    }
    status(result)
}

/// The reference time in 100 ns: by the page of `hv_setup_tsc_page` while it is valid, else by the counter register; 0 if
/// the hypervisor refuses that.
#[unsafe(no_mangle)]
pub extern "C" fn hv_read_reference_counter() -> u64 {
    if let Some(page) = NonNull::new(PAGE.load(Ordering::Acquire)) {
        // SAFETY: `hv_setup_tsc_page` stored it, whose caller promises that the page stays.
        if let Some((_, time)) = clock::read_page(unsafe { Page::at(page) }, &Cntvct) {
            return time.ticks();
        }
    }
    registers::get(&conduit(), Register::TIME_REF_COUNT).map_or(0, |time| time.ticks())
}
