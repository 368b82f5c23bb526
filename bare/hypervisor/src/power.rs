//! The machine's own PSCI, implemented by QEMU: starts CPUs and ends the run.
#![expect(unsafe_code, reason = "the report is a fixed address, and PSCI starts code")]

use hv_tlfs::psci;
use hv_wire::{ExitKind, Report};

use crate::arch::{mrs, smc};
use crate::memory::report_field;

unsafe extern "C" {
    fn secondary_start();
}

/// Starts another CPU at `secondary_start`.
pub(crate) fn start_cpu(cpu: usize) {
    let affinity = ((cpu as u64 / 16) << 8) | (cpu as u64 % 16);
    let entry = secondary_start as *const () as u64;
    // SAFETY: this function of PSCI starts a CPU, at `secondary_start`, which is a CPU's entry point.
    let result = unsafe { smc(psci::CPU_ON | psci::SMC64, [affinity, entry, cpu as u64]) };
    assert!(result == 0, "the machine's PSCI refused to start CPU {cpu}: {}", result as i64);
}

/// Writes how the run ended, and switches the machine off.
pub(crate) fn end_run(kind: ExitKind) -> ! {
    let now = mrs!("cntpct_el0");
    let end = report_field!(end_counter);
    // SAFETY: the field is mapped and aligned; only the CPU that ends the run writes it.
    unsafe { end.write_volatile(now) };
    let exit = report_field!(exit);
    // SAFETY: the field is mapped and aligned; only the CPU that ends the run writes it.
    unsafe { exit.write_volatile(kind as u32) };
    // A run may end before the start has written these, and by them the tool recognizes a report.
    let version = report_field!(version);
    // SAFETY: the field is mapped and aligned; every CPU writes the same value.
    unsafe { version.write_volatile(hv_wire::VERSION) };
    let magic = report_field!(magic);
    // SAFETY: the field is mapped and aligned; every CPU writes the same value.
    unsafe { magic.write_volatile(Report::MAGIC) };
    // SAFETY: this function of PSCI switches the machine off, and starts nothing.
    unsafe { smc(psci::SYSTEM_OFF, [0; 3]) };
    loop {
        crate::arch::wfi();
    }
}
