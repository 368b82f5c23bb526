//! Checksums that the card computes, and what it says of those that arrive.

use hv_drivers::hv_vmbus_client::{self, Open};
use hv_drivers::network::{Card, Checksums, Error, Frames, Offloading, Sizes, Verdict, connect};
use hv_testbed::scripted_card::words;
use hv_tlfs::vmbus::guid;
use hv_tlfs::vp::VpIndex;

use crate::host::{TestClient, TestDma, Wire, World};
use crate::hostile::{control_answered_with, ready_with};
use crate::network::{open, world};

type TestCard = Offloading<'static, TestDma, Wire>;

/// Opens a card that is asked for these checksums.
pub(crate) fn offloading(world: &'static World, wanted: Checksums) -> (TestClient, TestCard) {
    let mut client = world.client();
    let offer = client.find(guid::NETWORK).unwrap();
    let (place, dma) = ((&offer, Open::on(VpIndex(0))), TestDma(world));
    let (channel, buffers, control) =
        connect(&mut client, place, Sizes::default(), &dma, &mut world.os()).unwrap();
    let mut card = Card::new(channel, buffers, 1500, control).with_checksums(wanted);
    card.wait_ready(&mut || Err(hv_vmbus_client::Error::TimedOut)).unwrap();
    (client, Offloading::new(card))
}

/// Computes the internet checksum (RFC 1071) of bytes.
fn sum(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let words = bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !(((sum & 0xffff) + (sum >> 16)) as u16)
}

/// Builds a frame with this many bytes of payload; its checksums are `fill`.
fn frame(v6: bool, protocol: u8, payload: usize, fill: u8) -> Vec<u8> {
    let (header, field) = if protocol == 6 { (20, 16) } else { (8, 6) };
    let mut transport: Vec<u8> = (0..header + payload).map(|n| (n * 11) as u8).collect();
    if protocol == 6 {
        transport[12] = 0x50;
    } else {
        transport[4..6].copy_from_slice(&((header + payload) as u16).to_be_bytes());
    }
    transport[field..field + 2].fill(fill);
    let mut frame = vec![0xff; 12];
    let len = transport.len() as u16;
    if v6 {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend(len.to_be_bytes());
        frame.extend([protocol, 64]);
        frame.extend((0..32).map(|n| n * 7 + 1));
    } else {
        frame.extend([8, 0, 0x45, 0]);
        frame.extend((20 + len).to_be_bytes());
        frame.extend([0, 9, 0x40, 0, 64, protocol, fill, fill, 10, 0, 0, 1, 10, 0, 0, 200]);
    }
    frame.extend(transport);
    frame
}

/// Checks the checksum of TCP or UDP.
fn is_right(frame: &[u8], v6: bool, protocol: u8) -> bool {
    let (addresses, at) = if v6 { (&frame[22..54], 54) } else { (&frame[26..34], 34) };
    let len = ((frame.len() - at) as u32).to_be_bytes();
    sum(&[addresses, &len, &[0, protocol], &frame[at..]]) == 0
}

#[test]
fn the_checksums_of_what_is_sent_are_the_cards() {
    let world = world();
    let (mut client, mut card) = offloading(world, Checksums::ALL);
    assert_eq!(card.checksums(), Checksums::ALL);
    for (v6, protocol, payload) in
        [(false, 6, 0), (false, 6, 1001), (false, 17, 33), (true, 6, 1), (true, 17, 0), (true, 17, 1200)]
    {
        // Whatever the stack leaves in their place.
        for fill in [0, 0xff, 0x5a] {
            let given = frame(v6, protocol, payload, fill);
            card.send(&given).unwrap();
            assert_eq!(card.receive(&mut [0; 1600]), Ok(None));
            let sent = world.host.frames.lock().unwrap().pop().unwrap();
            let right = is_right(&sent, v6, protocol) && (v6 || sum(&[&sent[14..34]]) == 0);
            assert!(right && sent.len() == given.len(), "{v6} {protocol} {payload} {fill}");
        }
    }
    // Of other frames the header alone, or nothing.
    let mut other = frame(false, 1, 40, 0x5a);
    card.send(&other).unwrap();
    let sent = world.host.frames.lock().unwrap().pop().unwrap();
    assert!(sum(&[&sent[14..34]]) == 0 && sent[34..] == other[34..]);
    other[12] = 0x88;
    card.send(&other).unwrap();
    assert_eq!(world.host.frames.lock().unwrap().pop(), Some(other));
    assert_eq!(card.send(&[0; 13]), Err(Error::Length(13)));
    assert_eq!(card.card().counts().send_errors, 0);
    let closing = card.into_card().close(&mut client).unwrap();
    client.block_on(closing, &mut world.os()).unwrap();
    assert_eq!(world.host.ram.live(), 0);
}

