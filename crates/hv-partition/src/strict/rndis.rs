//! Rules on the messages of RNDIS in a network card's packets: as far as the card has shown what it read.

use hv_devices::network::part;
use hv_tlfs::vmbus::rndis::{
    INFO_CHECKSUM, INFO_LARGE_SEND, INFO_VLAN, InitializeRequest, LargeSend, MAJOR_VERSION, MINOR_VERSION,
    MessageHeader, MessageType, PacketMessage, PerPacketInfo, QueryRequest, SetRequest, Status,
    TransmitChecksum, VlanInfo,
};
use hv_vmbus::Contents;
use zerocopy::FromBytes;

use super::packets::word;
use super::{Found, rules};

/// Offsets in a message count from its body.
const BODY: usize = size_of::<MessageHeader>();
/// Length of the header of a frame's message.
const HEADER: u32 = (size_of::<MessageHeader>() + size_of::<PacketMessage>()) as u32;
/// Length of a frame's header, and of a VLAN tag.
const ETHERNET: u32 = 14;
const TAG: u32 = 4;
/// Maximum length of a frame before the guest has configured another.
const DEFAULT_FRAME: u32 = 1514;
/// Requests that are followed until their answers.
const REQUESTS: usize = 4;
/// Number of a VLAN that is reserved.
const RESERVED_VLAN: u16 = 0xfff;

/// A request without an answer. All zeros if there is none.
#[derive(Clone, Copy, Debug)]
struct Request {
    message: u32,
    id: u32,
    oid: u32,
}

impl Request {
    const NONE: Self = Self { message: 0, id: 0, oid: 0 };
}

/// What is known of a card. All zeros at first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rndis {
    /// It is initialized.
    ready: bool,
    /// Maximum length of a frame as the guest has configured it, or 0.
    longest: u32,
    requests: [Request; REQUESTS],
}

/// Returns the length of a request with its header; `None` for a message that guests do not send.
const fn length_of(message: MessageType) -> Option<u32> {
    Some(match message {
        MessageType::INITIALIZE => 24,
        MessageType::QUERY | MessageType::SET => 28,
        MessageType::HALT | MessageType::RESET | MessageType::KEEPALIVE => 12,
        MessageType::KEEPALIVE_COMPLETE => 16,
        _ => return None,
    })
}

const _: () = assert!(BODY + size_of::<InitializeRequest>() == 24);
const _: () = assert!(BODY + size_of::<QueryRequest>() == 28 && BODY + size_of::<SetRequest>() == 28);

/// Returns true if some bytes lie in `all` bytes and not before `first`.
fn lies_within(offset: u32, len: u32, first: usize, all: u64) -> bool {
    offset as usize >= first && u64::from(offset) + u64::from(len) <= all
}

impl Rndis {
    pub(super) const NEW: Self = Self { ready: false, longest: 0, requests: [Request::NONE; REQUESTS] };

    /// Records the maximum length of a frame that the guest configures.
    pub(super) const fn configure(&mut self, longest: u32) {
        self.longest = longest;
    }

    /// Returns true if the card is initialized.
    pub(super) const fn is_ready(&self) -> bool {
        self.ready
    }

    /// Checks that the guest may send frames.
    pub(super) fn sends_frames(&self, found: &mut Found<'_>) {
        found.add_if(!self.ready, &rules::RNDIS_ORDER, MessageType::PACKET.0);
    }

    /// Checks a message.
    pub(super) fn contents(&mut self, contents: &Contents<'_>, found: &mut Found<'_>) {
        match (contents.part, contents.from_guest) {
            (part::CONTROL, true) => self.control(contents, found),
            (part::CONTROL, false) => self.answer(contents.bytes, found),
            (part::MESSAGE, true) => self.frame(contents, found),
            _ => {}
        }
    }

