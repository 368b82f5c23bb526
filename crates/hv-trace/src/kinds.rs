//! Values in records that are not defined by the ABI.

use crate::BODY;
use crate::field::Field;

macro_rules! numbered {
    (
        $(#[$attribute:meta])+ $type:ident;
        $($(#[doc = $doc:literal])+ $name:ident = $number:literal,)+
    ) => {
        $(#[$attribute])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $type {
            $($(#[doc = $doc])+ $name = $number,)+
        }

        impl $type {
            /// All values, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];
            /// The number of values.
            pub const COUNT: usize = Self::ALL.len();

            /// Returns the value with this number; `None` if it is unknown.
            #[must_use]
            pub const fn from_raw(raw: u32) -> Option<Self> {
                match raw {
                    $($number => Some(Self::$name),)+
                    _ => None,
                }
            }
        }

        impl Field for $type {
            const SIZE: usize = 1;

            #[inline(always)]
            fn put(&self, body: &mut [u8; BODY], place: usize) -> usize {
                (*self as u8).put(body, place)
            }

            fn take(body: &[u8; BODY], place: usize) -> Option<Self> {
                Self::from_raw(u8::take(body, place)?.into())
            }
        }
    };
}

numbered! {
    /// The cause of an exit of a VP to the hypervisor.
    Trap;
    /// `hvc #0`: a PSCI, SMCCC or hypercall function.
    Smccc = 0,
    /// `hvc #1` and other immediates.
    Hvc = 1,
    /// A trapped `smc`.
    Smc = 2,
    /// A trapped system register.
    SystemRegister = 3,
    /// An access to the distributor or a redistributor.
    GicMmio = 4,
    /// A stage-2 abort at an address where nothing exists.
    Abort = 5,
    /// A physical interrupt.
    Interrupt = 6,
    /// Anything else.
    Other = 7,
}

numbered! {
    /// An undefined action of a guest, answered as the architecture requires.
    Fault;
    /// `hvc` with an undefined immediate; the value is the immediate.
    HvcImmediate = 1,
    /// A trapped system register that is not emulated; the value is the ISS.
    SystemRegister = 2,
    /// An access to a guest physical address where nothing exists; the value is the address.
    Address = 3,
    /// An instruction fetch from a guest physical address where nothing exists.
    Fetch = 4,
    /// An access to the interrupt controller that could not be decoded or is not allowed; the value is the address.
    GicAccess = 5,
    /// An unexpected exception class; the value is ESR_EL2.
    Exception = 6,
    /// An SError that could not be attributed; the value is ESR_EL2.
    SError = 7,
    /// `smc` with an undefined immediate; the value is the immediate.
    SmcImmediate = 8,
}

numbered! {
    /// The calling convention of a hypercall.
    Convention;
    /// `hvc #0` with function 0x46000001.
    Smccc = 0,
    /// `hvc #1`.
    Hvc1 = 1,
}

numbered! {
    /// The instruction that made a call.
    SmcccConduit;
    /// `hvc`.
    Hvc = 0,
    /// `smc`.
    Smc = 1,
}

/// The cause of an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// A message was put into a slot of this SINT.
    Message(u8),
    /// An event flag of this SINT was set.
    Event(u8),
    /// This synthetic timer, in direct mode, expired.
    Timer(u8),
    /// Sent by a hypercall.
    Ipi,
}

impl Field for Cause {
    const SIZE: usize = 2;

    #[inline(always)]
    fn put(&self, body: &mut [u8; BODY], place: usize) -> usize {
        match *self {
            Self::Message(sint) => [0, sint],
            Self::Event(sint) => [1, sint],
            Self::Timer(timer) => [2, timer],
            Self::Ipi => [3, 0],
        }
        .put(body, place)
    }

    fn take(body: &[u8; BODY], place: usize) -> Option<Self> {
        Some(match <[u8; 2]>::take(body, place)? {
            [0, sint] => Self::Message(sint),
            [1, sint] => Self::Event(sint),
            [2, timer] => Self::Timer(timer),
            [3, 0] => Self::Ipi,
            _ => return None,
        })
    }
}

/// A state change of a synthetic timer. Times are reference times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimerChange {
    /// It will expire at this time.
    Armed(u64),
    /// It is no longer armed.
    Stopped,
    /// It was due at the first time and expired at the second.
    Expired(u64, u64),
    /// Its message slot or buffer is not free, or its SynIC is off: the expiry is pending.
    Blocked,
    /// This many periods were skipped because they were too long ago.
    Skipped(u64),
}

impl Field for TimerChange {
    const SIZE: usize = 17;

    #[inline(always)]
    fn put(&self, body: &mut [u8; BODY], place: usize) -> usize {
        let (what, values) = match *self {
            Self::Armed(due) => (0u8, [due, 0]),
            Self::Stopped => (1, [0, 0]),
            Self::Expired(due, now) => (2, [due, now]),
            Self::Blocked => (3, [0, 0]),
            Self::Skipped(periods) => (4, [periods, 0]),
        };
        let place = what.put(body, place);
        values.put(body, place)
    }

    fn take(body: &[u8; BODY], place: usize) -> Option<Self> {
        Some(match (u8::take(body, place)?, <[u64; 2]>::take(body, place + 1)?) {
            (0, [due, 0]) => Self::Armed(due),
            (1, [0, 0]) => Self::Stopped,
            (2, [due, now]) => Self::Expired(due, now),
            (3, [0, 0]) => Self::Blocked,
            (4, [periods, 0]) => Self::Skipped(periods),
            _ => return None,
        })
    }
}
