//! A device for tests: it returns the packets it receives.
//!
//! In-band packets are returned with the same payload and transaction id: as completions if one was requested, else
//! in-band. For other types the completion is empty, and also for a packet that the other ring cannot hold.

use hv_tlfs::vmbus::{ChannelOffer, Guid, PacketType};
use hv_vmbus::{Backend, Channel, Device, Head, Io, Never, Packet, SendError, Taken, offer};

/// Interface of [`OFFER`]; its last bytes spell "hvecho".
pub const INTERFACE: Guid =
    Guid::new(0x7b1f_3c52, 0x9d0e, 0x4c66, [0xa4, 0x11, 0x68, 0x76, 0x65, 0x63, 0x68, 0x6f]);

/// A device of this project: no stock guest has a driver for it.
pub const OFFER: ChannelOffer = offer(INTERFACE, INTERFACE);

/// The device. It has no state.
#[derive(Clone, Copy, Debug, Default)]
pub struct Echo;

/// Returns the size of the payload of an answer.
fn returned(head: &Head) -> u32 {
    if head.kind == PacketType::DATA_IN_BAND && head.len <= head.longest { head.len } else { 0 }
}

impl Device for Echo {
    type Request = Never;

    const NAME: [u8; 4] = *b"echo";
    /// No limit: packets come back whole.
    const PACKET_LIMIT: u32 = u32::MAX;

    fn reply_len(&self, _: Channel, head: &Head) -> Option<u32> {
        let in_band = head.kind == PacketType::DATA_IN_BAND;
        (in_band || head.wants_completion).then_some(returned(head))
    }

    fn packet<P: Backend<Never>>(
        &mut self,
        packet: &mut Packet<'_, P::Memory>,
        io: &mut Io<'_, P, Never>,
    ) -> Taken {
        let outcome = match packet.kind() {
            PacketType::DATA_IN_BAND => io.reflect(packet, packet.left() as u32),
            _ => io.complete(packet, &[]),
        };
        if outcome == Err(SendError::TooLong) {
            let _ = io.reflect(packet, 0);
        }
        Taken::Done
    }

    fn reset(&mut self) {}
}
