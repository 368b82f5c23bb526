//! What a device is to the bus.

use crate::io::Io;
use crate::packet::{Done, Packet};
use crate::port::{Backend, Work};
use crate::protocol::{Guid, OpenChannel, PacketType, USER_DEFINED_BYTES};
use hv_memory::save::{Reader, RestoreError, Writer};

/// Place of a device among the bus's devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(pub u16);

/// One of a device's channels, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel(pub(crate) u16);

impl Channel {
    /// The first: of a device with sub-channels the one that was offered first.
    pub const PRIMARY: Self = Self(0);

    /// The channel with this index.
    #[must_use]
    pub const fn new(index: u16) -> Self {
        Self(index)
    }

    /// Its index: 0 for the primary channel, n for sub-channel n.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Name of a request that a back end works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub(crate) u64);

impl Token {
    /// The token as a number that the back end may carry around.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The token with this number. The bus refuses one that it did not give.
    #[must_use]
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }
}

/// What a device did with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is done with it, or has made a request of it.
    Done,
    /// It does not take it now: the packet stays in the ring, and is shown again when something else has happened to the
    /// device. Nothing must have been done yet for the packet.
    Later,
    /// The channel is of no more use: no further packet is taken before it is opened anew. For a guest whose nonsense has
    /// no answer in the device's protocol.
    Fault,
}

/// What is known of a packet before the device sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Kind.
    pub kind: PacketType,
    /// Bytes of payload, rounded up to a multiple of 8 by the guest.
    pub len: u32,
    /// The guest waits for a completion.
    pub wants_completion: bool,
    /// Bytes of payload of the longest packet that the other ring can ever hold.
    pub longest: u32,
}

/// How the guest opened a channel.
#[derive(Clone, Copy, Debug)]
pub struct Opening<'a> {
    /// VP that the guest wants interrupted, or [`TARGET_VP_NONE`](crate::protocol::TARGET_VP_NONE).
    pub target_vp: u32,
    /// What the guest's driver says to the device.
    pub user_data: &'a [u8; USER_DEFINED_BYTES],
}

impl<'a> Opening<'a> {
    pub(crate) fn new(request: &'a OpenChannel) -> Self {
        Self { target_vp: request.target_vp, user_data: &request.user_data }
    }
}

/// TL_CONNECT_REQUEST: the guest wants to be connected to a service of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect {
    /// The guest's end: becomes the instance of the offer.
    pub endpoint: Guid,
    /// The service: becomes the interface of the offer.
    pub service: Guid,
}

/// The device does not take what the guest asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal;

/// A device behind one or more channels.
///
/// It is a state machine: packets, outcomes and time come in, answers and requests go out through [`Io`]. It knows no
/// back end, allocates nothing, and what it does at one call is bounded. The bus calls it with the device's lock held,
/// on whatever thread or CPU the cause came up; it never waits.
///
/// What the bus promises:
///
/// * A packet is shown only if the ring to the guest has room for the answer ([`reply_len`](Self::reply_len)) and if a request is
///   free, so that a device never needs a list of what it could not send. Packets that find neither stay in the guest's ring.
/// * A request keeps everything that it touches: the guest is not told that its pages are its own again before the request
///   is completed. Each is completed once, in any order.
/// * When a channel is closed its requests have no answer any more, and [`completed`](Self::completed) is not called for them.
pub trait Device: Sized {
    /// What it asks its back end for, with all that it has to remember of the packet until then; [`Never`](crate::Never) if
    /// it has none.
    type Request: Work;

    /// Name in a saved state: a device restores only what its like has saved.
    const NAME: [u8; 4];
    /// Bytes of payload of an answer at most.
    const REPLY: u32 = 0;
    /// Longest packet to the guest, descriptor included. Linux reads 4096 bytes of most devices' packets, and loses its place
    /// in the ring behind a longer one.
    const PACKET_LIMIT: u32 = 4096;
    /// Interrupts the guest whenever the device has sent packets, even if the ring was not empty or the guest has masked the ring's
    /// interrupts. Packets that are sent before the device returns share one interrupt.
    const SIGNAL_EACH: bool = false;
    /// Takes the connection requests of Hyper-V sockets ([`connect`](Self::connect)).
    const SOCKETS: bool = false;

