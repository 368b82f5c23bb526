//! Rules on the packets of a SCSI controller's driver.

use crate::guests::*;
use bus::storage::{Operation, Packet, PacketHeader, Properties, ScsiRequest};

pub(crate) const CASES: &[Case] = &[
    (
        &rules::STORAGE_SIZE,
        |m| {
            controller(m);
            show(m, &in_band(&[7, 0, 0, 0, 1, 0, 0, 0]).with_flags(1));
        },
        initialized,
    ),
    (
        &rules::STORAGE_OPERATION,
        |m| {
            initialized(m);
            ask(m, 1, Operation::FCHBA_DATA, 0);
        },
        |m| {
            initialized(m);
            ask(m, 1, Operation::RESET_BUS, 0);
        },
    ),
    (
        &rules::STORAGE_COMPLETION,
        |m| {
            controller(m);
            show(m, &in_band(packet(Operation::BEGIN_INITIALIZATION, 0).as_bytes()));
        },
        initialized,
    ),
    (
        &rules::STORAGE_RESERVED,
        |m| {
            controller(m);
            let mut packet = packet(Operation::BEGIN_INITIALIZATION, 0);
            packet.header.status.0 = 5;
            show(m, &in_band(packet.as_bytes()).with_flags(1));
        },
        initialized,
    ),
    (
        &rules::STORAGE_ORDER,
        |m| {
            initialized(m);
            ask(m, 1, Operation::BEGIN_INITIALIZATION, 0);
        },
        |m| {
            controller(m);
            ask(m, 1, Operation::BEGIN_INITIALIZATION, 0);
            // A version that the host refuses, and then one that it takes.
            let query = packet(Operation::QUERY_PROTOCOL_VERSION, 0x0900);
            show(m, &in_band(query.as_bytes()).with_flags(1));
            let mut refused = packet(Operation::COMPLETE_IO, 0);
            refused.header.status = bus::NtStatus::REVISION_MISMATCH;
            answer(m, 1, &refused);
            ask(m, 1, Operation::QUERY_PROTOCOL_VERSION, 0x0602);
            ask(m, 1, Operation::QUERY_PROPERTIES, 0);
            // As Windows does.
            ask(m, 1, Operation::CREATE_SUB_CHANNELS, 1);
            ask(m, 1, Operation::END_INITIALIZATION, 0);
        },
    ),
    (
        &rules::STORAGE_EARLY,
        |m| {
            controller(m);
            ask(m, 1, Operation::BEGIN_INITIALIZATION, 0);
            command(m, 1, |_, _| {});
        },
        |m| {
            initialized(m);
            command(m, 1, |_, _| {});
            ask(m, 1, Operation::RESET_LUN, 0);
        },
    ),
    (
        &rules::STORAGE_PRIMARY,
        |m| {
            initialized(m);
            device(m, 2, bus::guid::SCSI, 1);
            ask(m, 2, Operation::RESET_BUS, 0);
        },
        |m| {
            initialized(m);
            device(m, 2, bus::guid::SCSI, 1);
            command(m, 2, |_, _| {});
        },
    ),
    (
        &rules::STORAGE_CHANNELS,
        |m| {
            initialized(m);
            ask(m, 1, Operation::CREATE_SUB_CHANNELS, 4);
        },
        |m| {
            initialized(m);
            ask(m, 1, Operation::CREATE_SUB_CHANNELS, 3);
        },
    ),
    (&rules::STORAGE_LENGTH, |m| wrong(m, |srb, _| srb.length = 36), right),
    (&rules::STORAGE_CDB, |m| wrong(m, |srb, _| srb.cdb_length = 16), right),
    (&rules::STORAGE_SENSE, |m| wrong(m, |srb, _| srb.sense_length = 21), right),
    (&rules::STORAGE_DIRECTION, |m| wrong(m, |srb, _| srb.direction = 0), right),
    (&rules::STORAGE_TRANSFER, |m| wrong(m, |_, listed| listed.bytes = 4096), right),
    (&rules::STORAGE_RANGE, |m| wrong(m, |_, listed| listed.ranges = 2), right),
    (
        &rules::STORAGE_MOST,
        |m| wrong(m, |srb, listed| (srb.transfer_length, listed.bytes) = (MOST + 512, MOST + 512)),
        |m| wrong(m, |srb, listed| (srb.transfer_length, listed.bytes) = (MOST, MOST)),
    ),
];

