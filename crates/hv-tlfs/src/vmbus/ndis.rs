//! NDIS: the objects of a network card that RNDIS queries and sets ([`rndis`](super::rndis)).

open_enum! {
    table OID_TYPE, from "Linux 6.12, include/linux/rndis.h; Linux 6.12, drivers/net/hyperv/hyperv_net.h; OpenVMM, netvsp";
    names [OIDS];
    /// Identifier of an object.
    pub struct Oid(u32) = "ndis_oid";
}

constants! {
    table OIDS, kind "oid", from "Linux 6.12, include/linux/rndis.h; Linux 6.12, drivers/net/hyperv/hyperv_net.h; OpenVMM, netvsp", impl Oid;

    /// List of the objects.
    GEN_SUPPORTED_LIST = 0x0001_0101, "RNDIS_OID_GEN_SUPPORTED_LIST" ["OID_GEN_SUPPORTED_LIST"];
    /// 0: ready.
    GEN_HARDWARE_STATUS = 0x0001_0102, "RNDIS_OID_GEN_HARDWARE_STATUS" ["OID_GEN_HARDWARE_STATUS"];
    /// Media that the card supports.
    GEN_MEDIA_SUPPORTED = 0x0001_0103, "RNDIS_OID_GEN_MEDIA_SUPPORTED" ["OID_GEN_MEDIA_SUPPORTED"];
    /// Media that are in use.
    GEN_MEDIA_IN_USE = 0x0001_0104, "RNDIS_OID_GEN_MEDIA_IN_USE" ["OID_GEN_MEDIA_IN_USE"];
    /// Bytes of a frame that are shown at once.
    GEN_MAXIMUM_LOOKAHEAD = 0x0001_0105, "RNDIS_OID_GEN_MAXIMUM_LOOKAHEAD" ["OID_GEN_MAXIMUM_LOOKAHEAD"];
    /// Maximum length of a frame without its header of 14 bytes: Linux lowers its MTU to it.
    GEN_MAXIMUM_FRAME_SIZE = 0x0001_0106, "RNDIS_OID_GEN_MAXIMUM_FRAME_SIZE" ["OID_GEN_MAXIMUM_FRAME_SIZE"];
    /// Speed in 100 bit/s.
    GEN_LINK_SPEED = 0x0001_0107, "RNDIS_OID_GEN_LINK_SPEED" ["OID_GEN_LINK_SPEED"];
    /// Bytes of transmit memory.
    GEN_TRANSMIT_BUFFER_SPACE = 0x0001_0108, "RNDIS_OID_GEN_TRANSMIT_BUFFER_SPACE" ["OID_GEN_TRANSMIT_BUFFER_SPACE"];
    /// Bytes of receive memory.
    GEN_RECEIVE_BUFFER_SPACE = 0x0001_0109, "RNDIS_OID_GEN_RECEIVE_BUFFER_SPACE" ["OID_GEN_RECEIVE_BUFFER_SPACE"];
    /// Unit of transmit memory.
    GEN_TRANSMIT_BLOCK_SIZE = 0x0001_010a, "RNDIS_OID_GEN_TRANSMIT_BLOCK_SIZE" ["OID_GEN_TRANSMIT_BLOCK_SIZE"];
    /// Unit of receive memory.
    GEN_RECEIVE_BLOCK_SIZE = 0x0001_010b, "RNDIS_OID_GEN_RECEIVE_BLOCK_SIZE" ["OID_GEN_RECEIVE_BLOCK_SIZE"];
    /// The maker's part of the address.
    GEN_VENDOR_ID = 0x0001_010c, "RNDIS_OID_GEN_VENDOR_ID" ["OID_GEN_VENDOR_ID"];
    /// Name of the card, with a closing zero.
    GEN_VENDOR_DESCRIPTION = 0x0001_010d, "RNDIS_OID_GEN_VENDOR_DESCRIPTION" ["OID_GEN_VENDOR_DESCRIPTION"];
    /// Which frames the guest receives: bits of this module, 0 for none.
    GEN_CURRENT_PACKET_FILTER = 0x0001_010e, "RNDIS_OID_GEN_CURRENT_PACKET_FILTER" ["OID_GEN_CURRENT_PACKET_FILTER"];
    /// Bytes of a frame that are shown at once.
    GEN_CURRENT_LOOKAHEAD = 0x0001_010f, "RNDIS_OID_GEN_CURRENT_LOOKAHEAD" ["OID_GEN_CURRENT_LOOKAHEAD"];
    /// Version of NDIS.
    GEN_DRIVER_VERSION = 0x0001_0110, "RNDIS_OID_GEN_DRIVER_VERSION" ["OID_GEN_DRIVER_VERSION"];
    /// Maximum length of a frame with its header.
    GEN_MAXIMUM_TOTAL_SIZE = 0x0001_0111, "RNDIS_OID_GEN_MAXIMUM_TOTAL_SIZE" ["OID_GEN_MAXIMUM_TOTAL_SIZE"];
    /// Options of the protocol.
    GEN_PROTOCOL_OPTIONS = 0x0001_0112, "RNDIS_OID_GEN_PROTOCOL_OPTIONS" ["OID_GEN_PROTOCOL_OPTIONS"];
    /// Properties of the card: sum of the `MAC_OPTION` bits.
    GEN_MAC_OPTIONS = 0x0001_0113, "RNDIS_OID_GEN_MAC_OPTIONS" ["OID_GEN_MAC_OPTIONS"];
    /// 0: the link is up; 1: down.
    GEN_MEDIA_CONNECT_STATUS = 0x0001_0114, "RNDIS_OID_GEN_MEDIA_CONNECT_STATUS" ["OID_GEN_MEDIA_CONNECT_STATUS"];
    /// Frames that the guest may send at once.
    GEN_MAXIMUM_SEND_PACKETS = 0x0001_0115, "RNDIS_OID_GEN_MAXIMUM_SEND_PACKETS" ["OID_GEN_MAXIMUM_SEND_PACKETS"];
    /// Version of the card.
    GEN_VENDOR_DRIVER_VERSION = 0x0001_0116, "RNDIS_OID_GEN_VENDOR_DRIVER_VERSION" ["OID_GEN_VENDOR_DRIVER_VERSION"];
    /// Addresses of the guest in the network's protocols.
    GEN_NETWORK_LAYER_ADDRESSES = 0x0001_0118, "RNDIS_OID_GEN_NETWORK_LAYER_ADDRESSES" ["OID_GEN_NETWORK_LAYER_ADDRESSES"];
    /// Offset of the transport's header.
    GEN_TRANSPORT_HEADER_OFFSET = 0x0001_0119, "RNDIS_OID_GEN_TRANSPORT_HEADER_OFFSET" ["OID_GEN_TRANSPORT_HEADER_OFFSET"];
    /// What receive side scaling can do: [`RssCapabilities`].
    GEN_RECEIVE_SCALE_CAPABILITIES = 0x0001_0203, "OID_GEN_RECEIVE_SCALE_CAPABILITIES";
    /// How receive side scaling is set up: [`RssParameters`].
    GEN_RECEIVE_SCALE_PARAMETERS = 0x0001_0204, "OID_GEN_RECEIVE_SCALE_PARAMETERS";
    /// Maximum speed.
    GEN_MAX_LINK_SPEED = 0x0001_0206, "OID_GEN_MAX_LINK_SPEED";
    /// State of the link.
    GEN_LINK_STATE = 0x0001_0207, "OID_GEN_LINK_STATE";
    /// Parameters of the link.
    GEN_LINK_PARAMETERS = 0x0001_0208, "OID_GEN_LINK_PARAMETERS";
    /// Interrupt moderation.
    GEN_INTERRUPT_MODERATION = 0x0001_0209, "OID_GEN_INTERRUPT_MODERATION";
    /// Name of the guest.
    GEN_MACHINE_NAME = 0x0001_021a, "RNDIS_OID_GEN_MACHINE_NAME" ["OID_GEN_MACHINE_NAME"];
    /// Sets a parameter by its name: [`ConfigParameter`](super::rndis::ConfigParameter).
    GEN_RNDIS_CONFIG_PARAMETER = 0x0001_021b, "RNDIS_OID_GEN_RNDIS_CONFIG_PARAMETER" ["OID_GEN_RNDIS_CONFIG_PARAMETER"];
    /// Number of a VLAN.
    GEN_VLAN_ID = 0x0001_021c, "RNDIS_OID_GEN_VLAN_ID" ["OID_GEN_VLAN_ID"];
    /// Frames sent.
    GEN_XMIT_OK = 0x0002_0101, "RNDIS_OID_GEN_XMIT_OK" ["OID_GEN_XMIT_OK"];
    /// Frames received.
    GEN_RCV_OK = 0x0002_0102, "RNDIS_OID_GEN_RCV_OK" ["OID_GEN_RCV_OK"];
    /// Frames not sent.
    GEN_XMIT_ERROR = 0x0002_0103, "RNDIS_OID_GEN_XMIT_ERROR" ["OID_GEN_XMIT_ERROR"];
    /// Frames received with an error.
    GEN_RCV_ERROR = 0x0002_0104, "RNDIS_OID_GEN_RCV_ERROR" ["OID_GEN_RCV_ERROR"];
    /// Frames lost for want of a buffer.
    GEN_RCV_NO_BUFFER = 0x0002_0105, "RNDIS_OID_GEN_RCV_NO_BUFFER" ["OID_GEN_RCV_NO_BUFFER"];
    /// Name of the card that the host's user has given it, in UTF-16.
    GEN_FRIENDLY_NAME = 0x0002_0216, "RNDIS_OID_GEN_FRIENDLY_NAME" ["OID_GEN_FRIENDLY_NAME"];
    /// Bytes received.
    GEN_BYTES_RCV = 0x0002_0219, "OID_GEN_BYTES_RCV";
    /// Bytes sent.
    GEN_BYTES_XMIT = 0x0002_021a, "OID_GEN_BYTES_XMIT";
    /// Frames received and dropped.
    GEN_RCV_DISCARDS = 0x0002_021b, "OID_GEN_RCV_DISCARDS";
    /// Frames to send that were dropped.
    GEN_XMIT_DISCARDS = 0x0002_021c, "OID_GEN_XMIT_DISCARDS";
    /// Address of the card.
    ETHERNET_PERMANENT_ADDRESS = 0x0101_0101, "RNDIS_OID_802_3_PERMANENT_ADDRESS" ["OID_802_3_PERMANENT_ADDRESS"];
    /// Address in use.
    ETHERNET_CURRENT_ADDRESS = 0x0101_0102, "RNDIS_OID_802_3_CURRENT_ADDRESS" ["OID_802_3_CURRENT_ADDRESS"];
    /// Multicast addresses that the guest receives.
    ETHERNET_MULTICAST_LIST = 0x0101_0103, "RNDIS_OID_802_3_MULTICAST_LIST" ["OID_802_3_MULTICAST_LIST"];
    /// Maximum number of them.
    ETHERNET_MAXIMUM_LIST_SIZE = 0x0101_0104, "RNDIS_OID_802_3_MAXIMUM_LIST_SIZE" ["OID_802_3_MAXIMUM_LIST_SIZE"];
    /// Options.
    ETHERNET_MAC_OPTIONS = 0x0101_0105, "RNDIS_OID_802_3_MAC_OPTIONS" ["OID_802_3_MAC_OPTIONS"];
    /// Encapsulation for which the guest wants offloads.
    OFFLOAD_ENCAPSULATION = 0x0101_010a, "OID_OFFLOAD_ENCAPSULATION";
    /// Frames received with a wrong alignment.
    ETHERNET_RCV_ERROR_ALIGNMENT = 0x0102_0101, "RNDIS_OID_802_3_RCV_ERROR_ALIGNMENT" ["OID_802_3_RCV_ERROR_ALIGNMENT"];
    /// Frames sent after one collision.
    ETHERNET_XMIT_ONE_COLLISION = 0x0102_0102, "RNDIS_OID_802_3_XMIT_ONE_COLLISION" ["OID_802_3_XMIT_ONE_COLLISION"];
    /// Frames sent after more collisions.
    ETHERNET_XMIT_MORE_COLLISIONS = 0x0102_0103, "RNDIS_OID_802_3_XMIT_MORE_COLLISIONS" ["OID_802_3_XMIT_MORE_COLLISIONS"];
    /// Offloads in use.
    TCP_OFFLOAD_CURRENT_CONFIG = 0xfc01_020b, "OID_TCP_OFFLOAD_CURRENT_CONFIG";
    /// Turns offloads on and off: [`OffloadParameters`].
    TCP_OFFLOAD_PARAMETERS = 0xfc01_020c, "OID_TCP_OFFLOAD_PARAMETERS";
    /// Offloads that the card has: [`Offload`].
    TCP_OFFLOAD_HARDWARE_CAPABILITIES = 0xfc01_020d, "OID_TCP_OFFLOAD_HARDWARE_CAPABILITIES";
    /// Offloads of connections in use.
    TCP_CONNECTION_OFFLOAD_CURRENT_CONFIG = 0xfc01_020e, "OID_TCP_CONNECTION_OFFLOAD_CURRENT_CONFIG";
    /// Offloads of connections that the card has.
    TCP_CONNECTION_OFFLOAD_HARDWARE_CAPABILITIES = 0xfc01_020f, "OID_TCP_CONNECTION_OFFLOAD_HARDWARE_CAPABILITIES";
}

