//! The interrupts of VMBus and of synthetic timer 0, and the handlers for kexec and crash.
#![expect(unsafe_code, reason = "symbols and pointers of C")]

use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::os::os;
use crate::{hv_guest_os, pt_regs};

type Handler = Option<unsafe extern "C" fn()>;

fn setup(intid: impl Fn(&hv_guest_os) -> u32, handler: Handler) {
    if let Some((os, setup_irq)) = os().and_then(|os| Some((os, os.setup_irq?))) {
        // SAFETY: `os` is the structure given to `hv_guest_init`, whose caller vouches that its functions are what
        // their fields say; `setup_irq` takes any INTID of the structure, and the handler that the kernel passed in.
        unsafe { setup_irq(intid(os), handler) };
    }
}

fn call(which: impl Fn(&hv_guest_os) -> Option<unsafe extern "C" fn(u32)>, intid: Option<u32>) {
    if let Some((os, function)) = os().and_then(|os| Some((os, which(os)?))) {
        // SAFETY: `os` is the structure given to `hv_guest_init`, whose caller vouches that its functions are what
        // their fields say; these take any INTID of the structure.
        unsafe { function(intid.unwrap_or(os.vmbus_intid)) };
    }
}

/// Registers `handler` for the VMBus interrupt.
///
/// # Safety
///
/// `handler` may be called at any time until `hv_remove_vmbus_irq`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_setup_vmbus_irq(handler: Option<unsafe extern "C" fn()>) {
    setup(|os| os.vmbus_intid, handler);
}

/// Reverts `hv_setup_vmbus_irq`.
#[unsafe(no_mangle)]
pub extern "C" fn hv_remove_vmbus_irq() {
    call(|os| os.remove_irq, None);
}

/// Enables the VMBus interrupt on the calling CPU.
#[unsafe(no_mangle)]
pub extern "C" fn hv_enable_vmbus_irq() {
    call(|os| os.enable_irq, None);
}

/// Disables the VMBus interrupt on the calling CPU.
#[unsafe(no_mangle)]
pub extern "C" fn hv_disable_vmbus_irq() {
    call(|os| os.disable_irq, None);
}

/// Registers `handler` for the interrupt of synthetic timer 0 in direct mode. Stores its number in `irq` and `vector`.
/// Returns 0, or -1 before `hv_guest_init`.
///
/// # Safety
///
/// `irq` and `vector` are valid for writes. `handler` may be called at any time until `hv_remove_stimer0_irq`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_setup_stimer0_irq(
    irq: *mut i32,
    vector: *mut i32,
    handler: Option<unsafe extern "C" fn()>,
) -> i32 {
    let Some(os) = os() else { return -1 };
    setup(|os| os.stimer0_intid, handler);
    // SAFETY: `irq` is valid for writes, by this function's contract.
    unsafe { irq.write(os.stimer0_intid as i32) };
    // SAFETY: `vector` is valid for writes, by this function's contract.
    unsafe { vector.write(os.stimer0_intid as i32) };
    0
}

/// Reverts `hv_setup_stimer0_irq`.
///
/// # Safety
///
/// `irq` is the value stored by `hv_setup_stimer0_irq`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_remove_stimer0_irq(irq: i32) {
    call(|os| os.remove_irq, Some(irq as u32));
}

/// Enables the timer's interrupt on the calling CPU.
///
/// # Safety
///
/// `irq` is the value stored by `hv_setup_stimer0_irq`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_enable_stimer0_percpu_irq(irq: i32) {
    call(|os| os.enable_irq, Some(irq as u32));
}

/// Disables the timer's interrupt on the calling CPU.
///
/// # Safety
///
/// `irq` is the value stored by `hv_setup_stimer0_irq`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_disable_stimer0_percpu_irq(irq: i32) {
    call(|os| os.disable_irq, Some(irq as u32));
}

/// Null, or the function passed to `hv_setup_kexec_handler`.
static KEXEC: AtomicPtr<()> = AtomicPtr::new(null_mut());
/// Null, or the function passed to `hv_setup_crash_handler`.
static CRASH: AtomicPtr<()> = AtomicPtr::new(null_mut());

/// Registers `handler` to run when the kernel calls `hv_kexec`.
///
/// # Safety
///
/// `handler` may be called until it is removed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_setup_kexec_handler(handler: Option<unsafe extern "C" fn()>) {
    KEXEC.store(handler.map_or(null_mut(), |handler| handler as *mut ()), Ordering::Release);
}

/// Reverts `hv_setup_kexec_handler`.
#[unsafe(no_mangle)]
pub extern "C" fn hv_remove_kexec_handler() {
    KEXEC.store(null_mut(), Ordering::Release);
}

/// Runs the registered handler, if there is one. The kernel calls it before it starts another kernel.
#[unsafe(no_mangle)]
pub extern "C" fn hv_kexec() {
    let handler = KEXEC.load(Ordering::Acquire);
    if !handler.is_null() {
        // SAFETY: `KEXEC` holds null or a function pointer of this type (`hv_setup_kexec_handler`), and it is not null
        // here.
        let handler: unsafe extern "C" fn() = unsafe { core::mem::transmute(handler) };
        // SAFETY: the kernel registered the handler to be called here, by the contract of `hv_setup_kexec_handler`.
        unsafe { handler() };
    }
}

/// Registers `handler` to run when the kernel calls `hv_crash`.
///
/// # Safety
///
/// `handler` may be called until it is removed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_setup_crash_handler(handler: Option<unsafe extern "C" fn(regs: *mut pt_regs)>) {
    CRASH.store(handler.map_or(null_mut(), |handler| handler as *mut ()), Ordering::Release);
}

/// Reverts `hv_setup_crash_handler`.
#[unsafe(no_mangle)]
pub extern "C" fn hv_remove_crash_handler() {
    CRASH.store(null_mut(), Ordering::Release);
}

/// Runs the registered handler, if there is one. The kernel calls it when it crashes.
///
/// # Safety
///
/// `regs` is valid for the registered handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_crash(regs: *mut pt_regs) {
    let handler = CRASH.load(Ordering::Acquire);
    if !handler.is_null() {
        // SAFETY: `CRASH` holds null or a function pointer of this type (`hv_setup_crash_handler`), and it is not null
        // here.
        let handler: unsafe extern "C" fn(*mut pt_regs) = unsafe { core::mem::transmute(handler) };
        // SAFETY: the kernel registered the handler to be called here, and vouches for `regs`, by this function's
        // contract.
        unsafe { handler(regs) };
    }
}
