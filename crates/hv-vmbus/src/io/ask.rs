//! A device's requests: access to the data of a packet, requests to its back end, and the guest's buffers.

use super::{Context, Io, SendError};
use crate::gpadl::{Gpadl, Pool};
use crate::id::{DeviceId, Token};
use crate::optional::Optional;
use crate::packet::{Answer, Data, Requester, Ticket};
use crate::pages::{Builder, Pages, PagesError, Segment};
use crate::port::{BusFaults as _, BusPort, OVERTAKEN, Start, Work};
use crate::protocol::GpadlId;
use crate::requests::State;
use core::fmt;
use core::sync::atomic::Ordering;
use hv_memory::{BadAddress, GuestMemory};
use hv_tlfs::time::ReferenceTime;

/// Reason why a request could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestError {
    /// The device has no room for requests, or this packet already has one.
    None,
    /// The data of the packet was rejected.
    Pages(PagesError),
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("no request can be made of this packet"),
            Self::Pages(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for RequestError {}

impl<P: BusPort> Context<'_, P> {
    /// Returns the data of a packet or request outside the ring: validated, and empty if there is none.
    ///
    /// # Errors
    /// The guest's ranges were rejected.
    pub fn pages(&self, of: &impl Answer) -> Result<Pages<'_>, PagesError> {
        let ticket = of.ticket();
        let data = ticket.data()?;
        let Some(at) = ticket.entry.filter(|_| data.len > 0) else { return Ok(Pages::EMPTY) };
        Ok(self.part(at, &data))
    }

    /// Returns the number of bytes that [`pages`](Self::pages) has.
    ///
    /// # Errors
    /// The same as for [`pages`](Self::pages).
    pub fn data_len(&self, of: &impl Answer) -> Result<u64, PagesError> {
        of.ticket().data().map(|data| data.len)
    }

    /// Returns all the data of a packet, also while a request has a part of it.
    ///
    /// # Errors
    /// The same as for [`pages`](Self::pages).
    pub fn all_pages(&self, of: &impl Answer) -> Result<Pages<'_>, PagesError> {
        let ticket = of.ticket();
        let data = ticket.data()?;
        let Some(at) = ticket.entry else { return Ok(Pages::EMPTY) };
        Ok(self.part(at, &Data { offset: 0, len: data.all, ..data }))
    }

    /// Returns the memory of a part of a request's data.
    pub(crate) fn part(&self, entry: usize, data: &Data) -> Pages<'_> {
        let first = entry * self.env.per;
        let list = self.segments.get(first..first + data.segments).unwrap_or_default();
        Pages::part(list, data.offset, data.len)
    }

    /// Prepends `len` bytes from byte `offset` of a GPADL on to the data listed by the packet. The GPADL is held until
    /// the request made from the packet is done.
    ///
    /// # Errors
    /// Nothing is prepended: see [`PagesError`].
    pub fn attach(
        &mut self,
        to: &mut impl Answer,
        gpadl: GpadlId,
        offset: u64,
        len: u64,
    ) -> Result<(), PagesError> {
        let ticket = to.ticket_mut();
        let data = ticket.data()?;
        let at = ticket.entry.filter(|_| ticket.gpadl.is_none()).ok_or(PagesError::TooMany)?;
        let (entry, gpadl) = self.gpadl(gpadl).ok_or(PagesError::UnknownGpadl)?;
        let list = self.segments.get_mut(at * self.env.per..(at + 1) * self.env.per).unwrap_or_default();
        let mut builder = Builder::new(list.get_mut(data.segments..).unwrap_or_default(), 0);
        self.env.pool.slice(&gpadl, offset, len, self.env.port.memory(), &mut builder)?;
        let more = builder.count;
        let segments = data.segments + more;
        let all = list.iter().take(segments).map(Segment::len).sum();
        if let Some(list) = list.get_mut(..segments) {
            // Rotated by three reversals: the library's rotation, for any type, is a kilobyte of code.
            list.reverse();
            let (new, old) = list.split_at_mut(more);
            new.reverse();
            old.reverse();
        }
        ticket.gpadl = Some(entry);
        ticket.data = Data { segments, all, offset: 0, len: all };
        Ok(())
    }

    fn gpadl(&self, id: GpadlId) -> Option<(usize, Gpadl)> {
        self.env.pool.ready(id, self.env.place.channels(self.lines.len()))
    }

    /// Finds a GPADL of the device's channels; returns `None` if the guest has none with this id, or has begun to tear
    /// it down. Look it up for every use.
    #[must_use]
    pub fn buffer(&self, id: GpadlId) -> Option<Buffer<'_, P::Memory>> {
        let (_, gpadl) = self.gpadl(id)?;
        Some(Buffer { memory: self.env.port.memory(), pool: self.env.pool, gpadl })
    }

    /// Records that a request is made with a ticket. Returns the request's token. When the device returns, it is
    /// started, or enters the table.
    fn make(&self, ticket: &mut Ticket) -> Result<Token, RequestError> {
        if let Some(error) = ticket.rejected {
            return Err(RequestError::Pages(error));
        }
        let at = ticket.entry.filter(|_| !ticket.requested).ok_or(RequestError::None)?;
        let entry = self.requests.get(at).ok_or(RequestError::None)?;
        ticket.requested = true;
        Ok(entry.token(at))
    }

    /// Enters a request into the table, with everything that it holds, and puts it into its place in the order: now, or
    /// as a fault plan has it. `begins` is [`Work::begins`].
    #[inline(never)]
    pub(crate) fn admit(&mut self, ticket: &mut Ticket, at: usize, begins: bool) {
        let pool = self.env.pool;
        let (Some(entry), Some(line)) = (self.requests.get_mut(at), self.lines.get_mut(ticket.line)) else {
            return;
        };
        if entry.state == State::Free {
            let Some(open) = line.open.as_ref() else { return };
            line.in_flight += 1;
            pool.hold(open.entry);
            entry.rings = open.entry;
            entry.session = line.session;
            entry.since = self.env.now;
            self.counts.used += 1;
            self.env.shared.outstanding.fetch_add(1, Ordering::Relaxed);
        }
        if entry.gpadl.is_none()
            && let Some(gpadl) = ticket.gpadl
        {
            pool.hold(gpadl);
            entry.gpadl = Some(gpadl);
        }
        entry.order = self.counts.order;
        entry.line = ticket.line;
        entry.transaction = ticket.transaction;
        entry.wanted = ticket.wanted;
        entry.answered = ticket.answered;
        entry.reserved = core::mem::take(&mut ticket.reserved);
        entry.ranges = ticket.ranges;
        entry.data = ticket.data;
        entry.state = State::Queued;
        self.counts.order = self.counts.order.wrapping_add(1);
        self.counts.queued += 1;
        self.counts.newest = at;
        if begins && self.env.planned {
            self.hold_back(at);
        }
    }

    /// Holds a queued request back, if a fault plan says so.
    #[cold]
    #[inline(never)]
    fn hold_back(&mut self, at: usize) {
        let start = self.env.port.faults().starts(DeviceId(self.env.place.device));
        let until = match start {
            Start::Now => return,
            Start::Late(time) => self.env.now.saturating_add(time),
            Start::After => self.env.now.saturating_add(OVERTAKEN),
            Start::Never => ReferenceTime::MAX,
        };
        let entry = &mut self.requests[at];
        (entry.state, entry.until, entry.after) = (State::Held, until, start == Start::After);
        self.counts.queued -= 1;
        self.counts.held += 1;
    }

    /// Limits the data of a packet to `len` bytes from byte `offset` on, counted from its first byte.
    fn limit(&self, ticket: &mut Ticket, offset: u64, len: u64) -> Result<(), RequestError> {
        let data = ticket.data().map_err(RequestError::Pages)?;
        if offset.checked_add(len).is_none_or(|end| end > data.all) {
            return Err(RequestError::Pages(PagesError::Beyond));
        }
        ticket.data = Data { offset, len, ..data };
        Ok(())
    }
}

