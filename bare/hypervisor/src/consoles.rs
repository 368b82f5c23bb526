//! The virtio consoles: ports to the tool, whose other ends are sockets of its own.
//!
//! The guest never sees them: their transports are absent from stage 2, and their interrupts come to EL2.
#![expect(
    unsafe_code,
    reason = "the transports' registers are fixed addresses, and the queues are shared with QEMU"
)]

use core::cell::UnsafeCell;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use hv_virtio::{Console, DeviceMemory, Refused, Registers, Transport, device};
use hv_wire::BootFlags;
use hv_wire::platform::{VIRTIO_BASE, VIRTIO_INTID, VIRTIO_SLOTS, VIRTIO_STRIDE};

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

/// The registers of a transport.
#[derive(Debug)]
pub(crate) struct Mmio {
    base: u64,
}

impl Mmio {
    /// The register at an offset. `transport` alone makes values of this type, each with the base of a transport.
    fn place(&self, offset: u32) -> *mut u32 {
        assert!(u64::from(offset) < VIRTIO_STRIDE && offset.is_multiple_of(4), "{offset:#x} is no register");
        (self.base + u64::from(offset)) as *mut u32
    }
}

impl Registers for Mmio {
    fn read(&self, offset: u32) -> u32 {
        // SAFETY: `place` gives an aligned word of a virtio transport, mapped as device memory (mmu.rs).
        unsafe { self.place(offset).read_volatile() }
    }

    fn write(&self, offset: u32, value: u32) {
        // SAFETY: `place` gives an aligned word of a virtio transport, mapped as device memory (mmu.rs). The addresses that
        // the device is given are those of `MEMORY`: hv-virtio has no others.
        unsafe { self.place(offset).write_volatile(value) };
    }
}

/// Why a console is not used.
pub(crate) enum Why {
    /// The machine has none.
    Absent,
    /// It is in use already.
    Taken,
    Refused(Refused),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("the machine has no virtio console for it"),
            Self::Taken => f.write_str("its virtio console is in use already"),
            Self::Refused(refused) => refused.fmt(f),
        }
    }
}

/// The flag of the console's port, in the order in which the tool gives QEMU the consoles.
const FLAGS: [u64; CONSOLES] = [BootFlags::CONTROL, BootFlags::SOCKETS];

/// Takes a console into use; returns its interrupt too. Each can be taken once. `flags` are those of the boot information.
pub(crate) fn take(console: usize, flags: u64) -> Result<(u32, Console<Mmio>), Why> {
    let before = FLAGS[..console].iter().filter(|flag| flags & **flag != 0).count();
    let (slot, registers) = transport(before).ok_or(Why::Absent)?;
    let memory = memory(console).ok_or(Why::Taken)?;
    Ok((VIRTIO_INTID + slot, Console::new(registers, memory).map_err(Why::Refused)?))
}

/// The memory for a console's queues, once.
fn memory(console: usize) -> Option<DeviceMemory> {
    if TAKEN[console].swap(true, Ordering::Relaxed) {
        return None;
    }
    // SAFETY: `TAKEN` lets this happen once for each console, and nothing else reaches `MEMORY`. It is mapped at its own address and
    // aligned to 4096 bytes, and QEMU's devices are coherent with its CPUs.
    Some(unsafe { DeviceMemory::new(MEMORY[console].0.get().cast(), Console::<Mmio>::MEMORY) })
}

/// The transport of the console with this many before it, and its place. QEMU gives the first device the last transport.
fn transport(before: usize) -> Option<(u32, Mmio)> {
    (0..VIRTIO_SLOTS)
        .rev()
        .map(|slot| (slot, Mmio { base: VIRTIO_BASE + u64::from(slot) * VIRTIO_STRIDE }))
        .filter(|(_, registers)| Transport::probe(registers) == Some(device::CONSOLE))
        .nth(before)
}
