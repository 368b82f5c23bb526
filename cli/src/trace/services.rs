//! Decodes the messages of integration services. A message is a packet of two records, and what the second means
//! depends on the type, which is in the first.

use std::collections::HashMap;

use hv_tlfs::vmbus::PacketType;
use hv_tlfs::vmbus::ic::{Header, MessageType, Negotiate, PipeHeader, Version};
use hv_trace::{PACKET_START, Record, What};

use super::decode::{Parts, hex, number, text};
use super::packets::{Bytes, class_name, is_service};
use crate::report::names;

/// Offset of a message's header.
const HEADER: usize = size_of::<PipeHeader>();
/// Offset of its body.
const BODY: usize = HEADER + size_of::<Header>();

/// A message of a service whose second record is the next of its VP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Its type.
    pub(super) kind: MessageType,
    /// Bytes of the packet's payload.
    length: usize,
}

impl Message {
    /// Returns the message in a packet; `None` if the packet has no whole header of one.
    pub(super) fn of(what: &What) -> Option<Self> {
        let What::Packet { class, packet_type, length, ref start, .. } = *what else { return None };
        let length = length as usize;
        if !is_service(class) || packet_type != PacketType::DATA_IN_BAND || length < BODY {
            return None;
        }
        let kind = MessageType(Bytes { bytes: start, from: 0 }.u16(HEADER + 4));
        Some(Self { kind, length })
    }
}

/// The messages whose second record is still to come, by VP.
#[derive(Debug, Default)]
pub(super) struct Messages(HashMap<u32, Message>);

impl Messages {
    /// Takes the next record, and returns the message that it continues.
    pub(super) fn feed(&mut self, record: &Record) -> Option<Message> {
        let before = self.0.remove(&record.vp);
        if let Some(message) = Message::of(&record.what) {
            self.0.insert(record.vp, message);
        }
        before.filter(|_| matches!(record.what, What::PacketData { .. }))
    }
}

/// Decodes the second part of a message: the end of its header, and its body. Without the message's first record, its
/// bytes are all that is known.
pub(super) fn rest(class: u8, message: Option<Message>, rest: &Bytes<'_>) -> Parts {
    let payload = |bytes: usize| text("payload", rest.hex(PACKET_START, bytes));
    let Some(Message { kind, length }) = message else {
        return (class_name(class), vec![payload(rest.bytes.len())]);
    };
    let there = length.saturating_sub(PACKET_START).min(rest.bytes.len());
    let rest = &Bytes { bytes: &rest.bytes[..there], from: PACKET_START };
    let mut fields = vec![
        text("status", names::name("ic-status", rest.u32(HEADER + 12).into())),
        number("transaction", rest.u8(HEADER + 16)),
        hex("flags", rest.u8(HEADER + 17)),
    ];
    let word = |at: usize| rest.u32(BODY + at);
    let name = |field, kind, value: u32| text(field, names::name(kind, value.into()));
    match kind {
        MessageType::NEGOTIATE => {
            let [frameworks, messages] = [rest.u16(BODY), rest.u16(BODY + 2)].map(usize::from);
            let first = BODY + size_of::<Negotiate>();
            fields.extend([
                text("framework-versions", versions(rest, first, frameworks)),
                text("message-versions", versions(rest, first + frameworks * size_of::<Version>(), messages)),
            ]);
        }
        MessageType::HEARTBEAT => fields.push(number("number", rest.u64(BODY))),
        MessageType::SHUTDOWN => fields.extend([
            hex("reason", word(0)),
            number("timeout", word(4)),
            hex("shutdown-flags", word(8)),
        ]),
        MessageType::TIME_SYNC => fields.push(number("host-time", rest.u64(BODY))),
        MessageType::KVP_EXCHANGE => fields.extend([
            name("operation", "kvp-operation", rest.u8(BODY).into()),
            name("pool", "kvp-pool", rest.u8(BODY + 1).into()),
        ]),
        MessageType::FILE_COPY => fields.push(name("operation", "fcopy-operation", word(0))),
        MessageType::VSS => fields.push(name("operation", "vss-operation", rest.u8(BODY).into())),
        _ => {}
    }
    fields.push(payload(there));
    (class_name(class), fields)
}

/// Lists versions, as far as the record has them.
fn versions(rest: &Bytes<'_>, first: usize, count: usize) -> String {
    if count == 0 {
        return "none".to_owned();
    }
    let end = rest.from + rest.bytes.len();
    let places = (first..).step_by(size_of::<Version>()).take(count);
    let known = places.take_while(|at| at + size_of::<Version>() <= end);
    let mut list: Vec<String> = known.map(|at| format!("{}.{}", rest.u16(at), rest.u16(at + 2))).collect();
    if list.len() < count {
        list.push("..".to_owned());
    }
    list.join(",")
}

#[cfg(test)]
mod tests {
    use hv_tlfs::vmbus::{ChannelId, Guid, guid};
    use hv_trace::PACKET_DATA;

    use super::*;
    use crate::trace::decode;
    use crate::trace::samples::record;

