//! Rules on the packets of a video driver.

use hv_tlfs::vmbus::PacketType;
use hv_tlfs::vmbus::ic::PipeHeader;
use hv_tlfs::vmbus::video::{
    DEPTH, MessageType, PointerPosition, PointerShape, Rectangle, ResolutionRequest, SituationUpdate,
    VRAM_BYTES, VersionRequest, VideoHeader, VramLocation,
};
use hv_vmbus::Seen;

use super::packets::word;
use super::{Found, rules};

/// Offset of a message in a packet, and of its body.
const MESSAGE: usize = size_of::<PipeHeader>();
const BODY: usize = MESSAGE + size_of::<VideoHeader>();
/// Offset of what a screen shows in its message.
const SITUATION: usize = BODY + 9;
/// Bytes of a report of changes before the first rectangle.
const DIRT: usize = 2;

/// Returns the byte at a place of a payload, or 0 if it is not there.
fn byte(payload: &[u8], at: usize) -> u8 {
    payload.get(at).copied().unwrap_or_default()
}

/// Progress of a driver. All zeros at first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Driver {
    /// The version that the host has accepted, with its minor number in the high half.
    version: u32,
    /// The driver has placed its video memory.
    placed: bool,
    /// Columns and rows of the screen.
    screen: [u32; 2],
}

impl Driver {
    pub(super) const NEW: Self = Self { version: 0, placed: false, screen: [0; 2] };

    /// Follows a packet of the host.
    pub(super) fn answer(&mut self, packet: &Seen<'_>) {
        let kind = MessageType(word(packet.payload, MESSAGE));
        if packet.kind == PacketType::DATA_IN_BAND && kind == MessageType::VERSION_RESPONSE {
            let accepted = byte(packet.payload, BODY + 4) != 0;
            self.version = if accepted { word(packet.payload, BODY) } else { 0 };
        }
    }

    /// Checks a packet of the guest.
    pub(super) fn message(&mut self, packet: &Seen<'_>, found: &mut Found<'_>) {
        let (kind, minor) = (MessageType(word(packet.payload, MESSAGE)), self.version >> 16);
        let rectangles = usize::from(byte(packet.payload, BODY + 1));
        let spoken = self.version != 0;
        let (least, in_order) = match kind {
            MessageType::VERSION_REQUEST => (size_of::<VersionRequest>(), !spoken),
            MessageType::VRAM_LOCATION => (size_of::<VramLocation>(), spoken),
            MessageType::SITUATION_UPDATE => (size_of::<SituationUpdate>(), self.placed),
            MessageType::POINTER_POSITION => (size_of::<PointerPosition>(), spoken),
            MessageType::POINTER_SHAPE => (size_of::<PointerShape>(), spoken),
            MessageType::DIRT => (DIRT + rectangles * size_of::<Rectangle>(), self.screen != [0; 2]),
            MessageType::RESOLUTION_REQUEST => (size_of::<ResolutionRequest>(), minor >= 5),
            MessageType::BIOS_INFO_REQUEST => (0, minor >= 3),
            MessageType::CAPABILITY_REQUEST => (0, minor >= 5),
            _ => return found.add(&rules::VIDEO_MESSAGE, kind.0),
        };
        found.add_if(!in_order, &rules::VIDEO_ORDER, kind.0);
        // The header counts itself in Linux, and what is after it in OpenVMM.
        let (size, counted) = (word(packet.payload, 4), word(packet.payload, MESSAGE + 4));
        let body = (size as usize).checked_sub(size_of::<VideoHeader>());
        let exact = matches!(kind, MessageType::POINTER_SHAPE) || body == Some(least);
        let whole = packet.kind == PacketType::DATA_IN_BAND
            && exact
            && body.is_some_and(|body| body >= least && [body, size as usize].contains(&(counted as usize)));
        if !whole {
            return found.add(&rules::VIDEO_FORM, size);
        }
        match kind {
            MessageType::VRAM_LOCATION => self.placed = byte(packet.payload, BODY + 8) != 0,
            MessageType::SITUATION_UPDATE => self.shown(packet, found),
            MessageType::DIRT => self.changed(packet, rectangles, found),
            _ => {}
        }
    }

    /// Checks what the screen shows.
    fn shown(&mut self, packet: &Seen<'_>, found: &mut Found<'_>) {
        let field = |at: usize| word(packet.payload, SITUATION + at);
        if byte(packet.payload, SITUATION) == 0 {
            self.screen = [0; 2];
            return;
        }
        let depth = byte(packet.payload, SITUATION + 5);
        let (offset, width, height, pitch) = (field(1), field(6), field(10), field(14));
        let row = u64::from(width) * u64::from(depth / 8);
        let end = u64::from(height.saturating_sub(1)) * u64::from(pitch);
        let lies = end.checked_add(u64::from(offset) + row).is_some_and(|end| end <= VRAM_BYTES.into());
        let valid = matches!(depth, 16 | DEPTH) && row > 0 && height > 0 && row <= pitch.into() && lies;
        let size = u64::from(width) << 32 | u64::from(height);
        found.add_if(!valid, &rules::VIDEO_PICTURE, size);
        self.screen = [width, height];
    }

    /// Checks the first part of the screen that has changed.
    fn changed(&self, packet: &Seen<'_>, rectangles: usize, found: &mut Found<'_>) {
        let field = |at: usize| word(packet.payload, BODY + DIRT + at);
        let [columns, rows] = self.screen;
        let inside = field(0) < field(8) && field(8) <= columns && field(4) < field(12) && field(12) <= rows;
        let corner = u64::from(field(8)) << 32 | u64::from(field(12));
        found.add_if(rectangles == 0 || !inside, &rules::VIDEO_DIRT, corner);
    }
}
