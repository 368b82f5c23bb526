//! The common header of VMBus messages, and the ids and statuses that many of them carry.

open_enum! {
    table MESSAGE_TYPE, from "Linux 6.12, include/linux/hyperv.h";
    names [TYPES];
    /// Kind of a VMBus message.
    pub struct MessageType(u32) = "vmbus_channel_message_type";
}

constants! {
    table TYPES, kind "vmbus-message",
    from "Linux 6.12, include/linux/hyperv.h; OpenVMM, vmbus_core", impl MessageType;

    /// No message.
    INVALID = 0, "CHANNELMSG_INVALID";
    /// Host to guest: [`OfferChannel`](super::OfferChannel).
    OFFER_CHANNEL = 1, "CHANNELMSG_OFFERCHANNEL";
    /// Host to guest: [`RescindOffer`](super::RescindOffer).
    RESCIND_OFFER = 2, "CHANNELMSG_RESCIND_CHANNELOFFER";
    /// Guest to host: send all offers. Only a header.
    REQUEST_OFFERS = 3, "CHANNELMSG_REQUESTOFFERS";
    /// Host to guest: the last offer has been sent. Only a header.
    ALL_OFFERS_DELIVERED = 4, "CHANNELMSG_ALLOFFERS_DELIVERED";
    /// Guest to host: [`OpenChannel`](super::OpenChannel).
    OPEN_CHANNEL = 5, "CHANNELMSG_OPENCHANNEL";
    /// Host to guest: [`OpenResult`](super::OpenResult).
    OPEN_RESULT = 6, "CHANNELMSG_OPENCHANNEL_RESULT";
    /// Guest to host: [`CloseChannel`](super::CloseChannel). Not answered.
    CLOSE_CHANNEL = 7, "CHANNELMSG_CLOSECHANNEL";
    /// Guest to host: [`GpadlHeader`](super::GpadlHeader).
    GPADL_HEADER = 8, "CHANNELMSG_GPADL_HEADER";
    /// Guest to host: [`GpadlBody`](super::GpadlBody).
    GPADL_BODY = 9, "CHANNELMSG_GPADL_BODY";
    /// Host to guest: [`GpadlCreated`](super::GpadlCreated).
    GPADL_CREATED = 10, "CHANNELMSG_GPADL_CREATED";
    /// Guest to host: [`GpadlTeardown`](super::GpadlTeardown).
    GPADL_TEARDOWN = 11, "CHANNELMSG_GPADL_TEARDOWN";
    /// Host to guest: [`GpadlTorndown`](super::GpadlTorndown).
    GPADL_TORNDOWN = 12, "CHANNELMSG_GPADL_TORNDOWN";
    /// Guest to host: [`RelIdReleased`](super::RelIdReleased). Not answered.
    RELID_RELEASED = 13, "CHANNELMSG_RELID_RELEASED";
    /// Guest to host: [`InitiateContact`](super::InitiateContact).
    INITIATE_CONTACT = 14, "CHANNELMSG_INITIATE_CONTACT";
    /// Host to guest: [`VersionResponse`](super::VersionResponse).
    VERSION_RESPONSE = 15, "CHANNELMSG_VERSION_RESPONSE";
    /// Guest to host: end the connection. Only a header.
    UNLOAD = 16, "CHANNELMSG_UNLOAD";
    /// Host to guest: the connection has ended. Only a header.
    UNLOAD_RESPONSE = 17, "CHANNELMSG_UNLOAD_RESPONSE";
    /// Guest to host: [`OpenReservedChannel`](super::OpenReservedChannel).
    OPEN_RESERVED_CHANNEL = 18, "CHANNELMSG_18";
    /// Guest to host: [`CloseReservedChannel`](super::CloseReservedChannel).
    CLOSE_RESERVED_CHANNEL = 19, "CHANNELMSG_19";
    /// Host to guest: [`CloseReservedResponse`](super::CloseReservedResponse).
    CLOSE_RESERVED_RESPONSE = 20, "CHANNELMSG_20";
    /// Guest to host: [`TlConnectRequest`](super::TlConnectRequest).
    TL_CONNECT_REQUEST = 21, "CHANNELMSG_TL_CONNECT_REQUEST";
    /// Guest to host: [`ModifyChannel`](super::ModifyChannel). Answered from version 5.3 on.
    MODIFY_CHANNEL = 22, "CHANNELMSG_MODIFYCHANNEL";
    /// Host to guest: [`TlConnectResult`](super::TlConnectResult).
    TL_CONNECT_RESULT = 23, "CHANNELMSG_TL_CONNECT_RESULT";
    /// Host to guest: [`ModifyChannelResponse`](super::ModifyChannelResponse).
    MODIFY_CHANNEL_RESPONSE = 24, "CHANNELMSG_MODIFYCHANNEL_RESPONSE";
    /// Guest to host: [`ModifyConnection`](super::ModifyConnection).
    MODIFY_CONNECTION = 25, "CHANNELMSG_MODIFY_CONNECTION";
    /// Host to guest: [`ModifyConnectionResponse`](super::ModifyConnectionResponse).
    MODIFY_CONNECTION_RESPONSE = 26, "CHANNELMSG_MODIFY_CONNECTION_RESPONSE";
    /// Guest to host: hold back all messages except the response. Only a header.
    PAUSE = 27, "CHANNELMSG_PAUSE";
    /// Host to guest: the last message before RESUME. Only a header.
    PAUSE_RESPONSE = 28, "CHANNELMSG_PAUSE_RESPONSE";
    /// Guest to host: send messages again. Only a header.
    RESUME = 29, "CHANNELMSG_RESUME";
}

