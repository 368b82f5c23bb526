//! The table of records: for each kind its number, its label and its fields, in the order of the record.
//!
//! Numbers are never reused. 64 to 95 are for packets of devices.

use hv_tlfs::hypercall::{HypercallInput, HypercallOutput};
use hv_tlfs::register::RegisterName;
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::MessageType;
use hv_tlfs::vmbus::{
    ChannelId, GpadlId, Guid, MessageType as BusMessageType, OfferFlags, PacketType, Version,
};

use crate::field::Field;
use crate::macros::records;
use crate::{BODY, Cause, Convention, Fault, Payload, SmcccConduit, TimerChange, Trap};

/// Bytes of a packet's payload in [`What::Packet`].
pub const PACKET_START: usize = 17;
/// Class of the packets of sockets, each of which has an interface of its own.
pub const SOCKET_CLASS: u8 = u8::MAX;
/// Bytes of it in [`What::PacketData`].
pub const PACKET_DATA: usize = 44;
/// Bytes of a packet's data in [`What::Contents`].
pub const CONTENTS_START: usize = 28;
/// Bytes of it in [`What::ContentsData`].
pub const CONTENTS_DATA: usize = 44;
/// Distance of the bytes of one [`What::ContentsData`] from those of the next: they overlap, so that no information
/// about a network card's frame, which has 16 bytes, is cut.
pub const CONTENTS_STEP: usize = 32;
/// Maximum number of [`What::ContentsData`] of one [`What::Contents`].
pub const CONTENTS_RECORDS: usize = 2;

