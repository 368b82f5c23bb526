//! The network card: NVSP's versions and buffers, and RNDIS's objects.

use hv_tlfs::vmbus::ndis::Oid;
use hv_tlfs::vmbus::nvsp::{
    CONTROL_CHANNEL, INVALID_INDEX, Init, InitComplete, MessageHeader, MessageType, NdisVersion,
    RECEIVE_BUFFER_ID, SEND_BUFFER_ID, SendReceiveBuffer, SendReceiveBufferComplete, SendRndisPacket,
    SendSendBuffer, SendSendBufferComplete, Status, Version,
};
use hv_tlfs::vmbus::rndis::{
    self, InitializeComplete, InitializeRequest, KeepaliveComplete, KeepaliveRequest, QueryComplete,
    QueryRequest, SetComplete, SetRequest,
};
use hv_tlfs::vmbus::{GpadlId, PacketType, guid};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::cx::{Channel, Cx};
use crate::outcome::{Outcome, Stop, fail};

use super::super::on_device;

cases! {
    "vmbus_network";
    "Linux 6.12, drivers/net/hyperv/netvsc.c", "negotiate_nvsp_ver":
        a_version_of_linux_is_spoken,
        a_version_that_nobody_speaks_is_refused,
        a_refused_version_can_be_followed_by_another;
    "Linux 6.12, drivers/net/hyperv/netvsc.c", "netvsc_init_buf":
        a_receive_buffer_is_taken,
        the_sections_lie_within_the_receive_buffer,
        a_receive_buffer_that_does_not_exist_is_refused,
        a_send_buffer_is_taken,
        a_send_buffer_that_does_not_exist_is_refused;
    "Linux 6.12, drivers/net/hyperv/rndis_filter.c", "rndis_filter_init_device":
        the_card_is_initialized,
        an_answer_comes_in_the_receive_buffer,
        an_answer_has_the_id_of_its_request;
    "Linux 6.12, drivers/net/hyperv/rndis_filter.c", "rndis_filter_query_device":
        the_card_has_an_address,
        the_card_has_the_address_twice,
        the_link_has_a_state,
        a_frame_has_a_length,
        an_object_that_nobody_knows_is_refused;
    "Linux 6.12, drivers/net/hyperv/rndis_filter.c", "rndis_filter_set_packet_filter":
        the_filter_can_be_set;
    "Microsoft, RNDIS", "REMOTE_NDIS_KEEPALIVE_MSG":
        a_keepalive_is_answered;
}

const NO_CARD: &str = "the host offers no network card";
const RECEIVE: GpadlId = GpadlId(0x2000);
const SEND: GpadlId = GpadlId(0x2001);
/// Pages of the receive buffer: Linux's own limit is 16 sections, and a section takes less than half a page.
const PAGES: usize = 28;
/// Bytes of a message, as Linux sends all of them.
const MESSAGE: usize = 40;

fn on_card(cx: &Cx<'_>, work: impl FnOnce(&Channel<'_, '_, '_>) -> Outcome) -> Outcome {
    on_device(cx, guid::NETWORK, NO_CARD, work)
}

/// Returns a message of NVSP.
fn nvsp<T: IntoBytes + Immutable>(message_type: MessageType, body: &T) -> [u8; MESSAGE] {
    let mut message = [0; MESSAGE];
    message[..4].copy_from_slice(MessageHeader { message_type }.as_bytes());
    message[4..4 + size_of::<T>()].copy_from_slice(body.as_bytes());
    message
}

/// Sends a message of NVSP, and returns the answer, which is of this kind.
fn exchange<T: IntoBytes + Immutable, U: FromBytes>(
    channel: &Channel<'_, '_, '_>,
    (kind, body): (MessageType, &T),
    answered: MessageType,
) -> Result<U, Stop> {
    let answer = channel.ask(0x99, &nvsp(kind, body))?;
    check_eq!(answer.get::<MessageHeader>(0)?.message_type.0, answered.0);
    answer.get(4)
}

