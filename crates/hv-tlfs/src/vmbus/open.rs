//! Opening, changing and closing a channel, and socket requests.

use super::{ChannelId, GpadlId, Guid, MessageHeader, NtStatus};

constants! {
    table TARGETS, kind "vmbus-limit", from "OpenVMM, vmbus_core";

    /// As target VP of [`OpenChannel`]: the host does not interrupt the guest for this channel.
    pub const TARGET_VP_NONE: u32 = u32::MAX, "VMBUS_VP_INDEX_DISABLE_INTERRUPT";
}

bits! {
    table BITS, from "OpenVMM, vmbus_core";

    /// Flags of [`OpenChannelSignal`].
    pub struct OpenChannelFlags(u16) = "vmbus_open_channel_flags" {
        /// Interrupts of this channel go to the VTL and SINT given in the redirection.
        redirect_interrupt / with_redirect_interrupt: bool @ 0;
    }
}

structs! {
    table STRUCTS, from "Linux 6.12, include/linux/hyperv.h; OpenVMM, vmbus_core";

    /// OPENCHANNEL. Answered with an [`OpenResult`].
    pub struct OpenChannel = "vmbus_channel_open_channel", size 148 {
        /// [`MessageType::OPEN_CHANNEL`](super::MessageType::OPEN_CHANNEL).
        header: MessageHeader = 0,
        /// The channel.
        channel: ChannelId = 8 "child_relid",
        /// Comes back in the answer.
        open_id: u32 = 12 "openid",
        /// GPADL of both rings.
        ring_gpadl: GpadlId = 16 "ringbuffer_gpadlhandle",
        /// VP whose SINT gets the interrupts, or [`TARGET_VP_NONE`].
        target_vp: u32 = 20,
        /// Page of the GPADL where the host-to-guest ring begins, in 4096-byte pages; the guest-to-host ring begins at
        /// page 0.
        downstream_page_offset: u32 = 24 "downstream_ringbuffer_pageoffset",
        /// For the device.
        user_data: [u8; 120] = 28 "userdata",
    }

    /// OPENCHANNEL with a version 6.0 feature that needs it.
    pub struct OpenChannelSignal = "vmbus_channel_open_channel2", size 156 {
        /// The part that all versions have.
        open: OpenChannel = 0,
        /// Connection that the guest will signal, with
        /// [`FeatureFlags::guest_specified_signal`](super::FeatureFlags::guest_specified_signal).
        connection: u32 = 148 "connection_id",
        /// Event flag that the host sets, with the same feature.
        event_flag: u16 = 152,
        /// Flags.
        flags: OpenChannelFlags = 154,
    }

    /// OPENCHANNEL_RESULT.
    pub struct OpenResult = "vmbus_channel_open_result", size 20 {
        /// [`MessageType::OPEN_RESULT`](super::MessageType::OPEN_RESULT).
        header: MessageHeader = 0,
        /// The channel.
        channel: ChannelId = 8 "child_relid",
        /// From the request.
        open_id: u32 = 12 "openid",
        /// Zero: open.
        status: NtStatus = 16,
    }

    /// CLOSECHANNEL. Not answered; the guest then tears down the GPADL of the rings.
    pub struct CloseChannel = "vmbus_channel_close_channel", size 12 {
        /// [`MessageType::CLOSE_CHANNEL`](super::MessageType::CLOSE_CHANNEL).
        header: MessageHeader = 0,
        /// The channel.
        channel: ChannelId = 8 "child_relid",
    }

    /// MODIFYCHANNEL: moves the interrupts to another VP. From version 4.1 on; answered from 5.3 on.
    pub struct ModifyChannel = "vmbus_channel_modifychannel", size 16 {
        /// [`MessageType::MODIFY_CHANNEL`](super::MessageType::MODIFY_CHANNEL).
        header: MessageHeader = 0,
        /// The channel.
        channel: ChannelId = 8 "child_relid",
        /// VP index.
        target_vp: u32 = 12,
    }

    /// MODIFYCHANNEL_RESPONSE: the former VP gets no more interrupts.
    pub struct ModifyChannelResponse = "vmbus_channel_modifychannel_response", size 16 {
        /// [`MessageType::MODIFY_CHANNEL_RESPONSE`](super::MessageType::MODIFY_CHANNEL_RESPONSE).
        header: MessageHeader = 0,
        /// The channel.
        channel: ChannelId = 8 "child_relid",
        /// Zero: done.
        status: NtStatus = 12,
    }

    /// Opens a channel that outlives the connection, as firmware does for its console.
    pub struct OpenReservedChannel = "vmbus_channel_open_reserved_channel", size 28 {
        /// [`MessageType::OPEN_RESERVED_CHANNEL`](super::MessageType::OPEN_RESERVED_CHANNEL).
        header: MessageHeader = 0,
        /// The channel.
        channel: ChannelId = 8 "child_relid",
        /// VP to interrupt.
        target_vp: u32 = 12,
        /// SINT to interrupt.
        target_sint: u32 = 16,
        /// GPADL of both rings.
        ring_gpadl: GpadlId = 20,
        /// As in [`OpenChannel`].
        downstream_page_offset: u32 = 24,
    }

    /// Closes such a channel.
    pub struct CloseReservedChannel = "vmbus_channel_close_reserved_channel", size 20 {
        /// [`MessageType::CLOSE_RESERVED_CHANNEL`](super::MessageType::CLOSE_RESERVED_CHANNEL).
        header: MessageHeader = 0,
        /// The channel.
        channel: ChannelId = 8 "child_relid",
        /// VP for the answer.
        target_vp: u32 = 12,
        /// SINT for the answer.
        target_sint: u32 = 16,
    }

    /// Such a channel is closed.
    pub struct CloseReservedResponse = "vmbus_channel_close_reserved_response", size 12 {
        /// [`MessageType::CLOSE_RESERVED_RESPONSE`](super::MessageType::CLOSE_RESERVED_RESPONSE).
        header: MessageHeader = 0,
        /// The channel.
        channel: ChannelId = 8 "child_relid",
    }

    /// TL_CONNECT_REQUEST: a socket of the guest connects to a service of the host. Success is an offer.
    pub struct TlConnectRequest = "vmbus_channel_tl_connect_request", size 40 {
        /// [`MessageType::TL_CONNECT_REQUEST`](super::MessageType::TL_CONNECT_REQUEST).
        header: MessageHeader = 0,
        /// The guest's end.
        endpoint: Guid = 8 "guest_endpoint_id",
        /// The service.
        service: Guid = 24 "host_service_id",
    }

    /// TL_CONNECT_REQUEST from version 5.2 on; guests may still send the short form.
    pub struct TlConnectRequestSilo = "vmbus_channel_tl_connect_request2", size 56 {
        /// The short form.
        request: TlConnectRequest = 0,
        /// Target container.
        silo: Guid = 40 "silo_id",
    }

    /// TL_CONNECT_RESULT: the connection was rejected. From version 4.1 on.
    pub struct TlConnectResult = "vmbus_channel_tl_connect_result", size 44 {
        /// [`MessageType::TL_CONNECT_RESULT`](super::MessageType::TL_CONNECT_RESULT).
        header: MessageHeader = 0,
        /// The guest's end.
        endpoint: Guid = 8 "guest_endpoint_id",
        /// The service.
        service: Guid = 24 "host_service_id",
        /// Why.
        status: NtStatus = 40,
    }
}
