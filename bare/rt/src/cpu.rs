//! CPUs (VPs): the number of this one, and starting others.
#![expect(unsafe_code, reason = "the address of the start code")]

use smccc::{Hvc, psci};
use spin::Mutex;

pub use smccc::psci::{AffinityState, Error};

use crate::stacks::MAX_CPUS;
use crate::{arch, hardware, mrs};

type Work = Option<fn()>;

/// The work of each CPU.
static WORK: [Mutex<Work>; MAX_CPUS] = [const { Mutex::new(None) }; MAX_CPUS];

unsafe extern "C" {
    fn rt_secondary_start();
}

/// Returns the number of this CPU: its place in the device tree's list.
#[inline(always)]
pub fn index() -> usize {
    mrs!("tpidr_el1") as usize % MAX_CPUS
}

/// Starts another CPU, which runs `work` with interrupts masked, and powers off when that returns.
///
/// # Errors
///
/// The error of PSCI CPU_ON.
///
/// # Panics
///
/// If there is no such CPU.
pub fn start(cpu: usize, work: fn()) -> Result<(), Error> {
    let entry = prepare(cpu, work);
    psci::cpu_on::<Hvc>(hardware::get().mpidr(cpu), entry, cpu as u64)
}

/// Leaves `work` for a CPU that is started in another way, and returns the address at which it must start: at EL1, MMU
/// off, interrupts masked, X0 = `cpu`.
///
/// # Panics
///
/// If there is no such CPU.
pub fn prepare(cpu: usize, work: fn()) -> u64 {
    assert!(cpu < hardware::get().vps(), "there is no CPU {cpu}");
    *WORK[cpu].lock() = Some(work);
    // This CPU wrote what the new one reads with its MMU off before its own MMU was on, or memory is coherent (QEMU).
    arch::dsb();
    rt_secondary_start as *const () as u64
}

/// Returns whether a CPU is on.
///
/// # Errors
///
/// The error of PSCI AFFINITY_INFO.
pub fn state(cpu: usize) -> Result<AffinityState, Error> {
    psci::affinity_info::<Hvc>(hardware::get().mpidr(cpu), psci::LowestAffinityLevel::All)
}

/// Switches this CPU off.
///
/// # Panics
///
/// If PSCI refuses.
pub fn off() -> ! {
    arch::mask();
    let refusal = psci::cpu_off::<Hvc>();
    panic!("CPU_OFF returned: {refusal:?}")
}

/// Takes the work that was left for this CPU.
pub(crate) fn take_work() -> Option<fn()> {
    WORK[index()].lock().take()
}
