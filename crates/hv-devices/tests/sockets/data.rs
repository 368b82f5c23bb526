//! Bytes in both directions, and who has to wait for whom.

use crate::guest::{Guest, OUTPUT, RING, Told};
use hv_devices::sockets::{MAX_PAYLOAD, NoCredit, StreamId, WINDOW, cost};

fn data(news: &[Told], of: StreamId) -> Vec<u8> {
    let bytes = |told: &Told| match told {
        Told::Data(stream, bytes) if *stream == of => bytes.clone(),
        _ => vec![],
    };
    news.iter().flat_map(bytes).collect()
}

fn credit(news: &[Told], of: StreamId) -> u32 {
    let bytes = |told: &Told| {
        if let Told::Credit(stream, bytes) = told
            && *stream == of
        {
            *bytes
        } else {
            0
        }
    };
    news.iter().map(bytes).sum()
}

#[test]
fn bytes_go_both_ways() {
    let mut guest = Guest::new();
    let (stream, channel, _) = guest.connected(1000, 5000);
    assert!(guest.write(channel, b"hello") && guest.write(channel, b", host"));
    assert_eq!(
        guest.host.calls.take(),
        2 + 1,
        "one call for both packets, since the host has not taken the first"
    );
    let news = guest.news();
    assert_eq!(news, [Told::Data(stream, b"hello".to_vec()), Told::Data(stream, b", host".to_vec())]);
    guest.host.interrupts.take();
    guest.with(|sockets, io| {
        sockets.send(io, stream, b"hello, ").unwrap();
        sockets.send(io, stream, b"guest").unwrap();
    });
    assert_eq!(guest.host.interrupts.take().len(), 1, "one interrupt for both packets");
    assert_eq!(guest.read(channel), [b"hello, ".to_vec(), b"guest".to_vec()]);
}

#[test]
fn the_longest_packets_fit() {
    let mut guest = Guest::new();
    let (stream, channel, _) = guest.connected(1000, 5000);
    let long: Vec<u8> = (0..MAX_PAYLOAD).map(|n| (n % 251) as u8).collect();
    assert!(guest.write(channel, &long));
    assert_eq!(data(&guest.news(), stream), long);
    guest.with(|sockets, io| sockets.send(io, stream, &long).unwrap());
    assert_eq!(guest.read(channel), [long]);
}

#[test]
fn a_guests_packets_wait_in_its_ring_while_the_host_takes_no_more() {
    let mut guest = Guest::new();
    let (slow, slow_channel, _) = guest.connected(1000, 5000);
    let (quick, quick_channel, _) = guest.connected(1001, 5000);
    let (mut sent, mut taken) = (0, 0);
    while guest.write(slow_channel, &[1; 4088]) {
        sent += 4088;
        taken += data(&guest.news(), slow).len();
    }
    assert_eq!(taken, WINDOW.next_multiple_of(4088) as usize, "whole packets, up to the window");
    assert!(sent - taken > RING as usize - 4200 && sent > taken, "then its ring was filled");
    for _ in 0..100 {
        assert!(guest.write(quick_channel, &[2; 1000]), "another stream is not stopped by that");
        let news = guest.news();
        assert_eq!(data(&news, quick).len(), 1000);
        guest.with(|sockets, io| sockets.credit(io, quick, 1000));
    }
    guest.with(|sockets, io| sockets.credit(io, slow, 8000));
    assert_eq!(data(&guest.news(), slow).len(), 2 * 4088);
    while taken < sent {
        guest.with(|sockets, io| sockets.credit(io, slow, 4088));
        taken += data(&guest.news(), slow).len();
        taken += if taken + 2 * 4088 == sent { 2 * 4088 } else { 0 };
    }
}