    /// Checks a control message of the guest.
    fn control(&mut self, contents: &Contents<'_>, found: &mut Found<'_>) {
        let bytes = contents.bytes;
        let (message, length) = (MessageType(word(bytes, 0)), word(bytes, 4));
        let Some(least) = length_of(message) else { return found.add(&rules::RNDIS_MESSAGE, message.0) };
        if !(least..=contents.len).contains(&length) {
            return found.add(&rules::RNDIS_LENGTH, length);
        }
        let in_order = match message {
            MessageType::INITIALIZE => !self.ready,
            // An initialization that failed is taken back by a halt.
            MessageType::HALT | MessageType::KEEPALIVE_COMPLETE => true,
            _ => self.ready,
        };
        found.add_if(!in_order, &rules::RNDIS_ORDER, message.0);
        let (id, oid) = (word(bytes, BODY), word(bytes, BODY + 4));
        match message {
            MessageType::INITIALIZE => {
                let (major, minor) = (word(bytes, BODY + 4), word(bytes, BODY + 8));
                let version = u64::from(major) << 32 | u64::from(minor);
                found.add_if(
                    (major, minor) != (MAJOR_VERSION, MINOR_VERSION),
                    &rules::RNDIS_VERSION,
                    version,
                );
            }
            MessageType::HALT => {
                (self.ready, self.requests) = (false, [Request::NONE; REQUESTS]);
                return;
            }
            MessageType::QUERY | MessageType::SET => {
                let (len, offset) = (word(bytes, BODY + 8), word(bytes, BODY + 12));
                let all = u64::from(length) - BODY as u64;
                let inside = lies_within(offset, len, size_of::<SetRequest>(), all);
                found.add_if(len > 0 && !inside, &rules::RNDIS_INFORMATION, oid);
            }
            MessageType::KEEPALIVE => {}
            // A reset has no number, and the answer to the host's own question has one of the host's.
            _ => return,
        }
        let twice = self.requests.iter().any(|request| request.message != 0 && request.id == id);
        found.add_if(twice, &rules::RNDIS_REQUEST, id);
        if let Some(place) = self.requests.iter_mut().find(|request| request.message == 0) {
            *place = Request { message: message.0, id, oid };
        }
    }

    /// Follows a control message of the host.
    fn answer(&mut self, bytes: &[u8], found: &mut Found<'_>) {
        let message = MessageType(word(bytes, 0));
        if message.0 & MessageType::COMPLETION.0 == 0 || message == MessageType::RESET_COMPLETE {
            return;
        }
        let (id, status) = (word(bytes, BODY), Status(word(bytes, BODY + 4)));
        let asked = message.0 & !MessageType::COMPLETION.0;
        let same = |request: &&mut Request| request.message == asked && request.id == id;
        let Some(place) = self.requests.iter_mut().find(same) else { return };
        let request = core::mem::replace(place, Request::NONE);
        if message == MessageType::INITIALIZE_COMPLETE {
            self.ready |= status == Status::SUCCESS;
        }
        // A card that is not initialized refuses everything.
        let refused = status != Status::SUCCESS && status != Status::ADAPTER_NOT_READY;
        let rule = match message {
            MessageType::SET_COMPLETE => &rules::RNDIS_SET,
            MessageType::QUERY_COMPLETE => &rules::RNDIS_QUERY,
            _ => return,
        };
        found.add_if(refused, rule, request.oid);
    }

