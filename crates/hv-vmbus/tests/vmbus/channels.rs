//! Channels opened, changed and closed, rule by rule.

use crate::common::Server;
use crate::common::{
    GuestPacket, GuestRing, Opened, PAGES, SPLIT, TestPort, close, connect, contact_with, gpadl,
    gpadl_ranges, header, open, send, teardown,
};
use hv_devices::any::Offer;
use hv_memory::GuestMemory;
use hv_memory::save::{Reader, Writer};
use hv_vmbus::protocol::{
    ChannelId, FeatureFlags, GpadlId, GpadlTorndown, Guid, MessageType, ModifyChannel, ModifyChannelResponse,
    NtStatus, OpenChannelFlags, OpenChannelSignal, OpenResult, RelIdReleased, TARGET_VP_NONE,
    TlConnectRequest, TlConnectResult, Version,
};
use hv_vmbus::{Config, Event, Reason, Refused};
use zerocopy::IntoBytes;

const GPADL: u32 = 0xe1e10;

fn connected(version: Version) -> (Server, TestPort) {
    let (mut server, mut port) = (Server::new(Config::DEFAULT), TestPort::new());
    server.offer(Offer::ECHO);
    server.offer(Offer::ECHO);
    connect(&mut server, &mut port, version);
    (server, port)
}

fn with_gpadl(version: Version) -> (Server, TestPort) {
    let (mut server, mut port) = connected(version);
    for message in gpadl(1, GPADL, &PAGES) {
        server.message(4, &message, &mut port).unwrap();
    }
    port.take();
    port.events.get_mut().clear();
    (server, port)
}

fn modify(channel: u32, target_vp: u32) -> ModifyChannel {
    ModifyChannel { header: header(MessageType::MODIFY_CHANNEL), channel: ChannelId(channel), target_vp }
}

/// Opens and expects a refusal for this reason.
fn refused(
    server: &mut Server,
    port: &mut TestPort,
    request: &(impl IntoBytes + zerocopy::Immutable),
    reason: Reason,
) {
    send(server, port, request);
    let answer: OpenResult = port.one().message();
    assert_eq!(answer.status, NtStatus::UNSUCCESSFUL);
    assert_eq!(port.rejection(), Some(reason));
}

#[test]
fn an_open_is_answered_with_the_guests_id() {
    let (mut server, mut port) = with_gpadl(Version::V5_3);
    let mut request = open(1, GPADL, 3, SPLIT);
    request.open_id = 0xabcd;
    send(&mut server, &mut port, &request);
    let answer: OpenResult = port.one().message();
    assert_eq!((answer.channel, answer.open_id, answer.status), (ChannelId(1), 0xabcd, NtStatus::SUCCESS));
    assert_eq!(*port.events.get_mut(), [Event::Opened { channel: ChannelId(1), vp: 3 }]);
}

/// As by a VP that has seen the answer before the host continues, whose signal finds a channel that is not live yet.
#[test]
fn a_packet_that_is_there_before_the_channel_is_live_is_taken() {
    let (mut server, mut port) = with_gpadl(Version::V5_3);
    let (outbound, inbound) = PAGES.split_at(SPLIT as usize);
    let packet = GuestPacket { kind: 6, flags: 0, transaction: 7, payload: vec![1; 8] };
    assert_eq!(GuestRing::new(outbound).send(&port.memory, &packet), Some(true));
    send(&mut server, &mut port, &open(1, GPADL, 1, SPLIT));
    let (echo, _) = GuestRing::new(inbound).receive(&port.memory).expect("the host has looked");
    assert_eq!((echo.transaction, echo.payload), (7, packet.payload));
}

#[test]
fn a_channel_that_is_open_already_is_refused_and_stays_open() {
    let (mut server, mut port) = with_gpadl(Version::V5_3);
    send(&mut server, &mut port, &open(1, GPADL, 0, SPLIT));
    port.take();
    refused(&mut server, &mut port, &open(1, GPADL, 0, SPLIT), Reason::AlreadyOpen);
    assert_eq!(server.signal(0x2001, &mut port), Ok(()));
}

