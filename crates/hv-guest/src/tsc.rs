//! The reference TSC page and its read protocol.

use hv_tlfs::time::ReferenceTime;

use crate::conduit::Counter;
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};

/// The defined part of the reference TSC page. The hypervisor writes it, the guest reads it.
///
/// Source: TLFS, "Timers", "Partition Reference Time Stamp Counter Page".
#[doc(alias = "ms_hyperv_tsc_page")]
#[repr(C)]
pub(crate) struct TscPage {
    pub(crate) sequence: AtomicU32,
    pub(crate) reserved: AtomicU32,
    pub(crate) scale: AtomicU64,
    pub(crate) offset: AtomicU64,
}

impl TscPage {
    /// Returns the reference time, or `None` if the page is invalid: its sequence is 0, or changed during the read.
    ///
    /// # Required order, and what enforces it
    ///
    /// 1. The first load of the sequence precedes those of scale and offset: it is an acquire (LDAR).
    /// 2. The counter is not read before the first load of the sequence: the branch on 0 depends on that load, and an
    ///    ISB follows the branch ([`Counter`]); Arm ARM, B2.3 "Definition of the Arm memory model",
    ///    context-synchronizing instructions after a control dependency.
    /// 3. The loads of scale and offset precede the second load of the sequence: an acquire fence (DMB ISHLD).
    ///
    /// A counter that is read late (nothing orders it before the second load of the sequence) is harmless: scale and
    /// offset would only be wrong for it if the counter had jumped in between, and a VP is not running while its
    /// counter offset is changed.
    ///
    /// Two reads, one after the other on any VPs, do not go backwards: the second one reads the counter after its
    /// acquire, and so after the store by which it learned of the first.
    #[inline]
    pub(crate) fn read(&self, counter: &impl Counter) -> Option<ReferenceTime> {
        self.read_with_counter(counter).map(|(_, time)| time)
    }

    /// Returns the same, with the counter value it was computed from.
    #[inline]
    pub(crate) fn read_with_counter(&self, counter: &impl Counter) -> Option<(u64, ReferenceTime)> {
        let sequence = self.sequence.load(Ordering::Acquire);
        if sequence == 0 {
            return None;
        }
        let ticks = counter.counter();
        let scale = self.scale.load(Ordering::Relaxed);
        let offset = self.offset.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        if self.sequence.load(Ordering::Relaxed) != sequence {
            return None;
        }
        let scaled = (u128::from(ticks) * u128::from(scale)) >> 64;
        Some((ticks, ReferenceTime((scaled as u64).wrapping_add(offset))))
    }

    /// Returns the page's sequence number: 0 while the page is invalid.
    pub(crate) fn sequence(&self) -> u32 {
        self.sequence.load(Ordering::Relaxed)
    }
}
