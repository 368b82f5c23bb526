//! The calls that the embedder makes.

use hv_host::faults::Disturbance;
use hv_host::{Action, Host, RawMutex, Registers};
use hv_memory::Deadline;
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::MessageType;
use hv_tlfs::time::ReferenceTime;
use hv_vmbus::{BusError, Device, DeviceSet, Devices, Slot, Token, Work};

use crate::bus::{Bus, Vmbus};
use crate::event::BusObserver;
use crate::partition::Partition;
use crate::port::{HostBackend, ServerPort};
use crate::served::Served;
use crate::split::Forms;

/// Calls of an embedder `H`, which must serve the requests of all devices of the bus `B`.
impl<'a, R: RawMutex, B> Partition<'a, R, B> {
    /// Resets everything to the state after creation: see [`hv_host::Partition::reset`].
    pub fn reset<'h, H>(&'h self, host: &'h H)
    where
        H: Host + BusObserver,
        B: Served<'h, R, H>,
    {
        self.bus().reset(&self.port(host));
        self.hypervisor().reset(&self.joined(host));
    }

    /// Handles an `hvc` of `vp` with this immediate; `x` are its registers X0 to X30, which the call reads and changes.
    /// The embedder may be in two forms: a [`Split`](crate::Split).
    #[inline(always)]
    pub fn hvc<'h, H>(&'h self, host: &'h H, vp: usize, immediate: u16, x: &mut impl Registers) -> Action
    where
        H: Forms,
        B: Served<'h, R, H::Full>,
    {
        let (fast, full) = (self.joined(host), self.joined(host.full()));
        self.hypervisor().hvc_split(fast, full, vp, immediate, x)
    }

    /// Handles an `smc` of `vp`: see [`hv_host::Partition::smc`].
    pub fn smc<'h, H>(&'h self, host: &'h H, vp: usize, immediate: u16, x: &mut impl Registers) -> Action
    where
        H: Host + BusObserver,
        B: Served<'h, R, H>,
    {
        self.hypervisor().smc(self.joined(host), vp, immediate, x)
    }

    /// Does what is due on a VP whose deadline has expired ([`Host::set_deadline`]): its timers, and VMBus's devices. A
    /// superfluous call is harmless.
    pub fn timer_expired<'h, H>(&'h self, host: &'h H, vp: usize)
    where
        H: Host + BusObserver,
        B: Served<'h, R, H>,
    {
        self.hypervisor().timer_expired(&self.joined(host), vp);
        self.tick(&self.port(host), vp);
    }

    /// Reports that a VP is about to run its first instruction: see [`hv_host::Partition::vp_online`].
    pub fn vp_online<'h, H>(&'h self, host: &'h H, vp: usize)
    where
        H: Host + BusObserver,
        B: Served<'h, R, H>,
    {
        self.hypervisor().vp_online(&self.joined(host), vp);
        self.tick(&self.port(host), vp);
    }

    /// Reports that a VP has stopped after [`Action::VpOff`]: see [`hv_host::Partition::vp_offline`].
    pub fn vp_offline<'h, H>(&'h self, host: &'h H, vp: usize)
    where
        H: Host + BusObserver,
        B: Served<'h, R, H>,
    {
        self.hypervisor().vp_offline(&self.joined(host), vp);
        self.port(host).0.hand_over_deadline(vp);
    }

