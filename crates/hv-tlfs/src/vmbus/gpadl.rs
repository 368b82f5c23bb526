//! GPADLs: lists of guest pages that have a name.

use super::{ChannelId, GpadlId, MessageHeader, NtStatus};

open_enum! {
    table GPADL_TYPE, from "Linux 6.12, include/linux/hyperv.h";
    names [TYPES];
    /// Purpose of a GPADL. No message of the protocol carries it.
    pub struct GpadlType(u32) = "vmbus_gpadl_type";
}

constants! {
    table TYPES, kind "vmbus-gpadl-type", from "Linux 6.12, include/linux/hyperv.h", impl GpadlType;

    /// Rings.
    RING_BUFFER = 1, "GPADL_TYPE_RING_BUFFER";
    /// Room for the host to save state.
    SERVER_SAVE_AREA = 2, "GPADL_TYPE_SERVER_SAVE_AREA";
    /// One transaction.
    TRANSACTION = 8, "GPADL_TYPE_TRANSACTION";
}

structs! {
    table STRUCTS, from "Linux 6.12, include/linux/hyperv.h";

    /// A range of bytes in pages that need not be contiguous. The page numbers follow it, 8 bytes each: one for each
    /// page that `byte_offset + byte_count` bytes cover.
    pub struct GpaRange = "gpa_range", size 8 {
        /// Length in bytes.
        byte_count: u32 = 0,
        /// Offset in the first page.
        byte_offset: u32 = 4,
    }
    also {
        "pfn_array" @ 8, 0;
    }

    /// One page or a part of it, in a driver's packet.
    pub struct PageBuffer = "hv_page_buffer", size 16 {
        /// Length in bytes.
        len: u32 = 0,
        /// Offset in the page.
        offset: u32 = 4,
        /// Page number.
        pfn: u64 = 8,
    }

    /// A [`GpaRange`] of at most 32 pages.
    pub struct MultiPageBuffer = "hv_multipage_buffer", size 264 {
        /// Length in bytes.
        len: u32 = 0,
        /// Offset in the first page.
        offset: u32 = 4,
        /// Page numbers.
        pfns: [u64; 32] = 8 "pfn_array",
    }

    /// A [`GpaRange`] under its driver's name.
    pub struct MultiPageBufferArray = "hv_mpb_array", size 8 {
        /// Length in bytes.
        len: u32 = 0,
        /// Offset in the first page.
        offset: u32 = 4,
    }
    also {
        "pfn_array" @ 8, 0;
    }

    /// GPADL_HEADER: the guest describes pages. `range_buflen` bytes of ranges follow, each a [`GpaRange`] with its
    /// page numbers; the rest follows in [`GpadlBody`] messages. Answered with a [`GpadlCreated`] after the last.
    ///
    /// The ranges begin at byte 20, so page numbers are not aligned to 8 bytes.
    pub struct GpadlHeader = "vmbus_channel_gpadl_header", size 20 {
        /// [`MessageType::GPADL_HEADER`](super::MessageType::GPADL_HEADER).
        header: MessageHeader = 0,
        /// The channel.
        channel: ChannelId = 8 "child_relid",
        /// Name.
        gpadl: GpadlId = 12,
        /// Length of all ranges with their page numbers, in bytes.
        range_buffer_len: u16 = 16 "range_buflen",
        /// Number of ranges.
        range_count: u16 = 18 "rangecount",
    }
    also {
        "range" @ 20, 0;
    }

    /// GPADL_BODY: further page numbers of a GPADL whose header did not hold all of them.
    pub struct GpadlBody = "vmbus_channel_gpadl_body", size 16 {
        /// [`MessageType::GPADL_BODY`](super::MessageType::GPADL_BODY).
        header: MessageHeader = 0,
        /// Of no meaning: Linux sends 0, hosts do not look.
        message_number: u32 = 8 "msgnumber",
        /// Name.
        gpadl: GpadlId = 12,
    }
    also {
        "pfn" @ 16, 0;
    }

    /// GPADL_CREATED.
    pub struct GpadlCreated = "vmbus_channel_gpadl_created", size 20 {
        /// [`MessageType::GPADL_CREATED`](super::MessageType::GPADL_CREATED).
        header: MessageHeader = 0,
        /// The channel.
        channel: ChannelId = 8 "child_relid",
        /// Name.
        gpadl: GpadlId = 12,
        /// Zero: the GPADL can be used.
        status: NtStatus = 16 "creation_status",
    }

    /// GPADL_TEARDOWN: the guest reclaims its pages. Answered with a [`GpadlTorndown`].
    pub struct GpadlTeardown = "vmbus_channel_gpadl_teardown", size 16 {
        /// [`MessageType::GPADL_TEARDOWN`](super::MessageType::GPADL_TEARDOWN).
        header: MessageHeader = 0,
        /// The channel.
        channel: ChannelId = 8 "child_relid",
        /// Name.
        gpadl: GpadlId = 12,
    }

    /// GPADL_TORNDOWN: the host no longer accesses the pages.
    pub struct GpadlTorndown = "vmbus_channel_gpadl_torndown", size 12 {
        /// [`MessageType::GPADL_TORNDOWN`](super::MessageType::GPADL_TORNDOWN).
        header: MessageHeader = 0,
        /// Name.
        gpadl: GpadlId = 8,
    }
}
