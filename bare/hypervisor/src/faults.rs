//! Faults on purpose (`hv boot --inject`): the plan that the tool sent, followed on this machine.
//!
//! What can go wrong, and when, is hv-host's business ([`hv_partition::faults`]); here are the times and the interrupts.

use hv_partition::faults::{Injector, Plan, Raise, Timed};
use hv_wire::{BootInfo, TraceKind};

use crate::arch::mrs;
use crate::gic::{Lists, Machine};
use crate::host::Embedder;
use crate::report;

const _: () = assert!(hv_wire::PLAN_RULES == hv_partition::faults::MAX_RULES);

/// The plan in the boot information; `Ok(None)` where there is none.
pub(crate) fn plan(info: &BootInfo) -> Result<Option<Plan>, &'static str> {
    if info.plan_len == 0 {
        return Ok(None);
    }
    let bytes =
        info.plan.get(..info.plan_len as usize).ok_or("the plan of faults is longer than its place")?;
    let text = core::str::from_utf8(bytes).map_err(|_| "the plan of faults is not UTF-8")?;
    Plan::parse(text, &|_, _| None).map(Some).map_err(|bad| bad.reason)
}

/// The reference time in 100 ns: the guest's counter starts with the partition.
pub(crate) fn now() -> u64 {
    let ticks = u128::from(mrs!("cntvct_el0"));
    (ticks * 10_000_000 / u128::from(mrs!("cntfrq_el0").max(1))) as u64
}

/// Raises an interrupt as the plan lets it.
pub(crate) fn raise(host: &Embedder, injector: &Injector, vp: usize, intid: u32) {
    let times = match injector.interrupt(intid) {
        Raise::Once => 1,
        Raise::Lost => 0,
        Raise::Twice => 2,
    };
    note(host, injector);
    for _ in 0..times {
        host.cpu.hypervisor.gic.assert(host.cpu.index, vp, intid, &Lists, &Machine);
    }
}

/// Does what has become due. Each exit of a VP asks, with no lock held.
#[cold]
#[inline(never)]
pub(crate) fn tick(host: &Embedder, injector: &Injector) {
    let (hypervisor, vp) = (host.cpu.hypervisor, host.cpu.index);
    let partition = &hypervisor.partition;
    injector.tick(now(), &mut |due| match due {
        Timed::Spurious(intid) => hypervisor.gic.assert(vp, vp, intid, &Lists, &Machine),
        Timed::Migrate => {
            partition.migrate(host, mrs!("cntfrq_el0"), partition.reference_time(host));
            partition.timer_expired(host, vp);
        }
        Timed::Disturb(what, random) => partition.disturb(host, vp, what, random),
        Timed::Rescan => partition.rescan(host, vp),
    });
    note(host, injector);
}

/// Reports which rules have struck since the last time, and records it.
pub(crate) fn note(host: &Embedder, injector: &Injector) {
    for (rule, times) in injector.fired().enumerate().filter(|(_, times)| *times != 0) {
        if report::rule_fired(rule, times) {
            host.trace(TraceKind::FaultInjected, [rule as u64, times, 0, 0, 0, 0]);
        }
    }
}
