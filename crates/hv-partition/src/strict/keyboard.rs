//! Rules on the packets of a keyboard's driver.

use hv_tlfs::vmbus::PacketType;
use hv_tlfs::vmbus::keyboard::{ACCEPTED, MessageType, ProtocolRequest};
use hv_vmbus::Seen;

use super::packets::word;
use super::{Found, rules};

/// Progress of a driver. All zeros at first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Driver {
    /// The host has accepted a version.
    accepted: bool,
}

impl Driver {
    pub(super) const NEW: Self = Self { accepted: false };

    /// Follows a packet of the host.
    pub(super) fn answer(&mut self, packet: &Seen<'_>) {
        let kind = MessageType(word(packet.payload, 0));
        if packet.kind == PacketType::DATA_IN_BAND && kind == MessageType::PROTOCOL_RESPONSE {
            self.accepted = word(packet.payload, 4) & ACCEPTED != 0;
        }
    }

    /// Checks a packet of the guest.
    pub(super) fn message(&self, packet: &Seen<'_>, found: &mut Found<'_>) {
        if packet.kind != PacketType::DATA_IN_BAND || (packet.len as usize) < size_of::<ProtocolRequest>() {
            return found.add(&rules::KEYBOARD_FORM, packet.len);
        }
        let kind = MessageType(word(packet.payload, 0));
        let early = match kind {
            MessageType::PROTOCOL_REQUEST => self.accepted,
            MessageType::LED_INDICATORS => !self.accepted,
            _ => return found.add(&rules::KEYBOARD_MESSAGE, kind.0),
        };
        found.add_if(early, &rules::KEYBOARD_ORDER, kind.0);
    }
}
