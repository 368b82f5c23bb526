//! System registers by their Arm ARM names, and the few instructions that have no Rust form.
#![expect(unsafe_code, reason = "assembly")]

use core::arch::asm;

/// Reads a system register by its assembler name. It must exist on this CPU, or the program ends with an undefined
/// instruction; [`crate::probe::instruction`] tries one that may not.
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

/// Writes a system register. The caller is in an `unsafe` block, and states there why the new value does no harm.
#[macro_export]
macro_rules! msr {
    ($register:literal, $value:expr) => {{
        let value: u64 = $value;
        ::core::arch::asm!(concat!("msr ", $register, ", {}"), in(reg) value, options(nostack, preserves_flags))
    }};
}

/// Waits until earlier writes to system registers have taken effect.
#[inline(always)]
pub fn isb() {
    // SAFETY: a barrier changes no memory and no register.
    unsafe { asm!("isb", options(nostack, preserves_flags)) };
}

/// Waits until earlier memory accesses are visible to the whole system.
#[inline(always)]
pub fn dsb() {
    // SAFETY: a barrier changes no memory and no register.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
}

/// Yields to another CPU. QEMU, where it runs one CPU at a time (`-icount`), lets the others run then;
/// [`core::hint::spin_loop`] is an ISB, at which it does not.
#[inline(always)]
pub fn relax() {
    // SAFETY: a hint changes no memory and no register.
    unsafe { asm!("yield", options(nomem, nostack, preserves_flags)) };
}

/// Waits for an interrupt, masked or not; may return early.
#[inline(always)]
pub fn wfi() {
    // SAFETY: waiting changes no memory and no register.
    unsafe { asm!("dsb sy", "wfi", options(nostack, preserves_flags)) };
}

/// Unmasks interrupts on this CPU.
#[inline]
pub fn unmask() {
    // SAFETY: handlers have been in place since the start. DAIF: D, A and F stay masked.
    unsafe { msr!("daif", 0b1101 << 6) };
}

/// Masks interrupts on this CPU.
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
    // SAFETY: restores the masks from before.
    unsafe { msr!("daif", daif) };
    result
}

/// Invalidates all stage-1 translations on all CPUs.
pub fn flush_tlb() {
    // SAFETY: translations are read again from the tables, which contain all that are in use.
    unsafe { asm!("dsb ishst", "tlbi vmalle1is", "dsb ish", "isb", options(nostack, preserves_flags)) };
}