    /// Returns the records of a message of this type with this body, in a packet of `length` bytes.
    fn records(interface: &Guid, kind: MessageType, body: &[u8], length: usize) -> [What; 2] {
        let class = guid::INTERFACES.iter().position(|(known, ..)| known == interface).unwrap() as u8 + 1;
        let mut bytes = vec![0; BODY];
        (bytes[0], bytes[12], bytes[24], bytes[25]) = (1, kind.0 as u8, 9, 3);
        bytes.extend(body);
        bytes.resize(PACKET_START + PACKET_DATA, 0xee);
        let packet = What::Packet {
            channel: ChannelId(3),
            class,
            from_guest: false,
            packet_type: PacketType::DATA_IN_BAND,
            flags: 0,
            transaction: 0,
            length: length as u32,
            ranges: 0,
            bytes: 0,
            error: 0,
            start: bytes[..PACKET_START].try_into().unwrap(),
        };
        let rest = bytes[PACKET_START..].try_into().unwrap();
        [packet, What::PacketData { class, from_guest: false, bytes: rest }]
    }

    /// Returns the second record in words, without what every message has.
    fn words(interface: &Guid, kind: MessageType, body: &[u8], length: usize) -> String {
        let [first, second] = records(interface, kind, body, length);
        let mut messages = Messages::default();
        assert_eq!(messages.feed(&record(1, 5, first)), None);
        // Another VP's record is between them.
        assert_eq!(messages.feed(&record(0, 6, What::Enter {})), None);
        let message = messages.feed(&record(1, 7, second));
        assert_eq!(messages.feed(&record(1, 8, second)), None);
        let decoded = decode::decode_part(&second, message);
        let line = decoded.fields.into_iter().fold(decoded.name, |line, (name, value)| {
            if name == "payload" { line } else { format!("{line} {name}={value}") }
        });
        line.replace(" status=HV_S_OK transaction=9 flags=0x3", "")
    }

    fn numbers(numbers: &[u16]) -> Vec<u8> {
        numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    #[test]
    fn a_negotiation_shows_versions_and_not_the_services_request() {
        let offer = numbers(&[2, 3, 0, 0, 1, 0, 3, 0, 3, 0, 4, 0, 5, 0]);
        for (interface, name) in [
            (guid::VSS, "vss"),
            (guid::KVP, "kvp"),
            (guid::SHUTDOWN, "shutdown"),
            (guid::TIME_SYNC, "time"),
            (guid::FILE_COPY, "fcopy"),
            (guid::HEARTBEAT, "heartbeat"),
        ] {
            assert_eq!(
                words(&interface, MessageType::NEGOTIATE, &offer, 56),
                format!("{name} framework-versions=1.0,3.0 message-versions=3.0,4.0,5.0")
            );
        }
        let none = words(&guid::VSS, MessageType::NEGOTIATE, &numbers(&[1, 0, 0, 0, 3, 0]), 40);
        assert_eq!(none, "vss framework-versions=3.0 message-versions=none");
    }

    #[test]
    fn a_negotiation_shows_no_version_beyond_its_packet_or_record() {
        let many = numbers(&[7, 2, 0, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0]);
        let text = words(&guid::KVP, MessageType::NEGOTIATE, &many, 72);
        assert_eq!(text, "kvp framework-versions=1.0,2.0,3.0,4.0,5.0,6.0,.. message-versions=..");
        let short = words(&guid::KVP, MessageType::NEGOTIATE, &numbers(&[1, 1, 0, 0, 3, 0]), 40);
        assert_eq!(short, "kvp framework-versions=3.0 message-versions=..");
        let counts = numbers(&[u16::MAX, u16::MAX]);
        let text = words(&guid::KVP, MessageType::NEGOTIATE, &counts, 36);
        assert_eq!(text, "kvp framework-versions=.. message-versions=..");
    }

    #[test]
    fn each_type_shows_its_own_body() {
        let text = |interface, kind, body: &[u8]| words(interface, kind, body, 100);
        assert_eq!(text(&guid::VSS, MessageType::VSS, &[3; 8]), "vss operation=VSS_OP_GET_DM_INFO");
        assert_eq!(
            text(&guid::KVP, MessageType::KVP_EXCHANGE, &[2, 1]),
            "kvp operation=KVP_OP_DELETE pool=KVP_POOL_GUEST"
        );
        assert_eq!(
            text(&guid::SHUTDOWN, MessageType::SHUTDOWN, &[2, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0]),
            "shutdown reason=0x2 timeout=5 shutdown-flags=0x1"
        );
        let time = 7_u64.to_le_bytes();
        assert_eq!(text(&guid::TIME_SYNC, MessageType::TIME_SYNC, &time), "time host-time=7");
        // A type that is not the service's has no body that is known.
        assert_eq!(text(&guid::VSS, MessageType(77), &[3; 8]), "vss");
        let [_, second] = records(&guid::VSS, MessageType::VSS, &[3; 8], 100);
        let alone = decode::decode(&second).fields;
        assert_eq!(alone.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["payload"]);
    }
}