#[test]
fn an_open_of_an_unknown_channel_is_refused() {
    let (mut server, mut port) = with_gpadl(Version::V5_3);
    for channel in [0, 3, 2047, u32::MAX] {
        refused(&mut server, &mut port, &open(channel, GPADL, 0, SPLIT), Reason::UnknownChannel);
    }
}

#[test]
fn an_open_with_rings_that_the_channel_does_not_have_is_refused() {
    let (mut server, mut port) = with_gpadl(Version::V5_3);
    refused(&mut server, &mut port, &open(1, GPADL + 1, 0, SPLIT), Reason::UnknownGpadl);
    refused(&mut server, &mut port, &open(2, GPADL, 0, SPLIT), Reason::UnknownGpadl);
}

#[test]
fn an_open_with_rings_that_are_still_coming_is_refused() {
    let (mut server, mut port) = connected(Version::V5_3);
    let pages: Vec<_> = (0x10..0x40).collect();
    server.message(4, &gpadl(1, GPADL, &pages)[0], &mut port).unwrap();
    refused(&mut server, &mut port, &open(1, GPADL, 0, SPLIT), Reason::GpadlBusy);
}

#[test]
fn each_ring_needs_a_header_and_a_page_of_data() {
    let (mut server, mut port) = with_gpadl(Version::V5_3);
    for split in [0, 1, 9, 10, 11, u32::MAX] {
        refused(&mut server, &mut port, &open(1, GPADL, 0, split), Reason::BadRing);
    }
    send(&mut server, &mut port, &open(1, GPADL, 0, 8));
    assert_eq!(port.one().message::<OpenResult>().status, NtStatus::SUCCESS);
}

#[test]
fn rings_are_one_range_of_whole_pages() {
    for (what, ranges) in [
        ("two ranges", &[(5 * 4096, 0, &PAGES[..5]), (5 * 4096, 0, &PAGES[5..])][..]),
        ("an offset", &[(4096, 8, &PAGES[..2])]),
        ("half a page", &[(9 * 4096 + 2048, 0, &PAGES[..])]),
    ] {
        let (mut server, mut port) = connected(Version::V5_3);
        for message in gpadl_ranges(1, GPADL, ranges) {
            server.message(4, &message, &mut port).unwrap();
        }
        assert_eq!(port.one().kind(), MessageType::GPADL_CREATED, "{what}");
        refused(&mut server, &mut port, &open(1, GPADL, 0, SPLIT), Reason::BadRing);
    }
}

#[test]
fn rings_outside_memory_or_with_wrong_indices_are_refused() {
    let (mut server, mut port) = connected(Version::V5_3);
    let mut pages = PAGES;
    pages[5] = 0x9_0000;
    for message in gpadl(1, GPADL, &pages) {
        server.message(4, &message, &mut port).unwrap();
    }
    port.take();
    refused(&mut server, &mut port, &open(1, GPADL, 0, SPLIT), Reason::BadRing);

    let (mut server, mut port) = with_gpadl(Version::V5_3);
    for (offset, index) in [(0, 4), (0, 0x4000), (4, 0x4008), (4, u32::MAX)] {
        port.memory.store_release(PAGES[0] * 4096 + offset, index).unwrap();
        refused(&mut server, &mut port, &open(1, GPADL, 0, SPLIT), Reason::BadRing);
        port.memory.store_release(PAGES[0] * 4096 + offset, 0).unwrap();
    }
    send(&mut server, &mut port, &open(1, GPADL, 0, SPLIT));
    assert_eq!(port.one().message::<OpenResult>().status, NtStatus::SUCCESS);
}

