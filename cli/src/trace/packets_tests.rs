use hv_tlfs::vmbus::storage::{Packet, PacketHeader, ScsiRequest};
use hv_tlfs::vmbus::{ChannelId, NtStatus};
use hv_trace::{PACKET_DATA, Record};
use zerocopy::{FromZeros, IntoBytes};

use super::*;
use crate::trace::decode::{self, Decoded};
use crate::trace::flows::Flows;
use crate::trace::requests::Requests;
use crate::trace::samples::record;
use crate::trace::services::Messages;

fn words(what: &What) -> String {
    in_words(decode::decode(what))
}

/// Returns both records of a packet in words.
fn pair(records: &[What; 2]) -> [String; 2] {
    let mut messages = Messages::default();
    records.map(|what| in_words(decode::decode_part(&what, messages.feed(&record(0, 0, what)))))
}

fn in_words(Decoded { name, fields, .. }: Decoded) -> String {
    fields.into_iter().fold(name, |line, (name, value)| format!("{line} {name}={value}"))
}

fn number_of(interface: &Guid) -> u8 {
    if socket::port(*interface).is_some() {
        return SOCKET_CLASS;
    }
    guid::INTERFACES.iter().position(|(known, ..)| known == interface).unwrap() as u8 + 1
}

#[test]
fn sockets_packets_are_bytes_of_a_stream_or_its_end() {
    let interface = socket::service(5000);
    let packet = |bytes: u32| {
        let payload = [1_u32.to_le_bytes(), bytes.to_le_bytes(), *b"data"].concat();
        words(&records(&interface, true, PacketType::DATA_IN_BAND, &payload)[0])
    };
    assert!(packet(3).starts_with("stream data channel=3 class=socket from=guest"), "{}", packet(3));
    assert!(packet(3).ends_with("stream-bytes=3"), "{}", packet(3));
    assert!(packet(0).starts_with("stream end"), "{}", packet(0));
    assert_eq!(class(&interface), "socket of port 5000");
}

/// Returns the records of a packet.
fn records(interface: &Guid, from_guest: bool, packet_type: PacketType, payload: &[u8]) -> [What; 2] {
    let mut bytes = payload.to_vec();
    bytes.resize(64, 0);
    let class = number_of(interface);
    let packet = What::Packet {
        channel: ChannelId(3),
        class,
        from_guest,
        packet_type,
        flags: u16::from(from_guest && packet_type != PacketType::DATA_IN_BAND),
        transaction: 0x77,
        length: payload.len() as u32,
        ranges: u32::from(packet_type == PacketType::DATA_USING_GPA_DIRECT),
        bytes: if packet_type == PacketType::DATA_USING_GPA_DIRECT { 4096 } else { 0 },
        error: 0,
        start: bytes[..PACKET_START].try_into().unwrap(),
    };
    let rest = bytes[PACKET_START..][..PACKET_DATA].try_into().unwrap();
    [packet, What::PacketData { class, from_guest, bytes: rest }]
}

fn storage(operation: Operation, srb: &ScsiRequest) -> Packet {
    let mut packet = Packet::new_zeroed();
    packet.header = PacketHeader { operation, flags: 1, status: NtStatus::SUCCESS };
    packet.body.copy_from_slice(srb.as_bytes());
    packet
}

/// Returns the records of READ_10 of 8 blocks, and of its answer with sense.
fn read() -> [[What; 2]; 2] {
    let mut srb = ScsiRequest::new_zeroed();
    (srb.length, srb.cdb_length, srb.sense_length, srb.direction) = (52, 10, 20, 1);
    (srb.transfer_length, srb.lun) = (4096, 2);
    (srb.queue_tag, srb.queue_action, srb.srb_flags, srb.timeout) = (0xff, 0x20, 0x40, 180);
    srb.cdb_or_sense[..10].copy_from_slice(&[0x28, 0, 0, 1, 0, 0, 0, 0, 8, 0]);
    let request = storage(Operation::EXECUTE_SRB, &srb);
    (srb.srb_status, srb.scsi_status, srb.transfer_length) = (0x84, 2, 0);
    srb.cdb_or_sense = [0; 20];
    srb.cdb_or_sense[..14].copy_from_slice(&[0x70, 0, 3, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x11, 0]);
    let answer = storage(Operation::COMPLETE_IO, &srb);
    let direct = PacketType::DATA_USING_GPA_DIRECT;
    [
        records(&guid::SCSI, true, direct, request.as_bytes()),
        records(&guid::SCSI, false, PacketType::COMPLETION, answer.as_bytes()),
    ]
}

