//! The trait of devices.

use crate::id::Channel;
use crate::io::Io;
use crate::packet::{Done, Packet};
use crate::port::{Backend, Work};
use crate::protocol::{Guid, OpenChannel, PacketType, USER_DEFINED_BYTES};
use hv_memory::save::{Reader, RestoreError, Writer};
use hv_tlfs::time::ReferenceTime;

/// What a device did with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Taken {
    /// It has processed the packet, or turned it into a request.
    Done,
    /// It cannot take the packet now: it stays in the ring, and is presented again when something else has happened to
    /// the device. Nothing may have been done for the packet yet.
    Later,
    /// It takes no packets of this channel for now: the packet stays in the ring until
    /// [`Context::resume`](crate::Context::resume) or the guest's next signal. For a device with many channels, of
    /// which one must not cost the others. Nothing may have been done for the packet yet.
    Held,
    /// The channel is unusable: no further packets are taken until it is opened again. For invalid input from a guest
    /// that the device's protocol has no answer for.
    Fault,
}

/// Properties of a packet before the device sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Head {
    /// Kind.
    pub kind: PacketType,
    /// Size of the payload in bytes, rounded up to a multiple of 8 by the guest.
    pub len: u32,
    /// The guest expects a completion.
    pub wants_completion: bool,
    /// Maximum payload of a packet that the other ring can hold, in bytes.
    pub longest: u32,
}

/// Parameters with which the guest opened a channel.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Opening<'a> {
    /// VP that gets the channel's interrupts, or [`TARGET_VP_NONE`](crate::protocol::TARGET_VP_NONE).
    pub target_vp: u32,
    /// Data from the guest's driver for the device.
    pub user_data: &'a [u8; USER_DEFINED_BYTES],
}

impl<'a> Opening<'a> {
    pub(crate) fn new(request: &'a OpenChannel) -> Self {
        Self { target_vp: request.target_vp, user_data: &request.user_data }
    }
}

/// TL_CONNECT_REQUEST: the guest requests a connection to a service of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Connect {
    /// The guest's endpoint: becomes the instance of the offer.
    pub endpoint: Guid,
    /// The service: becomes the interface of the offer.
    pub service: Guid,
}

/// The device rejects the guest's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal;

/// A device behind one or more channels.
///
/// It is a state machine: packets, outcomes and time go in, answers and requests go out through [`Io`]. It is
/// independent of its back end, does not allocate, and the work of each call is bounded. The bus calls it with the
/// device's lock held, on any thread or CPU; it never waits.
///
/// The bus guarantees:
///
/// * A packet is presented only if the ring to the guest has room for the answer ([`reply_len`](Self::reply_len)) and
///   if a request is free, so a device never needs a list of unsent answers. Otherwise packets stay in the guest's
///   ring.
/// * A request holds everything that it accesses: the guest is not told that its pages are its own again before the
///   request is completed. Each request is completed once, in any order.
/// * When a channel is closed its requests are no longer answered, and [`completed`](Self::completed) is not called
///   for them.
pub trait Device: Sized {
    /// A request to the back end, with everything that must be remembered of the packet until then;
    /// [`Never`](crate::Never) if there are none.
    type Request: Work;

    /// Name in saved state: a device restores only the state of one with the same name.
    const NAME: [u8; 4];
    /// Maximum payload of an answer in bytes.
    const REPLY: u32 = 0;
    /// Maximum size of a packet to the guest, including the descriptor. Linux reads 4096 bytes of most devices'
    /// packets, and loses its place in the ring after a longer one.
    const PACKET_LIMIT: u32 = 4096;
    /// Maximum number of bytes of packets, and of the data that they list, that the device processes in one call, plus
    /// the rest of the last packet: a guest that fills the ring as fast as it is read takes turns with the others, and
    /// each call is short. A call serves as much again for signals that come while it has the device.
    const WORK_LIMIT: usize = 32 << 10;
    /// Interrupts the guest whenever the device has sent packets, even if the ring was not empty or the guest has
    /// masked the ring's interrupts. Packets that are sent before the device returns share one interrupt.
    const SIGNAL_EACH: bool = false;

    /// Returns true if the device takes the connection requests of Hyper-V sockets ([`connect`](Self::connect)).
    fn takes_connections(&self) -> bool {
        false
    }

    /// Returns the maximum payload of the answer to a packet, or `None` if it has no answer. The room is reserved
    /// before the packet is presented. By default, packets that request a completion have an answer.
    fn reply_len(&self, channel: Channel, head: &Head) -> Option<u32> {
        let _ = channel;
        head.wants_completion.then_some(Self::REPLY)
    }