constants! {
    table FILTERS, kind "ndis-filter", from "Linux 6.12, include/linux/rndis.h; OpenVMM, netvsp";

    /// In the packet filter: frames to the card's address.
    pub const FILTER_DIRECTED: u32 = 1, "RNDIS_PACKET_TYPE_DIRECTED" ["NDIS_PACKET_TYPE_DIRECTED"];
    /// Frames to the multicast addresses of the list.
    pub const FILTER_MULTICAST: u32 = 2, "RNDIS_PACKET_TYPE_MULTICAST" ["NDIS_PACKET_TYPE_MULTICAST"];
    /// Frames to all multicast addresses.
    pub const FILTER_ALL_MULTICAST: u32 = 4, "RNDIS_PACKET_TYPE_ALL_MULTICAST" ["NDIS_PACKET_TYPE_ALL_MULTICAST"];
    /// Frames to all.
    pub const FILTER_BROADCAST: u32 = 8, "RNDIS_PACKET_TYPE_BROADCAST" ["NDIS_PACKET_TYPE_BROADCAST"];
    /// All frames.
    pub const FILTER_PROMISCUOUS: u32 = 0x20, "RNDIS_PACKET_TYPE_PROMISCUOUS" ["NDIS_PACKET_TYPE_PROMISCUOUS"];
}

