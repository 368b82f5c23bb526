//! Addresses on QEMU's `virt` machine with `gic-version=3`, and the division of its RAM.
//!
//! Source of the device addresses: QEMU, `hw/arch/virt.c`, `base_memmap` and `a15irqmap`. They are stable across QEMU
//! versions, because machine types are versioned. The interrupt numbers are those of the *machine*; the guest gets its
//! own from the firmware tables.

/// Start of RAM.
pub const RAM_BASE: u64 = 0x4000_0000;
/// GIC distributor, 64 KiB.
pub const GICD_BASE: u64 = 0x0800_0000;
/// Size of the distributor's window in bytes.
pub const GICD_SIZE: u64 = 0x1_0000;
/// First GIC redistributor; one every [`GICR_STRIDE`] bytes, in CPU order.
pub const GICR_BASE: u64 = 0x080a_0000;
/// Bytes per redistributor: the RD and the SGI frame of 64 KiB each.
pub const GICR_STRIDE: u64 = 0x2_0000;
/// PL011 UART, the guest's console.
pub const UART_BASE: u64 = 0x0900_0000;
/// Size of the UART's window in bytes.
pub const UART_SIZE: u64 = 0x1000;
/// INTID of the UART: SPI 1.
pub const UART_INTID: u32 = 33;

/// First of the virtio transports. A device that QEMU is given takes the last one that is free.
pub const VIRTIO_BASE: u64 = 0x0a00_0000;
/// Bytes from one transport to the next.
pub const VIRTIO_STRIDE: u64 = 0x200;
/// Number of transports.
pub const VIRTIO_SLOTS: u32 = 32;
/// INTID of the first transport; the others' follow. Edge-triggered, by QEMU's own device tree.
pub const VIRTIO_INTID: u32 = 48;

/// INTID of the virtual timer's PPI (CNTV), from the Arm Base System Architecture.
pub const VIRTUAL_TIMER_INTID: u32 = 27;
/// INTID of the EL1 physical timer's PPI (CNTP).
pub const PHYSICAL_TIMER_INTID: u32 = 30;
/// INTID of the PMU's overflow interrupt.
pub const PMU_INTID: u32 = 23;
/// INTID of the EL2 physical timer's PPI (CNTHP), reserved for the hypervisor.
pub const HYPERVISOR_TIMER_INTID: u32 = 26;
/// INTID of the GIC's maintenance interrupt.
pub const MAINTENANCE_INTID: u32 = 25;

/// Link address of the hypervisor. Below it are QEMU's device tree and [`BOOT_INFO`].
pub const HYPERVISOR_BASE: u64 = 0x4019_0000;
/// Address of the [`BootInfo`](crate::BootInfo). QEMU puts its device tree into the MiB below.
pub const BOOT_INFO: u64 = 0x4010_0000;
/// Address of the [`Report`](crate::Report).
pub const REPORT: u64 = 0x4010_1000;
/// Bytes from one [`VpReport`](crate::VpReport) to the next.
pub const VP_REPORT_STRIDE: u64 = 0xa000;
/// Bytes from one CPU's stack to the next, with its guard page.
pub const VP_STACK_STRIDE: u64 = 0xb000;
/// Bytes for the rest of the hypervisor's state of a VP.
pub const VP_STATE: u64 = 0x8000;
/// Bytes for what the hypervisor keeps of all VPs together, however many there are.
pub const SHARED_STATE: u64 = 0x4_0000;
/// Start of the guest's RAM: everything below belongs to the hypervisor and is absent from stage 2.
pub const GUEST_RAM_BASE: u64 = 0x4040_0000;
/// Guest physical address of the video memory: all of the VMBus device's window, on a machine with a screen. In QEMU's
/// machine it is a part of what is left to PCI devices, of which the guest sees none.
pub const VIDEO_WINDOW: u64 = 0x1000_0000;
/// Bytes of the video memory.
pub const VIDEO_BYTES: u64 = 8 << 20;
/// Maximum number of VPs. QEMU's first region of redistributors has room for 123.
pub const MAX_VPS: usize = 120;

const _: () = assert!(GICR_BASE + MAX_VPS as u64 * GICR_STRIDE <= UART_BASE);
