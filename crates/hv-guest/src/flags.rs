//! Event flags, as the hypervisor sets them in their page.

use hv_tlfs::synic::EVENT_FLAGS_WORDS;

use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// The event flags of one source: flag n is bit n % 8 of byte n / 8. The cells match those of [`crate::page`].
///
/// Source: TLFS, `HV_SYNIC_EVENT_FLAGS`.
#[doc(alias = "hv_synic_event_flags")]
#[repr(C)]
pub(crate) struct Flags {
    /// Flags 0 to 63.
    pub(crate) head: [AtomicU32; 2],
    /// The remaining flags.
    pub(crate) rest: [AtomicU64; EVENT_FLAGS_WORDS - 1],
}

impl Flags {
    /// Clears a flag and returns whether it was set.
    #[inline]
    pub(crate) fn take(&self, flag: u16) -> bool {
        let flag = usize::from(flag);
        // Tests first: a clear flag costs no exclusive access.
        if let Some(half) = self.head.get(flag / 32) {
            let bit = 1 << (flag % 32);
            return half.load(Ordering::Relaxed) & bit != 0
                && half.fetch_and(!bit, Ordering::Acquire) & bit != 0;
        }
        let Some(word) = self.rest.get(flag / 64 - 1) else { return false };
        let bit = 1 << (flag % 64);
        word.load(Ordering::Relaxed) & bit != 0 && word.fetch_and(!bit, Ordering::Acquire) & bit != 0
    }

    /// Clears all flags and passes those that were set to `each`.
    #[inline]
    pub(crate) fn take_all(&self, each: impl FnMut(u16)) {
        self.take_below(64 * EVENT_FLAGS_WORDS, each);
    }

    /// Clears the flags below `limit`, rounded up to whole cells, and passes those that were set to `each`.
    #[inline]
    pub(crate) fn take_below(&self, limit: usize, mut each: impl FnMut(u16)) {
        let mut each_of = |first: u16, mut set: u64| {
            while set != 0 {
                each(first + set.trailing_zeros() as u16);
                set &= set - 1;
            }
        };
        for (i, half) in (0_u16..).zip(self.head.iter().take(limit.div_ceil(32))) {
            if half.load(Ordering::Relaxed) != 0 {
                each_of(i * 32, u64::from(half.swap(0, Ordering::Acquire)));
            }
        }
        for (i, word) in (1_u16..).zip(self.rest.iter().take(limit.div_ceil(64).saturating_sub(1))) {
            if word.load(Ordering::Relaxed) != 0 {
                each_of(i * 64, word.swap(0, Ordering::Acquire));
            }
        }
    }
}
