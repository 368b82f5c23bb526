//! Accesses to the interrupt controller, which the host emulates.
#![expect(unsafe_code, reason = "the interrupt controller is a fixed address, acknowledged in assembly")]

use core::arch::asm;

use rt::Hardware;
use rt::gic::gicd;

use crate::measure::Bench;

pub(crate) fn run(bench: &Bench, hardware: &Hardware) {
    let typer = hardware.gicd + gicd::TYPER;
    bench.each("gicd-read", 5000, || {
        // SAFETY: reads a register of the distributor, which has no side effect.
        unsafe { asm!("ldr {0:w}, [{1}]", out(reg) _, in(reg) typer, options(nostack, preserves_flags)) };
    });
    let enable = hardware.gicd + gicd::ISENABLER + 4;
    bench.each("gicd-write", 5000, || {
        // SAFETY: writes zeros to a register where only ones count.
        unsafe { asm!("str wzr, [{0}]", in(reg) enable, options(nostack, preserves_flags)) };
    });
}

/// Waits until an interrupt is pending, masked as it is, and acknowledges it.
#[inline(always)]
pub(crate) fn acknowledge() -> u64 {
    let intid: u64;
    // SAFETY: acknowledges an interrupt, which the caller ends later.
    unsafe {
        asm!("2: mrs {0}, icc_iar1_el1", "cmp {0:w}, #1020", "b.hs 2b", out(reg) intid, options(nostack));
    }
    intid
}

/// Acknowledges and ends what interrupts are pending.
pub(crate) fn take_pending() {
    loop {
        let intid: u64;
        // SAFETY: acknowledges an interrupt, which is ended below.
        unsafe { asm!("mrs {0}, icc_iar1_el1", out(reg) intid, options(nostack)) };
        if intid >= 1020 {
            return;
        }
        end(intid);
    }
}

/// Ends the acknowledged interrupt.
#[inline(always)]
pub(crate) fn end(intid: u64) {
    // SAFETY: the interrupt is the one acknowledged last; this program takes no other in between.
    unsafe { asm!("msr icc_eoir1_el1, {0}", in(reg) intid, options(nostack, preserves_flags)) };
}
