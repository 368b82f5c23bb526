//! What a network card's driver must not say: messages of NVSP, and of RNDIS with frames in a section of the send
//! buffer or in listed pages.
//!
//! What a frame says reaches QEMU's user network. So that it leads nowhere, frames of IP go to 240.0.0.1, which is no
//! host's address (RFC 1112, section 4, "class E"); and no other VP writes to them.

use hv_tlfs::vmbus::nvsp::{self, CONTROL_CHANNEL, DATA_CHANNEL, INVALID_INDEX, MessageType};
use hv_tlfs::vmbus::{PacketType, rndis};

use super::class::ranges;
use super::memory::{DATA, Memory, PAGE, SEND};
use super::packet::{Packet, bytes, halves};
use super::{RECEIVE_LIST, SEND_LIST, bus};
use crate::rng::Rng;

/// Where the frame is, from the beginning of its message: behind all that other VPs write to.
const FRAME: usize = 128;
/// Sections of the send buffer that begin with a page, and where they do.
const SECTIONS: [(u32, usize); 2] = [(0, SEND.start * PAGE), (2, SEND.start * PAGE + 2 * 6144)];
/// The object of the packet filter.
const FILTER: u32 = 0x0001_010e;
/// Objects that are asked for: statistics, addresses, offloads, RSS, and none.
const OBJECTS: [u32; 12] = [
    0x0001_0106,
    0x0101_0101,
    0x0101_0102,
    0xfc01_020d,
    0xfc01_020c,
    0x0001_0114,
    0x0001_0107,
    0x0001_0203,
    0x0001_0204,
    0x0001_010d,
    FILTER,
    0x0101_0103,
];

/// Sends the beginning of a driver's protocol: version, buffers, RNDIS, filter.
pub(super) fn greet(vp: usize, memory: Memory, send: &mut dyn FnMut(Packet)) {
    let version = nvsp::Version::V61.0;
    send(Packet::in_band(1, &[MessageType::INIT.0, version, version, 0, 0, 0, 0, 0, 0, 0]));
    send(Packet::in_band(2, &[MessageType::SEND_NDIS_CONFIG.0, 9014, 0, 8, 0, 0, 0, 0, 0, 0]));
    for (kind, list, id) in [
        (MessageType::SEND_RECEIVE_BUFFER, RECEIVE_LIST, 0xcafe),
        (MessageType::SEND_SEND_BUFFER, SEND_LIST, 0),
    ] {
        send(Packet::in_band(3, &[kind.0, bus::list_id(vp, list).0, id, 0, 0, 0, 0, 0, 0, 0]));
    }
    control(memory, &[rndis::MessageType::INITIALIZE.0, 24, 1, 1, 0, 0x4000], send);
    // SET: id, object, length of the value, its offset from the id, handle, value.
    control(memory, &[rndis::MessageType::SET.0, 32, 2, FILTER, 4, 20, 0, 0xf], send);
}

/// Sends a control message in a page, which the driver reuses at once: the host may find the next one in it.
fn control(memory: Memory, words: &[u32], send: &mut dyn FnMut(Packet)) {
    let place = DATA.start * PAGE;
    for (at, word) in words.iter().enumerate() {
        memory.store(place + at * 4, *word);
    }
    let mut packet = Packet::direct(4, words.len() as u32 * 4, core::iter::once(memory.number(DATA.start)));
    packet.words(&[MessageType::SEND_RNDIS_PACKET.0, CONTROL_CHANNEL, INVALID_INDEX, 0, 0, 0, 0, 0, 0, 0]);
    send(packet);
}

/// Makes a packet.
pub(super) fn packet(rng: &mut Rng, vp: usize, memory: Memory) -> Packet {
    match rng.below(8) {
        0 | 1 => message(rng, vp),
        2 => {
            // The end of a receive buffer's section that the guest may not have.
            let mut packet = Packet::in_band(rng.number(), &[MessageType::SEND_RNDIS_PACKET_COMPLETE.0, 1]);
            (packet.kind, packet.flags) = (PacketType::COMPLETION.0, 0);
            packet
        }
        _ => rndis(rng, memory),
    }
}

/// Generates an NVSP message with random contents.
fn message(rng: &mut Rng, vp: usize) -> Packet {
    let any = rng.number() as u32;
    let kind = rng.pick(&[1, 2, 100, 101, 103, 104, 106, 107, 108, 125, 128, 129, 133, 134, any]);
    let mut packet = Packet::in_band(rng.next(), &[kind]);
    for _ in 0..rng.below(12) {
        let list = bus::list_id(vp, rng.below(4) as usize).0;
        let any = rng.number() as u32;
        packet.word(rng.pick(&[1, 2, list, 0x6_0001, 0x5_0000, 0xcafe, 9014, 1514, any]));
    }
    packet
}

