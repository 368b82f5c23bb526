//! A device's slot on the bus: its state, its channels and its requests under one lock.

mod save;
mod work;

pub(crate) use work::{Visit, What};

use crate::calls::{Attempt, Calls};
use crate::device::{Connect, Device, Opening};
use crate::devices::{DeviceSet, Devices, Node, Part};
use crate::event::Reason;
use crate::id::Channel;
use crate::io::{Context, Counts, Cx, Limits, Position, Run};
use crate::line::{Line, Open, Stage, Stall};
use crate::optional::Optional;
use crate::pages::Segment;
use crate::port::{Backend, BusFaults as _, BusPort, Moment};
use crate::protocol::ChannelOffer;
use crate::protocol::connection::MAX_CHANNELS;
use crate::requests::Entry;
use crate::shared::Shared;
use crate::sync::{self, AtomicU64};
use crate::typed::Typed;
use crate::worker::Worker;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use hv_memory::save::{Reader, RestoreError, Writer};
use hv_memory::{AtomicDeadline, Deadline};
use hv_tlfs::time::ReferenceTime;
use lock_api::{Mutex, MutexGuard, RawMutex};
use work::{Act, Called, Signalled, Tick};

/// A device with its channels and requests, under a lock of the embedder's type.
///
/// `LINES` is the number of its channels: 1, and one for each sub-channel or socket. `REQUESTS` bounds those in flight,
/// and `SEGMENTS` the pages of one of them; both may be 0 for a device that has no back end.
pub struct Slot<R, D: Device, const LINES: usize = 1, const REQUESTS: usize = 0, const SEGMENTS: usize = 0> {
    /// Connections that the guest signals, or 0 for a channel that is not open; readable without the lock.
    routes: [AtomicU32; LINES],
    /// Signals that found the lock held.
    calls: Calls<LINES>,
    /// When the device must run next.
    deadline: AtomicDeadline,
    /// A channel may be in use; readable without the lock.
    occupied: AtomicBool,
    /// Position among all devices, once it is known: device and line, each plus 1, in 16 bits.
    place: AtomicU32,
    boot: Option<ChannelOffer>,
    held: Mutex<R, Contents<D, LINES, REQUESTS, SEGMENTS>>,
}

/// What the lock protects.
struct Contents<D: Device, const LINES: usize, const REQUESTS: usize, const SEGMENTS: usize> {
    device: D,
    lines: [Line; LINES],
    requests: [Entry; REQUESTS],
    works: [Optional<D::Request>; REQUESTS],
    segments: [[Segment; SEGMENTS]; REQUESTS],
    counts: Counts,
}

impl<R, D: Device, const LINES: usize, const REQUESTS: usize, const SEGMENTS: usize> fmt::Debug
    for Slot<R, D, LINES, REQUESTS, SEGMENTS>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("routes", &self.routes)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

