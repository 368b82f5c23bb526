//! What other threads ask of a VP, whose thread waits for it or is interrupted.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hv_partition::VpContext;

use crate::kvm::Waker;

/// The requests to a VP.
#[derive(Debug)]
pub(crate) struct Slot<W> {
    state: Mutex<State<W>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<W> {
    /// Where the VP is to start.
    start: Option<VpContext>,
    /// The VP's deadline, in the guest's counter.
    deadline: Option<u64>,
    /// What reaches the VP's thread, while there is one.
    waker: Option<W>,
    /// The machine has stopped.
    stopped: bool,
}

/// Returns the time that this many ticks take, rounded up.
fn time(ticks: u64, frequency: u64) -> Duration {
    let nanos = (u128::from(ticks) * 1_000_000_000).div_ceil(u128::from(frequency.max(1)));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

impl<W: Waker> Slot<W> {
    pub(crate) const fn new() -> Self {
        let state = State { start: None, deadline: None, waker: None, stopped: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<W>> {
        // No code under this lock panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the VP's thread reachable, until [`Self::detach`].
    pub(crate) fn attach(&self, waker: W) {
        let mut state = self.lock();
        // It looks at what was asked for before it could be reached.
        if state.stopped || state.deadline.is_some() {
            waker.interrupt();
        }
        state.waker = Some(waker);
    }

    /// Ends what [`Self::attach`] began.
    pub(crate) fn detach(&self) {
        self.lock().waker = None;
    }

    /// Asks the VP to start.
    pub(crate) fn request_start(&self, context: &VpContext) {
        self.lock().start = Some(*context);
        self.changed.notify_all();
    }

    /// Returns where the VP is to start, if its thread has not taken that up yet.
    pub(crate) fn pending_start(&self) -> Option<VpContext> {
        self.lock().start
    }

    /// Waits until the VP is to start; `None`: the machine has stopped.
    pub(crate) fn wait_for_start(&self) -> Option<VpContext> {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return None;
            }
            if let Some(context) = state.start.take() {
                return Some(context);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Has the VP's thread end.
    pub(crate) fn stop(&self) {
        let mut state = self.lock();
        state.stopped = true;
        if let Some(waker) = &state.waker {
            waker.interrupt();
        }
        self.changed.notify_all();
    }

    /// Takes a stop back: the VP's thread has ended, and another one may begin.
    pub(crate) fn rearm(&self) {
        self.lock().stopped = false;
    }

    /// Sets the VP's deadline, and has its thread interrupted then.
    pub(crate) fn set_deadline(&self, deadline: Option<u64>, now: impl FnOnce() -> u64, frequency: u64) {
        let mut state = self.lock();
        if state.deadline == deadline {
            return;
        }
        state.deadline = deadline;
        if let Some(waker) = &state.waker {
            waker.interrupt_after(deadline.map(|at| time(at.saturating_sub(now()), frequency)));
        }
    }

    /// Looks at what an interrupted VP was asked for. A deadline that has not come has its thread interrupted again.
    pub(crate) fn take_requests(&self, now: u64, frequency: u64) -> Requests {
        let mut state = self.lock();
        let due = state.deadline.is_some_and(|deadline| deadline <= now);
        if due {
            state.deadline = None;
        } else if let (Some(deadline), Some(waker)) = (state.deadline, &state.waker) {
            waker.interrupt_after(Some(time(deadline - now, frequency)));
        }
        Requests { stopped: state.stopped, due }
    }
}

/// What an interrupted VP was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Requests {
    /// The machine has stopped.
    pub(crate) stopped: bool,
    /// Its deadline has come.
    pub(crate) due: bool,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Requests, Slot, time};
    use crate::fake::FakeWaker;

    const NONE: Requests = Requests { stopped: false, due: false };

    #[test]
    fn ticks_are_rounded_up_to_time() {
        assert_eq!(time(1, 62_500_000), Duration::from_nanos(16));
        assert_eq!(time(1, 3), Duration::from_nanos(333_333_334));
        assert_eq!(time(0, 1), Duration::ZERO);
        assert_eq!(time(u64::MAX, 1), Duration::from_nanos(u64::MAX));
        assert_eq!(time(1, 0), Duration::from_secs(1));
    }

    #[test]
    fn a_deadline_interrupts_when_it_comes_and_is_then_over() {
        let (slot, waker) = (Slot::new(), FakeWaker::default());
        slot.attach(waker.clone());
        slot.set_deadline(Some(100), || 40, 1_000_000_000);
        assert_eq!(waker.take_times(), [Some(Duration::from_nanos(60))]);
        // The timer was early.
        assert_eq!(slot.take_requests(99, 1_000_000_000), NONE);
        assert_eq!(waker.take_times(), [Some(Duration::from_nanos(1))]);
        assert_eq!(slot.take_requests(100, 1_000_000_000), Requests { due: true, ..NONE });
        assert_eq!(slot.take_requests(101, 1_000_000_000), NONE);
        assert_eq!(waker.take_times(), []);
    }

    #[test]
    fn a_deadline_is_cancelled_and_one_in_the_past_is_due_at_once() {
        let (slot, waker) = (Slot::new(), FakeWaker::default());
        slot.attach(waker.clone());
        slot.set_deadline(Some(100), || 40, 1_000_000_000);
        slot.set_deadline(None, || 50, 1_000_000_000);
        slot.set_deadline(None, || 50, 1_000_000_000);
        slot.set_deadline(Some(7), || 60, 1_000_000_000);
        assert_eq!(waker.take_times(), [Some(Duration::from_nanos(60)), None, Some(Duration::ZERO)]);
        assert_eq!(slot.take_requests(60, 1_000_000_000), Requests { due: true, ..NONE });
    }

    #[test]
    fn a_deadline_from_before_the_thread_is_not_missed() {
        let (slot, waker) = (Slot::new(), FakeWaker::default());
        slot.set_deadline(Some(100), || 40, 1_000_000_000);
        slot.attach(waker.clone());
        assert_eq!((waker.interrupts(), slot.take_requests(60, 1_000_000_000)), (1, NONE));
        assert_eq!(waker.take_times(), [Some(Duration::from_nanos(40))]);
    }

    #[test]
    fn a_stop_interrupts_and_stays() {
        let (slot, waker) = (Slot::new(), FakeWaker::default());
        slot.attach(waker.clone());
        slot.stop();
        assert_eq!(waker.interrupts(), 1);
        assert_eq!(slot.wait_for_start(), None);
        assert_eq!(slot.take_requests(0, 1), Requests { stopped: true, due: false });
        slot.detach();
        slot.stop();
        assert_eq!(waker.interrupts(), 1);
        slot.rearm();
        assert_eq!(slot.take_requests(0, 1), NONE);
    }
}
