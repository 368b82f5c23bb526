//! Frames, completions and messages that come unasked.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use hv_drivers::hv_vmbus_client;
use hv_drivers::hv_vmbus_client::hv_guest::page::Page;
use hv_drivers::network::{Error, Frames};
use hv_testbed::scripted_card::{Heard, words};

use super::{BUFFER, RING, World, grant, message};

fn frame(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|n| n as u8 ^ seed).collect()
}

#[test]
fn messages_that_lie_are_dropped_and_their_sections_go_back() {
    let end_of_buffer = (BUFFER * 4096) as u32;
    // Length and offset of the range, and what is there.
    let lies: &[(u32, u32, &[u32])] = &[
        (0, 0, &[]),
        (7, 0, &[1, 7]),
        (8, 0, &[1, 8]),
        (100, 0, &[1, 101, 36, 56]),
        (100, 0, &[1, 7, 36, 56]),
        (100, 0, &[1, 0, 36, 56]),
        (100, 0, &[1, 43, 36, 0]),
        (100, 0, &[1, 100, 35, 57]),
        (100, 0, &[1, 100, 36, 57]),
        (100, 0, &[1, 100, 36, u32::MAX]),
        (100, 0, &[1, 100, u32::MAX, 60]),
        (100, 0, &[1, 100, 36, 13]),
        (100, 0, &[2, 100]),
        (100, 0, &[u32::MAX, 100]),
        (100, end_of_buffer, &[]),
        (100, end_of_buffer - 99, &[]),
        (100, u32::MAX, &[]),
        (u32::MAX, u32::MAX, &[]),
        (u32::MAX, 0, &[1, 100, 36, 56]),
        // Longer than what the stack takes.
        (2048, 0, &[1, 2044, 36, 2000]),
    ];
    let mut world = World::ready();
    let rndis = words(&[107, 0, u32::MAX, 0]);
    for (len, offset, message) in lies {
        world.end.write(0, &[0; 64]);
        world.end.write(0, &words(message));
        let id = world.end.name(0xcafe, &[(*len, *offset)], &rndis);
        assert_eq!(world.take(), None, "{len} {offset} {message:x?}");
        assert_eq!(world.end.serve(), [id], "{len} {offset} {message:x?}");
    }
    // Sets and messages that the card does not have; a packet without ranges, and one that claims more than it has.
    let good = frame(60, 9);
    for (set, payload) in
        [(0xcaff, &rndis[..]), (0, &rndis[..]), (0xcafe, &words(&[108, 1])[..]), (0xcafe, &[][..])]
    {
        world.end.write(0, &[words(&[1, 104, 36, 60, 0, 0, 0, 0, 0, 0, 0]), good.clone()].concat());
        let id = world.end.name(set, &[(104, 0)], payload);
        assert_eq!(world.take(), None, "{set:x} {payload:?}");
        assert_eq!(world.end.serve(), [id]);
    }
    let id = world.end.name(0xcafe, &[], &rndis);
    assert_eq!(world.take(), None);
    assert_eq!(world.end.serve(), [id]);
    let id = world.end.frame(&good);
    assert_eq!(world.take(), Some(good));
    assert_eq!(world.take(), None);
    assert_eq!(world.end.serve(), [id]);
}

#[test]
fn several_frames_of_a_packet_come_one_by_one_and_the_packet_is_completed_after_the_last() {
    let mut world = World::ready();
    let mut ranges = Vec::new();
    for n in 0..6_u8 {
        let frame = frame(60 + usize::from(n), n);
        let head = words(&[1, 44 + frame.len() as u32, 36, frame.len() as u32, 0, 0, 0, 0, 0, 0, 0]);
        let at = u32::from(n) * 256;
        // One of them is not a frame.
        world.end.write(at as usize, &if n == 3 { vec![0xff; 100] } else { [head, frame].concat() });
        ranges.push((200, at));
    }
    let id = world.end.name(0xcafe, &ranges, &words(&[107, 0, u32::MAX, 0]));
    for n in [0, 1, 2, 4, 5] {
        assert!(world.end.serve().is_empty());
        assert_eq!(world.take(), Some(frame(60 + usize::from(n), n)));
    }
    assert!(world.end.serve().is_empty());
    assert_eq!(world.take(), None);
    assert_eq!(world.end.serve(), [id]);
    assert_eq!((world.card.counts().received, world.card.counts().receive_drops), (5, 1));
    // As many ranges as a packet of Hyper-V has, in the smallest ring that holds it, and one more than there is room
    // for.
    let many = vec![(200, 0); 563];
    let id = world.end.name(0xcafe, &many, &words(&[107, 0, u32::MAX, 0]));
    assert_ne!(id, 0);
    for _ in 0..562 {
        assert_eq!(world.take(), Some(frame(60, 0)));
    }
    assert_eq!(world.take(), None);
    assert_eq!(world.end.serve(), [id]);
}

