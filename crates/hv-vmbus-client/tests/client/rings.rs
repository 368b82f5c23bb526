//! The two positions of a ring, one on each side of the same pages.

use hv_guest::page::Page;
use hv_tlfs::vmbus::{PacketType, TransferPageRange};
use hv_vmbus_client::Data;
use hv_vmbus_client::ring::{Committed, Outgoing, Receiver, RingError, SendError, Sender};

fn pages<const N: usize>() -> Box<[Page]> {
    (0..N).map(|_| Page::new()).collect()
}

const WRITE: usize = 0;
const READ: usize = 4;
const MASK: usize = 8;
const PENDING: usize = 12;

#[test]
fn the_receiver_is_signalled_when_the_ring_was_empty_and_not_masked() {
    let area = pages::<2>();
    let mut receiver = Receiver::new(&area[..]).unwrap();
    let mut sender = Sender::new(&area[..]).unwrap();
    let packet = Outgoing::in_band(1, &[1, 2, 3]);
    assert_eq!(sender.send(&area[..], &packet), Ok(true));
    assert_eq!(sender.send(&area[..], &packet), Ok(false), "the ring was not empty");
    for _ in 0..2 {
        receiver.next(&area[..]).unwrap().unwrap();
    }
    assert_eq!(sender.send(&area[..], &packet), Ok(false), "read, and not committed");
    assert_eq!(receiver.commit(&area[..]), Ok(Committed { signal: false, more: true }), "so it looks again");
    receiver.next(&area[..]).unwrap().unwrap();
    assert_eq!(receiver.commit(&area[..]), Ok(Committed { signal: false, more: false }));
    assert_eq!(sender.send(&area[..], &packet), Ok(true));
    receiver.next(&area[..]).unwrap().unwrap();
    receiver.commit(&area[..]).unwrap();
    receiver.mask(&area[..]);
    assert_eq!(sender.send(&area[..], &packet), Ok(false), "masked");
    assert_eq!(receiver.unmask(&area[..]), Ok(true));
    receiver.next(&area[..]).unwrap().unwrap();
    receiver.commit(&area[..]).unwrap();
    assert_eq!(receiver.unmask(&area[..]), Ok(false));
    assert_eq!(sender.send(&area[..], &packet), Ok(true));
}

#[test]
fn the_sender_is_signalled_when_the_room_passes_what_it_waits_for() {
    // Rooms in bytes after each of three packets of 1,024 is read, of 4,096: 1,024 + what is read.
    for (pending, signals) in [
        (0, [false, false, false]),
        (1024, [true, false, false]),
        (2040, [true, false, false]),
        (2048, [false, true, false]),
        (3072, [false, false, true]),
        // All of the ring but one byte: OpenVMM's guests ask for it. And more than all: never.
        (4095, [false, false, true]),
        (4096, [false, false, false]),
    ] {
        let area = pages::<2>();
        let mut receiver = Receiver::new(&area[..]).unwrap();
        let mut sender = Sender::new(&area[..]).unwrap();
        for _ in 0..3 {
            sender.send(&area[..], &Outgoing::in_band(1, &[0; 1000])).unwrap();
        }
        area[0].store_u32(PENDING, pending);
        for signal in signals {
            receiver.next(&area[..]).unwrap().unwrap();
            assert_eq!(receiver.commit(&area[..]).unwrap().signal, signal, "waits for {pending}");
        }
    }
}

#[test]
fn a_sender_that_waits_takes_the_request_back() {
    let area = pages::<2>();
    let mut sender = Sender::new(&area[..]).unwrap();
    assert_eq!(area[0].load_u32(64), Some(1), "the feature is declared");
    for _ in 0..3 {
        sender.send(&area[..], &Outgoing::in_band(1, &[0; 1000])).unwrap();
    }
    assert_eq!(sender.send(&area[..], &Outgoing::in_band(1, &[0; 1000])), Err(SendError::Full(1024)));
    assert_eq!(sender.wait_for(&area[..], 1024), Ok(false));
    assert_eq!(area[0].load_u32(PENDING), Some(1024));
    area[0].store_u32(READ, 1024);
    assert_eq!(sender.wait_for(&area[..], 1024), Ok(true));
    sender.send(&area[..], &Outgoing::in_band(1, &[0; 1000])).unwrap();
    assert_eq!(area[0].load_u32(PENDING), Some(0));
}

