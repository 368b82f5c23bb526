//! Network: the packets of a network card's channel (NVSP), which carry RNDIS messages ([`rndis`](super::rndis)).
//!
//! Every packet begins with a [`MessageHeader`] and is padded to one length in both directions: [`PACKET_SIZE`], and
//! [`PACKET_SIZE_6_1`] from [`Version::V61`] on. The guest proposes versions until one is accepted ([`Init`],
//! [`InitComplete`]), sends [`NdisConfig`] and [`NdisVersion`], and gives the host a receive buffer and a send buffer
//! as GPADLs ([`SendReceiveBuffer`], [`SendSendBuffer`]). From then on both sides send
//! [`MessageType::SEND_RNDIS_PACKET`]: the guest with the data in a section of the send buffer, in pages that the
//! packet lists, or in both, the section first; the host in a packet with transfer pages, whose ranges lie in the
//! receive buffer. Each side completes the packets of the other.

use super::GpadlId;

open_enum! {
    table MESSAGE_TYPE, from "Linux 6.12, drivers/net/hyperv/hyperv_net.h; OpenVMM, netvsp";
    names [MESSAGES];
    /// Type of a packet.
    pub struct MessageType(u32) = "nvsp_msg_type";
}

constants! {
    table MESSAGES, kind "nvsp-message", from "Linux 6.12, drivers/net/hyperv/hyperv_net.h; OpenVMM, netvsp", impl MessageType;

    /// No packet.
    NONE = 0, "NVSP_MSG_TYPE_NONE";
    /// Proposes a version: [`Init`].
    INIT = 1, "NVSP_MSG_TYPE_INIT";
    /// Answer: [`InitComplete`].
    INIT_COMPLETE = 2, "NVSP_MSG_TYPE_INIT_COMPLETE";
    /// Version of the guest's network stack: [`NdisVersion`].
    SEND_NDIS_VERSION = 100, "NVSP_MSG1_TYPE_SEND_NDIS_VER" ["NVSP_VERSION_MSG_START"];
    /// Gives the host the receive buffer: [`SendReceiveBuffer`].
    SEND_RECEIVE_BUFFER = 101, "NVSP_MSG1_TYPE_SEND_RECV_BUF";
    /// Answer: [`SendReceiveBufferComplete`].
    SEND_RECEIVE_BUFFER_COMPLETE = 102, "NVSP_MSG1_TYPE_SEND_RECV_BUF_COMPLETE";
    /// Takes the receive buffer back: [`RevokeBuffer`]. Without an answer.
    REVOKE_RECEIVE_BUFFER = 103, "NVSP_MSG1_TYPE_REVOKE_RECV_BUF";
    /// Gives the host the send buffer: [`SendSendBuffer`].
    SEND_SEND_BUFFER = 104, "NVSP_MSG1_TYPE_SEND_SEND_BUF";
    /// Answer: [`SendSendBufferComplete`].
    SEND_SEND_BUFFER_COMPLETE = 105, "NVSP_MSG1_TYPE_SEND_SEND_BUF_COMPLETE";
    /// Takes the send buffer back: [`RevokeBuffer`]. Without an answer.
    REVOKE_SEND_BUFFER = 106, "NVSP_MSG1_TYPE_REVOKE_SEND_BUF";
    /// An RNDIS message, in either direction: [`SendRndisPacket`].
    SEND_RNDIS_PACKET = 107, "NVSP_MSG1_TYPE_SEND_RNDIS_PKT";
    /// The receiver has processed it: [`SendRndisPacketComplete`].
    SEND_RNDIS_PACKET_COMPLETE = 108, "NVSP_MSG1_TYPE_SEND_RNDIS_PKT_COMPLETE";
    /// TCP chimney; unused.
    SEND_CHIMNEY_DELEGATED_BUFFER = 109, "NVSP_MSG2_TYPE_SEND_CHIMNEY_DELEGATED_BUF";
    /// TCP chimney; unused.
    SEND_CHIMNEY_DELEGATED_BUFFER_COMPLETE = 110, "NVSP_MSG2_TYPE_SEND_CHIMNEY_DELEGATED_BUF_COMP";
    /// TCP chimney; unused.
    REVOKE_CHIMNEY_DELEGATED_BUFFER = 111, "NVSP_MSG2_TYPE_REVOKE_CHIMNEY_DELEGATED_BUF";
    /// TCP chimney; unused.
    RESUME_CHIMNEY_RX_INDICATION = 112, "NVSP_MSG2_TYPE_RESUME_CHIMNEY_RX_INDICATION";
    /// TCP chimney; unused.
    TERMINATE_CHIMNEY = 113, "NVSP_MSG2_TYPE_TERMINATE_CHIMNEY";
    /// TCP chimney; unused.
    TERMINATE_CHIMNEY_COMPLETE = 114, "NVSP_MSG2_TYPE_TERMINATE_CHIMNEY_COMP";
    /// TCP chimney; unused.
    INDICATE_CHIMNEY_EVENT = 115, "NVSP_MSG2_TYPE_INDICATE_CHIMNEY_EVENT";
    /// TCP chimney; unused.
    SEND_CHIMNEY_PACKET = 116, "NVSP_MSG2_TYPE_SEND_CHIMNEY_PKT";
    /// TCP chimney; unused.
    SEND_CHIMNEY_PACKET_COMPLETE = 117, "NVSP_MSG2_TYPE_SEND_CHIMNEY_PKT_COMP";
    /// TCP chimney; unused.
    POST_CHIMNEY_RECEIVE_REQUEST = 118, "NVSP_MSG2_TYPE_POST_CHIMNEY_RECV_REQ";
    /// TCP chimney; unused.
    POST_CHIMNEY_RECEIVE_REQUEST_COMPLETE = 119, "NVSP_MSG2_TYPE_POST_CHIMNEY_RECV_REQ_COMP";
    /// Receive buffers of the host's choice; unused.
    ALLOCATE_RECEIVE_BUFFER = 120, "NVSP_MSG2_TYPE_ALLOC_RXBUF";
    /// Receive buffers of the host's choice; unused.
    ALLOCATE_RECEIVE_BUFFER_COMPLETE = 121, "NVSP_MSG2_TYPE_ALLOC_RXBUF_COMP";
    /// Receive buffers of the host's choice; unused.
    FREE_RECEIVE_BUFFER = 122, "NVSP_MSG2_TYPE_FREE_RXBUF";
    /// Queues of virtual machines; unused.
    SEND_VMQ_RNDIS_PACKET = 123, "NVSP_MSG2_TYPE_SEND_VMQ_RNDIS_PKT";
    /// Queues of virtual machines; unused.
    SEND_VMQ_RNDIS_PACKET_COMPLETE = 124, "NVSP_MSG2_TYPE_SEND_VMQ_RNDIS_PKT_COMP";
    /// Maximum frame and capabilities of the guest: [`NdisConfig`].
    SEND_NDIS_CONFIG = 125, "NVSP_MSG2_TYPE_SEND_NDIS_CONFIG";
    /// TCP chimney; unused.
    ALLOCATE_CHIMNEY_HANDLE = 126, "NVSP_MSG2_TYPE_ALLOC_CHIMNEY_HANDLE";
    /// TCP chimney; unused.
    ALLOCATE_CHIMNEY_HANDLE_COMPLETE = 127, "NVSP_MSG2_TYPE_ALLOC_CHIMNEY_HANDLE_COMP" ["NVSP_MSG2_MAX"];
    /// From the host: a virtual function belongs to the card: [`VfAssociation`].
    SEND_VF_ASSOCIATION = 128, "NVSP_MSG4_TYPE_SEND_VF_ASSOCIATION";
    /// The guest switches to the virtual function or back: [`SwitchDataPath`].
    SWITCH_DATA_PATH = 129, "NVSP_MSG4_TYPE_SWITCH_DATA_PATH";
    /// Deprecated.
    UPLINK_CONNECT_STATE = 130, "NVSP_MSG4_TYPE_UPLINK_CONNECT_STATE_DEPRECATED" ["NVSP_MSG4_MAX"];
    /// A query outside RNDIS; unused.
    OID_QUERY_EX = 131, "NVSP_MSG5_TYPE_OID_QUERY_EX";
    /// A query outside RNDIS; unused.
    OID_QUERY_EX_COMPLETE = 132, "NVSP_MSG5_TYPE_OID_QUERY_EX_COMP";
    /// Requests sub-channels: [`SubchannelRequest`], answered by [`SubchannelComplete`] under the same number.
    SUBCHANNEL = 133, "NVSP_MSG5_TYPE_SUBCHANNEL";
    /// From the host: which channel the guest is to send on: [`SendIndirectionTable`].
    SEND_INDIRECTION_TABLE = 134, "NVSP_MSG5_TYPE_SEND_INDIRECTION_TABLE" ["NVSP_MSG5_MAX"];
    /// PacketDirect; unused.
    PD_API = 135, "NVSP_MSG6_TYPE_PD_API";
    /// PacketDirect; unused.
    PD_POST_BATCH = 136, "NVSP_MSG6_TYPE_PD_POST_BATCH" ["NVSP_MSG6_MAX"];
}

