//! Synthetic video: a framebuffer in the VMBus device's address window, which the guest places, and whose changes it
//! reports.
//!
//! The channel is a pipe: after the pipe's header, a message begins with a [`VideoHeader`]. The guest asks for a
//! version with [`VersionRequest`] until the host's [`VersionResponse`] accepts one, and from 3.5 on for the
//! resolutions that the host supports. It says with [`VramLocation`] where the video memory is to be, with
//! [`SituationUpdate`] what of it is shown, and with [`Dirt`] which parts have changed. The host asks for these reports
//! with [`FeatureChange`].

use zerocopy::little_endian::{I32, U16, U32, U64};

open_enum! {
    table MESSAGE_TYPE, from "Linux 6.12, drivers/video/fbdev/hyperv_fb.c; Linux 6.12, drivers/gpu/drm/hyperv/hyperv_drm_proto.c";
    names [MESSAGES, MORE_MESSAGES];
    /// Kind of a message.
    pub struct MessageType(u32) = "synthvid_msg_type";
}

constants! {
    table MESSAGES, kind "video-message", from "Linux 6.12, drivers/video/fbdev/hyperv_fb.c", impl MessageType;

    /// Not used.
    ERROR = 0, "SYNTHVID_ERROR";
    /// From the guest, first: [`VersionRequest`].
    VERSION_REQUEST = 1, "SYNTHVID_VERSION_REQUEST";
    /// The answer to it: [`VersionResponse`].
    VERSION_RESPONSE = 2, "SYNTHVID_VERSION_RESPONSE";
    /// From the guest: [`VramLocation`].
    VRAM_LOCATION = 3, "SYNTHVID_VRAM_LOCATION";
    /// The answer to it: [`VramLocationAck`].
    VRAM_LOCATION_ACK = 4, "SYNTHVID_VRAM_LOCATION_ACK";
    /// From the guest: [`SituationUpdate`].
    SITUATION_UPDATE = 5, "SYNTHVID_SITUATION_UPDATE";
    /// The answer to it: [`SituationUpdateAck`].
    SITUATION_UPDATE_ACK = 6, "SYNTHVID_SITUATION_UPDATE_ACK";
    /// From the guest: [`PointerPosition`].
    POINTER_POSITION = 7, "SYNTHVID_POINTER_POSITION";
    /// From the guest: [`PointerShape`].
    POINTER_SHAPE = 8, "SYNTHVID_POINTER_SHAPE";
    /// From the host: [`FeatureChange`].
    FEATURE_CHANGE = 9, "SYNTHVID_FEATURE_CHANGE";
    /// From the guest: [`Dirt`].
    DIRT = 10, "SYNTHVID_DIRT";
    /// From the guest, from version 3.5 on: [`ResolutionRequest`].
    RESOLUTION_REQUEST = 13, "SYNTHVID_RESOLUTION_REQUEST";
    /// The answer to it: [`ResolutionResponse`].
    RESOLUTION_RESPONSE = 14, "SYNTHVID_RESOLUTION_RESPONSE";
}

constants! {
    table MORE_MESSAGES, kind "video-message", from "OpenVMM, uidevices, video", impl MessageType;

    /// From the guest, from version 3.3 on: a header alone. Linux does not send it.
    BIOS_INFO_REQUEST = 11, "MESSAGE_BIOS_INFO_REQUEST";
    /// The answer to it: [`BiosInfo`].
    BIOS_INFO_RESPONSE = 12, "MESSAGE_BIOS_INFO_RESPONSE";
    /// From the guest, from version 3.5 on: a header alone. Linux does not send it.
    CAPABILITY_REQUEST = 15, "MESSAGE_CAPABILITY_REQUEST";
    /// The answer to it: [`Capability`].
    CAPABILITY_RESPONSE = 16, "MESSAGE_CAPABILITY_RESPONSE";
}

constants! {
    table VERSIONS, kind "video-version", from "Linux 6.12, drivers/video/fbdev/hyperv_fb.c";

    /// Version 3.0, of Windows 7: major number in the *low* half.
    pub const VERSION_3_0: u32 = 3, "SYNTHVID_VERSION_WIN7";
    /// Version 3.2, of Windows 8.
    pub const VERSION_3_2: u32 = 0x2_0003, "SYNTHVID_VERSION_WIN8";
    /// Version 3.5, of Windows 10.
    pub const VERSION_3_5: u32 = 0x5_0003, "SYNTHVID_VERSION_WIN10";
}

constants! {
    table ANSWERS, kind "video-answer", from "OpenVMM, uidevices, video";

    /// In [`VersionResponse::is_accepted`]: accepted, and the version in the answer counts.
    pub const ACCEPTED: u8 = 2, "ACCEPTED_WITH_VERSION_EXCHANGE";
}