constants! {
    table MAC_OPTIONS, kind "ndis-mac-option", from "OpenVMM, netvsp; Linux 6.12, include/linux/rndis.h";

    /// In [`Oid::GEN_MAC_OPTIONS`]: the data may be copied.
    pub const MAC_OPTION_COPY_LOOKAHEAD_DATA: u32 = 1, "RNDIS_MAC_OPTION_COPY_LOOKAHEAD_DATA";
    /// Transfers do not pend.
    pub const MAC_OPTION_TRANSFERS_NOT_PEND: u32 = 4, "RNDIS_MAC_OPTION_TRANSFERS_NOT_PEND";
    /// Frames of the guest's own do not come back.
    pub const MAC_OPTION_NO_LOOPBACK: u32 = 8, "RNDIS_MAC_OPTION_NO_LOOPBACK";
    /// Priorities.
    pub const MAC_OPTION_8021P_PRIORITY: u32 = 0x40, "RNDIS_MAC_OPTION_8021P_PRIORITY";
    /// VLAN tags beside the frame.
    pub const MAC_OPTION_VLAN: u32 = 0x200, "MAC_OPTION_8021Q_VLAN";
}

constants! {
    table OBJECT_TYPES, kind "ndis-object", from "Linux 6.12, drivers/net/hyperv/hyperv_net.h; OpenVMM, netvsp";

    /// In [`ObjectHeader::object_type`]: [`OffloadParameters`].
    pub const OBJECT_DEFAULT: u8 = 0x80, "NDIS_OBJECT_TYPE_DEFAULT";
    /// [`RssCapabilities`].
    pub const OBJECT_RSS_CAPABILITIES: u8 = 0x88, "NDIS_OBJECT_TYPE_RSS_CAPABILITIES";
    /// [`RssParameters`].
    pub const OBJECT_RSS_PARAMETERS: u8 = 0x89, "NDIS_OBJECT_TYPE_RSS_PARAMETERS";
    /// [`Offload`].
    pub const OBJECT_OFFLOAD: u8 = 0xa7, "NDIS_OBJECT_TYPE_OFFLOAD";
}

