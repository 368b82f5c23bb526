//! What is known of the bus without a lock.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

#[derive(Debug)]
pub(crate) struct Shared {
    /// Requests in flight.
    pub(crate) outstanding: AtomicU32,
    /// Something waits for whoever takes the bus's lock next.
    attention: AtomicBool,
    /// The end of a connection waits until nothing is in flight.
    pub(crate) ending: AtomicBool,
    /// No packet is taken.
    pub(crate) paused: AtomicBool,
    /// Messages wait for the guest.
    pub(crate) waiting: AtomicBool,
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
            chosen_connections: AtomicBool::new(false),
        }
    }

    /// Asks for whoever takes the bus's lock next. Whoever asks looks for it himself, after he has given back the device's
    /// lock, so that it is never forgotten.
    pub(crate) fn call(&self) {
        self.attention.store(true, Ordering::Release);
    }

    /// Takes the call.
    pub(crate) fn called(&self) -> bool {
        self.attention.load(Ordering::Relaxed) && self.attention.swap(false, Ordering::AcqRel)
    }

    /// Returns true if nothing is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.outstanding.load(Ordering::Acquire) == 0
    }
}
