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

    /// Bytes of each VP's share of a trace region of `bytes`; VP n's starts n shares into it.
    #[must_use]
    pub const fn share_of(bytes: u64, vps: u32) -> u64 {
        let vps = if vps == 0 { 1 } else { vps as u64 };
        (bytes / vps) & !0xfff
    }

    /// How many records a share of `bytes` holds behind the head.
    #[must_use]
    pub const fn capacity_of(bytes: u64) -> u64 {
        bytes.saturating_sub(Self::HEAD_BYTES) / size_of::<TraceRecord>() as u64
    }
}

macro_rules! kinds {
    (
        $(#[$attribute:meta])+ $type:ident: $word:ident;
        $($(#[doc = $doc:literal])+ $name:ident = $number:literal,)+
    ) => {
        $(#[$attribute])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr($word)]
        pub enum $type {
            $($(#[doc = $doc])+ $name = $number,)+
        }

        impl $type {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The one for a number read from a [`TraceRecord`]; `None` where it is not one of ours.
            #[must_use]
            pub const fn from_raw(raw: $word) -> Option<Self> {
                match raw {
                    $($number => Some(Self::$name),)+
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    /// What a record tells, and what its values are. A payload is its length, then its first bytes, eight to a value.
    TraceKind: u32;
    /// An exit: a [`Trap`](crate::Trap), ESR_EL2, guest PC, and of an abort the guest physical address. The next
    /// [`Enter`](Self::Enter) of the VP ends it, or its [`VpOffline`](Self::VpOffline).
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
    /// Something without a meaning: a [`Fault`](crate::Fault), its value, guest PC, its callers.
    Fault = 24,
    /// A physical interrupt of the hypervisor's own: INTID (its timer, the maintenance interrupt, or the SGI with which
    /// another CPU asks this one to look).
    OwnInterrupt = 25,
    /// An interrupt became pending in a list register: the guest takes it as soon as it unmasks it: INTID, list register.
    Injected = 26,
    /// The guest wrote a trapped system register that is emulated: ISS of its trap, value.
    SystemRegister = 27,
    /// An access to the interrupt controller: guest physical address, value, bytes, 1 if it wrote.
    GicAccess = 28,
    /// The host half of VMBus changed its state: a [`BusChange`], and what that says.
    Bus = 29,
    /// The strict mode found a rule broken: number of the rule in `hv_tlfs::rules::RULES`, value, guest PC, its callers.
    Finding = 30,
    /// The partition was restored from an image.
    Restored = 31,
    /// A timer's message that waited was dropped, since its timer was stopped or set anew: VP, SINT, messages before it.
    MessageDropped = 32,
    /// A fault was injected: number of the rule in the plan, from 0, and how often that one has struck.
    FaultInjected = 33,
}

kinds! {
    /// First value of a [`Bus`](TraceKind::Bus) record, and what the next ones are. A text is four values of eight bytes,
    /// padded with zeros.
    BusChange: u64;
    /// The guest asked for a version: version, 1 if it was accepted, VP for messages.
    Contact = 1,
    /// The guest ended the connection.
    Unloaded = 2,
    /// The guest has all offers: how many.
    OffersDelivered = 3,
    /// The guest named pages: channel, GPADL, pages.
    GpadlCreated = 4,
    /// The guest has its pages back: GPADL.
    GpadlTorndown = 5,
    /// A channel was opened: channel, VP that it interrupts.
    Opened = 6,
    /// A channel was closed: channel.
    Closed = 7,
    /// A channel's number was released: channel.
    Released = 8,
    /// The guest answered a heartbeat: channel, sequence number.
    Heartbeat = 9,
    /// A ring has nonsense in it: channel, what is wrong as text.
    RingSpoilt = 10,
    /// A message of the guest's was wrong: its type, what is wrong as text.
    Rejected = 11,
    /// A message was dropped, because its VP does not exist, or has its SynIC or message page off: its type, VP.
    Undeliverable = 12,
    /// Something that this table does not have: no value, its name as text.
    Other = 13,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_kinds_agree() {
        for &kind in TraceKind::ALL {
            assert_eq!(TraceKind::from_raw(kind as u32), Some(kind));
        }
        for &change in BusChange::ALL {
            assert_eq!(BusChange::from_raw(change as u64), Some(change));
        }
        assert_eq!(TraceKind::from_raw(0), None);
        assert_eq!(TraceKind::from_raw(TraceKind::ALL.len() as u32 + 1), None);
    }

    #[test]
    fn a_ring_holds_what_fits_behind_its_head() {
        assert_eq!(TraceRing::capacity_of(4096), 63);
        assert_eq!(TraceRing::capacity_of(127), 0);
        assert_eq!(TraceRing::capacity_of(0), 0);
    }

    #[test]
    fn records_stay_aligned_behind_the_head() {
        assert_eq!(size_of::<TraceRecord>(), 64);
        assert_eq!(TraceRing::HEAD_BYTES % 64, 0);
    }
}
