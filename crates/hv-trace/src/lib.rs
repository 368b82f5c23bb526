//! What a host of Hyper-V's guest interface records about a guest: one typed record.
//!
//! A [`Record`] is a time, a VP, and [`What`] happened. [`Record::encode`] returns the 64 bytes ([`Raw`]) that go
//! through a ring or a file; [`Record::decode`] turns them back into the record. One table (`what.rs`) defines the
//! fields of a record and their order, and both directions are generated from it. Bytes that are not a record of this
//! version are kept unchanged ([`What::Unknown`]): decoding and encoding always returns the same bytes.
//!
//! A writer needs no allocation and no state, so an exit handler at EL2 can use it, as well as a thread of a VMM.
#![no_std]
#![forbid(unsafe_code)]

mod field;
mod kinds;
mod macros;
mod payload;
mod what;

pub use kinds::{Cause, Convention, Fault, SmcccConduit, TimerChange, Trap};
pub use payload::Payload;
pub use what::{
    CONTENTS_DATA, CONTENTS_RECORDS, CONTENTS_START, CONTENTS_STEP, Kind, PACKET_DATA, PACKET_START,
    SOCKET_CLASS, What,
};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Version of the records. A reader rejects a trace of another version.
pub const VERSION: u32 = 5;

/// Size of the fields of a [`What`] in a [`Raw`] record, in bytes.
pub const BODY: usize = 48;

/// The VP of a record that belongs to none.
pub const NO_VP: u32 = u32::MAX;

/// An event.
///
/// Exhaustive on purpose: it is the format's own, and what grows is [`What`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Counter (CNTPCT_EL0) when it happened.
    pub time: u64,
    /// VP on which it happened, or [`NO_VP`].
    pub vp: u32,
    /// What happened.
    pub what: What,
}

/// A record in memory and in files: 64 bytes, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Raw {
    /// Counter when it happened.
    pub time: u64,
    /// Number of a [`Kind`].
    pub kind: u32,
    /// VP on which it happened, or [`NO_VP`].
    pub vp: u32,
    /// The fields of the kind, one after another without padding; zero after them.
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

    /// Decodes a record. Anything but a record of this version becomes [`What::Unknown`].
    #[must_use]
    pub fn decode(raw: &Raw) -> Self {
        Self { time: raw.time, vp: raw.vp, what: What::decode(raw.kind, &raw.body) }
    }
}