    /// Checks the message of a frame.
    fn frame(&self, contents: &Contents<'_>, found: &mut Found<'_>) {
        let Ok((header, rest)) = MessageHeader::read_from_prefix(contents.bytes) else {
            return found.add(&rules::RNDIS_FRAME, contents.len);
        };
        let length = header.length;
        let Ok((packet, _)) = PacketMessage::read_from_prefix(rest) else {
            return found.add(&rules::RNDIS_FRAME, length);
        };
        let all = u64::from(length).saturating_sub(BODY as u64);
        let inside = |offset, len| lies_within(offset, len, size_of::<PacketMessage>(), all);
        let has_info = packet.info_offset != 0 && packet.info_length != 0;
        let whole = header.message_type == MessageType::PACKET && (HEADER..=contents.len).contains(&length);
        let informed = !has_info || inside(packet.info_offset, packet.info_length);
        if !whole || !informed || !inside(packet.data_offset, packet.data_length) {
            return found.add(&rules::RNDIS_FRAME, length);
        }
        let zeros = [
            packet.oob_data_offset,
            packet.oob_data_length,
            packet.oob_elements,
            packet.vc_handle,
            packet.reserved,
        ];
        found.add_if(zeros != [0; 5], &rules::RNDIS_FRAME_RESERVED, length);
        let longest = if self.longest == 0 { DEFAULT_FRAME } else { self.longest };
        let mut large = false;
        if has_info {
            let from = BODY + packet.info_offset as usize;
            let shown = contents.bytes.get(from..).unwrap_or_default();
            large = infos(shown, packet.info_length, longest, found);
        }
        let bytes = packet.data_length;
        let long = !large && bytes > longest.saturating_add(TAG);
        found.add_if(bytes < ETHERNET || long, &rules::RNDIS_FRAME_LENGTH, bytes);
    }
}

/// Checks the information about a frame: `len` bytes, of which these first ones are known. Returns true if it makes a
/// large send of it.
fn infos(shown: &[u8], len: u32, longest: u32, found: &mut Found<'_>) -> bool {
    let (mut rest, mut left) = (shown, len as usize);
    // A bit for each kind.
    let mut kinds = 0_u32;
    let mut large = false;
    while left > 0 {
        let Ok((info, _)) = PerPacketInfo::read_from_prefix(rest) else { break };
        let (size, offset, kind) = (info.size as usize, info.value_offset as usize, info.info_type);
        let own = size_of::<PerPacketInfo>();
        if size < own || size > left || !size.is_multiple_of(4) || offset < own || offset > size {
            found.add(&rules::RNDIS_INFO, kind);
            break;
        }
        let bit = 1_u32.checked_shl(kind).unwrap_or(0);
        found.add_if(kinds & bit != 0, &rules::RNDIS_INFO_REPEATED, kind);
        kinds |= bit;
        let known = matches!(kind, INFO_CHECKSUM | INFO_LARGE_SEND | INFO_VLAN);
        if known && offset + size_of::<u32>() > size {
            found.add(&rules::RNDIS_INFO, kind);
            break;
        }
        // What is not shown of it is not judged.
        let Some(value) = rest.get(..size).map(|info| word(info, offset)) else { break };
        match kind {
            INFO_CHECKSUM => checksum(TransmitChecksum(value), found),
            INFO_LARGE_SEND => {
                large = true;
                let cut = LargeSend(value);
                let mss = cut.mss() > 0 && cut.mss() <= longest;
                let right = cut.version2() && mss && u32::from(cut.tcp_header_offset()) > ETHERNET;
                found.add_if(!right, &rules::RNDIS_LARGE_SEND, value);
            }
            INFO_VLAN => {
                let reserved = VlanInfo(value).vlan_id() == RESERVED_VLAN;
                found.add_if(reserved, &rules::RNDIS_VLAN, value);
            }
            _ => {}
        }
        (rest, left) = (&rest[size..], left - size);
    }
    large
}

/// Checks which checksums the card is to compute.
fn checksum(wanted: TransmitChecksum, found: &mut Found<'_>) {
    let transport = wanted.tcp_checksum() || wanted.udp_checksum();
    let one = wanted.is_ipv4() != wanted.is_ipv6() && !(wanted.tcp_checksum() && wanted.udp_checksum());
    let placed = !transport || u32::from(wanted.tcp_header_offset()) > ETHERNET;
    found.add_if(!one || !placed, &rules::RNDIS_CHECKSUM, wanted.0);
}
