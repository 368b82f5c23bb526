//! Frames both ways.

use crate::guest::{Data, Guest, MAC, PAGES, packet_message, rndis, words};
use hv_devices::network::{Received, note, part};
use hv_tlfs::vmbus::nvsp::{MessageType, Version};

/// Builds a frame of this length to the guest, whose bytes encode their offsets.
fn frame(len: usize) -> Vec<u8> {
    let mut frame: Vec<u8> = (0..len).map(|at| (at * 7 + at / 251) as u8).collect();
    frame[..6].copy_from_slice(&MAC);
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    frame
}

fn section(bytes: &[u8]) -> Data<'_> {
    Data { section: Some((3, bytes)), listed: None }
}

fn listed(bytes: &[u8]) -> Data<'_> {
    Data { section: None, listed: Some((4000, bytes)) }
}

#[test]
fn a_frame_is_sent_from_a_section_from_pages_and_from_both() {
    let mut guest = Guest::new();
    for len in [14, 60, 1514] {
        let frame = frame(len);
        let message = packet_message(&frame, &[]);
        assert_eq!(guest.send(&section(&message)), 1);
        // Its headers cross a page.
        assert_eq!(guest.send(&listed(&message)), 1);
        let (front, back) = message.split_at(30);
        let both = Data { section: Some((9, front)), listed: Some((4095, back)) };
        assert_eq!(guest.send(&both), 1);
        assert_eq!(guest.sent(), [&frame[..]; 3]);
    }
}

#[test]
fn several_frames_of_a_packet_are_sent_in_order() {
    let mut guest = Guest::new();
    let frames: Vec<_> = [60, 61, 1000, 70].into_iter().map(frame).collect();
    let mut all = Vec::new();
    for frame in &frames {
        let mut message = packet_message(frame, &[(8, 77)]);
        let len = message.len().next_multiple_of(8);
        message.resize(len, 0);
        message[4..8].copy_from_slice(&(len as u32).to_le_bytes());
        all.extend(message);
    }
    assert_eq!(guest.send(&section(&all)), 1);
    assert_eq!(guest.sent(), frames);
    // The last one's data lies in pages, as Linux has it.
    let (front, back) = all.split_at(all.len() - 90);
    assert_eq!(guest.send(&Data { section: Some((0, front)), listed: Some((7, back)) }), 1);
    assert_eq!(guest.sent(), frames);
}

#[test]
fn a_packet_is_completed_when_its_last_frame_is() {
    let mut guest = Guest::new();
    guest.host.hold.set(true);
    let message = packet_message(&frame(64), &[]);
    let id = guest.start(1, false, &section(&[&message[..], &message[..]].concat()));
    for _ in 0..2 {
        assert!(guest.take(1).is_none());
        let token = guest.host.held.borrow_mut().pop().unwrap();
        guest.bus.completed(guest.bus.devices(), token, Ok(()), &guest.host).unwrap();
    }
    assert_eq!(guest.completion(id), 1);
}

#[test]
fn frames_wait_for_a_back_end_that_is_full() {
    let mut guest = Guest::new();
    guest.host.full.set(true);
    let message = packet_message(&frame(64), &[]);
    let ids: Vec<_> = (0..20).map(|_| guest.start(1, false, &listed(&message))).collect();
    assert!(guest.take(1).is_none());
    guest.host.full.set(false);
    guest.bus.resume(hv_vmbus::DeviceId(0), &guest.host);
    guest.run();
    assert_eq!(guest.sent().len(), 20);
    for id in ids {
        assert_eq!(guest.completion(id), 1);
    }
}

#[test]
fn a_frame_arrives_with_its_bytes_and_its_section_comes_back() {
    let mut guest = Guest::new();
    for round in 0..1000 {
        let frame = frame(14 + round * 13 % 1500);
        assert_eq!(guest.arrive(&frame), Received::Delivered, "round {round}");
        assert_eq!(guest.frames(1, true), [(frame, vec![])]);
    }
}

