//! The trace: one ring of records ([`hv_trace::Raw`]) per VP.

use hv_trace::Raw;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Header of a ring, at the start of the VP's share of the trace region; the records follow it.
///
/// The hypervisor advances `head`, the tool advances `tail`. Both count records since the start; the slot of a record
/// is its number modulo the ring's capacity. If the ring is full, records are dropped and counted, and the next record
/// that fits is preceded by a [`Lost`](hv_trace::What::Lost).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct TraceRing {
    /// Records written.
    pub head: u64,
    /// Records read.
    pub tail: u64,
    /// Records dropped because the ring was full.
    pub dropped: u64,
    /// Capacity of the ring in records.
    pub capacity: u64,
    /// Dropped records that have been reported by a [`Lost`](hv_trace::What::Lost).
    pub told: u64,
    /// Zero.
    pub reserved: [u64; 3],
}

impl TraceRing {
    /// Size of the header in bytes.
    pub const HEAD_BYTES: u64 = size_of::<Self>() as u64;

    /// Returns each VP's share of a trace region of `bytes`; the share of VP n is the n-th.
    #[must_use]
    pub const fn share_of(bytes: u64, vps: u32) -> u64 {
        let vps = if vps == 0 { 1 } else { vps as u64 };
        (bytes / vps) & !0xfff
    }

    /// Returns the number of records in a share of `bytes`.
    #[must_use]
    pub const fn capacity_of(bytes: u64) -> u64 {
        bytes.saturating_sub(Self::HEAD_BYTES) / size_of::<Raw>() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_holds_what_fits_behind_its_head() {
        assert_eq!(TraceRing::capacity_of(4096), 63);
        assert_eq!(TraceRing::capacity_of(127), 0);
        assert_eq!(TraceRing::capacity_of(0), 0);
    }

    #[test]
    fn records_stay_aligned_behind_the_head() {
        assert_eq!(size_of::<Raw>(), 64);
        assert_eq!(TraceRing::HEAD_BYTES % 64, 0);
    }
}
