//! The heartbeat service: the host asks, the guest adds 1 and sends it back.

use super::io::{Io, Taken};
use crate::image;
use crate::protocol::PacketType;
use crate::protocol::ic::{
    FLAG_REQUEST, FLAG_RESPONSE, FLAG_TRANSACTION, Header, Heartbeat as Beat, MessageType, Negotiate,
    PIPE_PACKET_DATA, PipeHeader, Status, Version,
};
use crate::ring::{Outgoing, Packet, PushError, RingError};
use hv_memory::GuestMemory;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// Versions of the framework that the host offers (Linux drivers/hv/hv_util.c knows both).
const FRAMEWORK: [Version; 2] = [Version { major: 3, minor: 0 }, Version { major: 1, minor: 0 }];
/// Versions of the service that the host offers.
const SERVICE: [Version; 2] = [Version { major: 3, minor: 0 }, Version { major: 1, minor: 0 }];

/// Length of pipe header, message header and the longest message here.
const BUFFER: usize = size_of::<PipeHeader>() + size_of::<Header>() + size_of::<Beat>();

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
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
#[derive(Clone, Debug)]
pub(crate) struct Heartbeat {
    state: State,
    /// Time between two beats, in 100 ns.
    interval: u64,
    /// Number of the next beat. The guest answers with one more, and the host goes on from there.
    sequence: u64,
}

impl Heartbeat {
    pub(crate) fn new(interval: u64) -> Self {
        Self { state: State::Start, interval, sequence: 0 }
    }

    pub(crate) fn deadline(&self) -> Option<u64> {
        match self.state {
            State::Start => Some(0),
            State::Beating { next, .. } => Some(next),
            State::Negotiating | State::Incompatible => None,
        }
    }

    pub(crate) fn run<M: GuestMemory>(&mut self, io: &mut Io<'_, M>) -> Result<(), RingError> {
        if self.state == State::Start {
            offer_versions(io)?;
            self.state = State::Negotiating;
        }
        io.drain(|io, packet| {
            self.response(io, packet)?;
            Ok(Taken::Yes)
        })?;
        if let State::Beating { framework, service, next } = self.state {
            if io.time >= next {
                beat(io, framework, service, self.sequence)?;
                let next = io.time.saturating_add(self.interval.max(1));
                self.state = State::Beating { framework, service, next };
            }
        }
        Ok(())
    }

    /// Takes a packet of the guest. What is no answer to anything is ignored.
    fn response<M: GuestMemory>(&mut self, io: &mut Io<'_, M>, packet: &Packet) -> Result<(), RingError> {
        let mut buffer = [0; BUFFER];
        let len = packet.read(&io.incoming, 0, &mut buffer)?;
        let Some((header, body)) = message(&buffer[..len]) else { return Ok(()) };
        if packet.descriptor.packet_type != PacketType::DATA_IN_BAND || header.flags & FLAG_RESPONSE == 0 {
            return Ok(());
        }
        match (self.state, header.message_type) {
            (State::Negotiating, MessageType::NEGOTIATE) => {
                self.state = match chosen(body) {
                    Some((framework, service)) => State::Beating { framework, service, next: io.time },
                    None => State::Incompatible,
                };
            }
            (State::Beating { .. }, MessageType::HEARTBEAT) => {
                let Some((answer, _)) = read::<u64>(body) else { return Ok(()) };
                if header.status == Status::SUCCESS && answer == self.sequence.wrapping_add(1) {
                    self.sequence = answer;
                    io.beat = Some(answer);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn offer_versions<M: GuestMemory>(io: &mut Io<'_, M>) -> Result<(), RingError> {
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
    request(io, header, &body)
}

fn beat<M: GuestMemory>(
    io: &mut Io<'_, M>,
    framework: Version,
    service: Version,
    sequence: u64,
) -> Result<(), RingError> {
    let mut header = Header::new_zeroed();
    header.framework_version = framework;
    header.message_version = service;
    header.message_type = MessageType::HEARTBEAT;
    request(io, header, Beat { sequence, reserved: [0; 8] }.as_bytes())
}

/// Sends a request. A guest that has let the ring fill up misses it.
fn request<M: GuestMemory>(io: &mut Io<'_, M>, mut header: Header, body: &[u8]) -> Result<(), RingError> {
    header.message_size = body.len() as u16;
    header.flags = FLAG_TRANSACTION | FLAG_REQUEST;
    let message_size = size_of::<Header>() + body.len();
    let pipe = PipeHeader { packet_type: PIPE_PACKET_DATA, message_size: message_size as u32 };
    let mut buffer = [0; BUFFER];
    let len = size_of::<PipeHeader>() + message_size;
    let (head, rest) = buffer[..len].split_at_mut(size_of::<PipeHeader>());
    head.copy_from_slice(pipe.as_bytes());
    let (head, rest) = rest.split_at_mut(size_of::<Header>());
    head.copy_from_slice(header.as_bytes());
    rest.copy_from_slice(body);
    let packet =
        Outgoing { packet_type: PacketType::DATA_IN_BAND, flags: 0, transaction_id: 0, len: len as u32 };
    match io.send(&packet, &buffer[..len]) {
        Ok(()) | Err(PushError::Full(_) | PushError::TooLong) => Ok(()),
        Err(PushError::Ring(error)) => Err(error),
    }
}

fn read<T: FromBytes + Immutable>(bytes: &[u8]) -> Option<(T, &[u8])> {
    T::read_from_prefix(bytes).ok()
}

/// Header and body of a pipe's message.
fn message(bytes: &[u8]) -> Option<(Header, &[u8])> {
    let (pipe, rest) = read::<PipeHeader>(bytes)?;
    if pipe.packet_type != PIPE_PACKET_DATA {
        return None;
    }
    read(rest)
}

/// The one pair of versions that the guest has left, if it is one that was offered.
fn chosen(body: &[u8]) -> Option<(Version, Version)> {
    let (negotiate, rest) = read::<Negotiate>(body)?;
    let ([framework, service], _) = read::<[Version; 2]>(rest)?;
    let one_each = negotiate.framework_versions == 1 && negotiate.message_versions == 1;
    (one_each && FRAMEWORK.contains(&framework) && SERVICE.contains(&service)).then_some((framework, service))
}

image::fields!(Heartbeat { state, interval, sequence });
image::variants!(State, "state of a heartbeat" {
    0 => Start,
    1 => Negotiating,
    2 => Beating { framework, service, next },
    3 => Incompatible,
});
