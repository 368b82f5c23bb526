//! Rules on the packets of a network card's driver. Those on the messages in them are in `rndis`.

use hv_tlfs::vmbus::nvsp::{
    CONTROL_CHANNEL, DATA_CHANNEL, INVALID_INDEX, MessageType, PACKET_SIZE, PACKET_SIZE_6_1, Status, Version,
};
use hv_tlfs::vmbus::{PACKET_FLAG_COMPLETION_REQUESTED, PacketType};
use hv_vmbus::{Contents, Seen};

use super::packets::word;
use super::rndis::Rndis;
use super::{Found, rules};

/// A buffer that the host has, or is about to have. All zeros if there is none.
#[derive(Clone, Copy, Debug)]
struct Buffer {
    /// Its GPADL, and the guest's id for it.
    gpadl: u32,
    id: u16,
    /// The host has taken it.
    taken: bool,
}

impl Buffer {
    const NONE: Self = Self { gpadl: 0, id: 0, taken: false };

    /// Reads the buffer that a packet gives.
    fn given(packet: &Seen<'_>) -> Self {
        Self { gpadl: word(packet.payload, 4), id: word(packet.payload, 8) as u16, taken: false }
    }
}

/// State of a driver. All zeros at first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Driver {
    /// The version that was agreed, and the one that was proposed last; 0 for none.
    version: u32,
    proposed: u32,
    receive: Buffer,
    send: Buffer,
    /// Size of a section of the send buffer.
    section: u32,
    rndis: Rndis,
}

/// Returns the section of the send buffer with a packet's data, plus 1; 0 if there is none.
pub(super) fn section(packet: &Seen<'_>) -> u32 {
    let data = packet.from_guest && packet.kind != PacketType::COMPLETION;
    let rndis = MessageType(word(packet.payload, 0)) == MessageType::SEND_RNDIS_PACKET;
    // A packet that is too short for a section has none.
    if data && rndis && packet.len >= 16 { word(packet.payload, 8).wrapping_add(1) } else { 0 }
}

/// Returns true for the messages that guests send, other than those that no host has a use for.
const fn is_known(message: MessageType) -> bool {
    matches!(
        message,
        MessageType::INIT
            | MessageType::SEND_NDIS_VERSION
            | MessageType::SEND_RECEIVE_BUFFER
            | MessageType::REVOKE_RECEIVE_BUFFER
            | MessageType::SEND_SEND_BUFFER
            | MessageType::REVOKE_SEND_BUFFER
            | MessageType::SEND_RNDIS_PACKET
            | MessageType::SEND_NDIS_CONFIG
            | MessageType::SWITCH_DATA_PATH
            | MessageType::OID_QUERY_EX
            | MessageType::SUBCHANNEL
            | MessageType::PD_API
    )
}

/// Returns the first version that has a message.
const fn first_version(message: MessageType) -> u32 {
    match message {
        MessageType::SEND_NDIS_CONFIG => Version::V2.0,
        MessageType::SWITCH_DATA_PATH => Version::V4.0,
        MessageType::OID_QUERY_EX | MessageType::SUBCHANNEL => Version::V5.0,
        MessageType::PD_API => Version::V6.0,
        _ => 0,
    }
}

/// Returns true for a message with an answer.
const fn is_answered(message: MessageType) -> bool {
    matches!(
        message,
        MessageType::INIT
            | MessageType::SEND_RECEIVE_BUFFER
            | MessageType::SEND_SEND_BUFFER
            | MessageType::SEND_RNDIS_PACKET
            | MessageType::SUBCHANNEL
    )
}

impl Driver {
    pub(super) const NEW: Self = Self {
        version: 0,
        proposed: 0,
        receive: Buffer::NONE,
        send: Buffer::NONE,
        section: 0,
        rndis: Rndis::NEW,
    };

    /// Returns true if the host has a buffer with this GPADL.
    pub(super) const fn has(&self, gpadl: u32) -> bool {
        (self.receive.taken && self.receive.gpadl == gpadl) || (self.send.taken && self.send.gpadl == gpadl)
    }