/// A host that leaves the ring to it full, takes a few completions when the guest gives it room, and uses that room
/// for the next packets, none of which has a frame.
#[test]
fn packets_without_end_end_a_call_all_the_same() {
    /// Packets that the host sends at most, and those that a ring holds.
    const PACKETS: usize = 20_000;
    const HELD: u64 = (RING as u64 - 1) * 4096 / 56;
    let World { host, mut card, mut end, .. } = World::ready();
    let left = Arc::new(Mutex::new((PACKETS, Vec::new())));
    let state = Arc::clone(&left);
    // The guest signals when there is room for a packet, and only then.
    end.rings()[1][0].store_u32(12, 56);
    end.rings()[0][0].store_u32(8, 1);
    let mut act = move |most: usize| {
        let (left, completed) = &mut *state.lock().unwrap();
        completed.extend(std::iter::from_fn(|| end.hear()).take(most).map(|heard| heard.transaction));
        while *left > 0 && end.name(0xcafe, &[(7, 0)], &words(&[107, 0, u32::MAX, 0])) > 0 {
            *left -= 1;
        }
    };
    act(0);
    let act = Arc::new(Mutex::new(act));
    let signalled = Arc::clone(&act);
    host.on_signal(move || signalled.lock().unwrap()(3));
    let mut drops = 0;
    for call in 0..100 {
        assert_eq!(card.receive(&mut [0; 1518]), Ok(None));
        let now = card.counts().receive_drops;
        assert!((1..=HELD).contains(&(now - drops)), "{} packets in call {call}", now - drops);
        drops = now;
    }
    assert!(left.lock().unwrap().0 > PACKETS / 2, "the ring to the host was never full");
    // The host continues to take them, and each was completed once.
    for _ in 0..PACKETS {
        act.lock().unwrap()(usize::MAX);
        assert_eq!(card.receive(&mut [0; 1518]), Ok(None));
    }
    act.lock().unwrap()(usize::MAX);
    let completed = &left.lock().unwrap().1;
    assert_eq!((completed.len(), card.counts().receive_drops), (PACKETS, PACKETS as u64));
    let ids: BTreeSet<u64> = completed.iter().copied().collect();
    assert_eq!(ids.len(), PACKETS);
}

#[test]
fn a_frame_whose_tag_is_not_read_is_dropped() {
    let mut world = World::ready();
    let good = frame(60, 3);
    let info = |kind: u32, value: u32| words(&[16, kind, 12, value]);
    // The tag comes last, behind hashes.
    for (others, taken) in [(0, true), (15, true), (16, false), (40, false)] {
        let infos = [info(8, 7).repeat(others), info(6, 0x1230)].concat();
        let at = 36 + infos.len() as u32;
        let head = words(&[1, 8 + at + 60, at, 60, 0, 0, 0, 36, infos.len() as u32, 0, 0]);
        world.end.deliver(0, &[head, infos, good.clone()].concat());
        let tagged = [&good[..12], &[0x81, 0, 1, 0x23], &good[12..]].concat();
        assert_eq!(world.take(), taken.then_some(tagged), "{others}");
    }
    assert_eq!((world.card.counts().received, world.card.counts().receive_drops), (2, 2));
}