constants! {
    table HASHES, kind "ndis-hash", from "Linux 6.12, drivers/net/hyperv/hyperv_net.h; OpenVMM, netvsp";

    /// In [`RssParameters::hash_information`]: the function of Toeplitz.
    pub const HASH_TOEPLITZ: u32 = 1, "NDIS_HASH_FUNC_TOEPLITZ" ["NDIS_HASH_FUNCTION_TOEPLITZ"];
    /// Over the addresses of IPv4.
    pub const HASH_IPV4: u32 = 0x100, "NDIS_HASH_IPV4";
    /// Over addresses and ports of TCP over IPv4.
    pub const HASH_TCP_IPV4: u32 = 0x200, "NDIS_HASH_TCP_IPV4";
    /// Over the addresses of IPv6.
    pub const HASH_IPV6: u32 = 0x400, "NDIS_HASH_IPV6";
    /// Over the addresses of IPv6, those of extension headers first.
    pub const HASH_IPV6_EX: u32 = 0x800, "NDIS_HASH_IPV6_EX";
    /// Over addresses and ports of TCP over IPv6.
    pub const HASH_TCP_IPV6: u32 = 0x1000, "NDIS_HASH_TCP_IPV6";
    /// The same, addresses of extension headers first.
    pub const HASH_TCP_IPV6_EX: u32 = 0x2000, "NDIS_HASH_TCP_IPV6_EX";
}