#[test]
fn the_target_vp_must_exist_or_be_none() {
    let (mut server, mut port) = with_gpadl(Version::V5_3);
    refused(&mut server, &mut port, &open(1, GPADL, 4, SPLIT), Reason::UnknownVp);
    send(&mut server, &mut port, &open(1, GPADL, TARGET_VP_NONE, SPLIT));
    assert_eq!(port.one().message::<OpenResult>().status, NtStatus::SUCCESS);
}

#[test]
fn only_open_channels_have_a_connection_to_signal() {
    let (mut server, mut port) = with_gpadl(Version::V5_3);
    assert_eq!(server.signal(0x2001, &mut port), Err(Refused::NoConnection));
    send(&mut server, &mut port, &open(1, GPADL, 0, SPLIT));
    assert_eq!(server.signal(0x2001, &mut port), Ok(()));
    assert_eq!(server.signal(0x2002, &mut port), Err(Refused::NoConnection));
    assert_eq!(server.signal(1, &mut port), Err(Refused::NoConnection));
    send(&mut server, &mut port, &close(1));
    assert_eq!(server.signal(0x2001, &mut port), Err(Refused::NoConnection));
}

#[test]
fn a_guest_that_was_granted_it_chooses_connection_and_flag() {
    let feature = FeatureFlags(0).with_guest_specified_signal(true);
    let mut server: Server = Server::new(Config::DEFAULT.with_max_version(Version::V6_0));
    let mut port = TestPort::new();
    server.offer(Offer::HEARTBEAT);
    send(&mut server, &mut port, &contact_with(feature));
    send(&mut server, &mut port, &header(MessageType::REQUEST_OFFERS));
    for message in gpadl(1, GPADL, &PAGES) {
        server.message(4, &message, &mut port).unwrap();
    }
    port.take();
    let mut request = OpenChannelSignal {
        open: open(1, GPADL, 2, SPLIT),
        connection: 0x77,
        event_flag: 2048,
        flags: OpenChannelFlags(0),
    };
    refused(&mut server, &mut port, &request.open, Reason::TooShort);
    refused(&mut server, &mut port, &request, Reason::BadFlag);
    request.event_flag = 2047;
    send(&mut server, &mut port, &request);
    assert_eq!(port.one().message::<OpenResult>().status, NtStatus::SUCCESS);
    assert_eq!(*port.interrupts.get_mut(), [(2, 2, 2047)], "for the first packet of the heartbeat");
    assert_eq!(server.signal(0x77, &mut port), Ok(()));
    assert_eq!(server.signal(0x2001, &mut port), Err(Refused::NoConnection));
}

#[test]
fn a_closed_channel_can_be_opened_again_on_the_same_rings() {
    let (mut server, mut port) = with_gpadl(Version::V5_3);
    for _ in 0..3 {
        send(&mut server, &mut port, &open(1, GPADL, 0, SPLIT));
        assert_eq!(port.one().message::<OpenResult>().status, NtStatus::SUCCESS);
        send(&mut server, &mut port, &close(1));
        assert_eq!(port.take(), [], "a close has no answer");
    }
    assert_eq!(port.rejection(), None);
}

#[test]
fn a_close_of_a_channel_that_is_not_open_is_counted() {
    let (mut server, mut port) = connected(Version::V5_3);
    send(&mut server, &mut port, &close(1));
    assert_eq!(port.rejection(), Some(Reason::NotOpen));
    send(&mut server, &mut port, &close(9));
    assert_eq!(port.rejection(), Some(Reason::UnknownChannel));
    assert_eq!(port.take(), []);
}

