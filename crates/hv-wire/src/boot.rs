//! What the tool tells the hypervisor before the start.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Switches of a run, bits of [`BootInfo::flags`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BootFlags(pub u64);

impl BootFlags {
    /// Fill the trace rings.
    pub const TRACE: u64 = 1 << 0;
    /// Judge the guest by the strict rules.
    pub const STRICT: u64 = 1 << 1;
    /// Offer the connections of the conformance suite, which lead back to the guest.
    pub const LOOPBACK: u64 = 1 << 2;
}

/// Everything the hypervisor has to know about the machine and the guest; addresses are physical.
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
    /// Bytes of guest RAM, a multiple of 2 MiB.
    pub ram_size: u64,
    /// Start of the trace region, 2 MiB aligned, behind the guest's RAM and absent from stage 2; 0 where there is none.
    pub trace_base: u64,
    /// Bytes of the trace region; [`TraceRing::share_of`](crate::TraceRing::share_of) says which are whose.
    pub trace_size: u64,
    /// INTID of the VMBus interrupt that the firmware tables announce.
    pub vmbus_intid: u32,
    /// INTID reserved for direct-mode synthetic timers, as announced to the guest.
    pub stimer_intid: u32,
    /// Which of the partition's feature profiles to offer.
    pub profile: u32,
    /// Valid bytes in `plan`; 0 where nothing is to go wrong.
    pub plan_len: u32,
    /// Faults to inject, in the language of hv-host's `faults` with numbers for names.
    pub plan: [u8; PLAN_BYTES],
}

/// Bytes of a plan of faults at most.
pub const PLAN_BYTES: usize = 1024;
/// Rules of a plan of faults at most.
pub const PLAN_RULES: usize = 16;

impl BootInfo {
    /// "hv-boot\0", read as a little-endian number.
    pub const MAGIC: u64 = u64::from_le_bytes(*b"hv-boot\0");
}
