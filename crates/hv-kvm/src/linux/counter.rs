//! The machine's counter.
#![expect(unsafe_code, reason = "system registers: assembly")]

/// Returns the machine's counter, as user space sees it.
#[inline]
pub(super) fn now() -> u64 {
    let counter;
    // SAFETY: ISB and a read of CNTVCT_EL0 change no memory, no stack and no flags. Linux lets user space read the
    // counter, or emulates the read.
    unsafe {
        std::arch::asm!("isb", "mrs {}, cntvct_el0", out(reg) counter, options(nostack, preserves_flags));
    }
    counter
}

/// Returns the counter's frequency.
pub(super) fn frequency() -> u64 {
    let hertz;
    // SAFETY: a read of CNTFRQ_EL0 changes no memory, no stack and no flags. Linux lets user space read it, or emulates
    // the read.
    unsafe {
        std::arch::asm!("mrs {}, cntfrq_el0", out(reg) hertz, options(nomem, nostack, preserves_flags));
    }
    hertz
}
