//! A VP on its CPU: the frame that holds its registers at EL2, its start, and its end.
#![expect(unsafe_code, reason = "entering the guest, and the frame at the stack's top")]

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hv_host::VpContext;
use hv_wire::VpReport;
use hv_wire::platform::MAX_VPS;
use spin::Mutex;

use crate::arch::{isb, mrs, msr, wfi};
use crate::{Hypervisor, gic, irq, memory, mmu, trace};

/// A VP's general registers while its CPU is at EL2, at the top of the CPU's stack. vectors.s knows the layout.
#[repr(C, align(16))]
pub(crate) struct Frame {
    /// X0 to X30. After a hypercall or an interrupt X19 to X28 are stale: Rust keeps them in the registers.
    pub x: [u64; 31],
    /// The CPU.
    pub cpu: &'static Cpu,
}
const _: () = assert!(size_of::<Frame>() == 256);

/// What belongs to one CPU, and with it to the VP of the same number.
pub(crate) struct Cpu {
    /// Number of the CPU and of its VP.
    pub index: usize,
    /// Everything that the CPUs share.
    pub hypervisor: &'static Hypervisor,
    /// The VP's report; see [`Cpu::report`].
    report: *mut VpReport,
    /// The run is traced, judged, or sees faults on purpose.
    pub observed: bool,
    /// Where this run's trace goes, if it is traced.
    pub trace: Option<trace::Ring>,
    /// X29 and X30 of the guest at the last exit that called [`Cpu::left`].
    frame_pointer: AtomicU64,
    link: AtomicU64,
    /// The VP shall run.
    start: AtomicBool,
    /// The partition shall be called as at a deadline: another CPU asks for it.
    woken: AtomicBool,
    /// Where it shall start.
    context: Mutex<Option<VpContext>>,
}

// SAFETY: `report` alone is not `Sync` by itself, and only the CPU itself may use it (`Cpu::report`).
unsafe impl Sync for Cpu {}
// SAFETY: as above.
unsafe impl Send for Cpu {}

impl Cpu {
    /// The VP's report, in the memory that the tool reads.
    ///
    /// # Safety
    ///
    /// The caller runs on this CPU and holds no other reference to it.
    #[expect(clippy::mut_from_ref, reason = "the report is not part of the CPU's own memory")]
    #[inline(always)]
    pub(crate) unsafe fn report(&self) -> &mut VpReport {
        // SAFETY: the region is ours, mapped, aligned, of this size (asserted in hv-wire), and any bytes are valid; that it
        // is the only reference is the caller's promise.
        unsafe { &mut *self.report }
    }

    pub(crate) fn new(index: usize, hypervisor: &'static Hypervisor) -> Self {
        let trace = trace::Ring::of(&hypervisor.info, index);
        Self {
            index,
            hypervisor,
            report: memory::vp_report(index),
            observed: trace.is_some() || hypervisor.judge.is_some() || hypervisor.injector.is_some(),
            trace,
            frame_pointer: AtomicU64::new(0),
            link: AtomicU64::new(0),
            start: AtomicBool::new(false),
            woken: AtomicBool::new(false),
            context: Mutex::new(None),
        }
    }

    /// Keeps what tells where the guest was: its frame is borrowed while the exit is handled.
    #[inline(always)]
    pub(crate) fn left(&self, x: &[u64; 31]) {
        self.frame_pointer.store(x[29], Ordering::Relaxed);
        self.link.store(x[30], Ordering::Relaxed);
    }

    /// X29 and X30 of the guest at the last exit.
    pub(crate) fn left_at(&self) -> (u64, u64) {
        (self.frame_pointer.load(Ordering::Relaxed), self.link.load(Ordering::Relaxed))
    }

    /// Lets the VP start. Any CPU may call it, while the VP is off.
    pub(crate) fn request_start(&self, context: &VpContext) {
        // Counted here, not when it runs: the VP that asked may go off before that, and is then not the last one.
        self.hypervisor.online.fetch_add(1, Ordering::Relaxed);
        *self.context.lock() = Some(*context);
        self.start.store(true, Ordering::Release);
    }

    /// Asks for a call of the partition on this CPU. Any CPU may do so, and kicks this one then.
    pub(crate) fn wake(&self) {
        self.woken.store(true, Ordering::Release);
    }

    /// Whether another CPU has asked since the last time.
    pub(crate) fn take_wake(&self) -> bool {
        // Every kick looks here: a load is cheaper than a swap.
        self.woken.load(Ordering::Acquire) && self.woken.swap(false, Ordering::AcqRel)
    }

