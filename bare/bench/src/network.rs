//! A frame to the network: from the signal to the completion. And one from it.
//!
//! QEMU takes the frame out of the hypervisor's queue later, and the user network ignores it, or answers.

use hv_guest::page::Page;
use hv_tlfs::vmbus::ndis::{FILTER_PROMISCUOUS, Oid};
use hv_tlfs::vmbus::nvsp::{
    CONTROL_CHANNEL, DATA_CHANNEL, INVALID_INDEX, Init, MessageHeader, MessageType, PACKET_SIZE_6_1,
    SendReceiveBuffer, SendRndisPacket, SendRndisPacketComplete, Status, Version,
};
use hv_tlfs::vmbus::rndis::{self, InitializeRequest, MAJOR_VERSION, PacketMessage, SetRequest};
use hv_tlfs::vmbus::{GpadlId, PacketDescriptor, PacketType, guid};
use zerocopy::{FromZeros, IntoBytes};

use crate::measure::{Bench, counter};
use crate::vmbus::{Bus, Channel, Rings, packet, rings};

/// Bytes of a packet in the ring.
const PACKET: usize = 48 + PACKET_SIZE_6_1;
/// Bytes before a frame.
const HEADERS: usize = size_of::<rndis::MessageHeader>() + size_of::<PacketMessage>();
/// The shortest frame and the longest.
const FRAMES: [(&str, usize); 2] = [("net-frame", 60), ("net-frame-1514", 1514)];
/// Ticks between two frames: QEMU takes them by the host's clock, and has room for a few.
const PAUSE: u64 = 20_000;

/// What the user network answers (RFC 826): its own address, and the guest's.
const GATEWAY: [u8; 4] = [10, 0, 2, 2];
const GUEST: [u8; 4] = [10, 0, 2, 15];
/// An ARP request, from and to these.
const ARP: [u8; 42] = {
    let mut frame =
        *b"\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x01\x08\x06\0\x01\x08\0\x06\x04\0\x01\x02\0\0\0\0\x01\
        \0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let mut at = 0;
    while at < 4 {
        frame[28 + at] = GUEST[at];
        frame[38 + at] = GATEWAY[at];
        at += 1;
    }
    frame
};
/// Ticks in which an answer comes: if not, they are not counted.
const WINDOW: u64 = 40_000;

static RINGS: Rings = rings();
/// The receive buffer: the card keeps 16 sections of it for answers, and two of those are used.
static RECEIVE: [Page; 14] = [const { Page::new() }; 14];
/// Sections of it at most: each has room for a frame of the usual length.
const SECTIONS: usize = size_of::<[Page; 14]>() / 1514;
static BUFFER: Page = Page::new();

pub(crate) fn run(bench: &Bench, bus: &Bus<'_>) {
    let buffer = GpadlId(3);
    let Some(mut card) = bus.open(guid::NETWORK, GpadlId(2), &RINGS) else {
        rt::println!("there is no network card");
        return;
    };
    bus.share(card.id, buffer, &RECEIVE);
    let mut receive = SendReceiveBuffer::new_zeroed();
    (receive.gpadl, receive.id) = (buffer, 0xcafe);
    let init = Init { version: Version::V61, ..Init::new_zeroed() };
    card.execute(&message(MessageType::INIT, init.as_bytes(), 8), 0);
    card.execute(&message(MessageType::SEND_RECEIVE_BUFFER, receive.as_bytes(), 8), 0);
    let mut initialize = InitializeRequest::new_zeroed();
    (initialize.request_id, initialize.major_version, initialize.max_transfer_size) =
        (1, MAJOR_VERSION, 0x4000);
    let len = put(rndis::MessageType::INITIALIZE, initialize.as_bytes(), 0);
    card.execute(&rndis_packet(CONTROL_CHANNEL, len), 0);
    received(bench, &mut card);
    let pause = bench.pause(PAUSE);
    for (name, frame) in FRAMES {
        let packet = rndis_packet(DATA_CHANNEL, frame_of(frame));
        bench.latency(name, 40, || {
            let ticks = card.execute(&packet, bench.delay());
            let start = counter();
            while counter() - start < pause {}
            ticks
        });
    }
}

