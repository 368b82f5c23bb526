//! The heartbeat service: the host asks, the guest adds 1 and sends it back.

use hv_memory::save::{Reader, RestoreError, Writer};
use hv_tlfs::vmbus::ic::{
    FLAG_REQUEST, FLAG_RESPONSE, FLAG_TRANSACTION, Header, Heartbeat as Beat, MessageType, Negotiate, Status,
    Version,
};
use hv_tlfs::vmbus::{ChannelOffer, Guid, PacketType, PipeMode, guid};
use hv_vmbus::{Backend, Channel, Device, Io, Message, Never, Opening, Packet, Refusal, Taken, offer, pipe};
use zerocopy::{FromZeros, IntoBytes};

/// The service as Hyper-V offers it.
pub const OFFER: ChannelOffer = pipe(
    offer(
        guid::HEARTBEAT,
        Guid::new(0xfd14_9e91, 0x82e0, 0x4a7d, [0xaf, 0xa6, 0x2a, 0x41, 0x66, 0xcb, 0xd7, 0xc0]),
    ),
    PipeMode::MESSAGE,
);

/// What the observer is told: the guest has answered a beat, with this number.
pub const ANSWERED: u32 = 1;

/// Time between two beats in Hyper-V, in 100 ns.
pub const INTERVAL: u64 = 20_000_000;

/// Versions of the framework that the host offers (Linux drivers/hv/hv_util.c knows both).
const FRAMEWORK: [Version; 2] = [Version { major: 3, minor: 0 }, Version { major: 1, minor: 0 }];
/// Versions of the service that the host offers.
const SERVICE: [Version; 2] = [Version { major: 3, minor: 0 }, Version { major: 1, minor: 0 }];

/// Length of message header and the longest message here.
const BUFFER: usize = size_of::<Header>() + size_of::<Beat>();

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The channel is not open.
    Closed,
    /// The versions are to be offered.
    Start,
    /// The guest has to choose.
    Negotiating,
    /// The guest has chosen.
    Beating { framework: Version, service: Version, next: u64 },
    /// The guest knows none of the versions.
    Incompatible,
}

/// The host's end of the service.
#[derive(Clone, Copy, Debug)]
pub struct Heartbeat {
    state: State,
    /// Time between two beats, in 100 ns.
    interval: u64,
    /// Number of the next beat. The guest answers with one more, and the host goes on from there.
    sequence: u64,
}

impl Heartbeat {
    /// Makes a service with a beat every two seconds, as Hyper-V has it.
    #[must_use]
    pub const fn new() -> Self {
        Self::every(INTERVAL)
    }

    /// Makes a service with so much time, in 100 ns, between two beats.
    #[must_use]
    pub const fn every(interval: u64) -> Self {
        Self { state: State::Closed, interval, sequence: 0 }
    }

    /// Takes what the guest chose of the versions, or its answer to a beat. What is no answer to anything is ignored.
    fn response<P: Backend<Never>>(
        &mut self,
        packet: &mut Packet<'_, P::Memory>,
        io: &Io<'_, P, Never>,
    ) -> Option<()> {
        let header: Header = packet.take()?;
        if packet.kind() != PacketType::DATA_IN_BAND || header.flags & FLAG_RESPONSE == 0 {
            return None;
        }
        match (self.state, header.message_type) {
            (State::Negotiating, MessageType::NEGOTIATE) => {
                self.state = match chosen(packet) {
                    Some((framework, service)) => State::Beating { framework, service, next: io.now() },
                    None => State::Incompatible,
                };
            }
            (State::Beating { .. }, MessageType::HEARTBEAT) => {
                let answer: u64 = packet.take()?;
                if header.status == Status::SUCCESS && answer == self.sequence.wrapping_add(1) {
                    self.sequence = answer;
                    io.observe(Channel::PRIMARY, ANSWERED, answer);
                }
            }
            _ => {}
        }
        Some(())
    }
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self::new()
    }
}

impl Device for Heartbeat {
    type Request = Never;

    const NAME: [u8; 4] = *b"beat";

    fn opened<P: Backend<Never>>(
        &mut self,
        _: Channel,
        _: &Opening<'_>,
        _: &mut Io<'_, P, Never>,
    ) -> Result<(), Refusal> {
        self.state = State::Start;
        self.sequence = 0;
        Ok(())
    }

