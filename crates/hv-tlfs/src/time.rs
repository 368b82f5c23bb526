//! Times in units of 100 ns: reference time, the partition's clock, read from a register or from the reference TSC
//! page; and the host's time of day.

use core::fmt;
use core::time::Duration;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::abi::Tables;

pub(crate) const TABLES: Tables = Tables { constants: &[RATE], structs: &[PAGE, REGISTER] };

constants! {
    table RATE, kind "time", from "TLFS, Timers; Linux 6.12, include/asm-generic/hyperv-tlfs.h; 2018 patch";

    /// Ticks of the reference time per second: a tick is 100 ns.
    pub const CLOCK_HZ: u64 = 10_000_000, "HV_CLOCK_HZ";
}

/// A reference time or a duration, in units of 100 ns; reference time starts when the partition is created.
#[doc(alias = "HV_NANO100_TIME")]
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct ReferenceTime(pub u64);

impl ReferenceTime {
    /// The start of the reference time, or no duration.
    pub const ZERO: Self = Self(0);
    /// The latest time.
    pub const MAX: Self = Self(u64::MAX);

    /// Creates a time from a number of 100 ns units.
    #[must_use]
    pub const fn from_ticks(ticks: u64) -> Self {
        Self(ticks)
    }

    /// Returns the number of 100 ns units.
    #[must_use]
    pub const fn ticks(self) -> u64 {
        self.0
    }

    /// Creates a time from a number of nanoseconds, rounded down.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos / 100)
    }

    /// Returns the time after a duration, at most [`MAX`](Self::MAX).
    #[must_use]
    pub const fn saturating_add(self, duration: Self) -> Self {
        Self(self.0.saturating_add(duration.0))
    }

    /// Returns the duration since an earlier time, or the time before a duration; zero if the other one is later or
    /// longer.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// Returns the number of nanoseconds, saturating at `u64::MAX`.
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

/// A time of day in UTC, in units of 100 ns since 1601-01-01 00:00.
///
/// Source: \[MS-DTYP\] 2.3.3, FILETIME; Linux 6.12, `include/linux/hyperv.h`, `WLTIMEDELTA`.
#[doc(alias = "FILETIME")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct FileTime(pub u64);

impl FileTime {
    /// 1970-01-01 00:00.
    #[doc(alias = "WLTIMEDELTA")]
    pub const UNIX_EPOCH: Self = Self(116_444_736_000_000_000);

    /// Creates a time from the duration since 1970, rounded down, and at most the latest time.
    #[must_use]
    pub const fn from_unix(since: Duration) -> Self {
        let ticks = since.as_secs().saturating_mul(CLOCK_HZ);
        let ticks = ticks.saturating_add(since.subsec_nanos() as u64 / 100);
        Self(ticks.saturating_add(Self::UNIX_EPOCH.0))
    }

    /// Returns the duration since 1970; `None` for a time before it.
    #[must_use]
    pub const fn since_unix(self) -> Option<Duration> {
        match self.0.checked_sub(Self::UNIX_EPOCH.0) {
            Some(ticks) => Some(Duration::new(ticks / CLOCK_HZ, (ticks % CLOCK_HZ) as u32 * 100)),
            None => None,
        }
    }

    /// Returns the time after a duration, modulo 2^64.
    #[must_use]
    pub const fn wrapping_add(self, duration: ReferenceTime) -> Self {
        Self(self.0.wrapping_add(duration.0))
    }

    /// Returns the time before a duration, modulo 2^64.
    #[must_use]
    pub const fn wrapping_sub(self, duration: ReferenceTime) -> Self {
        Self(self.0.wrapping_sub(duration.0))
    }
}

structs! {
    table PAGE, from "TLFS, Timers, Partition Reference Time Enlightenment; Linux 6.12, include/asm-generic/hyperv-tlfs.h; 2018 patch";

    /// The reference TSC page: a page that the hypervisor writes and the guest reads, so that reading the time takes no
    /// hypercall. It must be aligned to 4096 bytes ([`PageAligned`](crate::page::PageAligned)).
    ///
    /// `time = ((counter * scale) >> 64) + offset`, the product 128 bits wide, the counter CNTVCT_EL0 on ARM64. The
    /// writer sets the sequence to 0, changes scale and offset, then sets a new sequence, each step ordered. A reader
    /// reads the sequence, gives up on 0 and reads the register
    /// [`TIME_REF_COUNT`](crate::register::RegisterName::TIME_REF_COUNT) instead, reads counter, scale and offset, then
    /// reads the sequence again and starts over if it has changed.
    ///
    /// Linux declares the first 24 bytes only.
    pub struct ReferenceTscPage = "ms_hyperv_tsc_page" ["HV_REFERENCE_TSC_PAGE", "hv_read_tsc_page_tsc"], size 4096 {
        /// Changes with scale and offset; 0 while the page is not valid.
        sequence: u32 = 0 "tsc_sequence",
        /// Zero.
        reserved1: u32 = 4,
        /// 64-bit fraction: ticks of 100 ns per counter tick.
        scale: u64 = 8 "tsc_scale",
        /// Ticks of 100 ns to add.
        offset: i64 = 16 "tsc_offset",
        /// Zero.
        reserved2: [u64; 509] = 24,
    }
}

bits! {
    table REGISTER, from "TLFS, Timers, Reference Time Stamp Counter (TSC) Page Register; Linux 6.12, include/asm-generic/hyperv-tlfs.h";

    /// Location of the reference TSC page: the register
    /// [`REFERENCE_TSC`](crate::register::RegisterName::REFERENCE_TSC).
    ///
    /// The page number counts 4096-byte pages even if the guest's page is larger; a kernel of 2022 got that wrong.
    pub struct ReferenceTscRegister(u64) = "hv_reference_tsc_msr" ["HV_REFERENCE_TSC_MSR_CONTENTS"] {
        /// The page is in use.
        enable / with_enable: bool @ 0;
        /// Number of a 4096-byte page.
        page_number / with_page_number: u64 @ 63:12 = "pfn";
    }
    also {
        "as_uint64" @ 0, 8;
        "reserved" @ 0, 8, bits 11:1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_time_is_a_unix_time() {
        // 2026-01-01, as `date` and Windows' tables have it.
        let time = FileTime::from_unix(Duration::new(1_767_225_600, 1_299));
        assert_eq!(time, FileTime(134_116_992_000_000_012));
        assert_eq!(time.since_unix(), Some(Duration::new(1_767_225_600, 1_200)));
        assert_eq!(FileTime::UNIX_EPOCH.since_unix(), Some(Duration::ZERO));
        assert_eq!(FileTime(FileTime::UNIX_EPOCH.0 - 1).since_unix(), None);
        assert_eq!(FileTime::from_unix(Duration::MAX), FileTime(u64::MAX));
        assert_eq!(FileTime(u64::MAX).wrapping_add(ReferenceTime(8)), FileTime(7));
        assert_eq!(FileTime(7).wrapping_sub(ReferenceTime(8)), FileTime(u64::MAX));
    }
}