open_enum! {
    table STATUS_TYPE, from "Linux 6.12, drivers/net/hyperv/hyperv_net.h; OpenVMM, netvsp";
    names [STATUSES];
    /// Outcome of a packet. Success is 1.
    pub struct Status(u32) = "nvsp_status";
}

constants! {
    table STATUSES, kind "nvsp-status", from "Linux 6.12, drivers/net/hyperv/hyperv_net.h; OpenVMM, netvsp", impl Status;

    /// None yet.
    NONE = 0, "NVSP_STAT_NONE";
    /// Done.
    SUCCESS = 1, "NVSP_STAT_SUCCESS";
    /// Failed.
    FAIL = 2, "NVSP_STAT_FAIL";
    /// The proposed version is too new.
    PROTOCOL_TOO_NEW = 3, "NVSP_STAT_PROTOCOL_TOO_NEW";
    /// The proposed version is too old.
    PROTOCOL_TOO_OLD = 4, "NVSP_STAT_PROTOCOL_TOO_OLD";
    /// The RNDIS message is invalid.
    INVALID_RNDIS_PACKET = 5, "NVSP_STAT_INVALID_RNDIS_PKT";
    /// Busy.
    BUSY = 6, "NVSP_STAT_BUSY";
    /// The proposed version is not supported.
    PROTOCOL_UNSUPPORTED = 7, "NVSP_STAT_PROTOCOL_UNSUPPORTED";
}

