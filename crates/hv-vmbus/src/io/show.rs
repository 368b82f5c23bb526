//! What a device shows an observer: the data of packets, which the bus itself never looks at.

use super::Context;
use crate::id::Channel;
use crate::packet::Answer;
use crate::port::BusPort;
use crate::seen::{CONTENTS_BYTES, Contents};

impl<P: BusPort> Context<'_, P> {
    /// Returns true if an observer is shown the data of packets. Nothing needs to be collected for it otherwise.
    #[must_use]
    pub fn is_observed(&self) -> bool {
        self.env.observed
    }

    /// Shows an observer a part of the data of a packet from the guest: `len` bytes, of which the device has read these
    /// first ones.
    pub fn show_read(&self, of: &impl Answer, part: u8, len: u32, bytes: &[u8]) {
        let ticket = of.ticket();
        self.show(ticket.line, true, ticket.transaction, (part, len, bytes));
    }

    /// Shows an observer a part of the data of a packet to the guest: `len` bytes, of which these are the first ones.
    /// `transaction`: the packet's id, which may be sent after this, or 0 if it has none yet.
    pub fn show_written(&self, channel: Channel, transaction: u64, part: u8, len: u32, bytes: &[u8]) {
        self.show(channel.index(), false, transaction, (part, len, bytes));
    }

    fn show(&self, line: usize, from_guest: bool, transaction: u64, (part, len, bytes): (u8, u32, &[u8])) {
        if !self.env.observed {
            return;
        }
        let Some(this) = self.lines.get(line) else { return };
        self.env.port.contents(&Contents {
            channel: self.env.place.id(line),
            interface: this.offer.interface,
            from_guest,
            transaction,
            part,
            len,
            bytes: &bytes[..bytes.len().min(CONTENTS_BYTES)],
        });
    }
}
