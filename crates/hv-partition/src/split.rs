//! An embedder in two forms, so that only the hypervisor is compiled twice.

use hv_host::faults::Faults;
use hv_host::{Connections, Event, Flush, Host, RawMutex, Retarget, VpContext, VpMask};
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::MessageType;

use crate::event::BusObserver;
use crate::joined::Joined;
use crate::partition::Partition;
use crate::port::ServerPort;
use crate::served::Served;

/// One embedder in two forms, for [`Partition::hvc_split`].
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

impl<'h, R, H, G, B> Connections for Joined<'h, Partition<'h, R, B>, Split<H, G>>
where
    R: RawMutex,
    H: Host,
    G: Host + BusObserver,
    B: Served<'h, R, G>,
{
    fn post_message(
        &self,
        vp: usize,
        connection: u32,
        _: MessageType,
        payload: &[u8],
    ) -> Result<(), HvStatus> {
        self.partition.bus().message(&self.bus_port(), vp, connection, payload)
    }

    fn signal_event(&self, vp: usize, connection: u32, _: u16) -> Result<(), HvStatus> {
        self.partition.bus().signal(&self.bus_port(), vp, connection)
    }

    #[inline]
    fn buffer_freed(&self, vp: usize) {
        if self.partition.bus().owes() {
            self.partition.bus().flush(&self.bus_port(), vp);
        }
    }
}

impl<'h, R: RawMutex, B, H, G> Joined<'h, Partition<'h, R, B>, Split<H, G>> {
    /// Returns the partition as presented to the server.
    #[inline(always)]
    fn bus_port(self) -> ServerPort<'h, R, G> {
        ServerPort(Joined { partition: self.partition.core_ref(), host: &self.host.bus })
    }
}
