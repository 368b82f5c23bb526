//! The machine as seen by the guest, described by its firmware tables: QEMU's `virt`, or one over KVM with the same
//! addresses.

use hv_machine::{Platform, Timers};
use hv_wire::platform;

use super::Accel;
use crate::input;

/// The address window for VMBus devices is part of the range that QEMU reserves for PCI, below RAM. Guest memory is
/// QEMU's memory below its second PCI window, less what the hypervisor uses.
pub(crate) const VIRT: Platform = KVM.with_pmu_intid(platform::PMU_INTID);

/// The same without performance counters: the virtual CPUs that `hv-kvm` creates have none.
const KVM: Platform = Platform::new(
    platform::GUEST_RAM_BASE,
    platform::GICD_BASE..platform::GICD_BASE + platform::GICD_SIZE,
    platform::GICR_BASE,
    platform::UART_BASE..platform::UART_BASE + platform::UART_SIZE,
    platform::UART_INTID,
    0x1000_0000..0x3000_0000,
)
.with_max_memory(255 << 30)
.with_max_vps(platform::MAX_VPS as u32)
.with_redistributor_stride(platform::GICR_STRIDE)
.with_timers(Timers::new(
    platform::VIRTUAL_TIMER_INTID,
    platform::PHYSICAL_TIMER_INTID,
    platform::HYPERVISOR_TIMER_INTID,
))
.with_taken_intids(&[platform::MAINTENANCE_INTID]);

/// Returns the machine as the guest sees it. With a screen, the window for VMBus devices is its memory: wherever a
/// guest places that, it is there.
pub(crate) fn platform(accel: Accel, has_screen: bool) -> Platform {
    let machine = match accel {
        Accel::Kvm => KVM,
        Accel::Tcg => VIRT,
    };
    let window = platform::VIDEO_WINDOW..platform::VIDEO_WINDOW + platform::VIDEO_BYTES;
    if has_screen { machine.with_vmbus_window(window) } else { machine }
}

/// Returns the maximum size of a kernel or initrd for a guest with this much memory.
pub(crate) fn longest(memory: u64) -> u64 {
    memory.clamp(input::LONGEST, VIRT.max_memory)
}

/// The CPU that boots fastest under emulation.
pub(crate) const CPU: &str = "cortex-a72";
