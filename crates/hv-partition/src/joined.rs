//! The embedder as presented to the hypervisor, in a partition with VMBus.

use hv_host::faults::Faults;
use hv_host::{Event, Flush, Host, RawMutex, Retarget, VpContext, VpMask};
use hv_tlfs::status::HvStatus;

use crate::carrier::Carrier;

/// The part of a partition that does not depend on its devices.
pub(crate) struct Core<'a, R> {
    pub(crate) hypervisor: hv_host::Partition<'a, R>,
    pub(crate) carrier: Carrier<R>,
}

/// Owner of a [`Core`].
pub(crate) trait HasCore {
    type Lock: RawMutex;

    fn core(&self) -> &Core<'_, Self::Lock>;
}

impl<R: RawMutex> HasCore for Core<'_, R> {
    type Lock = R;

    #[inline(always)]
    fn core(&self) -> &Core<'_, R> {
        self
    }
}

/// The embedder, combined with the bus: deadlines of VPs include the bus's, and connections of the partition lead to
/// it (`route`).
///
/// Chapters, the files that add methods to it: `carry`, `route`.
pub(crate) struct Joined<'h, Q, H> {
    pub(crate) partition: &'h Q,
    pub(crate) host: &'h H,
}

impl<Q, H> Clone for Joined<'_, Q, H> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<Q, H> Copy for Joined<'_, Q, H> {}

impl<'h, R, H> Joined<'h, Core<'h, R>, H> {
    pub(crate) fn hypervisor(&self) -> &'h hv_host::Partition<'h, R> {
        &self.partition.hypervisor
    }
}

impl<Q: HasCore, H: Host> Host for Joined<'_, Q, H> {
    type Memory = H::Memory;

    #[inline(always)]
    fn memory(&self) -> &H::Memory {
        self.host.memory()
    }

    #[inline(always)]
    fn counter(&self) -> u64 {
        self.host.counter()
    }

    #[inline(always)]
    fn assert_interrupt(&self, vp: usize, intid: u32) {
        self.host.assert_interrupt(vp, intid);
    }

    /// Sets the earlier of the VP's own deadline and the bus's, if this VP carries that.
    fn set_deadline(&self, vp: usize, counter: Option<u64>) {
        let Core { hypervisor, carrier } = self.partition.core();
        let bus = hypervisor.counter_at(carrier.deadline_of(vp));
        let earliest = counter.into_iter().chain(bus).min();
        self.host.set_deadline(vp, earliest);
    }

    fn start_vp(&self, vp: usize, context: &VpContext) {
        self.host.start_vp(vp, context);
    }

    fn flush_tlb(&self, targets: &VpMask, what: Flush) {
        self.host.flush_tlb(targets, what);
    }

    fn retarget_interrupt(&self, request: &Retarget<'_>) -> Result<(), HvStatus> {
        self.host.retarget_interrupt(request)
    }

    #[inline(always)]
    fn observe(&self, event: &Event<'_>) {
        self.host.observe(event);
    }

    #[inline(always)]
    fn faults(&self) -> impl Faults {
        self.host.faults()
    }
}
