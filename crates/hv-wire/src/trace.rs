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

impl TraceRing {
    /// Bytes from the start of the ring to its first record.
    pub const HEAD_BYTES: u64 = size_of::<Self>() as u64;

    /// How many records a share of `bytes` holds behind the head.
    #[must_use]
    pub const fn capacity_of(bytes: u64) -> u64 {
        bytes.saturating_sub(Self::HEAD_BYTES) / size_of::<TraceRecord>() as u64
    }
}

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal,)+) => {
        /// What a record tells, and what its values are. A payload is its length, then its first bytes, eight to a value.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum TraceKind {
            $($(#[doc = $doc])+ $name = $number,)+
        }

        impl TraceKind {
            /// The kind for a number read from a [`TraceRecord`]; `None` where it is not one of ours.
            #[must_use]
            pub const fn from_raw(raw: u32) -> Option<Self> {
                match raw {
                    $($number => Some(Self::$name),)+
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    /// An exit: a [`Trap`](crate::Trap), ESR_EL2, guest PC. The next [`Enter`](Self::Enter) of the VP ends it.
    Exit = 1,
    /// The return to the guest.
    Enter = 2,
    /// A hypercall: control word, two registers of parameters, result, convention (0 `hvc #0`, 1 `hvc #1`), 1 if it is to
    /// be made again.
    Hypercall = 3,
    /// A VP register was read: VP, name, value low and high, status.
    RegisterGet = 4,
    /// A VP register was written: VP, name, value low and high, status.
    RegisterSet = 5,
    /// An SMCCC function: conduit (0 hvc, 1 smc), function, X1 to X3, result.
    Smccc = 6,
    /// An immediate without a meaning: conduit, immediate.
    UnknownImmediate = 7,
    /// The guest posted a message: connection, message type, status, payload.
    MessagePosted = 8,
    /// A message waits for its slot: VP, SINT.
    MessageQueued = 9,
    /// A message went into its slot: VP, SINT and in bit 8 whether more wait, message type, payload.
    MessageDelivered = 10,
    /// End of message: SINTs that waited, SINTs that got one.
    EndOfMessage = 11,
    /// The guest signalled an event: connection, flag, status.
    EventSignalled = 12,
    /// An event flag was set: VP, SINT, flag, 1 if it was set already.
    EventFlag = 13,
    /// The partition asserted an interrupt: VP, INTID, cause (0 message, 1 event, 2 timer, 3 IPI), SINT or timer.
    Interrupt = 14,
    /// A synthetic timer: timer, what (0 armed, 1 stopped, 2 expired, 3 blocked, 4 skipped), two times or a count.
    Timer = 15,
    /// The guest notified a crash: control, P0 to P4.
    Crash = 16,
    /// A VP was asked to start: VP, PC.
    VpStarting = 17,
    /// A VP runs.
    VpOnline = 18,
    /// A VP is off.
    VpOffline = 19,
    /// A VMBus message: VP, 1 if from the guest, payload.
    Vmbus = 20,
    /// The reference time changed: sequence, time.
    TimeChanged = 21,
    /// The partition was reset or created.
    Reset = 22,
    /// A physical interrupt went on to the guest: INTID.
    Forwarded = 23,
    /// Something without a meaning: a [`Fault`](crate::Fault), its value, guest PC.
    Fault = 24,
}
