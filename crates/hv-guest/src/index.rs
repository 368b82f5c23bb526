//! Numbers of synthetic interrupt sources and synthetic timers, always in range.
//!
//! Source: TLFS, "SynIC Registers", "Synthetic Timer Registers".

use core::fmt;

use hv_tlfs::synic::SINT_COUNT;
use hv_tlfs::timer::STIMER_COUNT;

/// The number of a synthetic interrupt source: 0 to 15.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SintIndex(u8);

impl SintIndex {
    /// The source that VMBus uses.
    #[doc(alias = "VMBUS_MESSAGE_SINT")]
    pub const VMBUS: Self = Self(hv_tlfs::vmbus::connection::MESSAGE_SINT as u8);

    /// Returns source `number`; `None` from 16 on.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if (number as usize) < SINT_COUNT { Some(Self(number)) } else { None }
    }

    /// Returns the number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Iterates over all sixteen.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> {
        (0..SINT_COUNT as u8).map(Self)
    }

    /// Returns the index into an array of sixteen; the compiler knows that it is in range.
    #[inline]
    pub(crate) const fn place(self) -> usize {
        (self.0 & 15) as usize
    }

    /// Indexes an array of sixteen, without a bounds check that could fail.
    #[inline]
    pub(crate) const fn of<T>(self, array: &[T; SINT_COUNT]) -> &T {
        &array[self.place()]
    }
}

impl fmt::Debug for SintIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::VMBUS {
            f.write_str("SintIndex(VMBUS)")
        } else {
            write!(f, "SintIndex({})", self.0)
        }
    }
}

/// The number of a synthetic timer: 0 to 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerIndex(u8);

impl TimerIndex {
    /// Returns timer `number`; `None` from 4 on.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if (number as usize) < STIMER_COUNT { Some(Self(number)) } else { None }
    }

    /// Returns the number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// All four.
    pub const ALL: [Self; STIMER_COUNT] = [Self(0), Self(1), Self(2), Self(3)];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_sixteen_sources() {
        assert_eq!(SintIndex::new(16), None);
        assert_eq!(SintIndex::all().count(), 16);
        assert_eq!(SintIndex::new(2), Some(SintIndex::VMBUS));
    }
}
