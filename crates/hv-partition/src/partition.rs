//! The partition: its parts.

use core::fmt;

use hv_host::{Host, Port, Power, RawMutex, Vp};
use hv_tlfs::time::ReferenceTime;

use crate::bus::Bus;
use crate::carrier::Carrier;
use crate::joined::{Core, Joined};
use crate::port::ServerPort;
use crate::served::AnyBus;

/// A Hyper-V partition with VMBus.
///
/// It is shared by all VPs, and does not allocate. Create one (`const`, so it can be a static), call
/// [`reset`](Self::reset) once, then pass it the guest's traps. Any thread may make any call.
///
/// Chapters, which add the embedder's calls: `calls`, `save`.
///
/// `R` is the lock of the embedder's choice, as for a [`Vp`], and `B` the bus with the devices of its choice.
pub struct Partition<'a, R, B = Bus<R>> {
    core: Core<'a, R>,
    bus: &'a B,
}

impl<R: RawMutex, B: fmt::Debug> fmt::Debug for Partition<'_, R, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("Partition");
        fields.field("hypervisor", self.hypervisor()).field("bus", self.bus).finish_non_exhaustive()
    }
}

impl<'a, R: RawMutex, B> Partition<'a, R, B> {
    /// Creates a partition with these VPs, of which VP 0 is the boot processor, these ports, and this bus, which
    /// belongs to no other partition. Call [`reset`](Self::reset) before anything else.
    #[must_use]
    pub const fn new(config: hv_host::Config, vps: &'a [Vp<R>], ports: &'a [Port], bus: &'a B) -> Self {
        let hypervisor = hv_host::Partition::new(config, vps, ports);
        Self { core: Core { hypervisor, carrier: Carrier::new() }, bus }
    }

    /// Returns the configuration of its hypervisor.
    #[must_use]
    pub const fn config(&self) -> &hv_host::Config {
        self.core.hypervisor.config()
    }

    /// Returns true if there is a VMBus.
    #[must_use]
    pub fn has_vmbus(&self) -> bool
    where
        B: AnyBus,
    {
        self.bus.exists()
    }

    /// Returns the number of VPs.
    #[must_use]
    pub const fn vp_count(&self) -> usize {
        self.core.hypervisor.vp_count()
    }

    /// Returns the VPs.
    #[must_use]
    pub const fn vps(&self) -> &'a [Vp<R>] {
        self.core.hypervisor.vps()
    }

    /// Returns whether a VP is running; `None` if there is no such VP.
    #[must_use]
    pub fn power(&self, vp: usize) -> Option<Power> {
        self.core.hypervisor.power(vp)
    }

    /// Returns the reference time: that since the partition was created.
    #[must_use]
    #[inline]
    pub fn reference_time(&self, host: &impl Host) -> ReferenceTime {
        self.core.hypervisor.reference_time(host)
    }

    pub(crate) const fn bus(&self) -> &'a B {
        self.bus
    }

    /// Returns the embedder as presented to the hypervisor: in one form for all calls, so that its code is compiled
    /// once.
    #[inline(always)]
    pub(crate) fn joined<'h, H>(&'h self, host: &'h H) -> Joined<'h, Self, H> {
        Joined { partition: self, host }
    }

    /// Returns the partition as presented to the server.
    pub(crate) fn port<'h, H>(&'h self, host: &'h H) -> ServerPort<'h, R, H> {
        ServerPort(Joined { partition: &self.core, host })
    }

    #[inline(always)]
    pub(crate) const fn core_ref(&self) -> &Core<'a, R> {
        &self.core
    }

    pub(crate) const fn hypervisor(&self) -> &hv_host::Partition<'a, R> {
        &self.core.hypervisor
    }
}
