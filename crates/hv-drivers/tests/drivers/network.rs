//! The network card.

use std::sync::atomic::Ordering;

use hv_devices::network::{Lost, Received};
use hv_devices::storage::Storage;
use hv_drivers::hv_vmbus_client::{self, Open};
use hv_drivers::network::{self, Buffers, Card, Error, Frames, Sizes};
use hv_tlfs::vmbus::guid;
use hv_tlfs::vmbus::nvsp::Version;
use hv_tlfs::vp::VpIndex;

use crate::host::{MAC, TestClient, TestDma, Wire, World};

pub(crate) type TestCard = Card<'static, TestDma, Wire>;

/// Times out: the host answers at once, or never.
fn never() -> Result<(), hv_vmbus_client::Error> {
    Err(hv_vmbus_client::Error::TimedOut)
}

pub(crate) fn open(world: &'static World, mtu: u16) -> (TestClient, TestCard) {
    let mut client = world.client();
    let offer = client.find(guid::NETWORK).unwrap();
    let place = (&offer, Open::on(VpIndex(0)));
    let size = (mtu, Sizes::default());
    let card = network::open(&mut client, place, size, &TestDma(world), &mut world.os()).unwrap();
    (client, card)
}

pub(crate) fn world() -> &'static World {
    World::new(Storage::new(), &[])
}

fn close(world: &'static World, mut client: TestClient, card: TestCard) {
    let closing = card.close(&mut client).unwrap();
    client.block_on(closing, &mut world.os()).unwrap();
    assert_eq!(world.host.ram.live(), 0);
}

/// Builds a frame of this length to everyone, whose bytes encode their offsets.
pub(crate) fn frame(len: usize, seed: u8) -> Vec<u8> {
    let mut frame: Vec<u8> = (0..len).map(|n| (n as u8).wrapping_mul(7) ^ seed).collect();
    frame[..6].fill(0xff);
    // A type that no part of the card looks into.
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    frame
}

#[test]
fn a_card_tells_what_it_is() {
    let world = world();
    let (client, mut card) = open(world, 1500);
    assert_eq!(card.version(), Version::V61);
    assert_eq!((card.mac(), card.mtu(), card.is_up()), (MAC, 1500, true));
    assert!(card.can_send() && !card.is_over() && !card.take_link_change());
    assert_eq!(card.receive(&mut [0; 2000]), Ok(None));
    close(world, client, card);
}

#[test]
pub(crate) fn frames_go_out_as_they_are() {
    let world = world();
    let (client, mut card) = open(world, 1500);
    let mut sent = Vec::new();
    for (seed, len) in (0..).zip([14, 15, 60, 64, 1513, 1514]) {
        sent.push(frame(len, seed));
        card.send(&sent[usize::from(seed)]).unwrap();
        assert_eq!(card.receive(&mut [0; 2000]), Ok(None));
    }
    assert!(*world.host.frames.lock().unwrap() == sent);
    for len in [0, 13, 1515, 9000] {
        assert_eq!(card.send(&vec![0; len]), Err(Error::Length(len)));
    }
    assert_eq!((card.counts().sent, card.counts().send_errors), (6, 0));
    close(world, client, card);
}

#[test]
pub(crate) fn frames_come_in_as_they_are() {
    let world = world();
    let (client, mut card) = open(world, 1500);
    let mut room = [0; 1514];
    for round in 0..300 {
        // More than there are sections: each goes back to the host.
        let lens = [14, 60, 1000, 1514];
        for (seed, len) in (0_u8..).map(|n| n.wrapping_add(round as u8)).zip(lens) {
            assert_eq!(world.frame(&frame(len, seed)), Received::Delivered);
        }
        for (seed, len) in (0_u8..).map(|n| n.wrapping_add(round as u8)).zip(lens) {
            assert_eq!(card.receive(&mut room), Ok(Some(len)));
            assert!(room[..len] == frame(len, seed));
        }
        assert_eq!(card.receive(&mut room), Ok(None));
    }
    // One that does not fit is dropped, and the next one is not.
    for len in [1514, 100] {
        assert_eq!(world.frame(&frame(len, 1)), Received::Delivered);
    }
    assert_eq!(card.receive(&mut room[..1513]), Ok(Some(100)));
    assert_eq!((card.counts().received, card.counts().receive_drops), (1201, 1));
    close(world, client, card);
}

#[test]
fn a_tag_that_the_host_has_taken_out_is_in_the_frame() {
    let world = world();
    let (client, mut card) = open(world, 1500);
    let mut tagged = frame(104, 3);
    tagged[12..16].copy_from_slice(&[0x81, 0, 0xb1, 0x23]);
    assert_eq!(world.frame(&tagged), Received::Delivered);
    let mut room = [0; 1600];
    assert_eq!(card.receive(&mut room), Ok(Some(104)));
    assert!(room[..104] == tagged);
    close(world, client, card);
}

#[test]
fn a_guest_that_does_not_receive_loses_no_frame_that_the_host_keeps() {
    let world = world();
    let (client, mut card) = open(world, 1500);
    let mut delivered = 0_u16;
    while world.frame(&frame(1514, delivered as u8)) == Received::Delivered {
        delivered += 1;
    }
    assert!(delivered > 50, "{delivered}");
    let mut room = [0; 1514];
    for n in 0..delivered {
        assert_eq!(card.receive(&mut room), Ok(Some(1514)));
        assert!(room == frame(1514, n as u8)[..]);
    }
    assert_eq!(card.receive(&mut room), Ok(None));
    assert_eq!(world.frame(&frame(1514, 0)), Received::Delivered);
    assert_eq!(card.receive(&mut room), Ok(Some(1514)));
    close(world, client, card);
}

