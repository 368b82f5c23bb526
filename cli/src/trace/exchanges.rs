//! Requests of devices that are messages, and whose answers are messages too, besides the completion of a packet.

use hv_tlfs::vmbus::ic::{self, PipeHeader};
use hv_tlfs::vmbus::{ChannelId, Guid, PacketType, balloon, guid, keyboard, mouse, video};
use hv_trace::What;

use super::packets::{self, Bytes};
use super::services::Message;

/// A request and its answer, by the numbers of their types.
struct Pair {
    request: u32,
    answer: u32,
    /// The guest asks.
    by_guest: bool,
}

const fn guests(request: u32, answer: u32) -> Pair {
    Pair { request, answer, by_guest: true }
}

const fn hosts(request: u32, answer: u32) -> Pair {
    Pair { request, answer, by_guest: false }
}

const BALLOON: [Pair; 5] = {
    use balloon::MessageType as M;
    [
        guests(M::VERSION_REQUEST.0 as u32, M::VERSION_RESPONSE.0 as u32),
        guests(M::CAPABILITIES_REPORT.0 as u32, M::CAPABILITIES_RESPONSE.0 as u32),
        hosts(M::BALLOON_REQUEST.0 as u32, M::BALLOON_RESPONSE.0 as u32),
        hosts(M::UNBALLOON_REQUEST.0 as u32, M::UNBALLOON_RESPONSE.0 as u32),
        hosts(M::HOT_ADD_REQUEST.0 as u32, M::HOT_ADD_RESPONSE.0 as u32),
    ]
};

const KEYBOARD: [Pair; 1] = {
    use keyboard::MessageType as M;
    [guests(M::PROTOCOL_REQUEST.0, M::PROTOCOL_RESPONSE.0)]
};

const MOUSE: [Pair; 2] = {
    use mouse::MessageType as M;
    [guests(M::PROTOCOL_REQUEST.0, M::PROTOCOL_RESPONSE.0), hosts(M::DEVICE_INFO.0, M::DEVICE_INFO_ACK.0)]
};

const VIDEO: [Pair; 6] = {
    use video::MessageType as M;
    [
        guests(M::VERSION_REQUEST.0, M::VERSION_RESPONSE.0),
        guests(M::VRAM_LOCATION.0, M::VRAM_LOCATION_ACK.0),
        guests(M::SITUATION_UPDATE.0, M::SITUATION_UPDATE_ACK.0),
        guests(M::BIOS_INFO_REQUEST.0, M::BIOS_INFO_RESPONSE.0),
        guests(M::RESOLUTION_REQUEST.0, M::RESOLUTION_RESPONSE.0),
        guests(M::CAPABILITY_REQUEST.0, M::CAPABILITY_RESPONSE.0),
    ]
};

/// Returns the channel of a message that is a request or an answer, the number of the request's type, and which of the
/// two it is.
pub(super) fn exchange(what: &What) -> Option<(ChannelId, u32, bool)> {
    let What::Packet { channel, class, from_guest, packet_type, length, ref start, .. } = *what else {
        return None;
    };
    if let Some(Message { kind, .. }) = Message::of(what) {
        // The host asks, and the guest returns the same type.
        let known = kind.0 <= ic::MessageType::VM_SESSION.0;
        return known.then_some((channel, kind.0.into(), !from_guest));
    }
    if packet_type != PacketType::DATA_IN_BAND {
        return None;
    }
    let (bytes, length) = (&Bytes { bytes: start, from: 0 }, length as usize);
    let (kind, pairs) = kind(packets::interface(class)?, bytes, length)?;
    let asks = |pair: &Pair| pair.request == kind && pair.by_guest == from_guest;
    let answers = |pair: &Pair| pair.answer == kind && pair.by_guest != from_guest;
    let pair = pairs.iter().find(|pair| asks(pair) || answers(pair))?;
    Some((channel, pair.request, asks(pair)))
}

