//! What happened: the partition tells its observer, and statistics, traces and the strict mode hang there.
//!
//! Every [`Event`] is built where it happens and handed to [`Host::observe`](crate::Host::observe) by reference. With
//! the empty default of that method the compiler drops the event and what was computed for it.

use crate::VpContext;
use hv_tlfs::hypercall::{HypercallInput, HypercallOutput};
use hv_tlfs::register::RegisterName;
use hv_tlfs::status::HvStatus;

/// How a hypercall was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Convention {
    /// `hvc #0` with function 0x46000001: control word in X1.
    Smccc,
    /// `hvc #1`: control word in X0.
    Hvc1,
}

impl Convention {
    /// Returns the number of the register that holds the control word.
    #[must_use]
    pub const fn control(self) -> usize {
        match self {
            Self::Smccc => 1,
            Self::Hvc1 => 0,
        }
    }
}

/// Which instruction carried an SMCCC call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmcccConduit {
    /// `hvc #0`.
    Hvc,
    /// `smc #0`.
    Smc,
}

/// Why an interrupt was asserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A message was put into a slot of this SINT.
    Message(u8),
    /// An event flag of this SINT was set.
    Event(u8),
    /// This synthetic timer, in direct mode, expired.
    Timer(u8),
    /// A hypercall of another VP, or of this one, sent it.
    Ipi,
}

/// What became of a synthetic timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerEvent {
    /// It will expire at this reference time.
    Armed(u64),
    /// It is no longer armed.
    Stopped,
    /// It expired: due at the first, handled at the second reference time.
    Expired(u64, u64),
    /// Its message slot or buffer is not free, or its SynIC is off: it waits.
    Blocked,
    /// This many periods were left out because they were too long ago.
    Skipped(u64),
}

/// Something that happened in the partition. `vp` is the VP that did it, unless the variant says otherwise.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A hypercall ended.
    Hypercall {
        /// Caller.
        vp: usize,
        /// How it was made.
        convention: Convention,
        /// Control word as the guest gave it.
        control: HypercallInput,
        /// The two registers behind it: input and output GPA, or the first 16 bytes of a fast call's input.
        parameters: [u64; 2],
        /// Result; meaningless if `retry`.
        result: HypercallOutput,
        /// The call is not finished: the guest will make it again from a later start index.
        retry: bool,
    },
    /// A VP register was read by hypercall.
    RegisterGet {
        /// Caller.
        vp: usize,
        /// VP whose register it is.
        target: usize,
        /// Register.
        name: RegisterName,
        /// The value, low half first, or the status that the guest got.
        value: Result<[u64; 2], HvStatus>,
    },
    /// A VP register was written by hypercall.
    RegisterSet {
        /// Caller.
        vp: usize,
        /// VP whose register it is.
        target: usize,
        /// Register.
        name: RegisterName,
        /// The value that the guest gave, low half first.
        value: [u64; 2],
        /// What it got.
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
        /// What X0 becomes; [`NOT_SUPPORTED`](hv_tlfs::smccc::NOT_SUPPORTED) for an unknown function.
        result: u64,
    },
    /// `hvc` or `smc` with an immediate that has no meaning; the guest got an Undefined Instruction exception.
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
        /// What the sender got.
        status: HvStatus,
    },
    /// A message found its slot taken and waits in the queue.
    MessageQueued {
        /// Target.
        vp: usize,
        /// SINT.
        sint: u8,
    },
    /// A timer's message that waited in the queue was dropped: its timer was stopped or set anew.
    MessageDropped {
        /// Target.
        vp: usize,
        /// SINT.
        sint: u8,
        /// Messages of the SINT that waited before it.
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
        /// More messages wait behind it.
        pending: bool,
    },
    /// The guest wrote its end-of-message register.
    EndOfMessage {
        /// Caller.
        vp: usize,
        /// SINTs with messages waiting before, one bit each.
        waiting: u16,
        /// SINTs into whose slots a message was put, one bit each.
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
        /// What the sender got.
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
        /// It was set already, so that no interrupt was raised.
        was_set: bool,
    },
    /// An interrupt was asserted.
    Interrupt {
        /// Target.
        vp: usize,
        /// INTID.
        intid: u32,
        /// Why.
        cause: Cause,
    },
    /// A synthetic timer changed its state.
    Timer {
        /// Its VP.
        vp: usize,
        /// Its number, 0 to 3.
        timer: u8,
        /// What happened.
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
        /// The message, if the control register says that there is one and it could be read.
        text: &'a [u8],
    },
    /// A VP was asked to start.
    VpStarting {
        /// Who asked.
        by: usize,
        /// The VP that starts.
        vp: usize,
        /// How.
        context: &'a VpContext,
    },
    /// A VP runs.
    VpOnline {
        /// The VP.
        vp: usize,
    },
    /// A VP is off.
    VpOffline {
        /// The VP.
        vp: usize,
    },
    /// Scale, offset or validity of the reference time changed.
    TimeChanged {
        /// The page's new sequence number; 0 while it is not valid.
        sequence: u32,
        /// Reference time at this moment.
        now: u64,
    },
    /// The partition was reset, or created.
    Reset,
    /// The partition was restored from an image.
    Restored,
}
