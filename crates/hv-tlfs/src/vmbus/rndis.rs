//! RNDIS: the messages inside the packets of a network card ([`nvsp`](super::nvsp)).
//!
//! Each message begins with a [`MessageHeader`]; the offsets in its body count from the body. The guest initializes the
//! card ([`InitializeRequest`]), queries and sets its objects ([`ndis`](super::ndis)), and halts it; answers have the
//! number of the request with [`MessageType::COMPLETION`]. Frames are [`PacketMessage`]s, with information about each
//! frame in [`PerPacketInfo`]s before its data. Several of them may follow one another in a packet from the guest.

open_enum! {
    table MESSAGE_TYPE, from "Linux 6.12, include/linux/rndis.h; OpenVMM, netvsp";
    names [MESSAGES];
    /// Type of a message.
    pub struct MessageType(u32) = "rndis_msg_type";
}

constants! {
    table MESSAGES, kind "rndis-message", from "Linux 6.12, include/linux/rndis.h; OpenVMM, netvsp", impl MessageType;

    /// A frame: [`PacketMessage`].
    PACKET = 1, "RNDIS_MSG_PACKET" ["REMOTE_NDIS_PACKET_MSG"];
    /// Initializes the card: [`InitializeRequest`].
    INITIALIZE = 2, "RNDIS_MSG_INIT" ["REMOTE_NDIS_INITIALIZE_MSG"];
    /// Halts the card: [`HaltRequest`]. Without an answer.
    HALT = 3, "RNDIS_MSG_HALT" ["REMOTE_NDIS_HALT_MSG"];
    /// Queries an object: [`QueryRequest`].
    QUERY = 4, "RNDIS_MSG_QUERY" ["REMOTE_NDIS_QUERY_MSG"];
    /// Sets an object: [`SetRequest`].
    SET = 5, "RNDIS_MSG_SET" ["REMOTE_NDIS_SET_MSG"];
    /// Resets the card: [`ResetRequest`].
    RESET = 6, "RNDIS_MSG_RESET" ["REMOTE_NDIS_RESET_MSG"];
    /// From the host: the card's status has changed: [`IndicateStatus`].
    INDICATE_STATUS = 7, "RNDIS_MSG_INDICATE" ["REMOTE_NDIS_INDICATE_STATUS_MSG"];
    /// Checks that the other side is alive: [`KeepaliveRequest`].
    KEEPALIVE = 8, "RNDIS_MSG_KEEPALIVE" ["REMOTE_NDIS_KEEPALIVE_MSG"];
    /// Added to a request's number: its answer.
    COMPLETION = 0x8000_0000, "RNDIS_MSG_COMPLETION";
    /// Answer: [`InitializeComplete`].
    INITIALIZE_COMPLETE = 0x8000_0002, "RNDIS_MSG_INIT_C" ["REMOTE_NDIS_INITIALIZE_CMPLT"];
    /// Answer: [`QueryComplete`].
    QUERY_COMPLETE = 0x8000_0004, "RNDIS_MSG_QUERY_C" ["REMOTE_NDIS_QUERY_CMPLT"];
    /// Answer: [`SetComplete`].
    SET_COMPLETE = 0x8000_0005, "RNDIS_MSG_SET_C" ["REMOTE_NDIS_SET_CMPLT"];
    /// Answer: [`ResetComplete`].
    RESET_COMPLETE = 0x8000_0006, "RNDIS_MSG_RESET_C" ["REMOTE_NDIS_RESET_CMPLT"];
    /// Answer: [`KeepaliveComplete`].
    KEEPALIVE_COMPLETE = 0x8000_0008, "RNDIS_MSG_KEEPALIVE_C" ["REMOTE_NDIS_KEEPALIVE_CMPLT"];
    /// Private messages of a bus; unused.
    BUS = 0xff00_0001, "RNDIS_MSG_BUS";
}

open_enum! {
    table STATUS_TYPE, from "Linux 6.12, include/linux/rndis.h; OpenVMM, netvsp";
    names [STATUSES];
    /// Outcome of a request, or a status that is indicated.
    pub struct Status(u32) = "rndis_status";
}

