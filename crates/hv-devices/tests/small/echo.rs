//! Packets through both rings of a channel: the echo device, and guests that put nonsense into a ring.

use crate::common::{GuestPacket, GuestRing, Memory, Opened, close, open, send, teardown};
use hv_devices::any::Offer;
use hv_vmbus::Event;
use hv_vmbus::protocol::{ChannelId, MessageType, NtStatus, OpenResult, PacketType, TARGET_VP_NONE};
use hv_vmbus::ring::RingError;

/// Offsets in the ring's header.
struct At;

impl At {
    const WRITE_INDEX: u64 = 0;
    const READ_INDEX: u64 = 4;
    const INTERRUPT_MASK: u64 = 8;
    const PENDING_SEND_SIZE: u64 = 12;
    const FEATURES: u64 = 64;
}

impl Opened {
    /// Writes bytes to the guest's ring that may not be a valid packet, and lets the host process them.
    fn corrupt(&mut self, corrupt: impl FnOnce(&GuestRing, &Memory)) {
        corrupt(&self.outbound, &self.port.memory);
        self.server.signal(0x2001, &mut self.port).unwrap();
    }
}

const IN_BAND: u16 = PacketType::DATA_IN_BAND.0;
const COMPLETION: u16 = PacketType::COMPLETION.0;

fn packet(transaction: u64, payload: &[u8]) -> GuestPacket {
    GuestPacket { kind: IN_BAND, flags: 0, transaction, payload: payload.to_vec() }
}

fn echo() -> Opened {
    Opened::new(Offer::ECHO)
}

/// Returns the ring error that the observer was told of.
fn corrupt(opened: &mut Opened) -> Option<RingError> {
    let error = opened.port.events.get_mut().iter().find_map(|e| match e {
        Event::RingCorrupt { channel: ChannelId(1), error } => Some(*error),
        _ => None,
    });
    opened.port.events.get_mut().clear();
    error
}

#[test]
fn an_in_band_packet_comes_back_with_its_payload_and_transaction() {
    let mut guest = echo();
    assert_eq!(guest.send(&packet(0xfeed, b"ring out")), Some(true));
    assert_eq!(
        *guest.port.interrupts.get_mut(),
        [(1, 2, 1)],
        "VP from the open, SINT 2, flag of the channel"
    );
    assert_eq!(guest.receive(), Some(packet(0xfeed, b"ring out")));
    assert_eq!(guest.receive(), None);
}

#[test]
fn a_packet_that_asks_for_it_is_completed() {
    let mut guest = echo();
    guest.send(&GuestPacket { flags: 1, ..packet(9, &[1; 24]) });
    assert_eq!(guest.receive(), Some(GuestPacket { kind: COMPLETION, ..packet(9, &[1; 24]) }));
}

#[test]
fn payload_is_padded_to_8_bytes_with_zeros() {
    let mut guest = echo();
    guest.send(&packet(1, &[7; 13]));
    let mut expected = vec![7; 13];
    expected.resize(16, 0);
    assert_eq!(guest.receive().unwrap().payload, expected);
}

#[test]
fn packets_of_other_kinds_are_completed_empty_or_dropped() {
    let mut guest = echo();
    guest.send(&GuestPacket { kind: PacketType::DATA_USING_GPA_DIRECT.0, flags: 1, ..packet(5, &[3; 32]) });
    guest.send(&GuestPacket { kind: PacketType::DATA_USING_GPA_DIRECT.0, ..packet(6, &[3; 32]) });
    assert_eq!(guest.receive(), Some(GuestPacket { kind: COMPLETION, ..packet(5, &[]) }));
    assert_eq!(guest.receive(), None);
}

#[test]
fn the_rings_wrap_at_their_end_over_pages_that_are_no_neighbours() {
    let mut guest = echo();
    let mut sent = 0u64;
    // 4 pages of data each way; sizes that are not divisors of a page.
    for round in 0..400u64 {
        let payload: Vec<u8> = (0..(round * 37) % 3000).map(|i| (i * 7 + round) as u8).collect();
        let expected = GuestPacket {
            payload: {
                let mut p = payload.clone();
                p.resize(p.len().next_multiple_of(8), 0);
                p
            },
            ..packet(round, &[])
        };
        guest.send(&packet(round, &payload)).unwrap();
        assert_eq!(guest.receive(), Some(expected));
        sent += payload.len() as u64;
    }
    assert!(sent > 20 * 4 * 4096, "wrapped many times");
}

