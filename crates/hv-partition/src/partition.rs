//! The calls that the embedder makes.

use core::fmt;

use hv_host::faults::Disturbance;
use hv_host::{Action, Host, Port, Power, RawMutex, Registers, Vp};
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::MessageType;

use crate::bus::{Bus, Vmbus};
use crate::event::BusObserver;
use crate::joined::Joined;

/// A Hyper-V partition with VMBus.
///
/// It is shared by all VPs. Nothing in it allocates. Make one (`const`, so it can be a static), call [`reset`](Self::reset)
/// once, then feed it with the guest's traps. Any thread may make any call.
///
/// `R` is the lock of the embedder's choice, as of a [`Vp`].
pub struct Partition<'a, R> {
    hypervisor: hv_host::Partition<'a, R>,
    bus: &'a Bus<R>,
}

impl<R: RawMutex> fmt::Debug for Partition<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("Partition");
        fields.field("hypervisor", &self.hypervisor).field("bus", self.bus).finish()
    }
}

impl<'a, R: RawMutex> Partition<'a, R> {
    /// Makes a partition with these VPs, of which VP 0 is the boot processor, these ports, and this bus, which is no other
    /// partition's. Call [`reset`](Self::reset) before anything else.
    #[must_use]
    pub const fn new(config: hv_host::Config, vps: &'a [Vp<R>], ports: &'a [Port], bus: &'a Bus<R>) -> Self {
        Self { hypervisor: hv_host::Partition::new(config, vps, ports), bus }
    }

    /// Returns how its hypervisor was built.
    #[must_use]
    pub const fn config(&self) -> &hv_host::Config {
        self.hypervisor.config()
    }

    /// Returns whether there is a VMBus.
    #[must_use]
    pub const fn has_vmbus(&self) -> bool {
        self.bus.exists()
    }

    /// Returns the number of VPs.
    #[must_use]
    pub const fn vp_count(&self) -> usize {
        self.hypervisor.vp_count()
    }

