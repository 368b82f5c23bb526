//! A guest that uses VMBus: it connects, opens channels, and exchanges packets with their devices.

use hv_partition::testing::{Driven, RAM, TestMachine, simple};
use hv_partition::{GuestMemory as _, Host as _};
use hv_tlfs::hypercall::HypercallCode as Code;
use hv_tlfs::status::HvStatus;
use hv_vmbus::protocol::{
    Guid, InitiateContact, MessageHeader, MessageType, PacketType, TargetInfo, TlConnectRequest, Version,
};
use hv_vmbus::ring::{Consumer, Outgoing, Producer, Ring};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// SINT of VMBus.
pub(crate) const SINT: u8 = 2;
/// Pages of a ring.
const RING: u64 = 3;

/// Posts a message; gives the status of the hypercall.
pub(crate) fn post(m: &TestMachine<'_, impl Driven>, vp: usize, connection: u32, payload: &[u8]) -> HvStatus {
    let mut input: Vec<u8> =
        [connection, 0, 1, payload.len() as u32].iter().flat_map(|word| word.to_le_bytes()).collect();
    input.extend(payload);
    input.resize(256, 0);
    m.call(vp, simple(Code::POST_MESSAGE), &input, 0).0.status()
}

/// Builds INITIATE_CONTACT that requests its messages on `vp`.
pub(crate) fn contact(vp: u32) -> InitiateContact {
    let mut contact = InitiateContact::new_zeroed();
    contact.header = MessageHeader::new(MessageType::INITIATE_CONTACT);
    contact.version = Version::V5_3;
    contact.target_vp = vp;
    contact.target_info = TargetInfo(0).with_sint(SINT);
    contact
}

/// Takes the messages in a VP's slot, one after the other, and returns their kinds.
pub(crate) fn take_kinds(m: &TestMachine<'_, impl Driven>, vp: usize) -> Vec<MessageType> {
    std::iter::from_fn(|| m.take_message(vp, SINT))
        .map(|message| MessageHeader::read_from_prefix(&message.payload).unwrap().0.message_type)
        .collect()
}

fn message(kind: MessageType, words: &[u32]) -> Vec<u8> {
    [kind.0, 0].iter().chain(words).flat_map(|word| word.to_le_bytes()).collect()
}

/// Connects on `vp`, and asks for the offers.
pub(crate) fn connect(m: &TestMachine<'_, impl Driven>, vp: usize) {
    post(m, vp, 4, contact(vp as u32).as_bytes());
    take_kinds(m, vp);
    post(m, vp, 4, &message(MessageType::REQUEST_OFFERS, &[]));
    take_kinds(m, vp);
}

/// Posts UNLOAD.
pub(crate) fn unload(m: &TestMachine<'_, impl Driven>, vp: usize) {
    post(m, vp, 4, &message(MessageType::UNLOAD, &[]));
}

/// Posts TL_CONNECT_REQUEST, which requests a socket of the service.
pub(crate) fn connect_socket(m: &TestMachine<'_, impl Driven>, vp: usize, endpoint: Guid, service: Guid) {
    let header = MessageHeader::new(MessageType::TL_CONNECT_REQUEST);
    post(m, vp, 4, TlConnectRequest { header, endpoint, service }.as_bytes());
}

/// Returns the page numbers of a channel's rings, first that from guest to host.
pub(crate) fn pages(channel: u32) -> Vec<u64> {
    let first = (RAM >> 12) + 0x40 + u64::from(channel) * 2 * RING;
    (first..first + 2 * RING).collect()
}