    /// Returns how many bytes of payload the answer to a packet may have, or `None` if it has no answer. Its room is reserved
    /// before the packet is shown. Without more, packets have an answer that want a completion.
    fn reply_len(&self, channel: Channel, head: &Head) -> Option<u32> {
        let _ = channel;
        head.wants_completion.then_some(Self::REPLY)
    }

    /// The guest opens a channel. It hears of that after this, so nothing can be sent yet.
    ///
    /// # Errors
    /// [`Refusal`]: the channel stays closed, and the guest is told that opening has failed.
    fn opened<P: Backend<Self::Request>>(
        &mut self,
        channel: Channel,
        opening: &Opening<'_>,
        io: &mut Io<'_, P, Self::Request>,
    ) -> Result<(), Refusal> {
        let _ = (channel, opening, io);
        Ok(())
    }

    /// Takes a packet.
    fn packet<P: Backend<Self::Request>>(
        &mut self,
        packet: &mut Packet<'_, P::Memory>,
        io: &mut Io<'_, P, Self::Request>,
    ) -> Taken;

    /// The back end is done with a request. What is neither answered nor asked for anew ([`Io::request`]) is dropped.
    fn completed<P: Backend<Self::Request>>(
        &mut self,
        done: &mut Done<Self::Request>,
        outcome: <Self::Request as Work>::Outcome,
        io: &mut Io<'_, P, Self::Request>,
    ) {
        let _ = (done, outcome, io);
    }

    /// The reference time, in 100 ns, at which [`tick`](Self::tick) is to be called; `None`: not before something else
    /// happens. It must lie in the future after a call of `tick`, or a channel that waits for room must have come between.
    fn deadline(&self) -> Option<u64> {
        None
    }

    /// The deadline has come.
    fn tick<P: Backend<Self::Request>>(&mut self, io: &mut Io<'_, P, Self::Request>) {
        let _ = io;
    }

    /// The guest has made room in the ring of a channel on which [`Io::send`] found it full.
    fn room<P: Backend<Self::Request>>(&mut self, channel: Channel, io: &mut Io<'_, P, Self::Request>) {
        let _ = (channel, io);
    }

    /// A channel is closed: by the guest, with the connection, or because it is rescinded. Requests made by its packets are
    /// not completed any more.
    fn closed<P: Backend<Self::Request>>(&mut self, channel: Channel, io: &mut Io<'_, P, Self::Request>) {
        let _ = (channel, io);
    }

    /// A channel is gone for the guest: its number is released, or the connection has ended. It follows
    /// [`closed`](Self::closed), where the channel was open.
    fn released<P: Backend<Self::Request>>(&mut self, channel: Channel, io: &mut Io<'_, P, Self::Request>) {
        let _ = (channel, io);
    }

    /// The guest wants a connection to a service. `channel` is kept for it: the device calls [`Io::offer`] or
    /// [`Io::refuse`] with it, now or later.
    ///
    /// # Errors
    /// [`Refusal`]: the guest is told at once that there is no such service.
    fn connect<P: Backend<Self::Request>>(
        &mut self,
        channel: Channel,
        connect: &Connect,
        io: &mut Io<'_, P, Self::Request>,
    ) -> Result<(), Refusal> {
        let _ = (channel, connect, io);
        Err(Refusal)
    }

    /// The device as it was when it was made: the partition is reset. No channel is open.
    fn reset(&mut self);

    /// The device as it was when the bus was made: what was restored was refused. For one that is the same after each
    /// [`reset`](Self::reset) there is nothing more to do.
    fn renew(&mut self) {
        self.reset();
    }

    /// Writes the device's state. Nothing is in flight.
    fn save(&self, w: &mut Writer<'_>) {
        let _ = w;
    }

    /// Takes over a state that [`save`](Self::save) wrote, or what claims to be that.
    ///
    /// # Errors
    /// The state is invalid; the device is then [reset](Self::reset).
    fn restore(&mut self, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        let _ = r;
        Ok(())
    }
}