#[test]
fn as_many_frames_are_in_flight_as_there_are_sections() {
    let world = world();
    let (client, mut card) = open(world, 1500);
    world.host.hold.store(true, Ordering::Relaxed);
    let mut count = 0_u8;
    let full = loop {
        match card.send(&frame(500, count)) {
            Ok(()) => count += 1,
            Err(error) => break error,
        }
    };
    // 256 KiB in sections of 6 KiB.
    assert_eq!((count, full), (42, Error::Busy));
    assert!(full.may_retry() && !card.can_send());
    // The host's back end has room for some of them: the others follow when those have ended.
    assert!(world.end_frame(Err(Lost)));
    while world.end_frame(Ok(())) {
        assert_eq!(card.receive(&mut []), Ok(None));
    }
    world.host.hold.store(false, Ordering::Relaxed);
    card.send(&frame(500, count)).unwrap();
    assert_eq!(card.receive(&mut []), Ok(None));
    let sent = world.host.frames.lock().unwrap();
    assert!(sent.iter().zip(0..).all(|(sent, seed)| *sent == frame(500, seed)));
    assert_eq!(sent.len(), usize::from(count) + 1);
    drop(sent);
    close(world, client, card);
}

#[test]
fn the_link_goes_down_and_up() {
    let world = world();
    let (client, mut card) = open(world, 1500);
    for up in [false, true, false, true] {
        world.bus.with(&world.bus.devices().card, &world.host, |card, io| card.set_link(up, io)).unwrap();
        assert_eq!(card.receive(&mut []), Ok(None));
        assert_eq!((card.is_up(), card.take_link_change(), card.take_link_change()), (up, true, false));
    }
    close(world, client, card);
}

#[test]
fn the_mtu_is_what_both_can_do() {
    for (asked, mtu) in [(1500, 1500), (576, 576), (4000, 4000)] {
        let world = world();
        let (client, mut card) = open(world, asked);
        assert_eq!(card.mtu(), mtu);
        let longest = mtu + 14;
        card.send(&frame(longest, 1)).unwrap();
        assert_eq!(card.send(&vec![0; longest + 1]), Err(Error::Length(longest + 1)));
        assert_eq!(world.frame(&frame(longest, 2)), Received::Delivered);
        assert_eq!(card.receive(&mut vec![0; longest]), Ok(Some(longest)));
        close(world, client, card);
    }
    // A section of the host's send buffer holds no frame of this length; all memory comes back.
    let world = world();
    let mut client = world.client();
    let offer = client.find(guid::NETWORK).unwrap();
    let size = (9000, Sizes::default());
    let place = (&offer, Open::on(VpIndex(0)));
    let error = network::open(&mut client, place, size, &TestDma(world), &mut world.os());
    assert_eq!(error.err(), Some(Error::Section(6144)));
    assert_eq!(world.host.ram.live(), 0);
}

#[test]
pub(crate) fn buffers_that_the_host_refuses_fail_the_card() {
    let world = world();
    let mut client = world.client();
    let offer = client.find(guid::NETWORK).unwrap();
    // One page is a section or two, and the host needs some for its answers.
    let sizes = Sizes::default().with_ring(4).with_receive(1).with_send(16);
    let place = (&offer, Open::on(VpIndex(0)));
    let opened = network::open(&mut client, place, (1500, sizes), &TestDma(world), &mut world.os());
    assert!(matches!(opened, Err(Error::Refused(_))), "{opened:?}");
    assert_eq!(world.host.ram.live(), 0);
    // The same channel works with buffers that do.
    let sizes = Sizes::default().with_ring(2).with_receive(16).with_send(2);
    let (place, dma) = ((&offer, Open::on(VpIndex(0))), TestDma(world));
    let mut card = network::open(&mut client, place, (1500, sizes), &dma, &mut world.os()).unwrap();
    for n in 0..100 {
        card.send(&frame(1514, n)).unwrap();
        assert_eq!(card.receive(&mut []), Ok(None));
    }
    close(world, client, card);
}

#[test]
fn a_card_that_is_not_ready_sends_nothing() {
    let world = world();
    let mut client = world.client();
    let (offer, dma, mut os) = (client.find(guid::NETWORK).unwrap(), TestDma(world), world.os());
    let channel = client.open_channel(&offer, 4, Open::on(VpIndex(0)), &dma, &mut os).unwrap();
    let pages = |count| hv_vmbus_client::PageRun::new(&dma, count).unwrap();
    let (receive, send, control) = (pages(16), pages(16), pages(1));
    let receive = client.share_pages(&offer, receive, &mut os).unwrap();
    let send = client.share_pages(&offer, send, &mut os).unwrap();
    let mut card = Card::new(channel, Buffers { receive, send }, 1500, control);
    assert!(!card.can_send());
    assert_eq!(card.send(&frame(60, 0)), Err(Error::NotReady));
    card.wait_ready(&mut never).unwrap();
    card.send(&frame(60, 0)).unwrap();
    close(world, client, card);
}
