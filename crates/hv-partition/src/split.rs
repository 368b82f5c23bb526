//! An embedder in two forms, so that only the most frequent calls are compiled twice.

use hv_host::faults::Faults;
use hv_host::{Event, Flush, Host, Retarget, VpContext, VpMask};
use hv_tlfs::status::HvStatus;

use crate::event::BusObserver;

/// One embedder in two forms, for [`Partition::hvc`](crate::Partition::hvc).
///
/// An embedder that observes some runs and not others has the paths of the most frequent calls compiled for both. All
/// other calls, VMBus and its devices, which are larger and take longer, are compiled for one form.
#[derive(Clone, Copy, Debug)]
pub struct Split<F, H> {
    /// The embedder as the most frequent calls use it.
    pub fast: F,
    /// The same embedder as everything else uses it.
    pub full: H,
}

/// An embedder, with the form of it for calls that are not frequent: itself, or that of a [`Split`].
pub trait Forms: Host {
    /// The form for all other calls, and for VMBus.
    type Full: Host + BusObserver;

    /// Returns it.
    fn full(&self) -> &Self::Full;
}

impl<H: Host + BusObserver> Forms for H {
    type Full = Self;

    #[inline(always)]
    fn full(&self) -> &Self {
        self
    }
}

impl<F: Host, H: Host + BusObserver> Forms for Split<F, H> {
    type Full = H;

    #[inline(always)]
    fn full(&self) -> &H {
        &self.full
    }
}

impl<F: Host, H> Host for Split<F, H> {
    type Memory = F::Memory;

    #[inline(always)]
    fn memory(&self) -> &F::Memory {
        self.fast.memory()
    }

    #[inline(always)]
    fn counter(&self) -> u64 {
        self.fast.counter()
    }

    #[inline(always)]
    fn assert_interrupt(&self, vp: usize, intid: u32) {
        self.fast.assert_interrupt(vp, intid);
    }

    #[inline(always)]
    fn set_deadline(&self, vp: usize, counter: Option<u64>) {
        self.fast.set_deadline(vp, counter);
    }

    #[inline(always)]
    fn start_vp(&self, vp: usize, context: &VpContext) {
        self.fast.start_vp(vp, context);
    }

    #[inline(always)]
    fn flush_tlb(&self, targets: &VpMask, what: Flush) {
        self.fast.flush_tlb(targets, what);
    }

    #[inline(always)]
    fn retarget_interrupt(&self, request: &Retarget<'_>) -> Result<(), HvStatus> {
        self.fast.retarget_interrupt(request)
    }

    #[inline(always)]
    fn observe(&self, event: &Event<'_>) {
        self.fast.observe(event);
    }

    #[inline(always)]
    fn faults(&self) -> impl Faults {
        self.fast.faults()
    }
}
