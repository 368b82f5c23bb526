//! A device's slot on the bus: its state, its channels and its requests under one lock.

use crate::calls::{Attempt, Calls};
use crate::device::{Connect, Device, Opening};
use crate::devices::{Cx, DeviceSet, Devices, Node, Part};
use crate::event::Reason;
use crate::gpadl::Pool;
use crate::id::{Channel, Token};
use crate::image::Image;
use crate::io::{Counts, Io, Place};
use crate::line::{Line, Open, Stage, Stall};
use crate::optional::{Due, Optional};
use crate::pages::Segment;
use crate::port::{Backend, BusPort, Moment, Work};
use crate::protocol::{ChannelOffer, GpadlId};
use crate::requests::Entry;
use crate::sync::{AtomicBool, AtomicU64};
use crate::traffic::Traffic;
use crate::worker::{LEAST, NEVER, Worker};
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};
use hv_memory::save::{Reader, RestoreError, Writer};
use hv_tlfs::time::ReferenceTime;
use lock_api::{Mutex, MutexGuard, RawMutex};

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
    deadline: Due,
    /// Position among all devices, once it is known: device and line, each plus 1, in 16 bits.
    place: AtomicU32,
    boot: Option<ChannelOffer>,
    held: Mutex<R, Held<D, LINES, REQUESTS, SEGMENTS>>,
}