impl<R: RawMutex, D: Device, const LINES: usize, const REQUESTS: usize, const SEGMENTS: usize>
    Slot<R, D, LINES, REQUESTS, SEGMENTS>
{
    /// Creates a slot for a device. Nothing of it is offered before [`Bus::offer`](crate::Bus::offer).
    ///
    /// # Panics
    /// If it has no channel, or 2048 or more.
    #[must_use]
    pub const fn new(device: D) -> Self {
        Self::with(device, None)
    }

    /// Creates a slot for a device whose first channel is offered from the start, and again after every reset.
    ///
    /// # Panics
    /// The same as for [`new`](Self::new).
    #[must_use]
    pub const fn offering(device: D, offer: ChannelOffer) -> Self {
        Self::with(device, Some(offer))
    }

    const fn with(device: D, boot: Option<ChannelOffer>) -> Self {
        assert!(LINES > 0, "a device has a channel");
        assert!(LINES < MAX_CHANNELS as usize, "a channel's number is an event flag");
        let mut lines = [const { Line::VACANT }; LINES];
        let mut counts = Counts::new();
        if let Some(offer) = boot {
            lines[0] = Line::offered(offer);
            counts.reach = 1;
        }
        Self {
            routes: [const { AtomicU32::new(0) }; LINES],
            calls: Calls::from_parts(AtomicU64::new(0), [const { sync::AtomicBool::new(false) }; LINES]),
            deadline: AtomicDeadline::never(),
            occupied: AtomicBool::new(boot.is_some()),
            place: AtomicU32::new(0),
            boot,
            held: Mutex::new(Contents {
                device,
                lines,
                requests: [const { Entry::FREE }; REQUESTS],
                works: [const { Optional::None }; REQUESTS],
                segments: [[Segment::EMPTY; SEGMENTS]; REQUESTS],
                counts,
            }),
        }
    }

    /// Calls a function with the device, under its lock, and records when it must run next: the function ends with
    /// [`Worker::end`], which returns that. Never inlined, since it is the same for all functions.
    #[inline(never)]
    pub(crate) fn enter<P: Backend<D::Request>>(&self, at: Position, cx: &Cx<'_, P>, work: What<'_, D, P>) {
        self.locked(self.held.lock(), at, cx, work);
        self.answer_calls(at, cx);
    }

    /// Does so with the lock already held, and releases it. Never inlined: everything that is done with a device begins
    /// here.
    #[inline(never)]
    fn locked<P: Backend<D::Request>>(
        &self,
        mut held: MutexGuard<'_, R, Contents<D, LINES, REQUESTS, SEGMENTS>>,
        at: Position,
        cx: &Cx<'_, P>,
        work: What<'_, D, P>,
    ) {
        let held = &mut *held;
        let limits = Limits { packet: D::PACKET_LIMIT, signal_each: D::SIGNAL_EACH };
        let env = cx.env(at, SEGMENTS, limits);
        let mut context = Context {
            env: &env,
            lines: &mut held.lines,
            requests: &mut held.requests,
            segments: held.segments.as_flattened_mut(),
            counts: &mut held.counts,
            occupied: &self.occupied,
            run: &mut Run::new(D::WORK_LIMIT),
        };
        let mut typed = Typed { device: &mut held.device, works: &mut held.works };
        let deadline = match work {
            What::Typed(visit) => visit.visit(&mut typed, &mut context),
            What::Any(act) => act.act(&mut Worker::new(&mut typed, &mut context)),
        };
        self.set_deadline(deadline, cx.shared);
        if held.counts.reach == 0 {
            self.occupied.store(false, Ordering::Release);
        }
    }

    /// Serves the signals that came while the device was in use, up to as much work as a call does for itself. What is
    /// left makes the device due at once.
    #[inline]
    fn answer_calls<P: Backend<D::Request>>(&self, at: Position, cx: &Cx<'_, P>) {
        let mut budget = D::WORK_LIMIT;
        let done = self.calls.serve(|| {
            if budget == 0 {
                return Attempt::Exhausted;
            }
            let Some(held) = self.held.try_lock() else { return Attempt::Held };
            budget = self.called(held, at, cx, budget);
            Attempt::Served
        });
        if !done {
            // Without the lock: a call that stores another time meanwhile finds the signals itself.
            self.set_deadline(Deadline::at(ReferenceTime::ZERO), cx.shared);
        }
    }

    /// Records when the device must run next.
    #[inline]
    fn set_deadline(&self, deadline: Deadline, shared: &Shared) {
        if self.deadline.load(Ordering::Acquire) != deadline {
            self.deadline.store(deadline, Ordering::Release);
            shared.moves();
        }
    }

    /// Serves the recorded signals with this much work; returns what is left of it.
    #[cold]
    #[inline(never)]
    fn called<P: Backend<D::Request>>(
        &self,
        held: MutexGuard<'_, R, Contents<D, LINES, REQUESTS, SEGMENTS>>,
        at: Position,
        cx: &Cx<'_, P>,
        budget: usize,
    ) -> usize {
        let mut called = Called { budget, lines: &mut self.calls.take() };
        self.locked(held, at, cx, What::Any(&mut called));
        called.budget
    }

    /// Returns the position of this slot among the bus's devices; `None` if it is on another bus.
    pub(crate) fn find<P: BusPort>(&self, devices: &impl Devices<P>) -> Option<Position> {
        // A slot is a part of its bus's devices, and stays where it is in them.
        let offset = core::ptr::from_ref(self).addr().wrapping_sub(core::ptr::from_ref(devices).addr());
        if offset >= size_of_val(devices) {
            return None;
        }
        let known = self.place.load(Ordering::Relaxed);
        if known != 0 {
            return Some(Position { device: (known >> 16) as u16 - 1, line: known as u16 - 1 });
        }
        find_place(devices, &self.place)
    }
}

/// The bus has work with the device.
struct BusWork<'a> {
    boot: Option<&'a ChannelOffer>,
    routes: &'a [AtomicU32],
    work: &'a mut dyn FnMut(&mut dyn Part),
}

impl<P: BusPort> Act<P> for BusWork<'_> {
    fn act(&mut self, worker: &mut Worker<'_, '_, P>) -> Deadline {
        let mut locked = Locked { worker, boot: self.boot, moved: false };
        (self.work)(&mut locked);
        if locked.moved {
            publish(self.routes, worker.io.lines);
        }
        worker.end()
    }
}

