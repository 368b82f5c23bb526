//! The link, the channel's end, and saved state.

use crate::guest::{Data, Guest, MAC, RECEIVE_GPADL, packet_message, words};
use hv_devices::Network;
use hv_devices::network::{Received, note};
use hv_memory::save::{Reader, Writer};
use hv_tlfs::vmbus::nvsp::{MessageType, Version};
use hv_tlfs::vmbus::{
    ChannelId, CloseChannel, GpadlId, GpadlTeardown, MessageHeader, MessageType as BusMessage,
};
use zerocopy::IntoBytes;

pub(crate) fn frame() -> Vec<u8> {
    let mut frame = vec![0x5a; 100];
    frame[..6].copy_from_slice(&MAC);
    frame
}

fn link(guest: &Guest, up: bool) {
    guest.bus.with(guest.bus.devices(), &guest.host, |card, io| card.set_link(up, io)).unwrap();
}

/// Returns the status that was indicated.
pub(crate) fn indicated(guest: &mut Guest) -> Option<u32> {
    let packet = guest.take(1)?;
    assert_eq!((packet.kind, packet.word(4)), (7, 1));
    let message = guest.messages(&packet).remove(0);
    assert_eq!((message.len(), &message[..4]), (20, &words(&[7])[..]));
    guest.complete(1, packet.id);
    Some(u32::from_le_bytes(message[8..12].try_into().unwrap()))
}

#[test]
fn a_guest_is_told_of_the_link_and_gets_nothing_while_it_is_down() {
    let mut guest = Guest::new();
    link(&guest, true);
    assert_eq!(indicated(&mut guest), None, "it was up");
    link(&guest, false);
    assert_eq!(indicated(&mut guest), Some(0x4001_000c));
    assert_eq!(guest.query(0x0001_0114), (0, words(&[1])));
    assert_eq!(guest.arrive(&frame()), Received::Dropped);
    let message = packet_message(&frame(), &[]);
    assert_eq!(guest.send(&Data { section: Some((0, &message)), listed: None }), 1);
    assert!(guest.sent().is_empty());
    link(&guest, true);
    assert_eq!(indicated(&mut guest), Some(0x4001_000b));
    assert_eq!(guest.arrive(&frame()), Received::Delivered);
}

#[test]
fn a_change_of_the_link_waits_for_a_section_and_only_the_last_counts() {
    let mut guest = Guest::new();
    let mut ids = Vec::new();
    while guest.arrive(&frame()) == Received::Delivered {}
    while let Some(packet) = guest.take(1) {
        ids.push(packet.id);
    }
    // Answers use up the sections that are kept for them.
    let keepalive = crate::guest::rndis(8, &words(&[1]));
    let mut statuses = Vec::new();
    for _ in 0..17 {
        guest.start(1, true, &Data { section: Some((0, &keepalive)), listed: None });
        while let Some(packet) = guest.take(1) {
            match packet.kind {
                7 => ids.push(packet.id),
                _ => statuses.push(packet.word(4)),
            }
        }
    }
    assert_eq!(statuses.iter().filter(|status| **status == 1).count(), 16);
    assert_eq!(statuses.last(), Some(&6), "busy");
    link(&guest, false);
    link(&guest, true);
    link(&guest, false);
    assert!(guest.take(1).is_none());
    guest.complete(1, ids[0]);
    assert_eq!(indicated(&mut guest), Some(0x4001_000c));
    assert!(guest.take(1).is_none());
}

#[test]
fn a_link_that_is_down_from_the_start_is_no_news() {
    let mut guest = Guest::opened();
    link(&guest, false);
    guest.connect(Version::V61, 1514);
    assert_eq!(indicated(&mut guest), None);
    assert_eq!(guest.query(0x0001_0114), (0, words(&[1])));
}

pub(crate) fn close(guest: &mut Guest) {
    let header = MessageHeader::new(BusMessage::CLOSE_CHANNEL);
    guest.post(CloseChannel { header, channel: ChannelId(1) }.as_bytes());
}

fn teardown(guest: &mut Guest, gpadl: u32) {
    let header = MessageHeader::new(BusMessage::GPADL_TEARDOWN);
    let message = GpadlTeardown { header, channel: ChannelId(1), gpadl: GpadlId(gpadl) };
    guest.post(message.as_bytes());
}

#[test]
fn a_guest_that_changes_its_mtu_begins_anew() {
    let mut guest = Guest::new();
    for mtu in [9014, 1514, 5000] {
        // What Linux does (netvsc_detach, netvsc_attach).
        assert_eq!(guest.set(0x0001_010e, &words(&[0])), 0);
        assert_eq!(guest.arrive(&frame()), Received::Dropped);
        assert!(guest.take(1).is_none());
        guest.control(3, &words(&[1]));
        guest.inband(MessageType::REVOKE_RECEIVE_BUFFER, &[0xcafe]);
        guest.inband(MessageType::REVOKE_SEND_BUFFER, &[0]);
        close(&mut guest);
        guest.posted();
        for gpadl in [1, RECEIVE_GPADL, RECEIVE_GPADL + 1] {
            teardown(&mut guest, gpadl);
        }
        assert_eq!(guest.posted(), [12; 3], "GPADL_TORNDOWN");
        guest.open(1);
        guest.connect(Version::V61, mtu);
        assert_eq!(guest.query(0x0001_0106), (0, words(&[mtu - 14])));
        assert_eq!(guest.arrive(&frame()), Received::Delivered);
        assert_eq!(guest.frames(1, true).len(), 1);
    }
}

