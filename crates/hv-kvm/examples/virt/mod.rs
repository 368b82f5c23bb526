//! The machine of the examples.

use hv_kvm::Layout;
use hv_machine::Platform;

/// What the firmware tables describe: RAM from 1 GiB on, and the devices of [`Layout::VIRT`].
pub(crate) const PLATFORM: Platform = Platform::new(
    0x4000_0000,
    Layout::VIRT.distributor..Layout::VIRT.distributor + Layout::DISTRIBUTOR_SIZE,
    Layout::VIRT.redistributors,
    Layout::VIRT.uart..Layout::VIRT.uart + Layout::UART_SIZE,
    Layout::VIRT.uart_intid,
    0x1000_0000..0x3000_0000,
)
.with_redistributor_stride(Layout::REDISTRIBUTOR_SIZE)
.with_taken_intids(&[25]);
