//! The host half of VMBus in the partition: posted messages and signals go in, messages and events for the guest come
//! out.
//!
//! The server of `hv-vmbus` stands behind one lock, which is taken before a VP's lock and never after.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::MessageType;
use hv_tlfs::vmbus::connection::{
    MESSAGE_CONNECTION_ID, MESSAGE_CONNECTION_ID_4, MESSAGE_PORT_ID, MESSAGE_TYPE,
};
use hv_vmbus::{Posted, Refused, Server};
use spin::Mutex;

use crate::event::Event;
use crate::faults::Injection;
use crate::host::Host;
use crate::partition::Partition;
use crate::vp::Power;
use hv_memory::save::{Reader, RestoreError, Writer};

/// No deadline.
const NEVER: u64 = u64::MAX;
/// Least time, in 100 ns, before a device with more to do goes on: the VP gets to run in between.
const LEAST_INTERVAL: u64 = 200;

/// The server with what can be known of it without its lock.
#[derive(Debug)]
pub(crate) struct Vmbus {
    server: Mutex<Server>,
    /// The server owes the guest messages that did not fit into its queue.
    owes: AtomicBool,
    /// Reference time at which the server wants to be called.
    deadline: AtomicU64,
    /// The VP that was asked for the deadline has stopped: the next that is called takes it over.
    orphaned: AtomicBool,
}

impl Vmbus {
    pub(crate) const fn new(config: hv_vmbus::Config) -> Self {
        Self {
            server: Mutex::new(Server::new(config)),
            owes: AtomicBool::new(false),
            deadline: AtomicU64::new(NEVER),
            orphaned: AtomicBool::new(false),
        }
    }

    pub(crate) fn reset(&self) {
        self.server.lock().reset();
        self.owes.store(false, Ordering::Relaxed);
        self.deadline.store(NEVER, Ordering::Relaxed);
        self.orphaned.store(false, Ordering::Relaxed);
    }
}

/// The partition as the server sees it during one call.
struct Bus<'p, H: Host> {
    partition: &'p Partition<'p>,
    host: &'p H,
}

impl<'p, H: Host> hv_vmbus::Port for Bus<'p, H> {
    type Memory = H::Memory;

    fn memory(&self) -> &Self::Memory {
        self.host.memory()
    }

    fn reference_time(&self) -> u64 {
        self.partition.reference_time(self.host)
    }

    fn has_vp(&self, vp: u32) -> bool {
        (vp as usize) < self.partition.vp_count()
    }

    fn post(&mut self, vp: u32, sint: u8, payload: &[u8]) -> Posted {
        let target = vp as usize;
        // Hyper-V keeps what it has for a masked SINT until that is unmasked (openvmm, pull request 962).
        if self.host.inject(target, Injection::Silent) || self.partition.sint_is_masked(target, sint) {
            return Posted::Full;
        }
        let sender = u64::from(MESSAGE_PORT_ID);
        match self.partition.post_message(self.host, target, sint, MessageType(MESSAGE_TYPE), sender, payload)
        {
            Ok(()) => {
                self.host.observe(&Event::Vmbus { vp: target, from_guest: false, payload });
                Posted::Queued
            }
            Err(HvStatus::INSUFFICIENT_BUFFERS) => Posted::Full,
            // Hyper-V drops what it has for a VP whose SynIC or message page is off (openvmm, issue 2276).
            Err(_) => Posted::Undeliverable,
        }
    }

    fn interrupt(&mut self, vp: u32, sint: u8, flag: u16) {
        // A target that cannot take it loses the signal.
        let _ = self.partition.signal_event(self.host, vp as usize, sint, flag);
    }

    fn observe(&mut self, event: hv_vmbus::Event) {
        self.host.observe(&Event::Bus(event));
    }
}

