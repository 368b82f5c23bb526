//! The reference TSC page and the protocol to read it.

use hv_tlfs::time::ReferenceTime;

use crate::conduit::Counter;
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};

/// The part of the reference TSC page that carries meaning. The hypervisor writes it, the guest reads.
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
    /// The reference time, or `None` if the page cannot say: its sequence is 0, or changed meanwhile.
    ///
    /// # What must be in order, and what holds it
    ///
    /// 1. The first sequence load comes before those of scale and offset: it is an acquire (LDAR).
    /// 2. The counter is not read before the first sequence load: the branch on 0 depends on that load, and an ISB
    ///    follows the branch ([`Counter`]); Arm ARM, B2.3 "Definition of the Arm memory model", context-synchronizing
    ///    instructions behind a control dependency.
    /// 3. Scale and offset come before the second sequence load: an acquire fence (DMB ISHLD).
    ///
    /// A counter that is read late (nothing holds it back from the second sequence load) does no harm: scale and offset
    /// that do not fit it would need a counter that jumped in between, and a VP whose counter offset is being changed
    /// is not running.
    ///
    /// Two readings that happen one after the other, on whatever VPs, do not go backwards: the second one's counter is
    /// read behind its acquire, and so behind the store by which it learned of the first.
    #[inline]
    pub(crate) fn read(&self, counter: &impl Counter) -> Option<ReferenceTime> {
        self.read_with_counter(counter).map(|(_, time)| time)
    }

    /// The same, with the counter that the time was made of.
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

    /// The page's sequence number: 0 while it is not valid.
    pub(crate) fn sequence(&self) -> u32 {
        self.sequence.load(Ordering::Relaxed)
    }
}