constants! {
    table STATUSES, kind "rndis-status", from "Linux 6.12, include/linux/rndis.h; OpenVMM, netvsp", impl Status;

    /// Done.
    SUCCESS = 0, "RNDIS_STATUS_SUCCESS";
    /// In progress.
    PENDING = 0x103, "RNDIS_STATUS_PENDING";
    /// Indicated: the link is up.
    MEDIA_CONNECT = 0x4001_000b, "RNDIS_STATUS_MEDIA_CONNECT";
    /// Indicated: the link is down.
    MEDIA_DISCONNECT = 0x4001_000c, "RNDIS_STATUS_MEDIA_DISCONNECT";
    /// Indicated, with the speed in 100 bit/s.
    LINK_SPEED_CHANGE = 0x4001_0013, "RNDIS_STATUS_LINK_SPEED_CHANGE";
    /// Indicated: the card is on another network. Linux takes the link down and up.
    NETWORK_CHANGE = 0x4001_0018, "RNDIS_STATUS_NETWORK_CHANGE";
    /// Indicated: the offloads have changed.
    TASK_OFFLOAD_CURRENT_CONFIG = 0x4002_0006, "STATUS_TASK_OFFLOAD_CURRENT_CONFIG";
    /// The answer is longer than the room for it.
    BUFFER_OVERFLOW = 0x8000_0005, "RNDIS_STATUS_BUFFER_OVERFLOW";
    /// Failed.
    FAILURE = 0xc000_0001, "RNDIS_STATUS_FAILURE";
    /// Too few resources.
    RESOURCES = 0xc000_009a, "RNDIS_STATUS_RESOURCES";
    /// The card does not support the request, or has no such object.
    NOT_SUPPORTED = 0xc000_00bb, "RNDIS_STATUS_NOT_SUPPORTED";
    /// The version is not supported.
    BAD_VERSION = 0xc001_0004, "RNDIS_STATUS_BAD_VERSION";
    /// The list of multicast addresses is full.
    MULTICAST_FULL = 0xc001_0009, "RNDIS_STATUS_MULTICAST_FULL";
    /// The message is invalid.
    INVALID_PACKET = 0xc001_000f, "RNDIS_STATUS_INVALID_PACKET";
    /// The card is not initialized.
    ADAPTER_NOT_READY = 0xc001_0011, "RNDIS_STATUS_ADAPTER_NOT_READY";
    /// The information has the wrong length.
    INVALID_LENGTH = 0xc001_0014, "RNDIS_STATUS_INVALID_LENGTH";
    /// The information is invalid.
    INVALID_DATA = 0xc001_0015, "RNDIS_STATUS_INVALID_DATA";
    /// The buffer is too short for the information.
    BUFFER_TOO_SHORT = 0xc001_0016, "RNDIS_STATUS_BUFFER_TOO_SHORT";
    /// There is no such object.
    INVALID_OID = 0xc001_0017, "RNDIS_STATUS_INVALID_OID";
}

constants! {
    table LIMITS, kind "rndis-limit", from "Linux 6.12, include/linux/rndis.h; OpenVMM, netvsp";

    /// Major version of the protocol.
    pub const MAJOR_VERSION: u32 = 1, "RNDIS_MAJOR_VERSION";
    /// Minor version of the protocol.
    pub const MINOR_VERSION: u32 = 0, "RNDIS_MINOR_VERSION";
}

constants! {
    table FLAGS, kind "rndis-flag", from "Linux 6.12, include/linux/rndis.h; OpenVMM, netvsp";

    /// In [`InitializeComplete::device_flags`]: without connections.
    pub const CONNECTIONLESS: u32 = 1, "RNDIS_DF_CONNECTIONLESS";
    /// With connections.
    pub const CONNECTION_ORIENTED: u32 = 2, "RNDIS_DF_CONNECTION_ORIENTED";
    /// Raw data.
    pub const RAW_DATA: u32 = 4, "RNDIS_DF_RAW_DATA";
}

constants! {
    table MEDIA, kind "rndis-medium", from "Linux 6.12, include/linux/rndis.h; OpenVMM, netvsp";

    /// In [`InitializeComplete::medium`]: Ethernet.
    pub const MEDIUM_802_3: u32 = 0, "RNDIS_MEDIUM_802_3" ["RNDIS_MEDIUM_UNSPECIFIED"];
}