open_enum! {
    table STATUS_TYPE, from "Microsoft MS-ERREF, section NTSTATUS";
    names [STATUSES];
    /// Outcome of a request: an NTSTATUS or HRESULT; guests test only whether it is zero.
    pub struct NtStatus(u32) = "NTSTATUS";
}

constants! {
    table STATUSES, kind "nt-status", from "OpenVMM, vmbus_core", impl NtStatus;

    /// Done.
    SUCCESS = 0, "STATUS_SUCCESS";
    /// Rejected: the request was invalid, or the host lacks resources.
    UNSUCCESSFUL = 0x8000_ffff, "STATUS_UNSUCCESSFUL" ["E_UNEXPECTED"];
    /// The device is not in the state that the request requires.
    INVALID_DEVICE_STATE = 0xc000_0184, "STATUS_INVALID_DEVICE_STATE";
    /// Invalid value in the request.
    INVALID_PARAMETER = 0xc000_000d, "STATUS_INVALID_PARAMETER";
    /// The host does not know the request.
    NOT_SUPPORTED = 0xc000_00bb, "STATUS_NOT_SUPPORTED";
    /// The host does not speak that version.
    REVISION_MISMATCH = 0xc000_0059, "STATUS_REVISION_MISMATCH";
    /// No listener on the host has that address.
    CONNECTION_REFUSED = 0xc000_0236, "STATUS_CONNECTION_REFUSED";
}

open_enum! {
    table CHANNEL_TYPE, from "Linux 6.12, include/linux/hyperv.h";
    names [IDS];
    /// Number of a channel within its connection, chosen by the host: 1 to 2047. It is also the event flag of the
    /// channel's interrupts to the guest.
    pub struct ChannelId(u32) = "vmbus_channel_id";
}

open_enum! {
    table GPADL_TYPE, from "Linux 6.12, include/linux/hyperv.h";
    /// Name of a GPADL, chosen by the guest.
    pub struct GpadlId(u32) = "vmbus_gpadl_id";
}

constants! {
    table IDS, kind "vmbus-channel", from "Linux 6.12, include/linux/hyperv.h", impl ChannelId;

    /// Not a channel; Linux uses it to mark a channel that it has released.
    INVALID = u32::MAX, "INVALID_RELID";
}

structs! {
    table STRUCTS, from "Linux 6.12, include/linux/hyperv.h";

    /// The beginning of every VMBus message.
    pub struct MessageHeader = "vmbus_channel_message_header", size 8 {
        /// Kind of message.
        message_type: MessageType = 0 "msgtype",
        /// Zero; hosts do not look at it.
        padding: u32 = 4,
    }
}

impl MessageHeader {
    /// Creates the header of a message of this type.
    #[must_use]
    pub const fn new(message_type: MessageType) -> Self {
        Self { message_type, padding: 0 }
    }
}
