//! Decodes the messages of synthetic video: each is a packet, and its body a part of that packet's data, whose number
//! is the message's type.

use std::mem::offset_of;

use hv_tlfs::vmbus::ic::Version;
use hv_tlfs::vmbus::video::{
    ACCEPTED, Dirt, FeatureChange, MessageType, PointerPosition, PointerShape, Rectangle, ResolutionRequest,
    Situation, SituationUpdate, VersionResponse, VramLocation,
};

use super::decode::{Value, hex, number, text};
use super::packets::Bytes;
use crate::report::names;

/// Names a message.
pub(super) fn name(kind: u32) -> String {
    names::name("video-message", kind.into())
}

/// Names the message whose body begins with these bytes, and adds its fields.
pub(super) fn message(part: u8, body: &Bytes<'_>, fields: &mut Vec<(&'static str, Value)>) -> String {
    let kind = MessageType(part.into());
    match kind {
        MessageType::VERSION_REQUEST => fields.push(version(body)),
        MessageType::VERSION_RESPONSE => {
            let accepted = body.u8(offset_of!(VersionResponse, is_accepted)) == ACCEPTED;
            fields.extend([version(body), number("accepted", u8::from(accepted))]);
        }
        MessageType::VRAM_LOCATION if body.u8(offset_of!(VramLocation, has_address)) == 0 => {
            fields.extend([context(body), text("address", "none")]);
        }
        MessageType::VRAM_LOCATION => {
            fields.extend([context(body), hex("address", body.u64(offset_of!(VramLocation, address)))]);
        }
        MessageType::VRAM_LOCATION_ACK | MessageType::SITUATION_UPDATE_ACK => fields.push(context(body)),
        MessageType::SITUATION_UPDATE => situation(body, fields),
        MessageType::POINTER_POSITION => fields.extend([
            number("visible", body.u8(offset_of!(PointerPosition, is_visible))),
            text("place", place(body, offset_of!(PointerPosition, x), offset_of!(PointerPosition, y))),
        ]),
        MessageType::POINTER_SHAPE => fields.extend([
            number("part", body.u8(offset_of!(PointerShape, part))),
            text("size", size(body, offset_of!(PointerShape, width), offset_of!(PointerShape, height))),
        ]),
        MessageType::FEATURE_CHANGE => fields.extend([
            number("dirt", body.u8(offset_of!(FeatureChange, dirt))),
            number("pointer-position", body.u8(offset_of!(FeatureChange, pointer_position))),
            number("pointer-shape", body.u8(offset_of!(FeatureChange, pointer_shape))),
            number("situation", body.u8(offset_of!(FeatureChange, situation))),
        ]),
        MessageType::DIRT => dirt(body, fields),
        MessageType::RESOLUTION_REQUEST => {
            fields.push(number("maximum", body.u8(offset_of!(ResolutionRequest, maximum))));
        }
        _ => {}
    }
    name(kind.0)
}

/// Returns the version of a request for one, or of its answer.
fn version(body: &Bytes<'_>) -> (&'static str, Value) {
    let version = Version { major: body.u16(0), minor: body.u16(2) };
    text("version", format!("{}.{}", version.major, version.minor))
}

/// Returns what an answer repeats of its request: the first field of both.
fn context(body: &Bytes<'_>) -> (&'static str, Value) {
    hex("context", body.u64(0))
}

/// Returns columns and rows.
fn size(body: &Bytes<'_>, width: usize, height: usize) -> String {
    format!("{}x{}", body.u32(width), body.u32(height))
}

/// Returns column and row, which may be left of the screen or above it.
fn place(body: &Bytes<'_>, column: usize, row: usize) -> String {
    format!("{},{}", body.u32(column) as i32, body.u32(row) as i32)
}

/// Adds the fields of what a screen shows.
fn situation(body: &Bytes<'_>, fields: &mut Vec<(&'static str, Value)>) {
    const SHOWN: usize = offset_of!(SituationUpdate, situation);
    fields.push(context(body));
    if body.u8(SHOWN + offset_of!(Situation, active)) == 0 {
        fields.push(text("shows", "nothing"));
        return;
    }
    let pixels = size(body, SHOWN + offset_of!(Situation, width), SHOWN + offset_of!(Situation, height));
    fields.extend([
        text("size", pixels),
        number("bits", body.u8(SHOWN + offset_of!(Situation, depth_bits))),
        number("pitch", body.u32(SHOWN + offset_of!(Situation, pitch))),
        hex("offset", body.u32(SHOWN + offset_of!(Situation, vram_offset))),
    ]);
}

