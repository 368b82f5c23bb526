//! The context of a device during a call.

mod ask;
mod flight;
mod send;
mod show;

pub use ask::{Buffer, RequestError};
pub use send::{Message, SendError, TRANSFER_RANGES};

use crate::event::Event;
use crate::gpadl::Pool;
use crate::id::{Channel, DeviceId};
use crate::line::{Line, Stage, Stall};
use crate::optional::Optional;
use crate::pages::Segment;
use crate::port::{BusFaults as _, BusPort};
use crate::protocol::{ChannelId, ChannelOffer};
use crate::requests::Entry;
use crate::shared::Shared;
use crate::traffic::Traffic;
use core::fmt;
use core::ops::{Deref, DerefMut, Range};
use core::sync::atomic::{AtomicBool, Ordering};
use hv_memory::Deadline;
use hv_tlfs::time::ReferenceTime;

/// Time after which a full ring is checked even if the guest has not signalled.
pub(crate) const POLL: ReferenceTime = ReferenceTime(100_000);
/// Minimum cost of a packet.
pub(crate) const LEAST: usize = 512;

/// Position of a device among all devices, and of its channels.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub(crate) device: u16,
    /// Number of its first channel, minus 1.
    pub(crate) line: u16,
}

impl Position {
    pub(crate) const FIRST: Self = Self { device: 0, line: 0 };

    /// Returns the position after this many devices and channels.
    #[must_use]
    pub const fn after(self, devices: usize, lines: usize) -> Self {
        Self { device: self.device + devices as u16, line: self.line + lines as u16 }
    }

    pub(crate) fn id(self, line: usize) -> ChannelId {
        ChannelId(u32::from(self.line) + line as u32 + 1)
    }

    pub(crate) fn channels(self, lines: usize) -> Range<u32> {
        self.id(0).0..self.id(lines).0
    }
}

/// Counts of a device's channels with pending work, and the device's requests to the bus.
#[derive(Debug)]
pub(crate) struct Counts {
    pub(crate) budget: usize,
    pub(crate) room: usize,
    pub(crate) later: usize,
    /// Requests for which the back end had no room.
    pub(crate) queued: usize,
    /// The back end was not called for them: the call had reached its work limit.
    pub(crate) unstarted: bool,
    /// Requests held back by injected faults.
    pub(crate) held: usize,
    /// Requests in flight.
    pub(crate) used: usize,
    pub(crate) order: u32,
    /// The request that was queued last.
    pub(crate) newest: usize,
    /// The next check of rings that were full.
    pub(crate) poll: Deadline,
    /// The channel that is the first to be served of those that had reached the work limit.
    pub(crate) turn: usize,
    /// Number of sub-channels that the device requests.
    pub(crate) subchannels: u16,
    /// The channels from this one on are vacant.
    pub(crate) reach: usize,
}

impl Counts {
    pub(crate) const fn new() -> Self {
        Self {
            budget: 0,
            room: 0,
            later: 0,
            queued: 0,
            held: 0,
            unstarted: false,
            used: 0,
            order: 0,
            newest: 0,
            poll: Deadline::NEVER,
            turn: 0,
            subchannels: 0,
            reach: 0,
        }
    }

    /// Schedules a check of rings that were full, at this time at the latest.
    pub(crate) fn poll_by(&mut self, time: ReferenceTime) {
        self.poll = self.poll.earlier(Deadline::at(time));
    }
}

/// The common parameters of all calls.
#[doc(hidden)]
#[derive(Debug)]
pub struct Cx<'a, P> {
    pub(crate) port: &'a P,
    pub(crate) pool: Pool<'a>,
    pub(crate) shared: &'a Shared,
}

