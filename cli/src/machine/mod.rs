//! The machine: QEMU with the hypervisor at EL2, or this program over KVM, and its RAM in a file shared with us.

mod backing;
mod command;
mod console;
pub(crate) mod debugger;
pub(crate) mod folder;
mod keyboard;
pub(crate) mod load;
pub(crate) mod platform;
mod private;
mod qmp;
mod ram;
mod run;
mod silence;
pub(crate) mod socket;

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::net::Network;
use crate::setup::qemu::Qemu;

pub(crate) use backing::Backing;
pub(crate) use command::command_line;
pub(crate) use console::{Console, KEPT as CONSOLE_KEPT, Sink};
pub(crate) use keyboard::{Begin, Typing, is_piped};
pub(crate) use private::Own;
pub(crate) use qmp::{LARGEST_STATE, Qmp};
pub(crate) use ram::{Layout, PIECE, Ram};
pub(crate) use run::{End, Outcome, Running, Saved};
pub(crate) use silence::Silence;

/// Start address of a machine without a hypervisor: above what QEMU puts at the start of RAM, below the guest's RAM.
pub(crate) const DIRECT_START: u64 = 0x4030_0000;
const _: () = assert!(DIRECT_START < hv_wire::platform::GUEST_RAM_BASE);

/// What runs the guest's instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Accel {
    /// This machine's own processors, by Linux KVM: an ARM64 machine with a GICv3, and Linux 6.4 or later
    Kvm,
    /// QEMU, which emulates them on any machine
    #[default]
    Tcg,
}

impl Accel {
    /// Returns the name of the process that is the machine.
    pub(crate) const fn program(self) -> &'static str {
        match self {
            Self::Kvm => "KVM",
            Self::Tcg => "QEMU",
        }
    }
}

/// QEMU, with what it emulates.
#[derive(Debug, Clone)]
pub(crate) struct Emulator {
    /// The QEMU program and its capabilities.
    pub(crate) qemu: Qemu,
    /// ELF file of the hypervisor. Without one there is no EL2, and CPU 0 starts at EL1 at [`DIRECT_START`].
    pub(crate) hypervisor: Option<PathBuf>,
    /// CPU model with options, in QEMU's notation.
    pub(crate) cpu: String,
}

/// Configuration of the machine.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// QEMU; without it the machine is one of KVM's.
    pub(crate) emulator: Option<Emulator>,
    /// Number of CPUs, one per VP.
    pub(crate) vps: u32,
    /// Memory after the machine's RAM, each after the one before.
    pub(crate) backings: Vec<Backing>,
    /// Count instructions instead of the host's clock, and fix seeds: every run is the same.
    pub(crate) deterministic: bool,
    /// The machine has a control port.
    pub(crate) control: bool,
    /// The machine has a port for the guest's sockets.
    pub(crate) sockets: bool,
    /// The network behind the guest's card, if it has one.
    pub(crate) network: Option<Network>,
    /// Address where QEMU waits for a debugger before the first instruction.
    pub(crate) gdb: Option<debugger::Address>,
    /// QEMU has a monitor for the tool: the machine can be saved, or is one that was.
    pub(crate) monitor: bool,
    /// Time limit, in wall-clock time.
    pub(crate) timeout: Option<Duration>,
    /// What is typed on the guest's console.
    pub(crate) typing: Typing,
    /// When and how to explain a guest that prints nothing.
    pub(crate) silence: Option<Silence>,
}

impl Settings {
    /// Returns what runs the guest's instructions.
    pub(crate) const fn accel(&self) -> Accel {
        if self.emulator.is_some() { Accel::Tcg } else { Accel::Kvm }
    }
}
