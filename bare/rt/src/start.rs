//! The start of each CPU: from assembly to the program's main function, or to the work that another CPU left for it.
#![expect(unsafe_code, reason = "the start code is assembly, and main is a name")]

use crate::hardware::{self, Hardware};
use crate::{cpu, found, irq, mmu, power, restart};

core::arch::global_asm!(
    include_str!("start.s"),
    build_tables = sym mmu::build_tables,
    primary = sym primary,
    secondary = sym secondary,
    translation = sym mmu::TRANSLATION,
    mair = const mmu::MAIR,
    sctlr_on = const mmu::SCTLR_ON,
    sctlr_off = const mmu::SCTLR_OFF,
);

unsafe extern "Rust" {
    /// The program's main function: `entry!` defines it.
    safe fn __rt_main(hardware: &'static Hardware);
}

/// Starts CPU 0, with the MMU on, from X0 and X1 of its start.
extern "C" fn primary(tree: *const u8, generation: u64) -> ! {
    restart::started(tree, generation);
    let hardware = hardware::init(tree);
    found::record(hardware);
    irq::init(hardware);
    irq::init_cpu();
    __rt_main(hardware);
    power::off()
}

/// Starts any other CPU, with the MMU on.
extern "C" fn secondary() -> ! {
    found::record(hardware::get());
    irq::init_cpu();
    if let Some(work) = cpu::take_work() {
        work();
    }
    cpu::off()
}