    /// Waits, with the VP off, until it shall start; then enters it. The stack starts over.
    pub(crate) fn run(&'static self) -> ! {
        let context = loop {
            if self.start.swap(false, Ordering::Acquire)
                && let Some(context) = self.context.lock().take()
            {
                break context;
            }
            wfi();
            irq::handle(self);
        };
        reset_el1(&context);
        self.left(&[0; 31]);
        // What became pending while the VP was off may be in list registers by now. It is taken out of them before they
        // are emptied, and goes into them again.
        self.hypervisor.gic.reset_vp(self.index, &gic::Lists, &gic::Machine);
        gic::reset_virtual_interface();
        self.hypervisor.gic.sync(self.index, &gic::Lists, &gic::Machine);
        self.hypervisor.vp_started(self);
        // SAFETY: `frame` is this CPU's own, and nothing on the stack above it is in use.
        unsafe {
            let frame = frame(self.index);
            (*frame).x = [0; 31];
            (*frame).x[0] = context.x0;
            (*frame).x[18] = context.x18;
            (*frame).cpu = self;
            start_guest(frame as usize)
        }
    }
}

unsafe extern "C" {
    static __stacks: u8;
    fn start_guest(frame: usize) -> !;
}

/// Where the frame of a CPU is: at the end of its stack (hypervisor.ld).
fn frame(cpu: usize) -> *mut Frame {
    const STRIDE: usize = 0x9000;
    let stacks = (&raw const __stacks) as usize;
    (stacks + (cpu + 1) * STRIDE - size_of::<Frame>()) as *mut Frame
}

/// The number of the CPU that this runs on.
pub(crate) fn current_index() -> usize {
    let mpidr = mrs!("mpidr_el1");
    ((mpidr & 0xf) + (mpidr >> 8 & 0xff) * 16) as usize % MAX_VPS
}

