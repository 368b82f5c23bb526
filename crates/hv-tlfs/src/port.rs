//! Ports and connections, and the calls that reach a VP without a port.

use crate::abi::Tables;
use crate::synic::Message;
use crate::vp::{PartitionId, VpIndex};

pub(crate) const TABLES: Tables =
    Tables { constants: &[TYPES, DOORBELL, SINTS], structs: &[TYPE, INFO, CALLS, NOTIFICATION] };

constants! {
    table SINTS, kind "sint", from "Linux 7.2, include/hyperv/hvgdk_mini.h; openvmm, vm/hv1/hvdef";

    /// The source for intercepts.
    pub const INTERCEPTION_SINT: u8 = 0, "HV_SYNIC_INTERCEPTION_SINT_INDEX";
    /// The source for faults of the IOMMU.
    pub const IOMMU_FAULT_SINT: u8 = 1, "HV_SYNIC_IOMMU_FAULT_SINT_INDEX";
    /// The source that VMBus uses.
    pub const VMBUS_SINT: u8 = 2, "HV_SYNIC_VMBUS_SINT_INDEX" ["VMBUS_MESSAGE_SINT"];
    /// The first unclaimed source.
    pub const FIRST_UNUSED_SINT: u8 = 5, "HV_SYNIC_FIRST_UNUSED_SINT_INDEX" ["HV_SYNIC_DOORBELL_SINT_INDEX"];
}

open_enum! {
    table TYPE, from "TLFS, HV_PORT_TYPE; mshv-bindings";
    names [TYPES];
    /// Type of a port.
    pub struct PortType(u32) = "hv_port_type" ["HV_PORT_TYPE"];
}

constants! {
    table TYPES, kind "port-type", from "TLFS, HV_PORT_TYPE; mshv-bindings", impl PortType;

    /// Messages.
    MESSAGE = 1, "HV_PORT_TYPE_MESSAGE";
    /// Events.
    EVENT = 2, "HV_PORT_TYPE_EVENT";
    /// Monitored notifications.
    MONITOR = 3, "HV_PORT_TYPE_MONITOR";
    /// Writes to an address.
    DOORBELL = 4, "HV_PORT_TYPE_DOORBELL" ["HvPortTypeDoorbell"];
}

constants! {
    table DOORBELL, kind "doorbell", from "TLFS, HV_CONNECTION_INFO";

    /// Rung by a write of any size.
    pub const DOORBELL_SIZE_ANY: u64 = 0x0, "HV_DOORBELL_FLAG_TRIGGER_SIZE_ANY";
    /// Rung by a write of one byte.
    pub const DOORBELL_SIZE_BYTE: u64 = 0x1, "HV_DOORBELL_FLAG_TRIGGER_SIZE_BYTE";
    /// Rung by a write of two bytes.
    pub const DOORBELL_SIZE_WORD: u64 = 0x2, "HV_DOORBELL_FLAG_TRIGGER_SIZE_WORD";
    /// Rung by a write of four bytes.
    pub const DOORBELL_SIZE_DWORD: u64 = 0x3, "HV_DOORBELL_FLAG_TRIGGER_SIZE_DWORD";
    /// Rung by a write of eight bytes.
    pub const DOORBELL_SIZE_QWORD: u64 = 0x4, "HV_DOORBELL_FLAG_TRIGGER_SIZE_QWORD";
    /// Rung by any value.
    pub const DOORBELL_ANY_VALUE: u64 = 0x8000_0000, "HV_DOORBELL_FLAG_TRIGGER_ANY_VALUE";
}

structs! {
    table INFO, from "TLFS, HV_PORT_INFO and HV_CONNECTION_INFO; mshv-bindings";

    /// Description of a port to be created. The meaning of the words depends on the type; the TLFS's offsets of a
    /// doorbell's fields (8, 9 and 13) contradict the types that it gives them, which make 8, 12 and 16.
    pub struct PortInfo = "hv_port_info" ["HV_PORT_INFO"], size 24 {
        /// Type of the port.
        port_type: PortType = 0,
        /// Zero.
        reserved: u32 = 4 "padding",
        /// Target source.
        target_sint: u32 = 8 "doorbell_port_info.target_sint",
        /// The VP.
        target_vp: VpIndex = 12 "doorbell_port_info.target_vp",
        /// Zero for a doorbell; for events the base flag number (2 bytes) and the flag count (2 bytes).
        rest: u64 = 16 "doorbell_port_info.rsvdz",
    }

    /// Description of a connection to a doorbell port.
    pub struct ConnectionInfo = "hv_connection_info" ["HV_CONNECTION_INFO"], size 32 {
        /// Type of the port.
        port_type: PortType = 0,
        /// Zero.
        reserved: u32 = 4 "padding",
        /// The address that rings.
        gpa: u64 = 8 "doorbell_connection_info.gpa",
        /// The value that rings.
        trigger_value: u64 = 16 "doorbell_connection_info.trigger_value",
        /// Writes that ring the doorbell: `DOORBELL_` flags.
        flags: u64 = 24 "doorbell_connection_info.flags",
    }
}

structs! {
    table CALLS, from "TLFS, HvCallPostMessageDirect and HvCallSignalEventDirect; openvmm, vm/hv1/hvdef";

    /// Input of [`POST_MESSAGE_DIRECT`](crate::hypercall::HypercallCode::POST_MESSAGE_DIRECT): to a VP that the caller
    /// controls, without a port. The TLFS gives the message 240 bytes at offset 16 and names the constant of 256;
    /// shipping code has the source at 16 and the message after it at 20, which no 8-byte alignment allows.
    pub struct PostMessageDirectInput = "hv_input_post_message_direct", size 280 {
        /// The partition.
        partition_id: PartitionId = 0,
        /// The VP.
        vp_index: VpIndex = 8,
        /// The VTL.
        vtl: u8 = 12,
        /// Zero.
        reserved1: [u8; 3] = 13 "padding0",
        /// The source.
        sint: u8 = 16 "sint_index",
        /// Zero.
        reserved2: [u8; 3] = 17 "padding1",
        /// The message: the bytes of a [`Message`].
        message: [u8; 256] = 20,
        /// Zero.
        reserved3: u32 = 276 "padding2",
    }

    /// Input of [`SIGNAL_EVENT_DIRECT`](crate::hypercall::HypercallCode::SIGNAL_EVENT_DIRECT).
    pub struct SignalEventDirectInput = "hv_input_signal_event_direct", size 16 {
        /// The partition.
        target_partition: PartitionId = 0,
        /// The VP.
        target_vp: VpIndex = 8,
        /// The VTL.
        target_vtl: u8 = 12,
        /// The source.
        target_sint: u8 = 13,
        /// The flag.
        flag_number: u16 = 14,
    }

    /// Output of [`SIGNAL_EVENT_DIRECT`](crate::hypercall::HypercallCode::SIGNAL_EVENT_DIRECT).
    pub struct SignalEventDirectOutput = "hv_output_signal_event_direct", size 8 {
        /// The flag was clear before.
        newly_signaled: u8 = 0,
        /// Zero.
        reserved: [u8; 7] = 1,
    }
}

structs! {
    table NOTIFICATION, from "Linux 7.2, include/hyperv/hvgdk_mini.h";

    /// Payload of a message that reports an event of an intercepted source.
    pub struct NotificationPayload = "hv_notification_message_payload", size 4 {
        /// The source.
        sint_index: u32 = 0,
    }
}

impl PostMessageDirectInput {
    /// Returns the message.
    #[must_use]
    pub fn message(&self) -> Message {
        zerocopy::transmute!(self.message)
    }
}
