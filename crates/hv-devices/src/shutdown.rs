//! The shutdown service: the host asks the guest to power off, restart or hibernate in an orderly way.

use crate::ic::{self, FRAMEWORKS, Heard, Link, Outcome, Refused, Service, State};
use hv_memory::save::{Reader, RestoreError, Writer};
use hv_tlfs::vmbus::ic::{
    MessageType, SHUTDOWN_FORCE, SHUTDOWN_HIBERNATE, SHUTDOWN_RESTART, Shutdown as Body, Version,
};
use hv_tlfs::vmbus::{ChannelOffer, Guid, PipeMode, guid};
use hv_vmbus::{Backend, BusPort, Channel, Device, Io, Never, Opening, Packet, Refusal, Taken, offer, pipe};
use zerocopy::IntoBytes;

/// The service as Hyper-V offers it.
pub const OFFER: ChannelOffer = pipe(
    offer(
        guid::SHUTDOWN,
        Guid::new(0xb665_0ff7, 0x33bc, 0x4840, [0x80, 0x48, 0xe0, 0x67, 0x67, 0x86, 0xf3, 0x93]),
    ),
    PipeMode::MESSAGE,
);

/// The service, to the common part.
#[derive(Clone, Copy, Debug)]
enum Kind {}

impl ic::Kind for Kind {
    const SERVICE: Service = Service {
        kind: MessageType::SHUTDOWN,
        frameworks: FRAMEWORKS,
        versions: &[
            Version { major: 3, minor: 2 },
            Version { major: 3, minor: 1 },
            Version { major: 3, minor: 0 },
            Version { major: 1, minor: 0 },
        ],
    };
}

/// A request to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Power off.
    PowerOff,
    /// Restart; from version 3.1 of the service on.
    Restart,
    /// Hibernate; from version 3.2 on.
    Hibernate,
}

impl Action {
    /// Returns its flag, and the first version that has it.
    const fn wire(self) -> (u32, Version) {
        match self {
            Self::PowerOff => (0, Version { major: 1, minor: 0 }),
            Self::Restart => (SHUTDOWN_RESTART, Version { major: 3, minor: 1 }),
            Self::Hibernate => (SHUTDOWN_HIBERNATE, Version { major: 3, minor: 2 }),
        }
    }
}

/// The host side of the service.
#[derive(Clone, Copy, Debug)]
pub struct Shutdown {
    link: Link<Kind>,
}

impl Shutdown {
    /// Creates the service.
    #[must_use]
    pub const fn new() -> Self {
        Self { link: Link::new() }
    }

    /// Returns the state of the guest's driver.
    #[must_use]
    pub const fn state(&self) -> State {
        self.link.state()
    }

    /// Sends a request to the guest; `force`: without asking its programs. The [`outcome`](Self::take) tells whether it
    /// complies.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn ask<P: BusPort>(
        &mut self,
        io: &mut Io<'_, P, Never>,
        action: Action,
        force: bool,
    ) -> Result<(), Refused> {
        let (flag, since) = action.wire();
        if self.link.version().is_some_and(|v| (v.major, v.minor) < (since.major, since.minor)) {
            return Err(Refused::Unsupported);
        }
        let flags = flag | if force { SHUTDOWN_FORCE } else { 0 };
        // Everything except the text: Linux requires the whole message, and shows no text.
        let head: [u32; 3] = [0, 0, flags];
        self.link.ask(io, &[head.as_bytes(), &[0; size_of::<Body>() - size_of::<[u32; 3]>()]])
    }

    /// Takes the outcome of the last request.
    pub fn take(&mut self) -> Option<Outcome> {
        self.link.take()
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Device for Shutdown {
    type Request = Never;

    const NAME: [u8; 4] = *b"shut";
    /// Linux reads one packet per interrupt.
    const SIGNAL_EACH: bool = true;

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
        if let Some(Heard::Response(header)) = self.link.hear(packet, io) {
            self.link.end(io, Outcome::Answered(header.status));
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
        self.link.reset();
    }

    fn save(&self, w: &mut Writer<'_>) {
        self.link.save(w);
    }

    fn restore(&mut self, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        self.link.restore(r)
    }
}