/// Bytes of one request at most, in the properties of [`initialized`].
const MOST: u32 = 0x4_0000;

/// Runs a guest with a controller behind channel 1.
fn controller(m: &TestMachine<'_>) {
    opened(m);
    device(m, 1, bus::guid::SCSI, 1);
}

fn packet(operation: Operation, word: u16) -> Packet {
    let mut packet = Packet::new_zeroed();
    packet.header = PacketHeader { operation, flags: 1, status: bus::NtStatus::SUCCESS };
    packet.body[..2].copy_from_slice(&word.to_le_bytes());
    packet
}

/// Observes the host's answer.
fn answer(m: &TestMachine<'_>, channel: u32, packet: &Packet) {
    let (channel, kind) = (bus::ChannelId(channel), bus::PacketType::COMPLETION);
    show(m, &in_band(packet.as_bytes()).with_channel(channel).with_kind(kind).with_from_guest(false));
}

/// Observes a control packet, and the host's answer that it succeeded.
fn ask(m: &TestMachine<'_>, channel: u32, operation: Operation, word: u16) {
    let request = packet(operation, word);
    show(m, &in_band(request.as_bytes()).with_channel(bus::ChannelId(channel)).with_flags(1));
    let mut reply = packet(Operation::COMPLETE_IO, 0);
    let mut properties = Properties::new_zeroed();
    (properties.max_channels, properties.max_transfer_bytes) = (3, MOST);
    reply.body[..24].copy_from_slice(properties.as_bytes());
    answer(m, channel, &reply);
}

/// Runs a guest that has initialized its controller as Linux does.
fn initialized(m: &TestMachine<'_>) {
    controller(m);
    ask(m, 1, Operation::BEGIN_INITIALIZATION, 0);
    ask(m, 1, Operation::QUERY_PROTOCOL_VERSION, 0x0602);
    ask(m, 1, Operation::QUERY_PROPERTIES, 0);
    ask(m, 1, Operation::END_INITIALIZATION, 0);
}

/// Observes READ(10) of 8 blocks, changed.
fn command(m: &TestMachine<'_>, channel: u32, change: impl FnOnce(&mut ScsiRequest, &mut Listed)) {
    let mut srb = ScsiRequest::new_zeroed();
    (srb.length, srb.cdb_length, srb.sense_length, srb.direction) = (52, 10, 20, 1);
    srb.transfer_length = 4096 + 512;
    srb.cdb_or_sense[..10].copy_from_slice(&[0x28, 0, 0, 0, 0, 0, 0, 0, 8, 0]);
    let mut listed = Listed::new(1, srb.transfer_length);
    change(&mut srb, &mut listed);
    let mut packet = packet(Operation::EXECUTE_SRB, 0);
    packet.body.copy_from_slice(srb.as_bytes());
    let kind = bus::PacketType::DATA_USING_GPA_DIRECT;
    let channel = bus::ChannelId(channel);
    show(
        m,
        &in_band(packet.as_bytes())
            .with_channel(channel)
            .with_flags(1)
            .with_kind(kind)
            .with_listed(Ok(listed)),
    );
}

fn wrong(m: &TestMachine<'_>, change: fn(&mut ScsiRequest, &mut Listed)) {
    initialized(m);
    command(m, 1, change);
}

fn right(m: &TestMachine<'_>) {
    wrong(m, |_, _| {});
}

#[test]
fn a_right_driver_breaks_no_rule() {
    let found = judge(&|m| {
        right(m);
        answer(m, 1, &packet(Operation::COMPLETE_IO, 0));
        let mut ready = packet(Operation::EXECUTE_SRB, 0);
        let mut srb = ScsiRequest::new_zeroed();
        (srb.length, srb.cdb_length, srb.sense_length, srb.direction) = (52, 6, 20, 2);
        ready.body.copy_from_slice(srb.as_bytes());
        show(m, &in_band(ready.as_bytes()).with_flags(1));
        answer(m, 1, &packet(Operation::COMPLETE_IO, 0));
        channel::close(m, 0, 1);
    });
    assert!(of_vmbus(&found).is_empty(), "{found:?}");
}
