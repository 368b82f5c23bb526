//! The contents of a guest's RAM at the start: the guest's image, and the hypervisor's boot information.

use hv_machine::Image;
use hv_wire::{BootInfo, platform};
use zerocopy::FromZeros as _;

use super::{Layout, Ram};

/// INTID of the VMBus interrupt: the PPI that Hyper-V uses.
pub(crate) const VMBUS_INTID: u32 = 18;
/// INTID for direct-mode synthetic timers: the next free PPI.
pub(crate) const STIMER_INTID: u32 = 19;

const fn end_of_tables(vps: u32, memory: u64) -> u64 {
    platform::GUEST_RAM_BASE + memory + BootInfo::tables_size(memory, vps)
}

/// Returns the end of what the hypervisor always has after the guest's RAM: the page tables, and the VPs' memory.
pub(crate) const fn end_of_own(vps: u32, memory: u64) -> u64 {
    end_of_tables(vps, memory) + BootInfo::vps_size(vps)
}

/// Returns the boot information for a guest.
pub(crate) fn orders(image: &Image, vps: u32, memory: u64) -> BootInfo {
    BootInfo {
        magic: BootInfo::MAGIC,
        version: hv_wire::VERSION,
        vps,
        entry: image.entry,
        entry_x0: image.x0,
        ram_base: platform::GUEST_RAM_BASE,
        ram_size: memory,
        tables_base: platform::GUEST_RAM_BASE + memory,
        tables_size: BootInfo::tables_size(memory, vps),
        vps_base: end_of_tables(vps, memory),
        vps_size: BootInfo::vps_size(vps),
        vmbus_intid: VMBUS_INTID,
        stimer_intid: STIMER_INTID,
        ..BootInfo::new_zeroed()
    }
}

/// Creates RAM with a guest and this boot information. That of a machine that can be saved has its parts in files of
/// their own.
pub(crate) fn ram(image: &Image, orders: &BootInfo, can_be_saved: bool) -> anyhow::Result<Ram> {
    let below = platform::GUEST_RAM_BASE - platform::RAM_BASE;
    let behind = orders.tables_size + orders.vps_size + orders.trace_size + orders.video_size();
    let size = below + orders.ram_size + behind;
    let whole = Layout::Whole(size);
    let ram = Ram::of(if can_be_saved { Layout::apart(size, orders.ram_size) } else { whole })?;
    for (address, bytes) in &image.segments {
        ram.write(*address, bytes)?;
    }
    ram.put_boot_info(orders)?;
    Ok(ram)
}
