//! The deadline of the VMBus server, and the VP whose timer serves it.
//!
//! The server's deadline is carried by a running VP, as long as it runs.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use hv_host::{Deadline, Host, Power};
use hv_tlfs::time::ReferenceTime;
use lock_api::{Mutex, RawMutex};

use crate::joined::{Core, Joined};

/// Minimum time before a device with more work continues: the VP gets to run in between.
const LEAST_INTERVAL: ReferenceTime = ReferenceTime(200);
/// No VP.
const NONE: usize = usize::MAX;
/// No deadline: [`Deadline::at`] turns it into never.
const NEVER: ReferenceTime = ReferenceTime::MAX;

/// The latest deadline.
const LAST: ReferenceTime = NEVER.saturating_sub(ReferenceTime(1));

/// The server's deadline, and the VP that carries it.
pub(crate) struct Carrier<R> {
    /// Reference time of the server's deadline.
    deadline: AtomicU64,
    /// The VP whose deadline includes the server's.
    vp: AtomicUsize,
    /// Held while a VP is selected.
    choosing: Mutex<R, ()>,
}

impl<R: RawMutex> Carrier<R> {
    pub(crate) const fn new() -> Self {
        Self { deadline: AtomicU64::new(NEVER.ticks()), vp: AtomicUsize::new(NONE), choosing: Mutex::new(()) }
    }

    /// Clears the deadline, and the VP that carried it.
    pub(crate) fn reset(&self) {
        self.deadline.store(NEVER.ticks(), Ordering::Relaxed);
        self.vp.store(NONE, Ordering::Relaxed);
    }

    pub(crate) fn deadline(&self) -> Deadline {
        Deadline::at(ReferenceTime(self.deadline.load(Ordering::Acquire)))
    }

    /// Returns the deadline that a VP carries for the server.
    pub(crate) fn deadline_of(&self, vp: usize) -> Deadline {
        if self.vp.load(Ordering::Acquire) == vp { self.deadline() } else { Deadline::NEVER }
    }

    /// Records when the server must be called, and updates the deadline of the VP that carries it.
    pub(crate) fn note<H: Host>(
        &self,
        joined: &Joined<'_, Core<'_, R>, H>,
        vp: usize,
        wanted: impl Fn() -> Option<ReferenceTime>,
    ) {
        loop {
            let wants = wanted();
            let deadline = at(joined, wants).ticks();
            if self.deadline.swap(deadline, Ordering::AcqRel) != deadline {
                let _choosing = self.choosing.lock();
                self.carry(joined, vp);
            }
            // Another VP may have recorded an earlier one in between.
            if wanted() == wants {
                return;
            }
        }
    }

    /// Takes over the deadline of a restored server. The first VP that is called carries it.
    pub(crate) fn restore<H: Host>(
        &self,
        joined: &Joined<'_, Core<'_, R>, H>,
        wanted: Option<ReferenceTime>,
    ) {
        self.deadline.store(at(joined, wanted).ticks(), Ordering::Release);
        self.vp.store(NONE, Ordering::Release);
    }

    /// Assigns the deadline to a VP if no running one has it. `vp` is running.
    pub(crate) fn find<H: Host>(&self, joined: &Joined<'_, Core<'_, R>, H>, vp: usize) {
        if !is_on(joined, self.vp.load(Ordering::Acquire)) {
            let _choosing = self.choosing.lock();
            self.carry(joined, vp);
        }
    }

    /// Moves the deadline to another VP, or else to the first that starts: `from` has stopped.
    pub(crate) fn hand_over<H: Host>(&self, joined: &Joined<'_, Core<'_, R>, H>, from: usize) {
        let _choosing = self.choosing.lock();
        if self.vp.load(Ordering::Acquire) == from {
            self.carry(joined, from);
            joined.hypervisor().renew_deadline(joined, from);
        }
    }

    /// Assigns the deadline to a running VP: the one that has it, or else `vp`, or else any. The caller holds
    /// `choosing`.
    fn carry<H: Host>(&self, joined: &Joined<'_, Core<'_, R>, H>, vp: usize) {
        let before = self.vp.load(Ordering::Acquire);
        let mut candidates = [before, vp].into_iter().chain(0..joined.hypervisor().vp_count());
        let carrier = candidates.find(|&vp| is_on(joined, vp)).unwrap_or(NONE);
        self.vp.store(carrier, Ordering::Release);
        joined.hypervisor().renew_deadline(joined, carrier);
    }
}

/// Returns the reference time at which a server with this deadline is called.
fn at<R: RawMutex, H: Host>(
    joined: &Joined<'_, Core<'_, R>, H>,
    wanted: Option<ReferenceTime>,
) -> ReferenceTime {
    let least = || joined.hypervisor().reference_time(joined.host).saturating_add(LEAST_INTERVAL);
    wanted.map_or(NEVER, |deadline| deadline.max(least()).min(LAST))
}

fn is_on<R: RawMutex, H>(joined: &Joined<'_, Core<'_, R>, H>, vp: usize) -> bool {
    joined.hypervisor().power(vp) == Some(Power::On)
}
