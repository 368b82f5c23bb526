//! Negotiation, and the objects that drivers query and set.

use crate::guest::{Guest, MAC, RECEIVE, RECEIVE_GPADL, SEND, SEND_GPADL, words};
use hv_tlfs::vmbus::nvsp::{MessageType, Version};

const VERSIONS: [Version; 6] =
    [Version::V1, Version::V2, Version::V4, Version::V5, Version::V6, Version::V61];

#[test]
fn every_version_is_spoken_and_others_are_refused_before() {
    for version in VERSIONS {
        let mut guest = Guest::opened();
        for wrong in [0, 1, 3, 0x3_0000, 0x6_0002, 0x7_0000, u32::MAX] {
            let answer = guest.nvsp(MessageType::INIT, &[wrong, wrong]);
            assert_eq!((answer.word(0), answer.word(12)), (2, 2), "{wrong:#x}");
        }
        guest.connect(version, 1514);
        // Padded to a multiple of 8 by the ring.
        let len = if version == Version::V61 { 40 } else { 32 };
        let answer = guest.nvsp(MessageType::INIT, &[version.0, version.0]);
        assert_eq!((answer.word(12), answer.payload.len()), (2, len), "a second time");
        let known = guest.bus.with(guest.bus.devices(), &guest.host, |card, _| card.version());
        assert_eq!(known, Ok(Some(version)));
    }
}

#[test]
fn only_a_card_with_the_configuration_of_version_2_has_another_maximum() {
    assert_eq!(Guest::with(Version::V1, 9014).query(0x0001_0106), (0, words(&[1500])));
    assert_eq!(Guest::with(Version::V2, 9014).query(0x0001_0106), (0, words(&[9000])));
}

#[test]
fn buffers_that_do_not_fit_are_refused() {
    let mut guest = Guest::opened();
    guest.buffer(RECEIVE_GPADL, RECEIVE, 128);
    guest.buffer(SEND_GPADL, SEND, 1);
    let receive =
        |guest: &mut Guest, gpadl| guest.nvsp(MessageType::SEND_RECEIVE_BUFFER, &[gpadl, 0xcafe]).word(4);
    let send = |guest: &mut Guest, gpadl| guest.nvsp(MessageType::SEND_SEND_BUFFER, &[gpadl, 0]).word(4);
    assert_eq!((receive(&mut guest, RECEIVE_GPADL), send(&mut guest, SEND_GPADL)), (2, 2), "no version");
    guest.nvsp(MessageType::INIT, &[Version::V5.0; 2]);
    assert_eq!(receive(&mut guest, 77), 2, "no such buffer");
    assert_eq!(receive(&mut guest, SEND_GPADL), 2, "too small for the answers");
    assert_eq!(send(&mut guest, SEND_GPADL), 2, "smaller than a section");
    assert_eq!(receive(&mut guest, RECEIVE_GPADL), 1);
    assert_eq!(receive(&mut guest, RECEIVE_GPADL), 2, "a second one");
    assert_eq!(send(&mut guest, RECEIVE_GPADL), 1);
    assert_eq!(send(&mut guest, RECEIVE_GPADL), 2, "a second one");
    guest.inband(MessageType::REVOKE_RECEIVE_BUFFER, &[0xcafe]);
    guest.inband(MessageType::REVOKE_SEND_BUFFER, &[0]);
    assert_eq!((receive(&mut guest, RECEIVE_GPADL), send(&mut guest, RECEIVE_GPADL)), (1, 1));
}

