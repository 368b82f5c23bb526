//! Rules on the packets of a network card's driver.

use crate::guests::*;
use bus::nvsp::{INVALID_INDEX, MessageType, Version};
use hv_partition::record::network_part as part;

pub(crate) const CASES: &[Case] = &[
    (
        &rules::NETWORK_SIZE,
        |m| {
            buffers(m, Version::V61);
            show(m, &in_band(&words(&[100, 6, 0x1e, 0, 0, 0, 0, 0])).with_flags(1));
        },
        |m| {
            buffers(m, Version::V6);
            show(m, &in_band(&words(&[100, 6, 0x1e, 0, 0, 0, 0, 0])).with_flags(1));
        },
    ),
    (
        &rules::NETWORK_MESSAGE,
        |m| {
            buffers(m, Version::V61);
            send(m, 1, MessageType::SEND_VF_ASSOCIATION, &[], 0);
        },
        |m| {
            buffers(m, Version::V61);
            send(m, 1, MessageType::SWITCH_DATA_PATH, &[0], 0);
        },
    ),
    (
        &rules::NETWORK_ORDER,
        |m| {
            buffers(m, Version::V61);
            // The host has a receive buffer already.
            send(m, 1, MessageType::SEND_NDIS_CONFIG, &[9014], 0);
        },
        |m| {
            // A version that the host refuses, and then one that it takes.
            card(m);
            ask(m, MessageType::INIT, &[0x7_0000, 0x7_0000], &[2, 2, 0x22, 2]);
            connect(m, Version::V5);
            initialize(m);
            take_back(m);
            give(m);
        },
    ),
    (
        &rules::NETWORK_VERSION,
        |m| {
            buffers(m, Version::V4);
            send(m, 1, MessageType::SUBCHANNEL, &[1, 1], 1);
        },
        |m| {
            buffers(m, Version::V5);
            send(m, 1, MessageType::SUBCHANNEL, &[1, 1], 1);
        },
    ),
    (
        &rules::NETWORK_PROPOSAL,
        |m| {
            card(m);
            send(m, 1, MessageType::INIT, &[0x6_0000, 0x6_0001], 1);
        },
        initialized,
    ),
    (
        &rules::NETWORK_PRIMARY,
        |m| {
            sub_channel(m);
            send(m, 2, MessageType::SEND_RNDIS_PACKET, &[1, 0, 28], 1);
        },
        |m| {
            sub_channel(m);
            send(m, 2, MessageType::SEND_RNDIS_PACKET, &[0, 0, 100], 1);
        },
    ),
    (
        &rules::NETWORK_COMPLETION,
        |m| {
            initialized(m);
            send(m, 1, MessageType::SEND_RNDIS_PACKET, &[0, 0, 100], 0);
        },
        |m| {
            initialized(m);
            send(m, 1, MessageType::SEND_RNDIS_PACKET, &[0, 0, 100], 1);
        },
    ),
    (
        &rules::NETWORK_REVOKE,
        |m| {
            initialized(m);
            halt(m);
            send(m, 1, MessageType::REVOKE_RECEIVE_BUFFER, &[0xcaff], 0);
        },
        halted,
    ),
    (
        &rules::NETWORK_REVOKE_EARLY,
        |m| {
            initialized(m);
            send(m, 1, MessageType::REVOKE_RECEIVE_BUFFER, &[0xcafe], 0);
        },
        halted,
    ),
    (
        &rules::NETWORK_TORN,
        |m| {
            initialized(m);
            bus_message(m, bus::MessageType::GPADL_TEARDOWN, &[1, RECEIVE]);
        },
        |m| {
            halted(m);
            bus_message(m, bus::MessageType::GPADL_TEARDOWN, &[1, RECEIVE]);
            // Without a revocation, but with the channel closed.
            device(m, 1, bus::guid::NETWORK, 1);
            connect(m, Version::V61);
            server(m, hv_vmbus::Event::Closed { channel: bus::ChannelId(1) });
            bus_message(m, bus::MessageType::GPADL_TEARDOWN, &[1, RECEIVE]);
        },
    ),
    (
        &rules::NETWORK_SECTION,
        |m| {
            initialized(m);
            send(m, 1, MessageType::SEND_RNDIS_PACKET, &[0, 3, 6145], 1);
        },
        |m| {
            initialized(m);
            send(m, 1, MessageType::SEND_RNDIS_PACKET, &[0, 3, 6144], 1);
        },
    ),
    (
        &rules::NETWORK_SECTION_USED,
        |m| {
            sub_channel(m);
            frame_in(m, 1, 3, 11);
            // On another channel of the same card.
            frame_in(m, 2, 3, 12);
        },
        |m| {
            sub_channel(m);
            frame_in(m, 1, 3, 11);
            complete(m, 1, 11);
            frame_in(m, 2, 3, 12);
            frame_in(m, 2, 4, 13);
        },
    ),
    (
        &rules::NETWORK_DATA,
        |m| {
            initialized(m);
            send(m, 1, MessageType::SEND_RNDIS_PACKET, &[0, INVALID_INDEX, 0], 1);
        },
        |m| {
            initialized(m);
            let packet = words(&[107, 0, INVALID_INDEX, 0, 0, 0, 0, 0, 0, 0]);
            let listed = Ok(Listed::new(1, 100));
            let kind = bus::PacketType::DATA_USING_GPA_DIRECT;
            show(m, &in_band(&packet).with_flags(1).with_kind(kind).with_listed(listed));
        },
    ),
    (
        &rules::NETWORK_CHANNEL_TYPE,
        |m| {
            initialized(m);
            send(m, 1, MessageType::SEND_RNDIS_PACKET, &[2, 0, 100], 1);
        },
        initialized,
    ),
    (&rules::NETWORK_RETURN, |m| received(m, &[108, 2]), |m| received(m, &[108, 1])),
    (
        &rules::NETWORK_REFUSED,
        |m| {
            initialized(m);
            ask(m, MessageType::SEND_RNDIS_PACKET, &[0, 0, 100], &[108, 5]);
        },
        |m| {
            initialized(m);
            ask(m, MessageType::SEND_RNDIS_PACKET, &[0, 0, 100], &[108, 1]);
            // The host had no section for its answer.
            ask(m, MessageType::SEND_RNDIS_PACKET, &[1, 0, 28], &[108, 6]);
        },
    ),
];

