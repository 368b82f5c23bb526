//! The common part of the integration services: version negotiation, and one request at a time.
//!
//! The host starts: it offers versions of the framework and of the service, and the guest selects one of each. Every
//! later message from the host is a transaction, which the guest returns as its response, with a status. Unexpected
//! responses are ignored.

mod service;

use core::fmt;
use core::marker::PhantomData;
use hv_memory::GuestMemory;
use hv_memory::save::{Reader, RestoreError, Writer};
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::vmbus::ic::{
    FLAG_REQUEST, FLAG_RESPONSE, FLAG_TRANSACTION, Header, MessageType, Negotiate, Status, Version,
};
use hv_tlfs::vmbus::{ChannelOffer, Guid, PacketType, PipeMode};
use hv_vmbus::{BusPort, Channel, Context, Message, Packet, SendError};
use zerocopy::{FromZeros, IntoBytes};

/// Note for the observer: a service has an outcome for its embedder. The value is that of [`Outcome::number`].
pub const READY: u32 = 2;
/// Note for the observer: the guest has selected a version of the service. The value is the version: major number in
/// bits 31 to 16, minor number below.
pub const AGREED: u32 = 3;
/// Note for the observer: a packet from the guest had no meaning, and was ignored. The value is its length in bytes,
/// without the descriptor.
pub const IGNORED: u32 = 5;

pub use service::Ic;
pub(crate) use service::Service;

/// Returns the offer of a service.
pub(crate) const fn offer(class: Guid, instance: Guid) -> ChannelOffer {
    hv_vmbus::pipe(hv_vmbus::offer(class, instance), PipeMode::MESSAGE)
}

/// Versions of the framework (Linux 6.12, drivers/hv/hv_util.c).
pub(crate) const FRAMEWORKS: &[Version] = &[Version { major: 3, minor: 0 }, Version { major: 1, minor: 0 }];
/// Only the newer of them.
pub(crate) const FRAMEWORK_3: &[Version] = &[Version { major: 3, minor: 0 }];

/// State of the guest's driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It has not opened the channel, or does not know yet that it is open.
    Closed,
    /// It knows, and the versions have yet to be offered.
    Start,
    /// It has to choose. A driver that waits for a program in the guest stays in this state until the program is
    /// running.
    Negotiating,
    /// It accepts requests.
    Ready {
        /// Version of the framework.
        framework: Version,
        /// Version of the service.
        version: Version,
    },
    /// It supports none of the versions.
    Incompatible,
}

/// Reason why a request was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// The guest has no driver for the service.
    Closed,
    /// The driver has not chosen a version: a program that it needs in the guest is not running.
    Negotiating,
    /// The driver supports none of the versions.
    Incompatible,
    /// The guest has not answered the last request, or its answer has not been taken.
    Busy,
    /// The negotiated version does not have this request.
    Unsupported,
    /// The request is invalid: a text is too long or not terminated.
    Invalid,
    /// The guest does not read its ring.
    Full,
}

/// Outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The guest answered with this status.
    Answered(Status),
    /// The guest's answer is invalid.
    Malformed,
    /// The guest closed the channel first.
    Closed,
}

impl Outcome {
    /// Returns the outcome as a number for observers: the status, or a number above all of them.
    #[must_use]
    pub const fn number(self) -> u64 {
        match self {
            Self::Answered(status) => status.0 as u64,
            Self::Malformed => 1 << 32,
            Self::Closed => 2 << 32,
        }
    }

    fn from_number(number: u64) -> Option<Self> {
        match number {
            0..=0xffff_ffff => Some(Self::Answered(Status(number as u32))),
            _ if number == Self::Malformed.number() => Some(Self::Malformed),
            _ if number == Self::Closed.number() => Some(Self::Closed),
            _ => None,
        }
    }
}

/// A message from the guest.
pub(crate) enum Heard {
    /// It has chosen versions, or none.
    Versions,
    /// It answers a request. What follows the header has not been read yet.
    Response(Header),
}

/// The host's end of a service. A new one is all zeros, so that one in a static takes no room in a program's file.
pub(crate) struct Link<K> {
    state: State,
    /// A request is pending.
    waiting: bool,
    /// There is an outcome.
    ended: bool,
    /// [`Outcome::number`] of it.
    outcome: u64,
    kind: PhantomData<K>,
}

impl<K> Clone for Link<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Link<K> {}

impl<K> fmt::Debug for Link<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("state", &self.state)
            .field("waiting", &self.waiting)
            .field("outcome", &self.outcome())
            .finish()
    }
}

impl<K> Link<K> {
    pub(crate) const fn new() -> Self {
        Self { state: State::Closed, waiting: false, ended: false, outcome: 0, kind: PhantomData }
    }

    pub(crate) const fn state(&self) -> State {
        self.state
    }

