//! Work for all VPs: each but the first waits for it.
//!
//! Interrupts are masked except in the windows of [`take_interrupts`], so that none comes between a check and the WFI
//! that follows it. A VP that waits takes its interrupts.
#![expect(unsafe_code, reason = "work is lent for as long as the lender waits; a VP starts in assembly")]

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use core::time::Duration;

use spin::Mutex;

use crate::cpu::AffinityState;
pub use crate::mmu::SCTLR_OFF;
use crate::stacks::MAX_CPUS;
use crate::{arch, cpu, hardware, irq, time};

/// The SGI that wakes a waiting VP, and a VP that waits for another.
const WAKE: u32 = 1;
/// How long a VP may take to start or to stop: what takes longer will not come, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(120);

/// A job for another VP.
#[derive(Clone, Copy)]
enum Job {
    Run(&'static (dyn Fn() + Sync)),
    Stop,
}

static JOBS: [Mutex<Option<Job>>; MAX_CPUS] = [const { Mutex::new(None) }; MAX_CPUS];
/// Number of jobs that a VP has done.
static DONE: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(0) }; MAX_CPUS];
/// The VP has a job: no other is given to it until this one is done.
static BUSY: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];
/// The VP waits for jobs.
static ONLINE: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];

/// Takes the pending interrupts.
pub fn take_interrupts() {
    irq::unmask();
    arch::isb();
    irq::mask();
}

/// Waits until a condition holds that another VP makes true, which then sends a [`WAKE`].
fn wait(condition: impl Fn() -> bool) {
    while !condition() {
        // Masked: an interrupt that comes after the check ends the WFI anyway.
        arch::wfi();
        take_interrupts();
    }
}

/// Waits, without a [`WAKE`], at most for [`PATIENCE`].
fn wait_long(condition: impl FnMut() -> bool) -> bool {
    time::wait_until(PATIENCE, condition)
}

/// Runs on every VP but the first: serves jobs.
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
pub fn start_all() {
    irq::enable(WAKE, |_| ());
    for vp in 1..hardware::get().vps() {
        assert!(start(vp) && wait_online(vp), "VP {vp} does not start");
    }
}

/// Starts a VP by PSCI.
pub fn start(vp: usize) -> bool {
    ONLINE[vp].store(false, Ordering::Release);
    cpu::start(vp, serve).is_ok()
}

/// Waits until a started VP serves.
pub fn wait_online(vp: usize) -> bool {
    wait_long(|| ONLINE[vp].load(Ordering::Acquire))
}

/// Hands a VP a job, and returns how many it has done so far.
///
/// # Panics
///
/// If it has one: another VP, or a handler, is handing it one at the same time.
fn give(vp: usize, job: Job) -> u32 {
    assert!(!BUSY[vp].swap(true, Ordering::Acquire), "VP {vp} has a job");
    let before = DONE[vp].load(Ordering::Acquire);
    *JOBS[vp].lock() = Some(job);
    irq::send_sgi(vp, WAKE);
    before
}

/// Runs `work` on a VP. The first VP calls.
pub fn run_on(vp: usize, work: &(dyn Fn() + Sync)) {
    if vp == cpu::index() {
        return work();
    }
    // SAFETY: the lifetime is not longer than the call: this function neither returns nor unwinds (there is no
    // unwinding here) before the VP has counted the job as done, after which it does not use the reference. The job
    // that the VP counts is this one, since no other is given to it meanwhile (`BUSY`).
    let work: &'static (dyn Fn() + Sync) = unsafe { core::mem::transmute(work) };
    let before = give(vp, Job::Run(work));
    wait(|| DONE[vp].load(Ordering::Acquire) != before);
    BUSY[vp].store(false, Ordering::Release);
}

/// Switches a VP off, and waits until it is off.
pub fn stop(vp: usize) -> bool {
    give(vp, Job::Stop);
    let off = wait_long(|| matches!(cpu::state(vp), Ok(AffinityState::Off)));
    BUSY[vp].store(!off, Ordering::Release);
    off
}

core::arch::global_asm!(
    "// A VP that is started with its number in X18, the only register that HvCallStartVirtualProcessor gives.",
    ".section .text.rt_start_x18, \"ax\"",
    ".global rt_start_x18",
    "rt_start_x18:",
    "    mov x0, x18",
    "    b   rt_secondary_start",
    ".previous",
);

unsafe extern "C" {
    fn rt_start_x18();
}

/// Returns the address at which a stopped VP is restarted to serve: at EL1, SCTLR_EL1 = [`SCTLR_OFF`], interrupts
/// masked, X18 = `vp`.
pub fn start_address(vp: usize) -> u64 {
    ONLINE[vp].store(false, Ordering::Release);
    cpu::prepare(vp, serve);
    rt_start_x18 as *const () as u64
}
