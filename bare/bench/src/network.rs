//! A frame to the network: from the signal to the completion.
//!
//! QEMU takes the frame out of the hypervisor's queue later, and the user network ignores it.

use hv_guest::page::Page;
use hv_tlfs::vmbus::nvsp::{
    CONTROL_CHANNEL, DATA_CHANNEL, INVALID_INDEX, Init, MessageHeader, MessageType, PACKET_SIZE_6_1,
    SendReceiveBuffer, SendRndisPacket, Version,
};
use hv_tlfs::vmbus::rndis::{self, InitializeRequest, MAJOR_VERSION, PacketMessage};
use hv_tlfs::vmbus::{GpadlId, guid};
use zerocopy::{FromZeros, IntoBytes};

use crate::measure::{Bench, counter};
use crate::vmbus::{Bus, Rings, packet, rings};

/// Bytes of a packet in the ring.
const PACKET: usize = 48 + PACKET_SIZE_6_1;
/// Bytes before a frame.
const HEADERS: usize = size_of::<rndis::MessageHeader>() + size_of::<PacketMessage>();
/// The shortest frame and the longest.
const FRAMES: [(&str, usize); 2] = [("net-frame", 60), ("net-frame-1514", 1514)];
/// Ticks between two frames: QEMU takes them by the host's clock, and has room for a few.
const PAUSE: u64 = 20_000;

static RINGS: Rings = rings();
/// The receive buffer, of which the answer to the initialization takes a section.
static RECEIVE: [Page; 8] = [const { Page::new() }; 8];
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
    for (name, frame) in FRAMES {
        let packet = rndis_packet(DATA_CHANNEL, frame_of(frame));
        bench.latency(name, 40, || {
            let ticks = card.execute(&packet, bench.delay());
            let start = counter();
            while counter() - start < PAUSE {}
            ticks
        });
    }
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
