//! QEMU's virtio devices: their registers, and where they are.
#![expect(unsafe_code, reason = "a transport's registers are fixed addresses")]

use hv_virtio::{Registers, Transport};
use hv_wire::platform::{VIRTIO_BASE, VIRTIO_INTID, VIRTIO_SLOTS, VIRTIO_STRIDE};

/// The registers of a transport. Copies are the same transport.
#[derive(Clone, Debug)]
pub(crate) struct Mmio {
    base: u64,
}

impl Mmio {
    /// Returns the address of the register at an offset. `find` alone makes values of this type, each with the base of
    /// a transport.
    fn place(&self, offset: u32) -> *mut u32 {
        assert!(
            u64::from(offset) < VIRTIO_STRIDE && offset.is_multiple_of(4),
            "{offset:#x} is not a register"
        );
        (self.base + u64::from(offset)) as *mut u32
    }
}

impl Registers for Mmio {
    fn read(&self, offset: u32) -> u32 {
        // SAFETY: `place` gives an aligned word of a virtio transport, mapped as device memory (mmu.rs).
        unsafe { self.place(offset).read_volatile() }
    }

    fn write(&self, offset: u32, value: u32) {
        // SAFETY: `place` gives an aligned word of a virtio transport, mapped as device memory (mmu.rs). The addresses
        // that a device is given are those of a `DeviceMemory`, for which its maker has vouched: hv-virtio has no
        // others.
        unsafe { self.place(offset).write_volatile(value) };
    }
}

/// Returns the interrupt and the registers of a device of this kind, with `before` of the kind before it. The
/// transports are mapped only in a run that has such a device, so this is called only then. QEMU gives its first device
/// the last transport.
pub(crate) fn find(device: u32, before: usize) -> Option<(u32, Mmio)> {
    (0..VIRTIO_SLOTS)
        .rev()
        .map(|slot| (VIRTIO_INTID + slot, Mmio { base: VIRTIO_BASE + u64::from(slot) * VIRTIO_STRIDE }))
        .filter(|(_, registers)| Transport::probe(registers) == Some(device))
        .nth(before)
}