struct Held<D: Device, const LINES: usize, const REQUESTS: usize, const SEGMENTS: usize> {
    device: D,
    lines: [Line; LINES],
    requests: [Entry<D::Request>; REQUESTS],
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
        assert!(LINES < 2048, "a channel's number is an event flag");
        let mut lines = [const { Line::VACANT }; LINES];
        if let Some(offer) = boot {
            lines[0] = Line::offered(offer);
        }
        Self {
            routes: [const { AtomicU32::new(0) }; LINES],
            calls: Calls::from_parts(AtomicU64::new(0), [const { AtomicBool::new(false) }; LINES]),
            deadline: Due::never(),
            place: AtomicU32::new(0),
            boot,
            held: Mutex::new(Held {
                device,
                lines,
                requests: [const { Entry::FREE }; REQUESTS],
                segments: [[Segment::EMPTY; SEGMENTS]; REQUESTS],
                counts: Counts::new(),
            }),
        }
    }

    /// Calls a function with the device, under its lock, and records when it must run next.
    fn enter<P: Backend<D::Request>, T>(
        &self,
        at: Place,
        cx: &Cx<'_, P>,
        work: impl FnOnce(&mut Worker<'_, P, D>) -> T,
    ) -> T {
        let result = self.locked(self.held.lock(), at, cx, work);
        self.answer_calls(at, cx);
        result
    }

    /// Does so with the lock already held, and releases it.
    fn locked<P: Backend<D::Request>, T>(
        &self,
        mut held: MutexGuard<'_, R, Held<D, LINES, REQUESTS, SEGMENTS>>,
        at: Place,
        cx: &Cx<'_, P>,
        work: impl FnOnce(&mut Worker<'_, P, D>) -> T,
    ) -> T {
        let held = &mut *held;
        let io = Io {
            port: cx.port,
            pool: cx.pool,
            shared: cx.shared,
            place: at,
            lines: &mut held.lines,
            requests: &mut held.requests,
            segments: held.segments.as_flattened_mut(),
            per: SEGMENTS,
            counts: &mut held.counts,
            now: cx.port.reference_time(),
            limit: D::PACKET_LIMIT,
            signal_each: D::SIGNAL_EACH,
            signals: 0..0,
            resumed: false,
            traffic: Traffic::default(),
        };
        let mut worker = Worker::new(&mut held.device, io);
        let result = work(&mut worker);
        self.deadline.store(worker.end());
        result
    }

    /// Serves the signals that came while the device was in use, up to as much work as a call does for itself. What is left makes the
    /// device due at once.
    #[inline]
    fn answer_calls<P: Backend<D::Request>>(&self, at: Place, cx: &Cx<'_, P>) {
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
            self.deadline.store(ReferenceTime::ZERO);
        }
    }

    /// Serves the recorded signals with this much work; returns what is left of it.
    #[cold]
    #[inline(never)]
    fn called<P: Backend<D::Request>>(
        &self,
        held: MutexGuard<'_, R, Held<D, LINES, REQUESTS, SEGMENTS>>,
        at: Place,
        cx: &Cx<'_, P>,
        budget: usize,
    ) -> usize {
        self.locked(held, at, cx, |worker| {
            worker.budget = budget;
            worker.called(self.calls.take());
            // Another look is work too.
            worker.budget.saturating_sub(LEAST)
        })
    }

    /// Returns the position of this slot among the bus's devices; `None` if it is on another bus.
    pub(crate) fn find<P: BusPort>(&self, devices: &impl Devices<P>) -> Option<Place> {
        // A slot is a part of its bus's devices, and stays where it is in them.
        let offset = core::ptr::from_ref(self).addr().wrapping_sub(core::ptr::from_ref(devices).addr());
        if offset >= size_of_val(devices) {
            return None;
        }
        let known = self.place.load(Ordering::Relaxed);
        if known != 0 {
            return Some(Place { device: (known >> 16) as u16 - 1, line: known as u16 - 1 });
        }
        let mut found = None;
        let this = core::ptr::from_ref(&self.place);
        devices.each(Place::FIRST, &mut |node, at| {
            if core::ptr::eq(node.identity(), this) {
                found = Some(at);
            }
        });
        if let Some(at) = found {
            self.place.store((u32::from(at.device) + 1) << 16 | (u32::from(at.line) + 1), Ordering::Relaxed);
        }
        found
    }

    pub(crate) fn completed<P: Backend<D::Request>>(
        &self,
        at: Place,
        cx: &Cx<'_, P>,
        token: Token,
        outcome: <D::Request as Work>::Outcome,
    ) -> bool {
        self.enter(at, cx, |worker| worker.completed(token, outcome))
    }

    pub(crate) fn work_with<P: Backend<D::Request>, T>(
        &self,
        at: Place,
        cx: &Cx<'_, P>,
        work: impl FnOnce(&mut D, &mut Io<'_, P, D::Request>) -> T,
    ) -> T {
        self.enter(at, cx, |worker| worker.with(work))
    }
}

impl<R, D: Device, const LINES: usize, const REQUESTS: usize, const SEGMENTS: usize> DeviceSet
    for Slot<R, D, LINES, REQUESTS, SEGMENTS>
{
    const LINES: usize = LINES;
    const DEVICES: usize = 1;

    fn deadline(&self) -> ReferenceTime {
        self.deadline.load()
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
    fn signal(&self, line: usize, connection: u32, at: Place, cx: &Cx<'_, P>) -> bool {
        let meant =
            |line: &usize| self.routes.get(*line).is_some_and(|r| r.load(Ordering::Acquire) == connection);
        if connection == 0 || !meant(&line) {
            return false;
        }
        self.calls.signal(line, || {
            let Some(held) = self.held.try_lock() else { return false };
            self.locked(held, at, cx, |worker| {
                // It may have been closed, or opened with another connection, since.
                let open = worker.io.lines.get(line).and_then(|line| line.open.as_ref());
                if open.is_some_and(|open| open.connection == connection) {
                    worker.signalled(line);
                }
            });
            true
        });
        self.answer_calls(at, cx);
        true
    }

    fn each(&self, at: Place, each: &mut dyn FnMut(&dyn Node<P>, Place)) {
        each(self, at);
    }

    fn with_line(&self, line: usize, at: Place, work: &mut dyn FnMut(&dyn Node<P>, Place, usize)) {
        if line < LINES {
            work(self, at, line);
        }
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

    fn deadline(&self) -> ReferenceTime {
        self.deadline.load()
    }

    fn line_of(&self, connection: u32) -> Option<usize> {
        self.routes.iter().position(|route| route.load(Ordering::Relaxed) == connection)
    }

    fn tick(&self, at: Place, cx: &Cx<'_, P>) {
        self.enter(at, cx, |worker| worker.tick());
    }

    fn work(&self, at: Place, cx: &Cx<'_, P>, work: &mut dyn FnMut(&mut dyn Part)) {
        self.enter(at, cx, |worker| {
            work(&mut Locked { worker, boot: self.boot.as_ref() });
            for (route, line) in self.routes.iter().zip(worker.io.lines.iter()) {
                let connection = line.open.as_ref().map_or(0, |open| open.connection);
                route.store(connection, Ordering::Release);
            }
        });
    }
}

/// A device, locked.
struct Locked<'w, 'a, P: BusPort, D: Device> {
    worker: &'w mut Worker<'a, P, D>,
    boot: Option<&'w ChannelOffer>,
}

impl<P: Backend<D::Request>, D: Device> Part for Locked<'_, '_, P, D> {
    fn lines(&mut self) -> &mut [Line] {
        self.worker.io.lines
    }

    fn open(&mut self, at: usize, opening: &Opening<'_>, open: Open) -> Result<(), Reason> {
        let worker = &mut *self.worker;
        let Some(line) = worker.io.lines.get_mut(at) else { return Err(Reason::UnknownChannel) };
        line.session = line.session.wrapping_add(1);
        line.open = Optional::Some(open);
        let opened = worker.device.opened(Channel(at as u16), opening, &mut worker.io);
        if opened.is_err() {
            worker.io.lines[at].open = Optional::None;
            return Err(Reason::DeviceRefused);
        }
        let interface = worker.io.lines[at].offer.interface;
        if worker.io.port.rescinds(&interface, Moment::Open) {
            worker.io.take_away(at);
        }
        Ok(())
    }

    fn close(&mut self, at: usize) {
        let worker = &mut *self.worker;
        worker.stall(at, Stall::None);
        let Some(line) = worker.io.lines.get_mut(at) else { return };
        let Some(open) = line.open.take() else { return };
        line.session = line.session.wrapping_add(1);
        if open.wanted > 0 {
            worker.io.counts.room -= 1;
        }
        if at == 0 {
            worker.io.counts.subchannels = 0;
        }
        worker.device.closed(Channel(at as u16), &mut worker.io);
        // Requests waiting for the back end are dropped, held ones too.
        worker.unhold(|_, entry| entry.line == at);
        worker.settle(Some(at));
    }

    fn release(&mut self, at: usize) {
        let worker = &mut *self.worker;
        if let Some(line) = worker.io.lines.get_mut(at) {
            line.vacate();
            worker.device.released(Channel(at as u16), &mut worker.io);
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
        let outcome = worker.device.connect(channel, connect, &mut worker.io);
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
            worker.device.live(Channel(at as u16), &mut worker.io);
        }
    }

    fn resume(&mut self) {
        self.worker.settle(None);
    }

    fn reset(&mut self, first: bool) {
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
        self.worker.io.counts.poll = None;
        match first {
            true => self.worker.device.renew(),
            false => self.worker.device.reset(),
        }
        if let Some(offer) = self.boot.filter(|_| first) {
            self.worker.io.lines[0].fill(offer, true);
        }
    }

    fn save(&self, w: &mut Writer<'_>) {
        w.bytes(&D::NAME);
        w.u32(self.worker.io.counts.subchannels.into());
        w.u64(self.worker.io.counts.poll.unwrap_or(NEVER).ticks());
        w.count(self.worker.io.lines.len());
        self.worker.io.lines.iter().for_each(|line| save_line(line, w));
        self.worker.device.save(w);
    }

    fn load(&mut self, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        let worker = &mut *self.worker;
        if r.bytes(D::NAME.len())? != D::NAME {
            return Err(RestoreError::Invalid("kind of a device"));
        }
        let subchannels = r.u32()?;
        let poll = r.u64()?;
        let lines = worker.io.lines.len();
        if r.count()? != lines || subchannels as usize >= lines.max(1) {
            return Err(RestoreError::Invalid("number of a device's channels"));
        }
        for at in 0..lines {
            let id = worker.io.place.id(at).0;
            let line = load_line(r, id, worker.io.pool)?;
            // What kept packets back has gone with the saved bus, like a pause: they are checked again.
            let stall = match line.open.as_ref().map_or(Stall::None, |open| open.stall) {
                Stall::Later | Stall::Held => Stall::Budget,
                stall => stall,
            };
            worker.io.counts.room += usize::from(line.open.as_ref().is_some_and(|open| open.wanted > 0));
            worker.io.lines[at] = line;
            if let Some(open) = worker.io.lines[at].open.as_mut() {
                open.stall = Stall::None;
            }
            worker.stall(at, stall);
        }
        worker.io.counts.subchannels = subchannels as u16;
        worker.io.counts.poll = Some(ReferenceTime(poll)).filter(|at| *at != NEVER);
        worker.device.restore(r)
    }
}

fn save_line(line: &Line, w: &mut Writer<'_>) {
    line.stage.save(w);
    w.flag(line.lasting);
    line.offer.save(w);
    w.flag(line.open.is_some());
    let Some(open) = line.open.as_ref() else { return };
    w.u32(open.gpadl.0);
    w.u32(open.split);
    w.u32(open.vp);
    w.u32(open.flag.into());
    w.u32(open.connection);
    open.consumer.save(w);
    open.producer.save(w);
    w.flag(open.live);
    w.flag(open.corrupt);
    w.u32(open.wanted);
    open.stall.save(w);
}

/// A saved channel, with its rings at their positions.
fn load_line(r: &mut Reader<'_>, id: u32, pool: Pool<'_>) -> Result<Line, RestoreError> {
    const PART: RestoreError = RestoreError::Invalid("open channel");
    let stage = Stage::load(r)?;
    let lasting = r.flag("channel")?;
    let mut line = Line { stage, lasting, offer: Image::load(r)?, ..Line::VACANT };
    if !r.flag("channel")? {
        return Ok(line);
    }
    let gpadl = GpadlId(r.u32()?);
    let (split, vp, flag, connection) = (r.u32()?, r.u32()?, r.u32()?, r.u32()?);
    let (consumer, producer) = (crate::ring::Consumer::load(r)?, crate::ring::Producer::load(r)?);
    let (live, corrupt) = (r.flag("channel")?, r.flag("channel")?);
    let (wanted, stall) = (r.u32()?, Stall::load(r)?);
    let found = pool.find(gpadl).filter(|(_, g)| g.channel == id && g.state == crate::gpadl::State::Rings);
    let (entry, list) = found.ok_or(PART)?;
    let words = pool.whole_pages(&list).ok_or(PART)?;
    let split_at = usize::try_from(split).map_err(|_| PART)?;
    let outgoing = words.len().checked_sub(split_at).ok_or(PART)?;
    let flag = u16::try_from(flag).ok().filter(|flag| *flag < 2048).ok_or(PART)?;
    // A rescinded channel stays open until the guest takes messages again.
    if !matches!(stage, Stage::Known | Stage::Leaving) || connection == 0 {
        return Err(PART);
    }
    if !consumer.is_within(split_at) || !producer.is_within(outgoing) {
        return Err(PART);
    }
    line.session = 1;
    line.open = Optional::Some(Open {
        gpadl,
        entry,
        words,
        split,
        vp,
        flag,
        connection,
        consumer,
        producer,
        live,
        corrupt,
        reserved: 0,
        wanted,
        stall,
        signal: false,
        shown: false,
    });
    Ok(line)
}
