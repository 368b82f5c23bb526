//! The runtime of the EL1 guest programs.
//!
//! A program is a `no_std`, `no_main` binary that links with `-Trt.ld` and names its main function:
//!
//! ```ignore
//! #![no_std]
//! #![no_main]
//!
//! fn main(hardware: &'static rt::Hardware) {
//!     rt::println!("{} VPs, {:?} pages", hardware.vps(), hardware.granule);
//! }
//! rt::entry!(main);
//! ```
//!
//! It is entered as an ELF file at EL1 with X0 = device tree (`hv boot --firmware dt --kernel FILE`; QEMU's own
//! `-kernel` without a hypervisor does too). Before `main` the runtime parses the tree ([`Hardware`]), maps RAM and
//! devices to themselves ([`mmu`]; the argument `rt.granule=4k`, `16k` or `64k` chooses the page size), turns the MMU
//! and caches on, and sets up the interrupt controller ([`irq`]). When `main` returns, the machine is switched off. A
//! panic prints a line that starts with [`PANIC`] and switches the machine off too.
//!
//! - [`console`]: [`print!`] and [`println!`] to the PL011.
//! - [`exception`]: what an instruction that faults leaves behind; [`probe`]: accesses and instructions that may fault.
//! - [`gic`]: where the interrupt controller's registers are.
//! - [`found`]: what each CPU found when it started.
//! - [`cpu`]: which VP this is, starting others; [`vps`]: work for all of them.
//! - [`power`]: off and reset; [`restart`]: the program again, on the machine as the program leaves it.
//! - [`time`]: the counter, delays, the virtual timer.
#![no_std]

pub mod arch;
pub mod console;
pub mod cpu;
pub mod exception;
pub mod found;
pub mod gic;
mod granule;
pub mod hardware;
pub mod irq;
pub mod mmu;
pub mod power;
pub mod probe;
pub mod restart;
mod stacks;
mod start;
pub mod time;
pub mod vps;

pub use console::PANIC;
pub use granule::Granule;
pub use hardware::Hardware;
pub use stacks::MAX_CPUS;

/// Names the program's main function: `fn(&'static Hardware)`. CPU 0 calls it with interrupts masked.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        /// Runs the program; the runtime calls it when it is ready.
        #[unsafe(no_mangle)]
        fn __rt_main(hardware: &'static $crate::Hardware) {
            let main: fn(&'static $crate::Hardware) = $main;
            main(hardware);
        }
    };
}