/// Opens a channel, whose interrupts go to `target`.
pub(crate) fn open(m: &TestMachine<'_, impl Driven>, vp: usize, channel: u32, target: u32) {
    let pages = pages(channel);
    for page in &pages {
        m.host.memory().write(page << 12, &[0; 4096]).unwrap();
    }
    let mut gpadl =
        message(MessageType::GPADL_HEADER, &[channel, channel, (pages.len() as u32 + 1) * 8 + (1 << 16)]);
    gpadl.extend((pages.len() as u64 * 4096).to_le_bytes());
    gpadl.extend(pages.as_bytes());
    post(m, vp, 4, &gpadl);
    let mut open = message(MessageType::OPEN_CHANNEL, &[channel, channel, channel, target, RING as u32]);
    open.resize(148, 0);
    post(m, vp, 4, &open);
}

/// Closes a channel and takes its pages back.
pub(crate) fn close(m: &TestMachine<'_, impl Driven>, vp: usize, channel: u32) {
    post(m, vp, 4, &message(MessageType::CLOSE_CHANNEL, &[channel]));
    post(m, vp, 4, &message(MessageType::GPADL_TEARDOWN, &[channel, channel]));
}

/// Posts MODIFYCHANNEL: interrupts go to `target` from now on.
pub(crate) fn modify(m: &TestMachine<'_, impl Driven>, vp: usize, channel: u32, target: u32) {
    post(m, vp, 4, &message(MessageType::MODIFY_CHANNEL, &[channel, target]));
}

/// Puts a packet into a channel's ring, without a signal. False if there is no room or no ring.
pub(crate) fn put(
    m: &TestMachine<'_, impl Driven>,
    channel: u32,
    transaction_id: u64,
    payload: &[u8],
) -> bool {
    let (memory, pages) = (m.host.memory(), pages(channel));
    let Ok(ring) = Ring::new(memory, &pages[..RING as usize]) else { return false };
    let Ok(mut producer) = Producer::attach(&ring) else { return false };
    let packet_type = PacketType::DATA_IN_BAND;
    let packet = Outgoing { packet_type, flags: 0, transaction_id, len: payload.len() as u32 };
    producer.push_bytes(&ring, &packet, payload).is_ok()
}

/// Signals a channel.
pub(crate) fn signal(m: &TestMachine<'_, impl Driven>, vp: usize, channel: u32) -> HvStatus {
    m.fast(vp, simple(Code::SIGNAL_EVENT), &[u64::from(0x2000 | channel)]).0.status()
}

/// Takes a packet out of the other ring: its transaction id and payload.
pub(crate) fn receive(m: &TestMachine<'_, impl Driven>, vp: usize, channel: u32) -> Option<(u64, Vec<u8>)> {
    let (memory, pages) = (m.host.memory(), pages(channel));
    let ring = Ring::new(memory, &pages[RING as usize..]).ok()?;
    let mut consumer = Consumer::attach(&ring).ok()?;
    let packet = consumer.next(&ring).ok()??;
    let mut payload = vec![0; packet.payload_len() as usize];
    packet.read(&ring, 0, &mut payload).ok()?;
    if consumer.commit(&ring).ok()?.signal {
        signal(m, vp, channel);
    }
    Some((packet.descriptor.transaction_id, payload))
}

/// Answers what the heartbeat service asks next, as Linux does (drivers/hv/hv_util.c). False if it asks nothing.
pub(crate) fn answer_heartbeat(m: &TestMachine<'_, impl Driven>, vp: usize, channel: u32) -> bool {
    let Some((id, mut reply)) = receive(m, vp, channel) else { return false };
    if reply.len() < 36 {
        return false;
    }
    if reply[12] == 0 && reply.len() >= 52 {
        // The newest version of framework and service.
        reply[28..32].copy_from_slice(&[1, 0, 1, 0]);
        reply.copy_within(44..48, 40);
    } else {
        let number = u64::from_le_bytes(reply[28..36].try_into().unwrap()).wrapping_add(1);
        reply[28..36].copy_from_slice(&number.to_le_bytes());
    }
    // Transaction, response.
    reply[25] = 5;
    put(m, channel, id, &reply);
    signal(m, vp, channel);
    true
}
