//! The synthetic interrupt controller: messages, event flags, sources.

use core::fmt;

use crate::abi::{Tables, named};
use crate::time::ReferenceTime;

pub(crate) const TABLES: Tables = Tables {
    constants: &[LIMITS, SINT_BITS, CONTROL_BITS, MESSAGE_TYPES],
    structs: &[REGISTERS, MESSAGE_TYPE, ID_WORDS, MESSAGES, EVENTS, CALLS],
};

constants! {
    table LIMITS, kind "synic", from "TLFS, Inter-Partition Communication and HV_MESSAGE; Linux 6.12, include/asm-generic/hyperv-tlfs.h; 2018 patch";

    /// Synthetic interrupt sources of a VP.
    pub const SINT_COUNT: usize = 16, "HV_SYNIC_SINT_COUNT";
    /// The version that [`SVERSION`](crate::register::RegisterName::SVERSION) reads as.
    pub const VERSION_1: u64 = 1, "HV_SYNIC_VERSION_1";
    /// Lowest vector of a source; the highest is 255.
    pub const FIRST_VALID_VECTOR: u8 = 16, "HV_SYNIC_FIRST_VALID_VECTOR";
    /// Bytes of a message slot.
    pub const MESSAGE_SIZE: usize = 256, "HV_MESSAGE_SIZE";
    /// Bytes of a message's payload at most.
    pub const MESSAGE_PAYLOAD_SIZE: usize = 240, "HV_MESSAGE_PAYLOAD_BYTE_COUNT"
        ["HV_MESSAGE_MAX_PAYLOAD_BYTE_COUNT"];
    /// 8-byte words of a message's payload at most.
    pub const MESSAGE_PAYLOAD_WORDS: usize = 30, "HV_MESSAGE_PAYLOAD_QWORD_COUNT"
        ["HV_MESSAGE_MAX_PAYLOAD_QWORD_COUNT"];
    /// Event flags of a source.
    pub const EVENT_FLAGS_COUNT: usize = 2048, "HV_EVENT_FLAGS_COUNT";
    /// 8-byte words of a source's event flags (Linux: 256 divided by the size of a `long`).
    pub const EVENT_FLAGS_WORDS: usize = 32, "HV_EVENT_FLAGS_LONG_COUNT";
}

constants! {
    table SINT_BITS, kind "synic", from "TLFS, Inter-Partition Communication, SynIC Registers; Linux 6.12, include/asm-generic/hyperv-tlfs.h; 2018 patch", impl Sint;

    /// [`Self::masked`] alone; the value at reset.
    MASKED = 1 << 16, "HV_SYNIC_SINT_MASKED";
    /// [`Self::auto_eoi`] alone.
    AUTO_EOI = 1 << 17, "HV_SYNIC_SINT_AUTO_EOI";
    /// The bits of [`Self::vector`].
    VECTOR_MASK = 0xff, "HV_SYNIC_SINT_VECTOR_MASK";
}

constants! {
    table CONTROL_BITS, kind "synic", from "TLFS, Inter-Partition Communication, SynIC Registers; Linux 6.12, include/asm-generic/hyperv-tlfs.h; 2018 patch";

    /// Bit 0 of [`SynicControl`].
    pub const CONTROL_ENABLE: u64 = 1, "HV_SYNIC_CONTROL_ENABLE";
    /// Bit 0 of [`Simp`].
    pub const SIMP_ENABLE: u64 = 1, "HV_SYNIC_SIMP_ENABLE";
    /// Bit 0 of [`Siefp`].
    pub const SIEFP_ENABLE: u64 = 1, "HV_SYNIC_SIEFP_ENABLE";
}

