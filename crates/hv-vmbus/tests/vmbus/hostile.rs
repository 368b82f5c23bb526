//! Guests that do anything: nothing they send may hurt the host, and a guest that keeps the rules is served after them.

use crate::common::Server;
use crate::common::{
    GuestPacket, GuestRing, Memory, Opened, PAGES, SPLIT, TestPort, close, connect, contact, gpadl, header,
    memory, open, send, teardown,
};
use hv_devices::any::Offer;
use hv_memory::GuestMemory;
use hv_memory::save::{Reader, Writer};
use hv_vmbus::Config;
use hv_vmbus::protocol::{
    ChannelId, MessageType, ModifyChannel, NtStatus, OpenResult, PacketType, RelIdReleased, Version,
};
use hv_vmbus::ring::{Consumer, Outgoing, Producer, PushError, Ring, RingError};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::VecDeque;
use zerocopy::IntoBytes;

type Small = Server<4, 4, 64>;

/// Step of a guest or the host's owner.
#[derive(Clone, Debug)]
enum Step {
    Contact(u32, u64),
    Header(u32),
    Gpadl {
        channel: u32,
        id: u32,
        pages: u8,
        messages: usize,
    },
    Open {
        channel: u32,
        id: u32,
        vp: u32,
        split: u32,
    },
    Close(u32),
    Teardown {
        channel: u32,
        id: u32,
    },
    Modify {
        channel: u32,
        vp: u32,
    },
    Release(u32),
    Raw(u32, Vec<u8>),
    Signal(u32),
    Poke {
        page: usize,
        at: u64,
        word: u32,
    },
    Packet {
        payload: u8,
        flags: u16,
    },
    Receive,
    Room(usize),
    Time(u64),
    Offer,
    Rescind(u32),
    /// The host is saved and restored, which must not show.
    Restore,
}

fn small() -> impl Strategy<Value = u32> {
    prop_oneof![8 => 0u32..6, 1 => any::<u32>()]
}

fn step() -> impl Strategy<Value = Step> {
    let version =
        prop_oneof![4 => Just(Version::V5_3.0), 1 => (3u32..7, 0u32..5).prop_map(|(a, b)| a << 16 | b)];
    let index = prop_oneof![(0u32..2048).prop_map(|i| i * 8), any::<u32>()];
    prop_oneof![
        2 => (version, prop_oneof![3 => Just(2u64), 1 => any::<u64>()]).prop_map(|(v, t)| Step::Contact(v, t)),
        3 => prop_oneof![Just(3u32), Just(16), 0u32..32].prop_map(Step::Header),
        4 => (small(), small(), 0u8..60, 0usize..4)
            .prop_map(|(channel, id, pages, messages)| Step::Gpadl { channel, id, pages, messages }),
        4 => (small(), small(), small(), prop_oneof![3 => Just(SPLIT), 1 => any::<u32>()])
            .prop_map(|(channel, id, vp, split)| Step::Open { channel, id, vp, split }),
        2 => small().prop_map(Step::Close),
        2 => (small(), small()).prop_map(|(channel, id)| Step::Teardown { channel, id }),
        1 => (small(), small()).prop_map(|(channel, vp)| Step::Modify { channel, vp }),
        1 => small().prop_map(Step::Release),
        2 => (0u32..32, vec(any::<u8>(), 0..236)).prop_map(|(kind, bytes)| Step::Raw(kind, bytes)),
        4 => prop_oneof![4 => (0u32..6).prop_map(|c| 0x2000 | c), 1 => any::<u32>()].prop_map(Step::Signal),
        3 => (0usize..10, prop_oneof![Just(0u64), Just(4), Just(8), Just(12), (0u64..1024).prop_map(|i| i * 4)], index)
            .prop_map(|(page, at, word)| Step::Poke { page, at, word }),
        4 => (any::<u8>(), 0u16..3).prop_map(|(payload, flags)| Step::Packet { payload, flags }),
        2 => Just(Step::Receive),
        1 => prop_oneof![Just(usize::MAX), 0usize..4].prop_map(Step::Room),
        1 => any::<u32>().prop_map(|t| Step::Time(t.into())),
        1 => Just(Step::Offer),
        1 => small().prop_map(Step::Rescind),
        2 => Just(Step::Restore),
    ]
}

