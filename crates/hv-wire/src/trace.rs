//! The trace: one ring of records per VP.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Head of a ring, at the start of the VP's share of the trace region; the records follow.
///
/// The hypervisor advances `head`, the tool advances `tail`. Both count records since the start; a record's place is
/// its number modulo the ring's capacity. A record that finds the ring full is dropped and counted.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct TraceRing {
    /// Records written.
    pub head: u64,
    /// Records read.
    pub tail: u64,
    /// Records dropped because the ring was full.
    pub dropped: u64,
    /// Records that the ring holds.
    pub capacity: u64,
    /// Zero.
    pub reserved: [u64; 4],
}

/// One thing that happened, in 64 bytes.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct TraceRecord {
    /// Counter (CNTPCT_EL0) when it happened.
    pub time: u64,
    /// A [`TraceKind`].
    pub kind: u32,
    /// VP on which it happened.
    pub vp: u32,
    /// What the kind says.
    pub values: [u64; 6],
}

/// What a record tells, and what its values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum TraceKind {
    /// An exit: [`Trap`](crate::Trap), ESR_EL2, guest PC.
    Exit = 1,
    /// The return to the guest that ends the last exit.
    Enter = 2,
}
