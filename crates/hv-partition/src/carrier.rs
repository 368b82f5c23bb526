//! The deadline of the VMBus server, and the VP whose timer serves it. `carry` selects that VP.

use core::sync::atomic::{AtomicUsize, Ordering};

use hv_memory::{AtomicDeadline, Deadline};
use lock_api::{Mutex, RawMutex};

/// No VP.
pub(crate) const NONE: usize = usize::MAX;

/// The server's deadline, and the VP that carries it.
pub(crate) struct Carrier<R> {
    /// The server's deadline.
    pub(crate) deadline: AtomicDeadline,
    /// The VP whose deadline includes the server's.
    pub(crate) vp: AtomicUsize,
    /// Held while a VP is selected.
    pub(crate) choosing: Mutex<R, ()>,
}

impl<R: RawMutex> Carrier<R> {
    pub(crate) const fn new() -> Self {
        Self { deadline: AtomicDeadline::never(), vp: AtomicUsize::new(NONE), choosing: Mutex::new(()) }
    }

    /// Clears the deadline, and the VP that carried it.
    pub(crate) fn reset(&self) {
        self.deadline.store(Deadline::NEVER, Ordering::Relaxed);
        self.vp.store(NONE, Ordering::Relaxed);
    }

    pub(crate) fn deadline(&self) -> Deadline {
        self.deadline.load(Ordering::Acquire)
    }

    /// Returns the deadline that a VP carries for the server.
    pub(crate) fn deadline_of(&self, vp: usize) -> Deadline {
        if self.vp.load(Ordering::Acquire) == vp { self.deadline() } else { Deadline::NEVER }
    }
}