constants! {
    table RSS_FLAGS, kind "ndis-rss-flag", from "Linux 6.12, drivers/net/hyperv/hyperv_net.h; OpenVMM, netvsp";

    /// In [`RssParameters::flags`]: the base CPU stays.
    pub const RSS_BASE_CPU_UNCHANGED: u16 = 1, "NDIS_RSS_PARAM_FLAG_BASE_CPU_UNCHANGED";
    /// The hash stays.
    pub const RSS_HASH_INFO_UNCHANGED: u16 = 2, "NDIS_RSS_PARAM_FLAG_HASH_INFO_UNCHANGED";
    /// The indirection table stays.
    pub const RSS_TABLE_UNCHANGED: u16 = 4, "NDIS_RSS_PARAM_FLAG_ITABLE_UNCHANGED";
    /// The key stays.
    pub const RSS_KEY_UNCHANGED: u16 = 8, "NDIS_RSS_PARAM_FLAG_HASH_KEY_UNCHANGED";
    /// All frames come on the first channel.
    pub const RSS_DISABLE: u16 = 0x10, "NDIS_RSS_PARAM_FLAG_DISABLE_RSS";
}

constants! {
    table RSS_CAPABILITIES, kind "ndis-rss-capability", from "Linux 6.12, drivers/net/hyperv/hyperv_net.h; OpenVMM, netvsp";

    /// In [`RssCapabilities::flags`]: over TCP and IPv4.
    pub const RSS_CAPABLE_TCP_IPV4: u32 = 0x100, "NDIS_RSS_CAPS_HASH_TYPE_TCP_IPV4";
    /// Over TCP and IPv6.
    pub const RSS_CAPABLE_TCP_IPV6: u32 = 0x200, "NDIS_RSS_CAPS_HASH_TYPE_TCP_IPV6";
    /// Over TCP and IPv6 with extension headers.
    pub const RSS_CAPABLE_TCP_IPV6_EX: u32 = 0x400, "NDIS_RSS_CAPS_HASH_TYPE_TCP_IPV6_EX";
    /// Interrupts are messages.
    pub const RSS_CAPABLE_MESSAGE_INTERRUPTS: u32 = 0x0100_0000, "NDIS_RSS_CAPS_MESSAGE_SIGNALED_INTERRUPTS";
    /// Frames are classified before the interrupt.
    pub const RSS_CAPABLE_CLASSIFICATION_AT_ISR: u32 = 0x0200_0000, "NDIS_RSS_CAPS_CLASSIFICATION_AT_ISR";
    /// Frames are classified after the interrupt.
    pub const RSS_CAPABLE_CLASSIFICATION_AT_DPC: u32 = 0x0400_0000, "NDIS_RSS_CAPS_CLASSIFICATION_AT_DPC";
}

