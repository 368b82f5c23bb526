//! The screen's messages: those of the guest as bytes, those of the host judged.

use hv_tlfs::vmbus::ic::PipeHeader;
use hv_tlfs::vmbus::video::{
    EDID_BYTES, FeatureChange, LAST_PART, MAX_RESOLUTIONS, MessageType, PointerPosition, PointerShape,
    Resolution, VersionResponse, VideoHeader, VramLocationAck,
};
use zerocopy::little_endian::{I32, U32};
use zerocopy::{FromBytes, IntoBytes};

use super::Error;
use super::changes::MOST;
use super::sizes::Sizes;
use crate::aligned::Aligned;

/// Type of a pipe's message with data (Linux 6.12, drivers/gpu/drm/hyperv/hyperv_drm_proto.c, `PIPE_MSG_DATA`).
const DATA: u32 = 1;
/// Bytes of the headers before a message's body.
const HEADERS: usize = size_of::<PipeHeader>() + size_of::<VideoHeader>();
/// Bytes of the longest message to the host: all rectangles.
const LONGEST: usize = HEADERS + 2 + 16 * MOST;
/// Bytes before the list in a RESOLUTION_RESPONSE.
const BEFORE_LIST: usize = EDID_BYTES + 3;
/// Bytes of the longest message from the host, the list of resolutions.
pub(super) const ROOM: usize = HEADERS + BEFORE_LIST + MAX_RESOLUTIONS * size_of::<Resolution>();

/// A message to the host.
pub(super) struct Message {
    bytes: Aligned<[u8; LONGEST]>,
    len: usize,
}

impl Message {
    /// Makes a message of this kind.
    pub(super) fn new(kind: MessageType, body: &[&[u8]]) -> Self {
        let size = size_of::<VideoHeader>() + body.iter().map(|part| part.len()).sum::<usize>();
        let pipe = PipeHeader { packet_type: DATA, message_size: size as u32 };
        let header = VideoHeader { message_type: U32::new(kind.0), size: U32::new(size as u32) };
        let mut message = Self { bytes: Aligned([0; LONGEST]), len: 0 };
        message.put(pipe.as_bytes());
        message.put(header.as_bytes());
        body.iter().for_each(|part| message.put(part));
        message
    }

    /// Appends bytes, for which there is room in the longest message.
    fn put(&mut self, bytes: &[u8]) {
        if let Some(place) = self.bytes.0.get_mut(self.len..self.len + bytes.len()) {
            place.copy_from_slice(bytes);
            self.len += bytes.len();
        }
    }

    /// Returns the packet's payload.
    pub(super) fn payload(&self) -> &[u8] {
        self.bytes.0.get(..self.len).unwrap_or(&[])
    }
}

/// The host's own pointer, at a place where it does not disturb. Hosts keep drawing one that is said to be invisible
/// (Linux 6.12, drivers/gpu/drm/hyperv/hyperv_drm_proto.c, `hyperv_hide_hw_ptr`): so it is visible, and has the
/// [shape](SHAPE) of a dark transparent pixel.
pub(super) const POSITION: PointerPosition =
    PointerPosition { is_visible: 1, video_output: 0, x: I32::ZERO, y: I32::ZERO };

/// The shape of the host's pointer.
pub(super) const SHAPE: PointerShape = PointerShape {
    part: LAST_PART,
    is_argb: 1,
    width: U32::new(1),
    height: U32::new(1),
    hot_x: U32::ZERO,
    hot_y: U32::ZERO,
    data: [0, 1, 1, 1],
};

/// A message of the host, judged as far as that needs no state.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard<'m> {
    /// The version asked for is accepted, or not.
    Version(bool),
    /// The resolutions, for [`sizes`].
    Sizes(&'m [u8]),
    /// There is video memory where it was asked for: the context of the request.
    Located(u64),
    /// What the host has a use for from now on.
    Wants { changes: bool, pointer: bool, situation: bool },
    /// The situation has arrived.
    Shown,
}

/// Judges a packet's payload, read once. `None`: it is not a message of a screen.
pub(super) fn judge(payload: &[u8]) -> Option<Heard<'_>> {
    let (pipe, rest) = PipeHeader::read_from_prefix(payload).ok()?;
    let size = usize::try_from(pipe.message_size).ok().filter(|_| pipe.packet_type == DATA)?;
    // The size in the second header counts that header for some and not for others: the pipe's is enough.
    let (header, body) = VideoHeader::read_from_prefix(rest.get(..size)?).ok()?;
    Some(match MessageType(header.message_type.get()) {
        MessageType::VERSION_RESPONSE => Heard::Version(take::<VersionResponse>(body)?.is_accepted != 0),
        MessageType::RESOLUTION_RESPONSE => Heard::Sizes(body),
        MessageType::VRAM_LOCATION_ACK => Heard::Located(take::<VramLocationAck>(body)?.user_context.get()),
        MessageType::FEATURE_CHANGE => {
            let wants: FeatureChange = take(body)?;
            Heard::Wants {
                changes: wants.dirt != 0,
                pointer: wants.dirt | wants.pointer_position | wants.pointer_shape != 0,
                situation: wants.situation != 0,
            }
        }
        MessageType::SITUATION_UPDATE_ACK => Heard::Shown,
        _ => return None,
    })
}

fn take<T: FromBytes>(body: &[u8]) -> Option<T> {
    T::read_from_prefix(body).ok().map(|(value, _)| value)
}

/// Judges a list of resolutions. One without a default counts as none (Linux 6.12, `hyperv_get_supported_resolution`).
///
/// # Errors
///
/// [`Error::Malformed`]: the message is shorter than it says.
pub(super) fn sizes(body: &[u8]) -> Result<Sizes, Error> {
    let (head, list) = body.split_at_checked(BEFORE_LIST).ok_or(Error::Malformed)?;
    let [.., count, default, _] = head else { return Err(Error::Malformed) };
    let count = usize::from(*count);
    let list = list.get(..count * size_of::<Resolution>()).ok_or(Error::Malformed)?;
    if count > MAX_RESOLUTIONS {
        return Err(Error::Malformed);
    }
    let mut sizes = Sizes::NONE;
    for (n, entry) in list.as_chunks::<4>().0.iter().enumerate() {
        let [width, height] = [[entry[0], entry[1]], [entry[2], entry[3]]].map(u16::from_le_bytes);
        sizes.add(width.into(), height.into(), n == usize::from(*default));
    }
    Ok(if usize::from(*default) < count { sizes } else { Sizes::NONE })
}
