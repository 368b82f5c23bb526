use hv_tlfs::vmbus::guid;
use hv_trace::{PACKET_START, Record};

use super::*;
use crate::trace::decode::{self, Decoded};
use crate::trace::flows::Flows;
use crate::trace::requests::Requests;
use crate::trace::samples::record;

fn words(what: &What) -> String {
    let Decoded { name, fields, .. } = decode::decode(what);
    fields.into_iter().fold(name, |line, (name, value)| format!("{line} {name}={value}"))
}

fn class() -> u8 {
    guid::INTERFACES.iter().position(|(known, ..)| *known == guid::NETWORK).unwrap() as u8 + 1
}

fn bytes<const COUNT: usize>(words: &[u32]) -> [u8; COUNT] {
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.resize(COUNT, 0);
    bytes.try_into().unwrap()
}

fn packet(from_guest: bool, packet_type: PacketType, words: &[u32]) -> What {
    What::Packet {
        channel: ChannelId(3),
        class: class(),
        from_guest,
        packet_type,
        flags: u16::from(packet_type != PacketType::COMPLETION),
        transaction: 0x77,
        length: 40,
        ranges: 0,
        bytes: 0,
        error: 0,
        start: bytes::<40>(words)[..PACKET_START].try_into().unwrap(),
    }
}

fn control(from_guest: bool, words: &[u32]) -> What {
    What::Contents {
        channel: ChannelId(3),
        class: class(),
        from_guest,
        part: part::CONTROL,
        shown: 28,
        transaction: if from_guest { 0x77 } else { 0 },
        length: words.len() as u32 * 4,
        start: bytes(words),
    }
}

const QUERY: [u32; 7] = [4, 28, 2, 0x0001_0107, 0, 20, 0];
const ANSWER: [u32; 7] = [0x8000_0004, 28, 2, 0, 4, 16, 100_000_000];

#[test]
fn packets_have_the_names_and_values_of_their_messages() {
    let inband = PacketType::DATA_IN_BAND;
    let head = "channel=3 class=network from=guest type=VM_PKT_DATA_INBAND id=0x77 bytes=40 flags=0x1";
    let of = |words_of: &[u32]| words(&packet(true, inband, words_of));
    assert_eq!(
        of(&[1, 0x6_0001, 0x6_0001]),
        format!("NVSP_MSG_TYPE_INIT {head} version=NVSP_PROTOCOL_VERSION_61")
    );
    assert_eq!(
        of(&[101, 0x1f, 0xcafe]),
        format!("NVSP_MSG1_TYPE_SEND_RECV_BUF {head} gpadl=0x1f buffer=0xcafe")
    );
    let data = of(&[107, 0, 5, 90]);
    assert_eq!(
        data,
        format!("NVSP_MSG1_TYPE_SEND_RNDIS_PKT {head} carries=frames section=5 section-bytes=90")
    );
    assert!(of(&[107, 1, u32::MAX, 0]).ends_with("carries=control"));
    let answer = words(&packet(false, PacketType::COMPLETION, &[133, 1, 3]));
    assert!(answer.ends_with("status=NVSP_STAT_SUCCESS count=3"), "{answer}");
    let refused = words(&packet(false, PacketType::COMPLETION, &[2, 2, 0x22, 2]));
    assert!(refused.ends_with("status=NVSP_STAT_FAIL"), "{refused}");
}

#[test]
fn control_messages_have_their_requests_objects_and_statuses() {
    assert_eq!(
        words(&control(true, &QUERY)),
        "RNDIS_MSG_QUERY channel=3 class=network from=guest id=0x77 bytes=28 length=28 request=2 \
         object=RNDIS_OID_GEN_LINK_SPEED information-bytes=0"
    );
    assert_eq!(
        words(&control(false, &ANSWER)),
        "RNDIS_MSG_QUERY_C channel=3 class=network from=host bytes=28 length=28 request=2 \
         status=RNDIS_STATUS_SUCCESS information-bytes=4"
    );
    let told = words(&control(false, &[7, 20, 0x4001_000c, 0, 0]));
    assert!(
        told.starts_with("RNDIS_MSG_INDICATE ") && told.ends_with("status=RNDIS_STATUS_MEDIA_DISCONNECT")
    );
}

