//! The heartbeat service, with a guest that answers as Linux's drivers/hv/hv_util.c does.

use crate::common::{GuestPacket, Opened, close, open, send};
use hv_devices::any::Offer;
use hv_devices::heartbeat;
use hv_vmbus::Event;
use hv_vmbus::protocol::ChannelId;

const SECOND: u64 = 10_000_000;

/// Answers one request as Linux does: the packet goes back changed.
fn answer(guest: &mut Opened) -> Option<GuestPacket> {
    let request = guest.receive()?;
    let mut reply = request.clone();
    let p = &mut reply.payload;
    if p[12] == 0 {
        // The newest version that both know, of the framework and of the service: 3.0, which the host names first.
        assert_eq!(p[28..32], [2, 0, 2, 0]);
        p[28..32].copy_from_slice(&[1, 0, 1, 0]);
        let (framework, service) = ([p[36], p[37], p[38], p[39]], [p[44], p[45], p[46], p[47]]);
        p[36..40].copy_from_slice(&framework);
        p[40..44].copy_from_slice(&service);
    } else {
        let number = u64::from_le_bytes(p[28..36].try_into().unwrap()) + 1;
        p[28..36].copy_from_slice(&number.to_le_bytes());
    }
    // Flags of the message: transaction, response.
    p[25] = 5;
    guest.send(&reply).unwrap();
    Some(request)
}

fn beats(guest: &mut Opened) -> Vec<u64> {
    let events = guest.port.events.take();
    events
        .iter()
        .filter_map(|e| match e {
            Event::Device { channel: ChannelId(1), note: heartbeat::ANSWERED, value } => Some(*value),
            _ => None,
        })
        .collect()
}

#[test]
fn the_host_offers_its_versions_when_the_channel_is_open() {
    let mut guest = Opened::new(Offer::HEARTBEAT);
    assert_eq!(*guest.port.interrupts.get_mut(), [(1, 2, 1)]);
    let request = guest.receive().unwrap();
    assert_eq!((request.kind, request.flags), (6, 0), "in-band, no completion");
    let p = &request.payload;
    assert_eq!(p[..8], [1, 0, 0, 0, 44, 0, 0, 0], "pipe header: data, 44 bytes");
    assert_eq!(p[12..14], [0, 0], "negotiate");
    assert_eq!(p[18..20], [24, 0], "bytes of the message");
    assert_eq!(p[25], 3, "transaction, request");
    assert_eq!(p[28..52], [2, 0, 2, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(guest.server.deadline(), None, "it waits for the guest");
}

#[test]
fn it_beats_every_two_seconds_and_counts_the_answers() {
    let mut guest = Opened::new(Offer::HEARTBEAT);
    answer(&mut guest).unwrap();
    for n in 1..=10 {
        let request = answer(&mut guest).unwrap();
        assert_eq!(request.payload[12], 1, "heartbeat");
        assert_eq!(request.payload[8..12], [3, 0, 0, 0], "framework version agreed on");
        assert_eq!(beats(&mut guest), [n]);
        assert_eq!(guest.server.deadline(), Some(guest.port.time + 2 * SECOND));
        guest.port.time += 2 * SECOND - 1;
        guest.server.flush(&mut guest.port);
        assert_eq!(guest.receive(), None, "not early");
        guest.port.time += 1;
        guest.server.flush(&mut guest.port);
    }
}

#[test]
fn a_guest_that_does_not_answer_is_asked_on_and_the_ring_never_overflows() {
    let mut guest = Opened::new(Offer::HEARTBEAT);
    answer(&mut guest).unwrap();
    for _ in 0..1000 {
        guest.port.time += 2 * SECOND;
        guest.server.flush(&mut guest.port);
    }
    assert!(beats(&mut guest).is_empty());
    let mut seen = 0;
    while let Some(request) = guest.receive() {
        assert_eq!(request.payload[28..36], [0; 8], "the same number, since it was not answered");
        seen += 1;
    }
    assert!(seen > 100);
}

#[test]
fn a_guest_that_knows_no_version_is_left_alone() {
    let mut guest = Opened::new(Offer::HEARTBEAT);
    let mut reply = guest.receive().unwrap();
    reply.payload[28..32].copy_from_slice(&[0, 0, 0, 0]);
    reply.payload[25] = 5;
    guest.send(&reply).unwrap();
    assert_eq!(guest.server.deadline(), None);
    assert_eq!(guest.receive(), None);
}

#[test]
fn a_version_that_was_not_offered_is_no_agreement() {
    let mut guest = Opened::new(Offer::HEARTBEAT);
    let mut reply = guest.receive().unwrap();
    reply.payload[28..32].copy_from_slice(&[1, 0, 1, 0]);
    reply.payload[36..44].copy_from_slice(&[9, 0, 0, 0, 3, 0, 0, 0]);
    reply.payload[25] = 5;
    guest.send(&reply).unwrap();
    assert_eq!(guest.server.deadline(), None);
}

#[test]
fn packets_that_answer_nothing_are_ignored() {
    let mut guest = Opened::new(Offer::HEARTBEAT);
    answer(&mut guest).unwrap();
    let request = guest.receive().unwrap();
    let mut good = request.clone();
    good.payload[25] = 5;
    good.payload[28] = 1;
    type Change = (&'static str, fn(&mut GuestPacket));
    let wrong: [Change; 7] = [
        ("not a response", |p| p.payload[25] = 3),
        ("another number", |p| p.payload[28] = 2),
        ("a failure", |p| p.payload[20] = 1),
        ("not data of a pipe", |p| p.payload[0] = 2),
        ("a completion", |p| p.kind = 11),
        ("another kind", |p| p.payload[12] = 4),
        ("cut off", |p| p.payload.truncate(24)),
    ];
    for (what, change) in wrong {
        let mut packet = good.clone();
        change(&mut packet);
        guest.send(&packet).unwrap();
        assert!(beats(&mut guest).is_empty(), "{what}");
    }
    guest.send(&good).unwrap();
    assert_eq!(beats(&mut guest), [1]);
    guest.send(&good).unwrap();
    assert!(beats(&mut guest).is_empty(), "the same again");
}

#[test]
fn a_channel_opened_again_negotiates_again() {
    let mut guest = Opened::new(Offer::HEARTBEAT);
    answer(&mut guest).unwrap();
    answer(&mut guest).unwrap();
    send(&mut guest.server, &mut guest.port, &close(1));
    assert_eq!(guest.server.deadline(), None);
    send(&mut guest.server, &mut guest.port, &open(1, 0xe1e10, 1, crate::common::SPLIT));
    assert_eq!(guest.receive().unwrap().payload[12], 0, "negotiate");
}
