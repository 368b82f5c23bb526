//! Deadlines in reference time.

use core::sync::atomic::{AtomicU64, Ordering};

use hv_tlfs::time::ReferenceTime;

/// A reference time, or never. All zeros is never.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Deadline(
    /// The time, counted from 1; 0 is never.
    u64,
);

impl core::fmt::Debug for Deadline {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.time() {
            Some(time) => write!(f, "Deadline({time:?})"),
            None => f.write_str("Deadline(never)"),
        }
    }
}

impl Deadline {
    /// The deadline that never expires.
    pub const NEVER: Self = Self(0);

    /// Creates a deadline at a reference time. [`ReferenceTime::MAX`] is never.
    #[must_use]
    pub const fn at(time: ReferenceTime) -> Self {
        Self(time.ticks().wrapping_add(1))
    }

    /// Creates a deadline at a reference time, or the last one before never for [`ReferenceTime::MAX`].
    #[must_use]
    pub const fn at_or_last(time: ReferenceTime) -> Self {
        Self(time.ticks().saturating_add(1))
    }

    /// Returns the reference time, unless it is never.
    #[must_use]
    pub const fn time(self) -> Option<ReferenceTime> {
        match self.0.checked_sub(1) {
            Some(ticks) => Some(ReferenceTime(ticks)),
            None => None,
        }
    }

    /// Returns the reference time; [`ReferenceTime::MAX`] stands for never.
    #[must_use]
    pub const fn or_max(self) -> ReferenceTime {
        ReferenceTime(self.0.wrapping_sub(1))
    }

    /// Returns the earlier one.
    #[must_use]
    pub const fn earlier(self, other: Self) -> Self {
        if self.or_max().ticks() <= other.or_max().ticks() { self } else { other }
    }

    /// Returns true if it has expired at this reference time.
    #[must_use]
    pub const fn is_due(self, now: ReferenceTime) -> bool {
        self.0 != 0 && self.0 - 1 <= now.ticks()
    }
}

/// A [`Deadline`] that threads share. All zeros is never.
#[derive(Debug, Default)]
pub struct AtomicDeadline(AtomicU64);

impl AtomicDeadline {
    /// Creates one that is never.
    #[must_use]
    pub const fn never() -> Self {
        Self(AtomicU64::new(Deadline::NEVER.0))
    }

    /// Returns the deadline.
    #[must_use]
    pub fn load(&self, order: Ordering) -> Deadline {
        Deadline(self.0.load(order))
    }

    /// Sets the deadline.
    pub fn store(&self, deadline: Deadline, order: Ordering) {
        self.0.store(deadline.0, order);
    }

    /// Sets the deadline, and returns the one before.
    pub fn swap(&self, deadline: Deadline, order: Ordering) -> Deadline {
        Deadline(self.0.swap(deadline.0, order))
    }
}

#[cfg(test)]
mod tests {
    use super::{AtomicDeadline, Deadline};
    use core::sync::atomic::Ordering;
    use hv_tlfs::time::ReferenceTime;

    #[test]
    fn a_time_or_the_last_is_never_never() {
        let last = Deadline::at_or_last(ReferenceTime::MAX);
        assert!(
            last != Deadline::NEVER
                && !last.is_due(ReferenceTime(u64::MAX - 2))
                && last.is_due(ReferenceTime::MAX)
        );
        for time in [0, 1, u64::MAX - 1].map(ReferenceTime) {
            assert_eq!(Deadline::at_or_last(time), Deadline::at(time));
        }
        let shared = AtomicDeadline::never();
        assert_eq!(shared.swap(last, Ordering::Relaxed), Deadline::NEVER);
        assert_eq!(shared.load(Ordering::Relaxed), last);
    }

    #[test]
    fn never_is_later_than_any_time_and_not_due() {
        let never = Deadline::NEVER;
        assert_eq!(Deadline::default(), never);
        assert_eq!(Deadline::at(ReferenceTime::MAX), never);
        assert_eq!(never.time(), None);
        assert!(!never.is_due(ReferenceTime::MAX));
        for time in [0, 1, u64::MAX - 1].map(ReferenceTime) {
            let at = Deadline::at(time);
            assert_eq!(at.time(), Some(time));
            assert_eq!((at.earlier(never), never.earlier(at)), (at, at));
            assert!(at.is_due(time) && at.is_due(ReferenceTime::MAX));
            assert!(time == ReferenceTime::ZERO || !at.is_due(time.saturating_sub(ReferenceTime(1))));
        }
    }
}