    /// Checks a packet from the guest on the channel with this index.
    pub(super) fn request(&mut self, packet: &Seen<'_>, index: u16, found: &mut Found<'_>) {
        let message = MessageType(word(packet.payload, 0));
        if packet.kind == PacketType::COMPLETION {
            let status = word(packet.payload, 4);
            let right =
                message == MessageType::SEND_RNDIS_PACKET_COMPLETE && Status(status) == Status::SUCCESS;
            let value = u64::from(status) << 32 | u64::from(message.0);
            return found.add_if(!right, &rules::NETWORK_RETURN, value);
        }
        let least = if self.version == Version::V61.0 { PACKET_SIZE_6_1 } else { PACKET_SIZE };
        found.add_if((packet.len as usize) < least, &rules::NETWORK_SIZE, packet.len);
        if !is_known(message) {
            return found.add(&rules::NETWORK_MESSAGE, message.0);
        }
        let agreed = self.version != 0;
        found.add_if(!self.in_order(message), &rules::NETWORK_ORDER, message.0);
        let newer = agreed && self.version < first_version(message);
        found.add_if(newer, &rules::NETWORK_VERSION, message.0);
        let wanted = packet.flags == PACKET_FLAG_COMPLETION_REQUESTED;
        found.add_if(is_answered(message) && !wanted, &rules::NETWORK_COMPLETION, message.0);
        let frames = message == MessageType::SEND_RNDIS_PACKET && word(packet.payload, 4) == DATA_CHANNEL;
        found.add_if(index > 0 && !frames, &rules::NETWORK_PRIMARY, message.0);
        match message {
            MessageType::INIT => {
                let versions = [word(packet.payload, 4), word(packet.payload, 8)];
                self.proposed = versions[0];
                found.add_if(versions[0] != versions[1], &rules::NETWORK_PROPOSAL, versions[1]);
            }
            MessageType::SEND_NDIS_CONFIG => self.rndis.configure(word(packet.payload, 4)),
            MessageType::SEND_RECEIVE_BUFFER if !self.receive.taken => self.receive = Buffer::given(packet),
            MessageType::SEND_SEND_BUFFER if !self.send.taken => self.send = Buffer::given(packet),
            MessageType::REVOKE_RECEIVE_BUFFER | MessageType::REVOKE_SEND_BUFFER => {
                let id = word(packet.payload, 4) as u16;
                let receives = message == MessageType::REVOKE_RECEIVE_BUFFER;
                let buffer = if receives { &mut self.receive } else { &mut self.send };
                found.add_if(!buffer.taken || buffer.id != id, &rules::NETWORK_REVOKE, id);
                *buffer = Buffer::NONE;
                found.add_if(self.rndis.is_ready(), &rules::NETWORK_REVOKE_EARLY, id);
            }
            MessageType::SEND_RNDIS_PACKET => self.carries(packet, found),
            _ => {}
        }
    }

    /// Returns true if a message may come now.
    const fn in_order(&self, message: MessageType) -> bool {
        let agreed = self.version != 0;
        match message {
            MessageType::INIT => !agreed,
            // The sections of the receive buffer depend on it.
            MessageType::SEND_NDIS_CONFIG | MessageType::SEND_RECEIVE_BUFFER => agreed && !self.receive.taken,
            MessageType::SEND_SEND_BUFFER => agreed && !self.send.taken,
            MessageType::SEND_RNDIS_PACKET | MessageType::SUBCHANNEL => agreed && self.receive.taken,
            _ => agreed,
        }
    }

    /// Checks a packet with messages of RNDIS.
    fn carries(&self, packet: &Seen<'_>, found: &mut Found<'_>) {
        let [channel_type, section, size] = [4, 8, 12].map(|at| word(packet.payload, at));
        let known = matches!(channel_type, DATA_CHANNEL | CONTROL_CHANNEL);
        found.add_if(!known, &rules::NETWORK_CHANNEL_TYPE, channel_type);
        let named = section != INVALID_INDEX;
        let wrong = named && (!self.send.taken || size > self.section);
        found.add_if(wrong, &rules::NETWORK_SECTION, section);
        let listed = packet.listed.is_ok_and(|listed| listed.bytes == 0);
        found.add_if(listed && (!named || size == 0), &rules::NETWORK_DATA, packet.channel.0);
        if channel_type == DATA_CHANNEL {
            self.rndis.sends_frames(found);
        }
    }

    /// Follows a packet of the host. `answers`: the message that it completes.
    pub(super) fn answer(&mut self, packet: &Seen<'_>, answers: Option<u32>, found: &mut Found<'_>) {
        let Some(asked) = answers.map(MessageType) else { return };
        let message = MessageType(word(packet.payload, 0));
        let status = Status(word(packet.payload, if asked == MessageType::INIT { 12 } else { 4 }));
        let done = status == Status::SUCCESS;
        match (asked, message) {
            // A version that is refused is not a fault: the guest proposes another one.
            (MessageType::INIT, MessageType::INIT_COMPLETE) => {
                self.version = if done { self.proposed } else { self.version };
                return;
            }
            (MessageType::SEND_RECEIVE_BUFFER, MessageType::SEND_RECEIVE_BUFFER_COMPLETE) => {
                self.receive.taken |= done;
            }
            (MessageType::SEND_SEND_BUFFER, MessageType::SEND_SEND_BUFFER_COMPLETE) => {
                self.send.taken |= done;
                self.section = if done { word(packet.payload, 8) } else { self.section };
            }
            (MessageType::SEND_RNDIS_PACKET, MessageType::SEND_RNDIS_PACKET_COMPLETE)
            | (MessageType::SUBCHANNEL, MessageType::SUBCHANNEL) => {}
            _ => return,
        }
        let refused = matches!(status, Status::FAIL | Status::INVALID_RNDIS_PACKET);
        let value = u64::from(status.0) << 32 | u64::from(asked.0);
        found.add_if(refused, &rules::NETWORK_REFUSED, value);
    }

    /// Checks a message of RNDIS.
    pub(super) fn contents(&mut self, contents: &Contents<'_>, found: &mut Found<'_>) {
        self.rndis.contents(contents, found);
    }
}
