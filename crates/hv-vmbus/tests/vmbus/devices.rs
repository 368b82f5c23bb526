//! What the bus does for a device with requests, sub-channels and sockets.

use crate::common::{GuestPacket, GuestRing, PAGES, SPLIT, close, contact, gpadl, header, open, teardown};
use crate::sample::{AGAIN, ATTACH, Guest, LATER, OFFER, REQUEST, SUBCHANNELS, TRANSFER, command};
use hv_memory::GuestMemory;
use hv_memory::save::{Reader, RestoreError, Writer};
use hv_tlfs::time::ReferenceTime;
use hv_vmbus::protocol::{
    ChannelId, Guid, MessageType, OfferChannel, RelIdReleased, TlConnectRequest, Version,
};
use hv_vmbus::{BusError, DeviceId, PagesError};
use zerocopy::IntoBytes;

#[test]
fn requests_are_completed_once_and_in_any_order() {
    let mut guest = Guest::new();
    for id in 1..4 {
        guest.send(id, command(REQUEST, 0, 0));
    }
    let started = guest.started();
    assert_eq!(started.len(), 3);
    assert_eq!(guest.receive(), None);
    for (at, id) in [(2, 3), (0, 1), (1, 2)] {
        assert_eq!(guest.complete(started[at].0, 40 + id as u8), Ok(()));
        assert_eq!(guest.complete(started[at].0, 0), Err(BusError::UnknownToken));
        assert_eq!(guest.receive(), Some((id, 40 + id as u8)));
    }
    assert!(guest.bus.is_idle());
}

#[test]
fn packets_that_find_no_request_stay_in_the_ring() {
    let mut guest = Guest::new();
    for id in 1..=5 {
        guest.send(id, command(REQUEST, 0, 0));
    }
    let started = guest.started();
    assert_eq!(started.len(), 3, "as many as the slot has");
    guest.complete(started[1].0, 0).unwrap();
    assert_eq!(guest.receive(), Some((2, 0)));
    assert_eq!(guest.started().len(), 1, "the next is taken as soon as one is free");
}

#[test]
fn a_back_end_without_room_is_asked_again() {
    let mut guest = Guest::new();
    guest.port.capacity.set(1);
    guest.send(1, command(REQUEST, 0, 0));
    guest.send(2, command(REQUEST, 0, 0));
    guest.send(3, command(REQUEST, 0, 0));
    let first = guest.started();
    assert_eq!(first.len(), 1);
    guest.port.capacity.set(usize::MAX);
    guest.bus.resume(DeviceId(0), &guest.port);
    assert_eq!(guest.started().len(), 2);
}

#[test]
fn a_back_end_may_be_done_at_once_and_a_request_may_go_on() {
    for planned in [false, true] {
        let mut guest = Guest::new();
        (guest.port.at_once, guest.port.planned) = (true, planned);
        guest.send(1, command(AGAIN, 3, 0));
        let started = guest.started();
        assert_eq!(started.len(), 4);
        assert_eq!(guest.receive(), Some((1, 0)));
        assert!(guest.bus.is_idle());
        // No token is used twice.
        guest.port.at_once = false;
        guest.send(2, command(AGAIN, 1, 0));
        let last = guest.started()[0].0;
        for (token, _) in started {
            assert_ne!(token, last);
            assert_eq!(guest.complete(token, 0), Err(BusError::UnknownToken));
        }
        // One that was in the table may continue outside it.
        guest.port.at_once = true;
        assert_eq!(guest.complete(last, 0), Ok(()));
        assert_eq!(guest.complete(last, 0), Err(BusError::UnknownToken));
        assert_eq!((guest.started().len(), guest.receive()), (1, Some((2, 0))));
        assert!(guest.bus.is_idle());
    }
}

#[test]
fn what_is_done_at_once_overtakes_nothing_that_waits() {
    let mut guest = Guest::new();
    guest.send(1, command(AGAIN, 1, 0));
    let first = guest.started()[0].0;
    guest.port.capacity.set(0);
    guest.send(2, command(REQUEST, 0, 0));
    guest.send(3, command(REQUEST, 0, 0));
    guest.port.at_once = true;
    // The first continues, but after the second.
    guest.port.capacity.set(1);
    guest.complete(first, 0).unwrap();
    assert_eq!((guest.receive(), guest.receive()), (Some((2, 0)), None));
    guest.port.capacity.set(usize::MAX);
    guest.bus.resume(DeviceId(0), &guest.port);
    assert_eq!([guest.receive(), guest.receive()], [Some((1, 0)), Some((3, 0))]);
    assert!(guest.bus.is_idle());
}