/// Returns true if an index in the header makes sense, as the guest of these tests needs for its own accesses.
fn sane(ring: &GuestRing, memory: &Memory) -> bool {
    [0, 4].iter().all(|at| ring.word(memory, *at) < ring.size() && ring.word(memory, *at).is_multiple_of(8))
}

fn saved(server: &Small) -> Vec<u8> {
    let mut image = Vec::new();
    server.save(&mut Writer::new(&mut |part| image.extend_from_slice(part)));
    image
}

fn post(server: &mut Small, port: &mut TestPort, payload: &[u8]) {
    let payload = &payload[..payload.len().min(240)];
    // A guest that takes no messages may be told to wait.
    let _ = server.message(4, payload, port);
}

fn play(server: &mut Small, port: &mut TestPort, step: &Step) {
    let (outbound, inbound) = PAGES.split_at(SPLIT as usize);
    match step {
        Step::Contact(version, target) => {
            let mut message = contact(Version(*version));
            message.target_info.0 = *target;
            post(server, port, message.as_bytes());
        }
        Step::Header(kind) => post(server, port, header(MessageType(*kind)).as_bytes()),
        Step::Gpadl { channel, id, pages, messages } => {
            let pages: Vec<u64> = PAGES.into_iter().cycle().take((*pages).into()).collect();
            for message in gpadl(*channel, *id, &pages).iter().take(*messages) {
                post(server, port, message);
            }
        }
        Step::Open { channel, id, vp, split } => {
            post(server, port, open(*channel, *id, *vp, *split).as_bytes());
        }
        Step::Close(channel) => post(server, port, close(*channel).as_bytes()),
        Step::Teardown { channel, id } => post(server, port, teardown(*channel, *id).as_bytes()),
        Step::Modify { channel, vp } => {
            let header = header(MessageType::MODIFY_CHANNEL);
            let message = ModifyChannel { header, channel: ChannelId(*channel), target_vp: *vp };
            post(server, port, message.as_bytes());
        }
        Step::Release(channel) => {
            let header = header(MessageType::RELID_RELEASED);
            post(server, port, RelIdReleased { header, channel: ChannelId(*channel) }.as_bytes());
        }
        Step::Raw(kind, bytes) => post(server, port, &[&kind.to_le_bytes()[..], bytes].concat()),
        Step::Signal(connection) => {
            let _ = server.signal(*connection, port);
        }
        Step::Poke { page, at, word } => {
            port.memory.store_release(PAGES[*page] * 4096 + at, *word).unwrap();
        }
        Step::Packet { payload, flags } => {
            let ring = GuestRing::new(outbound);
            if sane(&ring, &port.memory) {
                let payload = vec![*payload; usize::from(*payload) * 8];
                let packet = GuestPacket { kind: 6, flags: *flags, transaction: 1, payload };
                ring.send(&port.memory, &packet);
            }
        }
        Step::Receive => {
            // The guest only moves its index on, to where the host's is.
            let ring = GuestRing::new(inbound);
            let write = ring.word(&port.memory, 0);
            ring.set_word(&port.memory, 4, write);
        }
        Step::Room(room) => {
            port.room = *room;
            port.received.get_mut().clear();
            server.flush(port);
        }
        Step::Time(time) => {
            port.time += time;
            server.flush(port);
        }
        Step::Offer => {
            server.offer(Offer::HEARTBEAT);
            server.flush(port);
        }
        Step::Restore => {
            let image = saved(server);
            let mut restored = Small::new(Config::DEFAULT);
            let mut reader = Reader::new(&image);
            assert_eq!(restored.restore(&mut reader).and_then(|()| reader.end()), Ok(()));
            assert_eq!(saved(&restored), image);
            *server = restored;
        }
        Step::Rescind(channel) => {
            server.rescind(ChannelId(*channel));
            server.flush(port);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn after_anything_a_guest_that_keeps_the_rules_is_served(steps in vec(step(), 0..120)) {
        let mut server = Small::new(Config::DEFAULT);
        let mut port = TestPort::new();
        server.offer(Offer::ECHO);
        server.offer(Offer::HEARTBEAT);
        connect(&mut server, &mut port, Version::V5_3);
        for step in &steps {
            play(&mut server, &mut port, step);
        }

        port.room = usize::MAX;
        // A channel must be left, or be there again.
        server.offer(Offer::ECHO);
        server.flush(&mut port);
        port.take();
        for page in PAGES {
            port.memory.write(page * 4096, &[0; 4096]).unwrap();
        }
        send(&mut server, &mut port, &header(MessageType::UNLOAD));
        prop_assert_eq!(port.one().kind(), MessageType::UNLOAD_RESPONSE);
        send(&mut server, &mut port, &contact(Version::V5_3));
        prop_assert_eq!(port.one().payload[8], 1);
        send(&mut server, &mut port, &header(MessageType::REQUEST_OFFERS));
        let offers = port.take();
        prop_assert!(offers.len() >= 2);
        prop_assert_eq!(offers.last().unwrap().kind(), MessageType::ALL_OFFERS_DELIVERED);
        let channel = u32::from_le_bytes(offers[0].payload[184..188].try_into().unwrap());
        for message in gpadl(channel, 99, &PAGES) {
            server.message(4, &message, &mut port).unwrap();
        }
        send(&mut server, &mut port, &open(channel, 99, 0, SPLIT));
        let answer: OpenResult = port.take()[1].message();
        prop_assert_eq!(answer.status, NtStatus::SUCCESS);
    }

    #[test]
    fn a_run_with_restores_in_it_ends_as_the_run_without(steps in vec(step(), 0..80)) {
        let mut ends = Vec::new();
        for restores in [false, true] {
            let mut server = Small::new(Config::DEFAULT);
            let mut port = TestPort::new();
            server.offer(Offer::ECHO);
            server.offer(Offer::HEARTBEAT);
            connect(&mut server, &mut port, Version::V5_3);
            for step in &steps {
                if restores || !matches!(step, Step::Restore) {
                    play(&mut server, &mut port, step);
                }
            }
            ends.push((saved(&server), port.received.take(), port.interrupts.take(), port.events.take()));
        }
        prop_assert!(ends[0] == ends[1]);
    }

    #[test]
    fn a_damaged_image_is_refused_or_harmless(
        steps in vec(step(), 0..40),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        more in vec(step(), 0..40),
    ) {
        let mut server = Small::new(Config::DEFAULT);
        let mut port = TestPort::new();
        server.offer(Offer::ECHO);
        server.offer(Offer::HEARTBEAT);
        connect(&mut server, &mut port, Version::V5_3);
        for step in &steps {
            play(&mut server, &mut port, step);
        }
        let mut image = saved(&server);
        for (at, byte) in &damage {
            let len = image.len();
            image[at.index(len)] = *byte;
        }
        let _ = server.restore(&mut Reader::new(&image));
        for step in &more {
            if !matches!(step, Step::Restore) {
                play(&mut server, &mut port, step);
            }
        }
    }

    #[test]
    fn reset_leaves_nothing_of_a_guest(steps in vec(step(), 0..60)) {
        let mut server = Small::new(Config::DEFAULT);
        let mut port = TestPort::new();
        server.offer(Offer::ECHO);
        server.offer(Offer::HEARTBEAT);
        let fresh = format!("{server:?}");
        connect(&mut server, &mut port, Version::V5_3);
        for step in &steps {
            if !matches!(step, Step::Offer | Step::Rescind(_)) {
                play(&mut server, &mut port, step);
            }
        }
        server.reset();
        prop_assert_eq!(format!("{server:?}"), fresh);
    }

    #[test]
    fn what_goes_into_a_ring_comes_out_of_it(
        pages in 2usize..5,
        steps in vec(prop_oneof![2 => (0u32..1500).prop_map(Some), 1 => Just(None)], 0..200),
    ) {
        let memory = memory(1 << 20);
        let ring = Ring::new(&memory, &PAGES[..pages]).unwrap();
        let mut producer = Producer::attach(&ring).unwrap();
        let mut consumer = Consumer::attach(&ring).unwrap();
        let mut model = VecDeque::new();
        let mut next = 0u64;
        for step in steps {
            if let Some(len) = step {
                let payload: Vec<u8> = (0..len).map(|i| (u64::from(i) * 5 + next) as u8).collect();
                let packet = Outgoing {
                    packet_type: PacketType::DATA_IN_BAND,
                    flags: 1,
                    transaction_id: next,
                    len,
                };
                match producer.push_bytes(&ring, &packet, &payload) {
                    Ok(signal) => {
                        prop_assert_eq!(signal, model.is_empty());
                        model.push_back((next, payload));
                        next += 1;
                    }
                    Err(PushError::Full(needed)) => {
                        prop_assert!(needed > producer.free(&ring).unwrap());
                    }
                    Err(error) => prop_assert!(false, "{}", error),
                }
            } else {
                let packet = consumer.next(&ring).unwrap();
                prop_assert_eq!(packet.is_some(), !model.is_empty());
                if let (Some(packet), Some((id, mut payload))) = (packet, model.pop_front()) {
                    prop_assert_eq!(packet.descriptor.transaction_id, id);
                    payload.resize(payload.len().next_multiple_of(8), 0);
                    let mut read = vec![0; payload.len() + 8];
                    let len = packet.read(&ring, 0, &mut read).unwrap();
                    prop_assert_eq!(&read[..len], &payload[..]);
                    consumer.commit(&ring).unwrap();
                }
            }
        }
    }

    #[test]
    fn a_ring_full_of_noise_gives_packets_within_it_or_an_error(
        noise in vec(any::<u16>(), 2048),
        write in 0u32..520,
        read in 0u32..520,
    ) {
        let memory = memory(1 << 20);
        memory.write(PAGES[1] * 4096, noise.as_bytes()).unwrap();
        memory.store_release(PAGES[0] * 4096, write * 8).unwrap();
        memory.store_release(PAGES[0] * 4096 + 4, read * 8).unwrap();
        let ring = Ring::new(&memory, &PAGES[..2]).unwrap();
        let Ok(mut consumer) = Consumer::attach(&ring) else {
            prop_assert!(write >= 512 || read >= 512);
            return Ok(());
        };
        // Each packet takes 24 bytes at least.
        for _ in 0..=4096 / 24 {
            let Ok(Some(packet)) = consumer.next(&ring) else { return Ok(()) };
            let mut payload = vec![0; 8192];
            let len = packet.read(&ring, 0, &mut payload).unwrap();
            prop_assert!(len < 4096);
            consumer.commit(&ring).unwrap();
        }
        prop_assert!(false, "more packets than the ring can hold");
    }
}

#[test]
fn a_channel_with_a_corrupt_ring_asks_for_no_more_time() {
    let mut guest = Opened::new(Offer::ECHO);
    let packet = GuestPacket { kind: 6, flags: 0, transaction: 1, payload: vec![0; 8] };
    while guest.outbound.send(&guest.port.memory, &packet).is_some() {}
    guest.server.signal(0x2001, &mut guest.port).unwrap();
    assert_eq!(guest.server.deadline(), Some(0), "more packets than one run takes");
    guest.outbound.set_word(&guest.port.memory, 0, 3);
    guest.server.flush(&mut guest.port);
    assert_eq!(guest.server.deadline(), None);
}

#[test]
fn what_a_sender_leaves_of_a_packet_is_zeros() {
    let memory = memory(1 << 20);
    let ring = Ring::new(&memory, &PAGES[..2]).unwrap();
    let mut producer = Producer::attach(&ring).unwrap();
    let mut consumer = Consumer::attach(&ring).unwrap();
    // Longer than several parts, and not a multiple of 8.
    let packet =
        Outgoing { packet_type: PacketType::DATA_IN_BAND, flags: 0, transaction_id: u64::MAX, len: 1999 };
    let filled = 300;
    let fill = |at: u32, into: &mut [u8]| {
        let len = into.len().min(filled - filled.min(at as usize));
        into[..len].fill(0xff);
        Ok(())
    };
    producer.push(&ring, &packet, fill).unwrap();
    let mut payload = vec![0xee; 2000];
    assert_eq!(consumer.next(&ring).unwrap().unwrap().read(&ring, 0, &mut payload), Ok(2000));
    let (first, rest) = payload.split_at(filled);
    assert!(first.iter().all(|byte| *byte == 0xff) && rest.iter().all(|byte| *byte == 0));
}

#[test]
fn a_ring_of_2_gib_is_refused_and_one_of_a_page_less_is_not() {
    let memory = memory(1 << 20);
    let pages = vec![0x10_u64; (1 << 19) + 1];
    let refused = Ring::new(&memory, &pages).err();
    assert_eq!(refused, Some(RingError::Size { pages: pages.len() }));
    assert_eq!(Ring::new(&memory, &pages[1..]).map(|ring| ring.size()), Ok(0x7fff_f000));
}
