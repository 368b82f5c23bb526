//! Selects the VP that carries the deadline of the VMBus server: a running one, as long as it runs.

use core::sync::atomic::Ordering;

use hv_host::{Host, Power};
use hv_memory::Deadline;
use hv_tlfs::time::ReferenceTime;
use lock_api::RawMutex;

use crate::carrier::{Carrier, NONE};
use crate::joined::{Core, Joined};

/// Minimum time before a device with more work continues: the VP gets to run in between.
const LEAST_INTERVAL: ReferenceTime = ReferenceTime(200);

impl<'h, R: RawMutex, H: Host> Joined<'h, Core<'h, R>, H> {
    fn carrier(&self) -> &'h Carrier<R> {
        &self.partition.carrier
    }

    /// Returns true if a VP carries a deadline of the server.
    pub(crate) fn awaits_deadline(&self) -> bool {
        self.carrier().deadline() != Deadline::NEVER
    }

    /// Records when the server must be called, and updates the deadline of the VP that carries it. `served`: the caller
    /// has just done what was due.
    pub(crate) fn note_deadline(&self, vp: usize, served: bool, wanted: impl Fn() -> Option<ReferenceTime>) {
        // Nothing is due, and nothing changes: whoever records a deadline meanwhile looks itself.
        if wanted().is_none() && self.carrier().deadline.load(Ordering::Acquire) == Deadline::NEVER {
            return;
        }
        loop {
            let wants = wanted();
            let deadline = self.served_at(wants, served);
            if self.carrier().deadline.swap(deadline, Ordering::AcqRel) != deadline {
                let _choosing = self.carrier().choosing.lock();
                self.carry(vp);
            } else if deadline != Deadline::NEVER {
                self.find_carrier(vp);
            }
            // Another VP may have recorded an earlier one in between.
            if wanted() == wants {
                return;
            }
        }
    }

    /// Takes over the deadline of a restored server. The first VP that is called carries it.
    pub(crate) fn restore_deadline(&self, wanted: Option<ReferenceTime>) {
        self.carrier().deadline.store(self.served_at(wanted, true), Ordering::Release);
        self.carrier().vp.store(NONE, Ordering::Release);
    }

    /// Assigns the deadline to a VP if no running one has it. `vp` is running.
    pub(crate) fn find_carrier(&self, vp: usize) {
        if !self.is_on(self.carrier().vp.load(Ordering::Acquire)) {
            let _choosing = self.carrier().choosing.lock();
            self.carry(vp);
        }
    }

    /// Moves the deadline to another VP, or else to the first that starts: `from` has stopped.
    pub(crate) fn hand_over_deadline(&self, from: usize) {
        let _choosing = self.carrier().choosing.lock();
        if self.carrier().vp.load(Ordering::Acquire) == from {
            self.carry(from);
            self.hypervisor().renew_deadline(self, from);
        }
    }

    /// Assigns the deadline to a running VP: the one that has it, or else `vp`, or else any. The caller holds
    /// `choosing`.
    fn carry(&self, vp: usize) {
        let before = self.carrier().vp.load(Ordering::Acquire);
        let mut candidates = [before, vp].into_iter().chain(0..self.hypervisor().vp_count());
        let carrier = candidates.find(|&vp| self.is_on(vp)).unwrap_or(NONE);
        self.carrier().vp.store(carrier, Ordering::Release);
        self.hypervisor().renew_deadline(self, carrier);
    }

    /// Returns the deadline at which a server that wants to be called at this time is called. Unless it was just
    /// `served`, a server that is behind keeps the time that it has, also if that has passed and the VP that carries it
    /// has not come yet: calls of other VPs do not put it off.
    fn served_at(&self, wanted: Option<ReferenceTime>, served: bool) -> Deadline {
        let Some(wanted) = wanted else { return Deadline::NEVER };
        let least = self.hypervisor().reference_time(self.host).saturating_add(LEAST_INTERVAL);
        let set = self.carrier().deadline();
        if !served && wanted < least && set.is_due(least) {
            return set;
        }
        Deadline::at_or_last(wanted.max(least))
    }

    fn is_on(&self, vp: usize) -> bool {
        self.hypervisor().power(vp) == Some(Power::On)
    }
}