/// GPADLs of the two buffers.
const RECEIVE: u32 = 100;
const SEND: u32 = 101;

pub(crate) fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Runs a guest with a card behind channel 1.
fn card(m: &TestMachine<'_>) {
    opened(m);
    device(m, 1, bus::guid::NETWORK, 1);
}

/// Runs a guest with a sub-channel, of number 2.
fn sub_channel(m: &TestMachine<'_>) {
    initialized(m);
    ask(m, MessageType::SUBCHANNEL, &[1, 1], &[133, 1, 1]);
    device(m, 2, bus::guid::NETWORK, 1);
}

fn packet(message: MessageType, body: &[u32]) -> Vec<u8> {
    let mut bytes = words(&[message.0]);
    bytes.extend(words(body));
    bytes.resize(40, 0);
    bytes
}

fn send(m: &TestMachine<'_>, channel: u32, message: MessageType, body: &[u32], flags: u16) {
    show(m, &in_band(&packet(message, body)).with_channel(bus::ChannelId(channel)).with_flags(flags));
}

/// Sends a packet, and the host completes it with an answer.
fn ask(m: &TestMachine<'_>, message: MessageType, body: &[u32], answer: &[u32]) {
    send(m, 1, message, body, 1);
    let kind = bus::PacketType::COMPLETION;
    show(m, &in_band(&words(answer)).with_kind(kind).with_from_guest(false));
}

/// Sends frames in a section.
fn frame_in(m: &TestMachine<'_>, channel: u32, section: u32, transaction: u64) {
    let channel = bus::ChannelId(channel);
    let packet = packet(MessageType::SEND_RNDIS_PACKET, &[0, section, 100]);
    show(m, &in_band(&packet).with_channel(channel).with_flags(1).with_transaction(transaction));
}

/// Completes a packet from the host.
fn complete(m: &TestMachine<'_>, channel: u32, transaction: u64) {
    let (channel, kind) = (bus::ChannelId(channel), bus::PacketType::COMPLETION);
    show(
        m,
        &in_band(&words(&[108, 1]))
            .with_channel(channel)
            .with_kind(kind)
            .with_transaction(transaction)
            .with_from_guest(false),
    );
}

/// Gives the host both buffers.
fn give(m: &TestMachine<'_>) {
    let section = [102, 1, 1, 0, 1808, 100, 180_800];
    ask(m, MessageType::SEND_RECEIVE_BUFFER, &[RECEIVE, 0xcafe], &section);
    ask(m, MessageType::SEND_SEND_BUFFER, &[SEND, 0], &[105, 1, 6144]);
}

/// Runs a guest that does what Linux does with this version, up to the buffers.
fn buffers(m: &TestMachine<'_>, version: Version) {
    card(m);
    connect(m, version);
}

