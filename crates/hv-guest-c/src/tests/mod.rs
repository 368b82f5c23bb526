//! Tests of the library's state over a kernel's lifetime, against the model in this process.
#![expect(unsafe_code, reason = "what a kernel in C calls")]

mod devices;
#[path = "../../../hv-drivers/tests/drivers/host.rs"]
#[expect(dead_code, reason = "the drivers' own tests use more of it")]
mod host;
mod misuse;
#[path = "../../../hv-drivers/tests/drivers/ram.rs"]
#[expect(dead_code, reason = "the drivers' own tests use more of it")]
mod ram;
mod vmbus;

use core::ffi::c_void;
use core::ptr::null_mut;
use core::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hv_guest::page::{Memory, Page};
use hv_testbed::{Config, Testbed};
use hv_tlfs::register::RegisterName;
use hv_tlfs::synic::MessageType;
use hv_tlfs::time::ReferenceTime;

use crate::machine::{self, be, current};
use crate::*;

/// Serializes the tests: the library has only one state.
static ONE: Mutex<()> = Mutex::new(());

const VPS: usize = 2;
const VP_INVAL: i32 = -1;
const SINT: u8 = 2;

unsafe extern "C" fn virt_to_phys(address: *const c_void) -> u64 {
    if let Some(gpa) = machine::vmbus().and_then(|host| host.gpa(address.addr())) {
        return gpa;
    }
    let offset = address.addr() % 4096;
    // SAFETY: the tests pass in addresses of pages, and of objects in them.
    let page = unsafe { &*address.wrapping_byte_sub(offset).cast::<Page>() };
    current().0.memory().gpa(page) + offset as u64
}

/// Returns a page's address for the hypervisor.
fn virt_to_phys_of(page: &Page) -> u64 {
    // SAFETY: the address of a page.
    unsafe { virt_to_phys(core::ptr::from_ref(page).cast()) }
}

unsafe extern "C" fn cpu_number() -> u32 {
    current().1 as u32
}

/// A kernel on its own partition, after `hv_guest_init`.
struct Kernel {
    bed: &'static Testbed,
    os: &'static hv_guest_os,
    tsc: &'static Page,
    _one: MutexGuard<'static, ()>,
}

impl Kernel {
    fn boot() -> Self {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let bed = Testbed::new(Config::new(24_000_000), VPS);
        bed.advance(ReferenceTime(123_456));
        be(bed, 0);
        let map = std::vec![0_u32; VPS].leak();
        let os = std::boxed::Box::leak(std::boxed::Box::new(hv_guest_os {
            virt_to_phys: Some(virt_to_phys),
            cpu_number: Some(cpu_number),
            setup_irq: None,
            remove_irq: None,
            enable_irq: None,
            disable_irq: None,
            vmbus_intid: 18,
            stimer0_intid: 17,
            vp_index: map.as_mut_ptr(),
            cpus: VPS as u32,
            convention: 0,
        }));
        let kernel = Self { bed, os, tsc: bed.page(), _one: one };
        assert_eq!(kernel.init(), 0);
        kernel
    }

    fn init(&self) -> u64 {
        // SAFETY: the structure is leaked, so it stays valid.
        unsafe { hv_guest_init(self.os, generate_guest_id(0x42, 0x1_0000, 7)) }
    }

    fn tsc(&self) -> *mut ms_hyperv_tsc_page {
        core::ptr::from_ref(self.tsc).cast_mut().cast()
    }

    fn start_clock(&self) {
        // SAFETY: a page of the testbed, which nothing else uses.
        assert_eq!(unsafe { hv_setup_tsc_page(self.tsc()) }, 0);
    }

    /// Returns the counter and the time read from the page, if it is valid.
    fn by_page(&self) -> Option<u64> {
        let mut counter = 0;
        // SAFETY: a page; a word that can be written.
        let time = unsafe { hv_read_tsc_page_tsc(self.tsc(), &mut counter) };
        (time != u64::MAX).then_some(time)
    }
}

/// The page as another kernel might use it: a sequence that looks valid, and a scale that is not.
const SOMETHING_ELSE: [u8; 24] = [0x7f; 24];

#[test]
fn after_cleanup_the_clock_never_reads_the_page_that_was_given_back() {
    let kernel = Kernel::boot();
    kernel.start_clock();
    let hypercalls = kernel.bed.hypercalls();
    assert_eq!(hv_read_reference_counter(), kernel.bed.reference_time().ticks());
    assert_eq!(kernel.bed.hypercalls(), hypercalls, "read from the page");
    assert_eq!(hyperv_cleanup(), 0);
    assert_eq!(kernel.by_page(), None, "a reader that kept the page's address finds it invalid");
    kernel.tsc.write(0, &SOMETHING_ELSE);
    let register = hv_get_vpreg(RegisterName::TIME_REF_COUNT.0);
    assert_eq!(hv_read_reference_counter(), register, "the register's value, possibly 0");
    // The next kernel that uses the library.
    assert_eq!(kernel.init(), 0);
    kernel.bed.advance(ReferenceTime(1_000_000));
    assert_eq!(hv_read_reference_counter(), kernel.bed.reference_time().ticks(), "read from the register");
    kernel.tsc.clear();
    kernel.start_clock();
    assert_eq!(kernel.by_page(), Some(kernel.bed.reference_time().ticks()));
}

