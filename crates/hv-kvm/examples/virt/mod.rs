//! The machine of the examples.

use hv_kvm::Layout;
use hv_machine::{Platform, Timers};

/// What the firmware tables describe: RAM from 1 GiB on, and the devices of [`Layout::VIRT`].
pub(crate) const PLATFORM: Platform = Platform {
    ram_base: 0x4000_0000,
    max_memory: 64 << 30,
    max_vps: 8,
    distributor: Layout::VIRT.distributor..Layout::VIRT.distributor + Layout::DISTRIBUTOR_SIZE,
    redistributors: Layout::VIRT.redistributors,
    redistributor_stride: Layout::REDISTRIBUTOR_SIZE,
    uart: Layout::VIRT.uart..Layout::VIRT.uart + Layout::UART_SIZE,
    uart_intid: Layout::VIRT.uart_intid,
    vmbus_window: 0x1000_0000..0x3000_0000,
    timers: Timers { virtual_el1: 27, physical_el1: 30, physical_el2: 26 },
    pmu_intid: 23,
    taken_intids: &[25],
};