#[test]
fn packets_wait_while_the_back_end_takes_nothing_and_come_when_it_does() {
    let mut guest = Guest::new();
    let (one, one_channel, _) = guest.connected(1000, 5000);
    let (two, two_channel, _) = guest.connected(1001, 5000);
    for n in 0..4 {
        assert!(guest.write(one_channel, &[n; 4000]) && guest.write(two_channel, &[n; 4000]));
    }
    assert_eq!(guest.news_of(1), [Told::Data(one, vec![0; 4000])]);
    guest.host.calls.set(0);
    let first = guest.news();
    assert!(first.len() < 7 && first.len() * 4000 <= OUTPUT, "the output was full");
    assert_eq!(guest.host.calls.get(), 1, "what was held has come since");
    let rest = guest.news();
    let all = [vec![Told::Data(one, vec![0; 4000])], first, rest].concat();
    let expected: Vec<u8> = (0..4).flat_map(|n| [n; 4000]).collect();
    assert_eq!([data(&all, one), data(&all, two)], [expected.clone(), expected]);
}

#[test]
fn the_host_has_the_credit_that_the_guests_ring_has_room() {
    let mut guest = Guest::new();
    let (stream, channel, mut left) = guest.connected(1000, 5000);
    let mut sent = 0;
    // Small packets cost more than their bytes.
    while left >= cost(1) {
        guest.with(|sockets, io| sockets.send(io, stream, &[7]).unwrap());
        left -= cost(1);
        sent += 1;
    }
    assert_eq!(guest.news(), [], "no credit, since the guest has read nothing");
    assert_eq!(guest.look(channel).len(), sent);
    assert_eq!(guest.read(channel).len(), sent);
    left += credit(&guest.news(), stream);
    assert_eq!(left, RING - 8 - cost(0));
    let half = vec![1; RING as usize / 2];
    for part in half.chunks(8000) {
        guest.with(|sockets, io| sockets.send(io, stream, part).unwrap());
    }
    assert_eq!(guest.read(channel).concat(), half);
}

#[test]
fn credit_comes_by_time_if_the_guest_forgets_to_signal() {
    let mut guest = Guest::new();
    let (stream, channel, _) = guest.connected(1000, 5000);
    guest.with(|sockets, io| sockets.send(io, stream, &[1; 16000]).unwrap());
    guest.set_index(channel, true, 4, (16000 + 32) % RING);
    assert_eq!(guest.news(), []);
    let deadline = guest.bus.deadline().expect("a full ring is looked at again");
    guest.at(deadline);
    assert_eq!(credit(&guest.news(), stream), cost(16000));
}

#[test]
fn a_host_without_credit_loses_the_stream() {
    for bytes in [&[][..], &[1; MAX_PAYLOAD as usize + 1]] {
        let mut guest = Guest::new();
        let (stream, _, _) = guest.connected(1000, 5000);
        assert_eq!(guest.with(|sockets, io| sockets.send(io, stream, bytes)), Err(NoCredit));
        assert_eq!(guest.mail(), [hv_tlfs::vmbus::MessageType::RESCIND_OFFER]);
    }
    let mut guest = Guest::new();
    let (stream, _, credit) = guest.connected(1000, 5000);
    guest.with(|sockets, io| {
        sockets.send(io, stream, &[1; 16000]).unwrap();
        assert_eq!(sockets.send(io, stream, &vec![1; (credit - 16000) as usize]), Err(NoCredit));
        assert_eq!(sockets.send(io, stream, &[1]), Ok(()), "it has ended, and is ignored");
    });
}

#[test]
fn streams_that_are_always_full_take_turns() {
    let mut guest = Guest::new();
    let streams: Vec<_> = (0..4).map(|n| guest.connected(1000 + n, 5000)).collect();
    // Each has more in its ring than the output takes.
    for (_, channel, _) in &streams {
        while guest.put(*channel, &[1; 1000]) {}
    }
    let mut counts = [0; 4];
    guest.signal(streams[0].1);
    for _ in 0..40 {
        for told in guest.news() {
            let Told::Data(stream, bytes) = told else { continue };
            let at = streams.iter().position(|(id, ..)| *id == stream).unwrap();
            counts[at] += bytes.len();
            guest.with(|sockets, io| sockets.credit(io, stream, bytes.len() as u32));
            while guest.put(streams[at].1, &[1; 1000]) {}
        }
        for (_, channel, _) in &streams {
            guest.signal(*channel);
        }
    }
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(*least * 2 > *most, "{counts:?}");
}