#[test]
fn the_host_interrupts_only_when_the_ring_was_empty() {
    let mut guest = echo();
    guest.send(&packet(1, &[1; 8]));
    guest.send(&packet(2, &[2; 8]));
    assert_eq!(guest.port.interrupts.get_mut().len(), 1);
    guest.receive();
    guest.receive();
    guest.send(&packet(3, &[3; 8]));
    assert_eq!(guest.port.interrupts.get_mut().len(), 2);
}

#[test]
fn the_host_does_not_interrupt_a_guest_that_masks_or_has_no_target() {
    let mut guest = echo();
    guest.inbound.set_word(&guest.port.memory, At::INTERRUPT_MASK, 1);
    guest.send(&packet(1, &[1; 8]));
    assert_eq!(*guest.port.interrupts.get_mut(), []);
    assert_eq!(guest.receive(), Some(packet(1, &[1; 8])));

    let mut guest = echo();
    send(&mut guest.server, &mut guest.port, &close(1));
    send(&mut guest.server, &mut guest.port, &open(1, 0xe1e10, TARGET_VP_NONE, crate::common::SPLIT));
    guest.send(&packet(1, &[1; 8]));
    assert_eq!(*guest.port.interrupts.get_mut(), []);
    assert_eq!(guest.receive(), Some(packet(1, &[1; 8])));
}

#[test]
fn the_host_says_that_it_uses_pending_send_size_and_wants_interrupts() {
    let guest = echo();
    assert_eq!(guest.inbound.word(&guest.port.memory, At::FEATURES), 1);
    assert_eq!(guest.inbound.word(&guest.port.memory, At::PENDING_SEND_SIZE), 0);
    assert_eq!(guest.outbound.word(&guest.port.memory, At::INTERRUPT_MASK), 0);
}

#[test]
fn a_full_ring_stops_the_host_until_the_guest_makes_room() {
    let mut guest = echo();
    // Each takes 1024 + 24 bytes; 15 of them fill one ring.
    let mut sent = 0u64;
    while guest.send(&packet(sent, &[sent as u8; 1024])).is_some() {
        sent += 1;
        assert!(sent < 100);
    }
    assert_eq!(sent, 30, "15 answered, and 15 that wait");
    assert_eq!(guest.inbound.word(&guest.port.memory, At::PENDING_SEND_SIZE), 1024 + 24);
    for i in 0..sent {
        assert_eq!(guest.receive().map(|p| p.transaction), Some(i));
    }
    assert_eq!(guest.receive(), None);
    assert_eq!(guest.inbound.word(&guest.port.memory, At::PENDING_SEND_SIZE), 0, "the request is withdrawn");
}

#[test]
fn the_host_signals_a_guest_that_waits_for_room() {
    let mut guest = echo();
    // The guest fills the ring behind the host's back, then says how much it waits for.
    let mut count = 0;
    while guest.outbound.send(&guest.port.memory, &packet(count, &[0; 1024])).is_some() {
        count += 1;
    }
    guest.outbound.set_word(&guest.port.memory, At::PENDING_SEND_SIZE, 2048);
    // Answers must not interrupt, so that only the room does.
    guest.inbound.set_word(&guest.port.memory, At::INTERRUPT_MASK, 1);
    guest.server.signal(0x2001, &mut guest.port).unwrap();
    assert_eq!(*guest.port.interrupts.get_mut(), [(1, 2, 1)]);
}

#[test]
fn a_guest_that_waits_for_the_whole_ring_minus_one_byte_is_signalled() {
    let mut guest = echo();
    guest.outbound.send(&guest.port.memory, &packet(1, &[0; 1024])).unwrap();
    guest.outbound.set_word(&guest.port.memory, At::PENDING_SEND_SIZE, guest.outbound.size() - 1);
    guest.inbound.set_word(&guest.port.memory, At::INTERRUPT_MASK, 1);
    guest.server.signal(0x2001, &mut guest.port).unwrap();
    assert_eq!(*guest.port.interrupts.get_mut(), [(1, 2, 1)]);
}