#[test]
fn a_request_shows_its_command_and_its_answer_the_sense() {
    let [request, answer] = read();
    assert_eq!(
        words(&request[0]),
        "VSTOR_OPERATION_EXECUTE_SRB channel=3 class=storage from=guest type=VM_PKT_DATA_USING_GPA_DIRECT \
         id=0x77 bytes=64 flags=0x1 ranges=1 data=4096"
    );
    assert_eq!(
        words(&request[1]),
        "READ_10 path=0 target=0 lun=2 transfer=4096 direction=READ_TYPE lba=65536 blocks=8 \
         cdb=28000001000000000800 sense-room=20 queue-tag=255 queue-action=32 srb-flags=0x40 timeout=180"
    );
    let first = words(&answer[0]);
    assert!(first.starts_with("VSTOR_OPERATION_COMPLETE_IO channel=3"), "{first}");
    assert!(
        first.ends_with("srb-status=SRB_STATUS_ERROR scsi-status=SAM_STAT_CHECK_CONDITION sense=1"),
        "{first}"
    );
    assert_eq!(words(&answer[1]), "answer path=0 target=0 lun=2 transfer=0 sense=\"MEDIUM_ERROR 11/00\"");
}

#[test]
fn a_service_shows_its_message() {
    let mut message = vec![1, 0, 0, 0, 60, 0, 0, 0];
    message.extend([3, 0, 0, 0, 1, 0, 3, 0, 0, 0, 40, 0, 0, 0, 0, 0, 9, 5, 0, 0]);
    message.extend(6_u64.to_le_bytes());
    message.extend([0; 32]);
    let [first, text] = pair(&records(&guid::HEARTBEAT, true, PacketType::DATA_IN_BAND, &message));
    assert!(first.starts_with("ICMSGTYPE_HEARTBEAT channel=3 class=heartbeat from=guest"));
    assert!(text.starts_with("heartbeat status=HV_S_OK transaction=9 flags=0x5 number=6 payload="), "{text}");
}

