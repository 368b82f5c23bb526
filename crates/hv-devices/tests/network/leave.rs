//! A card that is removed while its guest uses it.

use crate::guest::{Data, Guest, packet_message};
use crate::life::{close, frame, indicated};
use hv_devices::network::Received;
use hv_tlfs::time::ReferenceTime;

const MS: u64 = 10_000;
const DISCONNECTED: u32 = 0x4001_000c;
/// The kind of the message that rescinds a channel.
const RESCIND: u32 = 2;

fn leave(guest: &Guest) {
    assert!(guest.bus.with(guest.bus.devices(), &guest.host, |card, io| card.leave(io)).unwrap());
}

/// Lets time pass by 1 ms at once, at most `limit` ms, until the channel is rescinded. Returns when it was.
fn rescinded(guest: &Guest, limit: u64) -> Option<u64> {
    (0..=limit).find(|_| {
        guest.bus.flush(&guest.host);
        let done = guest.posted().contains(&RESCIND);
        guest.host.now.set(ReferenceTime(guest.host.now.get().0 + MS));
        done
    })
}

#[test]
fn a_card_goes_when_the_guest_has_given_everything_back() {
    let mut guest = Guest::new();
    let received: Vec<_> = (0..3).map(|_| guest.arrive(&frame())).collect();
    assert_eq!(received, [Received::Delivered; 3]);
    guest.posted();
    leave(&guest);
    let ids: Vec<u64> = (0..3).filter_map(|_| guest.take(1)).map(|packet| packet.id).collect();
    assert_eq!(indicated(&mut guest), Some(DISCONNECTED));
    guest.complete(1, ids[0]);
    guest.complete(1, ids[1]);
    assert_eq!(rescinded(&guest, 1000), None, "the guest has a section");
    assert_eq!(guest.arrive(&frame()), Received::Dropped);
    guest.complete(1, ids[2]);
    let after = rescinded(&guest, 100).expect("it is rescinded");
    assert!(after <= 20, "{after} ms");
}

#[test]
fn a_card_stays_while_the_guest_sends() {
    let mut guest = Guest::new();
    guest.posted();
    leave(&guest);
    assert_eq!(indicated(&mut guest), Some(DISCONNECTED));
    let message = packet_message(&frame(), &[]);
    for _ in 0..20 {
        assert_eq!(guest.send(&Data { section: Some((0, &message)), listed: None }), 1);
        // It is acknowledged as long as it sends.
        assert_eq!(guest.arrive(&frame()), Received::Delivered);
        assert_eq!(guest.frames(1, true).len(), 1);
        assert_eq!(rescinded(&guest, 200), None);
    }
    assert_eq!(guest.sent().len(), 20);
    let after = rescinded(&guest, 1000).expect("it is rescinded");
    assert!((50..=520).contains(&after), "{after} ms");
}

#[test]
fn a_frame_that_is_under_way_is_completed_first() {
    let mut guest = Guest::new();
    guest.host.hold.set(true);
    let message = packet_message(&frame(), &[]);
    let id = guest.start(1, false, &Data { section: Some((0, &message)), listed: None });
    guest.posted();
    leave(&guest);
    assert_eq!(indicated(&mut guest), Some(DISCONNECTED));
    assert_eq!(rescinded(&guest, 1000), None);
    let token = guest.host.held.borrow_mut().pop().unwrap();
    guest.bus.completed(guest.bus.devices(), token, Ok(()), &guest.host).unwrap();
    assert_eq!(guest.completion(id), 1);
    assert!(rescinded(&guest, 600).is_some());
}

#[test]
fn a_guest_that_keeps_what_it_has_got_loses_the_card_all_the_same() {
    let guest = Guest::new();
    assert_eq!(guest.arrive(&frame()), Received::Delivered);
    guest.posted();
    leave(&guest);
    let after = rescinded(&guest, 20_000).expect("it is rescinded");
    assert!((10_000..=10_020).contains(&after), "{after} ms");
}

#[test]
fn a_card_that_is_not_used_goes_at_once() {
    let guest = Guest::opened();
    guest.posted();
    leave(&guest);
    assert_eq!(rescinded(&guest, 0), Some(0));
}

#[test]
fn a_card_that_is_gone_takes_no_orders() {
    let guest = Guest::new();
    let link =
        |up| guest.bus.with(guest.bus.devices(), &guest.host, |card, io| card.set_link(up, io)).unwrap();
    assert!(link(false) && link(true) && link(true));
    guest.posted();
    leave(&guest);
    assert!(!link(true), "it leaves");
    leave(&guest);
    assert!(rescinded(&guest, 20_000).is_some());
    let left = guest.bus.with(guest.bus.devices(), &guest.host, |card, io| card.leave(io)).unwrap();
    assert!(!left && !link(false) && !link(true), "it is gone");
}

#[test]
fn a_guest_may_close_the_channel_first() {
    let mut guest = Guest::new();
    leave(&guest);
    assert_eq!(indicated(&mut guest), Some(DISCONNECTED));
    guest.posted();
    close(&mut guest);
    assert_eq!(rescinded(&guest, 0), Some(0));
}

#[test]
fn a_restored_card_goes_too() {
    let mut guest = Guest::new();
    leave(&guest);
    assert_eq!(indicated(&mut guest), Some(DISCONNECTED));
    guest.restore();
    guest.posted();
    assert!(rescinded(&guest, 600).is_some());
}
