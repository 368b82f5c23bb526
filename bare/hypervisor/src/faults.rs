//! Faults on purpose (`hv boot --inject`): interrupts and the clock of a run that follows a plan, and which rules have struck.
//!
//! What can go wrong, and when, is hv-host's business ([`hv_partition::faults`]).

use hv_partition::faults::{Injector, Raise};
use hv_trace::What;

use crate::arch::mrs;
use crate::cpu::ThisCpu;
use crate::report;

/// The reference time in 100 ns: the guest's counter starts with the partition.
pub(crate) fn now() -> u64 {
    let ticks = u128::from(mrs!("cntvct_el0"));
    (ticks * 10_000_000 / u128::from(mrs!("cntfrq_el0").max(1))) as u64
}

/// Raises an interrupt as the plan lets it.
pub(crate) fn raise(cpu: &ThisCpu, injector: &Injector, vp: usize, intid: u32) {
    let times = match injector.interrupt(intid) {
        Raise::Once => 1,
        Raise::Lost => 0,
        Raise::Twice => 2,
    };
    note(cpu, injector);
    for _ in 0..times {
        cpu.hypervisor.gic.assert(cpu, vp, intid);
    }
}

/// Reports which rules have struck since the last time, and records it.
pub(crate) fn note(cpu: &ThisCpu, injector: &Injector) {
    for (rule, times) in injector.fired().enumerate().filter(|(_, times)| *times != 0) {
        if report::rule_fired(rule, times)
            && let Some(ring) = cpu.ring()
        {
            ring.push(What::FaultInjected { rule: rule as u32, times });
        }
    }
}