#[test]
fn a_guest_that_sends_without_end_gets_its_turns_with_the_others() {
    let mut guest = echo();
    for i in 0..100 {
        guest.outbound.send(&guest.port.memory, &packet(i, &[])).unwrap();
    }
    guest.server.signal(0x2001, &mut guest.port).unwrap();
    assert_eq!(guest.server.deadline(), Some(0), "there is more to do, soon");
    let mut answered = 0;
    while guest.inbound.receive(&guest.port.memory).is_some() {
        answered += 1;
    }
    assert_eq!(answered, 64);
    guest.server.flush(&mut guest.port);
    assert_eq!(guest.server.deadline(), None);
    while guest.inbound.receive(&guest.port.memory).is_some() {
        answered += 1;
    }
    assert_eq!(answered, 100);
}

#[test]
fn long_packets_count_for_more() {
    let pages: Vec<u64> = (0x40..0x5a).chain([0x88]).chain((0x90..0xa9).rev()).collect();
    let mut guest = Opened::pages(Offer::ECHO, &pages, 26);
    for i in 0..4 {
        guest.outbound.send(&guest.port.memory, &packet(i, &[i as u8; 11 << 10])).unwrap();
    }
    guest.server.signal(0x2001, &mut guest.port).unwrap();
    assert_eq!(guest.server.deadline(), Some(0), "there is more to do, soon");
    for i in 0..3 {
        assert_eq!(guest.receive().map(|packet| packet.transaction), Some(i));
    }
    assert_eq!(guest.inbound.receive(&guest.port.memory), None);
    guest.server.flush(&mut guest.port);
    assert_eq!(guest.receive(), Some(packet(3, &[3; 11 << 10])));
    assert_eq!(guest.server.deadline(), None);
}

#[test]
fn a_device_does_not_run_while_the_guest_is_owed_a_message() {
    let mut guest = echo();
    guest.port.room = 0;
    send(&mut guest.server, &mut guest.port, &teardown(1, 0xbad));
    for i in 0..100 {
        guest.outbound.send(&guest.port.memory, &packet(i, &[])).unwrap();
    }
    guest.server.signal(0x2001, &mut guest.port).unwrap();
    assert_eq!(guest.server.deadline(), None, "a flush would do nothing");
    guest.port.room = usize::MAX;
    guest.server.flush(&mut guest.port);
    assert_eq!(guest.server.deadline(), None, "the rest was done at once");
}

#[test]
fn a_packet_that_the_other_ring_can_never_hold_is_answered_empty() {
    // Rings of 8 pages and of 1 page of data.
    let mut guest = Opened::split(Offer::ECHO, 8);
    guest.send(&packet(4, &[0; 5000])).unwrap();
    assert_eq!(guest.receive(), Some(packet(4, &[])));
}

#[test]
fn an_index_out_of_range_or_unaligned_ends_the_channels_service() {
    for index in [4, 1, 0x4000, 0x4008, u32::MAX, 1 << 31] {
        let mut guest = echo();
        let size = guest.outbound.size();
        guest.corrupt(|ring, memory| ring.set_word(memory, At::WRITE_INDEX, index));
        assert_eq!(corrupt(&mut guest), Some(RingError::Index { index, size }));
        // Once, and for good.
        guest.corrupt(|ring, memory| ring.set_word(memory, At::WRITE_INDEX, 0));
        assert_eq!(corrupt(&mut guest), None);
        guest.send(&packet(1, &[]));
        assert_eq!(guest.receive(), None);
    }
}

#[test]
fn the_hosts_own_indices_are_the_hosts() {
    let mut guest = echo();
    guest.send(&packet(1, &[1; 64]));
    guest.outbound.set_word(&guest.port.memory, At::READ_INDEX, 0x123);
    guest.inbound.set_word(&guest.port.memory, At::WRITE_INDEX, 0x456);
    guest.outbound.set_word(&guest.port.memory, At::READ_INDEX, 88);
    guest.inbound.set_word(&guest.port.memory, At::WRITE_INDEX, 88);
    guest.receive();
    guest.outbound.set_word(&guest.port.memory, At::READ_INDEX, 0);
    guest.inbound.set_word(&guest.port.memory, At::WRITE_INDEX, 0);
    guest.outbound.set_word(&guest.port.memory, At::READ_INDEX, 88);
    guest.send(&packet(2, &[2; 8]));
    assert_eq!(guest.receive(), Some(packet(2, &[2; 8])));
    assert_eq!(corrupt(&mut guest), None);
}