    /// Calls a function with the VMBus server: to offer and rescind channels, or to inspect its state. Then sends what
    /// the server has for the guest.
    pub fn with_vmbus<'h, H, T>(&'h self, host: &'h H, work: impl FnOnce(&Vmbus<'h, R, H, B>) -> T) -> T
    where
        H: Host + BusObserver,
        B: Served<'h, R, H>,
    {
        let vmbus = Vmbus { bus: self.bus(), port: self.port(host) };
        let result = work(&vmbus);
        self.bus().flush(&vmbus.port, 0);
        result
    }

    /// Changes the clock as a migration does: see [`hv_host::Partition::migrate`].
    pub fn migrate<'h, H>(&'h self, host: &'h H, frequency: u64, now: ReferenceTime)
    where
        H: Host + BusObserver,
        B: Served<'h, R, H>,
    {
        self.hypervisor().migrate(&self.joined(host), frequency, now);
    }

    /// Marks the reference TSC page as invalid, or valid again: see [`hv_host::Partition::set_reference_tsc_valid`].
    pub fn set_reference_tsc_valid<'h, H>(&'h self, host: &'h H, valid: bool)
    where
        H: Host + BusObserver,
        B: Served<'h, R, H>,
    {
        self.hypervisor().set_reference_tsc_valid(&self.joined(host), valid);
    }

    /// Checks again whether pending messages of a VP can be delivered, and VMBus's answers sent: for an embedder whose
    /// fault plan has withheld them ([`Timed::Rescan`](hv_host::faults::Timed::Rescan)).
    pub fn rescan<'h, H>(&'h self, host: &'h H, vp: usize)
    where
        H: Host + BusObserver,
        B: Served<'h, R, H>,
    {
        self.hypervisor().rescan(&self.joined(host), vp);
    }

    /// Has all devices look at their rings again: for an embedder whose fault plan has kept them from it
    /// ([`Timed::Resume`](hv_host::faults::Timed::Resume)).
    pub fn resume_devices<'h, H>(&'h self, host: &'h H)
    where
        H: Host + BusObserver,
        B: Served<'h, R, H>,
    {
        self.bus().resume(&self.port(host), 0);
    }

    /// Acts as a hostile host against a guest's shared pages: see [`hv_host::Partition::disturb`].
    pub fn disturb<'h, H>(&'h self, host: &'h H, vp: usize, what: Disturbance, random: u64)
    where
        H: Host + BusObserver,
        B: Served<'h, R, H>,
    {
        self.hypervisor().disturb(&self.joined(host), vp, what, random);
    }

    /// Posts a message to a SINT of a VP, from the hypervisor or the host.
    ///
    /// # Errors
    /// The same as for [`hv_host::Partition::post_message`].
    pub fn post_message<'h, H>(
        &'h self,
        host: &'h H,
        vp: usize,
        sint: u8,
        message_type: MessageType,
        sender: u64,
        payload: &[u8],
    ) -> Result<(), HvStatus>
    where
        H: Host + BusObserver,
        B: Served<'h, R, H>,
    {
        self.hypervisor().post_message(&self.joined(host), vp, sint, message_type, sender, payload)
    }

    /// Sets an event flag of a VP, from the host. Returns true if it was clear, so that an interrupt was raised.
    ///
    /// # Errors
    /// The same as for [`hv_host::Partition::signal_event`].
    pub fn signal_event<'h, H>(
        &'h self,
        host: &'h H,
        vp: usize,
        sint: u8,
        flag: u16,
    ) -> Result<bool, HvStatus>
    where
        H: Host + BusObserver,
        B: Served<'h, R, H>,
    {
        self.hypervisor().signal_event(&self.joined(host), vp, sint, flag)
    }

    /// Lets the devices do what is due, if anything is; assigns the deadline to a VP if none has it. `vp` is running.
    fn tick<'h, H>(&'h self, port: &ServerPort<'h, R, H>, vp: usize)
    where
        H: Host + BusObserver,
        B: Served<'h, R, H>,
    {
        let deadline = self.core_ref().carrier.deadline();
        if deadline == Deadline::NEVER {
            return;
        }
        if deadline.is_due(self.reference_time(port.0.host)) {
            // The next deadline is later than now and so another.
            self.bus().flush(port, vp);
        } else {
            port.0.find_carrier(vp);
        }
    }
}

impl<'a, R, D, const GPADLS: usize, const WORDS: usize> Partition<'a, R, Bus<R, D, GPADLS, WORDS>>
where
    R: RawMutex,
    D: DeviceSet,
{
    /// Returns the devices of its bus, for [`completed`](Self::completed) and [`Vmbus::with`].
    #[must_use]
    pub const fn devices(&self) -> &'a D {
        self.bus().devices()
    }

    /// Reports to a device that the embedder has completed a request ([`HostBackend::start`]). It may be called from
    /// any thread, in any order, and once for each request. The effects are sent to the guest before this returns, and
    /// the deadline of the VP that carries VMBus's is updated.
    ///
    /// # Errors
    /// The same as for [`hv_vmbus::Bus::completed`]: the device has no such request in flight, or is on another bus.
    pub fn completed<'h, H, T, const LINES: usize, const REQUESTS: usize, const SEGMENTS: usize>(
        &'h self,
        host: &'h H,
        slot: &Slot<R, T, LINES, REQUESTS, SEGMENTS>,
        token: Token,
        outcome: <T::Request as Work>::Outcome,
    ) -> Result<(), BusError>
    where
        T: Device,
        H: Host + BusObserver + HostBackend<T::Request>,
        D: Devices<ServerPort<'h, R, H>>,
    {
        let port = &self.port(host);
        let completed = self.bus().server().completed(slot, token, outcome, port);
        self.bus().note(port, 0);
        completed
    }
}