/// Asks for a version, and returns the status of the answer.
fn ask_version(channel: &Channel<'_, '_, '_>, version: Version) -> Result<u32, Stop> {
    let init = Init { version, version2: version };
    let answer: InitComplete = exchange(channel, (MessageType::INIT, &init), MessageType::INIT_COMPLETE)?;
    Ok(answer.status.0)
}

/// Agrees on a version, as Linux does.
fn agree(channel: &Channel<'_, '_, '_>) -> Outcome {
    for version in [Version::V61, Version::V6, Version::V5, Version::V4, Version::V2, Version::V1] {
        if ask_version(channel, version)? == Status::SUCCESS.0 {
            let ndis = NdisVersion { major: 6, minor: 30 };
            return channel.send(0, &nvsp(MessageType::SEND_NDIS_VERSION, &ndis));
        }
    }
    Err(fail("the card speaks a version of Linux's"))
}

/// A receive buffer that the card has taken.
struct Receive {
    pages: [u64; PAGES],
    answer: SendReceiveBufferComplete,
}

/// Lends the card pages. Returns them.
fn lend<const COUNT: usize>(channel: &Channel<'_, '_, '_>, name: GpadlId) -> Result<[u64; COUNT], Stop> {
    let mut pages = [0; COUNT];
    let mut words = [0; PAGES + 1];
    words[0] = COUNT as u64 * 4096;
    for (page, word) in pages.iter_mut().zip(&mut words[1..]) {
        *page = channel.bus.cx.page()?;
        *word = *page / 4096;
    }
    check_eq!(channel.bus.create(channel.id, name, 1, &words[..=COUNT])?.0, 0);
    Ok(pages)
}

/// Offers the card a receive buffer.
fn offer_receive(channel: &Channel<'_, '_, '_>, gpadl: GpadlId) -> Result<SendReceiveBufferComplete, Stop> {
    let request = SendReceiveBuffer { gpadl, id: RECEIVE_BUFFER_ID, reserved: 0 };
    let kinds = (MessageType::SEND_RECEIVE_BUFFER, MessageType::SEND_RECEIVE_BUFFER_COMPLETE);
    exchange(channel, (kinds.0, &request), kinds.1)
}

/// Gives the card a receive buffer.
fn give_receive(channel: &Channel<'_, '_, '_>) -> Result<Receive, Stop> {
    agree(channel)?;
    let pages = lend(channel, RECEIVE)?;
    let answer = offer_receive(channel, RECEIVE)?;
    check_eq!(answer.status.0, Status::SUCCESS.0);
    Ok(Receive { pages, answer })
}

/// Offers the card a send buffer, and returns the answer.
fn offer_send(channel: &Channel<'_, '_, '_>, gpadl: GpadlId) -> Result<SendSendBufferComplete, Stop> {
    let request = SendSendBuffer { gpadl, id: SEND_BUFFER_ID, reserved: 0 };
    let kinds = (MessageType::SEND_SEND_BUFFER, MessageType::SEND_SEND_BUFFER_COMPLETE);
    exchange(channel, (kinds.0, &request), kinds.1)
}

fn a_version_of_linux_is_spoken(cx: &Cx<'_>) -> Outcome {
    on_card(cx, agree)
}

fn a_version_that_nobody_speaks_is_refused(cx: &Cx<'_>) -> Outcome {
    on_card(cx, |channel| {
        check!(ask_version(channel, Version(0x7fff_0000))? != Status::SUCCESS.0);
        Ok(())
    })
}

fn a_refused_version_can_be_followed_by_another(cx: &Cx<'_>) -> Outcome {
    on_card(cx, |channel| {
        check!(ask_version(channel, Version(0x7fff_0000))? != Status::SUCCESS.0);
        agree(channel)
    })
}

/// Runs something on a card with a receive buffer.
fn on_buffer(cx: &Cx<'_>, work: impl FnOnce(&Channel<'_, '_, '_>, &Receive) -> Outcome) -> Outcome {
    on_card(cx, |channel| {
        let receive = give_receive(channel)?;
        work(channel, &receive)
    })
}

fn a_receive_buffer_is_taken(cx: &Cx<'_>) -> Outcome {
    on_buffer(cx, |_, receive| {
        check_eq!(receive.answer.num_sections, 1);
        Ok(())
    })
}

