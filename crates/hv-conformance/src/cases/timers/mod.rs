//! Synthetic timers and the clock.

pub(super) mod clock;
pub(super) mod messages;
pub(super) mod modes;
pub(super) mod registers;
