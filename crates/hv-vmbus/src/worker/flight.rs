//! Requests of a device: started, and returned when they are done.

use crate::device::Device;
use crate::id::DeviceId;
use crate::line::Stage;
use crate::optional::Optional;
use crate::packet::{Done, Ticket};
use crate::port::{Backend, Started, Work};
use crate::requests::State;
use crate::worker::{LEAST, Worker};
use core::sync::atomic::Ordering;

impl<P: Backend<D::Request>, D: Device> Worker<'_, P, D> {
    /// Starts requests, in the order in which they were made, until the back end is full.
    pub(crate) fn start(&mut self) {
        self.io.counts.unstarted = false;
        while self.io.counts.queued > 0 {
            if self.budget == 0 {
                self.io.counts.unstarted = true;
                return;
            }
            let order = self.io.counts.order;
            let mut queued = self.io.requests.iter().enumerate().filter(|(_, e)| e.state == State::Queued);
            let next = match self.io.counts.queued {
                1 => queued.next(),
                // The oldest one: the furthest before the next number.
                _ => queued.max_by_key(|(_, e)| order.wrapping_sub(e.order)),
            };
            let Some((at, _)) = next else {
                self.io.counts.queued = 0;
                return;
            };
            if !self.start_one(at) {
                return;
            }
        }
    }

    /// Returns false if nothing more can be started now.
    fn start_one(&mut self, at: usize) -> bool {
        let io = &mut self.io;
        let entry = &mut io.requests[at];
        let current =
            io.lines.get(entry.line).is_some_and(|l| l.session == entry.session && l.open.is_some());
        if !current {
            io.counts.queued -= 1;
            self.release(at);
            return true;
        }
        let token = entry.token(at);
        let data = entry.data;
        let list = io.segments.get(at * io.per..at * io.per + data.segments).unwrap_or_default();
        let pages =
            crate::pages::Pages::new(list).slice(data.offset, data.len).unwrap_or(crate::pages::Pages::EMPTY);
        let Some(request) = entry.request.as_ref() else { return false };
        let cost = (data.len as usize).saturating_add(request.cost()).max(LEAST);
        match io.port.start(DeviceId(io.place.device), token, request, pages) {
            Started::Full => false,
            Started::Pending => {
                entry.state = State::Flying;
                io.counts.queued -= 1;
                true
            }
            Started::Done(outcome) => {
                entry.state = State::Flying;
                io.counts.queued -= 1;
                self.budget = self.budget.saturating_sub(cost);
                self.finish(at, outcome);
                true
            }
        }
    }

    /// Returns a request to the device, or drops it if its channel has been closed since.
    pub(crate) fn finish(&mut self, at: usize, outcome: <D::Request as Work>::Outcome) {
        let io = &mut self.io;
        let entry = &mut io.requests[at];
        let current =
            io.lines.get(entry.line).is_some_and(|l| l.session == entry.session && l.open.is_some());
        if !current {
            self.release(at);
            return;
        }
        let Some(request) = entry.request.take() else {
            self.release(at);
            return;
        };
        let mut done = Done {
            ticket: Ticket {
                line: entry.line,
                entry: Some(at),
                transaction: entry.transaction,
                wanted: entry.wanted,
                reserved: core::mem::take(&mut entry.reserved),
                answered: entry.answered,
                requested: false,
                ranges: entry.ranges,
                data: Ok(entry.data),
                gpadl: entry.gpadl,
            },
            token: entry.token(at),
            request,
        };
        self.device.completed(&mut done, outcome, &mut self.io);
        // This one has overtaken them, unless it is one of them again.
        self.unhold(|other, entry| entry.after && other != at);
        if !done.ticket.requested {
            self.io.traffic.requests += 1;
            let took = self.io.port.reference_time().saturating_sub(self.io.requests[at].since);
            self.io.port.served(DeviceId(self.io.place.device), took);
            self.io.requests[at].reserved = done.ticket.reserved;
            self.release(at);
        }
    }

    /// Releases what a finished request held.
    fn release(&mut self, at: usize) {
        let io = &mut self.io;
        let entry = &mut io.requests[at];
        entry.state = State::Free;
        entry.generation = entry.generation.wrapping_add(1);
        entry.request = Optional::None;
        io.counts.used -= 1;
        let mut call = io.pool.release(entry.rings);
        if let Some(gpadl) = entry.gpadl.take() {
            call |= io.pool.release(gpadl);
        }
        let reserved = core::mem::take(&mut entry.reserved);
        let session = entry.session;
        if let Some(line) = io.lines.get_mut(entry.line) {
            line.in_flight = line.in_flight.saturating_sub(1);
            call |= line.in_flight == 0 && line.stage != Stage::Known;
            if let Some(open) = line.open.as_mut().filter(|_| line.session == session) {
                open.reserved = open.reserved.saturating_sub(reserved);
            }
        }
        let last = io.shared.outstanding.fetch_sub(1, Ordering::AcqRel) == 1;
        if call || (last && io.shared.ending.load(Ordering::Acquire)) {
            io.shared.call();
        }
    }
}
