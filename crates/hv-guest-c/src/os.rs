//! The global state: what the kernel provided, and what the hypervisor reported.
#![expect(unsafe_code, reason = "symbols and pointers of C")]

use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use hv_guest::crash::CrashReporter;
use hv_guest::detect;
use hv_guest::page::{Memory, Page};
use hv_guest::registers::{self, Register};
use hv_guest::teardown;
use hv_tlfs::guest_id::GuestOsId;
use hv_tlfs::status::{HvError, HvStatus};
use hv_tlfs::vp::VP_INDEX_UNKNOWN;

use crate::machine::Either;
use crate::{hv_guest_os, time};

/// What the hypervisor reported, under the patch's names. Bit numbers are ARM64's: the patch's constants for the second
/// and third word are x64's and do not apply.
#[repr(C)]
#[derive(Debug)]
pub struct ms_hyperv_info {
    features: AtomicU32,
    misc_features: AtomicU32,
    hints: AtomicU32,
    max_vp_index: AtomicU32,
    max_lp_index: AtomicU32,
}

/// What the hypervisor reported.
/// cbindgen:ignore
#[unsafe(no_mangle)]
pub static ms_hyperv: ms_hyperv_info = ms_hyperv_info {
    features: AtomicU32::new(0),
    misc_features: AtomicU32::new(0),
    hints: AtomicU32::new(0),
    max_vp_index: AtomicU32::new(0),
    max_lp_index: AtomicU32::new(0),
};

/// The map from CPU to VP, provided by the kernel.
/// cbindgen:ignore
#[unsafe(no_mangle)]
pub static hv_vp_index: AtomicPtr<u32> = AtomicPtr::new(null_mut());

/// The highest VP index since `hv_guest_init`.
/// cbindgen:ignore
#[unsafe(no_mangle)]
pub static hv_max_vp_index: AtomicU32 = AtomicU32::new(0);

static OS: AtomicPtr<hv_guest_os> = AtomicPtr::new(null_mut());
/// 2: `hvc #1`; else `hvc #0`.
static CONVENTION: AtomicU32 = AtomicU32::new(0);
static INITIALIZED: AtomicU32 = AtomicU32::new(0);
/// The only report during the lifetime of the kernel: it outlives `hyperv_cleanup`.
pub(crate) static CRASH: CrashReporter = CrashReporter::new();

const HVC1: u32 = 2;

/// Converts the result for C: 0 is success.
#[inline]
pub(crate) fn status(result: Result<(), HvError>) -> u64 {
    result.map_or_else(|error| u64::from(error.status().0), |()| 0)
}

/// Returns the conduit in use.
#[inline]
pub(crate) fn conduit() -> Either {
    if CONVENTION.load(Ordering::Relaxed) == HVC1 { Either::Hvc1 } else { Either::Smccc }
}

/// Returns what the kernel provided; `None` before `hv_guest_init`.
pub(crate) fn os() -> Option<&'static hv_guest_os> {
    let os = NonNull::new(OS.load(Ordering::Acquire))?;
    // SAFETY: the pointer was stored by `hv_guest_init`, whose caller vouches that the structure is valid and unchanged
    // from then on.
    Some(unsafe { os.as_ref() })
}

/// The kernel's memory.
pub(crate) struct KernelMemory;

/// Returns the guest physical address of any object, or 0, which is not a kernel page, if the kernel provides no
/// translation.
pub(crate) fn physical<T>(address: *const T) -> u64 {
    match os().and_then(|os| os.virt_to_phys) {
        // SAFETY: `os` is the structure given to `hv_guest_init`, whose caller vouches for its functions;
        // `virt_to_phys` takes any address that the kernel passed to this library.
        Some(virt_to_phys) if !address.is_null() => unsafe { virt_to_phys(address.cast()) },
        _ => 0,
    }
}

// SAFETY: `virt_to_phys` returns the guest physical address of a page, as the caller of `hv_guest_init` vouches.
unsafe impl Memory for KernelMemory {
    fn gpa(&self, page: &Page) -> u64 {
        physical(page)
    }
}

/// Detects Hyper-V, identifies the guest with its id (`generate_guest_id`), and reads features, hints and limits.
/// Called once, on the boot CPU, and again after `hyperv_cleanup`. Returns 0, or the hypervisor's status;
/// `HV_STATUS_NOT_FOUND` (0x10) if this is not Hyper-V.
///
/// # Safety
///
/// `os` points to a structure that is valid and unchanged from now on, with functions that do what their fields say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_guest_init(os: *const hv_guest_os, guest_id: u64) -> u64 {
    // SAFETY: `os` is null or points to a valid structure, by this function's contract.
    let Some(given) = (unsafe { os.as_ref() }) else { return u64::from(HvStatus::INVALID_PARAMETER.0) };
    forget();
    OS.store(os.cast_mut(), Ordering::Release);
    let found = match given.convention {
        1 => Either::Smccc,
        HVC1 => Either::Hvc1,
        _ => Either::probe(),
    };
    CONVENTION.store(if found == Either::Hvc1 { HVC1 } else { 1 }, Ordering::Relaxed);
    let Some(hv) = detect::vendor_uid(conduit()) else { return u64::from(HvStatus::NOT_FOUND.0) };
    let hv = match hv.identify(GuestOsId(guest_id)) {
        Ok(hv) => hv,
        Err(detect::IdentifyError::ZeroId) => return u64::from(HvStatus::INVALID_PARAMETER.0),
        Err(detect::IdentifyError::Hypervisor(error)) => return u64::from(error.status().0),
        Err(_) => return u64::from(HvStatus::OPERATION_FAILED.0),
    };
    let told = hv.information();
    ms_hyperv.features.store(told.features.privileges.bits() as u32, Ordering::Relaxed);
    ms_hyperv.misc_features.store(told.features.c.bits(), Ordering::Relaxed);
    ms_hyperv.hints.store(told.enlightenments.hints.bits(), Ordering::Relaxed);
    ms_hyperv.max_vp_index.store(told.limits.max_virtual_processors, Ordering::Relaxed);
    ms_hyperv.max_lp_index.store(told.limits.max_logical_processors, Ordering::Relaxed);
    empty_map();
    hv_vp_index.store(given.vp_index, Ordering::Release);
    INITIALIZED.store(1, Ordering::Release);
    0
}

