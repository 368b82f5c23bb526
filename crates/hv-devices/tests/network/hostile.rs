//! What a hostile guest sends.

use crate::guest::{Data, Guest, MAC, packet_message, rndis, words};
use hv_devices::network::{MAX_FRAME, Received};
use hv_tlfs::vmbus::nvsp::MessageType;
use proptest::prelude::*;

/// Checks that the card still works.
fn is_well(guest: &mut Guest) {
    guest.run();
    for channel in 1..5 {
        while guest.take(channel).is_some() {}
    }
    guest.sent();
    let frame = vec![0x33; 60];
    let message = packet_message(&frame, &[]);
    assert_eq!(guest.send(&Data { section: Some((0, &message)), listed: None }), 1);
    assert_eq!(guest.sent(), [frame]);
    assert_eq!(guest.query(0x0101_0101), (0, MAC.to_vec()));
}

#[test]
fn messages_that_make_no_sense_are_refused() {
    let mut guest = Guest::new();
    let good = packet_message(&[0x11; 60], &[(0, 0)]);
    let with = |at: usize, value: u32| {
        let mut message = good.clone();
        message[at..at + 4].copy_from_slice(&value.to_le_bytes());
        message
    };
    let mut wrong = vec![
        ("a type that is not a frame's", with(0, 2)),
        ("a length of 0", with(4, 0)),
        ("a length below the header", with(4, 43)),
        ("a length beyond the data", with(4, good.len() as u32 + 1)),
        ("the largest length", with(4, u32::MAX)),
        ("data before the header's end", with(8, 35)),
        ("data beyond the message", with(8, 1000)),
        ("data that wraps", with(8, u32::MAX - 10)),
        ("a frame longer than the message", with(12, 61)),
        ("the longest frame", with(12, u32::MAX)),
        ("a frame shorter than its header", with(12, 13)),
        ("information before the header's end", with(28, 4)),
        ("information beyond the message", with(28, 5000)),
        ("more information than is read", with(32, 257)),
        ("an element of length 0", with(44, 0)),
        ("an element shorter than its header", with(44, 11)),
        ("an element longer than all", with(44, 17)),
        ("a value in the element's header", with(52, 4)),
        ("a value beyond the element", with(52, 13)),
        ("a value that wraps", with(52, u32::MAX)),
        ("a cut header", good[..20].to_vec()),
        ("nothing", Vec::new()),
    ];
    for (kind, info) in [
        ("a large send of a frame that is none", (2, 1448 | 34 << 20 | 1 << 30)),
        ("a checksum of a frame that is not IP", (0, 5 | 34 << 16)),
    ] {
        wrong.push((kind, packet_message(&[0x11; 60], &[info])));
    }
    let mut segment = vec![0x11; 100];
    segment[12..15].copy_from_slice(&[8, 0, 0x45]);
    segment[16..24].copy_from_slice(&[0, 86, 0, 0, 0x40, 0, 64, 6]);
    segment[46] = 0x50;
    let large = |mss: u32, offset: u32, v6: u32| {
        packet_message(&segment, &[(2, mss | offset << 20 | 1 << 30 | v6 << 31)])
    };
    wrong.push(("a large send with an MSS of 0", large(0, 34, 0)));
    wrong.push(("a TCP header where none is", large(100, 35, 0)));
    wrong.push(("a TCP header beyond the frame", large(100, 1000, 0)));
    wrong.push(("another version of IP", large(100, 34, 1)));
    segment[46] = 0x40;
    wrong.push(("a TCP header of 16 bytes", packet_message(&segment, &[(2, 100 | 34 << 20)])));
    segment[46] = 0xf0;
    segment.truncate(80);
    wrong.push(("a TCP header that leaves the frame", packet_message(&segment, &[(2, 100 | 34 << 20)])));
    segment[46] = 0x50;
    wrong.push(("an IP packet that leaves the frame", packet_message(&segment, &[(0, 5 | 34 << 16)])));
    for (what, message) in wrong {
        let status = guest.send(&Data { section: Some((1, &message)), listed: None });
        assert!([2, 5].contains(&status), "{what}: {status}");
        assert!(guest.sent().is_empty(), "{what}");
    }
    is_well(&mut guest);
}