bits! {
    table REGISTERS, from "TLFS, Inter-Partition Communication, SynIC Registers; Linux 6.12, include/asm-generic/hyperv-tlfs.h";

    /// SynIC control. Zero at reset.
    pub struct SynicControl(u64) = "hv_synic_scontrol" ["HV_SYNIC_SCONTROL"] {
        /// The VP takes messages and events. While it is clear, messages stay queued.
        enable / with_enable: bool @ 0;
    }
    also {
        "as_uint64" @ 0, 8;
        "reserved" @ 0, 8, bits 63:1;
    }

    /// Location of the message page. Zero at reset.
    pub struct Simp(u64) = "hv_synic_simp" ["HV_SYNIC_SIMP"] {
        /// The page is in use.
        enabled / with_enabled: bool @ 0 = "simp_enabled";
        /// Number of a 4096-byte page, even if the guest's page is larger.
        page_number / with_page_number: u64 @ 63:12 = "base_simp_gpa";
    }
    also {
        "as_uint64" @ 0, 8;
        "preserved" @ 0, 8, bits 11:1;
    }

    /// Location of the event flags page. Zero at reset.
    pub struct Siefp(u64) = "hv_synic_siefp" ["HV_SYNIC_SIEFP"] {
        /// The page is in use.
        enabled / with_enabled: bool @ 0 = "siefp_enabled";
        /// Number of a 4096-byte page, even if the guest's page is larger.
        page_number / with_page_number: u64 @ 63:12 = "base_siefp_gpa";
    }
    also {
        "as_uint64" @ 0, 8;
        "preserved" @ 0, 8, bits 11:1;
    }

    /// A synthetic interrupt source. Masked at reset: [`Sint::RESET`].
    ///
    /// ```
    /// use hv_tlfs::synic::Sint;
    /// assert!(Sint::RESET.masked());
    /// assert_eq!(Sint::RESET.with_masked(false).with_vector(18).bits(), 0x12);
    /// ```
    pub struct Sint(u64) = "hv_synic_sint" ["HV_SYNIC_SINT"] {
        /// The interrupt: 16 to 255. On ARM64 an INTID, of a PPI for VMBus.
        vector / with_vector: u8 @ 7:0;
        /// Raises no interrupt. A message is still written to its slot, and the guest may poll for it; an event is
        /// rejected with [`HvStatus::INVALID_SYNIC_STATE`](crate::status::HvStatus::INVALID_SYNIC_STATE) (TLFS,
        /// "Inter-Partition Communication", "SynIC Messages" and "Event Flag Delivery").
        masked / with_masked: bool @ 16;
        /// The hypervisor ends the interrupt itself. ARM64 guests never use it.
        auto_eoi / with_auto_eoi: bool @ 17;
        /// Takes messages and events without raising an interrupt.
        polling / with_polling: bool @ 18;
        /// The source takes intercepts.
        as_intercept / with_as_intercept: bool @ 19;
        /// Raises its interrupt through a proxy.
        proxy / with_proxy: bool @ 20;
    }
    also {
        "as_uint64" @ 0, 8;
        "reserved1" @ 0, 8, bits 15:8;
        "reserved2" @ 0, 8, bits 63:21;
    }
}

impl Sint {
    /// The value at reset: masked, vector 0.
    pub const RESET: Self = Self(0x1_0000);
}

open_enum! {
    table MESSAGE_TYPE, from "TLFS, HV_MESSAGE_TYPE; Linux 6.12, include/asm-generic/hyperv-tlfs.h; 2018 patch";
    names [MESSAGE_TYPES];
    /// The type of a message. Bit 31 set: from the hypervisor; a guest may post any other number but 0.
    pub struct MessageType(u32) = "hv_message_type" ["HV_MESSAGE_TYPE"];
}

