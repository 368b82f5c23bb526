//! hv-host's embedder: time, interrupts and memory for the partition, and the counts of the report.

use hv_partition::faults::{Injection, Injector};
use hv_partition::strict::Judge;
use hv_partition::{BusEvent, BusObserver, Event, Flush, Host, VpContext, VpMask};
use hv_tlfs::hypercall::HypercallCode;
use hv_tlfs::status::HvStatus;
use hv_trace::What;
use hv_vgic::Physical as _;
use hv_wire::platform::MAX_VPS;

use crate::arch::{self, isb, mrs};
use crate::cpu::ThisCpu;
use crate::gic::MachineGic;
use crate::lock::Mutex;
use crate::memory::GuestRam;
use crate::trace::Ring;
use crate::{faults, report};

/// Bytes of a page of the hypercall interface.
const PAGE: u64 = 4096;

/// The embedder, as seen from one CPU.
///
/// With `OBSERVED` everything that happens goes to the trace and to the strict mode's judge as well. The hypercall path is compiled for both, so that a
/// run without a trace pays for one test at each exit.
#[derive(Clone, Copy)]
pub(crate) struct Embedder<'c, const OBSERVED: bool = true> {
    pub cpu: &'c ThisCpu,
}

impl<'c, const OBSERVED: bool> Embedder<'c, OBSERVED> {
    #[inline(always)]
    pub(crate) fn new(cpu: &'c ThisCpu) -> Self {
        Self { cpu }
    }

    /// Where this run's trace goes, if it is traced.
    #[inline(always)]
    pub(crate) fn ring(&self) -> Option<&'c Ring> {
        if OBSERVED { self.cpu.ring() } else { None }
    }

    /// What goes wrong on purpose in this run, if anything.
    #[inline(always)]
    pub(crate) fn injector(&self) -> Option<&'static Injector> {
        if OBSERVED { self.cpu.hypervisor.injector.as_ref() } else { None }
    }

    /// Writes a record, if this run is traced.
    #[inline(always)]
    pub(crate) fn trace(&self, what: What) {
        if let Some(ring) = self.ring() {
            ring.push(what);
        }
    }

    /// Lets the strict mode's judge look.
    #[cold]
    #[inline(never)]
    fn judge(&self, judge: &Mutex<Judge<MAX_VPS>>, what: Judged<'_>) {
        let found = &mut |finding| self.cpu.found(finding);
        match what {
            Judged::Partition(event) => judge.lock().event(event, found),
            Judged::Bus(event) => judge.lock().bus_event(event, found),
        }
    }
}

/// An event that the judge looks at.
enum Judged<'e> {
    Partition(&'e Event<'e>),
    Bus(&'e BusEvent<'e>),
}

impl<const OBSERVED: bool> Host for Embedder<'_, OBSERVED> {
    type Memory = GuestRam;

    #[inline(always)]
    fn memory(&self) -> &GuestRam {
        &self.cpu.hypervisor.ram
    }

    #[inline]
    fn counter(&self) -> u64 {
        isb();
        mrs!("cntvct_el0")
    }

    #[inline]
    fn assert_interrupt(&self, vp: usize, intid: u32) {
        match self.injector() {
            Some(injector) => faults::raise(self.cpu, injector, vp, intid),
            None => self.cpu.hypervisor.gic.assert(self.cpu, vp, intid),
        }
    }

    #[inline(always)]
    fn inject_status(&self, _vp: usize, code: HypercallCode) -> Option<HvStatus> {
        let injector = self.injector()?;
        let status = injector.status(code);
        faults::note(self.cpu, injector);
        status
    }

    #[inline(always)]
    fn inject(&self, _vp: usize, injection: Injection) -> bool {
        self.injector().is_some_and(|injector| {
            let strikes = injector.injects(injection, faults::now());
            faults::note(self.cpu, injector);
            strikes
        })
    }

    /// Each CPU's timer is its own to program: another CPU is told of its deadline, and kicked.
    fn set_deadline(&self, vp: usize, counter: Option<u64>) {
        let Some(requests) = self.cpu.hypervisor.requests.get(vp) else { return };
        requests.set_deadline(counter);
        if vp == self.cpu.index() {
            self.cpu.program_timer();
        } else {
            requests.request_timer();
            MachineGic.kick(vp);
        }
    }

    fn start_vp(&self, vp: usize, context: &VpContext) {
        if vp < self.cpu.hypervisor.vps() {
            self.cpu.hypervisor.request_start(vp, context);
            MachineGic.kick(vp);
        }
    }

    #[inline(always)]
    fn observe(&self, event: &Event<'_>) {
        self.cpu.counts.event(event);
        if let Some(ring) = self.ring() {
            ring.event(event);
        }
        if OBSERVED && let Some(judge) = &self.cpu.hypervisor.judge {
            self.judge(judge, Judged::Partition(event));
        }
    }

    fn flush_tlb(&self, _targets: &VpMask, what: Flush) {
        // On every CPU: more than was asked for, which the TLFS allows.
        match what {
            Flush::Pages { address, pages, .. } if pages <= Flush::FEW_PAGES => {
                arch::begin_tlb_flush();
                (0..pages).for_each(|page| arch::flush_guest_address(address.wrapping_add(page * PAGE)));
                arch::complete_tlb_flush();
            }
            _ => arch::flush_guest_tlb(),
        }
    }
}

impl<const OBSERVED: bool> BusObserver for Embedder<'_, OBSERVED> {
    #[inline(always)]
    fn observe_bus(&self, event: &BusEvent<'_>) {
        report::count_bus(event);
        if let Some(ring) = self.ring() {
            ring.bus_event(event);
        }
        if OBSERVED && let Some(judge) = &self.cpu.hypervisor.judge {
            self.judge(judge, Judged::Bus(event));
        }
    }
}
