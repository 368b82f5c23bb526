//! Packets, as they lie in a ring.

use super::GpaRange;
use zerocopy::little_endian::{U16, U32, U64};

open_enum! {
    table PACKET_TYPE, from "Linux 6.12, include/linux/hyperv.h";
    names [TYPES];
    /// Kind of a packet.
    pub struct PacketType(u16) = "vmbus_packet_type";
}

constants! {
    table TYPES, kind "vmbus-packet", from "Linux 6.12, include/linux/hyperv.h", impl PacketType;

    /// No packet.
    INVALID = 0, "VM_PKT_INVALID";
    /// Synchronisation; unused.
    SYNC = 1, "VM_PKT_SYNCH";
    /// Names a set of transfer pages: [`TransferPageSet`].
    ADD_TRANSFER_PAGE_SET = 2, "VM_PKT_ADD_XFER_PAGESET";
    /// Takes it back.
    REMOVE_TRANSFER_PAGE_SET = 3, "VM_PKT_RM_XFER_PAGESET";
    /// Establishes a GPADL from within the ring; unused.
    ESTABLISH_GPADL = 4, "VM_PKT_ESTABLISH_GPADL";
    /// Takes it back; unused.
    TEARDOWN_GPADL = 5, "VM_PKT_TEARDOWN_GPADL";
    /// Data in the packet itself.
    DATA_IN_BAND = 6, "VM_PKT_DATA_INBAND";
    /// Data in transfer pages: [`TransferPagePacket`].
    DATA_USING_TRANSFER_PAGES = 7, "VM_PKT_DATA_USING_XFER_PAGES";
    /// Data in a GPADL: [`GpadlPacket`].
    DATA_USING_GPADL = 8, "VM_PKT_DATA_USING_GPADL";
    /// Data in pages that the packet lists: [`GpaDirectPacket`].
    DATA_USING_GPA_DIRECT = 9, "VM_PKT_DATA_USING_GPA_DIRECT";
    /// Takes a request back; unused.
    CANCEL_REQUEST = 0xa, "VM_PKT_CANCEL_REQUEST";
    /// Answers the packet with the same transaction id.
    COMPLETION = 0xb, "VM_PKT_COMP";
    /// Begins a packet that did not fit in one; unused.
    DATA_USING_ADDITIONAL_PACKETS = 0xc, "VM_PKT_DATA_USING_ADDITIONAL_PKT";
    /// Continues it: [`AdditionalData`].
    ADDITIONAL_DATA = 0xd, "VM_PKT_ADDITIONAL_DATA";
}

constants! {
    table LIMITS, kind "vmbus-limit", from "Linux 6.12, include/linux/hyperv.h; Linux 6.12, drivers/hv/ring_buffer.c";

    /// In `flags` of a packet: the sender expects a packet of type [`PacketType::COMPLETION`].
    pub const PACKET_FLAG_COMPLETION_REQUESTED: u16 = 1, "VMBUS_DATA_PACKET_FLAG_COMPLETION_REQUESTED";
    /// Bytes after every packet in a ring: a reserved word and the offset at which the packet began.
    pub const PACKET_TRAILER_SIZE: u32 = 8, "VMBUS_PKT_TRAILER";
    /// Maximum payload of a packet in a pipe, in bytes.
    pub const PIPE_DATA_PAYLOAD: usize = 16384, "MAX_PIPE_DATA_PAYLOAD";
}

