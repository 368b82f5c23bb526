//! A slot for one of the small devices, selected at run time.

use crate::echo::{self, Echo};
use crate::heartbeat::{self, Heartbeat};
use hv_memory::save::{Reader, RestoreError, Writer};
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::vmbus::ChannelOffer;
use hv_vmbus::{Backend, Channel, Device, Head, Io, Never, Opening, Packet, Refusal, Taken};

/// The device in the slot.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
enum Kind {
    /// All zeros, as required of the slots in a bus's static.
    Silent = 0,
    Echo,
    Heartbeat(Heartbeat),
}

/// A device without a back end.
#[derive(Clone, Copy, Debug)]
pub struct Any {
    kind: Kind,
    /// The device as configured: a reset restores it.
    first: Kind,
    /// The device at creation.
    made: Kind,
}

impl Any {
    /// None: the channel opens, and the guest's packets stay in the ring.
    pub const SILENT: Self = Self::new(Kind::Silent);
    /// [`Echo`].
    pub const ECHO: Self = Self::new(Kind::Echo);

    /// Creates a [`Heartbeat`] with this interval between beats.
    #[must_use]
    pub const fn heartbeat(interval: ReferenceTime) -> Self {
        Self::new(Kind::Heartbeat(Heartbeat::every(interval)))
    }

    const fn new(kind: Kind) -> Self {
        Self { kind, first: kind, made: kind }
    }
}

impl Any {
    /// Puts another device into the slot. A slot whose saved state is rejected has the first one again.
    pub fn replace(&mut self, other: Self) {
        *self = Self { made: self.made, ..other };
    }
}

impl Default for Any {
    fn default() -> Self {
        Self::SILENT
    }
}

/// A small device and its offer.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// The offer.
    pub channel: ChannelOffer,
    /// The device.
    pub device: Any,
}

impl Offer {
    /// [`Echo`], as it is offered.
    pub const ECHO: Self = Self { channel: echo::OFFER, device: Any::ECHO };

    /// [`Heartbeat`], as Hyper-V offers it.
    pub const HEARTBEAT: Self = Self::heartbeat(heartbeat::INTERVAL);

    /// Offers a [`Heartbeat`] with this interval between beats.
    #[must_use]
    pub const fn heartbeat(interval: ReferenceTime) -> Self {
        Self { channel: heartbeat::OFFER, device: Any::heartbeat(interval) }
    }
}

impl Device for Any {
    type Request = Never;

    const NAME: [u8; 4] = *b"any ";
    /// No limit of its own: the limit is that of the echo.
    const PACKET_LIMIT: u32 = Echo::PACKET_LIMIT;

    fn reply_len(&self, channel: Channel, head: &Head) -> Option<u32> {
        match &self.kind {
            Kind::Silent => None,
            Kind::Echo => Echo.reply_len(channel, head),
            Kind::Heartbeat(heartbeat) => heartbeat.reply_len(channel, head),
        }
    }

    fn opened<P: Backend<Never>>(
        &mut self,
        channel: Channel,
        opening: &Opening<'_>,
        io: &mut Io<'_, P, Never>,
    ) -> Result<(), Refusal> {
        match &mut self.kind {
            Kind::Silent | Kind::Echo => Ok(()),
            Kind::Heartbeat(heartbeat) => heartbeat.opened(channel, opening, io),
        }
    }

    fn live<P: Backend<Never>>(&mut self, channel: Channel, io: &mut Io<'_, P, Never>) {
        if let Kind::Heartbeat(heartbeat) = &mut self.kind {
            heartbeat.live(channel, io);
        }
    }

    fn packet<P: Backend<Never>>(
        &mut self,
        packet: &mut Packet<'_, P::Memory>,
        io: &mut Io<'_, P, Never>,
    ) -> Taken {
        match &mut self.kind {
            Kind::Silent => Taken::Later,
            Kind::Echo => Echo.packet(packet, io),
            Kind::Heartbeat(heartbeat) => heartbeat.packet(packet, io),
        }
    }

    fn deadline(&self) -> Option<ReferenceTime> {
        match &self.kind {
            Kind::Silent | Kind::Echo => None,
            Kind::Heartbeat(heartbeat) => heartbeat.deadline(),
        }
    }

    fn tick<P: Backend<Never>>(&mut self, io: &mut Io<'_, P, Never>) {
        if let Kind::Heartbeat(heartbeat) = &mut self.kind {
            heartbeat.tick(io);
        }
    }

    fn closed<P: Backend<Never>>(&mut self, channel: Channel, io: &mut Io<'_, P, Never>) {
        if let Kind::Heartbeat(heartbeat) = &mut self.kind {
            heartbeat.closed(channel, io);
        }
    }

    fn reset(&mut self) {
        self.kind = self.first;
    }

    fn renew(&mut self) {
        *self = Self::new(self.made);
    }

    fn save(&self, w: &mut Writer<'_>) {
        match &self.kind {
            Kind::Silent => w.u8(0),
            Kind::Echo => w.u8(1),
            Kind::Heartbeat(heartbeat) => {
                w.u8(2);
                heartbeat.save(w);
            }
        }
    }

    fn restore(&mut self, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        let kind = match r.u8()? {
            0 => Kind::Silent,
            1 => Kind::Echo,
            2 => {
                let mut heartbeat = Heartbeat::new();
                heartbeat.restore(r)?;
                Kind::Heartbeat(heartbeat)
            }
            _ => return Err(RestoreError::Invalid("kind of a device")),
        };
        // A reset makes it what was put here once, and not what it is in the midst of.
        let mut first = kind;
        if let Kind::Heartbeat(heartbeat) = &mut first {
            heartbeat.reset();
        }
        (self.kind, self.first) = (kind, first);
        Ok(())
    }
}
