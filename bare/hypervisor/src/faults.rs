//! Fault injection (`hv boot --inject`): the plan of a run, its clock, and which rules have struck.
//!
//! What can go wrong, and when, is hv-host's part ([`hv_partition::faults`]).

use hv_partition::faults::{Faults, Injection, Injector, Raise};
use hv_tlfs::hypercall::HypercallCode;
use hv_tlfs::status::HvStatus;
use hv_tlfs::time::{CLOCK_HZ, ReferenceTime};
use hv_trace::What;

use crate::arch::mrs;
use crate::cpu::ThisCpu;
use crate::report;

/// The reference time: the guest's counter starts with the partition.
pub(crate) fn now() -> ReferenceTime {
    let counter = u128::from(mrs!("cntvct_el0"));
    let ticks = counter * u128::from(CLOCK_HZ) / u128::from(mrs!("cntfrq_el0").max(1));
    ReferenceTime(ticks as u64)
}

/// The plan of this run, if it has one, as asked by one CPU; a run that is not `OBSERVED` has none.
#[derive(Clone, Copy)]
pub(crate) struct Planned<'c, const OBSERVED: bool> {
    pub cpu: &'c ThisCpu,
}

impl<const OBSERVED: bool> Planned<'_, OBSERVED> {
    /// The state that follows the plan.
    #[inline(always)]
    pub(crate) fn injector(&self) -> Option<&'static Injector> {
        if OBSERVED && self.cpu.observed() { self.cpu.hypervisor.injector.as_ref() } else { None }
    }
}

impl<const OBSERVED: bool> Faults for Planned<'_, OBSERVED> {
    #[inline(always)]
    fn status(&self, call: HypercallCode) -> Option<HvStatus> {
        self.injector().and_then(|injector| ask(self.cpu, injector, |injector| injector.status(call)))
    }

    #[inline(always)]
    fn injects(&self, injection: Injection) -> bool {
        self.injector()
            .is_some_and(|injector| ask(self.cpu, injector, |injector| injector.injects(injection)))
    }

    #[inline(always)]
    fn interrupt(&self, intid: u32) -> Raise {
        let injector = self.injector();
        injector.map_or(Raise::Once, |injector| ask(self.cpu, injector, |injector| injector.interrupt(intid)))
    }
}

/// Asks the plan, and notes which rules have struck.
#[cold]
#[inline(never)]
fn ask<T>(cpu: &ThisCpu, injector: &Injector, ask: impl FnOnce(&Injector) -> T) -> T {
    let answer = ask(injector);
    note(cpu, injector);
    answer
}

/// Reports and records the rules that have struck since the last call.
pub(crate) fn note(cpu: &ThisCpu, injector: &Injector) {
    for (rule, times) in injector.fired().enumerate().filter(|(_, times)| *times != 0) {
        if report::rule_fired(rule, times)
            && let Some(ring) = cpu.ring()
        {
            ring.push(What::FaultInjected { rule: rule as u32, times });
        }
    }
}