    /// Returns the VPs.
    #[must_use]
    pub const fn vps(&self) -> &'a [Vp<R>] {
        self.hypervisor.vps()
    }

    /// Returns whether a VP runs; `None` if there is no such VP.
    #[must_use]
    pub fn power(&self, vp: usize) -> Option<Power> {
        self.hypervisor.power(vp)
    }

    /// Returns the reference time in 100 ns since the partition was created.
    #[must_use]
    #[inline]
    pub fn reference_time(&self, host: &impl Host) -> u64 {
        self.hypervisor.reference_time(host)
    }

    /// Puts everything into the state after creation: see [`hv_host::Partition::reset`].
    pub fn reset(&self, host: &(impl Host + BusObserver)) {
        let joined = &self.joined(host);
        self.bus.reset(joined);
        self.hypervisor.reset(joined);
    }

    /// Carries out an `hvc` of `vp` with this immediate; `x` are its registers X0 to X30, changed as the call demands.
    #[inline(always)]
    pub fn hvc(
        &self,
        host: &(impl Host + BusObserver),
        vp: usize,
        immediate: u16,
        x: &mut impl Registers,
    ) -> Action {
        self.hypervisor.hvc(self.joined(host), vp, immediate, x)
    }

    /// Carries out an `smc` of `vp`: see [`hv_host::Partition::smc`].
    pub fn smc(
        &self,
        host: &(impl Host + BusObserver),
        vp: usize,
        immediate: u16,
        x: &mut impl Registers,
    ) -> Action {
        self.hypervisor.smc(&self.joined(host), vp, immediate, x)
    }

    /// Does what is due on a VP, whose deadline has come ([`Host::set_deadline`]): its timers, and VMBus's devices. A call
    /// without need does no harm.
    pub fn timer_expired(&self, host: &(impl Host + BusObserver), vp: usize) {
        let joined = &self.joined(host);
        self.hypervisor.timer_expired(joined, vp);
        self.bus.tick(joined, vp);
    }

    /// Takes notice that a VP, which does not run yet, is about to run its first instruction: see
    /// [`hv_host::Partition::vp_online`].
    pub fn vp_online(&self, host: &(impl Host + BusObserver), vp: usize) {
        let joined = &self.joined(host);
        self.hypervisor.vp_online(joined, vp);
        self.bus.tick(joined, vp);
    }

    /// Takes notice that a VP has stopped after [`Action::VpOff`]: see [`hv_host::Partition::vp_offline`].
    pub fn vp_offline(&self, host: &(impl Host + BusObserver), vp: usize) {
        let joined = &self.joined(host);
        self.hypervisor.vp_offline(joined, vp);
        self.bus.hand_over(joined, vp);
    }

    /// Works on the VMBus server: to offer channels and take them away, or to look at its state. What the server then has for
    /// the guest is sent.
    pub fn with_vmbus<H: Host + BusObserver, T>(
        &self,
        host: &H,
        work: impl FnOnce(&Vmbus<'_, R, H>) -> T,
    ) -> T {
        self.bus.enter(&self.joined(host), 0, |server, port| {
            let result = work(&Vmbus { server, port });
            server.flush(port);
            result
        })
    }

    /// Changes the clock as a migration does: see [`hv_host::Partition::migrate`].
    pub fn migrate(&self, host: &(impl Host + BusObserver), frequency: u64, now: u64) {
        self.hypervisor.migrate(&self.joined(host), frequency, now);
    }

    /// Says in the reference TSC page that it is not valid, or that it is again: see
    /// [`hv_host::Partition::set_reference_tsc_valid`].
    pub fn set_reference_tsc_valid(&self, host: &(impl Host + BusObserver), valid: bool) {
        self.hypervisor.set_reference_tsc_valid(&self.joined(host), valid);
    }

    /// Looks again whether waiting messages of a VP can be delivered, and VMBus's answers sent: for an embedder that has
    /// kept them back ([`Host::inject`]).
    pub fn rescan(&self, host: &(impl Host + BusObserver), vp: usize) {
        self.hypervisor.rescan(&self.joined(host), vp);
    }

    /// Does what a hostile host could do to a guest's shared pages: see [`hv_host::Partition::disturb`].
    pub fn disturb(&self, host: &(impl Host + BusObserver), vp: usize, what: Disturbance, random: u64) {
        self.hypervisor.disturb(&self.joined(host), vp, what, random);
    }

    /// Posts a message to a SINT of a VP, as the hypervisor or the host does.
    ///
    /// # Errors
    /// As of [`hv_host::Partition::post_message`].
    pub fn post_message(
        &self,
        host: &(impl Host + BusObserver),
        vp: usize,
        sint: u8,
        message_type: MessageType,
        sender: u64,
        payload: &[u8],
    ) -> Result<(), HvStatus> {
        self.hypervisor.post_message(&self.joined(host), vp, sint, message_type, sender, payload)
    }

    /// Sets an event flag of a VP, as the host does. True if it was clear, so that an interrupt was raised.
    ///
    /// # Errors
    /// As of [`hv_host::Partition::signal_event`].
    pub fn signal_event(
        &self,
        host: &(impl Host + BusObserver),
        vp: usize,
        sint: u8,
        flag: u16,
    ) -> Result<bool, HvStatus> {
        self.hypervisor.signal_event(&self.joined(host), vp, sint, flag)
    }

    /// The embedder as the hypervisor sees it here.
    #[inline(always)]
    pub(crate) fn joined<'p, H>(&'p self, host: &'p H) -> Joined<'p, R, H> {
        Joined { partition: self, host }
    }

    pub(crate) const fn hypervisor(&self) -> &hv_host::Partition<'a, R> {
        &self.hypervisor
    }

    pub(crate) const fn bus(&self) -> &'a Bus<R> {
        self.bus
    }
}