#[test]
fn a_keyboard_shows_its_keys() {
    let say = |from_guest: bool, bytes: &[u8]| {
        words(&records(&guid::KEYBOARD, from_guest, PacketType::DATA_IN_BAND, bytes)[0])
    };
    let request = say(true, &[1, 0, 0, 0, 0, 0, 1, 0]);
    assert!(
        request.starts_with("SYNTH_KBD_PROTOCOL_REQUEST channel=3 class=keyboard from=guest"),
        "{request}"
    );
    assert!(request.ends_with("version=0x10000"), "{request}");
    let response = say(false, &[2, 0, 0, 0, 1, 0, 0, 0]);
    assert!(
        response.starts_with("SYNTH_KBD_PROTOCOL_RESPONSE") && response.ends_with("accepted=1"),
        "{response}"
    );
    let key = say(false, &[3, 0, 0, 0, 0x1e, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    assert!(key.starts_with("SYNTH_KBD_EVENT") && key.ends_with("code=0x1e key-flags=0x2"), "{key}");
    assert!(say(true, &[]).starts_with("VM_PKT_DATA_INBAND"));
}

#[test]
fn a_mouse_shows_its_messages() {
    let report = [1, 0, 0, 0, 14, 0, 0, 0, 4, 0, 0, 0, 6, 0, 0, 0, 2, 1, 0, 2, 0, 0, 0, 0];
    let text = words(&records(&guid::MOUSE, false, PacketType::DATA_IN_BAND, &report)[0]);
    assert!(text.starts_with("SYNTH_HID_INPUT_REPORT channel=3 class=mouse from=host"), "{text}");
    assert!(text.ends_with("buttons=2"), "{text}");
}

#[test]
fn a_screen_shows_its_messages() {
    let say = |from_guest: bool, kind: u32, body: &[u8]| {
        let size = 8 + body.len() as u32;
        let head = [1, size, kind, size].map(u32::to_le_bytes).concat();
        words_of(&guid::VIDEO, from_guest, &[&head[..], body].concat())
    };
    let request = say(true, 1, &[3, 0, 5, 0]);
    assert!(request.starts_with("SYNTHVID_VERSION_REQUEST channel=3 class=video from=guest"), "{request}");
    assert!(say(false, 9, &[1, 0, 0, 1]).starts_with("SYNTHVID_FEATURE_CHANGE"));
    assert!(say(true, 15, &[]).starts_with("MESSAGE_CAPABILITY_REQUEST"));
}

#[test]
fn dynamic_memory_shows_its_pages() {
    let say = |from_guest: bool, kind: u16, words: &[u64]| {
        let head = [kind, 8 + words.len() as u16 * 8, 1, 0].map(u16::to_le_bytes).concat();
        let bytes = [head, words.iter().flat_map(|word| word.to_le_bytes()).collect()].concat();
        words_of(&guid::DYNAMIC_MEMORY, from_guest, &bytes)
    };
    let request = say(true, 1, &[0x2_0000]);
    assert!(request.starts_with("DM_VERSION_REQUEST channel=3 class=balloon from=guest"), "{request}");
    assert!(request.ends_with("version=DYNMEM_PROTOCOL_VERSION_3"), "{request}");
    assert!(say(false, 2, &[1]).ends_with("accepted=1"));
    assert!(say(true, 5, &[7, 9, 0, 0, 0]).ends_with("available=7"));
    assert!(say(false, 6, &[512]).ends_with("pages=512"));
    let answer = say(true, 7, &[2 << 33 | 1 << 32, 512 << 40 | 0x4_0000, 1 << 40]);
    assert!(answer.ends_with("more=1 ranges=2"), "{answer}");
    let given = say(false, 8, &[1 << 32, 3 << 40 | 5]);
    assert!(given.starts_with("DM_UNBALLOON_REQUEST") && given.ends_with("more=0 ranges=1"), "{given}");
}

fn words_of(interface: &Guid, from_guest: bool, bytes: &[u8]) -> String {
    words(&records(interface, from_guest, PacketType::DATA_IN_BAND, bytes)[0])
}

#[test]
fn a_file_copy_shows_its_operation() {
    let mut bytes = vec![0; 28 + 36];
    (bytes[0], bytes[4], bytes[12], bytes[28]) = (1, 56, 7, 2);
    let [first, rest] = pair(&records(&guid::FILE_COPY, false, PacketType::DATA_IN_BAND, &bytes));
    assert!(first.starts_with("ICMSGTYPE_FCOPY channel=3 class=fcopy from=host"));
    assert!(rest.contains("operation=COMPLETE_FCOPY"), "{rest}");
}

#[test]
fn what_has_no_known_class_is_shown_as_bytes() {
    let [first, rest] = records(&guid::PCIE, true, PacketType::DATA_IN_BAND, &[7; 64]);
    assert!(words(&first).starts_with("VM_PKT_DATA_INBAND channel=3 class=pci"));
    assert!(words(&rest).ends_with(&"07".repeat(PACKET_DATA)));
}

#[test]
fn a_request_leads_to_its_answer() {
    let [request, answer] = read();
    let (mut requests, mut flows) = (Requests::default(), Flows::default());
    let all = [(0, 10, request[0]), (0, 11, request[1]), (1, 40, answer[0]), (1, 41, answer[1])];
    let mut ended = Vec::new();
    let mut ends = Vec::new();
    for (vp, time, what) in all {
        let record: Record = record(vp, time, what);
        ended.extend(requests.feed(&record));
        let flow = flows.feed(&record);
        ends.push((flow.through, flow.end));
    }
    let [answered] = &ended[..] else { panic!("{ended:?}") };
    assert_eq!((&*answered.device, &*answered.command), ("storage", "READ_10"));
    assert_eq!((answered.from, answered.to), (10, 40));
    assert_eq!(ends, [(vec![1], vec![]), (vec![], vec![]), (vec![], vec![1]), (vec![], vec![])]);
    // The same answer again belongs to nothing.
    assert_eq!(requests.feed(&record(1, 50, answer[0])), None);
}
