//! The machine: QEMU with the hypervisor at EL2, its RAM in a file that we share with it.

mod backing;
mod command;
mod console;
pub(crate) mod debugger;
pub(crate) mod load;
pub(crate) mod platform;
mod ram;
mod run;
mod silence;
mod terminal;

use std::path::PathBuf;
use std::time::Duration;

use crate::setup::qemu::Qemu;

pub(crate) use backing::Backing;
pub(crate) use console::{Console, Sink};
pub(crate) use ram::Ram;
pub(crate) use run::{End, Outcome, Running, command_line};
pub(crate) use silence::Silence;

/// Where a machine without a hypervisor starts: above what QEMU puts at the start of RAM, below the guest's.
pub(crate) const DIRECT_START: u64 = 0x4030_0000;
const _: () = assert!(DIRECT_START < hv_wire::platform::GUEST_RAM_BASE);

/// What machine to start.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The QEMU program, and what it can do.
    pub(crate) qemu: Qemu,
    /// ELF file of the hypervisor. Without one there is no EL2, and CPU 0 starts at EL1 with what is at
    /// [`DIRECT_START`].
    pub(crate) hypervisor: Option<PathBuf>,
    /// QEMU's name of the CPU, with its options.
    pub(crate) cpu: String,
    /// CPUs, one per VP.
    pub(crate) vps: u32,
    /// Memory behind the machine's RAM, each behind the one before.
    pub(crate) backings: Vec<Backing>,
    /// Counted instructions instead of the host's clock, and fixed seeds: every run is the same.
    pub(crate) deterministic: bool,
    /// Where QEMU waits for a debugger before the first instruction.
    pub(crate) gdb: Option<debugger::Address>,
    /// When to give up, in wall-clock time.
    pub(crate) timeout: Option<Duration>,
    /// When and what to say of a guest that prints nothing; never where there is none.
    pub(crate) silence: Option<Silence>,
}
