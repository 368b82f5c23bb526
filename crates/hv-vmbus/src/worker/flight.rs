//! Requests of a device, started in the order in which they were made.

use crate::port::BusPort;
use crate::requests::State;
use crate::worker::Worker;

impl<P: BusPort> Worker<'_, '_, P> {
    /// Starts requests, in the order in which they were made, until the back end is full.
    pub(crate) fn start(&mut self) {
        self.io.counts.unstarted = false;
        while self.io.counts.queued > 0 {
            if self.io.run.budget == 0 {
                self.io.counts.unstarted = true;
                return;
            }
            let Some(at) = self.oldest() else {
                self.io.counts.queued = 0;
                return;
            };
            if !self.start_one(at) {
                return;
            }
        }
    }

    /// Returns the queued request that was made first.
    fn oldest(&self) -> Option<usize> {
        let counts = &*self.io.counts;
        let is_queued = |at: &usize| self.io.requests.get(*at).is_some_and(|e| e.state == State::Queued);
        // Usually the one that was just made.
        if let Some(only) = Some(counts.newest).filter(|at| counts.queued == 1 && is_queued(at)) {
            return Some(only);
        }
        // The furthest before the next number.
        let queued = (0..self.io.requests.len()).filter(is_queued);
        queued.max_by_key(|at| counts.order.wrapping_sub(self.io.requests[*at].order))
    }

    /// Returns false if nothing more can be started now.
    fn start_one(&mut self, at: usize) -> bool {
        if !self.io.is_current(at) {
            self.io.counts.queued -= 1;
            self.device.forget(at);
            self.io.release(at);
            return true;
        }
        self.device.start(at, self.io)
    }
}
