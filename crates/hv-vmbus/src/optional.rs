//! Optional values whose absence is all zeros.

use crate::image::Image;
use core::sync::atomic::{AtomicU64, Ordering};
use hv_memory::save::{Reader, RestoreError, Writer};
use hv_tlfs::time::ReferenceTime;

/// An [`Option`] whose `None` is all zeros, unlike that of a type with a niche.
///
/// A bus is a large static of a bare-metal host. As long as a new one is all zeros, it takes no room in the host's
/// image and no time to load.
///
/// Its tag is a word, so that the value is moved by words: EL2 checks alignment.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
pub(crate) enum Optional<T> {
    None = 0,
    Some(T) = 1,
}

impl<T> Optional<T> {
    pub(crate) const fn is_some(&self) -> bool {
        matches!(self, Self::Some(_))
    }

    pub(crate) const fn is_none(&self) -> bool {
        !self.is_some()
    }

    pub(crate) const fn as_ref(&self) -> Option<&T> {
        match self {
            Self::None => None,
            Self::Some(value) => Some(value),
        }
    }

    pub(crate) const fn as_mut(&mut self) -> Option<&mut T> {
        match self {
            Self::None => None,
            Self::Some(value) => Some(value),
        }
    }

    pub(crate) fn take(&mut self) -> Option<T> {
        match core::mem::replace(self, Self::None) {
            Self::None => None,
            Self::Some(value) => Some(value),
        }
    }

    pub(crate) fn get(&self) -> Option<T>
    where
        T: Copy,
    {
        self.as_ref().copied()
    }
}

impl<T> From<Option<T>> for Optional<T> {
    fn from(value: Option<T>) -> Self {
        match value {
            None => Self::None,
            Some(value) => Self::Some(value),
        }
    }
}

impl<T: Image> Image for Optional<T> {
    fn save(&self, w: &mut Writer<'_>) {
        w.flag(self.is_some());
        if let Self::Some(value) = self {
            value.save(w);
        }
    }

    fn load(r: &mut Reader<'_>) -> Result<Self, RestoreError> {
        Option::load(r).map(Self::from)
    }
}

/// An optional deadline in reference time, accessed without a lock; never is all zeros.
#[derive(Debug)]
pub(crate) struct Due(
    /// The complement of the time.
    AtomicU64,
);

impl Due {
    pub(crate) const fn never() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Returns the time; [`NEVER`](crate::worker::NEVER) is never.
    pub(crate) fn load(&self) -> ReferenceTime {
        ReferenceTime(!self.0.load(Ordering::Acquire))
    }

    pub(crate) fn store(&self, time: ReferenceTime) {
        self.0.store(!time.ticks(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::NEVER;

    #[test]
    fn an_optional_is_the_option_of_the_same_value() {
        for value in [None, Some(0), Some(7)] {
            let mut optional = Optional::from(value);
            assert_eq!((optional.is_some(), optional.is_none()), (value.is_some(), value.is_none()));
            assert_eq!((optional.get(), optional.as_ref().copied()), (value, value));
            assert_eq!(optional.as_mut().copied(), value);
            assert_eq!((optional.take(), optional.get()), (value, None));
        }
    }

    #[test]
    fn what_is_due_is_the_time_that_was_stored() {
        let due = Due::never();
        assert_eq!(due.load(), NEVER);
        for time in [ReferenceTime::ZERO, ReferenceTime(1), NEVER] {
            due.store(time);
            assert_eq!(due.load(), time);
        }
    }
}
