//! System registers by their Arm ARM names, and the few instructions that have no Rust form.
#![expect(unsafe_code, reason = "assembly")]

use core::arch::asm;

/// Reads a system register, named as the assembler names it. It must exist on this CPU, else the program ends with an
/// undefined instruction; [`crate::probe::instruction`] tries one that may not.
#[macro_export]
macro_rules! mrs {
    ($register:literal) => {{
        let value: u64;
        // SAFETY: reading a system register changes no memory and no state that Rust relies on.
        unsafe {
            ::core::arch::asm!(concat!("mrs {}, ", $register), out(reg) value, options(nostack, preserves_flags));
        }
        value
    }};
}

/// Writes a system register. The caller is in an `unsafe` block and says there why the new value does no harm.
#[macro_export]
macro_rules! msr {
    ($register:literal, $value:expr) => {{
        let value: u64 = $value;
        ::core::arch::asm!(concat!("msr ", $register, ", {}"), in(reg) value, options(nostack, preserves_flags))
    }};
}

/// Waits until earlier changes to system registers count.
#[inline(always)]
pub fn isb() {
    // SAFETY: a barrier.
    unsafe { asm!("isb", options(nostack, preserves_flags)) };
}

/// Waits until earlier memory accesses are visible to the whole system.
#[inline(always)]
pub fn dsb() {
    // SAFETY: a barrier.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
}

/// Says that this CPU waits for another one. QEMU, where it runs one CPU at a time (`-icount`), lets the others run then;
/// [`core::hint::spin_loop`] is an ISB, at which it does not.
#[inline(always)]
pub fn relax() {
    // SAFETY: a hint.
    unsafe { asm!("yield", options(nomem, nostack, preserves_flags)) };
}

/// Waits for an interrupt, whether masked or not, or for nothing in particular.
#[inline(always)]
pub fn wfi() {
    // SAFETY: waiting changes nothing.
    unsafe { asm!("dsb sy", "wfi", options(nostack, preserves_flags)) };
}

/// Lets this CPU take interrupts.
#[inline]
pub fn unmask() {
    // SAFETY: handlers are in place since the start. DAIF: D, A and F stay masked.
    unsafe { msr!("daif", 0b1101 << 6) };
}

/// Keeps this CPU from taking interrupts.
#[inline]
pub fn mask() {
    // SAFETY: masking is always allowed.
    unsafe { msr!("daif", 0b1111 << 6) };
}

/// Runs `f` with IRQs masked on this CPU.
pub fn without_interrupts<T>(f: impl FnOnce() -> T) -> T {
    let daif = mrs!("daif");
    mask();
    let result = f();
    // SAFETY: the masks are as they were.
    unsafe { msr!("daif", daif) };
    result
}

/// Drops all stage-1 translations on all CPUs.
pub fn flush_tlb() {
    // SAFETY: translations are read again from the tables, which hold all that is in use.
    unsafe { asm!("dsb ishst", "tlbi vmalle1is", "dsb ish", "isb", options(nostack, preserves_flags)) };
}