impl Partition<'_> {
    /// Whether posted messages to this connection are VMBus's.
    pub(crate) const fn vmbus_has_connection(&self, connection: u32) -> bool {
        let config = self.config();
        let known = matches!(connection, MESSAGE_CONNECTION_ID | MESSAGE_CONNECTION_ID_4);
        config.vmbus && (known || connection == config.bus.message_connection)
    }

    /// Works on the host half of VMBus: to offer channels and take them away, or to look at its state. What the server
    /// then owes the guest is sent. Call it on VP `vp`'s CPU: the server's next deadline is set there.
    pub fn with_vmbus<R>(&self, host: &impl Host, vp: usize, work: impl FnOnce(&mut Server) -> R) -> R {
        self.bus(host, vp, |server, bus| {
            let result = work(server);
            server.flush(bus);
            result
        })
    }

    /// Runs `work` with the server locked, then notes what is left to do.
    fn bus<H: Host, R>(
        &self,
        host: &H,
        vp: usize,
        work: impl FnOnce(&mut Server, &mut Bus<'_, H>) -> R,
    ) -> R {
        let vmbus = self.vmbus();
        let mut server = vmbus.server.lock();
        let mut bus = Bus { partition: self, host };
        let result = work(&mut server, &mut bus);
        vmbus.owes.store(server.owes(), Ordering::Release);
        let least = self.reference_time(host).saturating_add(LEAST_INTERVAL);
        let deadline = server.deadline().map_or(NEVER, |deadline| deadline.max(least).min(NEVER - 1));
        if vmbus.deadline.swap(deadline, Ordering::AcqRel) != deadline {
            self.take_over_deadline(host, vp, deadline);
        }
        result
    }

    /// Makes the server's deadline this VP's.
    fn take_over_deadline(&self, host: &impl Host, vp: usize, deadline: u64) {
        if let Some(state) = self.vps().get(vp) {
            self.vmbus().orphaned.store(false, Ordering::Release);
            state.synic().set_bus_deadline(&self.context(host, vp), deadline);
        }
    }

    /// Whether messages for a SINT of a VP wait until it is unmasked. Those for a SynIC or page that is off do not.
    fn sint_is_masked(&self, vp: usize, sint: u8) -> bool {
        self.vps().get(vp).is_some_and(|vp| {
            let synic = vp.synic();
            let on = synic.control.enable() && synic.message_page.enabled();
            on && synic.sints.get(usize::from(sint)).is_some_and(|sint| sint.masked())
        })
    }

    /// A message that the guest posted to one of VMBus's connections.
    pub(crate) fn vmbus_message(
        &self,
        host: &impl Host,
        vp: usize,
        connection: u32,
        payload: &[u8],
    ) -> Result<(), HvStatus> {
        host.observe(&Event::Vmbus { vp, from_guest: true, payload });
        self.bus(host, vp, |server, bus| server.message(connection, payload, bus)).map_err(status)
    }

    /// An event that the guest signalled to a connection that is no port's.
    pub(crate) fn vmbus_signal(&self, host: &impl Host, vp: usize, connection: u32) -> Result<(), HvStatus> {
        if !self.config().vmbus {
            return Err(HvStatus::INVALID_CONNECTION_ID);
        }
        self.bus(host, vp, |server, bus| server.signal(connection, bus)).map_err(status)
    }

    /// A message buffer may have become free: what VMBus still owes the guest is sent.
    #[inline]
    pub(crate) fn vmbus_progress(&self, host: &impl Host, vp: usize) {
        if self.vmbus().owes.load(Ordering::Acquire) {
            self.bus(host, vp, |server, bus| server.flush(bus));
        }
    }

    /// Lets VMBus's devices do what is due.
    pub(crate) fn vmbus_tick(&self, host: &impl Host, vp: usize) {
        let vmbus = self.vmbus();
        let deadline = vmbus.deadline.load(Ordering::Acquire);
        if deadline == NEVER {
            return;
        }
        if deadline <= self.reference_time(host) {
            // The next deadline is later than now and so another: this VP will be asked for it.
            self.bus(host, vp, |server, bus| server.flush(bus));
        } else if vmbus.orphaned.load(Ordering::Acquire) {
            self.take_over_deadline(host, vp, deadline);
        }
    }

    /// VP `from` stops: another one takes over the deadline, or else the first that starts.
    pub(crate) fn vmbus_hand_over(&self, host: &impl Host, from: usize) {
        let vmbus = self.vmbus();
        if vmbus.deadline.load(Ordering::Acquire) == NEVER {
            return;
        }
        vmbus.orphaned.store(true, Ordering::Release);
        let mut others = self.vps().iter().enumerate().filter(|(vp, _)| *vp != from);
        if let Some((vp, _)) = others.find(|(_, state)| state.power() == Power::On) {
            host.wake(vp);
        }
    }

    /// Saves the host half: when it wants to be called, and the server after its length.
    pub(crate) fn save_vmbus(&self, w: &mut Writer<'_>) {
        let server = self.vmbus().server.lock();
        w.u64(self.vmbus().deadline.load(Ordering::Acquire));
        server.save(w);
    }

    /// Restores the host half, the last part of an image. The first VP that is called takes over its deadline. If the part
    /// is refused, only the channels of the configuration are offered.
    pub(crate) fn restore_vmbus(&self, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        let deadline = r.u64()?;
        let vmbus = self.vmbus();
        let mut server = vmbus.server.lock();
        if let Err(error) = self.restore_server(&mut server, r, deadline) {
            *server = Server::new(self.config().bus);
            return Err(error);
        }
        vmbus.owes.store(server.owes(), Ordering::Release);
        vmbus.deadline.store(deadline, Ordering::Release);
        vmbus.orphaned.store(deadline != NEVER, Ordering::Release);
        Ok(())
    }

    fn restore_server(
        &self,
        server: &mut Server,
        r: &mut Reader<'_>,
        deadline: u64,
    ) -> Result<(), RestoreError> {
        server.restore(r)?;
        r.end()?;
        if !self.config().vmbus && (server.version().is_some() || server.owes()) {
            return Err(RestoreError::Invalid("VMBus connection"));
        }
        if server.deadline().is_some() != (deadline != NEVER) {
            return Err(RestoreError::Invalid("VMBus deadline"));
        }
        Ok(())
    }
}

fn status(refused: Refused) -> HvStatus {
    match refused {
        Refused::NoConnection => HvStatus::INVALID_CONNECTION_ID,
        Refused::Busy => HvStatus::INSUFFICIENT_BUFFERS,
    }
}