    /// Returns the negotiated version of the service.
    pub(crate) const fn version(&self) -> Option<Version> {
        match self.state {
            State::Ready { version, .. } => Some(version),
            _ => None,
        }
    }

    pub(crate) const fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// Returns the outcome of the last request without taking it.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        Outcome::from_number(self.outcome).filter(|_| self.ended)
    }
}

/// What the host offers of a service.
#[derive(Clone, Copy)]
struct Protocol {
    kind: MessageType,
    frameworks: &'static [Version],
    versions: &'static [Version],
}

impl Protocol {
    fn offers(&self, framework: Version, version: Version) -> bool {
        self.frameworks.contains(&framework) && self.versions.contains(&version)
    }
}

impl<K: Service> Link<K> {
    const PROTOCOL: &'static Protocol =
        &Protocol { kind: K::KIND, frameworks: K::FRAMEWORKS, versions: K::VERSIONS };

    /// Begins once the guest knows that the channel is open.
    pub(crate) fn begin(&mut self) {
        (self.state, self.waiting) = (State::Start, false);
    }

    /// Handles the close of the channel. A pending request ends with that outcome.
    pub(crate) fn closed<P: BusPort>(&mut self, io: &Context<'_, P>) {
        self.state = State::Closed;
        self.end(io, Outcome::Closed);
    }

    pub(crate) fn reset(&mut self) {
        *self = Self::new();
    }

    pub(crate) const fn deadline(&self) -> Option<ReferenceTime> {
        match self.state {
            State::Start => Some(ReferenceTime::ZERO),
            _ => None,
        }
    }

    /// Offers the versions, if that has yet to be done.
    pub(crate) fn tick<P: BusPort>(&mut self, io: &mut Context<'_, P>) {
        if self.state != State::Start {
            return;
        }
        self.state = State::Negotiating;
        negotiate(Self::PROTOCOL, io);
    }

    /// Parses a packet from the guest; returns `None` if it is unexpected.
    pub(crate) fn hear<P: BusPort>(
        &mut self,
        packet: &mut Packet<'_, P::Memory>,
        io: &Context<'_, P>,
    ) -> Option<Heard> {
        hear(&mut self.state, Self::PROTOCOL, packet, io)
    }

    /// Sends a message of the service that has no expected answer.
    pub(crate) fn tell<P: BusPort>(&self, io: &mut Context<'_, P>, body: &[&[u8]]) -> Result<(), Refused> {
        tell(self.state, K::KIND, io, (body, length(body)))
    }

    /// Sends a request, if none is pending.
    pub(crate) fn ask<P: BusPort>(&mut self, io: &mut Context<'_, P>, body: &[&[u8]]) -> Result<(), Refused> {
        self.ask_padded(io, body, length(body))
    }

    /// Does the same with zeros after the body, up to `len` bytes in total.
    pub(crate) fn ask_padded<P: BusPort>(
        &mut self,
        io: &mut Context<'_, P>,
        body: &[&[u8]],
        len: usize,
    ) -> Result<(), Refused> {
        if self.waiting || self.ended {
            return Err(Refused::Busy);
        }
        tell(self.state, K::KIND, io, (body, len))?;
        self.waiting = true;
        Ok(())
    }

    /// Returns the status of an answer, if a request is pending.
    pub(crate) fn answers(&self, heard: &Heard) -> Option<Status> {
        match heard {
            Heard::Response(header) if self.waiting => Some(header.status),
            _ => None,
        }
    }

    /// Ends the pending request, if there is one.
    pub(crate) fn end<P: BusPort>(&mut self, io: &Context<'_, P>, outcome: Outcome) {
        if self.answered() {
            (self.ended, self.outcome) = (true, outcome.number());
            io.observe(Channel::PRIMARY, READY, outcome.number());
        }
    }

    /// Takes the outcome of the last request, which allows another one.
    pub(crate) fn take(&mut self) -> Option<Outcome> {
        let outcome = self.outcome();
        self.ended = false;
        outcome
    }

    /// Ends the pending request without an outcome. Returns false if there is none.
    pub(crate) fn answered(&mut self) -> bool {
        core::mem::take(&mut self.waiting)
    }

    pub(crate) fn save(&self, w: &mut Writer<'_>) {
        match self.state {
            State::Closed => w.u8(0),
            State::Start => w.u8(1),
            State::Negotiating => w.u8(2),
            State::Ready { framework, version } => {
                w.u8(3);
                w.value(&framework);
                w.value(&version);
            }
            State::Incompatible => w.u8(4),
        }
        w.flag(self.waiting);
        w.u64(self.outcome().map_or(u64::MAX, Outcome::number));
    }

