//! Information that the tool passes to the hypervisor at the start.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::platform::{SHARED_STATE, VIDEO_BYTES, VP_REPORT_STRIDE, VP_STACK_STRIDE, VP_STATE};

/// Alignment of regions after the guest's RAM, and the larger size of a page.
const BLOCK: u64 = 2 << 20;

/// Options of a run, bits of [`BootInfo::flags`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BootFlags(pub u64);

impl BootFlags {
    /// Fill the trace rings.
    pub const TRACE: u64 = 1 << 0;
    /// Check the guest against the strict rules.
    pub const STRICT: u64 = 1 << 1;
    /// Offer the connections for the conformance suite, which lead back to the guest.
    pub const LOOPBACK: u64 = 1 << 2;
    /// Serve the control port: a virtio serial port (see [`control`](crate::control)).
    pub const CONTROL: u64 = 1 << 3;
    /// Serve the guest's sockets: a virtio serial port behind the control port's (see [`control`](crate::control)).
    pub const SOCKETS: u64 = 1 << 4;
    /// Give the guest a network card, behind which is a virtio network card.
    pub const NETWORK: u64 = 1 << 5;
}

/// Everything that the hypervisor needs to know about the machine and the guest; addresses are physical.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct BootInfo {
    /// [`BootInfo::MAGIC`].
    pub magic: u64,
    /// [`VERSION`](crate::VERSION).
    pub version: u32,
    /// Number of VPs, 1 to [`MAX_VPS`](crate::platform::MAX_VPS); VP n runs on CPU n.
    pub vps: u32,
    /// Bits of [`BootFlags`].
    pub flags: u64,
    /// Guest physical address at which VP 0 starts, at EL1 with the MMU off.
    pub entry: u64,
    /// X0 of VP 0 at the start: the device tree's address.
    pub entry_x0: u64,
    /// Start of the guest's RAM, 2 MiB aligned; guest physical addresses equal physical ones.
    pub ram_base: u64,
    /// Size of guest RAM in bytes, a multiple of 2 MiB.
    pub ram_size: u64,
    /// Start of the trace region, 2 MiB aligned, after the guest's RAM and absent from stage 2; 0 without tracing.
    pub trace_base: u64,
    /// Size of the trace region in bytes; [`TraceRing::share_of`](crate::TraceRing::share_of) divides it among the VPs.
    pub trace_size: u64,
    /// Start of the region for page tables, 2 MiB aligned, after the guest's RAM and absent from stage 2. At its end
    /// is the [record](Self::record_base) of dynamic memory.
    pub tables_base: u64,
    /// Bytes of it: [`tables_size`](Self::tables_size) at least.
    pub tables_size: u64,
    /// Start of the hypervisor's memory for the VPs, 2 MiB aligned, after the guest's RAM and absent from stage 2:
    /// [reports](Self::vp_report), [stacks](Self::stacks), and [state](Self::vp_state).
    pub vps_base: u64,
    /// Bytes of it: [`vps_size`](Self::vps_size) at least.
    pub vps_size: u64,
    /// INTID of the VMBus interrupt that the firmware tables announce.
    pub vmbus_intid: u32,
    /// INTID reserved for direct-mode synthetic timers, as announced to the guest.
    pub stimer_intid: u32,
    /// Feature profile of the partition.
    pub profile: u32,
    /// Number of rules in `plan`; 0 for no faults.
    pub plan_rules: u32,
    /// Faults to inject: the words of hv-host's `Plan`.
    pub plan: [u64; PLAN_WORDS],
    /// The host's time at reference time 0, in 100 ns since the year 1601.
    pub host_time: u64,
    /// Integration services on the bus: the sum of their bits ([`Service::bit`](crate::control::Service::bit)).
    pub services: u32,
    /// Disks in `disks`.
    pub disk_count: u32,
    /// The guest's disks. From a disk's base to the next one's, or to the window, there is memory for its growth.
    pub disks: [BootDisk; MAX_DISKS],
    /// Start of the window for disks that are added while the guest runs, 4 KiB aligned, behind all disks; 0 without
    /// one.
    pub window_base: u64,
    /// Bytes of the window, a multiple of 4 KiB.
    pub window_size: u64,
    /// Address of the network card, in the first six bytes.
    pub mac: [u8; 8],
    /// Start of the [`VIDEO_BYTES`](crate::platform::VIDEO_BYTES) of video memory, 2 MiB aligned, after everything but
    /// the disks, which the guest sees at [`VIDEO_WINDOW`](crate::platform::VIDEO_WINDOW); 0 without a screen.
    pub video_base: u64,
}

/// A disk: a region of the machine's memory that holds its blocks, and is absent from stage 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct BootDisk {
    /// Start of the region, 4 KiB aligned, behind everything else.
    pub base: u64,
    /// Bytes of the disk, a multiple of its block; the region is at least as long, rounded up to 4 KiB.
    pub size: u64,
    /// What makes the disk's serial number and name, unlike every other disk's.
    pub id: [u8; 16],
    /// Bits of [`DiskFlags`].
    pub flags: u32,
    /// SCSI controller, below [`MAX_CONTROLLERS`].
    pub controller: u16,
    /// Logical unit, below [`MAX_LUNS`].
    pub lun: u16,
}