#[test]
fn only_what_was_asked_for_is_computed() {
    let world = world();
    let udp = Checksums::NONE.with_udp4(true);
    let (_, mut card) = offloading(world, udp);
    assert_eq!(card.checksums(), udp);
    let (tcp4, udp4) = (frame(false, 6, 20, 0x5a), frame(false, 17, 20, 0x5a));
    card.send(&tcp4).unwrap();
    card.send(&udp4).unwrap();
    let frames = std::mem::take(&mut *world.host.frames.lock().unwrap());
    assert!(frames[0] == tcp4 && is_right(&frames[1], false, 17) && frames[1][24..26] == [0x5a; 2]);
    // A card that was not asked for anything.
    let world = crate::network::world();
    let (_, mut card) = open(world, 1500);
    assert_eq!((card.checksums(), Frames::checksums(&card)), (Checksums::NONE, Checksums::NONE));
    card.send(&udp4).unwrap();
    assert!(*world.host.frames.lock().unwrap() == [udp4]);
}

#[test]
fn a_card_that_grants_nothing_is_a_card_all_the_same() {
    // The fourth control message is the question, and the fifth turns on what was granted.
    let object_with = |kind: u32, encapsulation: u32, transmit: u32| {
        let mut words = vec![kind | 3 << 8 | 156 << 16, encapsulation, transmit];
        words.resize(39, 0);
        words
    };
    let object = |kind, encapsulation| object_with(kind, encapsulation, 0x155);
    let query = |id: u32, status: u32, value: &[u32]| {
        let head = [0x8000_0004, 24 + value.len() as u32 * 4, id, status, value.len() as u32 * 4, 16];
        words(&[&head[..], value].concat())
    };
    let all4 = Checksums::ALL.with_tcp6(false).with_udp6(false);
    for (status, value, granted) in [
        (0, object(0xa7, 2), all4),
        (0, object_with(0xa7, 2, 0x151), all4.with_tcp4(false)),
        (0, object_with(0xa7, 2, 0x154), Checksums::NONE),
        (0, object(0xa7, 0), Checksums::NONE),
        (0, object(0x80, 2), Checksums::NONE),
        (0, object(0xa7, 2)[..27].to_vec(), Checksums::NONE),
        (0, Vec::new(), Checksums::NONE),
        (0xc000_00bb, object(0xa7, 2), Checksums::NONE),
    ] {
        let found = control_answered_with(3, Checksums::ALL, |id| query(id, status, &value));
        assert_eq!(found, Ok(granted), "{status:x} {value:x?}");
    }
    assert_eq!(ready_with(Checksums::ALL).0.checksums(), Checksums::NONE, "an answer of one word");
}

#[test]
fn the_cards_verdict_is_that_of_the_frame() {
    let (mut card, mut end) = ready_with(Checksums::NONE);
    // As if the card had granted something.
    card = card.with_checksums(Checksums::ALL);
    let mut card = Offloading::new(card);
    let frame: Vec<u8> = (0..60).collect();
    let mut deliver = |info: Option<u32>, len: u32| {
        let infos = info.map_or(vec![], |info| words(&[16, 0, 12, info]));
        let at = 36 + infos.len() as u32;
        let head = [
            1,
            8 + at + len,
            at,
            len,
            0,
            0,
            0,
            if info.is_some() { 36 } else { 0 },
            infos.len() as u32,
            0,
            0,
        ];
        end.deliver(0, &[words(&head), infos, frame.clone()].concat());
    };
    let mut into = [0; 60];
    for (info, verdict) in [
        (Some(1 << 3), Verdict::Right),
        (Some(1 << 4 | 1 << 5), Verdict::Right),
        (None, Verdict::Unknown),
        (Some(1), Verdict::Wrong),
        (Some(1 << 1), Verdict::Wrong),
        // Both: a card that contradicts itself.
        (Some(1 | 1 << 3), Verdict::Wrong),
        (Some(1 << 5), Verdict::Unknown),
        (Some(0), Verdict::Unknown),
    ] {
        deliver(info, 60);
        assert_eq!(card.receive_judged(&mut into), Ok(Some((60, verdict))), "{info:x?}");
        assert!(into[..] == frame);
    }
    // What the card said of a frame that was dropped is not said of the next one.
    deliver(Some(1 << 3), 13);
    deliver(None, 60);
    assert_eq!(card.receive_judged(&mut into), Ok(Some((60, Verdict::Unknown))));
    assert_eq!(card.receive_judged(&mut into), Ok(None));
}