open_enum! {
    table VERSION_TYPE, from "Linux 6.12, drivers/net/hyperv/hyperv_net.h; OpenVMM, netvsp";
    names [VERSIONS];
    /// Version of the protocol: major number in the high half, minor number in the low.
    pub struct Version(u32) = "nvsp_protocol_ver";
}

constants! {
    table VERSIONS, kind "nvsp-version", from "Linux 6.12, drivers/net/hyperv/hyperv_net.h; OpenVMM, netvsp", impl Version;

    /// Windows Server 2008.
    V1 = 2, "NVSP_PROTOCOL_VERSION_1";
    /// Windows Server 2008 R2: [`NdisConfig`].
    V2 = 0x3_0002, "NVSP_PROTOCOL_VERSION_2";
    /// Windows Server 2012: virtual functions.
    V4 = 0x4_0000, "NVSP_PROTOCOL_VERSION_4";
    /// Windows Server 2012 R2: sub-channels.
    V5 = 0x5_0000, "NVSP_PROTOCOL_VERSION_5";
    /// Windows Server 2016.
    V6 = 0x6_0000, "NVSP_PROTOCOL_VERSION_6";
    /// Windows Server 2016 and later: longer packets, coalesced receive segments.
    V61 = 0x6_0001, "NVSP_PROTOCOL_VERSION_61";
    /// No version.
    INVALID = 0xffff_ffff, "NVSP_INVALID_PROTOCOL_VERSION";
}

constants! {
    table LIMITS, kind "nvsp-limit", from "Linux 6.12, drivers/net/hyperv/hyperv_net.h; OpenVMM, netvsp";

    /// Length of every packet before [`Version::V61`].
    pub const PACKET_SIZE: usize = 0x1c, "PACKET_SIZE_V1";
    /// Length of every packet from [`Version::V61`] on.
    pub const PACKET_SIZE_6_1: usize = 0x28, "PACKET_SIZE_V61";
    /// Longest packet with transfer pages that Linux reads, without the trailer.
    pub const MAX_PACKET_SIZE: usize = 0x1210, "NETVSC_MAX_PKT_SIZE";
    /// In [`SendRndisPacket::section_index`]: no section of the send buffer.
    pub const INVALID_INDEX: u32 = 0xffff_ffff, "NETVSC_INVALID_INDEX";
    /// [`SendReceiveBuffer::id`], which is also the number of the set of transfer pages.
    pub const RECEIVE_BUFFER_ID: u16 = 0xcafe, "NETVSC_RECEIVE_BUFFER_ID";
    /// [`SendSendBuffer::id`].
    pub const SEND_BUFFER_ID: u16 = 0, "NETVSC_SEND_BUFFER_ID";
    /// Size of a section of the send buffer on Hyper-V.
    pub const SEND_SECTION_SIZE: u32 = 6144, "NETVSC_SEND_SECTION_SIZE";
    /// Entries of the host's [`SendIndirectionTable`].
    pub const SEND_TABLE_SIZE: u32 = 16, "VRSS_SEND_TAB_SIZE" ["VMS_SWITCH_RSS_MAX_SEND_INDIRECTION_TABLE_ENTRIES"];
    /// Ranges of a packet with transfer pages, with coalesced segments.
    pub const MAX_RANGES: u32 = 562, "NVSP_RSC_MAX" ["NETVSC_MAX_XFER_PAGE_RANGES"];
}

