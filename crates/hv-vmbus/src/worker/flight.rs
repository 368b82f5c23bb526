//! Requests of a device, started in the order in which they were made.

use crate::port::BusPort;
use crate::requests::State;
use crate::typed::Begun;
use crate::worker::{LEAST, Worker};

impl<P: BusPort> Worker<'_, P> {
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
        if !self.io.is_current(at) {
            self.io.counts.queued -= 1;
            self.device.forget(at);
            self.io.release(at);
            return true;
        }
        let len = self.io.requests[at].data.len as usize;
        match self.device.start(at, &mut self.io) {
            Begun::Full => false,
            Begun::Pending => true,
            Begun::Done(cost) => {
                self.budget = self.budget.saturating_sub(len.saturating_add(cost).max(LEAST));
                true
            }
        }
    }
}