#[test]
fn sections_that_do_not_exist_are_refused() {
    let mut guest = Guest::new();
    let message = packet_message(&[0x11; 60], &[]);
    for index in [10, 11, 699_051, 0x8000_0000, 0xffff_fffe] {
        let data = Data { section: Some((index, &message)), listed: None };
        assert_eq!(guest.send(&data), 5, "section {index}");
    }
    let long = vec![0; 6145];
    assert_eq!(guest.send(&Data { section: Some((0, &long)), listed: None }), 5);
    is_well(&mut guest);
}

#[test]
fn what_comes_before_its_time_is_refused() {
    let mut guest = Guest::opened();
    let message = packet_message(&[0x11; 60], &[]);
    assert_eq!(guest.send(&Data { section: None, listed: Some((0, &message)) }), 2);
    assert_eq!(guest.send(&Data { section: Some((0, &message)), listed: None }), 5);
    let init = rndis(2, &words(&[1, 1, 0, 0x4000]));
    let id = guest.start(1, true, &Data { section: None, listed: Some((0, &init)) });
    assert_eq!(guest.completion(id), 6, "there is no receive buffer");
    assert_eq!(guest.arrive(&[0xff; 60]), Received::Dropped);
    let answer = guest.nvsp(MessageType::SUBCHANNEL, &[1, 3]);
    assert!(answer.payload.is_empty(), "sub-channels need a version");
    guest.put(1, 11, 0, 0x1_0000_0001, &[], &words(&[108, 1]));
    guest.connect(hv_tlfs::vmbus::nvsp::Version::V61, 1514);
    for (operation, count, granted) in [(0, 3, (2, 0)), (1, 0, (2, 0)), (1, u32::MAX, (1, 3))] {
        let answer = guest.nvsp(MessageType::SUBCHANNEL, &[operation, count]);
        assert_eq!((answer.word(4), answer.word(8)), granted);
    }
    is_well(&mut guest);
}

#[test]
fn control_messages_that_make_no_sense_are_refused() {
    let mut guest = Guest::new();
    let wrong = [
        Vec::new(),
        words(&[4]),
        words(&[4, 0]),
        words(&[4, 7]),
        words(&[4, 2000]),
        words(&[4, u32::MAX]),
        rndis(4, &words(&[1, 2, 3])),
        rndis(5, &words(&[1])),
        rndis(2, &[]),
        rndis(8, &[1]),
        rndis(7, &words(&[1, 2, 3])),
        rndis(1, &[0; 100]),
        rndis(0x8000_0004, &[0; 16]),
        vec![4; 5000],
    ];
    for message in wrong {
        let id = guest.start(1, true, &Data { section: Some((0, &message)), listed: None });
        assert_eq!(guest.completion(id), 5, "{:x?}", &message[..message.len().min(16)]);
    }
    let set = |guest: &mut Guest, len: u32, offset: u32| {
        let request = words(&[1, 0x0001_010e, len, offset, 0, 0x0d]);
        guest.control(5, &request).unwrap().1[4..8].to_vec()
    };
    assert_eq!(set(&mut guest, 4, 20), words(&[0]));
    for (len, offset) in [(4, 21), (4, u32::MAX), (u32::MAX, 20), (3, 20), (0, 0)] {
        assert_eq!(set(&mut guest, len, offset), words(&[0xc001_0014]), "{len} bytes at {offset}");
    }
    is_well(&mut guest);
}

#[test]
fn unknown_packets_are_completed() {
    let mut guest = Guest::new();
    for kind in [0, 3, 99, 102, 105, 108, 109, 127, 128, 129, 131, 134, 135, 136, 1000, u32::MAX] {
        let answer = guest.nvsp(MessageType(kind), &[1, 2, 3]);
        assert!(answer.payload.is_empty(), "{kind}");
    }
    for len in [0, 1, 4, 7, 8] {
        guest.put(1, 6, 1, 5, &[], &vec![1; len]);
        assert!(guest.take(1).is_some(), "{len} bytes");
    }
    guest.nvsp(MessageType::SUBCHANNEL, &[1, 3]);
    guest.open(2);
    guest.put(2, 6, 1, 5, &[], &words(&[101, 100, 0xcafe, 0, 0]));
    assert_eq!(guest.take(2).map(|answer| answer.payload.len()), Some(0), "buffers are the first channel's");
    let message = rndis(8, &words(&[1]));
    guest.start(2, true, &Data { section: Some((0, &message)), listed: None });
    assert_eq!(guest.take(2).map(|answer| answer.word(4)), Some(5), "control is the first channel's");
    is_well(&mut guest);
}