constants! {
    table CHANNELS, kind "nvsp-channel", from "OpenVMM, netvsp; Linux 6.12, drivers/net/hyperv/netvsc.c";

    /// In [`SendRndisPacket::channel_type`]: frames.
    pub const DATA_CHANNEL: u32 = 0, "DATA_CHANNEL_TYPE" ["RMC_DATA"];
    /// All other RNDIS messages.
    pub const CONTROL_CHANNEL: u32 = 1, "CONTROL_CHANNEL_TYPE" ["RMC_CONTROL"];
}

constants! {
    table SUBCHANNEL_OPERATIONS, kind "nvsp-subchannel", from "Linux 6.12, drivers/net/hyperv/hyperv_net.h; OpenVMM, netvsp";

    /// In [`SubchannelRequest::operation`]: nothing.
    pub const SUBCHANNEL_NONE: u32 = 0, "NVSP_SUBCHANNEL_NONE";
    /// Allocates sub-channels.
    pub const SUBCHANNEL_ALLOCATE: u32 = 1, "NVSP_SUBCHANNEL_ALLOCATE";
}

constants! {
    table DATA_PATHS, kind "nvsp-data-path", from "Linux 6.12, drivers/net/hyperv/hyperv_net.h; OpenVMM, netvsp";

    /// In [`SwitchDataPath::active`]: through VMBus.
    pub const DATA_PATH_SYNTHETIC: u32 = 0, "NVSP_DATAPATH_SYNTHETIC";
    /// Through the virtual function.
    pub const DATA_PATH_VF: u32 = 1, "NVSP_DATAPATH_VF";
}

bits! {
    table BITS, from "Linux 6.12, drivers/net/hyperv/hyperv_net.h; OpenVMM, netvsp";

    /// What the guest's driver can do.
    pub struct Capabilities(u64) = "nvsp_2_vsc_capability" {
        /// Queues of virtual machines.
        vmq / with_vmq: bool @ 0;
        /// TCP chimney.
        chimney / with_chimney: bool @ 1;
        /// Virtual functions.
        sriov / with_sriov: bool @ 2;
        /// VLAN tags beside the frame.
        ieee8021q / with_ieee8021q: bool @ 3;
        /// Correlation ids.
        correlation_id / with_correlation_id: bool @ 4;
        /// Teaming: Linux needs it to be told of changes of the speed.
        teaming / with_teaming: bool @ 5;
        /// Virtual subnets.
        virtual_subnet_id / with_virtual_subnet_id: bool @ 6 = "vsubnetid";
        /// Coalesced receive segments.
        rsc / with_rsc: bool @ 7;
    }
    also {
        "data" @ 0, 8;
    }
}