    pub(crate) fn restore(&mut self, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        self.state = match r.u8()? {
            0 => State::Closed,
            1 => State::Start,
            2 => State::Negotiating,
            3 => {
                let (framework, version) = (r.value()?, r.value()?);
                if !Self::PROTOCOL.offers(framework, version) {
                    return Err(RestoreError::Invalid("version of a service"));
                }
                State::Ready { framework, version }
            }
            4 => State::Incompatible,
            _ => return Err(RestoreError::Invalid("state of a service")),
        };
        self.waiting = r.flag("request of a service")?;
        if self.waiting && self.version().is_none() {
            return Err(RestoreError::Invalid("request of a service"));
        }
        let outcome = r.u64()?;
        self.ended = outcome != u64::MAX;
        self.outcome = if self.ended { outcome } else { 0 };
        if self.ended && (self.waiting || Outcome::from_number(outcome).is_none()) {
            return Err(RestoreError::Invalid("outcome of a service"));
        }
        Ok(())
    }
}

// The following are compiled once, for all services.

/// Offers the versions.
fn negotiate<P: BusPort>(protocol: &Protocol, io: &mut Context<'_, P>) {
    // Newest first. The oldest is always offered.
    let versions = protocol.versions;
    let refused = |version: &Version| io.refuses(u32::from(version.major) << 16 | u32::from(version.minor));
    let newer = versions.iter().take_while(|version| refused(version)).count();
    let versions = &versions[newer.min(versions.len() - 1)..];
    let negotiate = Negotiate {
        framework_versions: protocol.frameworks.len() as u16,
        message_versions: versions.len() as u16,
        reserved: 0,
    };
    let mut header = Header::new_zeroed();
    header.message_type = MessageType::NEGOTIATE;
    let body = [negotiate.as_bytes(), protocol.frameworks.as_bytes(), versions.as_bytes()];
    // A ring without room for the first packet is useless.
    let _ = send(io, header, (&body, length(&body)));
}

/// Parses a packet from the guest; returns `None` if it is unexpected.
fn hear<P: BusPort>(
    state: &mut State,
    protocol: &Protocol,
    packet: &mut Packet<'_, P::Memory>,
    io: &Context<'_, P>,
) -> Option<Heard> {
    let header: Header = packet.take()?;
    if packet.kind() != PacketType::DATA_IN_BAND || header.flags & FLAG_RESPONSE == 0 {
        return None;
    }
    match state {
        State::Negotiating if header.message_type == MessageType::NEGOTIATE => {
            // Judged by the counts: Linux leaves the status unchanged, and its daemon for file copies sets it.
            *state = match chosen(protocol, packet) {
                Some((framework, version)) => {
                    let (major, minor) = (u64::from(version.major), u64::from(version.minor));
                    io.observe(Channel::PRIMARY, AGREED, major << 16 | minor);
                    State::Ready { framework, version }
                }
                None => State::Incompatible,
            };
            Some(Heard::Versions)
        }
        State::Ready { .. } if header.message_type == protocol.kind => Some(Heard::Response(header)),
        _ => None,
    }
}

/// Returns the pair of versions that the guest has selected, if it was offered.
fn chosen<M: GuestMemory>(protocol: &Protocol, packet: &mut Packet<'_, M>) -> Option<(Version, Version)> {
    let negotiate: Negotiate = packet.take()?;
    let [framework, version]: [Version; 2] = packet.take()?;
    let one_each = negotiate.framework_versions == 1 && negotiate.message_versions == 1;
    (one_each && protocol.offers(framework, version)).then_some((framework, version))
}

/// Sends a message of a service.
fn tell<P: BusPort>(
    state: State,
    kind: MessageType,
    io: &mut Context<'_, P>,
    body: (&[&[u8]], usize),
) -> Result<(), Refused> {
    let (framework, version) = match state {
        State::Ready { framework, version } => (framework, version),
        State::Closed => return Err(Refused::Closed),
        State::Start | State::Negotiating => return Err(Refused::Negotiating),
        State::Incompatible => return Err(Refused::Incompatible),
    };
    let mut header = Header::new_zeroed();
    header.framework_version = framework;
    header.message_version = version;
    header.message_type = kind;
    send(io, header, body).map_err(|error| match error {
        SendError::Full => Refused::Full,
        _ => Refused::Closed,
    })
}

/// Sends a message: the parts of its body, and zeros up to this many bytes in total.
fn send<P: BusPort>(
    io: &mut Context<'_, P>,
    mut header: Header,
    (body, len): (&[&[u8]], usize),
) -> Result<(), SendError> {
    header.message_size = len as u16;
    header.flags = FLAG_TRANSACTION | FLAG_REQUEST;
    let mut parts = [&[][..]; 4];
    parts[0] = header.as_bytes();
    for (place, part) in parts[1..].iter_mut().zip(body) {
        *place = part;
    }
    io.send_padded(Channel::PRIMARY, Message::default(), &parts, size_of::<Header>() + len)
}

/// Returns the total length of some parts.
fn length(parts: &[&[u8]]) -> usize {
    parts.iter().map(|part| part.len()).sum()
}
