//! What a host of Hyper-V's guest interface records of a guest: one typed record.
//!
//! A [`Record`] is a time, a VP, and [`What`] happened. [`Record::encode`] makes the 64 bytes ([`Raw`]) that go through a ring or a
//! file; [`Record::decode`] makes the record of them again. One table (`what.rs`) says which fields a record has and in which order they
//! stand, and both directions are made of it. Where bytes are no record of this version, all of them are kept
//! ([`What::Unknown`]): whatever is decoded, encoding gives the same bytes back.
//!
//! A writer needs no allocation and no state: an exit handler at EL2 can call it, and a thread of a VMM.
#![no_std]
#![forbid(unsafe_code)]

mod field;
mod kinds;
mod payload;
mod what;

pub use kinds::{Cause, Conduit, Convention, Fault, TimerChange, Trap};
pub use payload::Payload;
pub use what::{Kind, What};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Version of the records. A reader refuses a trace of another one.
pub const VERSION: u32 = 5;

/// Bytes of a [`Raw`] record that hold the fields of a [`What`].
pub const BODY: usize = 48;

/// The VP of a record that is of none.
pub const NO_VP: u32 = u32::MAX;

/// One thing that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Counter (CNTPCT_EL0) when it happened.
    pub time: u64,
    /// VP on which it happened, or [`NO_VP`].
    pub vp: u32,
    /// What happened.
    pub what: What,
}

/// A record as it lies in memory and in files: 64 bytes, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Raw {
    /// Counter when it happened.
    pub time: u64,
    /// Number of a [`Kind`].
    pub kind: u32,
    /// VP on which it happened, or [`NO_VP`].
    pub vp: u32,
    /// The fields of the kind, one after the other without padding; zero behind them.
    pub body: [u8; BODY],
}

const _: () = assert!(size_of::<Raw>() == 64);

impl Record {
    /// Returns the record's bytes.
    #[must_use]
    pub fn encode(&self) -> Raw {
        let (kind, body) = self.what.encode();
        Raw { time: self.time, kind, vp: self.vp, body }
    }

    /// Reads a record. What is not one of this version becomes [`What::Unknown`].
    #[must_use]
    pub fn decode(raw: &Raw) -> Self {
        Self { time: raw.time, vp: raw.vp, what: What::decode(raw.kind, &raw.body) }
    }
}
