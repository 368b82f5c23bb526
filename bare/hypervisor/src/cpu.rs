//! This CPU: the state that belongs to the CPU that runs the code, and to the VP of the same number.
//!
//! [`ThisCpu`] is made once on each CPU, when it starts, and lives in the [`TrapFrame`] at the top of the CPU's stack,
//! which each exit lends to its handler. It cannot leave its CPU, so what holds one knows where it runs.
#![expect(unsafe_code, reason = "the frame at the stack's top")]

use core::cell::Cell;
use core::fmt::{self, Write};
use core::marker::PhantomData;

use arm_sysregs::el1::registers::MpidrEl1;
use arm_sysregs::el2::registers::CnthpCtlEl2;
use hv_partition::faults::Injector;
use hv_partition::strict::Finding;
use hv_trace::{Fault, What};
use hv_wire::platform::MAX_VPS;

use crate::arch::{mrs, msr};
use crate::backtrace::{self, Left};
use crate::hypervisor::{Hypervisor, Requests};
use crate::report::{OwnVp, VpCounts};
use crate::stacks;
use crate::trace::{self, Ring};

/// ICH_VTR_EL2.ListRegs: the number of list registers less one; there are 16 at most (Arm ARM; arm-sysregs lacks it).
const LIST_REGS: u64 = 0xf;

/// A VP's general registers while its CPU is at EL2, and the CPU itself: at the top of the CPU's stack, where vectors.s
/// stores the registers.
#[repr(C, align(16))]
pub(crate) struct TrapFrame {
    /// X0 to X30. After a hypercall or an interrupt, X19 to X28 are stale here: Rust code preserves them in the
    /// registers.
    pub x: [u64; 31],
    /// The CPU.
    pub cpu: ThisCpu,
}

impl TrapFrame {
    /// Puts the CPU where its exits find it.
    pub(crate) fn of(cpu: ThisCpu) -> &'static mut Self {
        let place = stacks::end(cpu.index).expect("CPU 0 placed the stacks") as *mut Self;
        let place = place.wrapping_sub(1).cast::<core::mem::MaybeUninit<Self>>();
        // SAFETY: the place is mapped and aligned (hv_wire::platform), start.s begins the CPU's stack below it, and
        // there is one `ThisCpu` for each CPU, so nothing else is there and this is the only reference.
        let frame = unsafe { &mut *place };
        frame.write(Self { x: [0; 31], cpu })
    }
}

/// The CPU that runs this code. Neither `Send` nor `Sync`; there is one for each CPU.
pub(crate) struct ThisCpu {
    /// Everything that the CPUs share.
    pub hypervisor: &'static Hypervisor,
    index: usize,
    /// The list registers implemented, a bit for each.
    pub lists: u32,
    /// Whether the run is traced, judged by the strict mode, or has faults injected.
    observed: bool,
    /// The VP's counts in the report.
    pub counts: VpCounts,
    /// The trace ring of this VP, in a traced run.
    ring: Option<Ring>,
    /// X29 and X30 of the guest at the last exit that called [`ThisCpu::left`].
    left: Cell<(u64, u64)>,
    here: PhantomData<*mut ()>,
}

impl ThisCpu {
    /// Makes the CPU that runs this code.
    ///
    /// # Safety
    ///
    /// This code runs on the CPU with this number, for which none was made before.
    pub(crate) unsafe fn new(index: usize, hypervisor: &'static Hypervisor) -> Self {
        // SAFETY: the caller promises that this runs on the CPU with this number, once.
        let own = unsafe { OwnVp::new(index) };
        let counts = VpCounts::new(&hypervisor.info, own);
        let ring = Ring::new(&hypervisor.info, counts.vp());
        Self {
            hypervisor,
            index,
            lists: u32::MAX >> (31 - (mrs!("ich_vtr_el2") & LIST_REGS)),
            observed: ring.is_some() || hypervisor.judge.is_some() || hypervisor.injector.is_some(),
            counts,
            ring,
            left: Cell::new((0, 0)),
            here: PhantomData,
        }
    }

    /// Returns the number of the CPU, and of its VP.
    #[inline(always)]
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Returns whether something observes this run: a trace, the strict mode's judge, or injected faults.
    #[inline(always)]
    pub(crate) fn observed(&self) -> bool {
        self.observed
    }

    /// Returns the trace ring of this VP, in a traced run.
    #[inline(always)]
    pub(crate) fn ring(&self) -> Option<&Ring> {
        self.ring.as_ref()
    }

