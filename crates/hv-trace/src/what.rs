//! The table of records: kind by kind its number, its label and its fields, in the order in which they lie in the record.
//!
//! Numbers are never used for something else. 64 to 95 are kept for the requests and completions of devices.

use hv_tlfs::hypercall::{HypercallInput, HypercallOutput};
use hv_tlfs::register::RegisterName;
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::MessageType;
use hv_tlfs::vmbus::{ChannelId, GpadlId, MessageType as BusMessageType, Version};

use crate::field::Field;
use crate::{BODY, Cause, Conduit, Convention, Fault, Payload, TimerChange, Trap};

const fn sum(mut sizes: &[usize]) -> usize {
    let mut sum = 0;
    while let [size, rest @ ..] = sizes {
        (sum, sizes) = (sum + *size, rest);
    }
    sum
}

macro_rules! records {
    ($(
        $(#[doc = $doc:literal])+
        $Name:ident = $number:literal, $label:literal {
            $($(#[doc = $field_doc:literal])+ $field:ident: $type:ty,)*
        }
    )+) => {
        /// The kinds of records.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        #[non_exhaustive]
        pub enum Kind {
            $($(#[doc = $doc])+ $Name = $number,)+
        }

        impl Kind {
            /// All of them, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$Name),+];

            /// Returns the kind with this number; `None` where it is not one of ours.
            #[must_use]
            pub const fn from_raw(raw: u32) -> Option<Self> {
                match raw {
                    $($number => Some(Self::$Name),)+
                    _ => None,
                }
            }

            /// Returns what people call it. Kinds that belong together begin with the same words.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$Name => $label,)+
                }
            }
        }

        /// What happened.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum What {
            $($(#[doc = $doc])+ $Name { $($(#[doc = $field_doc])+ $field: $type,)* },)+
            /// Bytes that are no record of this version.
            Unknown {
                /// Number of the kind.
                kind: u32,
                /// Its fields.
                body: [u8; BODY],
            },
        }

        // What does not fit is no record.
        $(const _: () = assert!(sum(&[$(<$type as Field>::SIZE),*]) <= BODY);)+

        impl What {
            /// Returns its kind; `None` if that is not known.
            #[must_use]
            pub const fn kind(&self) -> Option<Kind> {
                match self {
                    $(Self::$Name { .. } => Some(Kind::$Name),)+
                    Self::Unknown { kind, .. } => Kind::from_raw(*kind),
                }
            }

            /// Returns its number and its fields as bytes.
            #[must_use]
            pub fn encode(&self) -> (u32, [u8; BODY]) {
                let mut body = [0; BODY];
                let kind = match self {
                    $(Self::$Name { $($field),* } => {
                        let _place = 0;
                        $(let _place = $field.put(&mut body, _place);)*
                        $number
                    })+
                    Self::Unknown { kind, body } => return (*kind, *body),
                };
                (kind, body)
            }

            /// Reads a record's fields.
            ///
            /// Where they are not as this version writes them, they stay as they are: encoding always gives `body` back.
            #[must_use]
            pub fn decode(kind: u32, body: &[u8; BODY]) -> Self {
                let read = Self::read(kind, body);
                // Bytes behind the last field are no part of it.
                read.filter(|what| what.encode().1 == *body).unwrap_or(Self::Unknown { kind, body: *body })
            }

            fn read(kind: u32, body: &[u8; BODY]) -> Option<Self> {
                Some(match kind {
                    $($number => {
                        let _place = 0;
                        $(
                            let $field = <$type>::take(body, _place)?;
                            let _place = _place + <$type as Field>::SIZE;
                        )*
                        Self::$Name { $($field),* }
                    })+
                    _ => return None,
                })
            }
        }
    };
}

records! {
    /// The guest was left. The next [`Enter`](Self::Enter) of the VP ends the exit, or its [`VpOffline`](Self::VpOffline).
    Exit = 1, "exit" {
        /// Why.
        trap: Trap,
        /// ESR_EL2.
        syndrome: u64,
        /// Guest PC.
        pc: u64,
        /// Guest physical address, of an abort.
        address: u64,
        /// VBAR_EL1, by which a reader finds out where a kernel has put itself.
        vectors: u64,
    }
    /// The guest goes on.
    Enter = 2, "enter" {}
    /// A hypercall ended.
    Hypercall = 3, "hypercall" {
        /// How it was made.
        convention: Convention,
        /// It is not finished: the guest will make it again.
        retry: bool,
        /// Control word.
        control: HypercallInput,
        /// Input and output GPA, or the first 16 bytes of a fast call's input.
        parameters: [u64; 2],
        /// Result; meaningless if `retry`.
        result: HypercallOutput,
    }
    /// A VP register was read by hypercall.
    RegisterGet = 4, "register-get" {
        /// VP whose register it is.
        target: u32,
        /// Register.
        name: RegisterName,
        /// What the guest got.
        status: HvStatus,
        /// The value, low half first; zeros without success.
        value: [u64; 2],
    }
    /// A VP register was written by hypercall.
    RegisterSet = 5, "register-set" {
        /// VP whose register it is.
        target: u32,
        /// Register.
        name: RegisterName,
        /// What the guest got.
        status: HvStatus,
        /// The value, low half first.
        value: [u64; 2],
    }
    /// An SMCCC function other than a hypercall, PSCI included.
    Smccc = 6, "smccc" {
        /// Instruction.
        conduit: Conduit,
        /// Function id.
        function: u32,
        /// X1 to X3.
        arguments: [u64; 3],
        /// X0 afterwards.
        result: u64,
    }
    /// `hvc` or `smc` with an immediate that has no meaning.
    UnknownImmediate = 7, "unknown-immediate" {
        /// Instruction.
        conduit: Conduit,
        /// Immediate.
        immediate: u16,
    }
    /// The guest posted a message.
    MessagePosted = 8, "message-posted" {
        /// Connection.
        connection: u32,
        /// Message type.
        message_type: MessageType,
        /// What the guest got.
        status: HvStatus,
        /// Payload.
        payload: Payload<36>,
    }
    /// A message waits for its slot.
    MessageQueued = 9, "message-queued" {
        /// VP that gets it.
        target: u32,
        /// SINT.
        sint: u8,
    }
    /// A message went into its slot.
    MessageDelivered = 10, "message-delivered" {
        /// VP that gets it.
        target: u32,
        /// SINT.
        sint: u8,
        /// More messages wait behind it.
        pending: bool,
        /// Message type.
        message_type: MessageType,
        /// Payload.
        payload: Payload<36>,
    }
    /// The guest wrote its end-of-message register. One bit for each SINT.
    EndOfMessage = 11, "message-end" {
        /// SINTs with messages waiting before.
        waiting: u16,
        /// SINTs that got one.
        delivered: u16,
    }
    /// The guest signalled an event.
    EventSignalled = 12, "event-signalled" {
        /// Connection.
        connection: u32,
        /// Flag, relative to the connection.
        flag: u16,
        /// What the guest got.
        status: HvStatus,
    }
    /// An event flag was set.
    EventFlag = 13, "event-flag" {
        /// VP that gets it.
        target: u32,
        /// SINT.
        sint: u8,
        /// Flag.
        flag: u16,
        /// It was set already: there is no interrupt.
        was_set: bool,
    }
    /// The partition asserted an interrupt.
    Interrupt = 14, "interrupt-asserted" {
        /// VP that gets it.
        target: u32,
        /// INTID.
        intid: u32,
        /// Why.
        cause: Cause,
    }
    /// A synthetic timer changed its state.
    Timer = 15, "timer" {
        /// VP whose timer it is.
        target: u32,
        /// Its number.
        timer: u8,
        /// What happened.
        change: TimerChange,
    }
    /// The guest notified a crash.
    Crash = 16, "crash" {
        /// Value written to the crash control register.
        control: u64,
        /// P0 to P4.
        parameters: [u64; 5],
    }
    /// A VP was asked to start.
    VpStarting = 17, "vp-starting" {
        /// The VP that starts.
        target: u32,
        /// PC at which it starts.
        pc: u64,
    }
    /// A VP runs.
    VpOnline = 18, "vp-online" {
        /// The VP.
        target: u32,
    }
    /// A VP is off.
    VpOffline = 19, "vp-offline" {
        /// The VP.
        target: u32,
    }
    /// A VMBus message was taken or sent by the host.
    VmbusMessage = 20, "vmbus-message" {
        /// Sender, or the VP to which it goes.
        target: u32,
        /// From the guest to the host.
        from_guest: bool,
        /// The whole message.
        payload: Payload<41>,
    }
    /// The reference time changed.
    TimeChanged = 21, "time-changed" {
        /// Sequence number of the TSC page; 0 while it is not valid.
        sequence: u32,
        /// Reference time at this moment.
        now: u64,
    }
    /// The partition was reset, or created.
    Reset = 22, "reset" {}
    /// A physical interrupt went on to the guest.
    Forwarded = 23, "interrupt-forwarded" {
        /// INTID.
        intid: u32,
    }
    /// The guest did something that has no meaning.
    Fault = 24, "fault" {
        /// What.
        fault: Fault,
        /// What the fault says.
        value: u64,
        /// Guest PC.
        pc: u64,
        /// Return addresses, the innermost first; 0 behind the last.
        callers: [u64; 3],
    }
    /// A physical interrupt of the hypervisor's own.
    OwnInterrupt = 25, "interrupt-own" {
        /// INTID.
        intid: u32,
    }
    /// An interrupt became pending in a list register: the guest takes it as soon as it unmasks it.
    Injected = 26, "interrupt-injected" {
        /// INTID.
        intid: u32,
        /// The list register.
        list_register: u64,
    }
    /// The guest accessed a trapped system register that is emulated.
    SystemRegister = 27, "system-register" {
        /// ISS of the trap.
        iss: u32,
        /// Value read or written.
        value: u64,
    }
    /// The guest accessed the interrupt controller.
    GicAccess = 28, "gic-access" {
        /// Guest physical address.
        address: u64,
        /// Value read or written.
        value: u64,
        /// Bytes.
        bytes: u8,
        /// It wrote.
        write: bool,
    }
    /// The strict mode found a rule broken.
    Finding = 30, "finding" {
        /// Number of the rule in [`RULES`](hv_tlfs::rules::RULES).
        rule: u16,
        /// What the rule says of the value.
        value: u64,
        /// Guest PC.
        pc: u64,
        /// Return addresses, the innermost first; 0 behind the last.
        callers: [u64; 3],
    }
    /// The partition was restored from an image.
    Restored = 31, "restored" {}
    /// A timer's message that waited was dropped, since its timer was stopped or set anew.
    MessageDropped = 32, "message-dropped" {
        /// VP that would have got it.
        target: u32,
        /// SINT.
        sint: u8,
        /// Messages that waited before it.
        place: u8,
    }
    /// A fault was injected.
    FaultInjected = 33, "fault-injected" {
        /// Number of the rule in the plan, from 0.
        rule: u32,
        /// How often that one has struck.
        times: u64,
    }
    /// The text that goes with the [`Crash`](Self::Crash) behind it.
    CrashText = 34, "crash-text" {
        /// The guest's text, as far as it could be read.
        text: Payload<46>,
    }
    /// Records of this VP found their ring full and were dropped, here.
    Lost = 35, "lost" {
        /// How many.
        count: u64,
    }
    /// The guest printed something: its time is that of its arrival at the tool.
    Console = 36, "console" {
        /// The line goes on in the next record.
        more: bool,
        /// Bytes of the line, without its end.
        text: Payload<45>,
    }
    /// The guest asked for a version of VMBus.
    VmbusContact = 40, "vmbus-state-contact" {
        /// The version.
        version: Version,
        /// It was accepted.
        accepted: bool,
        /// VP to which the guest wants its messages.
        target: u32,
    }
    /// The guest ended the connection.
    VmbusUnloaded = 41, "vmbus-state-unloaded" {}
    /// The guest has all offers.
    VmbusOffers = 42, "vmbus-state-offers" {
        /// How many they were.
        count: u32,
    }
    /// The guest named pages.
    VmbusGpadl = 43, "vmbus-state-gpadl" {
        /// Channel.
        channel: ChannelId,
        /// The guest's name for them.
        gpadl: GpadlId,
        /// How many 4096-byte pages.
        pages: u32,
    }
    /// The guest has its pages back.
    VmbusTorndown = 44, "vmbus-state-torndown" {
        /// The guest's name for them.
        gpadl: GpadlId,
    }
    /// A channel was opened.
    VmbusOpened = 45, "vmbus-state-opened" {
        /// Channel.
        channel: ChannelId,
        /// VP that it interrupts.
        target: u32,
    }
    /// A channel was closed.
    VmbusClosed = 46, "vmbus-state-closed" {
        /// Channel.
        channel: ChannelId,
    }
    /// A channel's number was released.
    VmbusReleased = 47, "vmbus-state-released" {
        /// Channel.
        channel: ChannelId,
    }
    /// The guest was told that a channel is gone.
    VmbusRescinded = 48, "vmbus-state-rescinded" {
        /// Channel.
        channel: ChannelId,
    }
    /// A device told something of itself.
    VmbusDevice = 49, "vmbus-state-device" {
        /// Channel.
        channel: ChannelId,
        /// What it is: the device's documentation says.
        note: u32,
        /// A number that belongs to it.
        value: u64,
    }
    /// A ring has nonsense in it.
    VmbusRing = 50, "vmbus-state-ring" {
        /// Channel.
        channel: ChannelId,
        /// What is wrong, by name.
        error: Payload<42>,
    }
    /// A message of the guest's was wrong.
    VmbusRejected = 51, "vmbus-state-rejected" {
        /// Its type.
        message: BusMessageType,
        /// What is wrong, by name.
        reason: Payload<42>,
    }
    /// A message to the guest was dropped, because its VP does not exist, or has its SynIC or message page off.
    VmbusUndeliverable = 52, "vmbus-state-dropped" {
        /// Its type.
        message: BusMessageType,
        /// The VP.
        target: u32,
    }
    /// The guest broke a device's protocol in a way that has no answer there.
    VmbusFault = 54, "vmbus-state-fault" {
        /// Channel.
        channel: ChannelId,
    }
    /// VMBus changed its state in a way that this table does not have.
    VmbusOther = 53, "vmbus-state-other" {
        /// The change, by name.
        text: Payload<46>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_labels_are_one_to_one() {
        for (n, &kind) in Kind::ALL.iter().enumerate() {
            assert_eq!(Kind::from_raw(kind as u32), Some(kind));
            assert!(Kind::ALL[..n].iter().all(|other| other.label() != kind.label()), "{kind:?}");
        }
        assert_eq!(Kind::from_raw(0), None);
    }
}
