//! Messages of VMBus: any VP posts them, and VP 0 receives the host's for all.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use hv_tlfs::hypercall::{HypercallCode as Code, HypercallInput};
use hv_tlfs::register::RegisterName as Name;
use hv_tlfs::status::HvStatus;
use hv_tlfs::vmbus::connection::{MAX_MESSAGE_SIZE, MESSAGE_CONNECTION_ID_4, MESSAGE_SINT, MESSAGE_TYPE};
use hv_tlfs::vmbus::{
    ChannelId, CloseChannel, GpadlCreated, GpadlHeader, GpadlId, GpadlTeardown, GpadlTorndown, Guid,
    InitiateContact, MessageHeader, MessageType, NtStatus, OfferChannel, OpenChannel, OpenResult,
    RelIdReleased, RescindOffer, TargetInfo, TlConnectRequest, TlConnectResult, Version, VersionResponse,
    socket,
};
use rt::{cpu, irq, time};
use zerocopy::{FromBytes, FromZeros as _, Immutable, IntoBytes, KnownLayout};

use super::memory::Memory;
use super::ring::SPLIT;
use crate::attack::SINT_INTID;
use crate::check::Check;
use crate::hv::{self, Convention};
use crate::psci::PATIENCE;

/// Channels that are kept account of. The host numbers them from 1 on.
const CHANNELS: usize = 512;
/// Offsets in VP 0's arena: the message page with the slot of the source, and the event flags page.
const MESSAGES: usize = 0x8000;
const SLOT: usize = MESSAGES + MESSAGE_SINT as usize * 256;
const EVENTS: usize = 0xa000;

/// What the host has said of a channel.
struct Channel {
    offered: AtomicBool,
    rescinded: AtomicBool,
    /// A VP uses it, and will release it.
    used: AtomicBool,
    /// First groups of the interface and of the instance.
    interface: AtomicU32,
    instance: AtomicU32,
    /// Number among the channels of its device.
    index: AtomicU32,
    connection: AtomicU32,
    opening: AtomicU32,
}

/// Answers to a request.
const ASKED: u32 = 0;
const DONE: u32 = 1;
const REFUSED: u32 = 2;
const ENDED: u32 = 3;

static OFFERED: [Channel; CHANNELS] = [const {
    Channel {
        offered: AtomicBool::new(false),
        rescinded: AtomicBool::new(false),
        used: AtomicBool::new(false),
        interface: AtomicU32::new(0),
        instance: AtomicU32::new(0),
        index: AtomicU32::new(0),
        connection: AtomicU32::new(0),
        opening: AtomicU32::new(ASKED),
    }
}; CHANNELS];
/// State of page lists, by their ids.
static LISTS: [AtomicU32; LIST_IDS] = [const { AtomicU32::new(ASKED) }; LIST_IDS];
const LIST_IDS: usize = 64;
/// The connection is there, all offers have come, UNLOAD was answered.
static CONNECTED: AtomicU32 = AtomicU32::new(ASKED);
static COMPLETE: AtomicBool = AtomicBool::new(false);
static UNLOADED: AtomicBool = AtomicBool::new(false);
/// The port of the last endpoint whose connection was refused, by the VP in its upper byte.
static TURNED_DOWN: [AtomicU32; rt::MAX_CPUS] = [const { AtomicU32::new(0) }; rt::MAX_CPUS];

fn channel(number: u32) -> Option<&'static Channel> {
    OFFERED.get(number as usize)
}

/// Waits until the host has answered. VP 0 receives the answers meanwhile.
pub(super) fn answered(mut condition: impl FnMut() -> bool) -> bool {
    time::wait_until(PATIENCE, || {
        if cpu::index() == 0 {
            receive();
        }
        condition()
    })
}