fn connect(m: &TestMachine<'_>, version: Version) {
    ask(m, MessageType::INIT, &[version.0, version.0], &[2, 2, 0x22, 1]);
    send(m, 1, MessageType::SEND_NDIS_CONFIG, &[1514, 0, 0xac, 0], 0);
    send(m, 1, MessageType::SEND_NDIS_VERSION, &[6, 0x1e], 0);
    give(m);
}

/// Observes a part of a packet's data.
pub(crate) fn data(m: &TestMachine<'_>, from_guest: bool, part: u8, bytes: &[u8], len: u32) {
    let contents = Contents::new(bus::ChannelId(1), bus::guid::NETWORK, part, bytes).with_transaction(7);
    m.host.observe_bus(&BusEvent::Contents(contents.with_from_guest(from_guest).with_len(len)));
}

/// Observes a control message of the guest's, in a packet that is completed.
pub(crate) fn control(m: &TestMachine<'_>, message: &[u32]) {
    send(m, 1, MessageType::SEND_RNDIS_PACKET, &[1, 0, 100], 1);
    data(m, true, part::CONTROL, &words(message), message.len() as u32 * 4);
    complete(m, 1, 7);
}

/// Observes the host's answer.
pub(crate) fn reply(m: &TestMachine<'_>, message: &[u32]) {
    data(m, false, part::CONTROL, &words(message), message.len() as u32 * 4);
}

/// Runs a guest that has initialized its card.
pub(crate) fn initialized(m: &TestMachine<'_>) {
    buffers(m, Version::V61);
    initialize(m);
}

fn initialize(m: &TestMachine<'_>) {
    control(m, &[2, 24, 1, 1, 0, 0x4000]);
    reply(m, &[0x8000_0002, 52, 1, 0, 1, 0, 1, 0, 8, 0x4000, 3, 0, 0]);
}

fn halt(m: &TestMachine<'_>) {
    control(m, &[3, 12, 9]);
}

/// Runs a guest that has taken its buffers back as Linux does.
fn halted(m: &TestMachine<'_>) {
    initialized(m);
    take_back(m);
}

fn take_back(m: &TestMachine<'_>) {
    halt(m);
    send(m, 1, MessageType::REVOKE_RECEIVE_BUFFER, &[0xcafe], 0);
    send(m, 1, MessageType::REVOKE_SEND_BUFFER, &[0], 0);
}

/// Runs a guest that has received a frame, and completes its packet with a message.
fn received(m: &TestMachine<'_>, completion: &[u32]) {
    initialized(m);
    let kind = bus::PacketType::DATA_USING_TRANSFER_PAGES;
    let frame = packet(MessageType::SEND_RNDIS_PACKET, &[0, INVALID_INDEX, 0]);
    show(m, &in_band(&frame).with_kind(kind).with_flags(1).with_from_guest(false).with_transaction(99));
    let kind = bus::PacketType::COMPLETION;
    show(m, &in_band(&words(completion)).with_kind(kind).with_transaction(99));
}

#[test]
fn a_right_driver_breaks_no_rule() {
    let found = judge(&|m| {
        received(m, &[108, 1]);
        frame_in(m, 1, 3, 11);
        complete(m, 1, 11);
        take_back(m);
        channel::close(m, 0, 1);
    });
    assert!(of_vmbus(&found).is_empty(), "{found:?}");
}

#[test]
fn completions_of_more_packets_than_are_followed_are_no_surprise() {
    let mut judge = Judge::<1>::new(RAM, RAM_SIZE);
    let none = &mut |finding| panic!("{finding:?}");
    for transaction in 1..1000 {
        let packet = in_band(&[0; 8]).with_from_guest(false).with_flags(1).with_transaction(transaction);
        judge.bus_event(&BusEvent::Packet(packet), none);
    }
    // There is room for the guest's own.
    judge.bus_event(&BusEvent::Packet(in_band(&[0; 8]).with_flags(1).with_transaction(5)), none);
    let kind = bus::PacketType::COMPLETION;
    for transaction in 1..1000 {
        judge.bus_event(&BusEvent::Packet(in_band(&[]).with_kind(kind).with_transaction(transaction)), none);
    }
    let mut found = Vec::new();
    let twice = in_band(&[]).with_kind(kind).with_transaction(999);
    judge.bus_event(&BusEvent::Packet(twice), &mut |finding| found.push(finding.rule));
    judge.bus_event(&BusEvent::Packet(in_band(&[0; 8]).with_flags(1).with_transaction(5)), &mut |finding| {
        found.push(finding.rule);
    });
    assert_eq!(found, [&rules::PACKET_UNASKED, &rules::PACKET_ID_USED]);
}
