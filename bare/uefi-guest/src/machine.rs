//! The processor, taken over from the firmware for a while: its exceptions and interrupts are ours, and the firmware
//! stands still.
#![expect(unsafe_code, reason = "system registers, vectors, and instructions that may fault")]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "what is taken and given back together has one proof"
)]

use core::arch::{asm, global_asm};
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hv_conformance::Exception;
use spin::Mutex;

use crate::report::note;
use crate::{abandon, firmware, gic};

// The vectors and `rt_run` of the EL1 programs; what they call is below.
global_asm!(
    include_str!("../../rt/src/vectors.s"),
    size = const size_of::<SystemContext>(),
    x = const offset_of!(SystemContext, x),
    spsr = const offset_of!(SystemContext, spsr),
    sync = sym sync,
    irq = sym irq,
    other = sym other,
);

global_asm!(
    "// The calls that the suite makes, each with a return after it: the firmware's memory may not be written and",
    "// executed at once.",
    ".global uefi_hvc_stubs",
    "uefi_hvc_stubs:",
    "    hvc #0",
    "    ret",
    "    hvc #1",
    "    ret",
    "    hvc #5",
    "    ret",
    "    hvc #0x7e57",
    "    ret",
    "    hvc #0xffff",
    "    ret",
);

/// The immediates of the stubs, in their order.
const IMMEDIATES: [u16; 5] = [0, 1, 5, 0x7e57, 0xffff];
/// Bytes of a stub.
const STUB: usize = 8;

unsafe extern "C" {
    static rt_vectors: u8;
    static uefi_hvc_stubs: u8;
    fn rt_run(code: *const u8, registers: *mut [u64; 31]);
}

/// Reads a system register.
macro_rules! mrs {
    ($register:literal) => {{
        let value: u64;
        // SAFETY: reading this register changes nothing that Rust code relies on.
        unsafe { core::arch::asm!(concat!("mrs {}, ", $register), out(reg) value, options(nostack, preserves_flags)) };
        value
    }};
}
pub(crate) use mrs;

/// Writes a system register, in an `unsafe` block that states why that does no harm.
macro_rules! msr {
    ($register:literal, $value:expr) => {{
        let value: u64 = $value;
        core::arch::asm!(concat!("msr ", $register, ", {}"), in(reg) value, options(nostack, preserves_flags))
    }};
}
pub(crate) use msr;

/// The saved state of the firmware.
struct Saved {
    priority: usize,
    daif: u64,
    vbar: u64,
}

static SAVED: Mutex<Option<Saved>> = Mutex::new(None);
/// An instruction may fault now.
static EXPECTED: AtomicBool = AtomicBool::new(false);
/// ESR_EL1 of the fault plus 1, or 0.
static MET: AtomicU64 = AtomicU64::new(0);

/// The state of the processor when it took an exception (vectors.s).
#[repr(C)]
pub(crate) struct SystemContext {
    x: [u64; 31],
    elr: u64,
    spsr: u64,
    reserved: u64,
}
// X30 and ELR are stored as one pair, and SP is a multiple of 16.
const _: () = assert!(offset_of!(SystemContext, elr) == offset_of!(SystemContext, x) + 31 * 8);
const _: () = assert!(size_of::<SystemContext>().is_multiple_of(16));

/// Returns the exception level.
pub(crate) fn exception_level() -> u64 {
    mrs!("currentel") >> 2 & 3
}

/// Waits until earlier writes to system registers have taken effect.
pub(crate) fn isb() {
    // SAFETY: a barrier changes no memory and no register.
    unsafe { asm!("isb", options(nostack, preserves_flags)) };
}

/// Takes the processor over from the firmware: from then on no event, no interrupt and no exception reaches the
/// firmware.
pub(crate) fn freeze() {
    let priority = firmware::raise_priority();
    let saved = Saved { priority, daif: mrs!("daif"), vbar: mrs!("vbar_el1") };
    // SAFETY: everything is masked before the vectors change, and the vectors are complete.
    unsafe {
        msr!("daif", 0b1111 << 6);
        msr!("vbar_el1", core::ptr::addr_of!(rt_vectors) as u64);
    }
    isb();
    *SAVED.lock() = Some(saved);
}

/// Returns the processor to the firmware.
pub(crate) fn thaw() {
    let Some(saved) = SAVED.try_lock().and_then(|mut saved| saved.take()) else { return };
    // SAFETY: restores the firmware's values.
    unsafe {
        msr!("vbar_el1", saved.vbar);
        isb();
        msr!("daif", saved.daif);
    }
    firmware::restore_priority(saved.priority);
}

/// Takes the pending interrupts.
pub(crate) fn take_interrupts() {
    // SAFETY: the processor is frozen, so the vectors are ours. D, A and F stay masked.
    unsafe { msr!("daif", 0b1101 << 6) };
    isb();
    // SAFETY: masking is always allowed.
    unsafe { msr!("daif", 0b1111 << 6) };
}

/// Executes `hvc` with these registers X0 to X30, of which X30 is not the caller's.
///
/// # Safety
///
/// The call makes the host write no memory but the scratch pages, which are atomics.
pub(crate) unsafe fn hvc(immediate: u16, x: &mut [u64; 31]) -> Result<(), Exception> {
    // A stub that does not exist must not look like a call that the host rightly refused.
    let Some(place) = IMMEDIATES.iter().position(|&known| known == immediate) else {
        return Err(Exception { undefined: false });
    };
    MET.store(0, Ordering::Relaxed);
    EXPECTED.store(true, Ordering::SeqCst);
    let platform: u64;
    // SAFETY: the stub is `hvc` and a return. The processor is frozen, so an exception comes to `sync`, which skips the
    // instruction. The host changes no register but X0 to X17, and the caller promises that it writes no memory but the
    // scratch pages; X18, which is the platform's and which `rt_run` loads from the array, is restored.
    unsafe {
        asm!("mov {}, x18", out(reg) platform, options(nostack, nomem, preserves_flags));
        rt_run(core::ptr::addr_of!(uefi_hvc_stubs).add(place * STUB), x);
        asm!("mov x18, {}", in(reg) platform, options(nostack, nomem, preserves_flags));
    }
    EXPECTED.store(false, Ordering::SeqCst);
    match MET.load(Ordering::Relaxed) {
        0 => Ok(()),
        // An undefined instruction has no syndrome: class 0, and a 32-bit instruction.
        esr => Err(Exception { undefined: esr - 1 == 1 << 25 }),
    }
}

extern "C" fn sync(frame: &mut SystemContext) {
    let esr = mrs!("esr_el1");
    if EXPECTED.load(Ordering::SeqCst) {
        MET.store(esr.wrapping_add(1), Ordering::Relaxed);
        frame.elr = frame.elr.wrapping_add(4);
    } else {
        give_up("exception", frame);
    }
}

extern "C" fn irq(_frame: &mut SystemContext) {
    gic::handle();
}

extern "C" fn other(frame: &mut SystemContext) {
    give_up("FIQ, SError or exception from EL0", frame);
}

/// Ends the application from an exception handler: the interrupted code resumes in [`abandon`].
fn give_up(what: &str, frame: &mut SystemContext) {
    crate::report::Report::unlock();
    note!("unexpected {what}: ESR {:#x}, FAR {:#x}, ELR {:#x}", mrs!("esr_el1"), mrs!("far_el1"), frame.elr);
    frame.elr = abandon as *const () as u64;
}
