//! Hyper-V sockets: streams of bytes between programs of the guest and of the host, a channel for each.
//!
//! The guest connects with a message of VMBus, and the host by offering a channel without being asked. A packet carries
//! bytes of the stream, and one without bytes ends its direction. When both directions have ended the channel is
//! rescinded, as soon as the guest has been sent the end: Linux still reads what is in its ring after that, and waits
//! for the rescind without a time limit (net/vmw_vsock/hyperv_transport.c).
//!
//! The back end is told what happens ([`News`]) when it asks ([`Sockets::drain`]); the observer hears of [`note::NEWS`]
//! when there is something. Both directions have credit, for each stream on its own, so that a side that does not read
//! stops no other stream:
//!
//! * The host sends no more than was granted ([`News::Credit`]): room in the stream's ring, in bytes of [`cost`]. So
//!   nothing for the guest is ever stored here.
//! * A guest's packets stay in its ring while the host's window for the stream ([`WINDOW`]) is used up. What the host
//!   has taken it gives back ([`Sockets::credit`]).
//!
//! What guests have sent lies in one buffer of `OUTPUT` bytes until the back end takes it. While that is full, packets
//! stay in their rings.
//!
//! Connections do not survive a restore: the guest's end of each is reset, as on a migration (OpenVMM does the same,
//! vmbus_server/src/hvsock.rs).

mod device;
mod news;
mod output;
mod stream;

pub use news::News;
pub use stream::StreamId;

use hv_tlfs::time::ReferenceTime;
use hv_tlfs::vmbus::ic::PipeHeader;
use hv_tlfs::vmbus::socket::{self, Parameters};
use hv_tlfs::vmbus::{ChannelOffer, Guid, PACKET_TRAILER_SIZE, PacketDescriptor, PipeMode};
use hv_vmbus::{BusPort, Channel, Io, Message, Never};
use output::Output;
use stream::{Flags, State, Stream};
use zerocopy::IntoBytes;

/// Maximum payload of a packet, in bytes, in both directions.
pub const MAX_PAYLOAD: u32 = socket::MAX_PAYLOAD;
/// Bytes of a guest's stream that the host takes without giving credit.
pub const WINDOW: u32 = 128 << 10;
/// Time that the guest has to open the channel of a connection. Where no program listens, Linux never does.
pub const OPEN_TIMEOUT: ReferenceTime = ReferenceTime::from_nanos(10 * SECOND);
/// Time that the host has to accept or refuse the guest's connection.
pub const ACCEPT_TIMEOUT: ReferenceTime = ReferenceTime::from_nanos(30 * SECOND);

/// In nanoseconds.
const SECOND: u64 = 1_000_000_000;

/// Kinds of reports to the observer: the `note` of [`hv_vmbus::Event::Device`].
pub mod note {
    /// There is something for the back end to take.
    pub const NEWS: u32 = 0;
    /// A connection is open; the value is the port, with bit 32 set if the host has connected.
    pub const OPENED: u32 = 1;
    /// A connection was ended because the guest violated the protocol.
    pub const FAILED: u32 = 2;
    /// The guest's connection was refused; the value is the port.
    pub const REFUSED: u32 = 3;
}

/// Returns the bytes that this many bytes of a stream take in a ring, in one packet: descriptor, pipe header, payload
/// and trailer.
#[must_use]
pub const fn cost(bytes: u32) -> u32 {
    let headers = size_of::<PacketDescriptor>() as u32 + size_of::<PipeHeader>() as u32 + PACKET_TRAILER_SIZE;
    headers + bytes.next_multiple_of(8)
}

/// Returns the offer of a connection: its endpoint, the service, and whether it is the host that connects.
#[must_use]
pub fn offer(service: Guid, endpoint: Guid, host_connects: bool) -> ChannelOffer {
    let parameters = Parameters {
        pipe_mode: PipeMode::BYTE.0.into(),
        host_connects: host_connects.into(),
        for_container: 0,
        version: socket::VERSION_RS5.into(),
        silo: Guid::ZERO,
        padding: [0; 2],
    };
    let mut offer = hv_vmbus::pipe(hv_vmbus::offer(service, endpoint), PipeMode::BYTE);
    offer.flags = offer.flags.with_socket(true).with_enumerate_interface(true);
    offer.user_defined[..size_of::<Parameters>()].copy_from_slice(parameters.as_bytes());
    offer
}

/// Reason why the host's connection was not offered to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

/// The host sent bytes for which it had no credit; the stream was reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoCredit;

/// The device: `STREAMS` connections at most, and `OUTPUT` bytes from guests that the back end has not taken. A new one
/// is all zeros.
#[derive(Debug)]
pub struct Sockets<const STREAMS: usize, const OUTPUT: usize> {
    streams: [Stream; STREAMS],
    output: Output<OUTPUT>,
    /// Number of the host's last connection, which makes its port.
    last_port: u32,
    /// The earliest time at which a connection may have timed out.
    due: Option<ReferenceTime>,
    /// The observer was told that there is news, and nothing was taken since.
    told: bool,
    /// Packets were held because `output` was full.
    full: bool,
    /// There is a back end.
    served: bool,
}

