//! State of the bus that is read without a lock.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

#[derive(Debug)]
pub(crate) struct Shared {
    /// Requests in flight.
    pub(crate) outstanding: AtomicU32,
    /// Work is pending for the next holder of the bus's lock.
    attention: AtomicBool,
    /// The end of a connection is pending until nothing is in flight.
    pub(crate) ending: AtomicBool,
    /// No packets are taken.
    pub(crate) paused: AtomicBool,
    /// Messages are pending for the guest.
    pub(crate) waiting: AtomicBool,
    /// The bus's deadline may have changed.
    moved: AtomicBool,
    /// The guest may choose its connections.
    pub(crate) chosen_connections: AtomicBool,
}

impl Shared {
    pub(crate) const fn new() -> Self {
        Self {
            outstanding: AtomicU32::new(0),
            attention: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            waiting: AtomicBool::new(false),
            moved: AtomicBool::new(false),
            chosen_connections: AtomicBool::new(false),
        }
    }

    /// Requests work by the next holder of the bus's lock. The requester checks for it as well, after releasing the
    /// device's lock, so it is never lost.
    pub(crate) fn call(&self) {
        self.attention.store(true, Ordering::Release);
    }

    /// Takes the request.
    pub(crate) fn called(&self) -> bool {
        self.attention.load(Ordering::Relaxed) && self.attention.swap(false, Ordering::AcqRel)
    }

    /// Records that the bus's deadline may have changed: after the change.
    pub(crate) fn moves(&self) {
        self.moved.store(true, Ordering::Release);
    }

    /// Returns true if that was recorded since the last call.
    pub(crate) fn has_moved(&self) -> bool {
        self.moved.load(Ordering::Relaxed) && self.moved.swap(false, Ordering::AcqRel)
    }

    /// Returns true if nothing is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.outstanding.load(Ordering::Acquire) == 0
    }
}
