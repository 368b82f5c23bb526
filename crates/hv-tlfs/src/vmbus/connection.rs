//! The connections, ports and interrupt source that VMBus uses.

constants! {
    table CONNECTIONS, kind "vmbus-connection",
    from "Linux 6.12, drivers/hv/hyperv_vmbus.h; OpenVMM, vmbus_core";

    /// Connection to which a guest posts VMBus messages with a protocol version before 5.0.
    pub const MESSAGE_CONNECTION_ID: u32 = 1, "VMBUS_MESSAGE_CONNECTION_ID";
    /// Connection to which a guest posts INITIATE_CONTACT from version 5.0 on; the host's answer gives the connection
    /// for all further messages.
    pub const MESSAGE_CONNECTION_ID_4: u32 = 4, "VMBUS_MESSAGE_CONNECTION_ID_4";
    /// Connection for INITIATE_CONTACT of a guest in VTL 2 whose VMBus is served by another VTL.
    pub const MESSAGE_CONNECTION_ID_REDIRECT: u32 = 0x80_0074, "VMBUS_MESSAGE_CONNECTION_ID_REDIRECT";
    /// Port behind [`MESSAGE_CONNECTION_ID`].
    pub const MESSAGE_PORT_ID: u32 = 1, "VMBUS_MESSAGE_PORT_ID";
    /// Connection that signals a channel of an offer without a dedicated interrupt.
    pub const EVENT_CONNECTION_ID: u32 = 2, "VMBUS_EVENT_CONNECTION_ID";
    /// Port behind [`EVENT_CONNECTION_ID`].
    pub const EVENT_PORT_ID: u32 = 2, "VMBUS_EVENT_PORT_ID";
    /// Connection of the monitored notification facility.
    pub const MONITOR_CONNECTION_ID: u32 = 3, "VMBUS_MONITOR_CONNECTION_ID";
    /// Port behind [`MONITOR_CONNECTION_ID`].
    pub const MONITOR_PORT_ID: u32 = 3, "VMBUS_MONITOR_PORT_ID";
    /// Synthetic interrupt source on which VMBus messages and channel events arrive.
    pub const MESSAGE_SINT: u32 = 2, "VMBUS_MESSAGE_SINT";
    /// `message_type` of the SynIC message, in both directions, whose payload is a VMBus message.
    pub const MESSAGE_TYPE: u32 = 1, "HV_VMBUS_MESSAGE_TYPE";
    /// Largest VMBus message in bytes: the payload of one SynIC message.
    pub const MAX_MESSAGE_SIZE: usize = 240, "MAX_SIZE_CHANNEL_MESSAGE";
    /// Upper bound of channel ids: the number of event flags of a SINT.
    pub const MAX_CHANNELS: u32 = 2048, "MAX_CHANNEL_RELIDS";
}
