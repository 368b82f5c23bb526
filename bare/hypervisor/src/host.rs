//! hv-host's embedder: time, interrupts and memory for the partition, and the counts of the report.
#![expect(unsafe_code, reason = "the reports are fixed addresses")]

use hv_partition::faults::{Injection, Injector};
use hv_partition::{BusEvent, BusObserver, Event, Flush, Host, VpContext, VpMask};
use hv_tlfs::hypercall::HypercallCode;
use hv_tlfs::status::HvStatus;
use hv_wire::{ExitKind, Fault, TraceKind, Trap};

use crate::arch::{self, isb, mrs};
use crate::gic::{Lists, Machine};
use crate::memory::GuestRam;
use crate::vcpu::Cpu;
use crate::{backtrace, faults, power, report, trace::Ring};

/// Bytes of a page of the hypercall interface.
const PAGE: u64 = 4096;

/// The embedder, as seen from one CPU.
///
/// With `OBSERVED` everything that happens goes to the trace and to the strict mode's judge as well. The hypercall path is compiled for both, so that a
/// run without a trace pays for one test at each exit.
#[derive(Clone, Copy)]
pub(crate) struct Embedder<const OBSERVED: bool = true> {
    pub cpu: &'static Cpu,
}

impl<const OBSERVED: bool> Embedder<OBSERVED> {
    #[inline(always)]
    pub(crate) fn new(cpu: &'static Cpu) -> Self {
        Self { cpu }
    }

    /// Where this run's trace goes, if it is traced.
    #[inline(always)]
    fn ring(&self) -> Option<&'static Ring> {
        if OBSERVED { self.cpu.trace.as_ref() } else { None }
    }

    /// What goes wrong on purpose in this run, if anything.
    #[inline(always)]
    fn injector(&self) -> Option<&'static Injector> {
        if OBSERVED { self.cpu.hypervisor.injector.as_ref() } else { None }
    }

    /// Counts an exit.
    #[inline(always)]
    pub(crate) fn exit(&self, trap: Trap, esr: u64) {
        // SAFETY: this is the VP's CPU, and the reference ends with the statement.
        unsafe { self.cpu.report() }.traps[trap as usize] += 1;
        if let Some(ring) = self.ring() {
            ring.exit(self.cpu.index, trap, esr);
        }
        if let Some(injector) = self.injector() {
            faults::tick(&Embedder::new(self.cpu), injector);
        }
    }

    /// The exit is over.
    #[inline(always)]
    pub(crate) fn enter(&self) {
        self.trace(TraceKind::Enter, [0; 6]);
    }

    /// Tells that a physical interrupt goes on to the guest.
    #[inline(always)]
    pub(crate) fn forwarded(&self, intid: u32) {
        self.trace(TraceKind::Forwarded, [u64::from(intid), 0, 0, 0, 0, 0]);
    }

    /// Tells of a physical interrupt that is the hypervisor's own.
    #[inline(always)]
    pub(crate) fn own_interrupt(&self, intid: u32) {
        self.trace(TraceKind::OwnInterrupt, [u64::from(intid), 0, 0, 0, 0, 0]);
    }

    /// Writes a record, if this run is traced.
    #[inline(always)]
    pub(crate) fn trace(&self, kind: TraceKind, values: [u64; 6]) {
        if let Some(ring) = self.ring() {
            ring.push(self.cpu.index, kind, values);
        }
    }

    /// Counts something that has no meaning here.
    #[cold]
    pub(crate) fn fault(&self, kind: Fault, value: u64) {
        // SAFETY: this is the VP's CPU, and the reference ends with the statement; `place` uses no report.
        unsafe { self.cpu.report() }.fault(kind, value, || backtrace::place(self.cpu));
        if let Some(ring) = self.ring() {
            ring.push_place(self.cpu, TraceKind::Fault, kind as u64, value);
        }
    }

    /// Completes the report and switches the machine off.
    pub(crate) fn end_run(&self, kind: ExitKind) -> ! {
        power::end_run(kind)
    }
}

impl<const OBSERVED: bool> Host for Embedder<OBSERVED> {
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
            Some(injector) => faults::raise(&Embedder::new(self.cpu), injector, vp, intid),
            None => self.cpu.hypervisor.gic.assert(self.cpu.index, vp, intid, &Lists, &Machine),
        }
    }

    #[inline(always)]
    fn inject_status(&self, _vp: usize, code: HypercallCode) -> Option<HvStatus> {
        let injector = self.injector()?;
        let status = injector.status(code);
        faults::note(&Embedder::new(self.cpu), injector);
        status
    }

    #[inline(always)]
    fn inject(&self, _vp: usize, injection: Injection) -> bool {
        self.injector().is_some_and(|injector| {
            let strikes = injector.injects(injection, faults::now());
            faults::note(&Embedder::new(self.cpu), injector);
            strikes
        })
    }

    /// Each CPU's timer is its own to program: another CPU is told of its deadline, and kicked.
    fn set_deadline(&self, vp: usize, counter: Option<u64>) {
        let Some(cpu) = self.cpu.hypervisor.cpu(vp) else { return };
        cpu.set_deadline(counter);
        if vp == self.cpu.index {
            cpu.program_timer();
        } else {
            cpu.request_timer();
            hv_vgic::Physical::kick(&Machine, vp);
        }
    }

    fn start_vp(&self, vp: usize, context: &VpContext) {
        if let Some(cpu) = self.cpu.hypervisor.cpu(vp) {
            cpu.request_start(context);
            hv_vgic::Physical::kick(&Machine, vp);
        }
    }

    #[inline(always)]
    fn observe(&self, event: &Event<'_>) {
        report::count(self.cpu, event);
        if let Some(ring) = self.ring() {
            ring.event(self.cpu.index, event);
        }
        if OBSERVED && let Some(judge) = &self.cpu.hypervisor.judge {
            report::judge(self.cpu, &mut judge.lock(), event);
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

impl<const OBSERVED: bool> BusObserver for Embedder<OBSERVED> {
    #[inline(always)]
    fn observe_bus(&self, event: &BusEvent<'_>) {
        report::count_bus(event);
        if let Some(ring) = self.ring() {
            ring.bus_event(self.cpu.index, event);
        }
        if OBSERVED && let Some(judge) = &self.cpu.hypervisor.judge {
            report::judge_bus(self.cpu, &mut judge.lock(), event);
        }
    }
}
