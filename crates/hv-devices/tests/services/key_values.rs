//! Key-value pairs.

use crate::guest::{Guest, Request, version, wide};
use hv_devices::Kvp;
use hv_devices::ic::{Outcome, Refused};
use hv_devices::kvp::{Answer, Ask, OFFER};
use hv_tlfs::vmbus::ic::{MessageType, Status};
use hv_tlfs::vmbus::kvp::{Enumerate, Header, IpMessage, Operation, Pool, Value};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

fn guest() -> Guest<Kvp> {
    Guest::new(Kvp::new(), OFFER, version(3, 0), version(4, 0))
}

fn ask(guest: &Guest<Kvp>, what: &Ask<'_>) -> Result<(), Refused> {
    guest.with(|device, io| device.ask(io, what))
}

/// Takes the request that was sent: its header and what follows.
fn asked(guest: &Guest<Kvp>) -> (Request, Header, Vec<u8>) {
    let request = guest.receive().unwrap();
    assert_eq!(request.header.message_type, MessageType::KVP_EXCHANGE);
    let (header, body) = Header::read_from_prefix(request.body()).unwrap();
    (request, header, body.to_vec())
}

/// Takes the outcome of the request, with its key and value.
fn outcome(guest: &Guest<Kvp>) -> (Outcome, Vec<u8>, Vec<u8>) {
    guest.with(|device, _| {
        let (outcome, answer) = device.outcome().expect("an outcome");
        let (key, value) = match answer {
            Answer::Pair { key, value, .. } => (key.to_vec(), value.to_vec()),
            Answer::Nothing => (Vec::new(), Vec::new()),
            Answer::Addresses(addresses) => (addresses.adapter.to_vec(), addresses.addresses.to_vec()),
        };
        device.done();
        (outcome, key, value)
    })
}