/// What a disk is, bits of [`BootDisk::flags`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskFlags(pub u32);

impl DiskFlags {
    /// It refuses to be written.
    pub const READ_ONLY: u32 = 1 << 0;
    /// It is a DVD in its drive.
    pub const DVD: u32 = 1 << 1;
}

/// SCSI controllers of a machine at most.
pub const MAX_CONTROLLERS: usize = 4;
/// Logical units of a SCSI controller at most.
pub const MAX_LUNS: usize = 64;
/// Disks of a machine at most.
pub const MAX_DISKS: usize = 64;

const _: () = {
    use crate::platform::{BOOT_INFO, REPORT};
    assert!(size_of::<BootInfo>() as u64 <= REPORT - BOOT_INFO);
};

/// Number of words of a fault plan.
pub const PLAN_WORDS: usize = 65;
/// Maximum number of rules in a fault plan.
pub const PLAN_RULES: usize = 16;

impl BootInfo {
    /// "hv-boot\0", read as a little-endian number.
    pub const MAGIC: u64 = u64::from_le_bytes(*b"hv-boot\0");

    /// Returns the bytes of page tables and record that a machine with this much guest RAM and this many VPs needs, a
    /// multiple of 2 MiB.
    #[must_use]
    pub const fn tables_size(ram_size: u64, vps: u32) -> u64 {
        const TABLE: u64 = 4 << 10;
        /// Those of both maps that neither guest RAM nor VPs need: a root each, less than four for each end of a
        /// region, and those of the video memory.
        const OTHERS: u64 = 64 + VIDEO_BYTES / BLOCK;
        // Stage 2 is made of pages: a table for each 2 MiB of guest RAM, and one for each GiB above those.
        let stage2 = ram_size / BLOCK + ram_size.div_ceil(1 << 30);
        // The stacks have guard pages between them.
        let stacks = Self::vps_size(vps) / BLOCK;
        ((OTHERS + stage2 + stacks) * TABLE + Self::record_size(ram_size)).next_multiple_of(BLOCK)
    }

    /// Returns the bytes of the hypervisor's memory for this many VPs, a multiple of 2 MiB.
    #[must_use]
    pub const fn vps_size(vps: u32) -> u64 {
        const ONE: u64 = VP_REPORT_STRIDE + VP_STACK_STRIDE + VP_STATE;
        (vps as u64 * ONE + SHARED_STATE).next_multiple_of(BLOCK)
    }

    /// Returns the address of a VP's [`VpReport`](crate::VpReport).
    #[must_use]
    pub const fn vp_report(&self, vp: usize) -> u64 {
        self.vps_base + vp as u64 * VP_REPORT_STRIDE
    }

    /// Returns the start of the CPUs' stacks, behind the reports: one every
    /// [`VP_STACK_STRIDE`](crate::platform::VP_STACK_STRIDE) bytes.
    #[must_use]
    pub const fn stacks(&self) -> u64 {
        self.vp_report(self.vps as usize)
    }

    /// Returns the start of the memory for the rest of the VPs' state, behind the stacks.
    #[must_use]
    pub const fn vp_state(&self) -> u64 {
        self.stacks() + self.vps as u64 * VP_STACK_STRIDE
    }

    /// Returns the number of bytes of video memory.
    #[must_use]
    pub const fn video_size(&self) -> u64 {
        if self.video_base == 0 { 0 } else { VIDEO_BYTES }
    }

    /// Returns the number of bytes of the record of pages that the guest has given up: a bit for each 4 KiB of its RAM,
    /// in whole pages.
    #[must_use]
    pub const fn record_size(ram_size: u64) -> u64 {
        ram_size.div_ceil(8 * 4096).next_multiple_of(4096)
    }

    /// Returns the start of that record, which is a multiple of 4 KiB, and zeros at first.
    #[must_use]
    pub const fn record_base(&self) -> u64 {
        self.tables_base + self.tables_size - Self::record_size(self.ram_size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_grows_with_the_vps_and_tables_with_the_guests_ram() {
        let one = VP_REPORT_STRIDE + VP_STACK_STRIDE + VP_STATE;
        for vps in [1, 2, 8, 64, 120] {
            let size = BootInfo::vps_size(vps);
            assert!((u64::from(vps) * one + SHARED_STATE..).contains(&size), "{vps}");
            assert!(size < u64::from(vps) * one + SHARED_STATE + BLOCK, "{vps}");
        }
        for gigabytes in [1, 4, 64] {
            let size = BootInfo::tables_size(gigabytes << 30, 1);
            // A table of 4 KiB for each 2 MiB, and the record of pages.
            let least = (gigabytes << 21) + BootInfo::record_size(gigabytes << 30);
            assert!((least..least + (4 << 20)).contains(&size), "{gigabytes}: {size:#x}");
        }
    }
}