#[test]
fn rings_in_use_are_torn_down_when_the_channel_is_closed() {
    let (mut server, mut port) = with_gpadl(Version::V5_3);
    send(&mut server, &mut port, &open(1, GPADL, 0, SPLIT));
    port.take();
    send(&mut server, &mut port, &teardown(1, GPADL));
    assert_eq!(port.take(), [], "the host still uses them");
    send(&mut server, &mut port, &teardown(1, GPADL));
    assert_eq!(port.rejection(), Some(Reason::GpadlBusy));
    send(&mut server, &mut port, &close(1));
    assert_eq!(port.one().message::<GpadlTorndown>().gpadl, GpadlId(GPADL));
    refused(&mut server, &mut port, &open(1, GPADL, 0, SPLIT), Reason::UnknownGpadl);
}

#[test]
fn modify_moves_the_interrupt_and_is_answered_from_5_3_on() {
    for (version, answered) in [(Version::V4_1, false), (Version::V5_2, false), (Version::V5_3, true)] {
        let (mut server, mut port) = with_gpadl(version);
        send(&mut server, &mut port, &open(1, GPADL, 0, SPLIT));
        port.take();
        send(&mut server, &mut port, &modify(1, 2));
        assert_eq!(port.rejection(), None);
        let answers = port.take();
        assert_eq!(!answers.is_empty(), answered, "{version}");
        if let [answer] = &answers[..] {
            let answer: ModifyChannelResponse = answer.message();
            assert_eq!((answer.channel, answer.status), (ChannelId(1), NtStatus::SUCCESS));
        }
    }
}

#[test]
fn version_4_0_has_no_modify() {
    let (mut server, mut port) = with_gpadl(Version::V4_0);
    send(&mut server, &mut port, &modify(1, 0));
    assert_eq!(port.rejection(), Some(Reason::Unknown));
}

#[test]
fn a_modify_that_cannot_be_is_answered_with_a_failure() {
    let (mut server, mut port) = with_gpadl(Version::V5_3);
    let mut refused = |server: &mut Server, channel, vp, reason| {
        send(server, &mut port, &modify(channel, vp));
        assert_eq!(
            port.take().pop().unwrap().message::<ModifyChannelResponse>().status,
            NtStatus::UNSUCCESSFUL
        );
        assert_eq!(port.rejection(), Some(reason));
    };
    refused(&mut server, 1, 0, Reason::NotOpen);
    refused(&mut server, 5, 0, Reason::UnknownChannel);
    let mut other = TestPort::new();
    send(&mut server, &mut other, &open(1, GPADL, 0, SPLIT));
    refused(&mut server, 1, 4, Reason::UnknownVp);
    refused(&mut server, 1, TARGET_VP_NONE, Reason::NoInterrupt);
}

#[test]
fn a_channel_opened_without_interrupts_does_not_get_them_by_modify() {
    let (mut server, mut port) = with_gpadl(Version::V5_3);
    send(&mut server, &mut port, &open(1, GPADL, TARGET_VP_NONE, SPLIT));
    port.take();
    send(&mut server, &mut port, &modify(1, 0));
    assert_eq!(port.rejection(), Some(Reason::NoInterrupt));
}

#[test]
fn a_rescinded_channel_is_closed_and_its_rings_are_the_guests_again() {
    let mut opened = Opened::new(Offer::ECHO);
    send(&mut opened.server, &mut opened.port, &teardown(1, GPADL));
    assert!(opened.server.rescind(ChannelId(1)));
    opened.server.flush(&mut opened.port);
    let kinds: Vec<_> = opened.port.take().iter().map(crate::common::Received::kind).collect();
    assert_eq!(kinds, [MessageType::GPADL_TORNDOWN, MessageType::RESCIND_OFFER]);
    assert_eq!(opened.server.signal(0x2001, &mut opened.port), Err(Refused::NoConnection));
}

