//! The hardware that a host provides to the guest, which the tables describe.

use std::ops::Range;

/// Addresses and interrupts of one kind of machine. All addresses are guest physical.
///
/// A host based on QEMU and one based on KVM differ in these numbers only; the tables are generated from them.
/// [`Platform::new`] and the setters make one, also in a `const`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
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
#[non_exhaustive]
pub struct Timers {
    /// EL1 virtual timer, CNTV.
    pub virtual_el1: u32,
    /// EL1 physical timer, CNTP.
    pub physical_el1: u32,
    /// EL2 physical timer, CNTHP: described because Linux maps it, but not available to the guest.
    pub physical_el2: u32,
}

impl Timers {
    /// The INTIDs of the Base System Architecture.
    pub const BSA: Self = Self::new(27, 30, 26);

    /// Returns the timers with these INTIDs.
    #[must_use]
    pub const fn new(virtual_el1: u32, physical_el1: u32, physical_el2: u32) -> Self {
        Self { virtual_el1, physical_el1, physical_el2 }
    }
}

impl Platform {
    /// Returns a platform with these addresses, and the defaults for the rest: at most 64 GiB of RAM and 8 VPs,
    /// redistributors of 128 KiB (GICv3 without virtual LPIs), the timers and the PMU (23) of the Base System
    /// Architecture, and no further PPIs of the host.
    #[must_use]
    pub const fn new(
        ram_base: u64,
        distributor: Range<u64>,
        redistributors: u64,
        uart: Range<u64>,
        uart_intid: u32,
        vmbus_window: Range<u64>,
    ) -> Self {
        Self {
            ram_base,
            max_memory: 64 << 30,
            max_vps: 8,
            distributor,
            redistributors,
            redistributor_stride: 0x2_0000,
            uart,
            uart_intid,
            vmbus_window,
            timers: Timers::BSA,
            pmu_intid: 23,
            taken_intids: &[],
        }
    }

    /// Sets the maximum guest RAM in bytes.
    #[must_use]
    pub const fn with_max_memory(mut self, max_memory: u64) -> Self {
        self.max_memory = max_memory;
        self
    }

    /// Sets the maximum number of virtual processors.
    #[must_use]
    pub const fn with_max_vps(mut self, max_vps: u32) -> Self {
        self.max_vps = max_vps;
        self
    }

    /// Sets the size of a redistributor in bytes.
    #[must_use]
    pub const fn with_redistributor_stride(mut self, redistributor_stride: u64) -> Self {
        self.redistributor_stride = redistributor_stride;
        self
    }

    /// Sets the address window for VMBus devices.
    #[must_use]
    pub const fn with_vmbus_window(mut self, vmbus_window: Range<u64>) -> Self {
        self.vmbus_window = vmbus_window;
        self
    }

    /// Sets the INTIDs of the timers.
    #[must_use]
    pub const fn with_timers(mut self, timers: Timers) -> Self {
        self.timers = timers;
        self
    }

    /// Sets the INTID of the PMU's overflow interrupt.
    #[must_use]
    pub const fn with_pmu_intid(mut self, pmu_intid: u32) -> Self {
        self.pmu_intid = pmu_intid;
        self
    }

    /// Sets the further PPIs that belong to the host.
    #[must_use]
    pub const fn with_taken_intids(mut self, taken_intids: &'static [u32]) -> Self {
        self.taken_intids = taken_intids;
        self
    }

    /// Returns true if a PPI is free for VMBus or for synthetic timers.
    #[must_use]
    pub fn is_free_ppi(&self, intid: u32) -> bool {
        let timers = [self.timers.virtual_el1, self.timers.physical_el1, self.timers.physical_el2];
        let taken = intid == self.pmu_intid || timers.contains(&intid) || self.taken_intids.contains(&intid);
        (16..32).contains(&intid) && !taken
    }

    /// Returns the affinity fields of a VP's MPIDR_EL1: a GICv3's SGIs reach 16 processors of a
    /// cluster, so a cluster has 16. PSCI and the interrupt controller of the host must agree.
    ///
    /// Source: QEMU, hw/arch/virt.c, `virt_cpu_mp_affinity`; IHI 0069, ICC_SGI1R_EL1.
    pub(crate) const fn mpidr(vp: u32) -> u32 {
        (vp % 16) | ((vp / 16) << 8)
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
        max_vps: 120,
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