impl<'a, P: BusPort> Cx<'a, P> {
    /// Returns what a call of the device at this place begins with.
    #[inline(never)]
    pub(crate) fn env(&'a self, place: Position, per: usize, limits: Limits) -> Env<'a, P> {
        let now = self.port.reference_time();
        let (planned, observed) = (self.port.faults().is_planned(), self.port.sees_packets());
        Env { common: self, place, per, now, limits, planned, observed }
    }
}

/// What does not change during a call of a device. It dereferences to what all calls have in common.
pub(crate) struct Env<'a, P> {
    pub(crate) common: &'a Cx<'a, P>,
    pub(crate) place: Position,
    /// Number of segments of each request.
    pub(crate) per: usize,
    pub(crate) now: ReferenceTime,
    pub(crate) limits: Limits,
    /// [`BusFaults::is_planned`](crate::BusFaults::is_planned): asked once, and nothing else of a plan is asked if
    /// there is none.
    pub(crate) planned: bool,
    /// [`BusPort::sees_packets`].
    pub(crate) observed: bool,
}

impl<'a, P> Deref for Env<'a, P> {
    type Target = Cx<'a, P>;

    #[inline(always)]
    fn deref(&self) -> &Cx<'a, P> {
        self.common
    }
}

/// The constants of a device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// [`Device::PACKET_LIMIT`](crate::Device::PACKET_LIMIT).
    pub(crate) packet: u32,
    /// [`Device::SIGNAL_EACH`](crate::Device::SIGNAL_EACH).
    pub(crate) signal_each: bool,
}

/// What was done during a call of a device.
#[derive(Debug)]
pub(crate) struct Run {
    /// How much work is left to do.
    pub(crate) budget: usize,
    /// Channels that may have a signal pending for the guest.
    pub(crate) signals: Range<usize>,
    /// The device takes packets from a held channel again.
    pub(crate) resumed: bool,
    /// What the device did so far.
    pub(crate) traffic: Traffic,
}

impl Run {
    pub(crate) const fn new(budget: usize) -> Self {
        Self { budget, signals: 0..0, resumed: false, traffic: Traffic::NONE }
    }
}

/// The context of a device during a call, as far as it does not depend on the type of its requests: its channels'
/// rings, and the time.
///
/// Its methods are compiled once for a port, whatever the number of devices. A device gets it as a part of [`Io`].
pub struct Context<'a, P: BusPort> {
    pub(crate) env: &'a Env<'a, P>,
    pub(crate) lines: &'a mut [Line],
    pub(crate) requests: &'a mut [Entry],
    /// [`Env::per`] segments for each request.
    pub(crate) segments: &'a mut [Segment],
    pub(crate) counts: &'a mut Counts,
    /// A channel may be in use; read without the device's lock.
    pub(crate) occupied: &'a AtomicBool,
    pub(crate) run: &'a mut Run,
}

impl<P: BusPort> fmt::Debug for Context<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Env { place, now, .. } = self.env;
        f.debug_struct("Context").field("place", place).field("now", now).finish_non_exhaustive()
    }
}

/// The context of a device during a call: a [`Context`], and the device's requests.
pub struct Io<'a, P: BusPort, Q> {
    context: Context<'a, P>,
    /// What is requested, by the number of the request.
    works: &'a mut [Optional<Q>],
}

impl<P: BusPort, Q> fmt::Debug for Io<'_, P, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Io").field(&self.context).finish()
    }
}

impl<'a, P: BusPort, Q> Io<'a, P, Q> {
    pub(crate) fn new(context: Context<'a, P>, works: &'a mut [Optional<Q>]) -> Self {
        Self { context, works }
    }
}

impl<'a, P: BusPort, Q> Deref for Io<'a, P, Q> {
    type Target = Context<'a, P>;

    #[inline(always)]
    fn deref(&self) -> &Context<'a, P> {
        &self.context
    }
}

impl<'a, P: BusPort, Q> DerefMut for Io<'a, P, Q> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Context<'a, P> {
        &mut self.context
    }
}