    /// Returns the requests to this CPU.
    pub(crate) fn requests(&self) -> &'static Requests {
        &self.hypervisor.requests[self.index]
    }

    /// Programs this CPU's timer with the VP's deadline, or the next look at the faults that have times: a guest that
    /// sleeps has no other exit.
    pub(crate) fn program_timer(&self) {
        // IMASK is clear.
        const ON: u64 = CnthpCtlEl2::ENABLE.bits();
        let deadline = self.requests().deadline();
        match if self.observed { self.or_next_look(deadline) } else { deadline } {
            None => msr!("cnthp_ctl_el2", 0),
            Some(counter) => {
                msr!("cnthp_cval_el2", counter.saturating_add(self.hypervisor.counter_offset));
                msr!("cnthp_ctl_el2", ON);
            }
        }
    }

    /// Returns the deadline, or the next look at the faults that have times, whichever is first.
    #[cold]
    #[inline(never)]
    fn or_next_look(&self, deadline: Option<u64>) -> Option<u64> {
        let look = self.has_timed_faults().then(|| mrs!("cntvct_el0") + mrs!("cntfrq_el0") / 1000);
        deadline.into_iter().chain(look).min()
    }

    /// Programs this CPU's timer if this run has a fault plan with times.
    #[cold]
    #[inline(never)]
    pub(crate) fn look_again(&self) {
        if self.has_timed_faults() {
            self.program_timer();
        }
    }

    fn has_timed_faults(&self) -> bool {
        self.observed && self.hypervisor.injector.as_ref().is_some_and(Injector::has_times)
    }

    /// Saves what locates the guest: its registers are borrowed while the exit is handled.
    #[inline(always)]
    pub(crate) fn left(&self, x: &[u64; 31]) {
        self.left.set((x[29], x[30]));
    }

    /// Locates the guest at the last exit that called [`ThisCpu::left`].
    fn guest(&self) -> Left<'_> {
        let (frame_pointer, link) = self.left.get();
        Left { ram: &self.hypervisor.ram, frame_pointer, link }
    }

    /// Counts a guest action that has no meaning here.
    #[cold]
    pub(crate) fn fault(&self, kind: Fault, value: u64) {
        self.counts.fault(kind, value, self.guest());
        if let Some(ring) = &self.ring {
            let (pc, callers) = trace::place(&backtrace::place(self.guest()));
            ring.push(What::Fault { fault: kind, value, pc, callers });
        }
    }

    /// Counts a rule that the guest broke, as found by the strict mode's judge.
    #[cold]
    pub(crate) fn found(&self, finding: Finding) {
        let number = finding.rule.number();
        self.counts.finding(number, finding.value, self.guest());
        if let Some(ring) = &self.ring {
            let (pc, callers) = trace::place(&backtrace::place(self.guest()));
            ring.push(What::Finding { rule: number as u16, value: finding.value, pc, callers });
        }
    }
}

/// Returns the number of the CPU that runs this code, for callers that have no [`ThisCpu`].
pub(crate) fn current_index() -> usize {
    let mpidr = MpidrEl1::from_bits_retain(mrs!("mpidr_el1"));
    // QEMU has 16 CPUs in a cluster.
    (usize::from(mpidr.aff0()) + usize::from(mpidr.aff1()) * 16) % MAX_VPS
}

/// Prints what the guest was doing when it last exited on this CPU.
pub(crate) fn describe_guest(out: &mut dyn Write) -> fmt::Result {
    let Some(end) = stacks::end(current_index()) else { return Ok(()) };
    let frame = (end as *const TrapFrame).wrapping_sub(1);
    // SAFETY: the frame of this CPU is mapped, and the field is inside it; this takes an address and makes no
    // reference.
    let x = unsafe { &raw const (*frame).x };
    // SAFETY: the field is mapped and aligned, and any bytes in it are valid numbers; the code that borrows the
    // registers does not resume after a panic.
    let x = unsafe { x.read_volatile() };
    writeln!(out, "guest: PC {:#x}, SPSR {:#x}", mrs!("elr_el2"), mrs!("spsr_el2"))?;
    for (row, values) in x.chunks(4).enumerate() {
        for (column, value) in values.iter().enumerate() {
            write!(out, "x{:<2} {value:016x}  ", row * 4 + column)?;
        }
        writeln!(out)?;
    }
    Ok(())
}