constants! {
    table RSS_LIMITS, kind "ndis-rss-limit", from "Linux 6.12, drivers/net/hyperv/hyperv_net.h; OpenVMM, netvsp";

    /// Entries of the indirection table.
    pub const RSS_TABLE_ENTRIES: usize = 128, "ITAB_NUM" ["VMS_SWITCH_RSS_MAX_INDIRECTION_TABLE_ENTRIES"];
    /// Bytes of the key.
    pub const RSS_KEY_SIZE: usize = 40, "NETVSC_HASH_KEYLEN" ["NDIS_RSS_HASH_SECRET_KEY_MAX_SIZE_REVISION_2"];
}

constants! {
    table OFFLOADS, kind "ndis-offload", from "Linux 6.12, drivers/net/hyperv/hyperv_net.h; OpenVMM, netvsp";

    /// In the encapsulations of [`Offload`]: Ethernet.
    pub const ENCAPSULATION_802_3: u32 = 2, "NDIS_OFFLOAD_ENCAP_8023" ["NDIS_ENCAPSULATION_IEEE_802_3"];
    /// In [`Offload::ipv4_transmit`]: IPv4 headers with options.
    pub const CHECKSUM_IP4_OPTIONS: u32 = 1, "NDIS_TXCSUM_CAP_IP4OPT" ["NDIS_RXCSUM_CAP_IP4OPT"];
    /// TCP headers with options.
    pub const CHECKSUM_TCP4_OPTIONS: u32 = 4, "NDIS_TXCSUM_CAP_TCP4OPT" ["NDIS_RXCSUM_CAP_TCP4OPT"];
    /// TCP.
    pub const CHECKSUM_TCP4: u32 = 0x10, "NDIS_TXCSUM_CAP_TCP4" ["NDIS_RXCSUM_CAP_TCP4"];
    /// UDP.
    pub const CHECKSUM_UDP4: u32 = 0x40, "NDIS_TXCSUM_CAP_UDP4" ["NDIS_RXCSUM_CAP_UDP4"];
    /// IPv4 headers.
    pub const CHECKSUM_IP4: u32 = 0x100, "NDIS_TXCSUM_CAP_IP4" ["NDIS_RXCSUM_CAP_IP4"];
    /// In [`Offload::ipv6_transmit`]: IPv6 with extension headers.
    pub const CHECKSUM_IP6_EXTENSIONS: u32 = 1, "NDIS_TXCSUM_CAP_IP6EXT" ["NDIS_RXCSUM_CAP_IP6EXT"];
    /// TCP headers with options.
    pub const CHECKSUM_TCP6_OPTIONS: u32 = 4, "NDIS_TXCSUM_CAP_TCP6OPT" ["NDIS_RXCSUM_CAP_TCP6OPT"];
    /// TCP.
    pub const CHECKSUM_TCP6: u32 = 0x10, "NDIS_TXCSUM_CAP_TCP6" ["NDIS_RXCSUM_CAP_TCP6"];
    /// UDP.
    pub const CHECKSUM_UDP6: u32 = 0x40, "NDIS_TXCSUM_CAP_UDP6" ["NDIS_RXCSUM_CAP_UDP6"];
    /// In [`Offload::lso_ipv6_options`]: extension headers.
    pub const LSO_IP6_EXTENSIONS: u32 = 1, "NDIS_LSOV2_CAP_IP6EXT";
    /// TCP headers with options.
    pub const LSO_TCP6_OPTIONS: u32 = 4, "NDIS_LSOV2_CAP_TCP6OPT";
    /// Longest payload of a large send on Hyper-V.
    pub const LSO_MAX_SIZE: u32 = 0xf53c, "LSO_MAX_OFFLOAD_SIZE";
    /// Fewest segments of a large send on Hyper-V.
    pub const LSO_MIN_SEGMENTS: u32 = 2, "LSO_MIN_SEGMENT_COUNT";
}