    /// Opens a channel. The guest is notified after this, so nothing can be sent yet.
    ///
    /// # Errors
    /// [`Refusal`]: the channel stays closed, and the guest is told that the open failed.
    fn opened<P: Backend<Self::Request>>(
        &mut self,
        channel: Channel,
        opening: &Opening<'_>,
        io: &mut Io<'_, P, Self::Request>,
    ) -> Result<(), Refusal> {
        let _ = (channel, opening, io);
        Ok(())
    }

    /// Reports that the guest was told that a channel is open: packets can be sent from now on.
    fn live<P: Backend<Self::Request>>(&mut self, channel: Channel, io: &mut Io<'_, P, Self::Request>) {
        let _ = (channel, io);
    }

    /// Handles a packet.
    fn packet<P: Backend<Self::Request>>(
        &mut self,
        packet: &mut Packet<'_, P::Memory>,
        io: &mut Io<'_, P, Self::Request>,
    ) -> Taken;

    /// Reports that a ring of a channel is corrupt: no packets are taken or sent until the channel is opened again. A
    /// device that finds this itself, when it sends ([`SendError::Closed`](crate::SendError::Closed)), is not told.
    fn corrupt<P: Backend<Self::Request>>(&mut self, channel: Channel, io: &mut Io<'_, P, Self::Request>) {
        let _ = (channel, io);
    }

    /// Handles a request that the back end has completed. Unless it is answered or reissued ([`Io::request`]), it is
    /// dropped.
    fn completed<P: Backend<Self::Request>>(
        &mut self,
        done: &mut Done<'_, Self::Request>,
        outcome: <Self::Request as Work>::Outcome,
        io: &mut Io<'_, P, Self::Request>,
    ) {
        let _ = (done, outcome, io);
    }

    /// Returns the reference time at which [`tick`](Self::tick) must be called; `None`: not before
    /// something else happens. After a call of `tick` it must be in the future, unless a channel is waiting for room.
    /// At the end of [`Bus::with`](crate::Bus::with) a device that is due at once is called.
    fn deadline(&self) -> Option<ReferenceTime> {
        None
    }

    /// Handles the expiry of the deadline.
    fn tick<P: Backend<Self::Request>>(&mut self, io: &mut Io<'_, P, Self::Request>) {
        let _ = io;
    }

    /// Reports that the guest has made room in the ring of a channel on which [`Context::send`](crate::Context::send)
    /// found it full, or of which [`Context::await_room`](crate::Context::await_room) was called. Check how much: the
    /// guest may signal too early.
    fn room<P: Backend<Self::Request>>(&mut self, channel: Channel, io: &mut Io<'_, P, Self::Request>) {
        let _ = (channel, io);
    }

    /// Closes a channel: on request of the guest, at the end of the connection, or because it is rescinded. Requests
    /// made from its packets are no longer completed.
    fn closed<P: Backend<Self::Request>>(&mut self, channel: Channel, io: &mut Io<'_, P, Self::Request>) {
        let _ = (channel, io);
    }

    /// Reports that a channel is gone for the guest: its number is released, or the connection has ended. It follows
    /// [`closed`](Self::closed) if the channel was open.
    fn released<P: Backend<Self::Request>>(&mut self, channel: Channel, io: &mut Io<'_, P, Self::Request>) {
        let _ = (channel, io);
    }

    /// Handles the guest's request for a connection to a service. `channel` is reserved for it: the device calls
    /// [`Context::offer`](crate::Context::offer) or [`Context::refuse`](crate::Context::refuse) with it, now or later.
    ///
    /// # Errors
    /// [`Refusal`]: the guest is told immediately that there is no such service.
    fn connect<P: Backend<Self::Request>>(
        &mut self,
        channel: Channel,
        connect: &Connect,
        io: &mut Io<'_, P, Self::Request>,
    ) -> Result<(), Refusal> {
        let _ = (channel, connect, io);
        Err(Refusal)
    }

    /// Resets the device to its initial state: the partition is reset. No channel is open.
    fn reset(&mut self);

    /// Resets the device to its state when the bus was created: saved state was rejected. If that is the same as after
    /// each [`reset`](Self::reset), the default suffices.
    fn renew(&mut self) {
        self.reset();
    }

    /// Writes the device's state. Nothing is in flight.
    fn save(&self, w: &mut Writer<'_>) {
        let _ = w;
    }

    /// Restores a state written by [`save`](Self::save), or claimed to be.
    ///
    /// # Errors
    /// The state is invalid; the device is then [reset](Self::reset).
    fn restore(&mut self, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        let _ = r;
        Ok(())
    }
}
