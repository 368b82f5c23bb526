//! The machine's own PSCI, which QEMU answers: starting CPUs and ending the run.
#![expect(unsafe_code, reason = "the report is a fixed address")]

use core::ptr::addr_of_mut;

use hv_tlfs::psci;
use hv_wire::{ExitKind, Report};

use crate::arch::{mrs, smc};
use crate::memory;

unsafe extern "C" {
    fn secondary_start();
}

/// Starts another CPU at `secondary_start`.
pub(crate) fn start_cpu(cpu: usize) {
    let affinity = ((cpu as u64 / 16) << 8) | (cpu as u64 % 16);
    let result = smc(psci::CPU_ON | psci::SMC64, [affinity, secondary_start as *const () as u64, cpu as u64]);
    assert!(result == 0, "the machine's PSCI refused to start CPU {cpu}: {}", result as i64);
}

/// Writes how the run ended and switches the machine off.
pub(crate) fn end_run(kind: ExitKind) -> ! {
    let report = memory::report();
    let now = mrs!("cntpct_el0");
    // SAFETY: the report is ours and mapped; only the CPU that ends the run writes this field.
    unsafe { addr_of_mut!((*report).end_counter).write_volatile(now) };
    // SAFETY: the report is ours and mapped; only the CPU that ends the run writes this field.
    unsafe { addr_of_mut!((*report).exit).write_volatile(kind as u32) };
    // A run may end before the start did its part, and the tool tells by these two that it reads a report at all.
    // SAFETY: the report is ours and mapped; only the CPU that ends the run writes this field.
    unsafe { addr_of_mut!((*report).version).write_volatile(hv_wire::VERSION) };
    // SAFETY: the report is ours and mapped; only the CPU that ends the run writes this field.
    unsafe { addr_of_mut!((*report).magic).write_volatile(Report::MAGIC) };
    smc(psci::SYSTEM_OFF, [0; 3]);
    loop {
        crate::arch::wfi();
    }
}