/// Returns the type of a device's message, and the requests of such devices. A message has none if another follows that
/// belongs to the same request or the same answer: the last is the one that counts.
fn kind(interface: &Guid, bytes: &Bytes<'_>, length: usize) -> Option<(u32, &'static [Pair])> {
    /// Offset of the header of a pipe's message, and bytes with it.
    const PIPE: usize = size_of::<PipeHeader>();
    const WITH_HEADER: usize = PIPE + size_of::<mouse::HidHeader>();
    const { assert!(size_of::<mouse::HidHeader>() == size_of::<video::VideoHeader>()) };
    Some(match *interface {
        guid::DYNAMIC_MEMORY if length >= size_of::<balloon::BalloonHeader>() => {
            let kind = balloon::MessageType(bytes.u16(0));
            let more = match kind {
                balloon::MessageType::BALLOON_RESPONSE => bytes.u32(12) & 1,
                balloon::MessageType::UNBALLOON_REQUEST => bytes.u32(8) & 1,
                _ => 0,
            };
            if more != 0 {
                return None;
            }
            (kind.0.into(), &BALLOON)
        }
        guid::KEYBOARD if length >= size_of::<keyboard::ProtocolRequest>() => (bytes.u32(0), &KEYBOARD),
        guid::MOUSE if length >= WITH_HEADER => (bytes.u32(PIPE), &MOUSE),
        guid::VIDEO if length >= WITH_HEADER => (bytes.u32(PIPE), &VIDEO),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::requests::Requests;
    use crate::trace::samples::record;

    /// Returns a packet whose payload begins with these words.
    fn packet(interface: &Guid, from_guest: bool, words: &[u32]) -> What {
        let mut start: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        start.resize(hv_trace::PACKET_START, 0);
        What::Packet {
            channel: ChannelId(3),
            class: guid::INTERFACES.iter().position(|(known, ..)| known == interface).unwrap() as u8 + 1,
            from_guest,
            packet_type: PacketType::DATA_IN_BAND,
            flags: u16::from(from_guest),
            transaction: 0x77,
            length: 40,
            ranges: 0,
            bytes: 0,
            error: 0,
            start: start.try_into().unwrap(),
        }
    }

    /// Returns the packet that completes another.
    fn completion(of: &What) -> What {
        let What::Packet { channel, class, from_guest, transaction, start, .. } = *of else { panic!() };
        What::Packet {
            channel,
            class,
            from_guest: !from_guest,
            packet_type: PacketType::COMPLETION,
            flags: 0,
            transaction,
            length: 0,
            ranges: 0,
            bytes: 0,
            error: 0,
            start,
        }
    }

    /// Returns the requests that are answered: command, and times of request and answer. The records are 10 apart.
    fn answered(records: &[What]) -> Vec<(String, u64, u64)> {
        let mut requests = Requests::default();
        let times = (10..).step_by(10);
        let fed = times.zip(records).filter_map(|(time, what)| requests.feed(&record(0, time, *what)));
        fed.map(|answered| (answered.command, answered.from, answered.to)).collect()
    }

    #[test]
    fn a_message_is_answered_by_a_message_and_not_by_its_packets_completion() {
        type Exchange = (Guid, bool, fn(u32) -> Vec<u32>, u32, u32, &'static str);
        let plain: fn(u32) -> Vec<u32> = |kind| vec![kind];
        let pipe: fn(u32) -> Vec<u32> = |kind| vec![1, 12, kind];
        let exchanges: [Exchange; 14] = [
            (guid::DYNAMIC_MEMORY, true, plain, 1, 2, "DM_VERSION_REQUEST"),
            (guid::DYNAMIC_MEMORY, true, plain, 3, 4, "DM_CAPABILITIES_REPORT"),
            (guid::DYNAMIC_MEMORY, false, plain, 6, 7, "DM_BALLOON_REQUEST"),
            (guid::DYNAMIC_MEMORY, false, plain, 8, 9, "DM_UNBALLOON_REQUEST"),
            (guid::DYNAMIC_MEMORY, false, plain, 10, 11, "DM_MEM_HOT_ADD_REQUEST"),
            (guid::KEYBOARD, true, plain, 1, 2, "SYNTH_KBD_PROTOCOL_REQUEST"),
            (guid::MOUSE, true, pipe, 0, 1, "SYNTH_HID_PROTOCOL_REQUEST"),
            (guid::MOUSE, false, pipe, 2, 3, "SYNTH_HID_INITIAL_DEVICE_INFO"),
            (guid::VIDEO, true, pipe, 1, 2, "SYNTHVID_VERSION_REQUEST"),
            (guid::VIDEO, true, pipe, 3, 4, "SYNTHVID_VRAM_LOCATION"),
            (guid::VIDEO, true, pipe, 5, 6, "SYNTHVID_SITUATION_UPDATE"),
            (guid::VIDEO, true, pipe, 11, 12, "MESSAGE_BIOS_INFO_REQUEST"),
            (guid::VIDEO, true, pipe, 13, 14, "SYNTHVID_RESOLUTION_REQUEST"),
            (guid::VIDEO, true, pipe, 15, 16, "MESSAGE_CAPABILITY_REQUEST"),
        ];
        for (interface, by_guest, form, request, answer, name) in exchanges {
            let asked = packet(&interface, by_guest, &form(request));
            let said = packet(&interface, !by_guest, &form(answer));
            let answered = answered(&[asked, completion(&asked), said]);
            assert_eq!(answered, [(name.to_owned(), 10, 30)]);
            // The other side's packets of these types are neither.
            let asked = packet(&interface, !by_guest, &form(request));
            let said = packet(&interface, by_guest, &form(answer));
            assert_eq!((exchange(&asked), exchange(&said)), (None, None), "{name}");
        }
    }

    #[test]
    fn what_takes_several_messages_lasts_until_the_last() {
        let memory = |from_guest, words: &[u32]| packet(&guid::DYNAMIC_MEMORY, from_guest, words);
        let given_up = [
            memory(false, &[6, 0, 1024]),
            memory(true, &[7, 0, 0, 1 << 1 | 1]),
            memory(true, &[7, 0, 0, 1 << 1]),
        ];
        assert_eq!(answered(&given_up), [("DM_BALLOON_REQUEST".to_owned(), 10, 30)]);
        let given_back = [memory(false, &[8, 0, 1, 1]), memory(false, &[8, 0, 0, 1]), memory(true, &[9, 0])];
        assert_eq!(answered(&given_back), [("DM_UNBALLOON_REQUEST".to_owned(), 20, 30)]);
    }

    #[test]
    fn reports_and_events_are_no_requests() {
        for (interface, from_guest, words) in [
            (guid::DYNAMIC_MEMORY, true, vec![5]),
            (guid::DYNAMIC_MEMORY, false, vec![12]),
            (guid::KEYBOARD, false, vec![3]),
            (guid::MOUSE, false, vec![1, 12, 4]),
            (guid::VIDEO, true, vec![1, 12, 10]),
            (guid::SCSI, true, vec![1]),
        ] {
            assert_eq!(exchange(&packet(&interface, from_guest, &words)), None);
        }
    }
}
