//! The virtio consoles, of each of which one serial port leads to the tool: its other end is a socket of the tool's.
//!
//! The guest never sees them: their transports are absent from stage 2, and their interrupts come to EL2.
#![expect(unsafe_code, reason = "the queues are shared with QEMU")]

use core::cell::UnsafeCell;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use hv_virtio::{Console, DeviceMemory, Refused, device};
use hv_wire::BootFlags;

use crate::virtio::{self, Mmio};

/// The control port's console.
pub(crate) const CONTROL: usize = 0;
/// The console of the guest's sockets.
pub(crate) const SOCKETS: usize = 1;
const CONSOLES: usize = 2;

/// Memory of a console's queues.
#[repr(C, align(4096))]
struct Memory(UnsafeCell<[u8; Console::<Mmio>::MEMORY]>);

// SAFETY: `memory` alone takes its address, once, and hands it to a `DeviceMemory`, which has rules of its own.
unsafe impl Sync for Memory {}

static MEMORY: [Memory; CONSOLES] =
    [const { Memory(UnsafeCell::new([0; Console::<Mmio>::MEMORY])) }; CONSOLES];
static TAKEN: [AtomicBool; CONSOLES] = [const { AtomicBool::new(false) }; CONSOLES];

/// Reason why a console is not used.
pub(crate) enum Why {
    /// The tool wants no port there.
    Unasked,
    /// The machine has none.
    Absent,
    /// It is in use already.
    Taken,
    Refused(Refused),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unasked => f.write_str("the tool wants none"),
            Self::Absent => f.write_str("the machine has no virtio console for it"),
            Self::Taken => f.write_str("its virtio console is in use already"),
            Self::Refused(refused) => refused.fmt(f),
        }
    }
}

/// The flag of the console's port, in the order in which the tool gives QEMU the consoles.
const FLAGS: [u64; CONSOLES] = [BootFlags::CONTROL, BootFlags::SOCKETS];

/// Takes a console into use; returns its interrupt too. Each can be taken once. `flags` are those of the boot
/// information.
pub(crate) fn take(console: usize, flags: u64) -> Result<(u32, Console<Mmio>), Why> {
    if flags & FLAGS[console] == 0 {
        return Err(Why::Unasked);
    }
    let before = FLAGS[..console].iter().filter(|flag| flags & **flag != 0).count();
    let (intid, registers) = virtio::find(device::CONSOLE, before).ok_or(Why::Absent)?;
    let memory = memory(console).ok_or(Why::Taken)?;
    Ok((intid, Console::new(registers, memory).map_err(Why::Refused)?))
}

/// Returns the memory for a console's queues, once.
fn memory(console: usize) -> Option<DeviceMemory> {
    if TAKEN[console].swap(true, Ordering::Relaxed) {
        return None;
    }
    // SAFETY: `TAKEN` lets this happen once for each console, and nothing else reaches `MEMORY`. It is mapped at its
    // own address and aligned to 4096 bytes, and QEMU's devices are coherent with its CPUs.
    Some(unsafe { DeviceMemory::new(MEMORY[console].0.get().cast(), Console::<Mmio>::MEMORY) })
}