impl<'a, P: BusPort, Q: Work> Io<'a, P, Q> {
    /// Makes a request from a packet, or another one from a completed request. It is started when the device returns,
    /// together with the data of the packet.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn request(&mut self, of: &mut impl Requester<Q>, request: Q) -> Result<Token, RequestError> {
        let (ticket, place) = of.parts();
        let token = self.context.make(ticket)?;
        if let Some(place) = place {
            *place = request;
        } else if let Some(work) = ticket.entry.and_then(|at| self.works.get_mut(at)) {
            // There is a work for each entry.
            *work = Optional::Some(request);
        }
        Ok(token)
    }

    /// Returns where the request of a packet is kept, or that of a completed request, and what is needed to write it
    /// there: a long one is not moved. What is there is `blank`, or an earlier request, to be overwritten. `None` if
    /// none can be made. [`submit`](Self::submit) makes it.
    pub fn draft<'s, T: Requester<Q>>(
        &'s mut self,
        of: &'s mut T,
        blank: impl FnOnce() -> Q,
    ) -> Option<(&'s Context<'a, P>, &'s Ticket, &'s mut Q)> {
        let (ticket, own) = of.parts();
        let place = match own {
            Some(place) => place,
            None => place(self.works, ticket, blank)?,
        };
        Some((&self.context, ticket, place))
    }

    /// Returns where the request of a packet is kept, like [`draft`](Self::draft), without what is needed to fill it.
    pub fn kept(&mut self, of: &impl Answer, blank: impl FnOnce() -> Q) -> Option<&mut Q> {
        place(self.works, of.ticket(), blank)
    }

    /// Completes a packet with an answer that lies where its request is kept, or would be.
    ///
    /// # Errors
    /// The same as for [`complete`](Context::complete).
    pub fn complete_kept(
        &mut self,
        to: &mut impl Answer,
        answer: impl FnOnce(&Q) -> &[u8],
    ) -> Result<(), SendError> {
        let kept = to.ticket().entry.and_then(|at| self.works.get(at)).and_then(Optional::as_ref);
        self.context.complete(to, kept.map_or(&[], answer))
    }

    /// Makes the request that is [in its place](Self::draft), or has a completed one start again, as it is now, with
    /// part of the data: `len` bytes from byte `offset` on, counted from its first byte.
    ///
    /// # Errors
    /// See [`RequestError`]; [`PagesError::Beyond`] if the data is shorter.
    pub fn submit(
        &mut self,
        of: &mut impl Requester<Q>,
        offset: u64,
        len: u64,
    ) -> Result<Token, RequestError> {
        let (ticket, own) = of.parts();
        let kept = || ticket.entry.and_then(|at| self.works.get(at)).is_some_and(Optional::is_some);
        if own.is_none() && !kept() {
            return Err(RequestError::None);
        }
        self.context.limit(ticket, offset, len)?;
        self.context.make(ticket)
    }
}