/// Posts a message. A host without room for the answer wants it again.
pub(super) fn post(message: &[u8]) -> bool {
    let mut words = [0; 2 + MAX_MESSAGE_SIZE / 8];
    words[0] = u64::from(MESSAGE_CONNECTION_ID_4);
    words[1] = u64::from(MESSAGE_TYPE) | (message.len() as u64) << 32;
    for (word, part) in words[2..].iter_mut().zip(message.chunks(8)) {
        let mut bytes = [0; 8];
        bytes[..part.len()].copy_from_slice(part);
        *word = u64::from_le_bytes(bytes);
    }
    let input = hv::put(0, &words);
    let call = HypercallInput::from_code(Code::POST_MESSAGE);
    answered(|| hv::memory(Convention::Smccc, call, input, 0).status() == HvStatus::SUCCESS)
}

/// Makes contact, and waits for all offers. VP 0 calls.
pub(super) fn connect(check: &mut Check) {
    irq::enable(SINT_INTID, |_| ());
    for (name, value) in [
        (Name::SIMP, (hv::arena_gpa() + MESSAGES as u64) | 1),
        (Name::SIEFP, (hv::arena_gpa() + EVENTS as u64) | 1),
        (Name::SCONTROL, 1),
        (Name(Name::SINT0.0 + MESSAGE_SINT), u64::from(SINT_INTID)),
    ] {
        check.equal(name, hv::set(name, value), Ok(()));
    }
    let mut contact = InitiateContact::new_zeroed();
    contact.header = MessageHeader::new(MessageType::INITIATE_CONTACT);
    contact.version = Version::V5_3;
    contact.target_info = TargetInfo(0).with_sint(MESSAGE_SINT as u8);
    check.holds("INITIATE_CONTACT", post(contact.as_bytes()));
    check.holds("VERSION_RESPONSE", answered(|| CONNECTED.load(Ordering::Relaxed) != ASKED));
    check.equal("version 5.3", CONNECTED.load(Ordering::Relaxed), DONE);
    check.holds("REQUESTOFFERS", post(MessageHeader::new(MessageType::REQUEST_OFFERS).as_bytes()));
    check.holds("ALLOFFERS_DELIVERED", answered(|| COMPLETE.load(Ordering::Relaxed)));
}

/// Ends the connection. VP 0 calls.
pub(super) fn unload(check: &mut Check) {
    check.holds("UNLOAD", post(MessageHeader::new(MessageType::UNLOAD).as_bytes()));
    check.holds("UNLOAD_RESPONSE", answered(|| UNLOADED.load(Ordering::Relaxed)));
}

/// Takes the host's messages. VP 0 calls.
pub(super) fn receive() {
    while hv::word(SLOT) as u32 != 0 {
        let mut message = [0; MAX_MESSAGE_SIZE];
        for (at, bytes) in message.chunks_exact_mut(8).enumerate() {
            bytes.copy_from_slice(&hv::word(SLOT + 16 + at * 8).to_le_bytes());
        }
        hv::put(SLOT, &[0]);
        let ended = hv::set(Name::EOM, 0);
        assert!(ended.is_ok(), "end of message: {ended:?}");
        handle(&message);
    }
}

fn parse<T: FromBytes + KnownLayout + Immutable>(message: &[u8]) -> Option<T> {
    T::read_from_prefix(message).ok().map(|(value, _)| value)
}

fn outcome(status: NtStatus) -> u32 {
    if status == NtStatus::SUCCESS { DONE } else { REFUSED }
}

/// Returns the first group of a GUID.
pub(super) fn group(guid: Guid) -> u32 {
    let [a, b, c, d, ..] = guid.bytes;
    u32::from_le_bytes([a, b, c, d])
}

