//! Messages of RNDIS: written, and judged. What is judged was read once, into memory of the guest's own.

use hv_tlfs::vmbus::rndis::{
    INFO_CHECKSUM, INFO_VLAN, MessageHeader, MessageType, PacketMessage, PerPacketInfo, QueryComplete,
    ReceiveChecksum, VlanInfo,
};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::aligned::Aligned;

/// Bytes of a message's header, from the end of which offsets count.
pub(super) const HEADER: usize = size_of::<MessageHeader>();
/// Bytes of the headers of a frame's message.
pub(super) const PACKET: usize = HEADER + size_of::<PacketMessage>();
/// Where a frame begins in the guest's messages: words are copied faster.
pub(super) const FRAME_AT: usize = PACKET.next_multiple_of(8);

/// Makes the header of the message of a frame, of this length.
pub(super) fn head(length: u32) -> MessageHeader {
    MessageHeader { message_type: MessageType::PACKET, length }
}

/// Writes the headers of the message of a frame.
pub(super) fn header(len: u32) -> Aligned<[u8; FRAME_AT]> {
    let mut bytes = Aligned([0; FRAME_AT]);
    let header = head(FRAME_AT as u32 + len);
    let packet = PacketMessage {
        data_offset: (FRAME_AT - HEADER) as u32,
        data_length: len,
        ..PacketMessage::new_zeroed()
    };
    let (head, body) = bytes.0.split_at_mut(HEADER);
    head.copy_from_slice(header.as_bytes());
    if let Some(place) = body.get_mut(..size_of::<PacketMessage>()) {
        place.copy_from_slice(packet.as_bytes());
    }
    bytes
}

/// Returns where bytes lie in a message of `length` bytes, including its header, after its first `least` bytes; `None`
/// if they are not all in it. `offset` counts from the end of the message's header.
fn inside(length: u32, least: usize, offset: u32, len: u32) -> Option<(usize, usize)> {
    let at = u64::from(offset) + HEADER as u64;
    let end = at + u64::from(len);
    // Both are below 2^32 then, as the length is.
    (at >= least as u64 && end <= u64::from(length)).then_some((at as usize, len as usize))
}

/// Returns where a frame lies in its message of `length` bytes: offset from the message's beginning, and length.
pub(super) fn frame(length: u32, packet: &PacketMessage) -> Option<(usize, usize)> {
    inside(length, PACKET, packet.data_offset, packet.data_length)
}

/// Returns where the information about a frame lies.
pub(super) fn infos(length: u32, packet: &PacketMessage) -> Option<(usize, usize)> {
    if packet.info_offset == 0 || packet.info_length == 0 {
        return None;
    }
    inside(length, PACKET, packet.info_offset, packet.info_length)
}

/// Finds the VLAN tag of a frame in the information about it.
pub(super) fn vlan(infos: &[u8]) -> Option<VlanInfo> {
    find(infos, INFO_VLAN).map(VlanInfo)
}

/// Finds what the card says of a frame's checksums.
pub(super) fn checksum(infos: &[u8]) -> Option<ReceiveChecksum> {
    find(infos, INFO_CHECKSUM).map(ReceiveChecksum)
}

/// Finds the value of a kind in the information about a frame.
fn find(infos: &[u8], kind: u32) -> Option<u32> {
    let mut rest = infos;
    loop {
        let (info, _) = PerPacketInfo::read_from_prefix(rest).ok()?;
        // Each has a header, so there is an end.
        let size = (info.size as usize).max(size_of::<PerPacketInfo>());
        if info.info_type == kind {
            let offset = (info.value_offset as usize).max(size_of::<PerPacketInfo>());
            let (value, _) = u32::read_from_prefix(rest.get(..size)?.get(offset..)?).ok()?;
            return Some(value);
        }
        rest = rest.get(size..)?;
    }
}

/// Returns the information of the answer to a query; `body` is what follows the message's header.
pub(super) fn information<'b>(body: &'b [u8], answer: &QueryComplete) -> Option<&'b [u8]> {
    let length = u32::try_from(body.len() + HEADER).ok()?;
    let least = HEADER + size_of::<QueryComplete>();
    let (at, len) = inside(length, least, answer.information_offset, answer.information_length)?;
    body.get(at - HEADER..)?.get(..len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn a_frame_lies_in_its_message_or_nowhere() {
        let packet = |data_offset, data_length| PacketMessage {
            data_offset,
            data_length,
            ..PacketMessage::new_zeroed()
        };
        assert_eq!(frame(100, &packet(36, 56)), Some((44, 56)));
        assert_eq!(frame(100, &packet(92, 0)), Some((100, 0)));
        for (offset, len) in
            [(35, 56), (36, 57), (0, 1), (u32::MAX, 1), (36, u32::MAX), (u32::MAX, u32::MAX), (92, 1)]
        {
            assert_eq!(frame(100, &packet(offset, len)), None, "{offset} {len}");
        }
        let own = header(60).0;
        let (read, _) = PacketMessage::read_from_prefix(&own[HEADER..]).unwrap();
        assert_eq!(frame(FRAME_AT as u32 + 60, &read), Some((FRAME_AT, 60)));
        assert_eq!(infos(100, &read), None);
    }

    fn info(size: u32, kind: u32, offset: u32, value: u32) -> Vec<u8> {
        [size, kind, offset, value].into_iter().flat_map(u32::to_le_bytes).collect()
    }

    #[test]
    fn the_tag_is_found_among_other_information_and_nowhere_else() {
        let (hash, tag) = (info(16, 8, 12, 7), info(16, 6, 12, 0x1230));
        assert_eq!(vlan(&[hash.clone(), tag.clone()].concat()), Some(VlanInfo(0x1230)));
        for none in [
            Vec::new(),
            hash.clone(),
            [info(0, 8, 12, 7), info(13, 6, 12, 9)].concat(),
            info(u32::MAX, 8, 12, 7),
            [info(u32::MAX, 8, 12, 7), tag.clone()].concat(),
            info(16, 6, u32::MAX, 9),
            info(u32::MAX, 6, 12, 9),
            tag[..15].to_vec(),
        ] {
            assert_eq!(vlan(&none), None, "{none:?}");
        }
    }

    #[test]
    fn information_lies_behind_the_answer_or_is_none() {
        let mut body = [0_u8; 24];
        body[16] = 5;
        let answer = |information_offset, information_length| QueryComplete {
            information_offset,
            information_length,
            ..QueryComplete::new_zeroed()
        };
        assert_eq!(information(&body, &answer(16, 1)), Some(&[5][..]));
        assert_eq!(information(&body, &answer(16, 8)).map(<[u8]>::len), Some(8));
        for (offset, len) in [(16, 9), (15, 1), (25, 0), (0, 0), (u32::MAX, 2), (16, u32::MAX)] {
            assert_eq!(information(&body, &answer(offset, len)), None, "{offset} {len}");
        }
    }
}
