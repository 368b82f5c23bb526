//! An embedder in two forms, so that only the hypervisor is compiled twice.

use hv_host::faults::Faults;
use hv_host::{Event, Flush, Host, Retarget, VpContext, VpMask};
use hv_tlfs::status::HvStatus;

use crate::event::BusObserver;

/// One embedder in two forms, for [`Partition::hvc`](crate::Partition::hvc).
///
/// An embedder that observes some runs and not others has the hypervisor's hot paths compiled for both. VMBus and its devices,
/// which are larger and whose calls are longer, are compiled for one shape.
#[derive(Clone, Copy, Debug)]
pub struct Split<H, G> {
    /// The embedder as the hypervisor calls it.
    pub hypervisor: H,
    /// The same embedder as VMBus calls it.
    pub bus: G,
}

/// An embedder, with the form of it that VMBus calls: itself, or that of a [`Split`].
pub trait ForBus: Host {
    /// The form for VMBus.
    type Bus: Host + BusObserver;

    /// Returns it.
    fn for_bus(&self) -> &Self::Bus;
}

impl<H: Host + BusObserver> ForBus for H {
    type Bus = Self;

    #[inline(always)]
    fn for_bus(&self) -> &Self {
        self
    }
}

impl<H: Host, G: Host + BusObserver> ForBus for Split<H, G> {
    type Bus = G;

    #[inline(always)]
    fn for_bus(&self) -> &G {
        &self.bus
    }
}

impl<H: Host, G> Host for Split<H, G> {
    type Memory = H::Memory;

    #[inline(always)]
    fn memory(&self) -> &H::Memory {
        self.hypervisor.memory()
    }

    #[inline(always)]
    fn counter(&self) -> u64 {
        self.hypervisor.counter()
    }

    #[inline(always)]
    fn assert_interrupt(&self, vp: usize, intid: u32) {
        self.hypervisor.assert_interrupt(vp, intid);
    }

    #[inline(always)]
    fn set_deadline(&self, vp: usize, counter: Option<u64>) {
        self.hypervisor.set_deadline(vp, counter);
    }

    #[inline(always)]
    fn start_vp(&self, vp: usize, context: &VpContext) {
        self.hypervisor.start_vp(vp, context);
    }

    #[inline(always)]
    fn flush_tlb(&self, targets: &VpMask, what: Flush) {
        self.hypervisor.flush_tlb(targets, what);
    }

    #[inline(always)]
    fn retarget_interrupt(&self, request: &Retarget<'_>) -> Result<(), HvStatus> {
        self.hypervisor.retarget_interrupt(request)
    }

    #[inline(always)]
    fn observe(&self, event: &Event<'_>) {
        self.hypervisor.observe(event);
    }

    #[inline(always)]
    fn faults(&self) -> impl Faults {
        self.hypervisor.faults()
    }
}