constants! {
    table MESSAGE_TYPES, kind "message-type", from "TLFS, HV_MESSAGE_TYPE; Linux 6.12, include/asm-generic/hyperv-tlfs.h; 2018 patch", impl MessageType;

    /// No message: the slot is empty.
    NONE = 0x0000_0000, "HVMSG_NONE" ["HvMessageTypeNone"];
    /// A guest physical address that is not mapped.
    UNMAPPED_GPA = 0x8000_0000, "HVMSG_UNMAPPED_GPA" ["HvMessageTypeUnmappedGpa"];
    /// An access that the page's rights do not allow.
    GPA_INTERCEPT = 0x8000_0001, "HVMSG_GPA_INTERCEPT" ["HvMessageTypeGpaIntercept"];
    /// A page that an isolated guest has not accepted.
    UNACCEPTED_GPA = 0x8000_0003, "HVMSG_UNACCEPTED_GPA" ["HvMessageTypeUnacceptedGpa"];
    /// An access that the page's attributes do not allow.
    GPA_ATTRIBUTE_INTERCEPT = 0x8000_0004, "HVMSG_GPA_ATTRIBUTE_INTERCEPT" ["HvMessageTypeGpaAttributeIntercept"];
    /// A synthetic timer has expired: [`TimerMessagePayload`].
    TIMER_EXPIRED = 0x8000_0010, "HVMSG_TIMER_EXPIRED" ["HvMessageTimerExpired"];
    /// A VP register has an invalid value.
    INVALID_VP_REGISTER_VALUE = 0x8000_0020, "HVMSG_INVALID_VP_REGISTER_VALUE"
        ["HvMessageTypeInvalidVpRegisterValue"];
    /// An exception that the guest cannot handle.
    UNRECOVERABLE_EXCEPTION = 0x8000_0021, "HVMSG_UNRECOVERABLE_EXCEPTION" ["HvMessageTypeUnrecoverableException"];
    /// Something that the hypervisor does not support.
    UNSUPPORTED_FEATURE = 0x8000_0022, "HVMSG_UNSUPPORTED_FEATURE" ["HvMessageTypeUnsupportedFeature"];
    /// An intercept whose details are in the intercept page.
    OPAQUE_INTERCEPT = 0x8000_003f, "HVMSG_OPAQUE_INTERCEPT" ["HvMessageTypeOpaqueIntercept"];
    /// A trace buffer is full.
    EVENTLOG_BUFFER_COMPLETE = 0x8000_0040, "HVMSG_EVENTLOG_BUFFERCOMPLETE" ["HvMessageTypeEventLogBufferComplete"];
    /// A hypercall that is intercepted.
    HYPERCALL_INTERCEPT = 0x8000_0050, "HVMSG_HYPERCALL_INTERCEPT" ["HvMessageTypeHypercallIntercept"];
    /// An event signalled to an intercepted connection.
    SYNIC_EVENT_INTERCEPT = 0x8000_0060, "HVMSG_SYNIC_EVENT_INTERCEPT" ["HvMessageTypeSynicEventIntercept"];
    /// A source that is intercepted.
    SYNIC_SINT_INTERCEPT = 0x8000_0061, "HVMSG_SYNIC_SINT_INTERCEPT" ["HvMessageTypeSynicSintIntercept"];
    /// A source can take messages again.
    SYNIC_SINT_DELIVERABLE = 0x8000_0062, "HVMSG_SYNIC_SINT_DELIVERABLE" ["HvMessageTypeSynicSintDeliverable"];
    /// An asynchronous hypercall is done.
    ASYNC_CALL_COMPLETION = 0x8000_0070, "HVMSG_ASYNC_CALL_COMPLETION" ["HvMessageTypeAsyncCallCompletion"];
    /// The partition's memory pool is too small.
    INSUFFICIENT_MEMORY = 0x8000_0071, "HvMessageInsufficientMemory";
    /// VPs have work, given as a bitmap. For the root scheduler.
    SCHEDULER_VP_SIGNAL_BITSET = 0x8000_0100, "HVMSG_SCHEDULER_VP_SIGNAL_BITSET"
        ["HvMessageTypeSchedulerVpSignalBitset"];
    /// VPs have work, as pairs. For the root scheduler.
    SCHEDULER_VP_SIGNAL_PAIR = 0x8000_0101, "HVMSG_SCHEDULER_VP_SIGNAL_PAIR" ["HvMessageTypeSchedulerVpSignalPair"];
    /// A register access that is intercepted.
    REGISTER_INTERCEPT = 0x8001_0006, "HvMessageTypeRegisterIntercept";
    /// An ARM64 guest asks for a reset.
    ARM64_RESET_INTERCEPT = 0x8001_000c, "HVMSG_ARM64_RESET_INTERCEPT" ["HvMessageTypeArm64ResetIntercept"];
}

impl MessageType {
    /// Returns true for a type that only the hypervisor may use.
    #[doc(alias = "HV_MESSAGE_TYPE_HYPERVISOR_MASK")]
    #[must_use]
    pub const fn is_hypervisor(self) -> bool {
        self.0 & 0x8000_0000 != 0
    }
}

bits! {
    table ID_WORDS, from "TLFS, HV_MESSAGE, HV_PORT_ID and HV_CONNECTION_ID; Linux 6.12, include/asm-generic/hyperv-tlfs.h";

    /// Flags of a message.
    pub struct MessageFlags(u8) = "hv_message_flags" ["HV_MESSAGE_FLAGS"] {
        /// More messages are waiting: after emptying the slot, write [`EOM`](crate::register::RegisterName::EOM). The
        /// hypervisor may set it at any time until the slot is empty.
        message_pending / with_message_pending: bool @ 0 = "msg_pending";
    }
    also {
        "asu8" @ 0, 1;
        "reserved" @ 0, 1, bits 7:1;
    }

    /// Names a port in its partition.
    pub struct PortId(u32) = "hv_port_id" ["HV_PORT_ID"] {
        /// The number.
        id / with_id: u32 @ 23:0 = "u.id";
    }
    also {
        "asu32" @ 0, 4;
        "u" @ 0, 4;
        "u.reserved" @ 0, 4, bits 31:24;
    }

    /// Names a connection in its partition.
    pub struct ConnectionId(u32) = "hv_connection_id" ["HV_CONNECTION_ID"] {
        /// The number.
        id / with_id: u32 @ 23:0 = "u.id";
    }
    also {
        "asu32" @ 0, 4;
        "u" @ 0, 4;
        "u.reserved" @ 0, 4, bits 31:24;
    }
}