constants! {
    table INFO_TYPES, kind "rndis-info", from "Linux 6.12, drivers/net/hyperv/hyperv_net.h; OpenVMM, netvsp";

    /// In [`PerPacketInfo::info_type`]: checksums, [`TransmitChecksum`] or [`ReceiveChecksum`].
    pub const INFO_CHECKSUM: u32 = 0, "TCPIP_CHKSUM_PKTINFO" ["PPI_TCP_IP_CHECKSUM"];
    /// IPsec; unused.
    pub const INFO_IPSEC: u32 = 1, "IPSEC_PKTINFO";
    /// Large send: [`LargeSend`].
    pub const INFO_LARGE_SEND: u32 = 2, "TCP_LARGESEND_PKTINFO" ["PPI_LSO"];
    /// VLAN tag: [`VlanInfo`].
    pub const INFO_VLAN: u32 = 6, "IEEE_8021Q_INFO" ["PPI_VLAN"];
    /// Hash of the flow, 32 bits.
    pub const INFO_HASH: u32 = 8, "NBL_HASH_VALUE" ["PACKET_CANCEL_ID"];
    /// With [`INFO_INTERNAL`]: part of coalesced segments.
    pub const INFO_PACKET_ID: u32 = 1, "RNDIS_PKTINFO_ID";
    /// A flag of the type: from another set of numbers.
    pub const INFO_INTERNAL: u32 = 0x8000_0000, "RNDIS_PKTINFO_INTERNAL";
}

bits! {
    table BITS, from "Linux 6.12, drivers/net/hyperv/hyperv_net.h; OpenVMM, netvsp";

    /// What the host is to compute for a frame from the guest.
    pub struct TransmitChecksum(u32) = "TxTcpIpChecksumInfo" ["ndis_tcp_ip_checksum_info"] {
        /// The frame is IPv4.
        is_ipv4 / with_is_ipv4: bool @ 0;
        /// The frame is IPv6.
        is_ipv6 / with_is_ipv6: bool @ 1;
        /// The host computes the checksum of TCP.
        tcp_checksum / with_tcp_checksum: bool @ 2;
        /// The host computes the checksum of UDP.
        udp_checksum / with_udp_checksum: bool @ 3;
        /// The host computes the checksum of the IPv4 header.
        ip_header_checksum / with_ip_header_checksum: bool @ 4;
        /// Offset of the TCP or UDP header in the frame.
        tcp_header_offset / with_tcp_header_offset: u16 @ 25:16;
    }

    /// What the host has found out about a frame for the guest.
    pub struct ReceiveChecksum(u32) = "RxTcpIpChecksumInfo" {
        /// The checksum of TCP is wrong.
        tcp_failed / with_tcp_failed: bool @ 0 = "tcp_checksum_failed";
        /// The checksum of UDP is wrong.
        udp_failed / with_udp_failed: bool @ 1 = "udp_checksum_failed";
        /// The checksum of the IPv4 header is wrong.
        ip_failed / with_ip_failed: bool @ 2 = "ip_checksum_failed";
        /// The checksum of TCP is right.
        tcp_succeeded / with_tcp_succeeded: bool @ 3 = "tcp_checksum_succeeded";
        /// The checksum of UDP is right.
        udp_succeeded / with_udp_succeeded: bool @ 4 = "udp_checksum_succeeded";
        /// The checksum of the IPv4 header is right.
        ip_succeeded / with_ip_succeeded: bool @ 5 = "ip_checksum_succeeded";
        /// The frame comes from the guest itself.
        loopback / with_loopback: bool @ 6;
        /// The checksum of TCP or UDP was judged, and the frame has another.
        tcp_value_invalid / with_tcp_value_invalid: bool @ 7 = "tcp_checksum_value_invalid";
        /// The checksum of the IPv4 header was judged, and the frame has another.
        ip_value_invalid / with_ip_value_invalid: bool @ 8 = "ip_checksum_value_invalid";
    }

    /// A TCP segment longer than the network allows, which the host cuts (large send offload, version 2).
    pub struct LargeSend(u32) = "ndis_tcp_lso_info" ["TcpLsoInfo", "lso_v2_transmit"] {
        /// Payload of each segment.
        mss / with_mss: u32 @ 19:0;
        /// Offset of the TCP header in the frame.
        tcp_header_offset / with_tcp_header_offset: u16 @ 29:20;
        /// 1: version 2 of the offload; 0: version 1.
        version2 / with_version2: bool @ 30 = "type";
        /// 1: IPv6; 0: IPv4.
        ipv6 / with_ipv6: bool @ 31 = "ip_version";
    }

    /// The VLAN tag of a frame, which the frame itself does not have.
    pub struct VlanInfo(u32) = "ndis_pkt_8021q_info" ["EthVlanInfo"] {
        /// Priority.
        priority / with_priority: u8 @ 2:0 = "pri";
        /// 1: the frame may be dropped before others; 0: it may not.
        drop_eligible / with_drop_eligible: bool @ 3 = "cfi";
        /// Number of the VLAN.
        vlan_id / with_vlan_id: u16 @ 15:4 = "vlanid";
    }
}

