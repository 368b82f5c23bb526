//! Requests between their start and their end.

use super::{Context, LEAST};
use crate::id::{DeviceId, Token};
use crate::line::Stage;
use crate::packet::Ticket;
use crate::pages::Pages;
use crate::port::BusPort;
use crate::requests::{Entry, State};
use core::sync::atomic::Ordering;
use hv_tlfs::time::ReferenceTime;

impl<P: BusPort> Context<'_, P> {
    /// Returns the number of the request in flight that has this token.
    pub(crate) fn flying(&self, token: Token) -> Option<usize> {
        let at = (token.0 as u32).wrapping_sub(1) as usize;
        let entry = self.requests.get(at)?;
        (entry.state == State::Flying && entry.token(at) == token).then_some(at)
    }

    /// Returns true if the channel of a request has been open since it was made.
    pub(crate) fn is_current(&self, at: usize) -> bool {
        let entry = &self.requests[at];
        self.lines.get(entry.line).is_some_and(|l| l.session == entry.session && l.open.is_some())
    }

    /// Returns a request's token and data, for the back end.
    pub(crate) fn load_of(&self, at: usize) -> (Token, Pages<'_>) {
        let entry = &self.requests[at];
        (entry.token(at), self.part(at, &entry.data))
    }

    /// Records that the back end has a request.
    pub(crate) fn take_off(&mut self, at: usize) {
        self.requests[at].state = State::Flying;
        self.counts.queued -= 1;
    }

    /// Returns the right to answer a request that the back end has completed.
    pub(crate) fn land(&mut self, at: usize) -> (Ticket, Token) {
        let entry = &mut self.requests[at];
        let ticket = Ticket {
            line: entry.line,
            entry: Some(at),
            transaction: entry.transaction,
            wanted: entry.wanted,
            reserved: core::mem::take(&mut entry.reserved),
            answered: entry.answered,
            requested: false,
            ranges: entry.ranges,
            data: entry.data,
            rejected: None,
            gpadl: entry.gpadl,
        };
        let token = entry.token(at);
        entry.renew();
        (ticket, token)
    }

    /// Starts the requests that wait until another one is done: this one has overtaken them, unless it is one of them
    /// again.
    #[inline]
    pub(crate) fn landed(&mut self, at: usize) {
        if self.counts.held > 0 {
            self.unhold(|other, entry| entry.after && other != at);
        }
    }

    /// Returns true if a request that is made now is the next one to be started, and there is work left for it. A
    /// fault plan may want another order.
    #[inline]
    pub(crate) fn starts_at_once(&self) -> bool {
        !self.env.planned && self.counts.queued + self.counts.held == 0 && self.run.budget > 0
    }

    /// Records the work of a request that is done: the bytes of its data, and its [cost](crate::Work::cost).
    #[inline]
    pub(crate) fn spend(&mut self, len: u64, cost: usize) {
        let work = (len as usize).saturating_add(cost).max(LEAST);
        self.run.budget = self.run.budget.saturating_sub(work);
    }

    /// Counts requests of a packet that the device has handled, and the time since it was taken.
    #[inline(never)]
    pub(crate) fn served(&mut self, since: ReferenceTime) {
        self.run.traffic.requests += 1;
        let took = self.env.port.reference_time().saturating_sub(since);
        self.env.port.served(DeviceId(self.env.place.device), took);
    }

    /// Queues the held requests that `is_due` selects.
    pub(crate) fn unhold(&mut self, is_due: impl Fn(usize, &Entry) -> bool) {
        if self.counts.held == 0 {
            return;
        }
        for (at, entry) in self.requests.iter_mut().enumerate() {
            if entry.state != State::Held || !is_due(at, entry) {
                continue;
            }
            entry.state = State::Queued;
            self.counts.held -= 1;
            self.counts.queued += 1;
        }
    }

    /// Releases what a finished request held.
    pub(crate) fn release(&mut self, at: usize) {
        let entry = &mut self.requests[at];
        entry.state = State::Free;
        entry.renew();
        self.counts.used -= 1;
        let mut call = self.env.pool.release(entry.rings);
        if let Some(gpadl) = entry.gpadl.take() {
            call |= self.env.pool.release(gpadl);
        }
        let reserved = core::mem::take(&mut entry.reserved);
        let session = entry.session;
        if let Some(line) = self.lines.get_mut(entry.line) {
            line.in_flight = line.in_flight.saturating_sub(1);
            call |= line.in_flight == 0 && line.stage != Stage::Known;
            if let Some(open) = line.open.as_mut().filter(|_| line.session == session) {
                open.reserved = open.reserved.saturating_sub(reserved);
            }
        }
        let shared = self.env.shared;
        let last = shared.outstanding.fetch_sub(1, Ordering::AcqRel) == 1;
        if call || (last && shared.ending.load(Ordering::Acquire)) {
            shared.call();
        }
    }
}