/// Finds the position of the slot that has this `place`, and stores it there.
#[cold]
#[inline(never)]
fn find_place<P: BusPort>(devices: &impl Devices<P>, place: &AtomicU32) -> Option<Position> {
    let mut found = None;
    devices.each(Position::FIRST, &mut |node, at| {
        if core::ptr::eq(node.identity(), place) {
            found = Some(at);
        }
    });
    if let Some(at) = found {
        place.store((u32::from(at.device) + 1) << 16 | (u32::from(at.line) + 1), Ordering::Relaxed);
    }
    found
}

impl<R, D: Device, const LINES: usize, const REQUESTS: usize, const SEGMENTS: usize> DeviceSet
    for Slot<R, D, LINES, REQUESTS, SEGMENTS>
{
    const LINES: usize = LINES;
    const DEVICES: usize = 1;

    fn deadline(&self) -> Deadline {
        self.deadline.load(Ordering::Acquire)
    }
}

impl<P, R, D, const LINES: usize, const REQUESTS: usize, const SEGMENTS: usize> Devices<P>
    for Slot<R, D, LINES, REQUESTS, SEGMENTS>
where
    P: Backend<D::Request>,
    R: RawMutex,
    D: Device,
{
    #[inline]
    fn signal(&self, line: usize, connection: u32, at: Position, cx: &Cx<'_, P>) -> bool {
        let meant =
            |line: &usize| self.routes.get(*line).is_some_and(|r| r.load(Ordering::Acquire) == connection);
        if connection == 0 || !meant(&line) {
            return false;
        }
        self.calls.signal(line, || {
            let Some(held) = self.held.try_lock() else { return false };
            self.locked(held, at, cx, What::Any(&mut Signalled { line, connection }));
            true
        });
        self.answer_calls(at, cx);
        true
    }

    fn each(&self, at: Position, each: &mut dyn FnMut(&dyn Node<P>, Position)) {
        each(self, at);
    }

    fn with_line(&self, line: usize, at: Position, work: &mut dyn FnMut(&dyn Node<P>, Position, usize)) {
        if line < LINES {
            work(self, at, line);
        }
    }

    fn save(&self, at: Position, cx: &Cx<'_, P>, w: &mut Writer<'_>) {
        let mut work = |typed: &mut Typed<'_, D>, context: &mut Context<'_, P>| {
            save::save(D::NAME, context, w);
            typed.device.save(w);
            Worker::new(typed, context).end()
        };
        self.enter(at, cx, What::Typed(&mut work));
    }

    fn load(&self, at: Position, cx: &Cx<'_, P>, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        let mut loaded = Ok(());
        let mut work = |typed: &mut Typed<'_, D>, context: &mut Context<'_, P>| {
            loaded = save::load(D::NAME, context, r).and_then(|()| typed.device.restore(r));
            publish(&self.routes, context.lines);
            Worker::new(typed, context).end()
        };
        self.enter(at, cx, What::Typed(&mut work));
        loaded
    }
}

impl<P, R, D, const LINES: usize, const REQUESTS: usize, const SEGMENTS: usize> Node<P>
    for Slot<R, D, LINES, REQUESTS, SEGMENTS>
where
    P: Backend<D::Request>,
    R: RawMutex,
    D: Device,
{
    fn identity(&self) -> *const AtomicU32 {
        core::ptr::from_ref(&self.place)
    }

    fn deadline(&self) -> Deadline {
        self.deadline.load(Ordering::Acquire)
    }

    fn line_of(&self, connection: u32) -> Option<usize> {
        self.routes.iter().position(|route| route.load(Ordering::Relaxed) == connection)
    }

    fn is_vacant(&self) -> bool {
        !self.occupied.load(Ordering::Acquire)
    }

    fn tick(&self, at: Position, cx: &Cx<'_, P>) {
        self.enter(at, cx, What::Any(&mut Tick));
    }

    fn work(&self, at: Position, cx: &Cx<'_, P>, work: &mut dyn FnMut(&mut dyn Part)) {
        let mut work = BusWork { boot: self.boot.as_ref(), routes: &self.routes, work };
        self.enter(at, cx, What::Any(&mut work));
    }
}

/// Publishes the connections that the guest signals.
fn publish(routes: &[AtomicU32], lines: &[Line]) {
    for (route, line) in routes.iter().zip(lines) {
        let connection = line.open.as_ref().map_or(0, |open| open.connection);
        route.store(connection, Ordering::Release);
    }
}

/// A device, locked.
struct Locked<'w, 'v, 'a, P: BusPort> {
    worker: &'w mut Worker<'v, 'a, P>,
    boot: Option<&'w ChannelOffer>,
    /// A channel was opened or closed. Nearly no call does that, and a device may have hundreds of channels.
    moved: bool,
}