structs! {
    table STRUCTS, from "Linux 6.12, drivers/net/hyperv/hyperv_net.h; OpenVMM, netvsp";

    /// The beginning of every message.
    pub struct MessageHeader = "rndis_message" ["RNDIS_HEADER"], size 8 {
        /// Its type.
        message_type: MessageType = 0 "ndis_msg_type",
        /// Its length, with this header.
        length: u32 = 4 "msg_len",
    }

    /// Initializes the card.
    pub struct InitializeRequest = "rndis_initialize_request", size 16 {
        /// Number of the request.
        request_id: u32 = 0 "req_id",
        /// [`MAJOR_VERSION`].
        major_version: u32 = 4 "major_ver",
        /// [`MINOR_VERSION`].
        minor_version: u32 = 8 "minor_ver",
        /// Longest message that the guest expects.
        max_transfer_size: u32 = 12 "max_xfer_size",
    }

    /// Answer to [`InitializeRequest`].
    pub struct InitializeComplete = "rndis_initialize_complete", size 44 {
        /// Number of the request.
        request_id: u32 = 0 "req_id",
        /// Outcome.
        status: Status = 4,
        /// [`MAJOR_VERSION`].
        major_version: u32 = 8 "major_ver",
        /// [`MINOR_VERSION`].
        minor_version: u32 = 12 "minor_ver",
        /// [`CONNECTIONLESS`].
        device_flags: u32 = 16 "dev_flags",
        /// [`MEDIUM_802_3`].
        medium: u32 = 20,
        /// Frames that the guest may send in one packet.
        max_packets_per_message: u32 = 24 "max_pkt_per_msg",
        /// Bytes that the guest may send in one packet.
        max_transfer_size: u32 = 28 "max_xfer_size",
        /// Alignment of the messages of a packet, as a power of two.
        packet_alignment_factor: u32 = 32 "pkt_alignment_factor",
        /// Zero.
        af_list_offset: u32 = 36,
        /// Zero.
        af_list_size: u32 = 40,
    }

    /// Halts the card.
    pub struct HaltRequest = "rndis_halt_request", size 4 {
        /// Number of the request.
        request_id: u32 = 0 "req_id",
    }

    /// Queries an object.
    pub struct QueryRequest = "rndis_query_request", size 20 {
        /// Number of the request.
        request_id: u32 = 0 "req_id",
        /// The object.
        oid: super::ndis::Oid = 4,
        /// Length of the information after the request, which some objects need.
        information_length: u32 = 8 "info_buflen",
        /// Its offset from this structure.
        information_offset: u32 = 12 "info_buf_offset",
        /// Zero.
        device_vc_handle: u32 = 16 "dev_vc_handle",
    }

    /// Answer to [`QueryRequest`].
    pub struct QueryComplete = "rndis_query_complete", size 16 {
        /// Number of the request.
        request_id: u32 = 0 "req_id",
        /// Outcome.
        status: Status = 4,
        /// Length of the information.
        information_length: u32 = 8 "info_buflen",
        /// Its offset from this structure.
        information_offset: u32 = 12 "info_buf_offset",
    }

    /// Sets an object.
    pub struct SetRequest = "rndis_set_request", size 20 {
        /// Number of the request.
        request_id: u32 = 0 "req_id",
        /// The object.
        oid: super::ndis::Oid = 4,
        /// Length of the information.
        information_length: u32 = 8 "info_buflen",
        /// Its offset from this structure.
        information_offset: u32 = 12 "info_buf_offset",
        /// Zero.
        device_vc_handle: u32 = 16 "dev_vc_handle",
    }

    /// Answer to [`SetRequest`].
    pub struct SetComplete = "rndis_set_complete", size 8 {
        /// Number of the request.
        request_id: u32 = 0 "req_id",
        /// Outcome.
        status: Status = 4,
    }

    /// Resets the card.
    pub struct ResetRequest = "rndis_reset_request", size 4 {
        /// Zero.
        reserved: u32 = 0,
    }

    /// Answer to [`ResetRequest`].
    pub struct ResetComplete = "rndis_reset_complete", size 8 {
        /// Outcome.
        status: Status = 0,
        /// 1: the guest has to set its filter and its addresses again.
        addressing_reset: u32 = 4,
    }

    /// The card's status has changed.
    pub struct IndicateStatus = "rndis_indicate_status", size 12 {
        /// The status.
        status: Status = 0,
        /// Length of the information after it.
        buffer_length: u32 = 4 "status_buflen",
        /// Its offset from this structure.
        buffer_offset: u32 = 8 "status_buf_offset",
    }

    /// KEEPALIVE_REQUEST: checks that the other side is alive.
    pub struct KeepaliveRequest = "rndis_keepalive_request", size 4 {
        /// Number of the request.
        request_id: u32 = 0 "req_id",
    }

    /// Answer to [`KeepaliveRequest`].
    pub struct KeepaliveComplete = "rndis_keepalive_complete", size 8 {
        /// Number of the request.
        request_id: u32 = 0 "req_id",
        /// Outcome.
        status: Status = 4,
    }

    /// A frame. Its information and its data follow.
    pub struct PacketMessage = "rndis_packet", size 36 {
        /// Offset of the frame from this structure.
        data_offset: u32 = 0,
        /// Length of the frame.
        data_length: u32 = 4 "data_len",
        /// Zero.
        oob_data_offset: u32 = 8,
        /// Zero.
        oob_data_length: u32 = 12 "oob_data_len",
        /// Zero.
        oob_elements: u32 = 16 "num_oob_data_elements",
        /// Offset of the first [`PerPacketInfo`] from this structure; 0 for none.
        info_offset: u32 = 20 "per_pkt_info_offset",
        /// Length of all of them.
        info_length: u32 = 24 "per_pkt_info_len",
        /// Zero.
        vc_handle: u32 = 28,
        /// Zero.
        reserved: u32 = 32,
    }

    /// Information about a frame. Its value follows.
    pub struct PerPacketInfo = "rndis_per_packet_info", size 12 {
        /// Length, with this header.
        size: u32 = 0,
        /// Kind, with [`INFO_INTERNAL`].
        info_type: u32 = 4 "type",
        /// Offset of the value from this structure.
        value_offset: u32 = 8 "ppi_offset",
    }

    /// A part of coalesced segments.
    pub struct PacketId = "rndis_pktinfo_id", size 4 {
        /// 1.
        version: u8 = 0 "ver",
        /// Bit 0: part of several; bit 1: the first; bit 2: the last.
        flags: u8 = 1 "flag",
        /// Id of the whole.
        packet_id: u16 = 2 "pkt_id",
    }

    /// Sets a parameter of the card by its name, for
    /// [`Oid::GEN_RNDIS_CONFIG_PARAMETER`](super::ndis::Oid::GEN_RNDIS_CONFIG_PARAMETER): "NetworkAddress" is its
    /// address, in UTF-16 as 12 hexadecimal digits.
    pub struct ConfigParameter = "rndis_config_parameter_info", size 20 {
        /// Offset of the name from this structure.
        name_offset: u32 = 0 "parameter_name_offset",
        /// Its length in bytes.
        name_length: u32 = 4 "parameter_name_length",
        /// Kind of the value: 0 is an integer, 2 a string.
        parameter_type: u32 = 8,
        /// Offset of the value from this structure.
        value_offset: u32 = 12 "parameter_value_offset",
        /// Its length in bytes.
        value_length: u32 = 16 "parameter_value_length",
    }
}