#[test]
fn frames_of_a_call_share_packets_and_their_sections_come_back_together() {
    let mut guest = Guest::new();
    for count in [1, 2, 15, 16, 17, 40] {
        let frames: Vec<_> = (0..count).map(|n| frame(60 + n)).collect();
        assert!(guest.arrive_together(&frames).iter().all(|one| *one == Received::Delivered));
        let mut packets = Vec::new();
        while let Some(packet) = guest.take(1) {
            packets.push(packet);
        }
        let counts: Vec<_> = packets.iter().map(|packet| packet.ranges.len()).collect();
        assert_eq!(counts.iter().sum::<usize>(), count);
        assert!(counts[..counts.len() - 1].iter().all(|ranges| *ranges == 16), "{counts:?}");
        let messages: Vec<_> = packets.iter().flat_map(|packet| guest.messages(packet)).collect();
        let got: Vec<_> = messages.iter().map(|message| message[256..].to_vec()).collect();
        assert_eq!(got, frames);
        packets.iter().for_each(|packet| guest.complete(1, packet.id));
    }
    // All sections are back, and no more than all.
    let sections = 128 * 4096 / 1808 - 16;
    let frames = vec![frame(60); sections + 1];
    let received = guest.arrive_together(&frames);
    assert!(received[..sections].iter().all(|one| *one == Received::Delivered));
    assert_eq!(received[sections], Received::Later);
    assert_eq!(guest.frames(1, true).len(), sections);
    let counts = guest.bus.with(guest.bus.devices(), &guest.host, |card, _| card.counts()).unwrap();
    assert_eq!(counts.received, sections as u64 + 91);
}

#[test]
fn frames_of_a_call_whose_room_the_guest_takes_away_are_lost() {
    let mut guest = Guest::new();
    guest
        .bus
        .with(guest.bus.devices(), &guest.host, |card, io| {
            assert_eq!(card.receive(&frame(60), io), Received::Delivered);
            // The ring is full.
            guest.set_read(1, guest.written(1) + 8);
        })
        .unwrap();
    let counts = guest.bus.with(guest.bus.devices(), &guest.host, |card, _| card.counts()).unwrap();
    assert_eq!((counts.received, counts.receive_discards), (0, 1));
    // Its section is the host's.
    guest.set_read(1, guest.written(1));
    let frames = vec![frame(60); 128 * 4096 / 1808 - 16];
    assert!(guest.arrive_together(&frames).iter().all(|one| *one == Received::Delivered));
    assert_eq!(guest.frames(1, true), vec![(frame(60), vec![]); frames.len()]);
}

#[test]
fn a_frame_that_waits_is_told_of_the_room_of_those_that_were_lost() {
    // The ring is full, or corrupt: of that the card is not told, since it finds it itself.
    for spoil in [8, 1] {
        let guest = Guest::new();
        let frames = vec![frame(60); 128 * 4096 / 1808 - 16];
        guest
            .bus
            .with(guest.bus.devices(), &guest.host, |card, io| {
                assert!(frames.iter().all(|frame| card.receive(frame, io) == Received::Delivered));
                assert_eq!(card.receive(&frames[0], io), Received::Later);
                guest.host.notes.take();
                guest.set_read(1, guest.written(1) + spoil);
            })
            .unwrap();
        assert_eq!(guest.host.notes.take().last(), Some(&(note::ROOM, 0)), "{spoil}");
    }
}

#[test]
fn an_answer_comes_behind_the_frames_of_its_call() {
    let mut guest = Guest::new();
    guest
        .bus
        .with(guest.bus.devices(), &guest.host, |card, io| {
            assert_eq!(card.receive(&frame(60), io), Received::Delivered);
            assert!(card.set_link(false, io));
        })
        .unwrap();
    let kinds: Vec<_> = std::iter::from_fn(|| guest.take(1)).map(|packet| packet.word(4)).collect();
    assert_eq!(kinds, [0, 1]);
}

#[test]
fn frames_wait_for_sections_and_answers_have_their_own() {
    let mut guest = Guest::new();
    let mut arrived = 0;
    while guest.arrive(&frame(100)) == Received::Delivered {
        arrived += 1;
    }
    assert_eq!(arrived, 128 * 4096 / 1808 - 16);
    assert_eq!(guest.arrive(&frame(100)), Received::Later);
    let mut ids = Vec::new();
    while let Some(packet) = guest.take(1) {
        ids.push(packet.id);
    }
    assert_eq!(guest.query(0x0101_0101), (0, MAC.to_vec()));
    guest.host.notes.take();
    assert_eq!(guest.arrive(&frame(100)), Received::Later);
    guest.complete(1, ids[5]);
    assert_eq!(guest.host.notes.take(), [(note::ROOM, 0)]);
    assert_eq!(guest.arrive(&frame(100)), Received::Delivered);
    guest.complete(1, ids[5]);
    assert_eq!(guest.host.notes.take(), [(note::REFUSED, ids[5])], "a section is returned once");
    assert_eq!(guest.arrive(&frame(100)), Received::Later);
}

