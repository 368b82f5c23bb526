//! Dynamic memory: the guest gives pages up to its host, and gets them back.
//!
//! The channel is not a pipe: a packet is a message, which begins with a [`BalloonHeader`]. The guest asks for a
//! version with [`VersionRequest`], with an older one after each refusal, then reports what it can do with
//! [`CapabilitiesReport`]. From then on it sends a [`StatusReport`] every second. The host asks for pages with
//! [`BalloonRequest`], which the guest answers with one or more [`BalloonResponse`]s, each with ranges of pages behind
//! it; it gives pages back with [`UnballoonRequest`], with ranges after it too. Numbers of pages are in units of 4096
//! bytes.

open_enum! {
    table MESSAGE_TYPE, from "Linux 6.12, drivers/hv/hv_balloon.c";
    names [MESSAGES];
    /// Kind of a message.
    pub struct MessageType(u16) = "dm_message_type";
}

constants! {
    table MESSAGES, kind "balloon-message", from "Linux 6.12, drivers/hv/hv_balloon.c", impl MessageType;

    /// Not used.
    ERROR = 0, "DM_ERROR";
    /// From the guest, first: [`VersionRequest`].
    VERSION_REQUEST = 1, "DM_VERSION_REQUEST";
    /// The answer to it: [`VersionResponse`].
    VERSION_RESPONSE = 2, "DM_VERSION_RESPONSE";
    /// From the guest: [`CapabilitiesReport`].
    CAPABILITIES_REPORT = 3, "DM_CAPABILITIES_REPORT";
    /// The answer to it: [`CapabilitiesResponse`].
    CAPABILITIES_RESPONSE = 4, "DM_CAPABILITIES_RESPONSE";
    /// From the guest, every second: [`StatusReport`].
    STATUS_REPORT = 5, "DM_STATUS_REPORT";
    /// From the host: [`BalloonRequest`].
    BALLOON_REQUEST = 6, "DM_BALLOON_REQUEST";
    /// The answer to it, or one of several: [`BalloonResponse`].
    BALLOON_RESPONSE = 7, "DM_BALLOON_RESPONSE";
    /// From the host: [`UnballoonRequest`].
    UNBALLOON_REQUEST = 8, "DM_UNBALLOON_REQUEST";
    /// The answer to the last of them: [`UnballoonResponse`].
    UNBALLOON_RESPONSE = 9, "DM_UNBALLOON_RESPONSE";
    /// From the host: [`HotAdd`]. Linux on ARM64 does not support it.
    HOT_ADD_REQUEST = 10, "DM_MEM_HOT_ADD_REQUEST";
    /// The answer to it: [`HotAddResponse`].
    HOT_ADD_RESPONSE = 11, "DM_MEM_HOT_ADD_RESPONSE";
    /// From the host, from version 1.0 on: [`InfoMessage`].
    INFO_MESSAGE = 12, "DM_INFO_MESSAGE";
}

constants! {
    table VERSIONS, kind "balloon-version", from "Linux 6.12, drivers/hv/hv_balloon.c";

    /// Version 0.3, of Windows 7: major number in the high half.
    pub const VERSION_0_3: u32 = 3, "DYNMEM_PROTOCOL_VERSION_1";
    /// Version 1.0, of Windows 8.
    pub const VERSION_1_0: u32 = 0x1_0000, "DYNMEM_PROTOCOL_VERSION_2";
    /// Version 2.0, of Windows 10.
    pub const VERSION_2_0: u32 = 0x2_0000, "DYNMEM_PROTOCOL_VERSION_3";
}

constants! {
    table LIMITS, kind "balloon-limit", from "Linux 6.12, drivers/hv/hv_balloon.c";

    /// The host asks for a multiple of this many pages, which are 2 MiB.
    pub const CHUNK_PAGES: u32 = 512, "PAGES_IN_2M";
}

bits! {
    table BITS, from "Linux 6.12, drivers/hv/hv_balloon.c";

    /// What a guest can do.
    pub struct Capabilities(u64) = "dm_caps" {
        /// It gives pages up. Linux does so only with pages of 4 KiB.
        balloon / with_balloon: bool @ 0;
        /// It takes more memory than it was started with.
        hot_add / with_hot_add: bool @ 1;
        /// Memory that it takes is aligned to 2 to the power of this, in MiB.
        hot_add_alignment / with_hot_add_alignment: u16 @ 5:2;
    }
    also {
        "cap_bits" @ 0, 8;
        "caps" @ 0, 8;
    }

    /// Consecutive pages.
    pub struct PageRange(u64) = "dm_mem_page_range" {
        /// Number of the first page.
        start / with_start: u64 @ 39:0 = "start_page";
        /// Number of pages.
        count / with_count: u32 @ 63:40 = "page_cnt";
    }
    also {
        "finfo" @ 0, 8;
        "page_range" @ 0, 8;
    }
}

