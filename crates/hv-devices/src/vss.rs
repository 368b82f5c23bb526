//! Shadow copies: the guest's file systems are frozen while the host copies the disks.

use crate::ic::{self, FRAMEWORK_3, Heard, Ic, Link, Outcome, Refused, Service};
use hv_memory::save::{Reader, RestoreError, Writer};
use hv_tlfs::vmbus::ic::{MessageType, Version};
use hv_tlfs::vmbus::vss::{Message, Operation};
use hv_tlfs::vmbus::{ChannelOffer, Guid, guid};
use hv_vmbus::{Backend, BusPort, Io, Never, Packet};
use zerocopy::{FromZeros, IntoBytes};

/// The service as Hyper-V offers it.
pub const OFFER: ChannelOffer = ic::offer(
    guid::VSS,
    Guid::new(0x2450_ee40, 0x33bf, 0x4fbd, [0x89, 0x2e, 0x9f, 0xb0, 0x6e, 0x92, 0x14, 0xcf]),
);

/// The host side of the service.
pub type Vss = Ic<Copies>;

/// What is the service's own.
#[derive(Clone, Copy, Debug)]
pub struct Copies {
    asked: Operation,
    /// [`Message::flags`] of the last answer.
    flags: u32,
}

impl Vss {
    /// Creates the service.
    #[must_use]
    pub const fn new() -> Self {
        Self::with(Copies { asked: Operation::CREATE, flags: 0 })
    }

    /// Sends a request to the guest. Frozen file systems stay frozen until they are thawed, or the guest's program
    /// times out.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn ask<P: BusPort>(
        &mut self,
        io: &mut Io<'_, P, Never>,
        operation: Operation,
    ) -> Result<(), Refused> {
        let mut message = Message::new_zeroed();
        message.header.operation = operation;
        self.link.ask(io, &[message.as_bytes()])?;
        self.own.asked = operation;
        Ok(())
    }

    /// Takes the outcome of the last request, with the operation and the flags of the guest's answer.
    pub fn take(&mut self) -> Option<(Operation, Outcome, u32)> {
        let outcome = self.link.take()?;
        Some((self.own.asked, outcome, self.own.flags))
    }
}

impl Default for Vss {
    fn default() -> Self {
        Self::new()
    }
}

impl Service for Copies {
    const NAME: [u8; 4] = *b"vss ";
    const KIND: MessageType = MessageType::VSS;
    const FRAMEWORKS: &'static [Version] = FRAMEWORK_3;
    const VERSIONS: &'static [Version] = &[Version { major: 5, minor: 0 }];
    /// Linux reads one packet per interrupt.
    const SIGNAL_EACH: bool = true;
    /// Maximum size that Linux reads of a packet.
    const PACKET_LIMIT: u32 = 8192;

    fn heard<P: Backend<Never>>(
        &mut self,
        link: &mut Link<Self>,
        heard: Heard,
        packet: &mut Packet<'_, P::Memory>,
        io: &mut Io<'_, P, Never>,
    ) {
        if let Some(status) = link.answers(&heard) {
            let message: Option<Message> = packet.take();
            self.flags = message.as_ref().map_or(0, |message| message.flags);
            let outcome = message.map_or(Outcome::Malformed, |_| Outcome::Answered(status));
            link.end(io, outcome);
        }
    }

    fn reset(&mut self) {
        (self.asked, self.flags) = (Operation::CREATE, 0);
    }

    fn save(&self, w: &mut Writer<'_>) {
        w.u8(self.asked.0);
        w.u32(self.flags);
    }

    fn restore(&mut self, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        (self.asked, self.flags) = (Operation(r.u8()?), r.u32()?);
        Ok(())
    }
}
