//! What input devices have in common: one version of a protocol, and events that a user makes.
//!
//! The guest asks for the version. From then on the host sends events, in the order in which the embedder hands them
//! over: some at a time, which stay here while the guest's ring is full. The next are taken when they are all in the
//! ring, and the embedder has taken note of it.

use core::fmt::Debug;

use hv_memory::GuestMemory;
use hv_memory::save::{Reader, RestoreError, Writer};
use hv_tlfs::vmbus::PacketType;
use hv_tlfs::vmbus::ic::{Status, Version};
use hv_vmbus::{Backend, BusPort, Channel, Device, Io, Never, Opening, Packet, Refusal, SendError, Taken};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::ic::{AGREED, IGNORED, Outcome, READY, Refused, State};

/// Maximum number of events that a device takes at a time.
pub const EVENTS: usize = 64;

/// A message from the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It asks for a version of the protocol.
    Version(u32),
    /// It acknowledges the description of the device.
    Acknowledged,
    /// Nothing that needs an answer.
    Other,
    /// Nothing that the protocol has.
    Unknown,
}

/// An event, and what is its device's own.
pub(crate) trait Event: Copy + Debug + FromBytes + IntoBytes + Immutable + 'static {
    /// See [`Device::NAME`].
    const NAME: [u8; 4];
    /// Version of the protocol: major number in the high half.
    const VERSION: u32;
    /// The device is described to the guest, which has events once it has acknowledged that.
    const DESCRIBED: bool;
    /// Bytes in the ring that all answers to a request for a version need.
    const ROOM: u32;
    /// All zeros.
    const NONE: Self;

    /// Returns true if the protocol has such an event.
    fn is_valid(&self) -> bool;

    /// Parses a message from the guest.
    fn hear<M: GuestMemory>(packet: &mut Packet<'_, M>) -> Heard;

    /// Answers a request for a version, and describes the device if that is part of the protocol.
    fn answer<P: BusPort>(io: &mut Io<'_, P, Never>, version: u32, accepted: bool) -> Result<(), SendError>;

    /// Sends the event.
    fn send<P: BusPort>(&self, io: &mut Io<'_, P, Never>) -> Result<(), SendError>;
}

/// Progress of the guest's driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Step {
    /// The channel is closed.
    Closed = 0,
    /// The driver has not asked for a version.
    Opened,
    /// It has not acknowledged the description of the device.
    Described,
    /// It takes events.
    Ready,
    /// It has asked for a version that the host does not support.
    Incompatible,
}

/// Outcome of the last events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Ended {
    /// Nothing, or the embedder knows it.
    No = 0,
    /// They are in the guest's ring.
    Sent,
    /// The guest closed the channel first.
    Closed,
}

impl Ended {
    const fn outcome(self) -> Option<Outcome> {
        match self {
            Self::No => None,
            Self::Sent => Some(Outcome::Answered(Status::SUCCESS)),
            Self::Closed => Some(Outcome::Closed),
        }
    }
}

/// The host's end of an input device.
#[derive(Clone, Copy, Debug)]
pub struct Input<E> {
    pub(crate) own: Driver<E>,
}

/// The guest's driver, and the events for it. A new one is all zeros, so that one in a static takes no room in a
/// program's file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Driver<E> {
    step: Step,
    ended: Ended,
    /// Number of events to send; 0 if there are none.
    count: u8,
    /// Number of those that are in the guest's ring.
    sent: u8,
    events: [E; EVENTS],
}

impl<E: Event> Driver<E> {
    pub(crate) const fn new() -> Self {
        Self { step: Step::Closed, ended: Ended::No, count: 0, sent: 0, events: [E::NONE; EVENTS] }
    }

    /// Returns the state of the guest's driver, in the terms of the services.
    pub(crate) const fn state(&self) -> State {
        match self.step {
            Step::Closed => State::Closed,
            Step::Opened | Step::Described => State::Negotiating,
            Step::Ready => {
                let version = Version { major: (E::VERSION >> 16) as u16, minor: E::VERSION as u16 };
                State::Ready { framework: version, version }
            }
            Step::Incompatible => State::Incompatible,
        }
    }

    /// Takes events, and sends those for which there is room.
    pub(crate) fn hand_over<P: BusPort>(
        &mut self,
        io: &mut Io<'_, P, Never>,
        events: &[E],
    ) -> Result<(), Refused> {
        match self.step {
            Step::Closed => return Err(Refused::Closed),
            Step::Opened | Step::Described => return Err(Refused::Negotiating),
            Step::Incompatible => return Err(Refused::Incompatible),
            Step::Ready => {}
        }
        if self.count > 0 || self.ended != Ended::No {
            return Err(Refused::Busy);
        }
        let place = self.events.get_mut(..events.len()).ok_or(Refused::Invalid)?;
        if events.is_empty() || !events.iter().all(E::is_valid) {
            return Err(Refused::Invalid);
        }
        place.copy_from_slice(events);
        (self.count, self.sent) = (events.len() as u8, 0);
        self.send(io);
        Ok(())
    }

    /// Takes the outcome of the last events, which allows others.
    pub(crate) fn take_outcome(&mut self) -> Option<Outcome> {
        core::mem::replace(&mut self.ended, Ended::No).outcome()
    }

    /// Sends the rest of the events, as far as there is room.
    fn send<P: BusPort>(&mut self, io: &mut Io<'_, P, Never>) {
        let (first, end) = (usize::from(self.sent), usize::from(self.count));
        for event in self.events.get(first..end).unwrap_or_default() {
            match event.send(io) {
                Ok(()) => self.sent += 1,
                // It continues in `room`.
                Err(SendError::Full) => return,
                Err(_) => return self.end(io, Ended::Closed),
            }
        }
        self.end(io, Ended::Sent);
    }