structs! {
    table STRUCTS, from "Linux 6.12, drivers/hv/hv_balloon.c";

    /// The beginning of every message.
    pub struct BalloonHeader = "dm_header", size 8 {
        /// Kind of the message.
        message_type: MessageType = 0 "type",
        /// Bytes of the message, with the header.
        size: u16 = 2,
        /// The sender's number of the message.
        transaction: u32 = 4 "trans_id",
    }

    /// VERSION_REQUEST.
    pub struct VersionRequest = "dm_version_request", size 16 {
        /// [`MessageType::VERSION_REQUEST`].
        header: BalloonHeader = 0 "hdr",
        /// One of the versions of this module.
        version: u32 = 8,
        /// Bit 0: the guest knows no older version.
        last_attempt: u32 = 12 "is_last_attempt",
    }

    /// VERSION_RESPONSE.
    pub struct VersionResponse = "dm_version_response", size 16 {
        /// [`MessageType::VERSION_RESPONSE`].
        header: BalloonHeader = 0 "hdr",
        /// 1 if the host speaks the version, or 0.
        accepted: u64 = 8 "is_accepted",
    }

    /// CAPABILITIES_REPORT.
    pub struct CapabilitiesReport = "dm_capabilities", size 32 {
        /// [`MessageType::CAPABILITIES_REPORT`].
        header: BalloonHeader = 0 "hdr",
        /// What the guest can do.
        capabilities: Capabilities = 8 "caps",
        /// Not used.
        min_page_count: u64 = 16 "min_page_cnt",
        /// Not used.
        max_page_number: u64 = 24,
    }

    /// CAPABILITIES_RESPONSE.
    pub struct CapabilitiesResponse = "dm_capabilities_resp_msg", size 16 {
        /// [`MessageType::CAPABILITIES_RESPONSE`].
        header: BalloonHeader = 0 "hdr",
        /// 1; with 0 a guest gives the device up.
        accepted: u64 = 8 "is_accepted",
    }

    /// STATUS_REPORT: the guest's need for memory, in pages.
    pub struct StatusReport = "dm_status", size 48 {
        /// [`MessageType::STATUS_REPORT`].
        header: BalloonHeader = 0 "hdr",
        /// Available.
        available: u64 = 8 "num_avail",
        /// Needed: what programs were promised, what the balloon has, and a floor that the guest keeps.
        committed: u64 = 16 "num_committed",
        /// Swap. Linux says 0.
        page_file_size: u64 = 24,
        /// Free pages of zeros. Linux says 0.
        zero_free: u64 = 32,
        /// Writes to swap. Linux says 0.
        page_file_writes: u32 = 40,
        /// Windows's measure of its cache. Linux says 0.
        io_diff: u32 = 44,
    }

    /// BALLOON_REQUEST: the guest is to give pages up.
    pub struct BalloonRequest = "dm_balloon", size 16 {
        /// [`MessageType::BALLOON_REQUEST`].
        header: BalloonHeader = 0 "hdr",
        /// How many: a multiple of [`CHUNK_PAGES`].
        pages: u32 = 8 "num_pages",
        /// Zero.
        reserved: u32 = 12 "reservedz",
    }

    /// BALLOON_RESPONSE: pages that the guest gives up. As many [`PageRange`]s as it counts follow.
    pub struct BalloonResponse = "dm_balloon_response", size 16 {
        /// [`MessageType::BALLOON_RESPONSE`].
        header: BalloonHeader = 0 "hdr",
        /// Zero.
        reserved: u32 = 8 "reservedz",
        /// Bit 0: another response follows. Bits 31 to 1: number of ranges.
        more_and_ranges: u32 = 12 "more_pages",
    }
    also {
        "range_count" @ 12, 4, bits 31:1;
        "range_array" @ 16, 0;
    }

    /// UNBALLOON_REQUEST: pages that the guest may use again. As many [`PageRange`]s as it counts follow.
    pub struct UnballoonRequest = "dm_unballoon_request", size 16 {
        /// [`MessageType::UNBALLOON_REQUEST`].
        header: BalloonHeader = 0 "hdr",
        /// Bit 0: another request follows, and the guest answers that one.
        more: u32 = 8 "more_pages",
        /// Number of ranges.
        ranges: u32 = 12 "range_count",
    }
    also {
        "range_array" @ 16, 0;
    }

    /// UNBALLOON_RESPONSE.
    pub struct UnballoonResponse = "dm_unballoon_response", size 8 {
        /// [`MessageType::UNBALLOON_RESPONSE`].
        header: BalloonHeader = 0 "hdr",
    }

    /// HOT_ADD_REQUEST: there is more memory.
    pub struct HotAdd = "dm_hot_add", size 16 {
        /// [`MessageType::HOT_ADD_REQUEST`].
        header: BalloonHeader = 0 "hdr",
        /// Where.
        range: PageRange = 8,
    }

    /// HOT_ADD_RESPONSE.
    pub struct HotAddResponse = "dm_hot_add_response", size 16 {
        /// [`MessageType::HOT_ADD_RESPONSE`].
        header: BalloonHeader = 0 "hdr",
        /// Pages that were added.
        pages: u32 = 8 "page_count",
        /// 1 if some were, or none ever will be; 0 if the host may ask again.
        result: u32 = 12,
    }

    /// INFO_MESSAGE: something that the guest may log, of `info_size` bytes, which follow.
    pub struct InfoMessage = "dm_info_msg", size 16 {
        /// [`MessageType::INFO_MESSAGE`].
        header: BalloonHeader = 0 "hdr",
        /// Zero.
        reserved: u32 = 8,
        /// Bytes after it.
        info_size: u32 = 12,
    }
    also {
        "info" @ 16, 0;
    }
}