#[test]
fn indices_that_cannot_be_end_the_ring() {
    // One packet of 1,024 bytes was sent, and one of 24 bytes received, so that both indices have somewhere to go.
    let dead_sender = |read: u32| {
        let area = pages::<2>();
        let mut sender = Sender::new(&area[..]).unwrap();
        sender.send(&area[..], &Outgoing::in_band(1, &[0; 1000])).unwrap();
        area[0].store_u32(READ, read);
        let free = sender.free(&area[..]);
        area[0].store_u32(READ, 0);
        assert_eq!(free.is_err(), sender.free(&area[..]).is_err(), "dead for good");
        assert_eq!(free.is_err(), sender.send(&area[..], &Outgoing::in_band(1, &[])).is_err());
        free
    };
    assert_eq!(dead_sender(0), Ok(4096 - 8 - 1024));
    for bad in [1, 4, 1032, 4088, 4096, u32::MAX, 0x8000_0000] {
        assert_eq!(dead_sender(bad), Err(RingError::Index { index: bad, size: 4096 }), "{bad}");
    }
    let area = pages::<2>();
    for bad in [1, 4096, u32::MAX, 8, 16] {
        let mut receiver = Receiver::new(&area[..]).unwrap();
        area[0].store_u32(WRITE, bad);
        assert!(receiver.next(&area[..]).is_err(), "{bad}");
        area[0].store_u32(WRITE, 0);
        assert!(receiver.next(&area[..]).is_err() && receiver.unmask(&area[..]).is_err(), "dead for good");
        assert!(receiver.commit(&area[..]).is_err() && receiver.dead().is_some());
    }
    // The host takes back what it has written.
    let mut receiver = Receiver::new(&area[..]).unwrap();
    let mut host = Sender::new(&area[..]).unwrap();
    for _ in 0..2 {
        host.send(&area[..], &Outgoing::in_band(1, &[])).unwrap();
    }
    receiver.next(&area[..]).unwrap().unwrap();
    area[0].store_u32(WRITE, 24);
    assert!(receiver.unmask(&area[..]).is_err());
}

#[test]
fn descriptors_that_cannot_be_end_the_ring() {
    // Offset and length in units of 8 bytes, in a ring to which 64 bytes were written.
    for (offset, len, good) in [
        (2, 2, true),
        (2, 7, true),
        (7, 7, true),
        (2, 8, false),
        (1, 7, false),
        (8, 7, false),
        (2, 1, false),
        (0, 0, false),
        (2, u16::MAX, false),
    ] {
        let area = pages::<2>();
        let mut receiver = Receiver::new(&area[..]).unwrap();
        area[1].write(0, &[6, 0, offset as u8, (offset >> 8) as u8, len as u8, (len >> 8) as u8]);
        area[0].store_u32(WRITE, 64);
        assert_eq!(receiver.next(&area[..]).is_ok(), good, "{offset} {len}");
    }
    let mut receiver = Receiver::new(&pages::<2>()[..]).unwrap();
    assert!(receiver.next(&pages::<2>()[..]).unwrap().is_none());
    assert_eq!(Receiver::new(&pages::<1>()[..]).unwrap_err(), RingError::Pages(1));
    assert_eq!(Sender::new(&pages::<0>()[..]).unwrap_err(), RingError::Pages(0));
}

#[test]
fn ranges_of_transfer_pages_are_read_as_far_as_there_are_any() {
    // Ranges claimed, ranges in the packet, ranges that are read.
    for (claimed, there, read) in [(0, 0, 0), (1, 1, 1), (3, 3, 3), (2, 3, 2), (4, 3, 3), (u32::MAX, 3, 3)] {
        let area = pages::<2>();
        let mut receiver = Receiver::new(&area[..]).unwrap();
        let words = 3 + there + 1;
        let mut packet = vec![7, 0, 3 + there as u8, 0, words as u8, 0, 1, 0];
        packet.extend(77_u64.to_le_bytes());
        packet.extend([0x5a, 0xca, 0, 0]);
        packet.extend(claimed.to_le_bytes());
        for n in 0..there as u32 {
            packet.extend((100 + n).to_le_bytes());
            packet.extend((n * 2048).to_le_bytes());
        }
        packet.extend([0xee; 8]);
        area[1].write(0, &packet);
        area[0].store_u32(WRITE, packet.len() as u32 + 8);
        let mut packet = receiver.next(&area[..]).unwrap().unwrap();
        assert_eq!(packet.kind(), PacketType::DATA_USING_TRANSFER_PAGES);
        assert!(packet.wants_completion());
        let ranges = packet.transfer_ranges().unwrap();
        assert_eq!(ranges.page_set(), 0xca5a);
        let all: Vec<TransferPageRange> = ranges.collect();
        assert_eq!(all.len(), read);
        for (n, range) in (0..).zip(all) {
            assert_eq!((range.byte_count, range.byte_offset), (100 + n, n * 2048));
        }
        assert_eq!(packet.take::<[u8; 8]>(), Some([0xee; 8]));
        assert_eq!(packet.take::<[u8; 1]>(), None);
    }
    // A packet of another kind, and one without room for the count.
    for (kind, offset) in [(6, 4), (7, 2)] {
        let area = pages::<2>();
        let mut receiver = Receiver::new(&area[..]).unwrap();
        area[1].write(0, &[kind, 0, offset, 0, 6, 0]);
        area[0].store_u32(WRITE, 56);
        assert!(receiver.next(&area[..]).unwrap().unwrap().transfer_ranges().is_none());
    }
}