impl<P: BusPort> Part for Locked<'_, '_, '_, P> {
    fn lines(&mut self) -> &mut [Line] {
        self.worker.io.lines
    }

    fn reach(&mut self) -> usize {
        let Context { lines, counts, .. } = &mut *self.worker.io;
        let used = lines.iter().take(counts.reach).rposition(|line| line.stage != Stage::Vacant);
        counts.reach = used.map_or(0, |last| last + 1);
        counts.reach
    }

    fn fill(&mut self, at: usize, offer: &ChannelOffer, lasting: bool) {
        if let Some(line) = self.worker.io.lines.get_mut(at) {
            line.fill(offer, lasting);
            self.worker.io.occupy(at);
        }
    }

    fn open(&mut self, at: usize, opening: &Opening<'_>, open: Open) -> Result<(), Reason> {
        self.moved = true;
        let worker = &mut *self.worker;
        let Some(line) = worker.io.lines.get_mut(at) else { return Err(Reason::UnknownChannel) };
        line.session = line.session.wrapping_add(1);
        line.open = Optional::Some(open);
        let opened = worker.device.opened(Channel(at as u16), opening, worker.io);
        if opened.is_err() {
            worker.io.lines[at].open = Optional::None;
            return Err(Reason::DeviceRefused);
        }
        let interface = worker.io.lines[at].offer.interface;
        if worker.io.env.port.faults().rescinds(&interface, Moment::Open) {
            worker.io.take_away(at);
        }
        Ok(())
    }

    fn close(&mut self, at: usize) {
        let worker = &mut *self.worker;
        worker.io.stall(at, Stall::None);
        let Some(line) = worker.io.lines.get_mut(at) else { return };
        let Some(open) = line.open.take() else { return };
        self.moved = true;
        line.session = line.session.wrapping_add(1);
        if open.wanted > 0 {
            worker.io.counts.room -= 1;
        }
        if at == 0 {
            worker.io.counts.subchannels = 0;
        }
        worker.device.closed(Channel(at as u16), worker.io);
        // Requests waiting for the back end are dropped, held ones too.
        worker.io.unhold(|_, entry| entry.line == at);
        worker.settle(Some(at));
    }

    fn release(&mut self, at: usize) {
        self.moved = true;
        let worker = &mut *self.worker;
        if let Some(line) = worker.io.lines.get_mut(at) {
            line.vacate();
            worker.device.released(Channel(at as u16), worker.io);
        }
    }

    fn connect(&mut self, connect: &Connect) -> Option<Result<(), Reason>> {
        let worker = &mut *self.worker;
        if !worker.device.takes_connections() {
            return None;
        }
        let Some(channel) = worker.io.vacant() else { return Some(Err(Reason::NoRoom)) };
        let line = &mut worker.io.lines[channel.index()];
        line.offer.interface = connect.service;
        line.offer.instance = connect.endpoint;
        line.stage = Stage::Connecting;
        worker.io.occupy(channel.index());
        let outcome = worker.device.connect(channel, connect, worker.io);
        if outcome.is_err() {
            worker.io.lines[channel.index()].vacate();
        }
        Some(outcome.map_err(|_| Reason::DeviceRefused))
    }

    fn subchannels(&self) -> u16 {
        self.worker.io.counts.subchannels
    }

    fn live(&mut self, at: usize) {
        let worker = &mut *self.worker;
        if let Some(open) = worker.io.lines.get_mut(at).and_then(|line| line.open.as_mut())
            && !core::mem::replace(&mut open.live, true)
        {
            worker.device.live(Channel(at as u16), worker.io);
            // A guest may have sent packets already: another VP has seen the answer, and its signal has found a channel
            // that was not live. Nor does it signal again as long as those are in the ring.
            worker.run(at);
            worker.settle(Some(at));
        }
    }

    fn resume(&mut self) {
        self.worker.settle(None);
    }

    fn reset(&mut self, first: bool) {
        self.moved = true;
        for at in 0..self.worker.io.lines.len() {
            self.close(at);
            let line = &mut self.worker.io.lines[at];
            match line.stage {
                Stage::Hidden | Stage::Known | Stage::Declined if line.lasting && !first => {
                    line.stage = Stage::Hidden;
                }
                _ => line.vacate(),
            }
        }
        self.worker.io.counts.poll = Deadline::NEVER;
        match first {
            true => self.worker.device.renew(),
            false => self.worker.device.reset(),
        }
        if let Some(offer) = self.boot.filter(|_| first) {
            self.fill(0, offer, true);
        }
    }
}
