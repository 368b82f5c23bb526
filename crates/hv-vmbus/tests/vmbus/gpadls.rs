//! Page lists, rule by rule.

use crate::common::Server;
use crate::common::{TestPort, connect, gpadl, gpadl_ranges, header, send, teardown};
use hv_devices::any::Offer;
use hv_vmbus::protocol::{ChannelId, GpadlCreated, GpadlId, GpadlTorndown, MessageType, NtStatus, Version};
use hv_vmbus::{Config, Event, Reason};
use zerocopy::IntoBytes;

type Small = Server<2, 3, 100>;

fn connected() -> (Small, TestPort) {
    let (mut server, mut port) = (Small::new(Config::DEFAULT), TestPort::new());
    server.offer(Offer::ECHO);
    server.offer(Offer::ECHO);
    connect(&mut server, &mut port, Version::V5_3);
    (server, port)
}

/// Posts the messages and returns the answers' statuses.
fn create(server: &mut Small, port: &mut TestPort, messages: &[Vec<u8>]) -> Vec<NtStatus> {
    for message in messages {
        server.message(4, message, port).unwrap();
    }
    port.take().iter().map(|m| m.message::<GpadlCreated>().status).collect()
}

fn pages(count: u64) -> Vec<u64> {
    (0..count).map(|i| 0x100 + i * 3).collect()
}

#[test]
fn a_list_that_fits_the_header_is_created_at_once() {
    let (mut server, mut port) = connected();
    let messages = gpadl(1, 7, &pages(26));
    assert_eq!((messages.len(), messages[0].len()), (1, 236));
    server.message(4, &messages[0], &mut port).unwrap();
    let answer: GpadlCreated = port.one().message();
    assert_eq!((answer.channel, answer.gpadl, answer.status), (ChannelId(1), GpadlId(7), NtStatus::SUCCESS));
    assert_eq!(
        *port.events.get_mut(),
        [Event::GpadlCreated { channel: ChannelId(1), gpadl: GpadlId(7), pages: 26 }]
    );
}

#[test]
fn a_longer_list_is_created_after_its_last_body() {
    let (mut server, mut port) = connected();
    let messages = gpadl(1, 7, &pages(90));
    assert_eq!(messages.len(), 4);
    let (last, others) = messages.split_last().unwrap();
    assert_eq!(create(&mut server, &mut port, others), []);
    assert_eq!(create(&mut server, &mut port, std::slice::from_ref(last)), [NtStatus::SUCCESS]);
    assert_eq!(port.rejection(), None);
}

#[test]
fn two_lists_may_come_at_the_same_time() {
    let (mut server, mut port) = connected();
    let (a, b) = (gpadl(1, 7, &pages(40)), gpadl(2, 8, &pages(40)));
    for message in [&a[0], &b[0], &b[1], &a[1]] {
        server.message(4, message, &mut port).unwrap();
    }
    let done: Vec<_> = port.take().iter().map(|m| m.message::<GpadlCreated>().gpadl.0).collect();
    assert_eq!(done, [8, 7]);
}

#[test]
fn bytes_behind_the_list_are_ignored_as_uefi_posts_full_messages() {
    let (mut server, mut port) = connected();
    let mut message = gpadl(1, 7, &pages(3)).remove(0);
    message.resize(240, 0xff);
    assert_eq!(create(&mut server, &mut port, &[message]), [NtStatus::SUCCESS]);
}

#[test]
fn several_ranges_with_offsets_are_a_list_too() {
    let (mut server, mut port) = connected();
    let pages = pages(3);
    // 8 bytes over a page's end touch two pages.
    let messages = gpadl_ranges(1, 7, &[(8, 4092, &pages[..2]), (4096, 0, &pages[2..])]);
    assert_eq!(create(&mut server, &mut port, &messages), [NtStatus::SUCCESS]);
    assert!(matches!(port.events.get_mut()[..], [Event::GpadlCreated { pages: 3, .. }]));
}

#[test]
fn a_list_that_does_not_fit_its_own_counts_is_refused() {
    let three = pages(3);
    let big = [1 << 40];
    let cases: [(&str, Vec<Vec<u8>>); 6] = [
        ("no bytes", gpadl_ranges(1, 7, &[(0, 0, &three)])),
        ("offset beyond a page", gpadl_ranges(1, 7, &[(4096, 4096, &three)])),
        ("less pages than bytes", gpadl_ranges(1, 7, &[(4 * 4096, 0, &three)])),
        ("bytes up to the limit", gpadl_ranges(1, 7, &[(u32::MAX, 4095, &three)])),
        ("page number beyond 40 bits", gpadl_ranges(1, 7, &[(4096, 0, &big)])),
        ("no range", gpadl_ranges(1, 7, &[])),
    ];
    for (what, messages) in cases {
        let (mut server, mut port) = connected();
        assert_eq!(create(&mut server, &mut port, &messages), [NtStatus::UNSUCCESSFUL], "{what}");
        assert_eq!(port.rejection(), Some(Reason::BadRange), "{what}");
        // Nothing of it stays.
        assert_eq!(create(&mut server, &mut port, &gpadl(1, 7, &three)), [NtStatus::SUCCESS], "{what}");
    }
}

#[test]
fn more_ranges_announced_than_there_are_is_refused() {
    let (mut server, mut port) = connected();
    let mut message = gpadl(1, 7, &pages(3)).remove(0);
    message[18] = 2;
    assert_eq!(create(&mut server, &mut port, &[message]), [NtStatus::UNSUCCESSFUL]);
}

