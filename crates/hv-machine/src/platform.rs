//! The hardware that a host provides to the guest, which the tables describe.

use std::ops::Range;

/// Addresses and interrupts of one kind of machine. All addresses are guest physical.
///
/// A host based on QEMU and one based on KVM differ in these numbers only; the tables are generated from them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// Start of guest RAM, a multiple of 2 MiB.
    pub ram_base: u64,
    /// Maximum guest RAM in bytes.
    pub max_memory: u64,
    /// Maximum number of virtual processors. VP n has MPIDR n; a GICv3 supports 16 in one cluster.
    pub max_vps: u32,
    /// GIC distributor.
    pub distributor: Range<u64>,
    /// First GIC redistributor; the others follow without gaps, in VP order.
    pub redistributors: u64,
    /// Size of a redistributor in bytes.
    pub redistributor_stride: u64,
    /// PL011 UART, the console.
    pub uart: Range<u64>,
    /// INTID of the UART, an SPI, level-sensitive.
    pub uart_intid: u32,
    /// Address window that VMBus assigns to its devices; nothing responds there until a device is mapped.
    pub vmbus_window: Range<u64>,
    /// INTIDs of the timers.
    pub timers: Timers,
    /// INTID of the PMU's overflow interrupt, a PPI, level-sensitive.
    pub pmu_intid: u32,
    /// Further PPIs that belong to the host and are not delivered to the guest.
    pub taken_intids: &'static [u32],
}

/// INTIDs of the generic timer's PPIs.
///
/// Source: Arm Base System Architecture, "PPI assignments".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// EL1 virtual timer, CNTV.
    pub virtual_el1: u32,
    /// EL1 physical timer, CNTP.
    pub physical_el1: u32,
    /// EL2 physical timer, CNTHP: described because Linux maps it, but not available to the guest.
    pub physical_el2: u32,
}

impl Platform {
    /// Returns true if a PPI is free for VMBus or for synthetic timers.
    #[must_use]
    pub fn is_free_ppi(&self, intid: u32) -> bool {
        let timers = [self.timers.virtual_el1, self.timers.physical_el1, self.timers.physical_el2];
        let taken = intid == self.pmu_intid || timers.contains(&intid) || self.taken_intids.contains(&intid);
        (16..32).contains(&intid) && !taken
    }

    /// Returns the total size of the redistributors of `vps` VPs.
    #[must_use]
    pub fn redistributors_size(&self, vps: u32) -> u64 {
        u64::from(vps) * self.redistributor_stride
    }

    /// Returns the range of `memory` bytes of RAM.
    pub(crate) fn ram(&self, memory: u64) -> Range<u64> {
        self.ram_base..self.ram_base.saturating_add(memory)
    }
}

#[cfg(test)]
pub(crate) mod test {
    use super::*;

    /// QEMU's `virt` with the guest's RAM after a hypervisor's.
    pub(crate) const VIRT: Platform = Platform {
        ram_base: 0x4040_0000,
        max_memory: 255 << 30,
        max_vps: 8,
        distributor: 0x0800_0000..0x0801_0000,
        redistributors: 0x080a_0000,
        redistributor_stride: 0x2_0000,
        uart: 0x0900_0000..0x0900_1000,
        uart_intid: 33,
        vmbus_window: 0x1000_0000..0x3000_0000,
        timers: Timers { virtual_el1: 27, physical_el1: 30, physical_el2: 26 },
        pmu_intid: 23,
        taken_intids: &[25],
    };

    #[test]
    fn only_ppis_that_belong_to_nothing_else_are_free() {
        for intid in [15, 23, 25, 26, 27, 30, 32] {
            assert!(!VIRT.is_free_ppi(intid), "{intid}");
        }
        for intid in [16, 17, 18, 31] {
            assert!(VIRT.is_free_ppi(intid), "{intid}");
        }
    }
}