impl<P: BusPort> Context<'_, P> {
    /// Returns the context for a call of the device.
    #[inline(always)]
    pub(crate) fn reborrow(&mut self) -> Context<'_, P> {
        Context {
            env: self.env,
            lines: &mut *self.lines,
            requests: &mut *self.requests,
            segments: &mut *self.segments,
            counts: &mut *self.counts,
            occupied: self.occupied,
            run: &mut *self.run,
        }
    }
}

impl<'a, P: BusPort> Context<'a, P> {
    /// Returns the reference time.
    #[must_use]
    pub fn now(&self) -> ReferenceTime {
        self.env.now
    }

    /// Returns the guest's memory, for [`Pages::read`](crate::Pages::read) and [`Pages::write`](crate::Pages::write).
    #[must_use]
    pub fn memory(&self) -> &'a P::Memory {
        self.env.port.memory()
    }

    /// Returns the index of the device among the bus's devices.
    #[must_use]
    pub fn device(&self) -> DeviceId {
        DeviceId(self.env.place.device)
    }

    /// Returns the number of the device's channels, including those that are not offered.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.lines.len()
    }

    /// Returns true if the guest knows that the channel is open, and its rings are intact.
    #[must_use]
    pub fn is_open(&self, channel: Channel) -> bool {
        self.lines.get(channel.index()).is_some_and(Line::is_live)
    }

    /// Returns true if a request of the device's waits until the back end has room
    /// ([`Started::Full`](crate::Started::Full)): no packet is taken from its channels until then.
    #[must_use]
    pub fn awaits_back_end(&self) -> bool {
        self.counts.queued > 0 && !self.counts.unstarted
    }

    /// Returns true if the back end has no request of the device's, on whatever channel.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.lines.iter().all(|line| line.in_flight == 0)
    }

    /// Has packets taken again from a channel of which the device has held one ([`Taken::Held`](crate::Taken::Held)).
    pub fn resume(&mut self, channel: Channel) {
        let open = self.lines.get_mut(channel.index()).and_then(|line| line.open.as_mut());
        if let Some(open) = open.filter(|open| open.stall == Stall::Held) {
            open.stall = Stall::Budget;
            self.counts.budget += 1;
            self.run.resumed = true;
        }
    }

    /// Records that a channel is no longer vacant. Before the bus is called for it ([`Shared::call`]): whoever takes
    /// that call looks only at devices with such channels.
    pub(crate) fn occupy(&mut self, line: usize) {
        self.counts.reach = self.counts.reach.max(line + 1);
        self.occupied.store(true, Ordering::Release);
    }

    /// Records why a channel's packets wait in its ring.
    pub(crate) fn stall(&mut self, line: usize, stall: Stall) {
        let counts = &mut *self.counts;
        let Some(open) = self.lines.get_mut(line).and_then(|line| line.open.as_mut()) else { return };
        match core::mem::replace(&mut open.stall, stall) {
            Stall::None | Stall::Held => {}
            Stall::Budget => counts.budget -= 1,
            Stall::Room => counts.room -= 1,
            Stall::Later => counts.later -= 1,
        }
        match stall {
            Stall::None | Stall::Held => {}
            Stall::Budget => counts.budget += 1,
            Stall::Room => {
                counts.room += 1;
                counts.poll_by(self.env.now.saturating_add(POLL));
            }
            Stall::Later => counts.later += 1,
        }
    }

    /// Reports something to the observer. Not inlined: many places call it, rarely.
    #[inline(never)]
    pub fn observe(&self, channel: Channel, note: u32, value: u64) {
        self.env.port.observe(Event::Device { channel: self.env.place.id(channel.index()), note, value });
    }

    /// Returns true if the device does not speak a version of its protocol in this run: major number in the upper half.
    /// Only a port with injected faults refuses one.
    #[must_use]
    pub fn refuses(&self, version: u32) -> bool {
        self.lines.first().is_some_and(|line| self.env.port.faults().refuses(&line.offer.interface, version))
    }

    /// Requests sub-channels, and returns how many there will be: the guest may be told that number, and is offered
    /// exactly that many, with the indices from 1 on. They are rescinded when the primary channel is closed.
    pub fn subchannels(&mut self, count: u16) -> u16 {
        let granted = usize::from(count).min(self.lines.len().saturating_sub(1)) as u16;
        self.counts.subchannels = self.counts.subchannels.max(granted);
        self.env.shared.call();
        granted
    }

    /// Returns a channel that is not offered, and can be ([`offer`](Self::offer)).
    #[must_use]
    pub fn vacant(&self) -> Option<Channel> {
        self.vacancies().next()
    }

    /// Returns all such channels.
    pub fn vacancies(&self) -> impl Iterator<Item = Channel> {
        let vacant = |(_, line): &(usize, &Line)| line.stage == Stage::Vacant && line.in_flight == 0;
        self.lines.iter().enumerate().filter(vacant).map(|(at, _)| Channel(at as u16))
    }

    /// Offers a channel that is vacant, or reserved for a connection. The offer lasts until it is rescinded or the
    /// guest ends the connection. Returns false if the channel cannot be offered, or the guest has another offer with
    /// the same interface and instance.
    pub fn offer(&mut self, channel: Channel, offer: &ChannelOffer) -> bool {
        let same = |line: &Line| {
            !matches!(line.stage, Stage::Vacant | Stage::Connecting | Stage::Refused)
                && line.offer.interface == offer.interface
                && line.offer.instance == offer.instance
                && line.offer.subchannel_index == offer.subchannel_index
        };
        if self.lines.iter().take(self.counts.reach).any(same) {
            return false;
        }
        let Some(line) = self.lines.get_mut(channel.index()) else { return false };
        if !matches!(line.stage, Stage::Vacant | Stage::Connecting) || line.in_flight > 0 {
            return false;
        }
        line.fill(offer, false);
        self.occupy(channel.index());
        self.env.shared.call();
        true
    }

    /// Rejects the connection for which the channel was reserved. Returns false if it was not reserved.
    pub fn refuse(&mut self, channel: Channel) -> bool {
        let line = self.lines.get_mut(channel.index()).filter(|line| line.stage == Stage::Connecting);
        let Some(line) = line else { return false };
        line.stage = Stage::Refused;
        self.env.shared.call();
        true
    }

    /// Returns true if a channel is offered, and not rescinded.
    #[must_use]
    pub fn is_offered(&self, channel: Channel) -> bool {
        let stage = self.lines.get(channel.index()).map(|line| line.stage);
        matches!(stage, Some(Stage::Known | Stage::Hidden | Stage::Declined))
    }

    /// Rescinds a channel. No further packets are taken from it; the guest is notified as soon as nothing is in flight.
    /// [`Device::closed`](crate::Device::closed) follows if it is open, [`Device::released`](crate::Device::released)
    /// when the guest has released its number. Returns true if nothing follows: the guest does not know the
    /// channel.
    pub fn rescind(&mut self, channel: Channel) -> bool {
        let Some(line) = self.lines.get_mut(channel.index()) else { return true };
        match line.stage {
            Stage::Known => line.stage = Stage::Leaving,
            Stage::Hidden | Stage::Declined => line.vacate(),
            // A refused connection's channel is vacant as soon as the guest was told.
            Stage::Vacant | Stage::Refused => return true,
            Stage::Leaving | Stage::Gone | Stage::Connecting => return false,
        }
        self.env.shared.call();
        self.lines[channel.index()].stage == Stage::Vacant
    }

    /// Rescinds the device behind a channel: the first channel of a sub-channel's, or the channel itself, as a
    /// connection is.
    pub(crate) fn take_away(&mut self, line: usize) {
        let sub = self.lines.get(line).is_some_and(|line| line.offer.subchannel_index != 0);
        self.rescind(if sub { Channel::PRIMARY } else { Channel(line as u16) });
    }
}