#[test]
fn a_flood_of_small_segments_is_split_between_calls() {
    let mut guest = Guest::new();
    let mut segment = vec![0x11; 6000];
    segment[12..15].copy_from_slice(&[8, 0, 0x45]);
    segment[16..24].copy_from_slice(&[0, 0, 0, 0, 0x40, 0, 64, 6]);
    segment[46] = 0x50;
    let message = packet_message(&segment, &[(2, 1 | 34 << 20 | 1 << 30)]);
    let id = guest.start(1, false, &Data { section: None, listed: Some((0, &message)) });
    let first = guest.sent().len();
    assert!(first <= 65, "{first} frames in one call");
    guest.run();
    assert_eq!(first + guest.sent().len(), 6000 - 54);
    assert_eq!(guest.completion(id), 1);
}

/// Generates bytes that are more often than not close to an RNDIS message.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let field = prop_oneof![Just(0_u32), Just(36), Just(44), Just(60), 0..200_u32, any::<u32>()];
    let frame = (
        proptest::collection::vec(field.clone(), 9),
        proptest::collection::vec(
            (prop_oneof![Just(16_u32), 0..40_u32], 0..9_u32, Just(12_u32), any::<u32>()),
            0..4,
        ),
        proptest::collection::vec(any::<u8>(), 0..200),
        0..4_u8,
    );
    let frame = frame.prop_map(|(fields, infos, mut data, fix)| {
        let infos: Vec<u8> = infos.iter().flat_map(|(a, b, c, d)| words(&[*a, *b, *c, *d])).collect();
        if data.len() > 60 && fix & 1 != 0 {
            data[12..15].copy_from_slice(&[8, 0, 0x45]);
            data[23] = 6;
        }
        let mut body = words(&fields);
        if fix & 2 != 0 {
            let len = infos.len() as u32;
            body = words(&[36 + len, data.len() as u32, 0, 0, 0, 36, len, 0, 0]);
        }
        rndis(1, &[body, infos, data].concat())
    });
    let control = (0..10_u32, proptest::collection::vec(field, 0..40))
        .prop_map(|(kind, body)| rndis(kind, &words(&body)));
    prop_oneof![3 => frame, 2 => control, 1 => proptest::collection::vec(any::<u8>(), 0..300)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_messages_are_answered_and_hurt_nothing(
        messages in proptest::collection::vec((message(), any::<bool>(), 0..12_u32, 0..3_u8), 1..20),
        frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..10),
    ) {
        let mut guest = Guest::new();
        let mut frames = frames.into_iter();
        for (message, control, section, place) in messages {
            let (front, back) = message.split_at(message.len() / 2);
            let data = match place {
                0 if message.len() <= 6144 => Data { section: Some((section, &message)), listed: None },
                1 if !back.is_empty() => Data { section: Some((section, front)), listed: Some((4090, back)) },
                _ if !message.is_empty() => Data { section: None, listed: Some((17, &message)) },
                _ => continue,
            };
            let id = guest.start(1, control, &data);
            guest.run();
            if let Some(mut frame) = frames.next() {
                let len = frame.len().min(6);
                frame[..len].fill(0xff);
                guest.arrive(&frame);
            }
            let mut answered = false;
            while let Some(packet) = guest.take(1) {
                answered |= packet.kind == 11 && packet.id == id;
                if packet.kind == 7 {
                    guest.messages(&packet);
                    guest.complete(1, packet.id);
                }
            }
            prop_assert!(answered, "every packet is completed");
            prop_assert!(guest.sent().iter().all(|frame| (14..=MAX_FRAME).contains(&frame.len())));
        }
    }

    #[test]
    fn any_packets_of_nvsp_are_answered(
        packets in proptest::collection::vec((prop_oneof![0..4_u32, 98..140_u32, any::<u32>()], proptest::collection::vec(any::<u32>(), 0..10), any::<bool>()), 1..40),
    ) {
        let mut guest = Guest::opened();
        for (kind, mut body, known) in packets {
            if let (Some(first), true) = (body.first_mut(), known) {
                *first = if kind == 1 { 0x6_0001 } else { 100 };
            }
            let mut payload = words(&[kind]);
            payload.extend(words(&body));
            guest.put(1, 6, 1, 9, &[], &payload);
            prop_assert!(guest.take(1).is_some());
            while guest.take(1).is_some() {}
        }
    }
}