#[test]
fn frames_without_a_section_are_dropped_while_the_back_end_is_full() {
    let mut guest = Guest::new();
    while guest.arrive(&frame(100)) == Received::Delivered {}
    // A frame of the guest's waits for the back end, and its completions of what it received are behind it.
    guest.host.full.set(true);
    let sent = guest.start(1, false, &listed(&packet_message(&frame(64), &[])));
    let ids: Vec<u64> = std::iter::from_fn(|| guest.take(1)).map(|packet| packet.id).collect();
    guest.complete(1, ids[0]);
    assert_eq!(guest.arrive(&frame(100)), Received::Dropped);
    guest.host.full.set(false);
    guest.bus.resume(hv_vmbus::DeviceId(0), &guest.host);
    guest.run();
    assert_eq!(guest.completion(sent), 1);
    assert_eq!(guest.arrive(&frame(100)), Received::Delivered);
}

#[test]
fn frames_wait_for_room_in_the_ring() {
    // More sections than packets fit, so that the ring is what fills.
    let mut guest = Guest::opened();
    guest.connect_with(Version::V61, 1514, 256);
    let mut arrived = 0;
    while guest.arrive(&frame(60)) == Received::Delivered {
        arrived += 1;
    }
    assert!((300..400).contains(&arrived), "{arrived} packets in a ring of 28 KiB");
    guest.host.notes.take();
    let got = guest.frames(1, true).len();
    assert_eq!(got, arrived);
    assert!(guest.host.notes.take().contains(&(note::ROOM, 0)));
    assert_eq!(guest.arrive(&frame(60)), Received::Delivered);
}

#[test]
fn frames_that_the_ring_has_no_room_for_wait_also_while_the_back_end_is_full() {
    let mut guest = Guest::opened();
    guest.connect_with(Version::V61, 1514, 256);
    while guest.arrive(&frame(60)) == Received::Delivered {}
    guest.host.full.set(true);
    guest.start(1, false, &listed(&packet_message(&frame(64), &[])));
    assert_eq!(guest.arrive(&frame(60)), Received::Later);
    // The guest reads, whatever it sends.
    guest.host.notes.take();
    while guest.take(1).is_some() {}
    guest.bus.signal(0x2001, &guest.host).unwrap();
    assert!(guest.host.notes.take().contains(&(note::ROOM, 0)));
    assert_eq!(guest.arrive(&frame(60)), Received::Delivered);
}

#[test]
fn the_filter_decides_what_arrives() {
    let mut guest = Guest::new();
    let to = |address: [u8; 6]| {
        let mut frame = frame(60);
        frame[..6].copy_from_slice(&address);
        frame
    };
    let (other, group, all) = ([2, 0, 0, 0, 0, 9], [1, 0, 0x5e, 0, 0, 1], [0xff; 6]);
    let mut list = group.to_vec();
    list.extend([1, 0, 0x5e, 0, 0, 2]);
    assert_eq!(guest.set(0x0101_0103, &list), 0);
    let cases = [
        (0, [false; 4]),
        (1, [true, false, false, false]),
        (2, [false, false, true, false]),
        (4, [false, false, true, false]),
        (8, [false, false, false, true]),
        (0x0d, [true, false, true, true]),
        (0x20, [true; 4]),
    ];
    for (filter, expected) in cases {
        assert_eq!(guest.set(0x0001_010e, &words(&[filter])), 0);
        let arrives = [MAC, other, group, all].map(|to_whom| {
            let got = guest.arrive(&to(to_whom)) == Received::Delivered;
            assert_eq!(guest.frames(1, true).len(), usize::from(got));
            got
        });
        assert_eq!(arrives, expected, "filter {filter:#x}");
    }
    assert_eq!(guest.set(0x0001_010e, &words(&[2])), 0);
    assert_eq!(guest.arrive(&to([1, 0, 0x5e, 0, 0, 3])), Received::Dropped, "not in the list");
}

