//! The state that all CPUs share: the partition, the guest's interrupt controller and memory, and the CPUs' requests to
//! one another.

use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use hv_cpu::id::Values;
use hv_partition::faults::Injector;
use hv_partition::strict::Judge;
use hv_partition::{Partition, VpContext};
use hv_vgic::Gic;
use hv_wire::BootInfo;
use hv_wire::platform::MAX_VPS;

use crate::devices::Bus;
use crate::disks::Disks;
use crate::lock::{Lock, Mutex};
use crate::memory::GuestRam;

/// The state that all CPUs share, in this order: the fields of the hot path are within reach of a load's immediate
/// offset.
#[repr(C)]
pub(crate) struct Hypervisor {
    /// The partition: everything that is Hyper-V.
    pub partition: Partition<'static, Lock, Bus>,
    /// The guest's interrupt controller.
    pub gic: Gic<'static>,
    /// What the guest sees of the CPU.
    pub features: Values,
    /// The guest's memory.
    pub ram: GuestRam,
    /// The guest's disks, by number.
    pub disks: Disks,
    /// What the tool asked for.
    pub info: BootInfo,
    /// CNTVOFF_EL2: the guest's counter starts at 0 when the partition is created.
    pub counter_offset: u64,
    /// The strict mode's judge, if this run has one.
    pub judge: Option<&'static Mutex<Judge<MAX_VPS>>>,
    /// Where dynamic memory keeps its record; nothing without it.
    pub record: &'static [AtomicU64],
    /// The faults to inject into this run, if any.
    pub injector: Option<Injector>,
    /// VPs that are on, or were asked to start.
    pub online: AtomicUsize,
    /// The requests to each CPU.
    pub requests: &'static [Requests],
    /// Bytes of the VPs' memory in use: stacks and state.
    pub vp_memory: u64,
}

impl Hypervisor {
    /// Returns the number of VPs.
    pub(crate) fn vps(&self) -> usize {
        self.info.vps as usize
    }

    /// Starts a VP that is off. Its CPU waits for an interrupt: kick it.
    pub(crate) fn request_start(&self, vp: usize, context: &VpContext) {
        // Counted here, not when the VP runs: the VP that asked may go off first, and is then not the last one.
        self.online.fetch_add(1, Ordering::Relaxed);
        let requests = &self.requests[vp];
        *requests.context.lock() = Some(*context);
        requests.start.store(true, Ordering::Release);
    }

    /// Counts a VP that stopped; returns true if it was the last one.
    pub(crate) fn last_went_off(&self) -> bool {
        self.online.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

/// The requests to a CPU, by itself or by another CPU, which then kicks it.
#[repr(align(64))]
pub(crate) struct Requests {
    /// The VP is to run.
    start: AtomicBool,
    /// The VP's deadline, in the guest's counter; `u64::MAX` is none. Written under the VP's lock in the partition.
    deadline: AtomicU64,
    /// Another CPU has changed the deadline.
    timer: AtomicBool,
    /// Where the VP is to start.
    context: Mutex<Option<VpContext>>,
}

impl Requests {
    pub(crate) const fn new() -> Self {
        Self {
            start: AtomicBool::new(false),
            deadline: AtomicU64::new(u64::MAX),
            timer: AtomicBool::new(false),
            context: Mutex::new(None),
        }
    }

    /// Takes the request to start, if there is one.
    pub(crate) fn take_start(&self) -> Option<VpContext> {
        self.start.swap(false, Ordering::Acquire).then(|| self.context.lock().take())?
    }

    /// Sets the VP's deadline. Only its own CPU programs the timer.
    pub(crate) fn set_deadline(&self, counter: Option<u64>) {
        self.deadline.store(counter.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Returns the VP's deadline, in the guest's counter.
    pub(crate) fn deadline(&self) -> Option<u64> {
        Some(self.deadline.load(Ordering::Relaxed)).filter(|&counter| counter != u64::MAX)
    }

    /// Asks the CPU to program its timer.
    pub(crate) fn request_timer(&self) {
        self.timer.store(true, Ordering::Release);
    }

    /// Returns whether another CPU has changed the deadline since the last call.
    pub(crate) fn take_timer(&self) -> bool {
        // Every kick looks here: a load is cheaper than a swap.
        self.timer.load(Ordering::Acquire) && self.timer.swap(false, Ordering::AcqRel)
    }
}