constants! {
    table SWITCHES, kind "ndis-offload-switch", from "Linux 6.12, drivers/net/hyperv/hyperv_net.h; OpenVMM, netvsp";

    /// In [`OffloadParameters`]: stays.
    pub const OFFLOAD_NO_CHANGE: u8 = 0, "NDIS_OFFLOAD_PARAMETERS_NO_CHANGE";
    /// Off in both directions.
    pub const OFFLOAD_OFF: u8 = 1, "NDIS_OFFLOAD_PARAMETERS_TX_RX_DISABLED" ["NDIS_OFFLOAD_PARAMETERS_LSOV2_DISABLED", "NDIS_OFFLOAD_PARAMETERS_RSC_DISABLED"];
    /// On for what is sent. For large sends and coalesced segments: on.
    pub const OFFLOAD_TRANSMIT: u8 = 2, "NDIS_OFFLOAD_PARAMETERS_TX_ENABLED_RX_DISABLED" ["NDIS_OFFLOAD_PARAMETERS_LSOV2_ENABLED", "NDIS_OFFLOAD_PARAMETERS_RSC_ENABLED"];
    /// On for what is received.
    pub const OFFLOAD_RECEIVE: u8 = 3, "NDIS_OFFLOAD_PARAMETERS_RX_ENABLED_TX_DISABLED";
    /// On in both directions.
    pub const OFFLOAD_BOTH: u8 = 4, "NDIS_OFFLOAD_PARAMETERS_TX_RX_ENABLED";
}

