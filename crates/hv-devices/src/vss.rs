//! Shadow copies: the guest's file systems are frozen while the host copies the disks.

use crate::ic::{self, FRAMEWORK_3, Heard, Link, Outcome, Refused, Service, State};
use hv_memory::save::{Reader, RestoreError, Writer};
use hv_tlfs::vmbus::ic::{MessageType, Version};
use hv_tlfs::vmbus::vss::{Message, Operation};
use hv_tlfs::vmbus::{ChannelOffer, Guid, PipeMode, guid};
use hv_vmbus::{Backend, BusPort, Channel, Device, Io, Never, Opening, Packet, Refusal, Taken, offer, pipe};
use zerocopy::{FromZeros, IntoBytes};

/// The service as Hyper-V offers it.
pub const OFFER: ChannelOffer = pipe(
    offer(
        guid::VSS,
        Guid::new(0x2450_ee40, 0x33bf, 0x4fbd, [0x89, 0x2e, 0x9f, 0xb0, 0x6e, 0x92, 0x14, 0xcf]),
    ),
    PipeMode::MESSAGE,
);

/// The service, to the common part.
#[derive(Clone, Copy, Debug)]
enum Kind {}

impl ic::Kind for Kind {
    const SERVICE: Service = Service {
        kind: MessageType::VSS,
        frameworks: FRAMEWORK_3,
        versions: &[Version { major: 5, minor: 0 }],
    };
}

/// The host side of the service.
#[derive(Clone, Copy, Debug)]
pub struct Vss {
    link: Link<Kind>,
    asked: Operation,
    /// [`Message::flags`] of the last answer.
    flags: u32,
}

impl Vss {
    /// Creates the service.
    #[must_use]
    pub const fn new() -> Self {
        Self { link: Link::new(), asked: Operation::CREATE, flags: 0 }
    }

    /// Returns the state of the guest's driver.
    #[must_use]
    pub const fn state(&self) -> State {
        self.link.state()
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
        self.asked = operation;
        Ok(())
    }

    /// Takes the outcome of the last request, with the operation and the flags of the guest's answer.
    pub fn take(&mut self) -> Option<(Operation, Outcome, u32)> {
        let outcome = self.link.take()?;
        Some((self.asked, outcome, self.flags))
    }
}

impl Default for Vss {
    fn default() -> Self {
        Self::new()
    }
}

impl Device for Vss {
    type Request = Never;

    const NAME: [u8; 4] = *b"vss ";
    /// Linux reads one packet per interrupt.
    const SIGNAL_EACH: bool = true;
    /// Maximum size that Linux reads of a packet.
    const PACKET_LIMIT: u32 = 8192;

    fn opened<P: Backend<Never>>(
        &mut self,
        _: Channel,
        _: &Opening<'_>,
        _: &mut Io<'_, P, Never>,
    ) -> Result<(), Refusal> {
        self.link.opened();
        Ok(())
    }

    fn packet<P: Backend<Never>>(
        &mut self,
        packet: &mut Packet<'_, P::Memory>,
        io: &mut Io<'_, P, Never>,
    ) -> Taken {
        if let Some(Heard::Response(header)) = self.link.hear(packet, io)
            && self.link.is_waiting()
        {
            let message: Option<Message> = packet.take();
            self.flags = message.as_ref().map_or(0, |message| message.flags);
            let outcome = message.map_or(Outcome::Malformed, |_| Outcome::Answered(header.status));
            self.link.end(io, outcome);
        }
        Taken::Done
    }

    fn deadline(&self) -> Option<u64> {
        self.link.deadline()
    }

    fn tick<P: Backend<Never>>(&mut self, io: &mut Io<'_, P, Never>) {
        self.link.tick(io);
    }

    fn closed<P: Backend<Never>>(&mut self, _: Channel, io: &mut Io<'_, P, Never>) {
        self.link.closed(io);
    }

    fn reset(&mut self) {
        *self = Self::new();
    }

    fn save(&self, w: &mut Writer<'_>) {
        self.link.save(w);
        w.u8(self.asked.0);
        w.u32(self.flags);
    }

    fn restore(&mut self, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        self.link.restore(r)?;
        (self.asked, self.flags) = (Operation(r.u8()?), r.u32()?);
        Ok(())
    }
}