#[test]
fn linux_gets_what_it_asks_for() {
    let mut guest = Guest::new();
    assert_eq!(guest.query(0x0101_0101), (0, MAC.to_vec()));
    assert_eq!(guest.query(0x0001_0114), (0, words(&[0])), "the link is up");
    assert_eq!(guest.query(0x0001_0107), (0, words(&[100_000_000])), "10 Gbit/s");
    let (status, scaling) = guest.query(0x0001_0203);
    assert_eq!((status, scaling.len(), scaling[0], scaling[1]), (0, 18, 0x88, 2));
    assert_eq!((&scaling[12..16], &scaling[16..]), (&words(&[4])[..], &[128, 0][..]));
    let (_, offload) = guest.query(0xfc01_020d);
    assert_eq!((offload.len(), &offload[..4]), (156, &[0xa7, 3, 156, 0][..]));
    let word = |at: usize| u32::from_le_bytes(offload[at..at + 4].try_into().unwrap());
    assert_eq!((word(8) & 0x14, word(24) & 0x15), (0x14, 0x15), "TCP, as Linux wants all of it");
    assert_eq!((word(80), word(92), word(104)), (2, 2, 5), "large sends");
    let (_, now) = guest.query(0xfc01_020b);
    assert_eq!(now[4..112], [0; 108], "nothing is on yet");
    let parameters = [0x80, 3, 28, 0, 1, 4, 4, 4, 4, 0, 0, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(guest.set(0xfc01_020c, &parameters), 0);
    let (_, now) = guest.query(0xfc01_020b);
    assert_eq!(now[80..], offload[80..]);
    assert_eq!(guest.set(0xfc01_020c, &parameters[..22]), 0, "of old guests");
    assert_ne!(guest.set(0xfc01_020c, &[0x80, 3, 28, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0]), 0);
    assert_eq!(guest.query(0x0002_0216).0, 0xc000_00bb, "no name");
}

#[test]
fn old_versions_have_old_forms() {
    for (version, revision, len) in [(Version::V2, 1, 112), (Version::V4, 2, 144), (Version::V5, 3, 156)] {
        let (_, offload) = Guest::with(version, 1514).query(0xfc01_020d);
        assert_eq!((offload.len(), offload[1], offload[2]), (len, revision, len as u8));
        let (status, _) = Guest::with(version, 1514).query(0x0001_0203);
        assert_eq!(status == 0, version >= Version::V5, "receive side scaling in {version:?}");
    }
}

#[test]
fn every_object_of_the_list_has_a_value() {
    let mut guest = Guest::new();
    let (_, list) = guest.query(0x0001_0101);
    assert!(list.len() > 100);
    for oid in list.chunks_exact(4) {
        let oid = u32::from_le_bytes(oid.try_into().unwrap());
        let (status, value) = guest.query(oid);
        assert_eq!(status, 0, "{oid:#x}");
        assert!(!value.is_empty() || oid == 0x0101_0103, "{oid:#x}");
    }
    for oid in [0, 1, 0x0001_0100, 0x0001_0204, 0xffff_ffff] {
        assert_eq!(guest.query(oid), (0xc000_00bb, vec![]));
        assert_ne!(guest.set(oid, &[0; 4]), 0);
    }
}

#[test]
fn the_address_is_set_by_its_name() {
    let mut guest = Guest::new();
    let set = |guest: &mut Guest, name: &str, value: &str| {
        let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
        let (name, value) = (utf16(name), utf16(value));
        let mut info = words(&[20, name.len() as u32, 2, 20 + name.len() as u32, value.len() as u32]);
        info.extend(name);
        info.extend(value);
        guest.set(0x0001_021b, &info)
    };
    assert_eq!(set(&mut guest, "NetworkAddress", "02005e10aBcD"), 0);
    let address = vec![2, 0, 0x5e, 0x10, 0xab, 0xcd];
    assert_eq!(guest.query(0x0101_0102), (0, address.clone()));
    assert_eq!(guest.query(0x0101_0101), (0, MAC.to_vec()));
    for wrong in
        ["", "02005e10abc", "02005e10abcde", "03005e10abcd", "02005e10abcg", "000000000000", "é2005e10abcd"]
    {
        assert_ne!(set(&mut guest, "NetworkAddress", wrong), 0, "{wrong}");
    }
    assert_ne!(set(&mut guest, "NetworkAddres", "02005e10abcd"), 0);
    assert_eq!(guest.query(0x0101_0102), (0, address));
}

#[test]
fn a_keepalive_a_reset_and_a_halt_do_what_they_say() {
    let mut guest = Guest::new();
    assert_eq!(guest.control(8, &words(&[5])), Some((0x8000_0008, words(&[5, 0]))));
    assert_eq!(guest.control(6, &words(&[0])), Some((0x8000_0006, words(&[0, 1]))));
    assert_eq!(guest.query(0x0001_010e), (0, words(&[0])), "a reset clears the filter");
    assert_eq!(guest.control(3, &words(&[6])), None);
    assert_eq!(guest.query(0x0101_0101).0, 0xc001_0011, "halted");
    assert_eq!(guest.control(2, &words(&[7, 2, 0, 0x4000])).unwrap().1[4..8], words(&[0xc001_0004]));
    assert_eq!(guest.control(2, &words(&[7, 1, 0, 0x4000])).unwrap().1[4..8], words(&[0]));
    assert_eq!(guest.query(0x0101_0101).0, 0);
}

#[test]
fn numbers_of_frames_are_queried() {
    use crate::guest::{Data, packet_message};
    let mut guest = Guest::new();
    let mut frame = vec![0; 100];
    frame[..6].copy_from_slice(&MAC);
    let message = packet_message(&frame, &[]);
    for _ in 0..3 {
        guest.send(&Data { section: Some((0, &message)), listed: None });
    }
    guest.arrive(&frame);
    guest.arrive(&frame[..60]);
    guest.frames(1, true);
    assert_eq!(guest.query(0x0002_0101), (0, words(&[3])));
    assert_eq!(guest.query(0x0002_0102), (0, words(&[2])));
    assert_eq!(guest.query(0x0002_021a), (0, words(&[300])));
    assert_eq!(guest.query(0x0002_0219), (0, words(&[160])));
}