impl<const STREAMS: usize, const OUTPUT: usize> Sockets<STREAMS, OUTPUT> {
    /// First of the ports that the host's connections come from.
    const FIRST_PORT: u32 = 1 << 30;

    /// Creates the device. Its slot must have `STREAMS` channels.
    ///
    /// # Panics
    /// If `OUTPUT` does not suffice for the longest packet.
    #[must_use]
    pub const fn new() -> Self {
        assert!(OUTPUT >= MAX_PAYLOAD as usize + output::HEADER, "the longest packet needs this room");
        Self {
            streams: [const { Stream::FREE }; STREAMS],
            output: Output::new(),
            last_port: 0,
            due: None,
            told: false,
            full: false,
            served: false,
        }
    }

    /// Accepts connections from now on: there is a back end. Until then, the guest has no sockets.
    pub fn serve(&mut self) {
        self.served = true;
    }

    /// Returns the number of connections, including those that are being established or ended.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.streams.iter().filter(|stream| stream.state != State::Free).count()
    }

    /// Returns the channel of a stream that has not ended.
    fn find(&self, id: StreamId) -> Option<(Channel, usize)> {
        let at = id.index();
        let stream = self.streams.get(at)?;
        let current = stream.id(at) == id && !matches!(stream.state, State::Free | State::Closing);
        current.then(|| (Channel::new(at as u16), at))
    }

    /// Connects the host to the guest's port. `request` is the back end's name for the connection, until
    /// [`News::Opened`] or [`News::Refused`].
    ///
    /// # Errors
    /// [`NoRoom`]: there are too many connections.
    pub fn connect<P: BusPort>(
        &mut self,
        io: &mut Io<'_, P, Never>,
        request: u32,
        port: u32,
    ) -> Result<(), NoRoom> {
        let idle = |channel: &Channel| self.streams.get(channel.index()).is_some_and(Stream::is_idle);
        let channel = io.vacancies().find(idle).ok_or(NoRoom)?;
        // Ports of connections that still stand are passed over; there are more ports than streams.
        for _ in 0..=STREAMS {
            self.last_port = (self.last_port + 1) % Self::FIRST_PORT;
            let own = Self::FIRST_PORT + self.last_port;
            if io.offer(channel, &offer(socket::service(port), socket::service(own), true)) {
                let due = io.now().saturating_add(OPEN_TIMEOUT);
                self.due = Some(self.due.map_or(due, |other| other.min(due)));
                self.streams[channel.index()].begin(
                    State::Offered { request: Some(request), own },
                    port,
                    due,
                );
                return Ok(());
            }
        }
        Err(NoRoom)
    }

    /// Accepts the guest's connection ([`News::Connect`]). One that has ended since is ignored.
    pub fn accept<P: BusPort>(&mut self, io: &mut Io<'_, P, Never>, id: StreamId) {
        let Some((channel, at)) = self.find(id) else { return };
        let stream = &mut self.streams[at];
        let State::Connecting { endpoint } = stream.state else { return };
        if io.offer(channel, &offer(socket::service(stream.port), endpoint, false)) {
            stream.due = io.now().saturating_add(OPEN_TIMEOUT);
            stream.state = State::Offered { request: None, own: 0 };
            self.due = Some(self.due.map_or(stream.due, |other| other.min(stream.due)));
        } else {
            // The guest has a connection between these two already.
            self.turn_down(io, at);
            self.flag(io, at, Flags::ENDED);
        }
    }

    /// Refuses the guest's connection. One that has ended since is ignored.
    pub fn refuse<P: BusPort>(&mut self, io: &mut Io<'_, P, Never>, id: StreamId) {
        if let Some((_, at)) = self.find(id)
            && matches!(self.streams[at].state, State::Connecting { .. })
        {
            self.turn_down(io, at);
        }
    }

    fn turn_down<P: BusPort>(&mut self, io: &mut Io<'_, P, Never>, at: usize) {
        let channel = Channel::new(at as u16);
        io.observe(channel, note::REFUSED, self.streams[at].port.into());
        io.refuse(channel);
        self.streams[at].free();
    }

    /// Sends bytes to the guest, in one packet. Those for a stream that has ended since are dropped.
    ///
    /// # Errors
    /// [`NoCredit`]; also for more than [`MAX_PAYLOAD`] bytes, for none, and after [`finish`](Self::finish).
    pub fn send<P: BusPort>(
        &mut self,
        io: &mut Io<'_, P, Never>,
        id: StreamId,
        bytes: &[u8],
    ) -> Result<(), NoCredit> {
        let Some((channel, at)) = self.find(id) else { return Ok(()) };
        let stream = &mut self.streams[at];
        let len = u32::try_from(bytes.len()).ok().filter(|len| (1..=MAX_PAYLOAD).contains(len));
        let left = len.and_then(|len| stream.granted.checked_sub(cost(len))).filter(|_| !stream.host_done);
        let Some(left) = left else {
            self.reset(io, id);
            return Err(NoCredit);
        };
        stream.granted = left;
        match io.send(channel, Message::default(), bytes) {
            Ok(()) => self.grant(io, at),
            Err(_) => self.fail(io, at),
        }
        Ok(())
    }

    /// Ends the host's direction. A stream that has ended since is ignored.
    pub fn finish<P: BusPort>(&mut self, io: &mut Io<'_, P, Never>, id: StreamId) {
        let Some((_, at)) = self.find(id) else { return };
        if core::mem::replace(&mut self.streams[at].host_done, true) {
            return;
        }
        // Until the guest has opened the channel, the end waits for that.
        if self.streams[at].state == State::Open {
            self.send_end(io, at);
        }
    }

    /// Sends the end of the host's direction. Its room is never granted.
    fn send_end<P: BusPort>(&mut self, io: &mut Io<'_, P, Never>, at: usize) {
        match io.send(Channel::new(at as u16), Message::default(), &[]) {
            Ok(()) if self.streams[at].guest_done => self.end(io, at),
            Ok(()) => {}
            // The ring is corrupt, or the guest has taken room back that it had made.
            Err(_) => self.fail(io, at),
        }
    }

    /// Ends a stream in both directions at once: the back end has lost its side. Nothing more is told of it but what
    /// the guest has sent before.
    pub fn reset<P: BusPort>(&mut self, io: &mut Io<'_, P, Never>, id: StreamId) {
        let Some((_, at)) = self.find(id) else { return };
        match self.streams[at].state {
            State::Connecting { .. } => self.turn_down(io, at),
            _ => self.leave(io, at),
        }
    }

    /// Gives credit back: the host has taken this many bytes of the stream.
    pub fn credit<P: BusPort>(&mut self, io: &mut Io<'_, P, Never>, id: StreamId, bytes: u32) {
        let Some((channel, at)) = self.find(id) else { return };
        let stream = &mut self.streams[at];
        stream.used = stream.used.saturating_sub(bytes);
        if stream.used < WINDOW {
            io.resume(channel);
        }
    }

    /// Grants the host the room of a stream's ring that it was not granted yet, or waits until there is more of it.
    fn grant<P: BusPort>(&mut self, io: &mut Io<'_, P, Never>, at: usize) {
        let channel = Channel::new(at as u16);
        let stream = &mut self.streams[at];
        // Small parts of the room are not worth a message, while the host has enough left.
        let least = (stream.ring / 4).max(1);
        if stream.host_done || stream.granted > stream.ring / 2 {
            return;
        }
        let kept = stream.granted.saturating_add(cost(0));
        let needed = kept.saturating_add(least);
        if io.free(channel) < needed && !io.await_room(channel, needed) {
            return;
        }
        let more = io.free(channel).saturating_sub(kept);
        stream.granted = stream.granted.saturating_add(more);
        stream.credit = stream.credit.saturating_add(more);
        self.flag(io, at, Flags::CREDIT);
    }

    /// Ends a stream whose directions have both ended.
    fn end<P: BusPort>(&mut self, io: &mut Io<'_, P, Never>, at: usize) {
        self.leave(io, at);
        self.flag(io, at, Flags::ENDED);
    }

    /// Ends a stream because the guest violated the protocol.
    fn fail<P: BusPort>(&mut self, io: &mut Io<'_, P, Never>, at: usize) {
        io.observe(Channel::new(at as u16), note::FAILED, 0);
        self.end(io, at);
    }

    /// Rescinds a stream's channel.
    fn leave<P: BusPort>(&mut self, io: &mut Io<'_, P, Never>, at: usize) {
        if io.rescind(Channel::new(at as u16)) {
            self.streams[at].free();
        } else {
            self.streams[at].state = State::Closing;
        }
    }

    /// Ends a stream of which the host does not know yet that it has ended.
    fn lose<P: BusPort>(&mut self, io: &mut Io<'_, P, Never>, at: usize) {
        let flag = self.streams[at].ending();
        if flag != Flags::NONE {
            self.flag(io, at, flag);
        }
    }

    /// Has the host told something about a stream.
    fn flag<P: BusPort>(&mut self, io: &Io<'_, P, Never>, at: usize, flag: Flags) {
        self.streams[at].flags.add(flag);
        self.tell(io, at);
    }

    fn tell<P: BusPort>(&mut self, io: &Io<'_, P, Never>, at: usize) {
        if !core::mem::replace(&mut self.told, true) {
            io.observe(Channel::new(at as u16), note::NEWS, 0);
        }
    }
}

impl<const STREAMS: usize, const OUTPUT: usize> Default for Sockets<STREAMS, OUTPUT> {
    fn default() -> Self {
        Self::new()
    }
}