#[test]
fn work_without_end_is_done_in_parts() {
    for planned in [false, true] {
        let mut guest = Guest::new();
        (guest.port.at_once, guest.port.planned) = (true, planned);
        guest.send(1, command(AGAIN, 200, 0));
        assert!(guest.started().len() < 100);
        assert_eq!(guest.bus.deadline(), Some(ReferenceTime::ZERO));
        for _ in 0..10 {
            guest.bus.flush(&guest.port);
        }
        assert_eq!(guest.receive(), Some((1, 0)));
        assert_eq!(guest.bus.deadline(), None);
    }
}

#[test]
fn ranges_are_judged_and_neighbours_joined() {
    let mut guest = Guest::new();
    guest.direct(1, command(REQUEST, 0, 0), &[(9000, 100, &[0x20, 0x21, 0x30]), (50, 0, &[0x31])]);
    let started = guest.started();
    assert_eq!(started[0].1, [(0x20_064, 8092), (0x30_000, 908), (0x31_000, 50)]);
    guest.complete(started[0].0, 0).unwrap();
    assert_eq!(guest.receive(), Some((1, 0)));
}

#[test]
fn wrong_ranges_reach_the_device_as_an_error_and_no_back_end() {
    type Range = (u32, u32, &'static [u64]);
    let wrong: [(&[Range], PagesError); 7] = [
        (&[(0, 0, &[0x20])], PagesError::Empty),
        (&[(8, 4096, &[0x20])], PagesError::Offset),
        (&[(8, 0, &[0x100])], PagesError::NotMemory),
        (&[(8, 0, &[1 << 52])], PagesError::NotMemory),
        (&[(8, 0, &[u64::MAX])], PagesError::NotMemory),
        (&[(8192, 0, &[0x20])], PagesError::Truncated),
        (&[(u32::MAX, 0, &[0x20])], PagesError::TooMany),
    ];
    for (ranges, error) in wrong {
        let mut guest = Guest::new();
        guest.direct(5, command(REQUEST, 0, 0), ranges);
        assert_eq!(guest.state(|sample| sample.last), Some(error));
        assert_eq!(guest.started(), []);
        assert_eq!(guest.receive(), Some((5, 0xee)));
    }
    let mut guest = Guest::new();
    let nine = [0x20, 0x22, 0x24, 0x26, 0x28, 0x2a, 0x2c, 0x2e, 0x30];
    guest.direct(5, command(REQUEST, 0, 0), &[(9 * 4096, 0, &nine)]);
    assert_eq!(guest.state(|sample| sample.last), Some(PagesError::TooMany));
}

#[test]
fn a_ring_without_room_for_answers_stops_packets_and_never_an_answer() {
    let mut guest = Guest::new();
    let mut sent = 0;
    // The guest reads nothing: what has no room stays in its own ring.
    let packet = |id| GuestPacket { kind: 6, flags: 1, transaction: id, payload: vec![9; 8] };
    while guest.out.send(&guest.port.memory, &packet(sent)).is_some() {
        sent += 1;
        guest.bus.signal(0x2001, &guest.port).unwrap();
    }
    let mut received = 0;
    while let Some((id, _)) = guest.receive() {
        assert_eq!(id, received);
        received += 1;
    }
    assert_eq!(received, sent);
}

#[test]
fn a_torn_down_gpadl_is_the_guests_when_its_requests_are_done() {
    let mut guest = Guest::new();
    for message in gpadl(1, 20, &[0x40, 0x41]) {
        guest.post(&message);
    }
    guest.port.take();
    guest.send(1, command(ATTACH, 20, 2));
    let started = guest.started();
    assert_eq!(started[0].1, [(0x40_008, 32)]);
    guest.post(teardown(1, 20).as_bytes());
    assert_eq!(guest.kinds(), []);
    guest.send(2, command(ATTACH, 20, 2));
    assert_eq!(guest.state(|sample| sample.last), Some(PagesError::UnknownGpadl), "no new use of it");
    guest.complete(started[0].0, 0).unwrap();
    assert_eq!(guest.kinds(), [MessageType::GPADL_TORNDOWN]);
}

#[test]
fn rings_are_the_guests_when_the_requests_are_done_that_came_by_them() {
    let mut guest = Guest::new();
    guest.send(1, command(REQUEST, 0, 0));
    let started = guest.started();
    guest.post(close(1).as_bytes());
    guest.post(teardown(1, 9).as_bytes());
    assert_eq!(guest.kinds(), []);
    guest.complete(started[0].0, 0).unwrap();
    assert_eq!(guest.kinds(), [MessageType::GPADL_TORNDOWN]);
    assert_eq!(guest.receive(), None, "no answer into rings that are closed");
    assert_eq!(guest.state(|sample| sample.completed.len()), 0);
}

#[test]
fn unload_and_contact_are_answered_when_nothing_is_in_flight() {
    for (message, answer) in [
        (header(MessageType::UNLOAD).as_bytes().to_vec(), MessageType::UNLOAD_RESPONSE),
        (contact(Version::V5_3).as_bytes().to_vec(), MessageType::VERSION_RESPONSE),
    ] {
        let mut guest = Guest::new();
        guest.send(1, command(REQUEST, 0, 0));
        guest.send(2, command(REQUEST, 0, 0));
        let started = guest.started();
        guest.post(&message);
        assert_eq!(guest.kinds(), []);
        guest.complete(started[1].0, 0).unwrap();
        assert_eq!(guest.kinds(), []);
        guest.complete(started[0].0, 0).unwrap();
        assert_eq!(guest.kinds(), [answer]);
    }
}

#[test]
fn a_rescind_waits_for_what_is_in_flight_and_a_number_for_its_release() {
    let mut guest = Guest::new();
    let offer = hv_vmbus::offer(OFFER, OFFER);
    guest.send(1, command(REQUEST, 0, 0));
    let started = guest.started();
    assert_eq!(guest.bus.offer(DeviceId(0), &offer, &guest.port), Err(BusError::Offered));
    assert!(guest.bus.rescind(ChannelId(1), &guest.port));
    assert_eq!(guest.bus.offer(DeviceId(0), &offer, &guest.port), Err(BusError::Leaving));
    assert_eq!(guest.kinds(), []);
    assert_eq!(guest.state(|sample| sample.closed.clone()), [0]);
    guest.complete(started[0].0, 0).unwrap();
    assert_eq!(guest.kinds(), [MessageType::RESCIND_OFFER]);
    assert_eq!(guest.bus.offer(DeviceId(0), &offer, &guest.port), Err(BusError::Leaving));
    let released = RelIdReleased { header: header(MessageType::RELID_RELEASED), channel: ChannelId(1) };
    guest.post(released.as_bytes());
    assert_eq!(guest.bus.offer(DeviceId(0), &offer, &guest.port), Ok(ChannelId(1)));
    assert_eq!(guest.kinds(), [MessageType::OFFER_CHANNEL]);
}

#[test]
fn as_many_subchannels_are_offered_as_were_granted_and_go_with_the_first_channel() {
    let mut guest = Guest::new();
    guest.send(1, command(SUBCHANNELS, 200, 0));
    assert_eq!(guest.receive(), Some((1, 3)), "the slot has three");
    let offers: Vec<_> = guest.port.take().iter().map(|m| m.message::<OfferChannel>()).collect();
    let told: Vec<_> = offers.iter().map(|o| (o.channel.0, o.offer.subchannel_index)).collect();
    assert_eq!(told, [(2, 1), (3, 2), (4, 3)]);
    assert!(offers.iter().all(|o| o.offer.interface == OFFER && o.connection == 0x2000 | o.channel.0));

    let pages: Vec<u64> = (0xa0..0xa4).collect();
    for message in gpadl(2, 30, &pages) {
        guest.post(&message);
    }
    guest.post(open(2, 30, 0, 2).as_bytes());
    guest.port.take();
    let ring = GuestRing::new(&pages[..2]);
    let packet = GuestPacket { kind: 6, flags: 1, transaction: 8, payload: vec![9; 8] };
    ring.send(&guest.port.memory, &packet).unwrap();
    guest.bus.signal(0x2002, &guest.port).unwrap();
    assert_eq!(guest.state(|sample| sample.channels.clone()), [0, 1]);

    guest.post(close(1).as_bytes());
    assert_eq!(guest.kinds(), [MessageType::RESCIND_OFFER; 3]);
}

#[test]
fn a_subchannel_that_the_guest_releases_is_not_offered_again_before_its_device_demands_it_anew() {
    let mut guest = Guest::new();
    guest.send(1, command(SUBCHANNELS, 1, 0));
    guest.port.take();
    let released = RelIdReleased { header: header(MessageType::RELID_RELEASED), channel: ChannelId(2) };
    guest.post(released.as_bytes());
    assert_eq!(guest.kinds(), [], "a guest that cannot use it would release it forever");
    guest.post(close(1).as_bytes());
    assert_eq!(guest.kinds(), []);
    for ring in [&guest.out, &guest.back] {
        [0, 4, 8, 12].iter().for_each(|word| ring.set_word(&guest.port.memory, *word, 0));
    }
    guest.post(open(1, 9, 1, SPLIT).as_bytes());
    guest.send(2, command(SUBCHANNELS, 1, 0));
    assert_eq!(guest.kinds(), [MessageType::OPEN_RESULT, MessageType::OFFER_CHANNEL]);
}

#[test]
fn a_packet_that_the_device_puts_off_is_shown_again() {
    let mut guest = Guest::new();
    guest.send(1, command(LATER, 0, 0));
    guest.send(2, command(9, 0, 0));
    assert_eq!(guest.receive(), None);
    let before = guest.state(|sample| sample.channels.len());
    assert!(guest.state(|sample| sample.channels.len()) > before, "whenever something happens to the device");
}

#[test]
fn transfer_pages_are_listed_between_descriptor_and_payload() {
    let mut guest = Guest::new();
    guest.send(1, command(TRANSFER, 0, 0));
    let mut bytes = [0; 40];
    guest.port.memory.read(PAGES[SPLIT as usize + 1] * 4096, &mut bytes).unwrap();
    assert_eq!(bytes[..8], [7, 0, 4, 0, 5, 0, 1, 0], "kind, offset and length in 8 bytes, completion wanted");
    assert_eq!(bytes[8..16], 77u64.to_le_bytes());
    assert_eq!(bytes[16..24], [0xfe, 0xca, 0, 0, 1, 0, 0, 0]);
    assert_eq!(bytes[24..32], [60, 0, 0, 0, 0xc0, 6, 0, 0]);
    assert_eq!(bytes[32..40], [7; 8]);
}

/// Builds a request for a socket of this service.
fn connect(service: Guid) -> TlConnectRequest {
    let header = header(MessageType::TL_CONNECT_REQUEST);
    TlConnectRequest { header, endpoint: Guid::new(7, 0, 0, [0; 8]), service }
}

#[test]
fn a_channel_that_a_device_rescinds_as_another_is_closed_is_closed_as_well() {
    let mut guest = Guest::new();
    let sample = &guest.bus.devices().sample;
    guest.bus.with(sample, &guest.port, |sample, io| sample.follower = io.vacant()).unwrap();
    guest.post(connect(OFFER).as_bytes());
    for message in gpadl(2, 30, &[0xa0, 0xa1, 0xa2, 0xa3]) {
        guest.post(&message);
    }
    guest.post(open(2, 30, 0, 2).as_bytes());
    guest.port.take();
    assert!(guest.bus.rescind(ChannelId(1), &guest.port));
    assert_eq!(guest.kinds(), [MessageType::RESCIND_OFFER; 2]);
    assert_eq!(guest.state(|sample| sample.closed.clone()), [0, 1]);
}

#[test]
fn nothing_is_restored_while_a_request_is_in_flight() {
    let mut guest = Guest::new();
    let mut image = Vec::new();
    guest.bus.save(&guest.port, &mut Writer::new(&mut |part| image.extend_from_slice(part))).unwrap();
    guest.send(1, command(REQUEST, 0, 0));
    let started = guest.started();
    let restore = |guest: &Guest| guest.bus.restore(&guest.port, &mut Reader::new(&image));
    assert_eq!(restore(&guest), Err(RestoreError::InFlight));
    guest.complete(started[0].0, 40).unwrap();
    assert_eq!(guest.receive(), Some((1, 40)), "nothing has changed");
    assert_eq!(restore(&guest), Ok(()));
    guest.post(close(1).as_bytes());
    guest.post(teardown(1, 9).as_bytes());
    assert_eq!(guest.kinds(), [MessageType::GPADL_TORNDOWN], "no request holds the rings");
}

#[test]
fn a_socket_is_offered_or_refused() {
    let mut guest = Guest::new();
    guest.post(connect(Guid::ZERO).as_bytes());
    assert_eq!(guest.kinds(), [MessageType::TL_CONNECT_RESULT]);
    guest.post(connect(OFFER).as_bytes());
    assert_eq!(guest.port.one().message::<OfferChannel>().offer.instance, Guid::new(7, 0, 0, [0; 8]));
    guest.post(connect(OFFER).as_bytes());
    assert_eq!(guest.kinds(), [MessageType::TL_CONNECT_RESULT], "that endpoint has a channel");
}