/// Resets what the hypervisor reported and what was lent to it. What the kernel provided is kept: it is the kernel's.
fn forget() {
    INITIALIZED.store(0, Ordering::Release);
    time::forget();
    let told = &ms_hyperv;
    for word in [&told.features, &told.misc_features, &told.hints, &told.max_vp_index, &told.max_lp_index] {
        word.store(0, Ordering::Relaxed);
    }
    hv_max_vp_index.store(0, Ordering::Relaxed);
    empty_map();
}

/// Removes all CPUs from the map.
fn empty_map() {
    for cpu in 0..os().map_or(0, |os| os.cpus) {
        if let Some(entry) = entry(cpu) {
            entry.store(VP_INDEX_UNKNOWN, Ordering::Release);
        }
    }
}

/// Returns a CPU's entry in the map.
fn entry(cpu: u32) -> Option<&'static AtomicU32> {
    let os = os()?;
    if cpu >= os.cpus || os.vp_index.is_null() {
        return None;
    }
    // SAFETY: the kernel provided an array of `cpus` entries (`hv_guest_init`), and `cpu` is below that.
    let entry = unsafe { os.vp_index.add(cpu as usize) };
    // SAFETY: the array is valid from `hv_guest_init` on; it is accessed through atomics here and one entry at a time
    // from C, as a relaxed atomic access would.
    Some(unsafe { AtomicU32::from_ptr(entry) })
}

/// Returns the number of the calling CPU.
fn this_cpu() -> Option<u32> {
    // SAFETY: `os` is the structure given to `hv_guest_init`, whose caller vouches for its functions; `cpu_number` may
    // be called on any CPU.
    os().and_then(|os| os.cpu_number).map(|cpu_number| unsafe { cpu_number() })
}

/// Records the calling CPU in the map, with the index of its VP. Called on each CPU as it comes up. Returns 0 or the
/// hypervisor's status.
#[unsafe(no_mangle)]
pub extern "C" fn hv_cpu_init() -> u64 {
    let result = registers::get(&conduit(), Register::VP_INDEX);
    let index = match result {
        Ok(index) => index.0,
        Err(error) => return u64::from(error.status().0),
    };
    let Some(entry) = this_cpu().and_then(entry) else { return u64::from(HvStatus::INVALID_PARAMETER.0) };
    entry.store(index, Ordering::Release);
    hv_max_vp_index.fetch_max(index, Ordering::Relaxed);
    0
}

/// Returns the VP index of a CPU; `VP_INVAL` if it has not come up.
#[unsafe(no_mangle)]
pub extern "C" fn hv_cpu_number_to_vp_number(cpu_number: i32) -> i32 {
    let index = u32::try_from(cpu_number).ok().and_then(entry).map(|entry| entry.load(Ordering::Acquire));
    index.unwrap_or(VP_INDEX_UNKNOWN) as i32
}

/// Returns true if `hv_guest_init` has found Hyper-V.
#[unsafe(no_mangle)]
pub extern "C" fn hv_is_hyperv_initialized() -> bool {
    INITIALIZED.load(Ordering::Acquire) != 0
}

/// Resets the calling VP: timers, SINTs, pages, SynIC; removes the CPU from the map. Called on each CPU, before
/// `hyperv_cleanup` on the last one. Returns 0 or the first error, after all steps have been tried.
#[unsafe(no_mangle)]
pub extern "C" fn hyperv_cleanup_cpu() -> u64 {
    let result = teardown::vp(&conduit());
    if let Some(entry) = this_cpu().and_then(entry) {
        entry.store(VP_INDEX_UNKNOWN, Ordering::Release);
    }
    status(result)
}

/// Does the same for the last CPU, and then resets the partition: the reference TSC page, which is filled with zeros,
/// and the guest OS id. Afterwards the clock reads the counter register, which the hypervisor rejects until there is a
/// guest OS id again; `ms_hyperv` is zero; the map is empty. Returns 0 or the first error, after all steps have been
/// tried.
#[unsafe(no_mangle)]
pub extern "C" fn hyperv_cleanup() -> u64 {
    // Done first, so that no other CPU starts reading the page once it is the kernel's again.
    let page = time::forget();
    let vp = teardown::vp(&conduit());
    let partition = teardown::partition(&conduit());
    if let (Ok(()), Some(page)) = (partition, page) {
        page.clear();
    }
    forget();
    status(vp.and(partition))
}

/// Composes the id of a guest that is Linux or follows its rules: distribution's bits 55:48, kernel version,
/// distribution's bits 15:0.
#[unsafe(no_mangle)]
pub extern "C" fn generate_guest_id(d_info1: u64, kernel_version: u64, d_info2: u64) -> u64 {
    let id = GuestOsId::linux(kernel_version as u32);
    id.with_os_id(d_info1 as u8).with_build(d_info2 as u16).bits()
}