#[test]
fn frames_are_as_long_as_the_guest_configured() {
    for (configured, longest) in [(1514, 1514), (9014, 9014), (50_000, 9014), (1, 82)] {
        let mut guest = Guest::with(Version::V61, configured);
        assert_eq!(guest.query(0x0001_0106), (0, words(&[longest - 14])));
        // Those of Ethernet arrive however short the guest's own are.
        let received = longest.max(1514) as usize;
        assert_eq!(guest.arrive(&frame(received)), Received::Delivered);
        assert_eq!(guest.frames(1, true), [(frame(received), vec![])]);
        assert_eq!(guest.arrive(&frame(received + 1)), Received::Dropped);
        let long = frame(longest as usize);
        assert_eq!(guest.send(&listed(&packet_message(&long, &[]))), 1);
        assert_eq!(guest.send(&listed(&packet_message(&frame(longest as usize + 1), &[]))), 5);
        assert_eq!(guest.sent(), [long]);
    }
}

#[test]
fn tags_travel_beside_the_frame() {
    let mut guest = Guest::new();
    // Priority 5, drop eligible, VLAN 0x123.
    let (info, tci) = (0x123 << 4 | 1 << 3 | 5, 5 << 13 | 1 << 12 | 0x123_u16);
    for len in [14, 60, 1514] {
        let plain = frame(len);
        let mut tagged = plain[..12].to_vec();
        tagged.extend([0x81, 0]);
        tagged.extend(tci.to_be_bytes());
        tagged.extend(&plain[12..]);
        assert_eq!(guest.send(&section(&packet_message(&plain, &[(6, info)]))), 1);
        assert_eq!(guest.sent(), [&tagged[..]]);
        assert_eq!(guest.arrive(&tagged), Received::Delivered);
        assert_eq!(guest.frames(1, true), [(plain, vec![(6, info)])]);
    }
}

/// Computes the internet checksum of some parts, by its definition.
fn checksum(parts: &[&[u8]]) -> u16 {
    let all = parts.concat();
    let sum: u32 = all.chunks(2).map(|p| u32::from(p[0]) << 8 | u32::from(*p.get(1).unwrap_or(&0))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) as u16).wrapping_add((sum >> 16) as u16)
}

/// Returns true if the checksums of an IP packet in a frame are right.
fn is_right(frame: &[u8], v6: bool, udp: bool) -> bool {
    let (ip, transport) = if v6 { (14, 54) } else { (14, 34) };
    let end = if v6 {
        54 + usize::from(u16::from_be_bytes([frame[18], frame[19]]))
    } else {
        14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]))
    };
    let addresses = if v6 { &frame[22..54] } else { &frame[26..34] };
    let len = ((end - transport) as u32).to_be_bytes();
    let protocol = [0, if udp { 17 } else { 6 }];
    let sum = checksum(&[addresses, &protocol, &len, &frame[transport..end]]);
    (v6 || checksum(&[&frame[ip..34]]) == 0) && sum == 0
}

/// Builds an IP packet in a frame, without checksums.
fn packet(v6: bool, udp: bool, payload: usize) -> Vec<u8> {
    let header = if udp { 8 } else { 20 };
    let mut frame = frame(if v6 { 54 } else { 34 } + header + payload);
    let len = (header + payload) as u16;
    if v6 {
        frame[12..20].copy_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0, 0, 0]);
        frame[18..20].copy_from_slice(&len.to_be_bytes());
        frame[20] = if udp { 17 } else { 6 };
    } else {
        frame[12..16].copy_from_slice(&[8, 0, 0x45, 0]);
        frame[16..18].copy_from_slice(&(len + 20).to_be_bytes());
        frame[20..26].copy_from_slice(&[0x40, 0, 64, if udp { 17 } else { 6 }, 0, 0]);
        let sum = checksum(&[&frame[14..34]]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }
    let at = if v6 { 54 } else { 34 };
    if udp {
        frame[at + 4..at + 6].copy_from_slice(&len.to_be_bytes());
    } else {
        frame[at + 12..at + 14].copy_from_slice(&[0x50, 0x18]);
    }
    frame
}