fn handle(message: &[u8]) -> Option<()> {
    let header: MessageHeader = parse(message)?;
    match header.message_type {
        MessageType::VERSION_RESPONSE => {
            let response: VersionResponse = parse(message)?;
            CONNECTED.store(if response.supported == 1 { DONE } else { REFUSED }, Ordering::Release);
        }
        MessageType::OFFER_CHANNEL => {
            let offer: OfferChannel = parse(message)?;
            let channel = channel(offer.channel.0)?;
            channel.interface.store(group(offer.offer.interface), Ordering::Relaxed);
            channel.instance.store(group(offer.offer.instance), Ordering::Relaxed);
            channel.index.store(offer.offer.subchannel_index.into(), Ordering::Relaxed);
            channel.connection.store(offer.connection, Ordering::Relaxed);
            channel.rescinded.store(false, Ordering::Relaxed);
            channel.offered.store(true, Ordering::Release);
        }
        MessageType::RESCIND_OFFER => {
            let rescind: RescindOffer = parse(message)?;
            channel(rescind.channel.0)?.rescinded.store(true, Ordering::Release);
        }
        MessageType::ALL_OFFERS_DELIVERED => COMPLETE.store(true, Ordering::Release),
        MessageType::OPEN_RESULT => {
            let result: OpenResult = parse(message)?;
            channel(result.channel.0)?.opening.store(outcome(result.status), Ordering::Release);
        }
        MessageType::GPADL_CREATED => {
            let created: GpadlCreated = parse(message)?;
            LISTS.get(created.gpadl.0 as usize)?.store(outcome(created.status), Ordering::Release);
        }
        MessageType::GPADL_TORNDOWN => {
            let torn: GpadlTorndown = parse(message)?;
            LISTS.get(torn.gpadl.0 as usize)?.store(ENDED, Ordering::Release);
        }
        MessageType::TL_CONNECT_RESULT => {
            let result: TlConnectResult = parse(message)?;
            let port = group(result.endpoint);
            TURNED_DOWN.get((port >> 24) as usize)?.store(port, Ordering::Release);
        }
        MessageType::UNLOAD_RESPONSE => UNLOADED.store(true, Ordering::Release),
        _ => {}
    }
    Some(())
}

/// Releases sub-channels that were rescinded, which nothing uses. VP 0 calls.
pub(super) fn release_unused() {
    for (number, channel) in (0..).zip(&OFFERED) {
        if channel.rescinded.load(Ordering::Acquire) && !channel.used.load(Ordering::Acquire) {
            release(number);
        }
    }
}

/// Releases a channel that was rescinded.
pub(super) fn release(number: u32) {
    let Some(channel) = channel(number) else { return };
    // Offered again it may be at once.
    channel.offered.store(false, Ordering::Relaxed);
    channel.rescinded.store(false, Ordering::Relaxed);
    channel.used.store(false, Ordering::Release);
    let header = MessageHeader::new(MessageType::RELID_RELEASED);
    post(RelIdReleased { header, channel: ChannelId(number) }.as_bytes());
}

/// Returns the first channels of the devices with this interface, in their order.
pub(super) fn primaries(interface: Guid) -> impl Iterator<Item = u32> {
    let wanted = group(interface);
    (0..).zip(&OFFERED).filter_map(move |(number, channel)| {
        let there = channel.offered.load(Ordering::Acquire)
            && channel.interface.load(Ordering::Relaxed) == wanted
            && channel.index.load(Ordering::Relaxed) == 0;
        there.then_some(number)
    })
}

/// Returns the connection that signals a channel.
pub(super) fn connection(number: u32) -> u64 {
    channel(number).map_or(0, |channel| channel.connection.load(Ordering::Relaxed)).into()
}

/// Signals a connection, whether it is one or not.
pub(super) fn signal(connection: u64) {
    hv::fast(Convention::Smccc, HypercallInput::from_code(Code::SIGNAL_EVENT), &[connection, 0]);
}

/// Connects to a host port by a socket. Returns the channel, or `None` if it is refused or never answered.
pub(super) fn connect_socket(port: u32, endpoint: u32) -> Option<u32> {
    let header = MessageHeader::new(MessageType::TL_CONNECT_REQUEST);
    let (endpoint_id, service) = (socket::service(endpoint), socket::service(port));
    post(TlConnectRequest { header, endpoint: endpoint_id, service }.as_bytes());
    let mut found = None;
    answered(|| {
        found = primaries(service)
            .find(|number| channel(*number).is_some_and(|c| c.instance.load(Ordering::Relaxed) == endpoint));
        found.is_some() || TURNED_DOWN[(endpoint >> 24) as usize].load(Ordering::Acquire) == endpoint
    });
    if let Some(channel) = found.and_then(channel) {
        channel.used.store(true, Ordering::Release);
    }
    found
}

