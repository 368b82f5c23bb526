//! Signals of the guest that find their device in use.
//!
//! No VP waits for a device in order to signal it: the call that has the device serves the signal as well. Where a
//! machine has more VPs than processors that is the difference between one call and a queue of VPs that wait for one
//! that does not run.

use crate::sync::{AtomicBool, AtomicU64, Ordering, fence};

/// Number of groups of channels: a bit for each.
const GROUPS: usize = 64;

/// The channels of a device with a signal that is not served yet.
///
/// The caller of [`signal`](Self::signal) records a signal before it tries to take the device's lock; the holder of the
/// lock looks for signals after it has released it ([`serve`](Self::serve)). In both, a full fence separates the write
/// from the read, so one of the two sees the other's: no signal is left behind.
#[derive(Debug)]
pub(crate) struct Calls<const LINES: usize> {
    /// The groups with a signal. A channel is in the group of its number modulo their number.
    groups: AtomicU64,
    lines: [AtomicBool; LINES],
}

impl<const LINES: usize> Calls<LINES> {
    /// Creates it from its parts, which are all zeros.
    pub(crate) const fn from_parts(groups: AtomicU64, lines: [AtomicBool; LINES]) -> Self {
        Self { groups, lines }
    }

    /// Handles a signal to a channel: `now` serves it, or returns false if the device's lock is held. Call
    /// [`serve`](Self::serve) afterwards.
    pub(crate) fn signal(&self, line: usize, now: impl FnOnce() -> bool) {
        if now() {
            return;
        }
        let Some(signalled) = self.lines.get(line) else { return };
        // Release: who takes the signal sees the packets that the guest has written before it.
        signalled.store(true, Ordering::Release);
        self.groups.fetch_or(1 << (line % GROUPS), Ordering::Release);
    }

    /// Serves the signals recorded while the device's lock was held: call it after each release of the lock. `attempt`
    /// tries to take the lock, and with it the signals ([`take`](Self::take)); if it does not get the lock, its holder
    /// comes here as well. Returns false if `attempt` has given up: another call must come for the signals that are
    /// left.
    pub(crate) fn serve(&self, mut attempt: impl FnMut() -> Attempt) -> bool {
        loop {
            fence(Ordering::SeqCst);
            if self.groups.load(Ordering::Relaxed) == 0 {
                return true;
            }
            match attempt() {
                Attempt::Served => {}
                Attempt::Held => return true,
                Attempt::Exhausted => return false,
            }
        }
    }

    /// Takes the channels with a signal. The device's lock is held. Each of them must be served.
    pub(crate) fn take(&self) -> impl Iterator<Item = usize> {
        let groups = self.groups.swap(0, Ordering::Acquire);
        let there = (0..GROUPS.min(LINES)).filter(move |group| groups >> group & 1 != 0);
        let lines = there.flat_map(|group| (group..LINES).step_by(GROUPS));
        lines.filter(move |line| self.lines[*line].swap(false, Ordering::Acquire))
    }
}

/// The outcome of an attempt to serve signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// They are served.
    Served,
    /// Another call holds the device's lock.
    Held,
    /// This call has reached its work limit.
    Exhausted,
}
