//! Events: what the partition reports to its observer, for statistics, traces and the strict mode.
//!
//! Every [`Event`] is created where it happens and passed to [`Host::observe`](crate::Host::observe) by reference. With
//! the empty default of that method the compiler removes the event and everything computed for it.

use crate::vp_context::VpContext;
use hv_tlfs::hypercall::{HypercallInput, HypercallOutput};
use hv_tlfs::register::RegisterName;
use hv_tlfs::status::HvStatus;
use hv_tlfs::time::ReferenceTime;

/// The calling convention of a hypercall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Convention {
    /// `hvc #0` with function 0x46000001: control word in X1.
    Smccc,
    /// `hvc #1`: control word in X0.
    Hvc1,
}

impl Convention {
    /// Returns the number of the register with the control word.
    #[must_use]
    pub const fn control(self) -> usize {
        match self {
            Self::Smccc => 1,
            Self::Hvc1 => 0,
        }
    }
}

/// The instruction of an SMCCC call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmcccConduit {
    /// `hvc #0`.
    Hvc,
    /// `smc #0`.
    Smc,
}

/// The cause of an interrupt.
///
/// Exhaustive on purpose: a recorder has to have a form for every cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A message was put into a slot of this SINT.
    Message(u8),
    /// An event flag of this SINT was set.
    Event(u8),
    /// This synthetic timer, in direct mode, expired.
    Timer(u8),
    /// A hypercall of this or another VP sent it.
    Ipi,
}

/// A state change of a synthetic timer.
///
/// Exhaustive on purpose: a recorder has to have a form for every change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerEvent {
    /// It will expire at this reference time.
    Armed(ReferenceTime),
    /// It is no longer armed.
    Stopped,
    /// It expired: due at the first reference time, handled at the second.
    Expired(ReferenceTime, ReferenceTime),
    /// Its message slot or buffer is not free, or its SynIC is off: the expiry is pending.
    Blocked,
    /// This many periods were skipped because they were too long ago.
    Skipped(u64),
}

/// An event in the partition. `vp` is the VP that caused it, unless the variant says otherwise.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A hypercall ended.
    Hypercall {
        /// Caller.
        vp: usize,
        /// Calling convention.
        convention: Convention,
        /// Control word from the guest.
        control: HypercallInput,
        /// The two registers after it: input and output GPA, or the first 16 bytes of a fast call's input; the second
        /// is zero if the call does not use it and [`Registers::READS_COST`](crate::Registers::READS_COST).
        parameters: [u64; 2],
        /// Result; meaningless if `retry`.
        result: HypercallOutput,
        /// The call is not finished: the guest will repeat it from a later start index.
        retry: bool,
    },
    /// A VP register was read by hypercall.
    RegisterGet {
        /// Caller.
        vp: usize,
        /// VP that the register belongs to.
        target: usize,
        /// Register.
        name: RegisterName,
        /// The value, low half first, or the status returned to the guest.
        value: Result<[u64; 2], HvStatus>,
    },
    /// A VP register was written by hypercall.
    RegisterSet {
        /// Caller.
        vp: usize,
        /// VP that the register belongs to.
        target: usize,
        /// Register.
        name: RegisterName,
        /// The value from the guest, low half first.
        value: [u64; 2],
        /// The status returned.
        status: HvStatus,
    },
    /// An SMCCC function other than a hypercall, PSCI included.
    Smccc {
        /// Caller.
        vp: usize,
        /// Instruction.
        conduit: SmcccConduit,
        /// Function id.
        function: u32,
        /// X1 to X3.
        arguments: [u64; 3],
        /// The new X0; [`NOT_SUPPORTED`](hv_tlfs::smccc::NOT_SUPPORTED) for an unknown function.
        result: u64,
    },
    /// `hvc` or `smc` with an undefined immediate; the guest got an Undefined Instruction exception.
    UnknownImmediate {
        /// Caller.
        vp: usize,
        /// Instruction.
        conduit: SmcccConduit,
        /// Immediate.
        immediate: u16,
    },
    /// The guest posted a message.
    MessagePosted {
        /// Sender.
        vp: usize,
        /// Connection id.
        connection: u32,
        /// Message type.
        message_type: u32,
        /// Payload.
        payload: &'a [u8],
        /// The status returned to the sender.
        status: HvStatus,
    },
    /// A message found its slot full and was queued.
    MessageQueued {
        /// Target.
        vp: usize,
        /// SINT.
        sint: u8,
    },
    /// A queued message of a timer was dropped: its timer was stopped or reprogrammed.
    MessageDropped {
        /// Target.
        vp: usize,
        /// SINT.
        sint: u8,
        /// Number of messages queued for the SINT before it.
        place: u8,
    },
    /// A message was put into its slot.
    MessageDelivered {
        /// Target.
        vp: usize,
        /// SINT.
        sint: u8,
        /// Message type.
        message_type: u32,
        /// Payload.
        payload: &'a [u8],
        /// More messages are queued.
        pending: bool,
    },
    /// The guest wrote its end-of-message register.
    EndOfMessage {
        /// Caller.
        vp: usize,
        /// SINTs with messages queued before, one bit each.
        waiting: u16,
        /// SINTs to which a message was delivered, one bit each.
        delivered: u16,
    },
    /// The guest signalled an event.
    EventSignalled {
        /// Sender.
        vp: usize,
        /// Connection id.
        connection: u32,
        /// Flag number relative to the connection.
        flag: u16,
        /// The status returned to the sender.
        status: HvStatus,
    },
    /// An event flag was set.
    EventFlag {
        /// Target.
        vp: usize,
        /// SINT.
        sint: u8,
        /// Flag number.
        flag: u16,
        /// It was already set, so no interrupt was raised.
        was_set: bool,
    },
    /// An interrupt was asserted.
    Interrupt {
        /// Target.
        vp: usize,
        /// INTID.
        intid: u32,
        /// Cause.
        cause: Cause,
    },
    /// A synthetic timer changed its state.
    Timer {
        /// VP of the timer.
        vp: usize,
        /// Number of the timer, 0 to 3.
        timer: u8,
        /// The change.
        what: TimerEvent,
    },
    /// The guest notified a crash.
    Crash {
        /// Caller.
        vp: usize,
        /// Value written to the crash control register.
        control: u64,
        /// Crash parameters P0 to P4.
        parameters: [u64; 5],
        /// The message, if the control register announces one and it could be read.
        text: &'a [u8],
    },
    /// A VP is being started.
    VpStarting {
        /// Requesting VP.
        by: usize,
        /// The VP.
        vp: usize,
        /// Its initial context.
        context: &'a VpContext,
    },
    /// A VP came online.
    VpOnline {
        /// The VP.
        vp: usize,
    },
    /// A VP went offline.
    VpOffline {
        /// The VP.
        vp: usize,
    },
    /// Scale, offset or validity of the reference time changed.
    TimeChanged {
        /// The page's new sequence number; 0 while it is invalid.
        sequence: u32,
        /// Reference time at this point.
        now: ReferenceTime,
    },
    /// The partition was reset or created.
    Reset,
    /// The partition was restored from a saved image.
    Restored,
}