structs! {
    table STRUCTS, from "Linux 6.12, drivers/net/hyperv/hyperv_net.h; OpenVMM, netvsp";

    /// The beginning of every packet.
    pub struct MessageHeader = "nvsp_message_header", size 4 {
        /// Its type.
        message_type: MessageType = 0 "msg_type",
    }

    /// Proposes a version. Both fields have the same value.
    pub struct Init = "nvsp_message_init", size 8 {
        /// The version.
        version: Version = 0 "min_protocol_ver",
        /// The version again.
        version2: Version = 4 "max_protocol_ver",
    }

    /// Answer to [`Init`].
    pub struct InitComplete = "nvsp_message_init_complete", size 12 {
        /// Not a version: 2.
        deprecated: u32 = 0 "negotiated_protocol_ver",
        /// Maximum number of buffers in a packet.
        max_mdl_chain_len: u32 = 4,
        /// Outcome.
        status: Status = 8,
    }

    /// Version of the guest's network stack: 6.1, or 6.30 from [`Version::V5`] on.
    pub struct NdisVersion = "nvsp_1_message_send_ndis_version", size 8 {
        /// Major version.
        major: u32 = 0 "ndis_major_ver",
        /// Minor version.
        minor: u32 = 4 "ndis_minor_ver",
    }

    /// SEND_RECEIVE_BUFFER: lends the host the receive buffer. C has no reserved field, and the length of the structure
    /// is 6 there.
    pub struct SendReceiveBuffer = "nvsp_1_message_send_receive_buffer", size 8 {
        /// The buffer.
        gpadl: GpadlId = 0 "gpadl_handle",
        /// [`RECEIVE_BUFFER_ID`].
        id: u16 = 4,
        /// Zero.
        reserved: u16 = 6,
    }

    /// A section of the receive buffer.
    pub struct ReceiveBufferSection = "nvsp_1_receive_buffer_section", size 16 {
        /// Offset of the section: Linux accepts 0 only.
        offset: u32 = 0,
        /// Size of each part of it: each has one message.
        sub_alloc_size: u32 = 4,
        /// Number of parts.
        num_sub_allocs: u32 = 8,
        /// End of the section.
        end_offset: u32 = 12,
    }

    /// Answer to [`SendReceiveBuffer`].
    pub struct SendReceiveBufferComplete = "nvsp_1_message_send_receive_buffer_complete", size 24 {
        /// Outcome.
        status: Status = 0,
        /// 1: Linux accepts no other number.
        num_sections: u32 = 4,
        /// The section.
        section: ReceiveBufferSection = 8 "sections",
    }

    /// Takes a buffer back.
    pub struct RevokeBuffer = "nvsp_1_message_revoke_receive_buffer" ["nvsp_1_message_revoke_send_buffer"], size 2 {
        /// [`RECEIVE_BUFFER_ID`] or [`SEND_BUFFER_ID`].
        id: u16 = 0,
    }

    /// SEND_SEND_BUFFER: lends the host the send buffer. C has no reserved field, and the length of the structure is 6
    /// there.
    pub struct SendSendBuffer = "nvsp_1_message_send_send_buffer", size 8 {
        /// The buffer.
        gpadl: GpadlId = 0 "gpadl_handle",
        /// [`SEND_BUFFER_ID`].
        id: u16 = 4,
        /// Zero.
        reserved: u16 = 6,
    }

    /// Answer to [`SendSendBuffer`].
    pub struct SendSendBufferComplete = "nvsp_1_message_send_send_buffer_complete", size 8 {
        /// Outcome.
        status: Status = 0,
        /// Size of a section: the host's choice.
        section_size: u32 = 4,
    }

    /// RNDIS messages: one control message, or frames.
    pub struct SendRndisPacket = "nvsp_1_message_send_rndis_packet", size 12 {
        /// [`DATA_CHANNEL`] or [`CONTROL_CHANNEL`].
        channel_type: u32 = 0,
        /// Section of the send buffer with the beginning of the data, or [`INVALID_INDEX`].
        section_index: u32 = 4 "send_buf_section_index",
        /// Bytes in it.
        section_size: u32 = 8 "send_buf_section_size",
    }

    /// Completes a [`SendRndisPacket`].
    pub struct SendRndisPacketComplete = "nvsp_1_message_send_rndis_packet_complete", size 4 {
        /// Outcome.
        status: Status = 0,
    }

    /// Maximum frame and capabilities of the guest.
    pub struct NdisConfig = "nvsp_2_send_ndis_config", size 16 {
        /// Maximum length of a frame, with its header of 14 bytes.
        mtu: u32 = 0,
        /// Zero.
        reserved: u32 = 4,
        /// Capabilities.
        capabilities: Capabilities = 8 "capability",
    }

    /// A virtual function belongs to the card, or does no longer.
    pub struct VfAssociation = "nvsp_4_send_vf_association", size 8 {
        /// 1: it does.
        allocated: u32 = 0,
        /// Its serial number.
        serial: u32 = 4,
    }

    /// The guest switches its frames.
    pub struct SwitchDataPath = "nvsp_4_sw_datapath", size 4 {
        /// [`DATA_PATH_SYNTHETIC`] or [`DATA_PATH_VF`].
        active: u32 = 0 "active_datapath",
    }

    /// Requests sub-channels.
    pub struct SubchannelRequest = "nvsp_5_subchannel_request", size 8 {
        /// [`SUBCHANNEL_ALLOCATE`].
        operation: u32 = 0 "op",
        /// Their number.
        count: u32 = 4 "num_subchannels",
    }

    /// Answer to [`SubchannelRequest`].
    pub struct SubchannelComplete = "nvsp_5_subchannel_complete", size 8 {
        /// Outcome.
        status: Status = 0,
        /// Number of sub-channels that will be offered, which the guest waits for.
        count: u32 = 4 "num_subchannels",
    }

    /// Which channel the guest is to send on, by the hash of a flow.
    pub struct SendIndirectionTable = "nvsp_5_send_indirect_table", size 8 {
        /// Number of entries: [`SEND_TABLE_SIZE`].
        count: u32 = 0,
        /// Offset of the entries, from the beginning of the packet. Old hosts had it wrong.
        offset: u32 = 4,
    }
}
