//! Fault injection (`hv boot --inject`): the plan of a run, its clock, and which rules have struck.
//!
//! What can go wrong, and when, is hv-host's part ([`hv_partition::faults`]).

use hv_partition::faults::{
    Extent, Failing, Faults, FrameFault, Injection, Injector, Raise, RescindPoint, StartFault,
};
use hv_tlfs::hypercall::HypercallCode;
use hv_tlfs::status::HvStatus;
use hv_tlfs::time::{CLOCK_HZ, ReferenceTime};
use hv_trace::What;

use crate::arch::mrs;
use crate::cpu::ThisCpu;
use crate::report;

/// Returns the reference time: the guest's counter starts with the partition.
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
    /// Returns the state that follows the plan.
    #[inline(always)]
    pub(crate) fn injector(&self) -> Option<&'static Injector> {
        if OBSERVED && self.cpu.observed() { self.cpu.hypervisor.injector.as_ref() } else { None }
    }
}

impl<const OBSERVED: bool> Faults for Planned<'_, OBSERVED> {
    #[inline(always)]
    fn is_empty(&self) -> bool {
        self.injector().is_none()
    }

    #[inline(always)]
    fn status(&self, call: HypercallCode) -> Option<HvStatus> {
        self.asked(None, |injector| injector.status(call))
    }

    #[inline(always)]
    fn injects(&self, injection: Injection) -> bool {
        self.asked(false, |injector| injector.injects(injection))
    }

    #[inline(always)]
    fn any(&self) -> bool {
        self.injector().is_some()
    }

    #[inline(always)]
    fn interrupt(&self, intid: u32) -> Raise {
        self.asked(Raise::Once, |injector| injector.interrupt(intid))
    }

    #[inline(always)]
    fn starts(&self) -> StartFault {
        self.asked(StartFault::Now, Injector::starts)
    }

    #[inline(always)]
    fn fails(&self, begins: bool, extent: Option<Extent>) -> Option<Failing> {
        self.asked(None, |injector| injector.fails(begins, extent))
    }

    #[inline(always)]
    fn rescinds(&self, device: u32, point: RescindPoint) -> bool {
        self.asked(false, |injector| injector.rescinds(device, point))
    }

    #[inline(always)]
    fn mutes(&self) -> bool {
        self.asked(false, Injector::mutes)
    }

    #[inline(always)]
    fn refuses(&self, device: u32, version: u32) -> bool {
        self.asked(false, |injector| injector.refuses(device, version))
    }

    #[inline(always)]
    fn frame(&self, from_guest: bool) -> Option<FrameFault> {
        self.asked(None, |injector| injector.frame(from_guest))
    }
}

impl<const OBSERVED: bool> Planned<'_, OBSERVED> {
    /// Asks the plan, if there is one.
    #[inline(always)]
    fn asked<T>(&self, without: T, question: impl FnOnce(&Injector) -> T) -> T {
        match self.injector() {
            Some(injector) => ask(self.cpu, injector, question),
            None => without,
        }
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
#[cold]
#[inline(never)]
pub(crate) fn note(cpu: &ThisCpu, injector: &Injector) {
    for (rule, times) in injector.fired().enumerate().filter(|(_, times)| *times != 0) {
        if report::rule_fired(rule, times)
            && let Some(ring) = cpu.ring()
        {
            ring.push(What::FaultInjected { rule: rule as u32, times });
        }
    }
}