#[test]
fn a_second_cleanup_leaves_the_page_to_the_kernel() {
    let kernel = Kernel::boot();
    kernel.start_clock();
    assert_eq!(hyperv_cleanup(), 0);
    kernel.tsc.write(0, &SOMETHING_ELSE);
    // Whatever the hypervisor says of a partition without a guest OS id.
    let _ = (hyperv_cleanup(), hyperv_cleanup_cpu(), hyperv_cleanup());
    let mut bytes = [0; 24];
    kernel.tsc.read(0, &mut bytes);
    assert_eq!(bytes, SOMETHING_ELSE);
    assert_eq!(hv_read_reference_counter(), hv_get_vpreg(RegisterName::TIME_REF_COUNT.0));
}

#[test]
fn a_second_init_forgets_the_page_too() {
    let kernel = Kernel::boot();
    kernel.start_clock();
    assert_eq!(kernel.init(), 0);
    kernel.tsc.write(0, &SOMETHING_ELSE);
    assert_eq!(hv_read_reference_counter(), kernel.bed.reference_time().ticks());
}

#[test]
fn after_cleanup_nothing_is_known_of_the_partition() {
    let kernel = Kernel::boot();
    for vp in 0..VPS {
        be(kernel.bed, vp);
        assert_eq!(hv_cpu_init(), 0);
    }
    assert_eq!((hv_cpu_number_to_vp_number(0), hv_cpu_number_to_vp_number(1)), (0, 1));
    assert_eq!(hv_max_vp_index.load(Ordering::Relaxed), 1);
    assert!(!std::format!("{ms_hyperv:?}").contains("features: 0,"));
    let vp_numbers = || [0, 1].map(|cpu| hv_cpu_number_to_vp_number(cpu));
    // VP 1 was stopped by a crash; VP 0 cleans up.
    be(kernel.bed, 0);
    assert_eq!(hyperv_cleanup(), 0);
    assert!(!hv_is_hyperv_initialized());
    assert_eq!(vp_numbers(), [VP_INVAL; 2]);
    assert_eq!(hv_max_vp_index.load(Ordering::Relaxed), 0);
    let nothing = "features: 0, misc_features: 0, hints: 0, max_vp_index: 0, max_lp_index: 0";
    assert!(std::format!("{ms_hyperv:?}").contains(nothing), "{ms_hyperv:?}");
    assert_eq!(kernel.init(), 0);
    assert!(hv_is_hyperv_initialized());
    assert_eq!(vp_numbers(), [VP_INVAL; 2]);
}

#[test]
fn after_cleanup_no_message_is_written_to_the_page_that_was_lent() {
    let kernel = Kernel::boot();
    let (messages, events) = (kernel.bed.page(), kernel.bed.page());
    let at = |page: &Page| kernel.bed.memory().gpa(page);
    let set = |register: RegisterName, value| {
        // SAFETY: pages of the testbed, which nothing else uses.
        assert_eq!(unsafe { hv_set_vpreg(register.0, value) }, 0, "{register:?}");
    };
    set(RegisterName::SIMP, at(messages) | 1);
    set(RegisterName::SIEFP, at(events) | 1);
    set(RegisterName::sint(SINT), 18);
    set(RegisterName::SCONTROL, 1);
    kernel.bed.post(0, SINT, MessageType(1), b"before").unwrap();
    let slot = core::ptr::from_ref(messages).cast_mut().cast::<u8>().wrapping_add(256 * usize::from(SINT));
    // SAFETY: a slot of the page that is lent as the message page.
    assert_eq!(unsafe { vmbus_signal_eom(slot.cast(), 1) }, 0);
    assert_eq!(messages.load_u32(256 * usize::from(SINT)), Some(0));
    assert_eq!(hyperv_cleanup(), 0);
    messages.clear();
    // The queue is the host's; whether the message is delivered or not, the page is the guest's again.
    let _ = kernel.bed.post(0, SINT, MessageType(1), b"afterwards");
    let mut bytes = [1; 4096];
    messages.read(0, &mut bytes);
    assert_eq!(bytes, [0; 4096]);
    // SAFETY: the values are invalid, so nothing is read or written.
    assert_eq!(unsafe { vmbus_signal_eom(null_mut(), 1) }, 0);
}