/// The back end keeps it until then, and what comes after it.
#[test]
fn a_frame_that_waits_is_asked_for_again_when_the_guest_ends_receiving() {
    let halt = |guest: &mut Guest| drop(guest.control(3, &words(&[1])));
    let revoke = |guest: &mut Guest| guest.inband(MessageType::REVOKE_RECEIVE_BUFFER, &[0xcafe]);
    for (what, end) in [("halt", &halt as &dyn Fn(&mut Guest)), ("revoke", &revoke), ("close", &close)] {
        let mut guest = Guest::new();
        while guest.arrive(&frame()) == Received::Delivered {}
        while guest.take(1).is_some() {}
        guest.host.notes.take();
        assert_eq!(guest.arrive(&frame()), Received::Later);
        end(&mut guest);
        assert_eq!(guest.host.notes.take(), [(note::ROOM, 0)], "{what}");
        assert_eq!(guest.arrive(&frame()), Received::Dropped, "{what}");
    }
}

#[test]
fn pages_are_the_guests_again_when_no_frame_needs_them() {
    let mut guest = Guest::new();
    guest.host.hold.set(true);
    let message = packet_message(&frame(), &[]);
    guest.start(1, false, &Data { section: Some((0, &message)), listed: None });
    close(&mut guest);
    guest.posted();
    teardown(&mut guest, RECEIVE_GPADL + 1);
    assert!(guest.posted().is_empty(), "a frame of the send buffer is on its way");
    let token = guest.host.held.borrow_mut().pop().unwrap();
    guest.bus.completed(guest.bus.devices(), token, Ok(()), &guest.host).unwrap();
    assert_eq!(guest.posted(), [12]);
    assert!(guest.take(1).is_none(), "the channel is closed");
}

#[test]
fn a_buffer_that_is_torn_down_is_not_written_any_more() {
    let mut guest = Guest::new();
    teardown(&mut guest, RECEIVE_GPADL);
    let before = guest.host.memory.bytes_of(0x200 * 4096, 4096);
    assert_eq!(guest.arrive(&frame()), Received::Dropped);
    assert_eq!(guest.host.memory.bytes_of(0x200 * 4096, 4096), before);
    let message = packet_message(&frame(), &[]);
    teardown(&mut guest, RECEIVE_GPADL + 1);
    assert_eq!(guest.send(&Data { section: Some((0, &message)), listed: None }), 5);
    assert_eq!(guest.send(&Data { section: None, listed: Some((0, &message)) }), 1);
}

trait Bytes {
    fn bytes_of(&self, gpa: u64, len: u64) -> Vec<u8>;
}

impl Bytes for hv_memory::testing::Memory {
    fn bytes_of(&self, gpa: u64, len: u64) -> Vec<u8> {
        use hv_memory::GuestMemory;
        (gpa..gpa + len)
            .map(|gpa| {
                let mut byte = [0];
                self.read(gpa, &mut byte).unwrap();
                byte[0]
            })
            .collect()
    }
}

#[test]
fn a_restored_card_goes_on_where_the_saved_one_was() {
    let mut guest = Guest::new();
    for _ in 0..5 {
        assert_eq!(guest.arrive(&frame()), Received::Delivered);
    }
    let outstanding = guest.take(1).unwrap().id;
    guest.restore();
    assert_eq!(guest.frames(1, true).len(), 4);
    guest.host.notes.take();
    guest.complete(1, outstanding);
    guest.complete(1, outstanding);
    assert_eq!(guest.host.notes.take(), [(note::REFUSED, outstanding)]);
    let message = packet_message(&frame(), &[]);
    assert_eq!(guest.send(&Data { section: Some((9, &message)), listed: None }), 1);
    assert_eq!(guest.arrive(&frame()), Received::Delivered);
    assert_eq!(guest.frames(1, true), [(frame(), vec![])]);
    assert_eq!(guest.query(0x0002_0102), (0, words(&[6])));
}

#[test]
fn saved_state_is_judged() {
    use hv_vmbus::Device;
    let guest = Guest::new();
    guest.arrive(&frame());
    let image = guest
        .bus
        .with(guest.bus.devices(), &guest.host, |card, _| {
            let mut image = Vec::new();
            card.save(&mut Writer::new(&mut |bytes| image.extend_from_slice(bytes)));
            image
        })
        .unwrap();
    let restored = |image: &[u8]| {
        let mut card = Network::new();
        card.set_mac(MAC);
        card.restore(&mut Reader::new(image)).map(|()| card)
    };
    assert!(restored(&image).is_ok());
    for cut in (0..image.len()).step_by(7) {
        assert!(restored(&image[..cut]).is_err(), "cut at {cut}");
    }
    for at in 0..120 {
        for bit in 0..8 {
            let mut other = image.clone();
            other[at] ^= 1 << bit;
            // What was read is what is saved again; a number of fewer parts leaves the rest, which the bus refuses.
            if let Ok(card) = restored(&other) {
                let mut again = Vec::new();
                card.save(&mut Writer::new(&mut |bytes| again.extend_from_slice(bytes)));
                assert!(other.starts_with(&again), "byte {at}");
            }
        }
    }
}

#[test]
fn a_version_that_the_host_refuses_is_not_agreed_and_an_older_one_is() {
    let mut guest = Guest::opened();
    guest.host.newest.set(Version::V5.0);
    for (version, status) in [(Version::V61, 2), (Version::V6, 2), (Version::V5, 1)] {
        let answer = guest.nvsp(MessageType::INIT, &[version.0, version.0]);
        assert_eq!((answer.word(0), answer.word(12)), (2, status), "{version:?}");
    }
}
