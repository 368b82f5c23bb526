//! The one file of a new device: it adds numbers.
//!
//! A packet has 32-bit numbers, little-endian; its completion has their sum, which wraps. The total since the channel
//! was opened is saved with the machine.

use hv_memory::save::{Reader, RestoreError, Writer};
use hv_tlfs::vmbus::{ChannelOffer, Guid};
use hv_vmbus::{Backend, Channel, Device, Head, Io, Never, Packet, Taken, offer};

const INTERFACE: Guid = Guid::new(0x2f6a_9c04, 0x51d7, 0x4b1e, [0x90, 0x3b, 0, 0, b'a', b'd', b'd', b'r']);

/// What the guest is offered.
pub(crate) const OFFER: ChannelOffer = offer(INTERFACE, INTERFACE);

pub(crate) struct Adder {
    /// Sum of all packets.
    pub(crate) total: u32,
}

impl Adder {
    pub(crate) const fn new() -> Self {
        Self { total: 0 }
    }
}

impl Device for Adder {
    type Request = Never;

    const NAME: [u8; 4] = *b"addr";

    /// Returns the length of the sum with which every packet is answered: room for it is reserved before the packet is
    /// taken.
    fn reply_len(&self, _: Channel, _: &Head) -> Option<u32> {
        Some(4)
    }

    fn packet<P: Backend<Never>>(
        &mut self,
        packet: &mut Packet<'_, P::Memory>,
        io: &mut Io<'_, P, Never>,
    ) -> Taken {
        let mut sum = 0u32;
        while let Some(number) = packet.take::<u32>() {
            sum = sum.wrapping_add(number);
        }
        self.total = self.total.wrapping_add(sum);
        // An answer within what was reserved has room.
        let _ = io.complete(packet, &sum.to_le_bytes());
        Taken::Done
    }

    fn reset(&mut self) {
        *self = Self::new();
    }

    fn save(&self, w: &mut Writer<'_>) {
        w.u32(self.total);
    }

    fn restore(&mut self, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        self.total = r.u32()?;
        Ok(())
    }
}
