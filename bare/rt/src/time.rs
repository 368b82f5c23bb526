//! The generic timer's virtual counter, and its timer.
#![expect(unsafe_code, reason = "timer registers")]

use core::time::Duration;

use crate::{arch, irq, mrs, msr};

/// INTID of the virtual timer's PPI, by the Arm Base System Architecture.
pub const VIRTUAL_TIMER_INTID: u32 = 27;
/// INTID of the EL1 physical timer's PPI, by the same.
pub const PHYSICAL_TIMER_INTID: u32 = 30;

/// Reads CNTVCT_EL0, not speculatively.
#[inline]
pub fn counter() -> u64 {
    arch::isb();
    mrs!("cntvct_el0")
}

/// Returns the counter's ticks per second.
#[inline]
pub fn frequency() -> u64 {
    mrs!("cntfrq_el0")
}

/// Converts a duration to ticks, rounded up.
pub fn ticks(duration: Duration) -> u64 {
    (duration.as_nanos() * u128::from(frequency())).div_ceil(1_000_000_000) as u64
}

/// Waits by polling the counter.
pub fn delay(duration: Duration) {
    let end = counter() + ticks(duration);
    while counter() < end {
        core::hint::spin_loop();
    }
}

/// Waits for `condition`, at most for `limit`, with interrupts masked or unmasked as they are. Returns whether it came
/// true.
pub fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = counter() + ticks(limit);
    loop {
        if condition() {
            return true;
        }
        if counter() >= end {
            return false;
        }
        arch::relax();
    }
}

/// Installs `handler` on this CPU for the virtual timer. The handler calls [`stop`] or [`arm`], since the interrupt is
/// level-triggered.
pub fn on_timer(handler: fn(u32)) {
    irq::enable(VIRTUAL_TIMER_INTID, handler);
}

/// Arms this CPU's virtual timer for a value of the counter.
pub fn arm(deadline: u64) {
    // SAFETY: only the program uses the virtual timer, and any compare value is valid.
    unsafe { msr!("cntv_cval_el0", deadline) };
    // SAFETY: only the program uses the virtual timer, and this is ENABLE without IMASK.
    unsafe { msr!("cntv_ctl_el0", 1) };
    arch::isb();
}

/// Stops this CPU's virtual timer.
pub fn stop() {
    // SAFETY: only the program uses the virtual timer; a CTL of 0 switches it off.
    unsafe { msr!("cntv_ctl_el0", 0) };
    arch::isb();
}