fn the_sections_lie_within_the_receive_buffer(cx: &Cx<'_>) -> Outcome {
    on_buffer(cx, |_, receive| {
        let section = receive.answer.section;
        check_eq!(section.offset, 0);
        check!(section.sub_alloc_size > 0 && section.num_sub_allocs > 0);
        let bytes = u64::from(section.sub_alloc_size) * u64::from(section.num_sub_allocs);
        check!(bytes <= (PAGES * 4096) as u64);
        Ok(())
    })
}

fn a_receive_buffer_that_does_not_exist_is_refused(cx: &Cx<'_>) -> Outcome {
    on_card(cx, |channel| {
        agree(channel)?;
        check!(offer_receive(channel, GpadlId(0x6666))?.status != Status::SUCCESS);
        Ok(())
    })
}

fn a_send_buffer_is_taken(cx: &Cx<'_>) -> Outcome {
    on_card(cx, |channel| {
        agree(channel)?;
        lend::<6>(channel, SEND)?;
        let answer = offer_send(channel, SEND)?;
        check_eq!(answer.status.0, Status::SUCCESS.0);
        check!(answer.section_size > 0);
        check!(answer.section_size <= 6 * 4096);
        Ok(())
    })
}

fn a_send_buffer_that_does_not_exist_is_refused(cx: &Cx<'_>) -> Outcome {
    on_card(cx, |channel| {
        agree(channel)?;
        check!(offer_send(channel, GpadlId(0x6666))?.status != Status::SUCCESS);
        Ok(())
    })
}

/// An answer of RNDIS, as it lies in the receive buffer.
struct Answer {
    header: rndis::MessageHeader,
    body: [u8; 128],
    /// Its place in the receive buffer, and its length.
    range: [u32; 2],
    /// The set that the packet names.
    set: u16,
}

impl Answer {
    fn get<T: FromBytes>(&self, kind: rndis::MessageType) -> Result<T, Stop> {
        check_eq!(self.header.message_type.0, kind.0);
        T::read_from_prefix(&self.body).map(|(value, _)| value).map_err(|_| fail("the answer is whole"))
    }
}

/// Copies bytes out of the receive buffer.
fn copy(cx: &Cx<'_>, receive: &Receive, at: u32, into: &mut [u8]) -> Outcome {
    for (at, byte) in (at as usize..).zip(into) {
        let Some(page) = receive.pages.get(at / 4096) else {
            return Err(fail("the range lies within the receive buffer"));
        };
        cx.env.read(page + at as u64 % 4096, core::slice::from_mut(byte));
    }
    Ok(())
}

/// Sends a message of RNDIS on the control channel, and returns its answer.
fn control<T: IntoBytes + Immutable>(
    channel: &Channel<'_, '_, '_>,
    receive: &Receive,
    kind: rndis::MessageType,
    (body, info): (&T, &[u8]),
) -> Result<Answer, Stop> {
    let cx = channel.bus.cx;
    let page = cx.page()?;
    let len = (size_of::<rndis::MessageHeader>() + size_of::<T>() + info.len()) as u32;
    cx.write(page, &rndis::MessageHeader { message_type: kind, length: len });
    cx.write(page + 8, body);
    cx.env.write(page + 8 + size_of::<T>() as u64, info);
    let send =
        SendRndisPacket { channel_type: CONTROL_CHANNEL, section_index: INVALID_INDEX, section_size: 0 };
    let front = [1u64 << 32, len.into(), page / 4096];
    let message = nvsp(MessageType::SEND_RNDIS_PACKET, &send);
    channel.put((PacketType::DATA_USING_GPA_DIRECT, 1, 0x55), front.as_bytes(), &message)?;
    channel.signalled()?;
    // The completion of the request and its answer come in any order.
    let (mut answer, mut completed) = (None, false);
    for _ in 0..6 {
        if answer.is_some() && completed {
            break;
        }
        let packet = channel.receive()?;
        if packet.kind == PacketType::COMPLETION {
            completed |= packet.transaction == 0x55;
            continue;
        }
        if packet.kind != PacketType::DATA_USING_TRANSFER_PAGES {
            // A table, or news of the link.
            continue;
        }
        let front = packet.front();
        let word =
            |at: usize| front.get(at..at + 4).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let (range, set) = ([word(12), word(8)], word(0) as u16);
        let mut header = rndis::MessageHeader { message_type: rndis::MessageType(0), length: 0 };
        let mut body = [0; 128];
        copy(cx, receive, range[0], header.as_mut_bytes())?;
        let len = (header.length as usize).saturating_sub(8).min(body.len());
        copy(cx, receive, range[0] + 8, &mut body[..len])?;
        // The section is the card's again.
        let complete = nvsp(MessageType::SEND_RNDIS_PACKET_COMPLETE, &Status::SUCCESS.0);
        channel.put((PacketType::COMPLETION, 0, packet.transaction), &[], &complete[..8])?;
        channel.signalled()?;
        // News of the card are not an answer.
        if header.message_type != rndis::MessageType::INDICATE_STATUS {
            answer = Some(Answer { header, body, range, set });
        }
    }
    answer.ok_or_else(|| fail("an answer comes in the receive buffer"))
}