/// Measures what a frame from the network costs: while the guest does nothing but count, it counts less.
///
/// The time until QEMU has the answer is the host's. So a request is compared with one that has no answer.
fn received(bench: &Bench, card: &mut Channel<'_>) {
    const NAME: &str = "net-frame-received";
    if !bench.wants(NAME) {
        return;
    }
    let filter = FILTER_PROMISCUOUS.to_le_bytes();
    let mut set = SetRequest::new_zeroed();
    (set.request_id, set.oid) = (2, Oid::GEN_CURRENT_PACKET_FILTER);
    (set.information_length, set.information_offset) = (filter.len() as u32, size_of::<SetRequest>() as u32);
    let mut body = [0; size_of::<SetRequest>() + 4];
    body[..size_of::<SetRequest>()].copy_from_slice(set.as_bytes());
    body[size_of::<SetRequest>()..].copy_from_slice(&filter);
    let len = put(rndis::MessageType::SET, &body, 0);
    card.execute(&rndis_packet(CONTROL_CHANNEL, len), 0);
    let (repetitions, ticks) = (bench.repetitions(64), bench.pause(WINDOW));
    // The same length, and nothing answers.
    let unanswered = rndis_packet(DATA_CHANNEL, frame_of(ARP.len()));
    let without = (0..repetitions).map(|_| window(card, &unanswered, ticks).0).sum::<u64>();
    BUFFER.write(HEADERS, &ARP);
    let (mut with, mut answered) = (0, 0);
    while answered < repetitions {
        let (count, has_answer) = window(card, &unanswered, ticks);
        if has_answer {
            with += count;
            answered += 1;
        }
    }
    let idle = counted(ticks, counter());
    bench.print(NAME, without.saturating_sub(with) * ticks / idle, repetitions);
}

/// Sends a frame and counts until `ticks` later. Returns the count, and whether there was one answer. Completes all
/// answers: a section of the receive buffer is the card's again only then.
fn window(card: &mut Channel<'_>, packet: &[u8], ticks: u64) -> (u64, bool) {
    let start = counter();
    card.send(packet);
    let count = counted(ticks, start);
    let (mut ids, mut answers) = ([0; SECTIONS], 0);
    card.drain(|kind, id| {
        if kind == PacketType::DATA_USING_TRANSFER_PAGES {
            ids[answers] = id;
            answers += 1;
        }
    });
    for id in &ids[..answers] {
        card.send(&completion(*id));
    }
    (count, answers == 1)
}

/// Counts until `ticks` after `start`.
fn counted(ticks: u64, start: u64) -> u64 {
    let mut count = 0;
    while counter() - start < ticks {
        count += 1;
    }
    count
}

/// Builds the completion of a packet with a frame.
fn completion(id: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    let descriptor = PacketDescriptor {
        packet_type: PacketType::COMPLETION,
        data_offset8: 2,
        length8: 3,
        flags: 0,
        transaction_id: id,
    };
    bytes[..16].copy_from_slice(descriptor.as_bytes());
    bytes[16..20]
        .copy_from_slice(MessageHeader { message_type: MessageType::SEND_RNDIS_PACKET_COMPLETE }.as_bytes());
    bytes[20..24].copy_from_slice(SendRndisPacketComplete { status: Status::SUCCESS }.as_bytes());
    bytes
}

/// Builds an NVSP message, with `len` bytes of the buffer.
fn message(message_type: MessageType, body: &[u8], len: u32) -> [u8; PACKET] {
    let mut payload = [0; PACKET_SIZE_6_1];
    payload[..4].copy_from_slice(MessageHeader { message_type }.as_bytes());
    payload[4..4 + body.len()].copy_from_slice(body);
    packet(&payload, &BUFFER, len)
}

/// Builds the packet of the RNDIS message in the buffer.
fn rndis_packet(channel_type: u32, len: u32) -> [u8; PACKET] {
    let body = SendRndisPacket { channel_type, section_index: INVALID_INDEX, section_size: 0 };
    message(MessageType::SEND_RNDIS_PACKET, body.as_bytes(), len)
}

/// Puts an RNDIS message into the buffer, with as many zeros after it. Returns its length.
fn put(message_type: rndis::MessageType, body: &[u8], zeros: usize) -> u32 {
    let length = (size_of::<rndis::MessageHeader>() + body.len() + zeros) as u32;
    BUFFER.write(0, rndis::MessageHeader { message_type, length }.as_bytes());
    BUFFER.write(size_of::<rndis::MessageHeader>(), body);
    length
}

/// Puts a frame of `len` bytes into the buffer, with a type that nothing takes. Returns the length of its message.
fn frame_of(len: usize) -> u32 {
    let mut message = PacketMessage::new_zeroed();
    (message.data_offset, message.data_length) = (size_of::<PacketMessage>() as u32, len as u32);
    let length = put(rndis::MessageType::PACKET, message.as_bytes(), len);
    // To everyone, from a local address; for experiments (IEEE 802, "Local experimental Ethertypes").
    BUFFER.write(HEADERS, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    length
}
