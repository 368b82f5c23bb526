//! The shutdown service: the host asks the guest to power off, restart or hibernate in an orderly way.

use crate::ic::{self, Heard, Ic, Link, Outcome, Refused, Service};
use hv_tlfs::vmbus::ic::{
    MessageType, SHUTDOWN_FORCE, SHUTDOWN_HIBERNATE, SHUTDOWN_RESTART, Shutdown as Body, Version,
};
use hv_tlfs::vmbus::{ChannelOffer, Guid, guid};
use hv_vmbus::{Backend, BusPort, Io, Never, Packet};
use zerocopy::IntoBytes;

/// The service as Hyper-V offers it.
pub const OFFER: ChannelOffer = ic::offer(
    guid::SHUTDOWN,
    Guid::new(0xb665_0ff7, 0x33bc, 0x4840, [0x80, 0x48, 0xe0, 0x67, 0x67, 0x86, 0xf3, 0x93]),
);

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
pub type Shutdown = Ic<Requests>;

/// What is the shutdown service's own.
#[derive(Clone, Copy, Debug)]
pub struct Requests(());

impl Shutdown {
    /// Creates the service.
    #[must_use]
    pub const fn new() -> Self {
        Self::with(Requests(()))
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
        self.link.ask_padded(io, &[head.as_bytes()], size_of::<Body>())
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

impl Service for Requests {
    const NAME: [u8; 4] = *b"shut";
    const KIND: MessageType = MessageType::SHUTDOWN;
    const VERSIONS: &'static [Version] = &[
        Version { major: 3, minor: 2 },
        Version { major: 3, minor: 1 },
        Version { major: 3, minor: 0 },
        Version { major: 1, minor: 0 },
    ];
    /// Linux reads one packet per interrupt.
    const SIGNAL_EACH: bool = true;

    fn heard<P: Backend<Never>>(
        &mut self,
        link: &mut Link<Self>,
        heard: Heard,
        _: &mut Packet<'_, P::Memory>,
        io: &mut Io<'_, P, Never>,
    ) {
        if let Heard::Response(header) = heard {
            link.end(io, Outcome::Answered(header.status));
        }
    }
}
