//! The embedder as presented to the hypervisor, in a partition with VMBus.

use hv_host::faults::Faults;
use hv_host::{Connections, Event, Flush, Host, RawMutex, Retarget, VpContext, VpMask};
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::MessageType;

use crate::carrier::Carrier;
use crate::event::BusObserver;
use crate::partition::Partition;
use crate::port::ServerPort;
use crate::served::Served;

/// The part of a partition that does not depend on its devices.
pub(crate) struct Core<'a, R> {
    pub(crate) hypervisor: hv_host::Partition<'a, R>,
    pub(crate) carrier: Carrier<R>,
}

/// Something with a [`Core`].
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

impl<R: RawMutex, B> HasCore for Partition<'_, R, B> {
    type Lock = R;

    #[inline(always)]
    fn core(&self) -> &Core<'_, R> {
        self.core_ref()
    }
}

/// The embedder, combined with the bus: deadlines of VPs include the bus's, and connections of the partition lead to
/// it.
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

    /// Returns the earlier of the VP's own deadline and the bus's, if this VP carries that.
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

impl<'h, R, H, B> Connections for Joined<'h, Partition<'h, R, B>, H>
where
    R: RawMutex,
    H: Host + BusObserver,
    B: Served<'h, R, H>,
{
    fn post_message(
        &self,
        vp: usize,
        connection: u32,
        _: MessageType,
        payload: &[u8],
    ) -> Result<(), HvStatus> {
        self.partition.bus().message(&self.port(), vp, connection, payload)
    }

    /// VMBus signals carry no flag: the connection identifies the channel.
    fn signal_event(&self, vp: usize, connection: u32, _: u16) -> Result<(), HvStatus> {
        self.partition.bus().signal(&self.port(), vp, connection)
    }

    #[inline]
    fn buffer_freed(&self, vp: usize) {
        if self.partition.bus().owes() {
            self.partition.bus().flush(&self.port(), vp);
        }
    }
}

impl<'h, R: RawMutex, B, H> Joined<'h, Partition<'h, R, B>, H> {
    /// Returns the partition as presented to the server.
    #[inline(always)]
    pub(crate) fn port(self) -> ServerPort<'h, R, H> {
        ServerPort(Joined { partition: self.partition.core_ref(), host: self.host })
    }
}