structs! {
    table STRUCTS, from "Linux 6.12, include/linux/hyperv.h";

    /// The common header of packets. Packets begin at multiples of 8 bytes in the ring.
    pub struct PacketDescriptor = "vmpacket_descriptor", size 16 {
        /// Kind.
        packet_type: PacketType = 0 "type",
        /// Offset of the payload from here, in units of 8 bytes.
        data_offset8: u16 = 2 "offset8",
        /// Length including this descriptor, without the trailer, in units of 8 bytes.
        length8: u16 = 4 "len8",
        /// 0 or [`PACKET_FLAG_COMPLETION_REQUESTED`](super::PACKET_FLAG_COMPLETION_REQUESTED).
        flags: u16 = 6,
        /// The sender's id of the request, which its completion repeats.
        transaction_id: u64 = 8 "trans_id",
    }

    /// A packet preceded by the trailer of the previous one. No implementation reads packets this way.
    pub struct PacketHeader = "vmpacket_header", size 20 {
        /// Offset at which the former packet began.
        previous_start: U32 = 0 "prev_pkt_start_offset",
        /// Kind.
        packet_type: U16 = 4 "descriptor.type",
        /// Offset of the payload in 8 bytes.
        data_offset8: U16 = 6 "descriptor.offset8",
        /// Length in 8 bytes.
        length8: U16 = 8 "descriptor.len8",
        /// Flags.
        flags: U16 = 10 "descriptor.flags",
        /// Transaction id.
        transaction_id: U64 = 12 "descriptor.trans_id",
    }
    also {
        "descriptor" @ 4, 16;
    }

    /// A part of a transfer page set.
    pub struct TransferPageRange = "vmtransfer_page_range", size 8 {
        /// Length in bytes.
        byte_count: u32 = 0,
        /// Offset in the set.
        byte_offset: u32 = 4,
    }

    /// Data in transfer pages.
    pub struct TransferPagePacket = "vmtransfer_page_packet_header", size 24 {
        /// Descriptor.
        descriptor: PacketDescriptor = 0 "d",
        /// The set.
        page_set: u16 = 16 "xfer_pageset_id",
        /// 1: the set is the sender's.
        sender_owns_set: u8 = 18,
        /// Zero.
        reserved: u8 = 19,
        /// Number of [`TransferPageRange`]s that follow.
        range_count: u32 = 20 "range_cnt",
    }
    also {
        "ranges" @ 24, 0;
    }

    /// Data in a GPADL, and the end of one.
    pub struct GpadlPacket = "vmgpadl_packet_header" ["vmteardown_gpadl"], size 24 {
        /// Descriptor.
        descriptor: PacketDescriptor = 0 "d",
        /// The GPADL.
        gpadl: u32 = 16,
        /// Zero.
        reserved: u32 = 20,
    }

    /// Names a transfer page set, or takes it back.
    pub struct TransferPageSet = "vmadd_remove_transfer_page_set", size 24 {
        /// Descriptor.
        descriptor: PacketDescriptor = 0 "d",
        /// GPADL of the pages.
        gpadl: u32 = 16,
        /// The set.
        page_set: u16 = 20 "xfer_pageset_id",
        /// Zero.
        reserved: u16 = 22,
    }

    /// Data in pages that the packet itself lists. More ranges may follow, each with its page numbers.
    pub struct GpaDirectPacket = "vmdata_gpa_direct", size 32 {
        /// Descriptor.
        descriptor: PacketDescriptor = 0 "d",
        /// Zero.
        reserved: u32 = 16,
        /// Number of ranges.
        range_count: u32 = 20 "range_cnt",
        /// The first of them.
        first_range: GpaRange = 24 "range",
    }

    /// A continuation of a long packet, with the first byte of its data.
    pub struct AdditionalData = "vmadditional_data", size 33 {
        /// Kind.
        packet_type: U16 = 0 "d.type",
        /// Offset of the payload in 8 bytes.
        data_offset8: U16 = 2 "d.offset8",
        /// Length in 8 bytes.
        length8: U16 = 4 "d.len8",
        /// Flags.
        flags: U16 = 6 "d.flags",
        /// Transaction id.
        transaction_id: U64 = 8 "d.trans_id",
        /// Length of the whole.
        total_bytes: U64 = 16,
        /// Offset of this part.
        offset: U32 = 24,
        /// Length of this part.
        byte_count: U32 = 28 "byte_cnt",
        /// The part's first byte.
        data: u8 = 32,
    }
    also {
        "d" @ 0, 16;
    }
}

impl PacketDescriptor {
    /// Returns the length of the packet without its trailer, in bytes.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.length8 as u32 * 8
    }

    /// Returns the offset of the payload from the start of the packet, in bytes.
    #[must_use]
    pub const fn data_offset(&self) -> u32 {
        self.data_offset8 as u32 * 8
    }

    /// Returns true if the packet claims zero length, which is invalid.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length8 == 0
    }
}
