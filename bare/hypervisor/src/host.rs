//! hv-host's embedder: time, interrupts and memory for the partition, and the counts of the report.
#![expect(unsafe_code, reason = "the reports are fixed addresses")]

use core::ptr::addr_of_mut;

use hv_host::{Flush, Host, VpContext, VpMask};
use hv_wire::{ExitKind, Fault, Report, Trap};

use crate::arch::{self, isb, mrs, msr};
use crate::gic::{Lists, Machine};
use crate::memory::{self, GuestRam};
use crate::vcpu::Cpu;
use crate::{Hypervisor, mmu, power};

/// The embedder, as seen from one CPU.
#[derive(Clone, Copy)]
pub(crate) struct Embedder {
    pub cpu: &'static Cpu,
}

impl Embedder {
    #[inline(always)]
    pub(crate) fn new(cpu: &'static Cpu) -> Self {
        Self { cpu }
    }

    /// Counts an exit.
    #[inline(always)]
    pub(crate) fn exit(&self, trap: Trap, _esr: u64) {
        // SAFETY: this is the VP's CPU, and the reference ends with the statement.
        unsafe { memory::vp_report(self.cpu.index) }.traps[trap as usize] += 1;
    }

    /// The exit is over.
    #[inline(always)]
    pub(crate) fn enter(&self) {}

    /// Counts something that has no meaning here.
    #[cold]
    pub(crate) fn fault(&self, kind: Fault, value: u64) {
        let pc = mrs!("elr_el2");
        // SAFETY: this is the VP's CPU, and the reference ends with the statement.
        unsafe { memory::vp_report(self.cpu.index) }.fault(kind, value, pc);
    }

    /// Completes the report and switches the machine off.
    pub(crate) fn end_run(&self, kind: ExitKind) -> ! {
        power::end_run(kind)
    }
}

impl Host for Embedder {
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
        self.cpu.hypervisor.gic.assert(self.cpu.index, vp, intid, &Lists, &Machine);
    }

    fn set_deadline(&self, counter: Option<u64>) {
        // ENABLE, IMASK clear.
        const ON: u64 = 1;
        match counter {
            Some(counter) => {
                msr!("cnthp_cval_el2", counter.saturating_add(self.cpu.hypervisor.counter_offset));
                msr!("cnthp_ctl_el2", ON);
            }
            None => msr!("cnthp_ctl_el2", 0),
        }
    }

    fn start_vp(&self, vp: usize, context: &VpContext) {
        if let Some(cpu) = self.cpu.hypervisor.cpu(vp) {
            cpu.request_start(context);
            hv_vgic::Physical::kick(&Machine, vp);
        }
    }

    fn flush_tlb(&self, _targets: &VpMask, _what: Flush) {
        // Everything on every CPU is more than was asked for, which the TLFS allows.
        arch::flush_guest_tlb();
    }
}

/// Writes a field of the run's report.
macro_rules! report {
    ($field:ident = $value:expr) => {{
        let value = $value;
        // SAFETY: the report is ours and mapped; a field is written by one CPU at a time, or by any with the same value.
        unsafe { addr_of_mut!((*memory::report()).$field).write_volatile(value) }
    }};
}

/// The run begins.
pub(crate) fn begin_report(hypervisor: &Hypervisor) {
    let _ = hypervisor;
    report!(version = hv_wire::VERSION);
    report!(exit = ExitKind::Running as u32);
    report!(counter_frequency = mrs!("cntfrq_el0"));
    report!(memory_used = mmu::memory_used());
    report!(start_counter = mrs!("cntpct_el0"));
    report!(magic = Report::MAGIC);
}

/// A VP goes on.
pub(crate) fn vp_started(cpu: &Cpu) {
    // SAFETY: this is the VP's CPU, and the reference ends with the function.
    let report = unsafe { memory::vp_report(cpu.index) };
    report.started = 1;
    report.online = 1;
}

/// A VP goes off.
pub(crate) fn vp_stopped(cpu: &Cpu) {
    // SAFETY: this is the VP's CPU, and the reference ends with the statement.
    unsafe { memory::vp_report(cpu.index) }.online = 0;
}
