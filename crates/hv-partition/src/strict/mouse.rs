//! Rules on the packets of a mouse's driver.

use hv_tlfs::vmbus::PacketType;
use hv_tlfs::vmbus::ic::PipeHeader;
use hv_tlfs::vmbus::mouse::{DeviceInfoAck, HidHeader, MessageType, ProtocolRequest};
use hv_vmbus::Seen;

use super::packets::word;
use super::{Found, rules};

/// Offset of a message in a packet, and of its body.
const MESSAGE: usize = size_of::<PipeHeader>();
const BODY: usize = MESSAGE + size_of::<HidHeader>();

/// Progress of a driver. All zeros at first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Driver {
    /// The host has accepted a version.
    accepted: bool,
    /// The host has described the device, and the driver has not acknowledged it.
    described: bool,
}

impl Driver {
    pub(super) const NEW: Self = Self { accepted: false, described: false };

    /// Follows a packet of the host.
    pub(super) fn answer(&mut self, packet: &Seen<'_>) {
        if packet.kind != PacketType::DATA_IN_BAND {
            return;
        }
        match MessageType(word(packet.payload, MESSAGE)) {
            // The byte after the version.
            MessageType::PROTOCOL_RESPONSE => self.accepted = word(packet.payload, BODY + 4) & 0xff != 0,
            MessageType::DEVICE_INFO => self.described = true,
            _ => {}
        }
    }

    /// Checks a packet of the guest.
    pub(super) fn message(&mut self, packet: &Seen<'_>, found: &mut Found<'_>) {
        let kind = MessageType(word(packet.payload, MESSAGE));
        let size = word(packet.payload, 4);
        let (length, early) = match kind {
            MessageType::PROTOCOL_REQUEST => (size_of::<ProtocolRequest>(), self.accepted),
            MessageType::DEVICE_INFO_ACK => {
                (size_of::<DeviceInfoAck>(), !core::mem::take(&mut self.described))
            }
            _ => return found.add(&rules::MOUSE_MESSAGE, kind.0),
        };
        // The header counts what is after it.
        let counted = (word(packet.payload, MESSAGE + 4) as usize).checked_add(size_of::<HidHeader>());
        let whole =
            packet.kind == PacketType::DATA_IN_BAND && size as usize == length && counted == Some(length);
        found.add_if(!whole, &rules::MOUSE_FORM, size);
        found.add_if(early, &rules::MOUSE_ORDER, kind.0);
    }
}