records! {
    /// The VP exited the guest. The exit ends with the VP's next [`Enter`](Self::Enter) or its
    /// [`VpOffline`](Self::VpOffline).
    Exit = 1, "exit" {
        /// Cause.
        trap: Trap,
        /// ESR_EL2.
        syndrome: u64,
        /// Guest PC.
        pc: u64,
        /// Guest physical address of an abort.
        address: u64,
        /// VBAR_EL1, from which a reader derives the address of a kernel.
        vectors: u64,
    }
    /// The VP resumed the guest.
    Enter = 2, "enter" {}
    /// A hypercall ended.
    Hypercall = 3, "hypercall" {
        /// Calling convention.
        convention: Convention,
        /// The call is not finished: the guest will repeat it.
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
        /// VP that the register belongs to.
        target: u32,
        /// Register.
        name: RegisterName,
        /// Status returned to the guest.
        status: HvStatus,
        /// The value, low half first; zero on failure.
        value: [u64; 2],
    }
    /// A VP register was written by hypercall.
    RegisterSet = 5, "register-set" {
        /// VP that the register belongs to.
        target: u32,
        /// Register.
        name: RegisterName,
        /// Status returned to the guest.
        status: HvStatus,
        /// The value, low half first.
        value: [u64; 2],
    }
    /// An SMCCC function other than a hypercall, PSCI included.
    Smccc = 6, "smccc" {
        /// Instruction.
        conduit: SmcccConduit,
        /// Function id.
        function: u32,
        /// X1 to X3.
        arguments: [u64; 3],
        /// X0 afterwards.
        result: u64,
    }
    /// The guest executed `hvc` or `smc` with an undefined immediate.
    UnknownImmediate = 7, "unknown-immediate" {
        /// Instruction.
        conduit: SmcccConduit,
        /// Immediate.
        immediate: u16,
    }
    /// The guest posted a message.
    MessagePosted = 8, "message-posted" {
        /// Connection.
        connection: u32,
        /// Message type.
        message_type: MessageType,
        /// Status returned to the guest.
        status: HvStatus,
        /// Payload.
        payload: Payload<36>,
    }
    /// A message was queued for its slot.
    MessageQueued = 9, "message-queued" {
        /// Target VP.
        target: u32,
        /// SINT.
        sint: u8,
    }
    /// A message was delivered to its slot.
    MessageDelivered = 10, "message-delivered" {
        /// Target VP.
        target: u32,
        /// SINT.
        sint: u8,
        /// More messages are pending for the slot.
        pending: bool,
        /// Message type.
        message_type: MessageType,
        /// Payload.
        payload: Payload<36>,
    }
    /// The guest wrote its end-of-message register. One bit for each SINT.
    EndOfMessage = 11, "message-end" {
        /// SINTs with messages pending before.
        waiting: u16,
        /// SINTs to which a message was delivered.
        delivered: u16,
    }
    /// The guest signalled an event.
    EventSignalled = 12, "event-signalled" {
        /// Connection.
        connection: u32,
        /// Flag, relative to the connection.
        flag: u16,
        /// Status returned to the guest.
        status: HvStatus,
    }
    /// An event flag was set.
    EventFlag = 13, "event-flag" {
        /// Target VP.
        target: u32,
        /// SINT.
        sint: u8,
        /// Flag.
        flag: u16,
        /// It was already set: no interrupt is raised.
        was_set: bool,
    }
    /// The partition asserted an interrupt.
    Interrupt = 14, "interrupt-asserted" {
        /// Target VP.
        target: u32,
        /// INTID.
        intid: u32,
        /// Cause.
        cause: Cause,
    }
    /// A synthetic timer changed its state.
    Timer = 15, "timer" {
        /// VP that the timer belongs to.
        target: u32,
        /// Number of the timer.
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
    /// A VP is being started.
    VpStarting = 17, "vp-starting" {
        /// The VP.
        target: u32,
        /// Its initial PC.
        pc: u64,
    }
    /// A VP came online.
    VpOnline = 18, "vp-online" {
        /// The VP.
        target: u32,
    }
    /// A VP went offline.
    VpOffline = 19, "vp-offline" {
        /// The VP.
        target: u32,
    }
    /// The host received or sent a VMBus message.
    VmbusMessage = 20, "vmbus-message" {
        /// VP of the sender or receiver.
        target: u32,
        /// From the guest to the host.
        from_guest: bool,
        /// The message.
        payload: Payload<41>,
    }
    /// The reference time changed.
    TimeChanged = 21, "time-changed" {
        /// Sequence number of the TSC page; 0 while it is invalid.
        sequence: u32,
        /// Reference time at this point.
        now: u64,
    }
    /// The partition was reset or created.
    Reset = 22, "reset" {}
    /// A physical interrupt was forwarded to the guest.
    Forwarded = 23, "interrupt-forwarded" {
        /// INTID.
        intid: u32,
    }
    /// The guest did something undefined.
    Fault = 24, "fault" {
        /// The fault.
        fault: Fault,
        /// Value of the fault.
        value: u64,
        /// Guest PC.
        pc: u64,
        /// Return addresses, the innermost first; 0 after the last.
        callers: [u64; 3],
    }
    /// The hypervisor took a physical interrupt of its own.
    OwnInterrupt = 25, "interrupt-own" {
        /// INTID.
        intid: u32,
    }
    /// An interrupt became pending in a list register: the guest takes it as soon as it is unmasked.
    Injected = 26, "interrupt-injected" {
        /// INTID.
        intid: u32,
        /// The list register.
        list_register: u64,
    }
    /// The guest accessed an emulated system register.
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
        /// Size of the access in bytes.
        bytes: u8,
        /// The access was a write.
        write: bool,
    }
    /// The strict mode found a broken rule.
    Finding = 30, "finding" {
        /// Number of the rule in [`RULES`](hv_tlfs::rules::RULES).
        rule: u16,
        /// Value, as defined by the rule.
        value: u64,
        /// Guest PC.
        pc: u64,
        /// Return addresses, the innermost first; 0 after the last.
        callers: [u64; 3],
    }
    /// The partition was restored from a saved image.
    Restored = 31, "restored" {}
    /// A pending timer message was dropped, because its timer was stopped or reprogrammed.
    MessageDropped = 32, "message-dropped" {
        /// VP that it was for.
        target: u32,
        /// SINT.
        sint: u8,
        /// Number of messages queued before it.
        place: u8,
    }
    /// A fault was injected.
    FaultInjected = 33, "fault-injected" {
        /// Index of the rule in the plan.
        rule: u32,
        /// How often that rule has fired.
        times: u64,
    }
    /// The text of the [`Crash`](Self::Crash) that follows.
    CrashText = 34, "crash-text" {
        /// The guest's text, as far as it could be read.
        text: Payload<46>,
    }
    /// Records of this VP were dropped here because their ring was full.
    Lost = 35, "lost" {
        /// Number of records.
        count: u64,
    }
    /// The guest printed a line: the time is that of its arrival at the tool.
    Console = 36, "console" {
        /// The line continues in the next record.
        more: bool,
        /// Bytes of the line, without its end.
        text: Payload<45>,
    }
    /// The guest requested a version of VMBus.
    VmbusContact = 40, "vmbus-state-contact" {
        /// The version.
        version: Version,
        /// It was accepted.
        accepted: bool,
        /// VP that the guest chose for its messages.
        target: u32,
    }
    /// The guest ended the connection.
    VmbusUnloaded = 41, "vmbus-state-unloaded" {}
    /// The guest has received all offers.
    VmbusOffers = 42, "vmbus-state-offers" {
        /// Number of offers.
        count: u32,
    }
    /// The guest established a GPADL.
    VmbusGpadl = 43, "vmbus-state-gpadl" {
        /// Channel.
        channel: ChannelId,
        /// Id of the GPADL.
        gpadl: GpadlId,
        /// Number of 4096-byte pages.
        pages: u32,
    }
    /// A GPADL was torn down; its pages are the guest's again.
    VmbusTorndown = 44, "vmbus-state-torndown" {
        /// Id of the GPADL.
        gpadl: GpadlId,
    }
    /// A channel was opened.
    VmbusOpened = 45, "vmbus-state-opened" {
        /// Channel.
        channel: ChannelId,
        /// VP that gets its interrupts.
        target: u32,
    }
    /// A channel was closed.
    VmbusClosed = 46, "vmbus-state-closed" {
        /// Channel.
        channel: ChannelId,
    }
    /// The number of a channel was released.
    VmbusReleased = 47, "vmbus-state-released" {
        /// Channel.
        channel: ChannelId,
    }
    /// A channel was rescinded.
    VmbusRescinded = 48, "vmbus-state-rescinded" {
        /// Channel.
        channel: ChannelId,
    }
    /// A device reported something.
    VmbusDevice = 49, "vmbus-state-device" {
        /// Channel.
        channel: ChannelId,
        /// Kind of report, as defined by the device's documentation.
        note: u32,
        /// Value of the report.
        value: u64,
    }
    /// The contents of a ring are invalid.
    VmbusRing = 50, "vmbus-state-ring" {
        /// Channel.
        channel: ChannelId,
        /// Name of the error.
        error: Payload<42>,
    }
    /// A message from the guest was rejected.
    VmbusRejected = 51, "vmbus-state-rejected" {
        /// Type of the message.
        message: BusMessageType,
        /// Name of the reason.
        reason: Payload<42>,
    }
    /// A message to the guest was dropped, because its VP does not exist or has its SynIC or message page disabled.
    VmbusUndeliverable = 52, "vmbus-state-dropped" {
        /// Type of the message.
        message: BusMessageType,
        /// The VP.
        target: u32,
    }
    /// The guest violated a device's protocol in a way that the protocol has no answer for.
    VmbusFault = 54, "vmbus-state-fault" {
        /// Channel.
        channel: ChannelId,
    }
    /// The guest was sent an offer.
    VmbusOffered = 55, "vmbus-state-offered" {
        /// Channel.
        channel: ChannelId,
        /// First channel of its device.
        first: ChannelId,
        /// Index of a sub-channel, or 0.
        index: u16,
        /// Flags of the offer.
        flags: OfferFlags,
        /// Kind of the device.
        interface: Guid,
        /// The device.
        instance: Guid,
    }
    /// A GPADL is accepted, but suspicious.
    VmbusFlaw = 56, "vmbus-state-gpadl-flaw" {
        /// Channel.
        channel: ChannelId,
        /// Id of the GPADL.
        gpadl: GpadlId,
        /// Name of the flaw.
        flaw: Payload<38>,
    }
    /// A packet in a channel's ring.
    Packet = 64, "packet" {
        /// Channel.
        channel: ChannelId,
        /// Kind of the device: its place in [`INTERFACES`](hv_tlfs::vmbus::guid::INTERFACES), from 1; [`SOCKET_CLASS`],
        /// or 0.
        class: u8,
        /// From the guest to the host.
        from_guest: bool,
        /// Kind.
        packet_type: PacketType,
        /// Flags of the descriptor.
        flags: u16,
        /// The sender's id, or for a completion that of the packet that it completes.
        transaction: u64,
        /// Bytes of payload.
        length: u32,
        /// Number of ranges of guest memory that it lists.
        ranges: u32,
        /// Bytes in them.
        bytes: u32,
        /// Number of the error in the ranges, or 0.
        error: u8,
        /// Beginning of the payload. If it is longer, [`PacketData`](Self::PacketData) of the same VP follows.
        start: [u8; PACKET_START],
    }
    /// The continuation of the payload of the [`Packet`](Self::Packet) before it.
    PacketData = 65, "packet-data" {
        /// Kind of the device, as in the packet.
        class: u8,
        /// From the guest to the host.
        from_guest: bool,
        /// Bytes.
        bytes: [u8; PACKET_DATA],
    }
    /// A part of a packet's data, which lies in guest memory: a message that is not in the ring.
    Contents = 66, "contents" {
        /// Channel.
        channel: ChannelId,
        /// Kind of the device, as in the packet.
        class: u8,
        /// From the guest to the host.
        from_guest: bool,
        /// Which part it is, as defined by the device's documentation.
        part: u8,
        /// Number of its bytes in this record and those that continue it.
        shown: u8,
        /// Id of the packet, which may come after it; 0 if the packet had none yet.
        transaction: u64,
        /// Size in bytes.
        length: u32,
        /// Its beginning. If more is shown, [`ContentsData`](Self::ContentsData) of the same VP follow.
        start: [u8; CONTENTS_START],
    }
    /// The continuation of the [`Contents`](Self::Contents) before it.
    ContentsData = 67, "contents-data" {
        /// Kind of the device, as in the packet.
        class: u8,
        /// From the guest to the host.
        from_guest: bool,
        /// Which part it is.
        part: u8,
        /// Offset of its bytes.
        at: u8,
        /// Bytes.
        bytes: [u8; CONTENTS_DATA],
    }
    /// The headers of a frame on its way through a network card.
    Frame = 68, "frame" {
        /// Channel.
        channel: u16,
        /// From the guest to the host.
        from_guest: bool,
        /// Length in bytes, with the header and without a tag that is beside the frame; that of all segments for a long
        /// one.
        length: u32,
        /// EtherType; 0 if the frame is too short to have one.
        ether_type: u16,
        /// Protocol above IP, or the operation of ARP; 0 if there is none.
        protocol: u8,
        /// Flags of TCP, or the type of an ICMP message.
        flags: u8,
        /// Ports of TCP or UDP: source and destination.
        ports: [u16; 2],
        /// Source address of IP or ARP; that of IPv4 is in the first 4 bytes.
        source: [u8; 16],
        /// Destination address.
        destination: [u8; 16],
    }
    /// VMBus changed its state in a way that is not in this table.
    VmbusOther = 53, "vmbus-state-other" {
        /// Name of the change.
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
