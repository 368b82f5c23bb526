//! The VPs: each but the first waits for work.
#![expect(unsafe_code, reason = "work is lent for as long as the lender waits; a VP starts in assembly")]

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use core::time::Duration;

use hv_tlfs::start_vp::InitialVpContext;
use rt::cpu::AffinityState;
use rt::{MAX_CPUS, arch, cpu, irq, machine, time};
use spin::Mutex;

/// The SGI that wakes a VP which waits, and whoever waits for it.
const WAKE: u32 = 1;
/// How long a VP may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(5);
/// SCTLR_EL1 with the MMU off and the RES1 bits set, as the runtime's start code expects it (Arm ARM, "SCTLR_EL1").
const SCTLR_OFF: u64 = 0x30d0_0800;

/// Something to do on another VP.
#[derive(Clone, Copy)]
enum Job {
    Run(&'static (dyn Fn() + Sync)),
    Stop,
}

static JOBS: [Mutex<Option<Job>>; MAX_CPUS] = [const { Mutex::new(None) }; MAX_CPUS];
/// Jobs that a VP has done.
static DONE: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(0) }; MAX_CPUS];
/// The VP waits for jobs.
static ONLINE: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];

/// Takes what interrupts are pending.
pub(crate) fn take_interrupts() {
    irq::unmask();
    arch::isb();
    irq::mask();
}

/// Waits until a condition holds that another VP brings about, which then sends a [`WAKE`].
fn wait(condition: impl Fn() -> bool) {
    while !condition() {
        // Masked: what comes after the look ends the WFI all the same.
        arch::wfi();
        take_interrupts();
    }
}

/// Waits, without a [`WAKE`], at most for [`PATIENCE`].
fn wait_long(condition: impl FnMut() -> bool) -> bool {
    time::wait_until(PATIENCE, condition)
}

/// What every VP but the first does.
fn serve() {
    let own = cpu::index();
    irq::enable(WAKE, |_| ());
    ONLINE[own].store(true, Ordering::Release);
    loop {
        wait(|| JOBS[own].lock().is_some());
        let job = JOBS[own].lock().take();
        match job {
            Some(Job::Run(work)) => work(),
            Some(Job::Stop) => return,
            None => continue,
        }
        DONE[own].fetch_add(1, Ordering::Release);
        irq::send_sgi(0, WAKE);
    }
}

/// Starts all VPs but the first, which calls.
pub(crate) fn start_all() {
    irq::enable(WAKE, |_| ());
    for vp in 1..machine::get().vps() {
        assert!(start(vp) && wait_online(vp), "VP {vp} does not start");
    }
}

/// Starts a VP by PSCI.
pub(crate) fn start(vp: usize) -> bool {
    ONLINE[vp].store(false, Ordering::Release);
    cpu::start(vp, serve).is_ok()
}

/// Waits until a VP that was started serves.
pub(crate) fn wait_online(vp: usize) -> bool {
    wait_long(|| ONLINE[vp].load(Ordering::Acquire))
}

/// Hands a VP a job.
fn give(vp: usize, job: Job) {
    *JOBS[vp].lock() = Some(job);
    irq::send_sgi(vp, WAKE);
}

/// Runs `work` on a VP. The first VP calls.
pub(crate) fn run_on(vp: usize, work: &(dyn Fn() + Sync)) {
    if vp == cpu::index() {
        return work();
    }
    let before = DONE[vp].load(Ordering::Acquire);
    // SAFETY: the lifetime is not longer than the call: this function does not return, nor unwind (there is no unwinding
    // here), before the VP has counted the job as done, after which it does not use the reference.
    let work: &'static (dyn Fn() + Sync) = unsafe { core::mem::transmute(work) };
    give(vp, Job::Run(work));
    wait(|| DONE[vp].load(Ordering::Acquire) != before);
}

/// Switches a VP off, and waits until it is.
pub(crate) fn stop(vp: usize) -> bool {
    give(vp, Job::Stop);
    wait_long(|| matches!(cpu::state(vp), Ok(AffinityState::Off)))
}

core::arch::global_asm!(
    "// A VP that HvCallStartVirtualProcessor starts: its number is in X18, the only register to be had.",
    ".section .text.guest_start, \"ax\"",
    ".global guest_start",
    "guest_start:",
    "    mov x0, x18",
    "    b   rt_secondary_start",
    ".previous",
);

unsafe extern "C" {
    fn guest_start();
}

/// The context with which a VP comes to [`serve`] again.
pub(crate) fn start_context(vp: usize) -> InitialVpContext {
    ONLINE[vp].store(false, Ordering::Release);
    cpu::prepare(vp, serve);
    InitialVpContext {
        pc: guest_start as *const () as u64,
        sp_elh: 0,
        sctlr_el1: SCTLR_OFF,
        mair_el1: 0,
        tcr_el1: 0,
        vbar_el1: 0,
        ttbr0_el1: 0,
        ttbr1_el1: 0,
        x18: vp as u64,
    }
}