    fn packet<P: Backend<Never>>(
        &mut self,
        packet: &mut Packet<'_, P::Memory>,
        io: &mut Io<'_, P, Never>,
    ) -> Taken {
        let _ = self.response(packet, io);
        Taken::Done
    }

    fn deadline(&self) -> Option<u64> {
        match self.state {
            State::Start => Some(0),
            State::Beating { next, .. } => Some(next),
            State::Closed | State::Negotiating | State::Incompatible => None,
        }
    }

    fn tick<P: Backend<Never>>(&mut self, io: &mut Io<'_, P, Never>) {
        match self.state {
            State::Start => {
                offer_versions(io);
                self.state = State::Negotiating;
            }
            State::Beating { framework, service, next } if io.now() >= next => {
                let mut header = Header::new_zeroed();
                header.framework_version = framework;
                header.message_version = service;
                header.message_type = MessageType::HEARTBEAT;
                request(io, header, Beat { sequence: self.sequence, reserved: [0; 8] }.as_bytes());
                let next = io.now().saturating_add(self.interval.max(1));
                self.state = State::Beating { framework, service, next };
            }
            _ => {}
        }
    }

    fn closed<P: Backend<Never>>(&mut self, _: Channel, _: &mut Io<'_, P, Never>) {
        self.state = State::Closed;
    }

    fn reset(&mut self) {
        *self = Self::every(self.interval);
    }

    fn save(&self, w: &mut Writer<'_>) {
        w.u64(self.interval);
        w.u64(self.sequence);
        match self.state {
            State::Closed => w.u8(0),
            State::Start => w.u8(1),
            State::Negotiating => w.u8(2),
            State::Beating { framework, service, next } => {
                w.u8(3);
                w.value(&framework);
                w.value(&service);
                w.u64(next);
            }
            State::Incompatible => w.u8(4),
        }
    }

    fn restore(&mut self, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        self.interval = r.u64()?;
        self.sequence = r.u64()?;
        self.state = match r.u8()? {
            0 => State::Closed,
            1 => State::Start,
            2 => State::Negotiating,
            3 => State::Beating { framework: r.value()?, service: r.value()?, next: r.u64()? },
            4 => State::Incompatible,
            _ => return Err(RestoreError::Invalid("state of a heartbeat")),
        };
        Ok(())
    }
}

fn offer_versions<P: Backend<Never>>(io: &mut Io<'_, P, Never>) {
    let negotiate = Negotiate {
        framework_versions: FRAMEWORK.len() as u16,
        message_versions: SERVICE.len() as u16,
        reserved: 0,
    };
    let mut body = [0; size_of::<Negotiate>() + size_of_val(&FRAMEWORK) + size_of_val(&SERVICE)];
    let (head, versions) = body.split_at_mut(size_of::<Negotiate>());
    head.copy_from_slice(negotiate.as_bytes());
    let (framework, service) = versions.split_at_mut(size_of_val(&FRAMEWORK));
    framework.copy_from_slice(FRAMEWORK.as_bytes());
    service.copy_from_slice(SERVICE.as_bytes());
    let mut header = Header::new_zeroed();
    header.message_type = MessageType::NEGOTIATE;
    request(io, header, &body);
}

/// Sends a request. A guest that has let the ring fill up misses it.
fn request<P: Backend<Never>>(io: &mut Io<'_, P, Never>, mut header: Header, body: &[u8]) {
    header.message_size = body.len() as u16;
    header.flags = FLAG_TRANSACTION | FLAG_REQUEST;
    let mut buffer = [0; BUFFER];
    let (head, rest) = buffer.split_at_mut(size_of::<Header>());
    head.copy_from_slice(header.as_bytes());
    rest[..body.len()].copy_from_slice(body);
    let _ = io.send(Channel::PRIMARY, Message::default(), &buffer[..size_of::<Header>() + body.len()]);
}

/// The one pair of versions that the guest has left, if it is one that was offered.
fn chosen<M: hv_memory::GuestMemory>(packet: &mut Packet<'_, M>) -> Option<(Version, Version)> {
    let negotiate: Negotiate = packet.take()?;
    let [framework, service]: [Version; 2] = packet.take()?;
    let one_each = negotiate.framework_versions == 1 && negotiate.message_versions == 1;
    (one_each && FRAMEWORK.contains(&framework) && SERVICE.contains(&service)).then_some((framework, service))
}