constants! {
    table LIMITS, kind "video-limit", from "Linux 6.12, drivers/video/fbdev/hyperv_fb.c";

    /// Bytes of [`ResolutionResponse::edid`].
    pub const EDID_BYTES: usize = 128, "SYNTHVID_EDID_BLOCK_SIZE";
    /// Maximum number of resolutions.
    pub const MAX_RESOLUTIONS: usize = 64, "SYNTHVID_MAX_RESOLUTION_COUNT";
    /// Bytes of video memory that hosts give from Windows 8 on.
    pub const VRAM_BYTES: u32 = 8 << 20, "SYNTHVID_FB_SIZE_WIN8";
    /// Bits of a pixel from Windows 8 on: blue in the lowest byte, then green, red, and one that is not used.
    pub const DEPTH: u8 = 32, "SYNTHVID_DEPTH_WIN8";
    /// In [`PointerShape::part`]: the last part of a shape.
    pub const LAST_PART: u8 = 0xff, "CURSOR_COMPLETE";
}

structs! {
    table STRUCTS, from "Linux 6.12, drivers/video/fbdev/hyperv_fb.c";

    /// The beginning of every message.
    pub struct VideoHeader = "synthvid_msg_hdr", size 8 {
        /// A [`MessageType`].
        message_type: U32 = 0 "type",
        /// Bytes of the message: in Linux with this header, in OpenVMM without it.
        size: U32 = 4,
    }

    /// VERSION_REQUEST.
    pub struct VersionRequest = "synthvid_version_req", size 4 {
        /// The version: major number in the low half.
        version: U32 = 0,
    }

    /// VERSION_RESPONSE.
    pub struct VersionResponse = "synthvid_version_resp", size 6 {
        /// The version that was asked for.
        version: U32 = 0,
        /// 0: the host does not speak it.
        is_accepted: u8 = 4,
        /// Number of screens: 1.
        max_video_outputs: u8 = 5,
    }

    /// VRAM_LOCATION.
    pub struct VramLocation = "synthvid_vram_location", size 17 {
        /// What the answer has to repeat.
        user_context: U64 = 0 "user_ctx",
        /// 0: there is no address, and the memory is no longer used.
        has_address: u8 = 8 "is_vram_gpa_specified",
        /// Guest physical address in the window of the bus.
        address: U64 = 9 "vram_gpa",
    }

    /// VRAM_LOCATION_ACK: there is memory at the address.
    pub struct VramLocationAck = "synthvid_vram_location_ack", size 8 {
        /// That of the location. Linux takes any other for a refusal.
        user_context: U64 = 0 "user_ctx",
    }

    /// What a screen shows.
    pub struct Situation = "video_output_situation", size 18 {
        /// 0: nothing.
        active: u8 = 0,
        /// Place of the first pixel in the video memory.
        vram_offset: U32 = 1,
        /// Bits of a pixel: [`DEPTH`], or 16 (5, 6 and 5 bits of red, green and blue, blue lowest).
        depth_bits: u8 = 5,
        /// Pixels of a row.
        width: U32 = 6 "width_pixels",
        /// Rows.
        height: U32 = 10 "height_pixels",
        /// Bytes from one row to the next.
        pitch: U32 = 14 "pitch_bytes",
    }

    /// SITUATION_UPDATE.
    pub struct SituationUpdate = "synthvid_situation_update", size 27 {
        /// What the answer has to repeat.
        user_context: U64 = 0 "user_ctx",
        /// Number of screens: 1.
        video_output_count: u8 = 8,
        /// The first screen.
        situation: Situation = 9 "video_output",
    }

    /// SITUATION_UPDATE_ACK. Linux ignores it.
    pub struct SituationUpdateAck = "synthvid_situation_update_ack", size 8 {
        /// That of the update.
        user_context: U64 = 0 "user_ctx",
    }

    /// POINTER_POSITION.
    pub struct PointerPosition = "synthvid_pointer_position", size 10 {
        /// 1: the host draws the pointer.
        is_visible: u8 = 0,
        /// The screen: 0.
        video_output: u8 = 1,
        /// Column of the shape's upper left pixel.
        x: I32 = 2 "image_x",
        /// Row of it.
        y: I32 = 6 "image_y",
    }

    /// POINTER_SHAPE. More pixels may follow.
    pub struct PointerShape = "synthvid_pointer_shape", size 22 {
        /// Number of this part of a shape, or [`LAST_PART`].
        part: u8 = 0 "part_idx",
        /// 1: pixels of 32 bits.
        is_argb: u8 = 1,
        /// Columns, 96 at most.
        width: U32 = 2,
        /// Rows, 96 at most.
        height: U32 = 6,
        /// Column that is the place of the pointer.
        hot_x: U32 = 10,
        /// Row of it.
        hot_y: U32 = 14,
        /// The first pixels.
        data: [u8; 4] = 18,
    }

    /// FEATURE_CHANGE: which reports the host has a use for. The guest sends each at once that was of no use before.
    pub struct FeatureChange = "synthvid_feature_change", size 4 {
        /// [`Dirt`].
        dirt: u8 = 0 "is_dirt_needed",
        /// [`PointerPosition`].
        pointer_position: u8 = 1 "is_ptr_pos_needed",
        /// [`PointerShape`].
        pointer_shape: u8 = 2 "is_ptr_shape_needed",
        /// [`SituationUpdate`].
        situation: u8 = 3 "is_situ_needed",
    }

    /// A rectangle of pixels.
    pub struct Rectangle = "rect", size 16 {
        /// First column.
        left: I32 = 0 "x1",
        /// First row.
        top: I32 = 4 "y1",
        /// First column after the last.
        right: I32 = 8 "x2",
        /// First row after the last.
        bottom: I32 = 12 "y2",
    }

    /// DIRT. More rectangles may follow.
    pub struct Dirt = "synthvid_dirt", size 18 {
        /// The screen: 0.
        video_output: u8 = 0,
        /// Number of rectangles.
        count: u8 = 1 "dirt_count",
        /// The first of them.
        first: Rectangle = 2 "rect",
    }

    /// RESOLUTION_REQUEST.
    pub struct ResolutionRequest = "synthvid_supported_resolution_req", size 1 {
        /// Maximum number of resolutions in the answer.
        maximum: u8 = 0 "maximum_resolution_count",
    }

    /// A resolution.
    pub struct Resolution = "hvd_screen_info", size 4 {
        /// Columns.
        width: U16 = 0,
        /// Rows.
        height: U16 = 2,
    }

    /// RESOLUTION_RESPONSE. It ends after the last resolution.
    pub struct ResolutionResponse = "synthvid_supported_resolution_resp", size 387 {
        /// The screen's description (VESA E-EDID).
        edid: [u8; EDID_BYTES] = 0 "edid_block",
        /// Number of resolutions.
        count: u8 = 128 "resolution_count",
        /// Index of the one that the guest begins with.
        default_index: u8 = 129 "default_resolution_index",
        /// 1: they are the host's standard ones.
        is_standard: u8 = 130,
        /// The resolutions.
        resolutions: [Resolution; MAX_RESOLUTIONS] = 131 "supported_resolution",
    }
}