#[test]
fn checksums_are_computed() {
    let mut guest = Guest::new();
    for (v6, udp, payload) in
        [(false, false, 0), (false, false, 1001), (false, true, 3), (true, false, 500), (true, true, 1)]
    {
        let frame = packet(v6, udp, payload);
        assert!(!is_right(&frame, v6, udp));
        let offset = if v6 { 54 } else { 34 };
        let info = offset << 16 | u32::from(udp) << 3 | u32::from(!udp) << 2 | if v6 { 2 } else { 1 };
        assert_eq!(guest.send(&listed(&packet_message(&frame, &[(0, info)]))), 1);
        let [sent] = &guest.sent()[..] else { panic!("one frame") };
        assert!(is_right(sent, v6, udp), "{v6} {udp} {payload}");
        // With a tag too, and after the packet's end what Ethernet pads.
        let mut padded = frame.clone();
        padded.extend([0xee; 9]);
        assert_eq!(guest.send(&section(&packet_message(&padded, &[(6, 0x10), (0, info)]))), 1);
        let mut sent = guest.sent().remove(0);
        sent.drain(12..16);
        assert!(is_right(&sent, v6, udp) && sent.ends_with(&[0xee; 9]));
    }
    // The header's alone.
    let mut frame = packet(false, false, 10);
    frame[24..26].fill(0);
    assert_eq!(guest.send(&section(&packet_message(&frame, &[(0, 0x11)]))), 1);
    assert_eq!(checksum(&[&guest.sent()[0][14..34]]), 0);
}

#[test]
fn long_segments_are_cut() {
    let mut guest = Guest::new();
    for (v6, payload, mss) in
        [(false, 62_000, 1448), (true, 10_000, 1428), (false, 1000, 1448), (false, 20, 10)]
    {
        let mut frame = packet(v6, false, payload);
        let at = if v6 { 54 } else { 34 };
        if v6 {
            frame[18..20].fill(0);
        } else {
            frame[16..18].fill(0);
            frame[24..26].fill(0);
        }
        frame[at + 4..at + 8].copy_from_slice(&0xffff_f000_u32.to_be_bytes());
        frame[at + 13] = 0x99;
        let info = mss | (at as u32) << 20 | 1 << 30 | u32::from(v6) << 31;
        let id = {
            let message = packet_message(&frame, &[(2, info)]);
            guest.start(1, false, &Data { section: None, listed: Some((10, &message)) })
        };
        guest.run();
        assert_eq!(guest.completion(id), 1);
        let sent = guest.sent();
        assert_eq!(sent.len(), payload.div_ceil(mss as usize));
        let mut whole: Vec<u8> = Vec::new();
        for (n, segment) in sent.iter().enumerate() {
            assert!(is_right(segment, v6, false), "segment {n}");
            let sequence = u32::from_be_bytes(segment[at + 4..at + 8].try_into().unwrap());
            assert_eq!(sequence, 0xffff_f000_u32.wrapping_add(whole.len() as u32));
            let (first, last) = (n == 0, n + 1 == sent.len());
            let flags = 0x10 | if first { 0x80 } else { 0 } | if last { 0x09 } else { 0 };
            assert_eq!(segment[at + 13], flags, "segment {n}");
            whole.extend(&segment[at + 20..]);
        }
        assert_eq!(whole, frame[at + 20..]);
    }
}

