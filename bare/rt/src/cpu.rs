//! CPUs (VPs): which one this is, and starting others.
#![expect(unsafe_code, reason = "the start code calls Rust by name")]

use smccc::{Hvc, psci};
use spin::Mutex;

pub use smccc::psci::{AffinityState, Error};

use crate::{MAX_CPUS, Machine, arch, found, irq, machine, mrs, restart};

type Work = Option<fn()>;

/// What each CPU shall run.
static WORK: [Mutex<Work>; MAX_CPUS] = [const { Mutex::new(None) }; MAX_CPUS];

unsafe extern "C" {
    fn rt_secondary_start();
}

unsafe extern "Rust" {
    /// The program's main function: `entry!` defines it.
    safe fn __rt_main(machine: &'static Machine);
}

/// The number of this CPU: its place in the device tree's list.
#[inline(always)]
pub fn index() -> usize {
    mrs!("tpidr_el1") as usize % MAX_CPUS
}

/// Starts another CPU, which runs `work` with interrupts masked, and goes off when that returns.
///
/// # Errors
///
/// What PSCI CPU_ON says.
///
/// # Panics
///
/// If there is no such CPU.
pub fn start(cpu: usize, work: fn()) -> Result<(), Error> {
    let entry = prepare(cpu, work);
    psci::cpu_on::<Hvc>(machine::get().mpidr(cpu), entry, cpu as u64)
}

/// Leaves `work` for a CPU that is started in another way, and gives the address where it must start: at EL1, MMU off,
/// interrupts masked, X0 = `cpu`.
///
/// # Panics
///
/// If there is no such CPU.
pub fn prepare(cpu: usize, work: fn()) -> u64 {
    assert!(cpu < machine::get().vps(), "there is no CPU {cpu}");
    *WORK[cpu].lock() = Some(work);
    // What the CPU reads before its MMU is on, this one wrote before its own was on, or it is coherent (QEMU).
    arch::dsb();
    rt_secondary_start as *const () as u64
}

/// Whether a CPU is on.
///
/// # Errors
///
/// What PSCI AFFINITY_INFO says.
pub fn state(cpu: usize) -> Result<AffinityState, Error> {
    psci::affinity_info::<Hvc>(machine::get().mpidr(cpu), psci::LowestAffinityLevel::All)
}

/// Switches this CPU off.
///
/// # Panics
///
/// If PSCI refuses.
pub fn off() -> ! {
    irq::mask();
    let refusal = psci::cpu_off::<Hvc>();
    panic!("CPU_OFF returned: {refusal:?}")
}

/// CPU 0, MMU on: X0 and X1 of the start.
#[unsafe(no_mangle)]
extern "C" fn rt_primary(tree: *const u8, generation: u64) -> ! {
    restart::started(tree, generation);
    let machine = machine::init(tree);
    found::record(machine);
    irq::init(machine);
    irq::init_cpu();
    __rt_main(machine);
    crate::power::off()
}

/// Any other CPU, MMU on.
#[unsafe(no_mangle)]
extern "C" fn rt_secondary(cpu: usize) -> ! {
    found::record(machine::get());
    irq::init_cpu();
    let work = WORK[cpu].lock().take();
    if let Some(work) = work {
        work();
    }
    off()
}
