//! Reference time: the partition's clock, by register and by the reference TSC page.

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::abi::Tables;

pub(crate) const TABLES: Tables = Tables { constants: &[RATE], structs: &[PAGE, REGISTER] };

constants! {
    table RATE, kind "time", from "TLFS, Timers; Linux 6.12, include/asm-generic/hyperv-tlfs.h; 2018 patch";

    /// Ticks of the reference time in a second: one is 100 ns.
    pub const CLOCK_HZ: u64 = 10_000_000, "HV_CLOCK_HZ";
}

/// A reference time or a span of it, in units of 100 ns since the partition was created.
#[doc(alias = "HV_NANO100_TIME")]
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct ReferenceTime(pub u64);

impl ReferenceTime {
    /// The time of this many 100 ns units.
    #[must_use]
    pub const fn from_ticks(ticks: u64) -> Self {
        Self(ticks)
    }

    /// The number of 100 ns units.
    #[must_use]
    pub const fn ticks(self) -> u64 {
        self.0
    }

    /// The time of this many nanoseconds, rounded down.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos / 100)
    }

    /// The number of nanoseconds, or the greatest one where it does not fit.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0.saturating_mul(100)
    }
}

impl fmt::Debug for ReferenceTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:07}s", self.0 / CLOCK_HZ, self.0 % CLOCK_HZ)
    }
}

structs! {
    table PAGE, from "TLFS, Timers, Partition Reference Time Enlightenment; Linux 6.12, include/asm-generic/hyperv-tlfs.h; 2018 patch";

    /// The reference TSC page: a page that the hypervisor writes and the guest reads, so that telling the time takes no
    /// hypercall. It has to lie at a multiple of 4096 ([`PageAligned`](crate::page::PageAligned)).
    ///
    /// `time = ((counter * scale) >> 64) + offset`, the product 128 bits wide, the counter CNTVCT_EL0 on ARM64. The
    /// writer sets the sequence to 0, changes scale and offset, then sets a new sequence, each step ordered. A reader
    /// reads the sequence, gives up on 0 and reads the register
    /// [`TIME_REF_COUNT`](crate::register::RegisterName::TIME_REF_COUNT) instead, reads counter, scale and offset, then
    /// reads the sequence again and starts over if it has changed.
    ///
    /// Linux declares the first 24 bytes only.
    pub struct ReferenceTscPage = "ms_hyperv_tsc_page" ["HV_REFERENCE_TSC_PAGE", "hv_read_tsc_page_tsc"], size 4096 {
        /// Changes with scale and offset; 0 while the page cannot be relied on.
        sequence: u32 = 0 "tsc_sequence",
        /// Zero.
        reserved1: u32 = 4,
        /// 64-bit fraction: ticks of 100 ns per tick of the counter.
        scale: u64 = 8 "tsc_scale",
        /// Ticks of 100 ns to add.
        offset: i64 = 16 "tsc_offset",
        /// Zero.
        reserved2: [u64; 509] = 24,
    }
}

bits! {
    table REGISTER, from "TLFS, Timers, Reference Time Stamp Counter (TSC) Page Register; Linux 6.12, include/asm-generic/hyperv-tlfs.h";

    /// Where the reference TSC page is: the register
    /// [`REFERENCE_TSC`](crate::register::RegisterName::REFERENCE_TSC).
    ///
    /// The page number counts 4096-byte pages also where the guest's page is larger; a kernel of 2022 forgot that.
    pub struct ReferenceTscRegister(u64) = "hv_reference_tsc_msr" ["HV_REFERENCE_TSC_MSR_CONTENTS"] {
        /// The page is in use.
        enable / with_enable: bool @ 0;
        /// Number of the 4096-byte page.
        page_number / with_page_number: u64 @ 63:12 = "pfn";
    }
    also {
        "as_uint64" @ 0, 8;
        "reserved" @ 0, 8, bits 11:1;
    }
}
