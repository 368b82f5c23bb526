//! Packets of the devices' drivers, right and wrong.

use hv_vmbus::protocol::PacketType;
use hv_vmbus::protocol::ic::{Header, MessageType, PipeHeader};
use hv_vmbus::protocol::storage::{Operation, Packet, ScsiRequest};
use zerocopy::{FromZeros, IntoBytes};

use super::{DevicePort, FIRST, PAGES, WINDOW, put};
use crate::input::Input;
use crate::memory::RAM;

/// Sends a packet of a storage driver.
pub(super) fn srb(port: &DevicePort, input: &mut Input<'_>) {
    let mut packet = Packet::new_zeroed();
    let any = input.byte().into();
    packet.header.operation = Operation(input.of(&[3, 3, 3, 3, 3, 3, 4, 5, 6, 7, 8, 9, 10, 13, 12, any]));
    let mut request = ScsiRequest::new_zeroed();
    let cdb = input.bytes(16);
    request.cdb_or_sense[..cdb.len()].copy_from_slice(cdb);
    request.cdb_or_sense[0] = input.of(&[0, 3, 0x12, 0x28, 0x2a, 0x35, 0x42, 0x88, 0x8a, 0x93, 0x9e, 0xa0]);
    if input.below(4) > 0 {
        // A few blocks near the beginning, in each form of command.
        let (first, count) = (input.byte(), input.byte() % 40);
        request.cdb_or_sense[1..16].fill(0);
        let [lba, blocks] = if request.cdb_or_sense[0] < 0x80 { [5, 8] } else { [9, 13] };
        (request.cdb_or_sense[lba], request.cdb_or_sense[blocks]) = (first, count);
    }
    (request.length, request.cdb_length, request.sense_length) = (52, 10, 20);
    (request.lun, request.direction) = (input.of(&[0, 0, 3, 1]), input.byte() % 3);
    let (ranges, bytes) = ranges(input);
    request.transfer_length = if input.below(8) == 0 { input.word() } else { bytes };
    packet.body.copy_from_slice(request.as_bytes());
    let kind = if ranges.is_empty() { PacketType::DATA_IN_BAND } else { PacketType::DATA_USING_GPA_DIRECT };
    let len = input.of(&[64, 64, 64, 64, 48, 8, 16, 60]);
    let flags = input.of(&[1, 1, 1, 0, 3]);
    put(&port.memory, kind, flags, input.byte().into(), &ranges, &packet.as_bytes()[..len]);
}

/// Generates ranges of a packet, and the bytes that they should have.
fn ranges(input: &mut Input<'_>) -> (Vec<u8>, u32) {
    let count = input.of(&[0_u32, 1, 1, 1, 2, 0xffff]);
    if count == 0 {
        return (Vec::new(), 0);
    }
    let (mut bytes, mut words) = (0_u32, Vec::new());
    words.extend([0_u32, count].iter().flat_map(|word| word.to_le_bytes()));
    for _ in 0..count.min(2) {
        let pages = input.below(9) as u32 + 1;
        let offset = input.of(&[0, 0, 512, 4095, 4096]);
        let len = if input.below(8) == 0 { input.word() } else { pages * 4096 - offset.min(4095) };
        words.extend([len, offset].iter().flat_map(|word| word.to_le_bytes()));
        for _ in 0..pages {
            let page = RAM / 4096 + input.below(34) as u64;
            words.extend(if input.below(32) == 0 { input.long() } else { page }.to_le_bytes());
        }
        bytes = bytes.wrapping_add(len);
    }
    (words, bytes)
}

/// Sends a message of a service's driver.
pub(super) fn message(port: &DevicePort, input: &mut Input<'_>) {
    let body = input.bytes(48);
    let mut header = Header::new_zeroed();
    header.message_type = MessageType(input.of(&[0, 0, 1, 2, 3, 4, 5, 7]));
    (header.flags, header.transaction_id) = (input.of(&[5, 5, 5, 1, 3]), input.byte() & 1);
    header.message_size = if input.below(8) == 0 { input.half() } else { body.len() as u16 };
    header.status.0 = input.of(&[0, 0, 0x8000_4005, 0x8007_0103]);
    (header.framework_version.major, header.message_version.major) = (3, input.of(&[3, 4, 5]));
    let long = input.of(&[0, 0, 0, 2600, 7500]);
    let mut rest = body.to_vec();
    if header.message_type == MessageType::NEGOTIATE && input.flag() {
        // One version of each, of those that are offered somewhere.
        let version = input.of(&[[3_u16, 0], [4, 0], [5, 0], [3, 2], [1, 1], [9, 9]]);
        rest = [1, 1, 0, 0, 3, 0, version[0], version[1]].map(u16::to_le_bytes).concat();
    }
    rest.resize(rest.len().max(long), 0);
    let size = if input.below(8) == 0 { input.word() } else { (size_of::<Header>() + rest.len()) as u32 };
    let pipe = PipeHeader { packet_type: input.of(&[1, 1, 1, 1, 0]), message_size: size };
    let all = [pipe.as_bytes(), header.as_bytes(), &rest].concat();
    put(&port.memory, PacketType::DATA_IN_BAND, 0, 0, &[], &all);
}