/// Initializes RNDIS, and returns the answer.
fn initialize(channel: &Channel<'_, '_, '_>, receive: &Receive) -> Result<Answer, Stop> {
    let request = InitializeRequest {
        request_id: 0x1111,
        major_version: rndis::MAJOR_VERSION,
        minor_version: rndis::MINOR_VERSION,
        max_transfer_size: 0x4000,
    };
    control(channel, receive, rndis::MessageType::INITIALIZE, (&request, &[]))
}

/// Runs something on a card that is initialized.
fn on_rndis(cx: &Cx<'_>, work: impl FnOnce(&Channel<'_, '_, '_>, &Receive) -> Outcome) -> Outcome {
    on_buffer(cx, |channel, receive| {
        let answer = initialize(channel, receive)?;
        let done: InitializeComplete = answer.get(rndis::MessageType::INITIALIZE_COMPLETE)?;
        check_eq!(done.status.0, rndis::Status::SUCCESS.0);
        work(channel, receive)
    })
}

fn the_card_is_initialized(cx: &Cx<'_>) -> Outcome {
    on_buffer(cx, |channel, receive| {
        let answer = initialize(channel, receive)?;
        let done: InitializeComplete = answer.get(rndis::MessageType::INITIALIZE_COMPLETE)?;
        check_eq!(done.status.0, rndis::Status::SUCCESS.0);
        check_eq!(done.major_version, rndis::MAJOR_VERSION);
        check_eq!(done.medium, rndis::MEDIUM_802_3);
        Ok(())
    })
}

fn an_answer_comes_in_the_receive_buffer(cx: &Cx<'_>) -> Outcome {
    on_buffer(cx, |channel, receive| {
        let answer = initialize(channel, receive)?;
        check_eq!(answer.set, RECEIVE_BUFFER_ID);
        check_eq!(answer.range[0] % receive.answer.section.sub_alloc_size, 0);
        check!(answer.range[1] <= receive.answer.section.sub_alloc_size);
        check!(answer.header.length <= answer.range[1]);
        Ok(())
    })
}

fn an_answer_has_the_id_of_its_request(cx: &Cx<'_>) -> Outcome {
    on_buffer(cx, |channel, receive| {
        let answer = initialize(channel, receive)?;
        let done: InitializeComplete = answer.get(rndis::MessageType::INITIALIZE_COMPLETE)?;
        check_eq!(done.request_id, 0x1111);
        Ok(())
    })
}

/// Queries an object: the answer, and the first bytes of its value.
fn query(
    channel: &Channel<'_, '_, '_>,
    receive: &Receive,
    oid: Oid,
) -> Result<(QueryComplete, [u8; 8]), Stop> {
    let request = QueryRequest {
        request_id: 0x2222,
        oid,
        information_length: 0,
        information_offset: 0,
        device_vc_handle: 0,
    };
    let answer = control(channel, receive, rndis::MessageType::QUERY, (&request, &[]))?;
    let done: QueryComplete = answer.get(rndis::MessageType::QUERY_COMPLETE)?;
    check_eq!(done.request_id, 0x2222);
    let mut value = [0; 8];
    let from = done.information_offset as usize;
    let len = (done.information_length as usize).min(8);
    if done.status == rndis::Status::SUCCESS {
        value[..len]
            .copy_from_slice(answer.body.get(from..from + len).ok_or_else(|| fail("the value is whole"))?);
    }
    Ok((done, value))
}