structs! {
    table MORE_STRUCTS, from "OpenVMM, uidevices, video";

    /// BIOS_INFO_RESPONSE.
    pub struct BiosInfo = "BiosInfoResponseMessage", size 16 {
        /// 1: the device can be stopped, as in generation 2.
        stop_device_supported: U32 = 0,
        /// Zero.
        reserved: [u8; 12] = 4,
    }

    /// CAPABILITY_RESPONSE.
    pub struct Capability = "CapabilityResponseMessage", size 64 {
        /// 1: the guest locks its screen when the last viewer disconnects.
        lock_on_disconnect: U32 = 0,
        /// Zero.
        reserved: [U32; 15] = 4,
    }
}

/// A part of the screen: first column and row, and those after the last. A [`Rectangle`] in integers of the CPU,
/// without negative places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScreenArea {
    /// First column.
    pub left: u32,
    /// First row.
    pub top: u32,
    /// First column after the last.
    pub right: u32,
    /// First row after the last.
    pub bottom: u32,
}

impl ScreenArea {
    /// No pixel.
    pub const NONE: Self = Self { left: 0, top: 0, right: 0, bottom: 0 };

    /// Makes an area of a corner and a size.
    #[must_use]
    pub const fn new(left: u32, top: u32, width: u32, height: u32) -> Self {
        Self { left, top, right: left.saturating_add(width), bottom: top.saturating_add(height) }
    }

    /// Returns true if it has no pixel.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.left >= self.right || self.top >= self.bottom
    }

    /// Returns the part of it that lies in a screen of this width and height.
    #[must_use]
    pub fn within(self, (width, height): (u32, u32)) -> Self {
        Self { right: self.right.min(width), bottom: self.bottom.min(height), ..self }
    }

    /// Returns the smallest area that has both.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        match (self.is_empty(), other.is_empty()) {
            (_, true) => self,
            (true, _) => other,
            _ => Self {
                left: self.left.min(other.left),
                top: self.top.min(other.top),
                right: self.right.max(other.right),
                bottom: self.bottom.max(other.bottom),
            },
        }
    }
}
