//! The embedder as the hypervisor sees it in a partition with VMBus.

use hv_host::faults::Injection;
use hv_host::{Connections, Event, Flush, Host, RawMutex, Retarget, VpContext, VpMask};
use hv_tlfs::hypercall::HypercallCode;
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::MessageType;

use crate::event::BusObserver;
use crate::partition::Partition;

/// The embedder, joined with the bus: deadlines of VPs include the bus's, and connections lead to it.
pub(crate) struct Joined<'p, R, H> {
    pub(crate) partition: &'p Partition<'p, R>,
    pub(crate) host: &'p H,
}

impl<R, H> Clone for Joined<'_, R, H> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<R, H> Copy for Joined<'_, R, H> {}

impl<R: RawMutex, H: Host> Host for Joined<'_, R, H> {
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

    /// The earlier of the VP's own deadline and the bus's, if this VP carries that.
    fn set_deadline(&self, vp: usize, counter: Option<u64>) {
        let bus = self.partition.hypervisor().counter_at(self.partition.bus().deadline_of(vp));
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
    fn inject_status(&self, vp: usize, code: HypercallCode) -> Option<HvStatus> {
        self.host.inject_status(vp, code)
    }

    #[inline(always)]
    fn inject(&self, vp: usize, injection: Injection) -> bool {
        self.host.inject(vp, injection)
    }

    #[inline(always)]
    fn observe(&self, event: &Event<'_>) {
        self.host.observe(event);
    }
}

impl<R: RawMutex, H: Host + BusObserver> Connections for Joined<'_, R, H> {
    fn post_message(
        &self,
        vp: usize,
        connection: u32,
        _: MessageType,
        payload: &[u8],
    ) -> Result<(), HvStatus> {
        self.partition.bus().message(self, vp, connection, payload)
    }

    /// VMBus's signals carry no flag: the connection says which channel is meant.
    fn signal_event(&self, vp: usize, connection: u32, _: u16) -> Result<(), HvStatus> {
        self.partition.bus().signal(self, vp, connection)
    }

    #[inline]
    fn buffer_freed(&self, vp: usize) {
        self.partition.bus().buffer_freed(self, vp);
    }
}