/// Queries an object of one word.
fn word(channel: &Channel<'_, '_, '_>, receive: &Receive, oid: Oid) -> Result<u32, Stop> {
    let (done, value) = query(channel, receive, oid)?;
    check_eq!(done.status.0, rndis::Status::SUCCESS.0);
    check_eq!(done.information_length, 4);
    let [a, b, c, d, ..] = value;
    Ok(u32::from_le_bytes([a, b, c, d]))
}

fn the_card_has_an_address(cx: &Cx<'_>) -> Outcome {
    on_rndis(cx, |channel, receive| {
        let (done, value) = query(channel, receive, Oid::ETHERNET_PERMANENT_ADDRESS)?;
        check_eq!(done.status.0, rndis::Status::SUCCESS.0);
        check_eq!(done.information_length, 6);
        check!(value[..6] != [0; 6]);
        check_eq!(value[0] & 1, 0);
        Ok(())
    })
}

fn the_card_has_the_address_twice(cx: &Cx<'_>) -> Outcome {
    on_rndis(cx, |channel, receive| {
        let (permanent, first) = query(channel, receive, Oid::ETHERNET_PERMANENT_ADDRESS)?;
        let (current, second) = query(channel, receive, Oid::ETHERNET_CURRENT_ADDRESS)?;
        check!(permanent.status == rndis::Status::SUCCESS && current.status == rndis::Status::SUCCESS);
        check!(first == second);
        Ok(())
    })
}

fn the_link_has_a_state(cx: &Cx<'_>) -> Outcome {
    on_rndis(cx, |channel, receive| {
        check!(word(channel, receive, Oid::GEN_MEDIA_CONNECT_STATUS)? <= 1);
        Ok(())
    })
}

fn a_frame_has_a_length(cx: &Cx<'_>) -> Outcome {
    on_rndis(cx, |channel, receive| {
        check!((68..=65535).contains(&word(channel, receive, Oid::GEN_MAXIMUM_FRAME_SIZE)?));
        Ok(())
    })
}

fn an_object_that_nobody_knows_is_refused(cx: &Cx<'_>) -> Outcome {
    on_rndis(cx, |channel, receive| {
        check!(query(channel, receive, Oid(0x7fff_0001))?.0.status != rndis::Status::SUCCESS);
        word(channel, receive, Oid::GEN_MEDIA_CONNECT_STATUS)?;
        Ok(())
    })
}

fn the_filter_can_be_set(cx: &Cx<'_>) -> Outcome {
    on_rndis(cx, |channel, receive| {
        let request = SetRequest {
            request_id: 0x3333,
            oid: Oid::GEN_CURRENT_PACKET_FILTER,
            information_length: 4,
            information_offset: size_of::<SetRequest>() as u32,
            device_vc_handle: 0,
        };
        // No frames are wanted.
        let answer = control(channel, receive, rndis::MessageType::SET, (&request, &[0; 4]))?;
        let done: SetComplete = answer.get(rndis::MessageType::SET_COMPLETE)?;
        check_eq!(done.request_id, 0x3333);
        check_eq!(done.status.0, rndis::Status::SUCCESS.0);
        Ok(())
    })
}

fn a_keepalive_is_answered(cx: &Cx<'_>) -> Outcome {
    on_rndis(cx, |channel, receive| {
        let request = KeepaliveRequest { request_id: 0x4444 };
        let answer = control(channel, receive, rndis::MessageType::KEEPALIVE, (&request, &[]))?;
        let done: KeepaliveComplete = answer.get(rndis::MessageType::KEEPALIVE_COMPLETE)?;
        check_eq!(done.request_id, 0x4444);
        check_eq!(done.status.0, rndis::Status::SUCCESS.0);
        Ok(())
    })
}