#[test]
fn flows_are_spread_over_the_channels() {
    let mut guest = Guest::new();
    guest.posted();
    let answer = guest.nvsp(MessageType::SUBCHANNEL, &[1, 9]);
    assert_eq!((answer.word(0), answer.word(4), answer.word(8)), (133, 1, 3));
    assert_eq!(guest.posted(), [1; 3], "three offers");
    (2..5).for_each(|channel| guest.open(channel));
    let mut value = vec![0x89, 2, 40, 0, 0, 0, 0, 0];
    value.extend(words(&[0x1701, 512, 40, 40, 552, 0, 0, 0]));
    (0..128_u32).for_each(|n| value.extend((n % 4).to_le_bytes()));
    value.extend([0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2].repeat(5));
    assert_eq!(guest.set(0x0001_0204, &value), 0);
    let mut frames = [0; 4];
    for port in 0..100_u16 {
        let mut frame = packet(false, false, 10);
        frame[34..36].copy_from_slice(&port.to_be_bytes());
        assert_eq!(guest.arrive(&frame), Received::Delivered);
        for channel in 1..5 {
            for (_, infos) in guest.frames(channel, true) {
                assert_eq!(infos.len(), 1);
                assert_eq!((infos[0].0, infos[0].1 % 4), (8, channel - 1));
                frames[channel as usize - 1] += 1;
            }
        }
    }
    assert_eq!(frames.iter().sum::<i32>(), 100);
    // Together, each goes where it would have gone alone.
    let ports = |port: u16| {
        let mut frame = packet(false, false, 10);
        frame[34..36].copy_from_slice(&port.to_be_bytes());
        frame
    };
    let received = guest.arrive_together(&(0..100).map(ports).collect::<Vec<_>>());
    assert!(received.iter().all(|one| *one == Received::Delivered));
    for channel in 1..5 {
        let got = guest.frames(channel, true);
        assert_eq!(got.len() as i32, frames[channel as usize - 1]);
        assert!(got.iter().all(|(_, infos)| infos[0].1 % 4 == channel - 1));
    }
    assert!(frames.iter().all(|count| *count > 5), "{frames:?}");
    // A frame is sent on each of them too.
    let message = packet_message(&frame(60), &[]);
    for channel in 1..5 {
        guest.start(channel, false, &Data { section: Some((0, &message)), listed: None });
        assert_eq!(guest.take(channel).map(|answer| answer.word(4)), Some(1));
    }
    assert_eq!(guest.sent().len(), 4);
}

#[test]
fn headers_that_change_after_they_were_read_change_nothing() {
    let mut guest = Guest::new();
    guest.host.hold.set(true);
    let frame = packet(false, false, 4000);
    let message = packet_message(&frame, &[(2, 1000 | 34 << 20 | 1 << 30)]);
    let id = guest.start(1, false, &Data { section: None, listed: Some((0, &message)) });
    // The guest makes its headers invalid while the second segment has yet to be made.
    guest.write(PAGES * 4096, &[0xff; 120]);
    while let Some(token) = { guest.host.held.borrow_mut().pop() } {
        guest.bus.completed(guest.bus.devices(), token, Ok(()), &guest.host).unwrap();
    }
    assert_eq!(guest.completion(id), 1);
    let sent = guest.sent();
    assert_eq!(sent.len(), 4);
    for segment in &sent {
        assert_eq!(segment[..14], frame[..14]);
        assert!(is_right(segment, false, false));
    }
}

#[test]
fn an_observer_is_shown_messages_and_frames_as_far_as_they_are_read() {
    let mut guest = Guest::new();
    guest.host.observed.set(true);
    let frame = frame(100);
    let (message, len) = (packet_message(&frame, &[(6, 7 << 4)]), 160);
    let both = [&message[..], &message[..]].concat();
    assert_eq!(guest.send(&section(&both)), 1);
    let shown = |len: u32| {
        [(true, part::MESSAGE, len, message[..60].to_vec()), (true, part::FRAME, 100, frame[..80].to_vec())]
    };
    assert_eq!(guest.host.shown.take(), [shown(2 * len), shown(len)].concat());
    // What is invalid is shown as far as it was read.
    let wrong = rndis(9, &[0; 100]);
    assert_eq!(guest.send(&section(&wrong)), 5);
    assert_eq!(guest.host.shown.take(), [(true, part::MESSAGE, 108, wrong[..44].to_vec())]);
    assert_eq!(guest.arrive(&frame), Received::Delivered);
    let received = guest.take(1).unwrap();
    let message = guest.messages(&received).pop().unwrap();
    assert_eq!(
        guest.host.shown.take(),
        [
            (false, part::MESSAGE, message.len() as u32, message[..44].to_vec()),
            (false, part::FRAME, 100, frame[..80].to_vec())
        ]
    );
    let query = rndis(4, &words(&[9, 0x0101_0101, 0, 20, 0]));
    assert_eq!(guest.query(0x0101_0101), (0, MAC.to_vec()));
    let answer = [rndis(0x8000_0004, &words(&[9, 0, 6, 16])), MAC.to_vec()].concat();
    let shown = guest.host.shown.take();
    let [(true, part::CONTROL, 28, asked), (false, part::CONTROL, 30, answered)] = &shown[..] else {
        panic!("{shown:?}")
    };
    assert_eq!((&asked[..], &answered[8..]), (&query[..], &answer[8..]));
}
