//! Rules on the answers of integration services' drivers: guests with the heartbeat service.

use crate::guests::*;

pub(crate) const CASES: &[Case] = &[
    (
        &rules::IC_PACKET,
        |m| {
            service(m, bus::guid::HEARTBEAT);
            request(m, 1, &[0; 8]);
            show(m, &in_band(&message(1, 5, &[0; 8])).with_flags(1));
        },
        beating,
    ),
    (&rules::IC_FORM, |m| answering(m, |reply| reply[18] = 41), beating),
    (&rules::IC_FLAGS, |m| answering(m, |reply| reply[25] = 3), beating),
    (
        &rules::IC_UNASKED,
        |m| {
            answering(m, |_| {});
            // The same answer again.
            let (pages, reply) = (channel::pages(1), message(1, 5, &[0; 40]));
            assert!(!pages.is_empty() && channel::put(m, 1, 0, &reply));
            let _ = channel::signal(m, 0, 1);
        },
        beating,
    ),
    (&rules::IC_ECHO, |m| answering(m, |reply| reply[24] ^= 1), beating),
    (&rules::IC_SIZE, |m| answering(m, |reply| reply[18] = 32), beating),
    (
        &rules::IC_VERSION,
        |m| {
            heart(m);
            negotiate(m, |reply| reply[36..40].copy_from_slice(&[9, 0, 0, 0]));
        },
        |m| {
            heart(m);
            // None of them.
            negotiate(m, |reply| reply[28..32].fill(0));
        },
    ),
    (&rules::HEARTBEAT_NUMBER, |m| answering(m, |reply| reply[28] += 1), beating),
    (&rules::KVP_SIZES, |m| pair(m, 512, 2049), |m| pair(m, 512, 2048)),
    (&rules::FCOPY_OPERATION, |m| copy(m, 3), |m| copy(m, 2)),
];

/// Runs a guest with a service, of which the test plays the host.
fn service(m: &TestMachine<'_>, class: bus::Guid) {
    opened(m);
    device(m, 1, class, 1);
}

/// Builds a service's message, with its headers.
fn message(kind: u16, flags: u8, body: &[u8]) -> Vec<u8> {
    let mut header = bus::ic::Header::new_zeroed();
    header.message_type = bus::ic::MessageType(kind);
    (header.message_size, header.flags) = (body.len() as u16, flags);
    let pipe = bus::ic::PipeHeader { packet_type: 1, message_size: 20 + body.len() as u32 };
    [pipe.as_bytes(), header.as_bytes(), body].concat()
}

fn request(m: &TestMachine<'_>, kind: u16, body: &[u8]) {
    show(m, &in_band(&message(kind, 3, body)).with_from_guest(false));
}

/// Runs a guest that answers a request for a pair with these sizes.
fn pair(m: &TestMachine<'_>, key: u32, value: u32) {
    service(m, bus::guid::KVP);
    let body =
        |sizes: [u32; 3]| [vec![0, 1, 0, 0], sizes.map(u32::to_le_bytes).concat(), vec![0; 2560]].concat();
    request(m, 2, &body([1, 4, 0]));
    show(m, &in_band(&message(2, 5, &body([1, key, value]))));
}

/// Runs a guest that was told that a file is complete, and answers this operation.
fn copy(m: &TestMachine<'_>, operation: u8) {
    service(m, bus::guid::FILE_COPY);
    let body = |operation: u8| [&[operation][..], &[0; 35]].concat();
    request(m, 7, &body(2));
    show(m, &in_band(&message(7, 5, &body(operation))));
}

/// Runs a guest with a heartbeat service that has offered its versions.
fn heart(m: &TestMachine<'_>) {
    ready(m);
    m.partition.with_vmbus(&m.host, |bus| bus.offer(Offer::HEARTBEAT)).unwrap();
    channel::connect(m, 0);
    channel::open(m, 0, 1, 0);
    channel::take_kinds(m, 0);
}

/// Selects versions, in an answer that is changed.
fn negotiate(m: &TestMachine<'_>, change: impl FnOnce(&mut Vec<u8>)) {
    let (id, mut reply) = channel::receive(m, 0, 1).unwrap();
    reply[18..20].copy_from_slice(&[16, 0]);
    reply[25] = 5;
    reply[28..32].copy_from_slice(&[1, 0, 1, 0]);
    reply.copy_within(44..48, 40);
    change(&mut reply);
    assert!(channel::put(m, 1, id, &reply));
    let _ = channel::signal(m, 0, 1);
}

/// Answers a beat, with a change.
fn answering(m: &TestMachine<'_>, change: impl FnOnce(&mut Vec<u8>)) {
    heart(m);
    negotiate(m, |_| {});
    let (id, mut reply) = channel::receive(m, 0, 1).unwrap();
    reply[25] = 5;
    reply[28] += 1;
    change(&mut reply);
    assert!(channel::put(m, 1, id, &reply));
    let _ = channel::signal(m, 0, 1);
}

fn beating(m: &TestMachine<'_>) {
    answering(m, |_| {});
}

#[test]
fn a_right_service_breaks_no_rule() {
    let found = judge(&|m| {
        beating(m);
        channel::close(m, 0, 1);
        bus_message(m, bus::MessageType::UNLOAD, &[]);
    });
    assert!(of_vmbus(&found).is_empty(), "{found:?}");
}