/// Prints what the guest was doing when this CPU left it.
pub(crate) fn describe_guest(out: &mut dyn Write) -> fmt::Result {
    // SAFETY: the frame is mapped, and any bytes in its registers are numbers.
    let x = unsafe { (*frame(current_index())).x };
    writeln!(out, "guest: PC {:#x}, SPSR {:#x}", mrs!("elr_el2"), mrs!("spsr_el2"))?;
    for (row, values) in x.chunks(4).enumerate() {
        for (column, value) in values.iter().enumerate() {
            write!(out, "x{:<2} {value:016x}  ", row * 4 + column)?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// EL2 controls that hold for every VP at all times (Arm ARM, "AArch64 System register descriptions").
pub(crate) fn init_el2(counter_offset: u64) {
    /// RW, TIDCP, TSC, AMO, IMO, FMO, PTW, SWIO, VM. TIDCP: implementation defined registers may control what CPUs share.
    /// PTW: no walk of the guest's tables reaches a device, also not one on behalf of `arch::translate`.
    const HCR: u64 = 1 << 31 | 1 << 20 | 1 << 19 | 1 << 5 | 1 << 4 | 1 << 3 | 1 << 2 | 1 << 1 | 1 << 0;
    /// API and APK: pointer authentication is the guest's own. RES0 where there is none.
    const HCR_PAUTH: u64 = 1 << 41 | 1 << 40;
    msr!("hcr_el2", HCR | if has_pauth() { HCR_PAUTH } else { 0 });
    /// RES1 bits of the non-VHE layout, TZ and TSM clear: SVE and SME are the guest's own, FP is not trapped.
    const CPTR: u64 = 0x22ff;
    msr!("cptr_el2", CPTR);
    isb();
    let pfr0 = mrs!("id_aa64pfr0_el1");
    let pfr1 = mrs!("id_aa64pfr1_el1");
    if pfr0 >> 32 & 0xf != 0 {
        // ZCR_EL2.LEN: no limit of ours.
        msr!("s3_4_c1_c2_0", 0xf);
    }
    if pfr1 >> 24 & 0xf != 0 {
        // SMCR_EL2: LEN without a limit, FA64.
        msr!("s3_4_c1_c2_6", 1 << 31 | 0xf);
    }
    if mrs!("id_aa64mmfr1_el1") >> 40 & 0xf != 0 {
        // HCRX_EL2: what it enables is the guest's own: the ST64B forms, SMPME, MSCEn, TCR2En, SCTLR2En.
        msr!("s3_4_c1_c2_2", 1 << 15 | 1 << 14 | 1 << 11 | 1 << 5 | 0b111);
    }
    if mrs!("id_aa64mmfr0_el1") >> 56 & 0xf != 0 {
        // HFGRTR_EL2 and HFGWTR_EL2: the bits from 50 on trap when they are clear. HFGITR_EL2, HDFGRTR_EL2 and
        // HDFGWTR_EL2 need not be zero after a reset.
        msr!("s3_4_c1_c1_4", 0x3fff << 50);
        msr!("s3_4_c1_c1_5", 0x3fff << 50);
        msr!("s3_4_c1_c1_6", 0);
        msr!("s3_4_c3_c1_4", 0);
        msr!("s3_4_c3_c1_5", 0);
    }
    msr!("mdcr_el2", debug_controls());
    // CNTHCTL_EL2: EL1 uses the physical counter and timer without a trap.
    msr!("cnthctl_el2", 0b11);
    msr!("cntvoff_el2", counter_offset);
    msr!("cnthp_ctl_el2", 0);
    msr!("hstr_el2", 0);
    msr!("vpidr_el2", mrs!("midr_el1"));
    msr!("vmpidr_el2", mrs!("mpidr_el1"));
    mmu::activate_stage2();
    isb();
}

/// MDCR_EL2: all event counters are the guest's (HPMN), but do not count what happens at EL2 where the CPU can tell
/// (HPMD, HCCD). No buffer of a profiling or trace unit is the guest's (E2PB, E2TB): those write to memory by EL2's map.
fn debug_controls() -> u64 {
    const HPMD: u64 = 1 << 17;
    const HCCD: u64 = 1 << 23;
    match mrs!("id_aa64dfr0_el1") >> 8 & 0xf {
        // No architected PMU: its registers do not exist.
        0 | 0xf => 0,
        version => {
            let counters = mrs!("pmcr_el0") >> 11 & 0x1f;
            counters | if version >= 4 { HPMD } else { 0 } | if version >= 6 { HCCD } else { 0 }
        }
    }
}

/// Either pointer authentication algorithm: ID_AA64ISAR1_EL1.{GPI,GPA,API,APA}, ID_AA64ISAR2_EL1.{APA3,GPA3}.
fn has_pauth() -> bool {
    let isar1 = mrs!("id_aa64isar1_el1");
    let isar2 = mrs!("s3_0_c0_c6_2");
    isar1 & 0xff00_0ff0 != 0 || isar2 & 0xff00 != 0
}

/// SPSR_EL2 of a VP that starts: EL1h, with D, A, I and F masked.
const EL1H_MASKED: u64 = 0x3c5;

/// EL1 as it is after a reset, but for what `context` says.
fn reset_el1(context: &VpContext) {
    msr!("cntv_ctl_el0", 0);
    msr!("cntp_ctl_el0", 0);
    msr!("cntkctl_el1", 0);
    msr!("cpacr_el1", 0);
    msr!("contextidr_el1", 0);
    msr!("tpidr_el0", 0);
    msr!("tpidrro_el0", 0);
    msr!("tpidr_el1", 0);
    msr!("sp_el0", 0);
    msr!("csselr_el1", 0);
    msr!("mdscr_el1", 0);
    msr!("esr_el1", 0);
    msr!("far_el1", 0);
    msr!("par_el1", 0);
    msr!("elr_el1", 0);
    msr!("spsr_el1", 0);
    msr!("sp_el1", context.sp);
    msr!("sctlr_el1", context.sctlr);
    msr!("mair_el1", context.mair);
    msr!("tcr_el1", context.tcr);
    msr!("ttbr0_el1", context.ttbr0);
    msr!("ttbr1_el1", context.ttbr1);
    msr!("vbar_el1", context.vbar);
    msr!("elr_el2", context.pc);
    msr!("spsr_el2", EL1H_MASKED);
    isb();
}

/// The VP is off: its timers stop, its interrupts leave the list registers, and its CPU waits.
pub(crate) fn stop(cpu: &'static Cpu) -> ! {
    msr!("cntv_ctl_el0", 0);
    msr!("cntp_ctl_el0", 0);
    msr!("cnthp_ctl_el2", 0);
    isb();
    cpu.hypervisor.gic.reset_vp(cpu.index, &gic::Lists, &gic::Machine);
    cpu.hypervisor.vp_stopped(cpu);
    cpu.run()
}