/// Makes data of any pages: no host has them.
fn data(pages: &[u64], offset: usize, len: u32) -> Data<'_> {
    struct List<'a>(&'a [u64]);
    impl hv_vmbus_client::PageNumbers for List<'_> {
        fn pfn(&self, n: usize) -> Option<u64> {
            self.0.get(n).copied()
        }
    }
    // SAFETY: the ring is the test's own, and no host reads it.
    #[expect(unsafe_code, reason = "vouches for pages that do not exist")]
    unsafe {
        Data::at(Box::leak(Box::new(List(Box::leak(pages.to_vec().into_boxed_slice())))), offset, len)
    }
}

#[test]
fn pages_stand_between_descriptor_and_payload() {
    let area = pages::<2>();
    let mut sender = Sender::new(&area[..]).unwrap();
    let ranges = [data(&[10, 11, 12], 4096 + 100, 4096), data(&[20], 0, 4096)];
    let packet = Outgoing::gpa_direct(5, &ranges, &[0xaa; 10]).with_completion();
    assert_eq!(packet.total(), Ok(16 + 8 + 8 + 16 + 8 + 8 + 16 + 8));
    sender.send(&area[..], &packet).unwrap();
    let mut bytes = [0; 88];
    area[1].read(0, &mut bytes);
    let word = |n: usize| u64::from_le_bytes(bytes[n * 8..][..8].try_into().unwrap());
    // Type 9, payload from 64 bytes on, 80 bytes, with a completion.
    assert_eq!(word(0), 9 | 8 << 16 | 10 << 32 | 1 << 48);
    assert_eq!(word(1), 5);
    assert_eq!(word(2), 2 << 32);
    // 4,096 bytes at 100 in pages 11 and 12.
    assert_eq!([word(3), word(4), word(5)], [4096 | 100 << 32, 11, 12]);
    assert_eq!([word(6), word(7)], [4096, 20]);
    assert_eq!(bytes[64..80], [0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0, 0, 0, 0, 0, 0]);
    assert_eq!(word(10), 0, "the trailer: where the packet began");
    for bad in [data(&[1], 0, 0), data(&[1], 1, 4096), data(&[1], 4096, 1), data(&[1], usize::MAX, 1)] {
        assert_eq!(sender.send(&area[..], &Outgoing::gpa_direct(1, &[bad], &[])), Err(SendError::Data));
    }
    let much = data(&[1], 0, u32::MAX);
    assert_eq!(sender.send(&area[..], &Outgoing::gpa_direct(1, &[much], &[])), Err(SendError::TooLong));
    // The ranges but for the last take 2^32 - 8 bytes of the packet: 511 of 2^20 pages each, and one of the rest.
    let rest = (u32::MAX - 7 - 8 - 511 * ((1 << 23) + 8) - 8) / 8;
    let mut all = vec![much; 511];
    all.extend([data(&[1], 0, rest * 4096), data(&[1], 0, 1)]);
    assert_eq!(sender.send(&area[..], &Outgoing::gpa_direct(1, &all, &[])), Err(SendError::TooLong));
    assert_eq!(area[0].load_u32(WRITE), Some(88), "nothing was sent");
}

#[test]
fn a_packet_longer_than_16_bits_of_words_is_refused() {
    let area = pages::<200>();
    let mut sender = Sender::new(&area[..]).unwrap();
    let long = vec![0; 524_280 - 16];
    assert_eq!(sender.send(&area[..], &Outgoing::in_band(1, &long)), Ok(true));
    let longer = vec![0; 524_280 - 15];
    assert_eq!(sender.send(&area[..], &Outgoing::in_band(1, &longer)), Err(SendError::TooLong));
    assert_eq!(area[0].load_u32(MASK), Some(0));
}