#[test]
fn a_rescind_that_the_guest_has_no_room_for_is_restored_and_told_later() {
    let Opened { mut server, mut port, .. } = Opened::new(Offer::ECHO);
    port.take();
    port.room = 0;
    // An answer is pending before it, so the channel is still open.
    send(&mut server, &mut port, &modify(1, 0));
    assert!(server.rescind(ChannelId(1)));
    server.flush(&mut port);
    let mut image = Vec::new();
    server.save(&mut Writer::new(&mut |bytes: &[u8]| image.extend_from_slice(bytes)));
    let mut restored: Server = Server::new(Config::DEFAULT);
    assert_eq!(restored.restore(&mut Reader::new(&image)), Ok(()));
    port.room = usize::MAX;
    restored.flush(&mut port);
    let kinds: Vec<_> = port.take().iter().map(crate::common::Received::kind).collect();
    assert_eq!(kinds, [MessageType::MODIFY_CHANNEL_RESPONSE, MessageType::RESCIND_OFFER]);
    assert_eq!(restored.signal(0x2001, &mut port), Err(Refused::NoConnection));
}

#[test]
fn what_a_guest_does_with_a_rescinded_channel_hangs_nobody() {
    let Opened { mut server, mut port, .. } = Opened::new(Offer::ECHO);
    server.rescind(ChannelId(1));
    server.flush(&mut port);
    port.take();
    // In the order of a driver that has not noticed yet.
    refused(&mut server, &mut port, &open(1, GPADL, 0, SPLIT), Reason::Rescinded);
    send(&mut server, &mut port, &close(1));
    assert_eq!(port.rejection(), None);
    send(&mut server, &mut port, &teardown(1, GPADL));
    assert_eq!(port.one().kind(), MessageType::GPADL_TORNDOWN);
    let released = RelIdReleased { header: header(MessageType::RELID_RELEASED), channel: ChannelId(1) };
    send(&mut server, &mut port, &released);
    assert_eq!(port.rejection(), None);
}

#[test]
fn an_open_channels_number_cannot_be_released() {
    let Opened { mut server, mut port, .. } = Opened::new(Offer::ECHO);
    let released = RelIdReleased { header: header(MessageType::RELID_RELEASED), channel: ChannelId(1) };
    send(&mut server, &mut port, &released);
    assert_eq!(port.rejection(), Some(Reason::AlreadyOpen));
    assert_eq!(server.signal(0x2001, &mut port), Ok(()));
}

#[test]
fn unload_closes_every_channel() {
    let Opened { mut server, mut port, .. } = Opened::new(Offer::ECHO);
    port.events.get_mut().clear();
    send(&mut server, &mut port, &header(MessageType::UNLOAD));
    assert_eq!(*port.events.get_mut(), [Event::Closed { channel: ChannelId(1) }, Event::Unloaded]);
    assert_eq!(server.signal(0x2001, &mut port), Err(Refused::NoConnection));
    assert_eq!(server.deadline(), None);
}

#[test]
fn a_sockets_connection_is_refused_with_an_answer_from_4_1_on() {
    let request = TlConnectRequest {
        header: header(MessageType::TL_CONNECT_REQUEST),
        endpoint: Guid::new(1, 2, 3, [4; 8]),
        service: Guid::new(5, 6, 7, [8; 8]),
    };
    let (mut server, mut port) = connected(Version::V4_0);
    send(&mut server, &mut port, &request);
    assert_eq!(port.take(), []);
    let (mut server, mut port) = connected(Version::V5_3);
    send(&mut server, &mut port, &request);
    let answer: TlConnectResult = port.one().message();
    assert_eq!((answer.endpoint, answer.service), (request.endpoint, request.service));
    assert_eq!(answer.status, NtStatus::CONNECTION_REFUSED);
    assert_eq!(port.rejection(), Some(Reason::Unsupported));
}

#[test]
fn reserved_channels_are_not_served() {
    let (mut server, mut port) = connected(Version::V5_3);
    for kind in [MessageType::OPEN_RESERVED_CHANNEL, MessageType::CLOSE_RESERVED_CHANNEL] {
        send(&mut server, &mut port, &header(kind));
        assert_eq!(port.rejection(), Some(Reason::Unsupported));
    }
}