/// Sends a message of an input device's driver.
pub(super) fn say(port: &DevicePort, pipe: bool, input: &mut Input<'_>) {
    let kind = if pipe { input.of(&[0_u32, 0, 3, 3, 1, 4]) } else { input.of(&[1_u32, 1, 1, 4, 0, 2, 3, 9]) };
    let version = input.of(&[0x1_0000_u32, 0x1_0000, 0x2_0000, 0x2_0000, 0]);
    let words =
        if pipe { [1, input.of(&[12, 12, 9, 0]), kind, 4, version] } else { [kind, version, 0, 0, 0] };
    let message = words.map(u32::to_le_bytes).concat();
    let len = input.of(&[20, 20, 8, 8, 4, 0, 16]);
    put(&port.memory, PacketType::DATA_IN_BAND, input.of(&[1, 1, 0]), input.long(), &[], &message[..len]);
}

/// Sends a message of the driver of dynamic memory.
pub(super) fn give_up(port: &DevicePort, input: &mut Input<'_>) {
    let kind = input.of(&[1_u16, 3, 5, 7, 7, 7, 9, 9, 11, 0, 6]);
    let count = input.below(6);
    let head = match kind {
        1 => u64::from(input.of(&[0x2_0000_u32, 0x1_0000, 3, 9])),
        7 => (count as u64) << 33 | u64::from(input.flag()) << 32,
        _ => input.of(&[1, 1, 0, 3]),
    };
    let mut message = vec![0; 8];
    message.extend(head.to_le_bytes());
    for _ in 0..count {
        let page = FIRST + input.below(PAGES as usize + 2) as u64;
        let range = u64::from(input.byte()) << 40 | page;
        message.extend(if input.below(16) == 0 { input.long() } else { range }.to_le_bytes());
    }
    message.resize(
        match kind {
            1 => 16,
            3 => 32,
            5 => 48,
            9 => 8,
            _ => message.len(),
        },
        0,
    );
    let size = if input.below(12) == 0 { input.half() } else { message.len() as u16 };
    message[..2].copy_from_slice(&kind.to_le_bytes());
    message[2..4].copy_from_slice(&size.to_le_bytes());
    put(&port.memory, PacketType::DATA_IN_BAND, input.of(&[0, 0, 0, 1]), 0, &[], &message);
}

/// Sends a message of a video driver.
pub(super) fn draw(port: &DevicePort, input: &mut Input<'_>) {
    let kind = input.of(&[1_u32, 1, 3, 3, 5, 5, 5, 10, 10, 10, 7, 8, 11, 13, 15, 9, 0]);
    let number = |input: &mut Input<'_>| match input.below(8) {
        0 => input.value() as u32,
        1 => u32::MAX,
        _ => input.half().into(),
    };
    let mut body = Vec::new();
    match kind {
        1 => body.extend(input.of(&[0x5_0003_u32, 0x5_0003, 0x2_0003, 3, 0x6_0003]).to_le_bytes()),
        3 => {
            let address = match input.below(4) {
                0 => input.long(),
                _ => WINDOW.0 + u64::from(input.half() & 0xfff) * 4096,
            };
            body.extend(input.long().to_le_bytes());
            body.push(input.of(&[1, 1, 1, 0]));
            body.extend(address.to_le_bytes());
        }
        5 => {
            body.extend([[0; 8], [1; 8]][input.below(2)]);
            body.extend([1, input.of(&[1, 1, 1, 0])]);
            body.extend(number(input).to_le_bytes());
            body.push(input.of(&[32, 32, 16, 24, 0]));
            let (width, height) = (number(input), number(input));
            let pitch = if input.flag() { width.saturating_mul(4) } else { number(input) };
            body.extend([width, height, pitch].map(u32::to_le_bytes).concat());
        }
        10 => {
            let count = input.below(5);
            body.extend([0, if input.below(8) == 0 { input.byte() } else { count as u8 }]);
            for _ in 0..count * 4 {
                body.extend(number(input).to_le_bytes());
            }
        }
        _ => body.resize(input.below(24), input.byte()),
    }
    if input.below(8) == 0 {
        body.truncate(input.below(body.len() + 1));
    }
    let size = 8 + body.len() as u32;
    let head = [input.of(&[1, 1, 1, 0]), size, kind, size].map(u32::to_le_bytes).concat();
    let message = [&head[..], &body].concat();
    put(&port.memory, PacketType::DATA_IN_BAND, input.of(&[0, 0, 0, 1]), input.long(), &[], &message);
}