/// Encodes a text without its terminating zero.
fn bare(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

#[test]
fn a_pair_is_set_and_got() {
    let guest = guest();
    let (key, value) = (wide("Zustand"), wide("läuft"));
    ask(&guest, &Ask::Set { pool: Pool::EXTERNAL, key: &key, value: &value }).unwrap();
    let (request, header, body) = asked(&guest);
    assert_eq!((header.operation, header.pool), (Operation::SET, Pool::EXTERNAL));
    let pair = Value::read_from_bytes(&body).unwrap();
    assert_eq!(
        (pair.value_type, pair.key_size as usize, pair.value_size as usize),
        (1, key.len(), value.len())
    );
    assert_eq!((&pair.key[..key.len()], &pair.value[..value.len()]), (&key[..], &value[..]));
    guest.answer(&request, Status::SUCCESS, request.body());
    assert_eq!(outcome(&guest), (Outcome::Answered(Status::SUCCESS), vec![], vec![]));

    ask(&guest, &Ask::Get { pool: Pool::AUTO, key: &key }).unwrap();
    let (request, header, _) = asked(&guest);
    assert_eq!((header.operation, header.pool), (Operation::GET, Pool::AUTO));
    let pair = Value::text(&key, &value).unwrap();
    guest.answer(&request, Status::SUCCESS, &[header.as_bytes(), pair.as_bytes()].concat());
    assert_eq!(outcome(&guest), (Outcome::Answered(Status::SUCCESS), bare("Zustand"), bare("läuft")));
}

#[test]
fn a_list_ends_with_its_status() {
    let guest = guest();
    ask(&guest, &Ask::Enumerate { pool: Pool::GUEST, index: 7 }).unwrap();
    let (request, header, body) = asked(&guest);
    let mut body = Enumerate::read_from_bytes(&body).unwrap();
    assert_eq!((header.operation, body.index), (Operation::ENUMERATE, 7));
    body.data = Value::text(&wide("k"), &wide("v")).unwrap();
    guest.answer(&request, Status::SUCCESS, &[header.as_bytes(), body.as_bytes()].concat());
    assert_eq!(outcome(&guest), (Outcome::Answered(Status::SUCCESS), bare("k"), bare("v")));
    ask(&guest, &Ask::Enumerate { pool: Pool::GUEST, index: 8 }).unwrap();
    let (request, ..) = asked(&guest);
    guest.answer(&request, Status::CONTINUE, request.body());
    assert_eq!(outcome(&guest), (Outcome::Answered(Status::CONTINUE), vec![], vec![]));
}

#[test]
fn keys_are_deleted_and_addresses_asked_for() {
    let guest = guest();
    let key = wide("gone");
    ask(&guest, &Ask::Delete { pool: Pool::EXTERNAL, key: &key }).unwrap();
    let (request, header, body) = asked(&guest);
    assert_eq!((header.operation, body.len()), (Operation::DELETE, 516));
    assert_eq!((&body[..4], &body[4..4 + key.len()]), (&(key.len() as u32).to_le_bytes()[..], &key[..]));
    guest.answer(&request, Status::SUCCESS, request.body());
    outcome(&guest);

    let adapter = wide("{f8615163}");
    ask(&guest, &Ask::Addresses { adapter: &adapter }).unwrap();
    let request = guest.receive().unwrap();
    let mut message = IpMessage::read_from_bytes(request.body()).unwrap();
    assert_eq!(message.operation, Operation::GET_IP_INFO);
    assert_eq!(message.value.adapter[..adapter.len()], adapter);
    message.value.addresses[..4].copy_from_slice(b"1\x002\0");
    guest.answer(&request, Status::SUCCESS, message.as_bytes());
    let (_, adapter_back, addresses) = outcome(&guest);
    assert_eq!(adapter_back[..adapter.len()], adapter);
    assert_eq!(addresses[..4], *b"1\x002\0");
}

#[test]
fn what_the_host_says_has_the_form_of_the_protocol() {
    let guest = guest();
    let (longest, longer) = (wide(&"k".repeat(255)), wide(&"k".repeat(256)));
    let (value, too_much) = (wide(&"v".repeat(1023)), wide(&"v".repeat(1024)));
    let bad: [(&[u8], &[u8]); 6] = [
        (&[], &value),
        (b"k\0", &value),
        (b"k\0\0", &value),
        (&longer, &value),
        (&longest, &too_much),
        (&longest, b"odd\0\0"),
    ];
    for (key, value) in bad {
        assert_eq!(ask(&guest, &Ask::Set { pool: Pool::EXTERNAL, key, value }), Err(Refused::Invalid));
    }
    assert_eq!(ask(&guest, &Ask::Delete { pool: Pool::EXTERNAL, key: &longer }), Err(Refused::Invalid));
    assert_eq!(ask(&guest, &Ask::Addresses { adapter: &longest }), Err(Refused::Invalid));
    assert!(guest.receive().is_none());
    ask(&guest, &Ask::Set { pool: Pool::EXTERNAL, key: &longest, value: &value }).unwrap();
}

#[test]
fn a_hostile_answer_is_malformed_and_nothing_worse() {
    let good = Value::text(&wide("key"), &wide("value")).unwrap();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut pair = good;
        change(&mut pair);
        pair.as_bytes().to_vec()
    };
    let header = Header { operation: Operation::GET, pool: Pool::GUEST, reserved: [0; 2] };
    let other = Header { operation: Operation::SET, ..header };
    let whole = good.as_bytes().to_vec();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", vec![]),
        ("a header alone", header.as_bytes().to_vec()),
        ("another operation", [other.as_bytes(), &whole].concat()),
        ("a pair cut short", [header.as_bytes(), &whole[..whole.len() - 1]].concat()),
        ("a key too long", [header.as_bytes(), &with(&|pair| pair.key_size = 513)].concat()),
        ("a key longer than all", [header.as_bytes(), &with(&|pair| pair.key_size = u32::MAX)].concat()),
        ("a value too long", [header.as_bytes(), &with(&|pair| pair.value_size = 2049)].concat()),
        ("a value longer than all", [header.as_bytes(), &with(&|pair| pair.value_size = u32::MAX)].concat()),
        ("half a character of key", [header.as_bytes(), &with(&|pair| pair.key_size = 7)].concat()),
        ("half a character of value", [header.as_bytes(), &with(&|pair| pair.value_size = 11)].concat()),
    ];
    for (what, body) in cases {
        let guest = guest();
        ask(&guest, &Ask::Get { pool: Pool::GUEST, key: &wide("key") }).unwrap();
        let (request, ..) = asked(&guest);
        guest.answer(&request, Status::SUCCESS, &body);
        assert_eq!(outcome(&guest).0, Outcome::Malformed, "{what}");
    }
}

#[test]
fn a_text_without_its_closing_zero_ends_where_it_ends() {
    let guest = guest();
    ask(&guest, &Ask::Get { pool: Pool::GUEST, key: &wide("k") }).unwrap();
    let (request, header, _) = asked(&guest);
    let mut pair = Value::new_zeroed();
    (pair.value_type, pair.key_size, pair.value_size) = (1, 512, 2048);
    pair.key.fill(b'k');
    pair.value.fill(b'v');
    guest.answer(&request, Status::SUCCESS, &[header.as_bytes(), pair.as_bytes()].concat());
    assert_eq!(outcome(&guest), (Outcome::Answered(Status::SUCCESS), vec![b'k'; 512], vec![b'v'; 2048]));
}

#[test]
fn an_outcome_survives_save_and_restore() {
    let guest = guest();
    ask(&guest, &Ask::Get { pool: Pool::GUEST, key: &wide("k") }).unwrap();
    guest.saved_and_restored();
    let (request, header, _) = asked(&guest);
    let pair = Value::text(&wide("k"), &wide("v")).unwrap();
    guest.answer(&request, Status::SUCCESS, &[header.as_bytes(), pair.as_bytes()].concat());
    guest.saved_and_restored();
    guest.hostile_images();
    assert_eq!(outcome(&guest), (Outcome::Answered(Status::SUCCESS), bare("k"), bare("v")));
}