/// Adds the first part of a screen that has changed, and how many there are.
fn dirt(body: &Bytes<'_>, fields: &mut Vec<(&'static str, Value)>) {
    const FIRST: usize = offset_of!(Dirt, first);
    let start = place(body, FIRST + offset_of!(Rectangle, left), FIRST + offset_of!(Rectangle, top));
    let end = place(body, FIRST + offset_of!(Rectangle, right), FIRST + offset_of!(Rectangle, bottom));
    fields.push(number("count", body.u8(offset_of!(Dirt, count))));
    fields.push(text("first", format!("{start}..{end}")));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::decode;
    use hv_tlfs::vmbus::{ChannelId, guid};
    use hv_trace::{CONTENTS_START, What};

    /// Decodes a message with this body.
    fn words(kind: MessageType, from_guest: bool, body: &[u8]) -> String {
        let class = guid::INTERFACES.iter().position(|(known, ..)| *known == guid::VIDEO).unwrap() as u8 + 1;
        let mut start = [0; CONTENTS_START];
        start[..body.len()].copy_from_slice(body);
        let (part, shown) = (kind.0 as u8, body.len() as u8);
        let (transaction, length, channel) = (0, shown.into(), ChannelId(3));
        let what = What::Contents { channel, class, from_guest, part, shown, transaction, length, start };
        let decoded = decode::decode(&what);
        decoded.fields.into_iter().fold(decoded.name, |line, (name, value)| format!("{line} {name}={value}"))
    }

    #[test]
    fn each_message_shows_its_fields() {
        let request = words(MessageType::VERSION_REQUEST, true, &[3, 0, 5, 0]);
        assert_eq!(request, "SYNTHVID_VERSION_REQUEST channel=3 class=video from=guest bytes=4 version=3.5");
        let answer = words(MessageType::VERSION_RESPONSE, false, &[3, 0, 5, 0, 2, 1]);
        assert!(answer.ends_with("from=host bytes=6 version=3.5 accepted=1"), "{answer}");
        let mut location = [0; 17];
        location[..9].copy_from_slice(&[7, 0, 0, 0, 0, 0, 0, 0, 1]);
        location[11] = 0x80;
        let placed = words(MessageType::VRAM_LOCATION, true, &location);
        assert!(placed.ends_with("context=0x7 address=0x800000"), "{placed}");
        location[8] = 0;
        assert!(words(MessageType::VRAM_LOCATION, true, &location).ends_with("context=0x7 address=none"));
        let numbers = |numbers: &[i32]| numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>();
        let picture = [&[0; 9][..], &[1], &numbers(&[0x100]), &[32], &numbers(&[800, 600, 3200])].concat();
        let shown = words(MessageType::SITUATION_UPDATE, true, &picture[..27]);
        assert!(shown.ends_with("context=0x0 size=800x600 bits=32 pitch=3200 offset=0x100"), "{shown}");
        assert!(words(MessageType::SITUATION_UPDATE, true, &[0; 27]).ends_with("shows=nothing"));
        let dirt = [&[0, 2][..], &numbers(&[-1, 0, 8, 9])].concat();
        let dirt = words(MessageType::DIRT, true, &dirt);
        assert!(dirt.ends_with("count=2 first=-1,0..8,9"), "{dirt}");
        let change = words(MessageType::FEATURE_CHANGE, false, &[1, 0, 0, 1]);
        assert!(change.ends_with("dirt=1 pointer-position=0 pointer-shape=0 situation=1"), "{change}");
        assert!(words(MessageType::RESOLUTION_REQUEST, true, &[64]).ends_with("maximum=64"));
        let pointer = [&[1, 0][..], &numbers(&[-4, 5])].concat();
        assert!(words(MessageType::POINTER_POSITION, true, &pointer).ends_with("visible=1 place=-4,5"));
        let shape = [&[0, 1][..], &numbers(&[24, 16, 0, 0, 0])].concat();
        assert!(words(MessageType::POINTER_SHAPE, true, &shape).ends_with("part=0 size=24x16"));
    }
}