    /// Ends the events, if there are any.
    fn end<P: BusPort>(&mut self, io: &Io<'_, P, Never>, ended: Ended) {
        if core::mem::take(&mut self.count) == 0 {
            return;
        }
        (self.sent, self.ended) = (0, ended);
        if let Some(outcome) = ended.outcome() {
            io.observe(Channel::PRIMARY, READY, outcome.number());
        }
    }

    /// Handles the guest's acknowledgement of the description of the device.
    fn acknowledged<P: BusPort>(&mut self, io: &Io<'_, P, Never>) {
        if self.step == Step::Described {
            self.step = Step::Ready;
            io.observe(Channel::PRIMARY, AGREED, E::VERSION.into());
        }
    }

    /// Handles a request for a version. Returns false if its answers have no room yet.
    fn negotiate<P: BusPort>(
        &mut self,
        packet: &mut Packet<'_, P::Memory>,
        io: &mut Io<'_, P, Never>,
        version: u32,
    ) -> bool {
        if io.free(Channel::PRIMARY) < E::ROOM && !io.await_room(Channel::PRIMARY, E::ROOM) {
            return false;
        }
        let accepted = version == E::VERSION && !io.refuses(version);
        let _ = io.complete(packet, &[]);
        // There is room, and nothing else takes it.
        let _ = E::answer(io, version, accepted);
        self.step = match accepted {
            true if E::DESCRIBED => Step::Described,
            true => Step::Ready,
            false => Step::Incompatible,
        };
        if self.step == Step::Ready {
            io.observe(Channel::PRIMARY, AGREED, version.into());
        } else {
            self.end(io, Ended::Closed);
        }
        true
    }

    fn save(&self, w: &mut Writer<'_>) {
        w.u8(self.step as u8);
        w.u8(self.ended as u8);
        w.u8(self.sent);
        let events = self.events.get(..usize::from(self.count)).unwrap_or_default();
        w.count(events.len());
        events.iter().for_each(|event| w.value(event));
    }

    fn restore(&mut self, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        let mut new = Self::new();
        new.step = match r.u8()? {
            0 => Step::Closed,
            1 => Step::Opened,
            2 if E::DESCRIBED => Step::Described,
            3 => Step::Ready,
            4 => Step::Incompatible,
            _ => return Err(RestoreError::Invalid("state of an input device")),
        };
        new.ended = match r.u8()? {
            0 => Ended::No,
            1 => Ended::Sent,
            2 => Ended::Closed,
            _ => return Err(RestoreError::Invalid("outcome of an input device")),
        };
        new.sent = r.u8()?;
        let count = r.count()?;
        for event in new.events.get_mut(..count).ok_or(RestoreError::NoRoom)? {
            *event = r.value()?;
            if !event.is_valid() {
                return Err(RestoreError::Invalid("event of an input device"));
            }
        }
        new.count = count as u8;
        let idle = new.count == 0 && new.sent == 0;
        // A driver that takes events has some of them before it, and no outcome.
        let busy = new.sent < new.count && new.step == Step::Ready && new.ended == Ended::No;
        if !idle && !busy {
            return Err(RestoreError::Invalid("events of an input device"));
        }
        *self = new;
        Ok(())
    }
}

impl<E: Event> Device for Input<E> {
    type Request = Never;

    const NAME: [u8; 4] = E::NAME;

    fn opened<P: Backend<Never>>(
        &mut self,
        _: Channel,
        _: &Opening<'_>,
        _: &mut Io<'_, P, Never>,
    ) -> Result<(), Refusal> {
        self.own.step = Step::Opened;
        Ok(())
    }

    fn packet<P: Backend<Never>>(
        &mut self,
        packet: &mut Packet<'_, P::Memory>,
        io: &mut Io<'_, P, Never>,
    ) -> Taken {
        let len = packet.left();
        let heard = match packet.kind() {
            PacketType::DATA_IN_BAND => E::hear(packet),
            // The end of a packet that asked for none.
            _ => Heard::Unknown,
        };
        match heard {
            Heard::Version(version) => {
                if !self.own.negotiate(packet, io, version) {
                    return Taken::Later;
                }
            }
            Heard::Acknowledged => self.own.acknowledged(io),
            Heard::Other => {}
            Heard::Unknown => io.observe(Channel::PRIMARY, IGNORED, len as u64),
        }
        // Whatever else a packet has is ignored, and one that was answered is not completed again.
        let _ = io.complete(packet, &[]);
        // If the guest made the room for these answers just then, the events' own request for room is gone.
        self.own.send(io);
        Taken::Done
    }

    fn corrupt<P: Backend<Never>>(&mut self, _: Channel, io: &mut Io<'_, P, Never>) {
        self.own.end(io, Ended::Closed);
    }

    fn room<P: Backend<Never>>(&mut self, _: Channel, io: &mut Io<'_, P, Never>) {
        self.own.send(io);
    }

    fn closed<P: Backend<Never>>(&mut self, _: Channel, io: &mut Io<'_, P, Never>) {
        self.own.step = Step::Closed;
        self.own.end(io, Ended::Closed);
    }

    fn reset(&mut self) {
        self.own = Driver::new();
    }

    fn save(&self, w: &mut Writer<'_>) {
        self.own.save(w);
    }

    fn restore(&mut self, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        self.own.restore(r)
    }
}