/// Returns where a packet's request is kept; what is there at first is `blank`.
#[inline]
fn place<'s, Q>(
    works: &'s mut [Optional<Q>],
    ticket: &Ticket,
    blank: impl FnOnce() -> Q,
) -> Option<&'s mut Q> {
    let work = works.get_mut(ticket.entry?)?;
    if work.is_none() {
        fill(work, blank);
    }
    work.as_mut()
}

/// Puts the first request into a place.
#[cold]
#[inline(never)]
fn fill<Q>(work: &mut Optional<Q>, blank: impl FnOnce() -> Q) {
    *work = Optional::Some(blank());
}

/// A GPADL: guest memory as bytes. The guest can write to it at any time.
#[derive(Debug)]
pub struct Buffer<'a, M> {
    memory: &'a M,
    pool: Pool<'a>,
    gpadl: Gpadl,
}

impl<M: GuestMemory> Buffer<'_, M> {
    /// Returns the number of bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.pool.bytes(&self.gpadl)
    }

    /// Returns true if it has none, which is invalid.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies bytes from byte `offset` on into `into`.
    ///
    /// # Errors
    /// [`BadAddress`] if the buffer is shorter, or a page is not guest memory.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), BadAddress> {
        self.pool.read(&self.gpadl, offset, self.memory, into)
    }

    /// Copies `bytes` to byte `offset` on.
    ///
    /// # Errors
    /// The same as for [`read`](Self::read).
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), BadAddress> {
        self.pool.write(&self.gpadl, offset, self.memory, bytes)
    }
}