#[test]
fn completions_that_name_nothing_change_nothing() {
    let mut world = World::ready();
    // 16 sections of 2 KiB.
    for n in 0..16 {
        world.card.send(&frame(100, n)).unwrap();
    }
    assert_eq!(world.card.send(&frame(100, 16)), Err(Error::Busy));
    let sent: Vec<Heard> = std::iter::from_fn(|| world.end.hear()).collect();
    assert_eq!(sent.len(), 16);
    for id in [0, 1, u64::MAX, sent[3].transaction ^ 1 << 40] {
        world.end.complete(id, &words(&[108, 1]));
        assert_eq!(world.take(), None);
        assert!(!world.card.can_send());
    }
    // One that is completed twice frees one section.
    for _ in 0..3 {
        world.end.complete(sent[5].transaction, &words(&[108, 1]));
    }
    assert_eq!(world.take(), None);
    world.card.send(&frame(100, 17)).unwrap();
    assert_eq!(world.card.send(&frame(100, 18)), Err(Error::Busy));
    // The host fails one, and answers another with nothing.
    world.end.complete(sent[1].transaction, &words(&[108, 5]));
    world.end.complete(sent[2].transaction, &[]);
    assert_eq!(world.take(), None);
    assert_eq!(world.card.counts().send_errors, 2);
    world.card.send(&frame(100, 19)).unwrap();
    world.end.serve();
    let last = world.end.frames.last().unwrap();
    assert_eq!(last[48..], frame(100, 19));
    assert_eq!(last[..16], words(&[1, 148, 40, 100]));
}

#[test]
fn what_the_host_says_unasked_is_taken_or_passed_over() {
    let mut world = World::ready();
    for message in [
        words(&[7, 20, 0x4001_000c, 0, 0]),
        words(&[8, 12, 5]),
        words(&[0x8000_0005, 16, 1, 0]),
        words(&[0x8000_0004, 24, 3, 0, 0, 0]),
    ] {
        world.end.deliver(1, &message);
        assert_eq!(world.take(), None);
        assert!(!world.card.is_up());
    }
    assert!(world.card.take_link_change());
    for (status, up, changed) in
        [(0x4001_000b, true, true), (0x4001_0018, true, true), (0x4001_0013, true, false), (5, true, false)]
    {
        world.end.deliver(1, &words(&[7, 20, status, 0, 0]));
        assert_eq!(world.take(), None);
        assert_eq!((world.card.is_up(), world.card.take_link_change()), (up, changed), "{status:x}");
    }
    // A virtual function, a table of channels, packets that are none.
    for payload in [words(&[128, 1, 7]), words(&[134, 16, 20]), words(&[107, 0, 0, 0]), Vec::new(), vec![1]] {
        world.end.say(&payload);
        assert_eq!(world.take(), None);
    }
    world.card.send(&frame(60, 0)).unwrap();
}

#[test]
fn a_corrupt_ring_ends_the_card_and_its_memory_comes_back_with_the_connection() {
    let World { host, mut client, mut card, end } = World::ready();
    end.rings()[1][0].store_u32(0, 4);
    let error = card.receive(&mut [0; 1518]).unwrap_err();
    assert!(matches!(error, Error::Client(hv_vmbus_client::Error::Ring(_))), "{error:?}");
    assert_eq!(card.receive(&mut [0; 1518]), Err(error));
    let closing = card.close(&mut client).unwrap();
    client.unload().unwrap();
    client.take(&message(17, &[]));
    client.block_on(closing, &mut grant(host)).unwrap();
    assert_eq!(host.live(), 0);
}

#[test]
fn a_card_is_closed_by_its_own_end_and_by_a_rescind() {
    for rescinded in [false, true] {
        let World { host, mut client, mut card, mut end } = World::ready();
        card.send(&frame(60, 0)).unwrap();
        if rescinded {
            client.take(&message(2, &[1]));
            assert!(card.is_over());
            assert_eq!(card.send(&frame(60, 1)), Err(Error::Client(hv_vmbus_client::Error::Rescinded)));
        }
        let closing = card.close(&mut client).unwrap();
        let kinds: Vec<u32> = std::iter::from_fn(|| end.hear()).map(|heard| heard.word(0)).collect();
        // The frame; HALT, and the buffers are revoked.
        assert_eq!(kinds, if rescinded { vec![107] } else { vec![107, 107, 103, 106] });
        client.block_on(closing, &mut grant(host)).unwrap();
        assert_eq!(host.live(), 0);
    }
}

/// The page that a frame lies in is read once: what the host changes later is not seen.
#[test]
fn a_frame_is_the_stacks_own_once_it_was_received() {
    let mut world = World::ready();
    let good = frame(60, 4);
    world.end.frame(&good);
    let taken = world.take();
    world.end.receive_buffer().iter().for_each(Page::clear);
    assert_eq!(taken, Some(good));
}
