//! Rules on the packets of a socket's driver.

use hv_tlfs::vmbus::PacketType;
use hv_tlfs::vmbus::socket::MAX_PAYLOAD;
use hv_vmbus::Seen;

use super::packets::word;
use super::{Found, rules};

/// The guest's direction of a stream. All zeros at first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Direction {
    /// The guest has ended it.
    ended: bool,
}

impl Direction {
    pub(super) const NEW: Self = Self { ended: false };

    /// Checks a packet of the guest.
    pub(super) fn sent(&mut self, packet: &Seen<'_>, found: &mut Found<'_>) {
        if packet.kind != PacketType::DATA_IN_BAND || packet.flags != 0 {
            return found.add(&rules::SOCKET_PACKET, packet.kind.0);
        }
        let bytes = word(packet.payload, 4);
        found.add_if(bytes > MAX_PAYLOAD, &rules::SOCKET_PAYLOAD, bytes);
        found.add_if(self.ended, &rules::SOCKET_END, bytes);
        self.ended |= bytes == 0;
    }
}