#[test]
fn each_piece_of_information_about_a_frame_is_shown_once() {
    let message = [
        [1, 1092, 84, 1000, 0, 0, 0, 36, 48, 0, 0].as_slice(),
        &[16, 8, 12, 0xabcd],
        &[16, 6, 12, 7 << 4],
        &[16, 2, 12, 1460 | 1 << 30],
    ];
    let all = bytes::<104>(&message.concat());
    let rest = |at: usize| What::ContentsData {
        class: class(),
        from_guest: true,
        part: part::MESSAGE,
        at: at as u8,
        bytes: all[at..at + CONTENTS_DATA].try_into().unwrap(),
    };
    assert_eq!(words(&rest(CONTENTS_START)), "frame information hash=0xabcd");
    let second = words(&rest(CONTENTS_START + CONTENTS_STEP));
    assert_eq!(second, "frame information vlan=7 segment-bytes=1460");
    // A message without any, and other contents, are bytes.
    let plain = What::ContentsData {
        class: class(),
        from_guest: true,
        part: part::MESSAGE,
        at: CONTENTS_START as u8,
        bytes: [0; CONTENTS_DATA],
    };
    assert_eq!(words(&plain), format!("network payload={}", "00".repeat(CONTENTS_DATA)));
}

fn frame(ether_type: u16, protocol: u8, flags: u8, ports: [u16; 2], source: [u8; 16]) -> String {
    words(&What::Frame {
        channel: 3,
        from_guest: true,
        length: 74,
        ether_type,
        protocol,
        flags,
        ports,
        source,
        destination: source,
    })
}

#[test]
fn frames_are_named_by_their_protocols() {
    let mut four = [0; 16];
    four[..4].copy_from_slice(&[10, 0, 2, 15]);
    assert_eq!(
        frame(IPV4, TCP, 0x12, [80, 4000], four),
        "TCP channel=3 from=guest bytes=74 source=10.0.2.15:80 destination=10.0.2.15:4000 flags=SYN+ACK"
    );
    let mut six = [0; 16];
    (six[0], six[1], six[15]) = (0xfe, 0x80, 1);
    assert_eq!(
        frame(IPV6, UDP, 0, [53, 54], six),
        "UDP channel=3 from=guest bytes=74 source=[fe80::1]:53 destination=[fe80::1]:54"
    );
    assert_eq!(
        frame(IPV4, ICMP, 8, [0; 2], four),
        "ICMP channel=3 from=guest bytes=74 source=10.0.2.15 destination=10.0.2.15 type=8"
    );
    assert!(frame(ARP, 1, 0, [0; 2], four).starts_with("ARP request "));
    assert_eq!(frame(0x88cc, 0, 0, [0; 2], four), "EtherType 0x88cc channel=3 from=guest bytes=74");
}

#[test]
fn a_control_message_leads_to_its_answer_and_its_packet_to_its_completion() {
    let inband = PacketType::DATA_IN_BAND;
    let story = [
        (10, packet(true, inband, &[107, 1, 0, 28])),
        (11, control(true, &QUERY)),
        (12, control(false, &ANSWER)),
        (13, packet(false, PacketType::COMPLETION, &[108, 1])),
    ];
    let (mut requests, mut flows) = (Requests::default(), Flows::default());
    let mut ends = Vec::new();
    let mut ended = Vec::new();
    for (time, what) in story {
        let record: Record = record(0, time, what);
        ended.extend(requests.feed(&record).map(|answered| (answered.command, answered.from, answered.to)));
        let flow = flows.feed(&record);
        ends.push((flow.through, flow.end));
    }
    assert_eq!(
        ended,
        [
            ("RNDIS_MSG_QUERY RNDIS_OID_GEN_LINK_SPEED".to_owned(), 11, 12),
            ("NVSP_MSG1_TYPE_SEND_RNDIS_PKT".to_owned(), 10, 13)
        ]
    );
    assert_eq!(ends, [(vec![1], vec![]), (vec![2], vec![]), (vec![], vec![2]), (vec![], vec![1])]);
}