#[test]
fn the_same_name_twice_is_refused_and_the_first_stays() {
    let (mut server, mut port) = connected();
    assert_eq!(create(&mut server, &mut port, &gpadl(1, 7, &pages(3))), [NtStatus::SUCCESS]);
    for channel in [1, 2] {
        assert_eq!(create(&mut server, &mut port, &gpadl(channel, 7, &pages(3))), [NtStatus::UNSUCCESSFUL]);
        assert_eq!(port.rejection(), Some(Reason::DuplicateGpadl));
    }
    send(&mut server, &mut port, &teardown(1, 7));
    assert_eq!(port.one().message::<GpadlTorndown>().gpadl, GpadlId(7));
}

#[test]
fn a_list_for_a_channel_that_was_not_offered_is_refused() {
    let (mut server, mut port) = connected();
    for channel in [0, 3, u32::MAX] {
        assert_eq!(create(&mut server, &mut port, &gpadl(channel, 7, &pages(3))), [NtStatus::UNSUCCESSFUL]);
        assert_eq!(port.rejection(), Some(Reason::UnknownChannel));
    }
}

#[test]
fn more_lists_or_pages_than_the_host_has_room_for_are_refused() {
    let (mut server, mut port) = connected();
    assert_eq!(create(&mut server, &mut port, &gpadl(1, 1, &pages(26))), [NtStatus::SUCCESS]);
    // 27 of 100 words are taken.
    let answers = create(&mut server, &mut port, &gpadl(1, 2, &pages(73)));
    assert_eq!(answers, [NtStatus::UNSUCCESSFUL], "the header is answered, the bodies cannot be");
    assert_eq!(port.rejection(), Some(Reason::UnknownGpadl), "so says the last body");
    assert_eq!(create(&mut server, &mut port, &gpadl(1, 2, &pages(70))), [NtStatus::SUCCESS]);
    assert_eq!(create(&mut server, &mut port, &gpadl(1, 3, &pages(1))), [NtStatus::SUCCESS]);
    assert_eq!(create(&mut server, &mut port, &gpadl(1, 4, &pages(1))), [NtStatus::UNSUCCESSFUL]);
    assert_eq!(port.rejection(), Some(Reason::NoRoom));
}

#[test]
fn the_room_of_a_list_torn_down_is_used_again() {
    let (mut server, mut port) = connected();
    for round in 0..50 {
        for id in 0..3 {
            let messages = gpadl(1, round * 3 + id, &pages(20 + u64::from(id)));
            assert_eq!(create(&mut server, &mut port, &messages), [NtStatus::SUCCESS]);
        }
        for id in [1, 0, 2] {
            send(&mut server, &mut port, &teardown(1, round * 3 + id));
            assert_eq!(port.one().kind(), MessageType::GPADL_TORNDOWN);
        }
    }
}

#[test]
fn a_teardown_of_a_name_that_nobody_knows_is_answered() {
    let (mut server, mut port) = connected();
    send(&mut server, &mut port, &teardown(1, 99));
    assert_eq!(port.one().message::<GpadlTorndown>().gpadl, GpadlId(99));
    assert_eq!(port.rejection(), Some(Reason::UnknownGpadl));
}

#[test]
fn a_teardown_on_another_channel_is_not_answered_since_the_list_is_still_in_use() {
    let (mut server, mut port) = connected();
    create(&mut server, &mut port, &gpadl(1, 7, &pages(3)));
    send(&mut server, &mut port, &teardown(2, 7));
    assert_eq!(port.take(), []);
    assert_eq!(port.rejection(), Some(Reason::UnknownGpadl));
}

#[test]
fn a_teardown_of_a_list_that_is_still_coming_is_refused() {
    let (mut server, mut port) = connected();
    let messages = gpadl(1, 7, &pages(40));
    server.message(4, &messages[0], &mut port).unwrap();
    send(&mut server, &mut port, &teardown(1, 7));
    assert_eq!(port.take(), []);
    assert_eq!(port.rejection(), Some(Reason::GpadlBusy));
    assert_eq!(create(&mut server, &mut port, &messages[1..]), [NtStatus::SUCCESS]);
}

#[test]
fn a_body_for_no_list_or_for_a_finished_one_is_counted() {
    let (mut server, mut port) = connected();
    let messages = gpadl(1, 7, &pages(40));
    server.message(4, &messages[1], &mut port).unwrap();
    assert_eq!(port.rejection(), Some(Reason::UnknownGpadl));
    assert_eq!(create(&mut server, &mut port, &messages), [NtStatus::SUCCESS]);
    server.message(4, &messages[1], &mut port).unwrap();
    assert_eq!(port.rejection(), Some(Reason::GpadlBusy));
    assert_eq!(port.take(), []);
}

#[test]
fn messages_that_are_too_short_are_counted() {
    let (mut server, mut port) = connected();
    let list = gpadl(1, 7, &pages(40));
    for (message, least) in [(&list[0][..], 20), (&list[1][..], 16), (teardown(1, 7).as_bytes(), 16)] {
        for len in 8..least {
            server.message(4, &message[..len], &mut port).unwrap();
            assert_eq!(port.rejection(), Some(Reason::TooShort));
        }
    }
    assert_eq!(port.take(), []);
}

#[test]
fn the_end_of_the_connection_forgets_all_lists() {
    let (mut server, mut port) = connected();
    create(&mut server, &mut port, &gpadl(1, 7, &pages(40)));
    send(&mut server, &mut port, &header(MessageType::UNLOAD));
    connect(&mut server, &mut port, Version::V5_3);
    assert_eq!(create(&mut server, &mut port, &gpadl(1, 7, &pages(90))), [NtStatus::SUCCESS]);
}