/// Waits for the end of a socket, and releases its channel. Returns false if the host never ends it.
pub(super) fn leave(number: u32) -> bool {
    let Some(channel) = channel(number) else { return true };
    let is_offered = || channel.offered.load(Ordering::Acquire);
    let gone = answered(|| channel.rescinded.load(Ordering::Acquire) || !is_offered());
    if gone && is_offered() {
        release(number);
    }
    gone
}

/// Returns the id of a page list of a VP: 0 for that of its rings, 1 to 3 for others.
pub(super) fn list_id(vp: usize, which: usize) -> GpadlId {
    GpadlId(1 + (vp * 4 + which) as u32)
}

/// Makes a list of pages known to the host. Returns false if it refuses.
pub(super) fn establish(
    number: u32,
    list: GpadlId,
    memory: Memory,
    pages: impl ExactSizeIterator<Item = usize>,
) -> bool {
    let count = pages.len();
    let header = GpadlHeader {
        header: MessageHeader::new(MessageType::GPADL_HEADER),
        channel: ChannelId(number),
        gpadl: list,
        range_buffer_len: (8 + count * 8) as u16,
        range_count: 1,
    };
    let mut message = [0; MAX_MESSAGE_SIZE];
    message[..20].copy_from_slice(header.as_bytes());
    message[20..24].copy_from_slice(&((count * 4096) as u32).to_le_bytes());
    let end = 28 + count * 8;
    for (place, page) in message[28..end].chunks_exact_mut(8).zip(pages) {
        place.copy_from_slice(&memory.number(page).to_le_bytes());
    }
    let state = &LISTS[list.0 as usize];
    state.store(ASKED, Ordering::Relaxed);
    post(&message[..end]);
    answered(|| state.load(Ordering::Acquire) != ASKED) && state.load(Ordering::Relaxed) == DONE
}

/// Opens a channel with the rings of a list. Returns `None` if the host does not answer, else whether it is open.
pub(super) fn open(number: u32, list: GpadlId, target_vp: u32, split: u32) -> Option<bool> {
    let channel = channel(number)?;
    let mut open = OpenChannel::new_zeroed();
    open.header = MessageHeader::new(MessageType::OPEN_CHANNEL);
    (open.channel, open.open_id, open.ring_gpadl) = (ChannelId(number), number, list);
    (open.target_vp, open.downstream_page_offset) = (target_vp, split);
    channel.opening.store(ASKED, Ordering::Relaxed);
    post(open.as_bytes());
    let answered = answered(|| channel.opening.load(Ordering::Acquire) != ASKED);
    answered.then(|| channel.opening.load(Ordering::Relaxed) == DONE)
}

/// Opens a channel as a driver does, on a VP's rings.
pub(super) fn open_rings(number: u32, vp: usize, target_vp: u32) -> bool {
    let list = list_id(vp, 0);
    establish(number, list, Memory::of(vp), super::memory::RINGS)
        && open(number, list, target_vp, SPLIT) == Some(true)
}

/// Closes a channel, which has no answer.
pub(super) fn close(number: u32) {
    let header = MessageHeader::new(MessageType::CLOSE_CHANNEL);
    post(CloseChannel { header, channel: ChannelId(number) }.as_bytes());
}

/// Asks for the pages of a list back; [`is_torn_down`] waits for the answer.
pub(super) fn tear_down(number: u32, list: GpadlId) {
    LISTS[list.0 as usize].store(ASKED, Ordering::Relaxed);
    let header = MessageHeader::new(MessageType::GPADL_TEARDOWN);
    post(GpadlTeardown { header, channel: ChannelId(number), gpadl: list }.as_bytes());
}

/// Waits until the host has given the pages back.
pub(super) fn is_torn_down(list: GpadlId) -> bool {
    let state = &LISTS[list.0 as usize];
    answered(|| state.load(Ordering::Acquire) == ENDED)
}