structs! {
    table MESSAGES, from "TLFS, HV_MESSAGE and HV_TIMER_MESSAGE_PAYLOAD; Linux 6.12, include/asm-generic/hyperv-tlfs.h; 2018 patch";

    /// The head of a message.
    pub struct MessageHeader = "hv_message_header" ["HV_MESSAGE_HEADER"], size 16 {
        /// What the message is. Written last by the hypervisor. The guest copies the rest, sets this to
        /// [`MessageType::NONE`], and only then reads the flags: that store has to be visible before that load, which
        /// takes a full barrier (or a sequentially consistent exchange), not acquire or release alone.
        message_type: MessageType = 0,
        /// Bytes of the payload, at most 240.
        payload_size: u8 = 4,
        /// Flags.
        flags: MessageFlags = 5 "message_flags",
        /// Zero.
        reserved: [u8; 2] = 6,
        /// The [`PortId`] of a posted message, the partition of an intercept, 0 for a timer message.
        sender: u64 = 8,
    }
    also {
        "port" @ 8, 4;
    }

    /// A message, and a slot of the message page.
    pub struct Message = "hv_message" ["HV_MESSAGE"], size 256 {
        /// The head.
        header: MessageHeader = 0,
        /// The payload; the header gives its valid length.
        payload: [u8; 240] = 16 "u.payload",
    }
    also {
        "u" @ 16, 240;
    }

    /// The message page: one slot per source. It must be aligned to 4096 bytes
    /// ([`PageAligned`](crate::page::PageAligned)).
    pub struct MessagePage = "hv_message_page" ["HV_MESSAGE_PAGE"], size 4096 {
        /// The slot of each source.
        sint: [Message; 16] = 0 "sint_message",
    }

    /// Payload of [`MessageType::TIMER_EXPIRED`].
    pub struct TimerMessagePayload = "hv_timer_message_payload" ["HV_TIMER_MESSAGE_PAYLOAD"], size 24 {
        /// Timer of the VP: 0 to 3.
        timer_index: u32 = 0,
        /// Zero.
        reserved: u32 = 4,
        /// When it was to expire.
        expiration_time: ReferenceTime = 8,
        /// When the message went into the slot.
        delivery_time: ReferenceTime = 16,
    }
}

structs! {
    table EVENTS, from "TLFS, Inter-Partition Communication and HV_SYNIC_EVENT_FLAGS; Linux 6.12, include/asm-generic/hyperv-tlfs.h";

    /// The event flags of one source: 2048 bits, each set by the hypervisor and cleared by the guest, atomically.
    pub struct EventFlags = "hv_synic_event_flags" ["HV_SYNIC_EVENT_FLAGS"], size 256 {
        /// The flags; flag n is bit n % 64 of word n / 64.
        flags: [u64; 32] = 0,
    }

    /// The event flags page. It must be aligned to 4096 bytes ([`PageAligned`](crate::page::PageAligned)).
    pub struct EventFlagsPage = "hv_synic_event_flags_page" ["HV_SYNIC_EVENT_FLAGS_PAGE"], size 4096 {
        /// The flags of each source.
        sint: [EventFlags; 16] = 0 "event_flags",
    }
}

structs! {
    table CALLS, from "TLFS, HvCallPostMessage and HvCallSignalEvent; Linux 6.12, drivers/hv/hyperv_vmbus.h";

    /// Input of [`POST_MESSAGE`](crate::hypercall::HypercallCode::POST_MESSAGE); no output.
    pub struct PostMessageInput = "hv_input_post_message" ["HV_INPUT_POST_MESSAGE"], size 256 {
        /// To which connection.
        connection_id: ConnectionId = 0 "connectionid",
        /// Zero.
        reserved: u32 = 4,
        /// The type: not 0, bit 31 clear.
        message_type: MessageType = 8,
        /// Bytes of the payload, at most 240.
        payload_size: u32 = 12,
        /// The payload.
        payload: [u8; 240] = 16,
    }

    /// Input of [`SIGNAL_EVENT`](crate::hypercall::HypercallCode::SIGNAL_EVENT): one word, always fast in practice. No
    /// output.
    pub struct SignalEventInput = "hv_input_signal_event" ["HV_INPUT_SIGNAL_EVENT"], size 8 {
        /// To which connection.
        connection_id: ConnectionId = 0 "connectionid",
        /// Flag number, counted from the port's base flag.
        flag_number: u16 = 4,
        /// Zero.
        reserved: u16 = 6 "rsvdz",
    }
}

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match named(u64::from(self.0), [MESSAGE_TYPES]) {
            Some(row) => f.write_str(row.name),
            None => write!(f, "message type {:#x}", self.0),
        }
    }
}
