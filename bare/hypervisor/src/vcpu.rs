//! A VP on its CPU: the frame that holds its registers at EL2, its start, and its end.
#![expect(unsafe_code, reason = "entering the guest, and the frame at the stack's top")]

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hv_partition::VpContext;
use hv_wire::VpReport;
use hv_wire::platform::MAX_VPS;
use spin::Mutex;

use crate::arch::{isb, mrs, msr, wfi};
use crate::{Hypervisor, gic, irq, memory, reset, trace};

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
    /// The VP's deadline, as the guest's counter; `u64::MAX` is none. Written under the VP's lock in the partition.
    deadline: AtomicU64,
    /// Another CPU has changed the deadline.
    timer_requested: AtomicBool,
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
            deadline: AtomicU64::new(u64::MAX),
            timer_requested: AtomicBool::new(false),
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

    /// Sets the VP's deadline. Any CPU may call it; the timer follows with [`Cpu::program_timer`].
    pub(crate) fn set_deadline(&self, counter: Option<u64>) {
        self.deadline.store(counter.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Makes the deadline that of this CPU's timer. Called on this CPU.
    pub(crate) fn program_timer(&self) {
        // ENABLE, IMASK clear.
        const ON: u64 = 1;
        match self.deadline.load(Ordering::Relaxed) {
            u64::MAX => msr!("cnthp_ctl_el2", 0),
            counter => {
                msr!("cnthp_cval_el2", counter.saturating_add(self.hypervisor.counter_offset));
                msr!("cnthp_ctl_el2", ON);
            }
        }
    }

    /// Asks this CPU to program its timer. Any CPU may do so, and kicks this one then.
    pub(crate) fn request_timer(&self) {
        self.timer_requested.store(true, Ordering::Release);
    }

    /// Returns whether another CPU has asked since the last time.
    pub(crate) fn take_timer_request(&self) -> bool {
        // Every kick looks here: a load is cheaper than a swap.
        self.timer_requested.load(Ordering::Acquire) && self.timer_requested.swap(false, Ordering::AcqRel)
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
        reset::el1(&context, &self.hypervisor.features);
        self.left(&[0; 31]);
        // What became pending while the VP was off may be in list registers by now. It is taken out of them before they
        // are emptied, and goes into them again.
        self.hypervisor.gic.reset_vp(self.index, &gic::Lists, &gic::Machine);
        gic::reset_virtual_interface();
        self.hypervisor.gic.start_vp(self.index);
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
    const STRIDE: usize = 0xb000;
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

/// The VP is off: its timers and counters stop, its interrupts leave the list registers, and its CPU waits.
pub(crate) fn stop(cpu: &'static Cpu) -> ! {
    reset::quiesce();
    msr!("cnthp_ctl_el2", 0);
    isb();
    cpu.hypervisor.gic.reset_vp(cpu.index, &gic::Lists, &gic::Machine);
    cpu.hypervisor.vp_stopped(cpu);
    cpu.run()
}