#[test]
fn a_read_index_that_makes_no_sense_ends_the_service() {
    let mut guest = echo();
    guest.inbound.set_word(&guest.port.memory, At::READ_INDEX, 0x4000);
    guest.send(&packet(1, &[]));
    assert_eq!(corrupt(&mut guest), Some(RingError::Index { index: 0x4000, size: 0x4000 }));
}

#[test]
fn less_than_a_descriptor_and_a_trailer_is_no_packet() {
    for written in [8, 16] {
        let mut guest = echo();
        guest.corrupt(|ring, memory| ring.set_word(memory, At::WRITE_INDEX, written));
        assert_eq!(corrupt(&mut guest), Some(RingError::Length { len: 0, available: written }));
    }
}

#[test]
fn a_packets_lengths_must_lie_within_what_was_written() {
    // (offset of the payload, length) in 8 bytes; 48 bytes were written.
    for (offset8, length8, error) in [
        (2, 0, RingError::Length { len: 0, available: 48 }),
        (2, 1, RingError::Length { len: 8, available: 48 }),
        (2, 6, RingError::Length { len: 48, available: 48 }),
        (2, u16::MAX, RingError::Length { len: 0x7fff8, available: 48 }),
        (1, 5, RingError::DataOffset { offset: 8, len: 40 }),
        (0, 5, RingError::DataOffset { offset: 0, len: 40 }),
        (6, 5, RingError::DataOffset { offset: 48, len: 40 }),
        (u16::MAX, 5, RingError::DataOffset { offset: 0x7fff8, len: 40 }),
    ] {
        let mut guest = echo();
        guest.corrupt(|ring, memory| {
            ring.send(memory, &packet(1, &[0; 24]));
            ring.poke(memory, 2, &u16::to_le_bytes(offset8));
            ring.poke(memory, 4, &u16::to_le_bytes(length8));
        });
        assert_eq!(corrupt(&mut guest), Some(error));
    }
}

#[test]
fn a_payload_may_begin_anywhere_behind_the_descriptor() {
    for offset8 in [2u16, 3, 5] {
        let mut guest = echo();
        guest.corrupt(|ring, memory| {
            ring.send(memory, &packet(1, &[9; 24]));
            ring.poke(memory, 2, &offset8.to_le_bytes());
        });
        assert_eq!(corrupt(&mut guest), None);
        assert_eq!(guest.receive().unwrap().payload.len(), 40 - 8 * usize::from(offset8));
    }
}

#[test]
fn a_spoilt_channel_serves_again_when_it_is_opened_anew() {
    let mut guest = echo();
    guest.corrupt(|ring, memory| ring.set_word(memory, At::WRITE_INDEX, 4));
    assert!(corrupt(&mut guest).is_some());
    send(&mut guest.server, &mut guest.port, &close(1));
    guest.outbound.set_word(&guest.port.memory, At::WRITE_INDEX, 0);
    send(&mut guest.server, &mut guest.port, &open(1, 0xe1e10, 1, crate::common::SPLIT));
    assert_eq!(guest.port.one().message::<OpenResult>().status, NtStatus::SUCCESS);
    guest.send(&packet(8, &[8; 8]));
    assert_eq!(guest.receive(), Some(packet(8, &[8; 8])));
}

#[test]
fn a_channel_that_has_not_heard_of_its_opening_is_not_served() {
    let mut guest = Opened::new(Offer::HEARTBEAT);
    send(&mut guest.server, &mut guest.port, &close(1));
    guest.receive();
    guest.port.interrupts.get_mut().clear();
    guest.port.room = 0;
    send(&mut guest.server, &mut guest.port, &open(1, 0xe1e10, 1, crate::common::SPLIT));
    assert_eq!(*guest.port.interrupts.get_mut(), []);
    guest.port.room = 1;
    guest.server.flush(&mut guest.port);
    assert_eq!(guest.port.one().kind(), MessageType::OPEN_RESULT);
    assert_eq!(*guest.port.interrupts.get_mut(), [(1, 2, 1)]);
}