structs! {
    table STRUCTS, from "Linux 6.12, drivers/net/hyperv/hyperv_net.h; OpenVMM, netvsp";

    /// The beginning of an object.
    pub struct ObjectHeader = "ndis_object_header" ["ndis_obj_header"], size 4 {
        /// Kind.
        object_type: u8 = 0 "type",
        /// Revision.
        revision: u8 = 1,
        /// Size of the object.
        size: u16 = 2,
    }

    /// What receive side scaling can do. The length of revision 2 is 18: without the padding.
    pub struct RssCapabilities = "ndis_recv_scale_cap", size 20 {
        /// Revision 2.
        header: ObjectHeader = 0 "hdr",
        /// Bits of this module.
        flags: u32 = 4 "cap_flag",
        /// Number of interrupts.
        interrupts: u32 = 8 "num_int_msg",
        /// Number of queues: with fewer than 2 Linux uses one channel.
        queues: u32 = 12 "num_recv_que",
        /// Entries of the indirection table.
        table_entries: u16 = 16 "num_indirect_tabent",
        /// Zero.
        padding: u16 = 18,
    }

    /// Configuration of receive side scaling. The table and the key follow.
    pub struct RssParameters = "ndis_recv_scale_param", size 40 {
        /// Revision 2.
        header: ObjectHeader = 0 "hdr",
        /// What stays as it is.
        flags: u16 = 4 "flag",
        /// Unused.
        base_cpu: u16 = 6 "base_cpu_number",
        /// Function, and what it covers.
        hash_information: u32 = 8 "hashinfo",
        /// Bytes of the indirection table: an entry has 4.
        table_size: u16 = 12 "indirect_tabsize",
        /// Zero.
        padding0: u16 = 14,
        /// Its offset from this structure.
        table_offset: u32 = 16 "indirect_taboffset",
        /// Bytes of the key.
        key_size: u16 = 20 "hashkey_size",
        /// Zero.
        padding1: u16 = 22,
        /// Its offset from this structure.
        key_offset: u32 = 24 "hashkey_offset",
        /// Unused.
        masks_offset: u32 = 28 "processor_masks_offset",
        /// Unused.
        masks: u32 = 32 "num_processor_masks",
        /// Unused.
        mask_size: u32 = 36 "processor_masks_entry_size",
    }

    /// Offloads that the card has. Revision 1 has 112 bytes, revision 2 has 144, revision 3 all.
    pub struct Offload = "ndis_offload", size 156 {
        /// Revision 1 to 3.
        header: ObjectHeader = 0,
        /// Encapsulations with checksums of IPv4 frames that are sent.
        ipv4_transmit_encapsulation: u32 = 4 "csum.ip4_txenc",
        /// Those checksums.
        ipv4_transmit: u32 = 8 "csum.ip4_txcsum",
        /// Encapsulations with checksums of IPv4 frames that are received.
        ipv4_receive_encapsulation: u32 = 12 "csum.ip4_rxenc",
        /// Those checksums.
        ipv4_receive: u32 = 16 "csum.ip4_rxcsum",
        /// Encapsulations with checksums of IPv6 frames that are sent.
        ipv6_transmit_encapsulation: u32 = 20 "csum.ip6_txenc",
        /// Those checksums.
        ipv6_transmit: u32 = 24 "csum.ip6_txcsum",
        /// Encapsulations with checksums of IPv6 frames that are received.
        ipv6_receive_encapsulation: u32 = 28 "csum.ip6_rxenc",
        /// Those checksums.
        ipv6_receive: u32 = 32 "csum.ip6_rxcsum",
        /// Large send, version 1; unused.
        lso_v1: [u32; 4] = 36 "lsov1",
        /// IPsec; unused.
        ipsec_v1: [u32; 7] = 52 "ipsecv1",
        /// Encapsulations with large sends over IPv4.
        lso_ipv4_encapsulation: u32 = 80 "lsov2.ip4_encap",
        /// Longest payload.
        lso_ipv4_max_size: u32 = 84 "lsov2.ip4_maxsz",
        /// Fewest segments.
        lso_ipv4_min_segments: u32 = 88 "lsov2.ip4_minsg",
        /// Encapsulations with large sends over IPv6.
        lso_ipv6_encapsulation: u32 = 92 "lsov2.ip6_encap",
        /// Longest payload.
        lso_ipv6_max_size: u32 = 96 "lsov2.ip6_maxsz",
        /// Fewest segments.
        lso_ipv6_min_segments: u32 = 100 "lsov2.ip6_minsg",
        /// What the headers may have.
        lso_ipv6_options: u32 = 104 "lsov2.ip6_opts",
        /// Zero.
        flags: u32 = 108,
        /// IPsec; unused.
        ipsec_v2: [u32; 8] = 112 "ipsecv2",
        /// Coalesced segments over IPv4.
        rsc_ipv4: u8 = 144 "rsc.ip4",
        /// Coalesced segments over IPv6.
        rsc_ipv6: u8 = 145 "rsc.ip6",
        /// Zero.
        padding: u16 = 146,
        /// Encapsulation of networks; unused.
        encapsulation_gre: [u32; 2] = 148 "encap_gre",
    }

    /// Turns offloads on and off. Old guests leave out the end.
    pub struct OffloadParameters = "ndis_offload_params", size 28 {
        /// Revision 3.
        header: ObjectHeader = 0,
        /// Checksum of IPv4 headers.
        ipv4_checksum: u8 = 4 "ip_v4_csum",
        /// Checksum of TCP over IPv4.
        tcp4_checksum: u8 = 5 "tcp_ip_v4_csum",
        /// Checksum of UDP over IPv4.
        udp4_checksum: u8 = 6 "udp_ip_v4_csum",
        /// Checksum of TCP over IPv6.
        tcp6_checksum: u8 = 7 "tcp_ip_v6_csum",
        /// Checksum of UDP over IPv6.
        udp6_checksum: u8 = 8 "udp_ip_v6_csum",
        /// Large send, version 1.
        lso_v1: u8 = 9,
        /// IPsec.
        ipsec_v1: u8 = 10 "ip_sec_v1",
        /// Large send over IPv4.
        lso_ipv4: u8 = 11 "lso_v2_ipv4",
        /// Large send over IPv6.
        lso_ipv6: u8 = 12 "lso_v2_ipv6",
        /// Connections over IPv4.
        connection_ipv4: u8 = 13 "tcp_connection_ip_v4",
        /// Connections over IPv6.
        connection_ipv6: u8 = 14 "tcp_connection_ip_v6",
        /// Zero.
        padding: u8 = 15,
        /// Zero.
        flags: u32 = 16,
        /// IPsec.
        ipsec_v2: u8 = 20 "ip_sec_v2",
        /// IPsec.
        ipsec_v2_ipv4: u8 = 21 "ip_sec_v2_ip_v4",
        /// Coalesced segments over IPv4.
        rsc_ipv4: u8 = 22 "rsc_ip_v4",
        /// Coalesced segments over IPv6.
        rsc_ipv6: u8 = 23 "rsc_ip_v6",
        /// Encapsulation of networks.
        encapsulation: u8 = 24 "encapsulated_packet_task_offload",
        /// Its kinds.
        encapsulation_types: u8 = 25,
        /// Zero.
        padding1: u16 = 26,
    }
}