/// Generates an RNDIS message, in a section, in listed pages, or in both.
fn rndis(rng: &mut Rng, memory: Memory) -> Packet {
    let mut packet = Packet::in_band(rng.next(), &[]);
    let in_section = rng.chance(1, 2);
    let (section, place) = if in_section { rng.pick(&SECTIONS) } else { (INVALID_INDEX, DATA.start * PAGE) };
    let control = rng.chance(1, 3);
    let len = if control { object(rng, memory, place) } else { frame(rng, memory, place) };
    if !in_section && rng.chance(3, 4) {
        let pages = DATA.start..DATA.start + (len as usize).div_ceil(PAGE);
        packet = Packet::direct(rng.next(), len, pages.map(|page| memory.number(page)));
    } else if !in_section || rng.chance(1, 8) {
        ranges(rng, memory, &mut packet);
    }
    let channel = if control { CONTROL_CHANNEL } else { DATA_CHANNEL };
    let size = if section == INVALID_INDEX { 0 } else { len };
    let mut words = [MessageType::SEND_RNDIS_PACKET.0, channel, section, size, 0, 0, 0, 0, 0, 0];
    if rng.chance(1, 8) {
        words[1 + rng.below(3) as usize] = rng.number() as u32;
    }
    packet.words(&words);
    packet
}

/// Writes a control message at a place, and returns its length.
fn object(rng: &mut Rng, memory: Memory, place: usize) -> u32 {
    let any = rng.number() as u32;
    let kind = rng.pick(&[2, 3, 4, 4, 4, 5, 5, 5, 6, 8, any]);
    let object = if rng.chance(1, 8) { any } else { rng.pick(&OBJECTS) };
    let value = 4 + rng.below(40) as u32 * 4;
    let mut words = [0; 60];
    words[..7].copy_from_slice(&[kind, 28 + value, rng.next() as u32, object, value, 20, 0]);
    words[7..].iter_mut().for_each(|word| *word = rng.number() as u32);
    if rng.chance(1, 4) {
        words[1 + rng.below(6) as usize] = rng.number() as u32;
    }
    for (at, word) in words.iter().enumerate() {
        memory.store(place + at * 4, *word);
    }
    28 + value
}

/// Writes a message with a frame at a place, and returns its length.
fn frame(rng: &mut Rng, memory: Memory, place: usize) -> u32 {
    let len = 60 + rng.below(3400) as u32;
    let information = rng.below(4) as u32;
    // Type and length, then offset and length of the data, of data out of band, and of the information.
    let mut words = [0; 26];
    words[..11].copy_from_slice(&[
        1,
        FRAME as u32 + len,
        FRAME as u32 - 8,
        len,
        0,
        0,
        0,
        36,
        16 * information,
        0,
        0,
    ]);
    for information in words[11..].chunks_exact_mut(4).take(information as usize) {
        let any = rng.number() as u32;
        let kind = rng.pick(&[0, 2, 6, 8, any]);
        let value = if rng.chance(1, 2) { rng.number() as u32 } else { 1 << rng.below(32) | 1460 };
        information.copy_from_slice(&[16, kind, 12, value]);
    }
    if rng.chance(1, 4) {
        words[1 + rng.below(22) as usize] = rng.number() as u32;
    }
    for (at, word) in words.iter().enumerate() {
        memory.store(place + at * 4, *word);
    }
    let kind = rng.pick(&[[8, 0], [8, 0], [8, 6], [0x88, 0xb5], [0x81, 0]]);
    let ports = rng.next() as u32;
    let mut headers = [0; 56];
    // QEMU's router, and any sender.
    headers[..6].copy_from_slice(&[0x52, 0x55, 0x0a, 0, 2, 2]);
    headers[6..12].copy_from_slice(&[0, 0x15, 0x5d, 0x48, 0x56, 1]);
    headers[12..14].copy_from_slice(&kind);
    let [high, low] = ((len - 14) as u16).to_be_bytes();
    let [a, b, c, d] = ports.to_be_bytes();
    let protocol = rng.pick(&[6, 6, 17, 1]);
    headers[14..26].copy_from_slice(&[0x45, 0, high, low, 0, 1, 0, 0, 64, protocol, 0, 0]);
    headers[26..34].copy_from_slice(&[10, 0, 2, 15, 240, 0, 0, 1]);
    headers[34..38].copy_from_slice(&[a, b, c, d]);
    // A TCP header without options.
    headers[46] = 0x50;
    for (at, part) in headers.chunks_exact(4).enumerate() {
        memory.store(place + FRAME + at * 4, bytes([part[0], part[1], part[2], part[3]]));
    }
    // The last word tells one from the next.
    memory.store(place + FRAME + (len as usize & !3), halves(len as u16, ports as u16));
    FRAME as u32 + len
}
