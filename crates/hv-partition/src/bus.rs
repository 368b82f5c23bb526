//! The VMBus server of a partition: who calls it, and when.
//!
//! The server stands behind one lock, which is taken before a VP's lock and never after. Its deadline is carried by a VP: one
//! that runs, and for as long as it does.

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use hv_host::{Deadline, Host, Power};
use hv_memory::save::{Reader, RestoreError, Writer};
use hv_tlfs::status::HvStatus;
use hv_vmbus::Refused;
use lock_api::{Mutex, RawMutex};

use crate::event::{BusEvent, BusObserver};
use crate::joined::Joined;
use crate::port::ServerPort;

/// The VMBus server of a partition.
pub type Server = hv_vmbus::Server;

/// Least time, in 100 ns, before a device with more to do goes on: the VP gets to run in between.
const LEAST_INTERVAL: u64 = 200;
/// No VP.
const NONE: usize = usize::MAX;
/// No deadline: [`Deadline::at`] makes never of it.
const NEVER: u64 = u64::MAX;

/// The VMBus of a partition: its server, with what can be known of that without its lock.
///
/// It stands beside the [`Partition`](crate::Partition) because it is large: make it a static.
pub struct Bus<R> {
    config: Option<hv_vmbus::Config>,
    server: Mutex<R, Server>,
    /// The server has messages for the guest that did not fit into its queue.
    pending: AtomicBool,
    /// Reference time of the server's deadline. Written under the server's lock, as `carrier` is.
    deadline: AtomicU64,
    /// The VP whose deadline includes the server's.
    carrier: AtomicUsize,
}

impl<R: RawMutex> fmt::Debug for Bus<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("Bus");
        fields.field("config", &self.config).field("server", &self.server).field("pending", &self.pending);
        fields.field("deadline", &self.deadline()).field("carrier", &self.carrier).finish()
    }
}

impl<R: RawMutex> Bus<R> {
    /// Makes a bus; `None`: there is no VMBus, and its connections do not exist.
    #[must_use]
    pub const fn new(config: Option<hv_vmbus::Config>) -> Self {
        Self {
            config,
            server: Mutex::new(Self::new_server(config)),
            pending: AtomicBool::new(false),
            deadline: AtomicU64::new(NEVER),
            carrier: AtomicUsize::new(NONE),
        }
    }

    const fn new_server(config: Option<hv_vmbus::Config>) -> Server {
        Server::new(match config {
            Some(config) => config,
            None => hv_vmbus::Config::DEFAULT,
        })
    }

    pub(crate) const fn exists(&self) -> bool {
        self.config.is_some()
    }

    pub(crate) fn reset(&self) {
        let mut server = self.server.lock();
        server.reset();
        self.pending.store(false, Ordering::Relaxed);
        self.deadline.store(NEVER, Ordering::Relaxed);
        self.carrier.store(NONE, Ordering::Relaxed);
    }

    /// Returns the deadline that a VP carries for the server.
    pub(crate) fn deadline_of(&self, vp: usize) -> Deadline {
        if self.carrier.load(Ordering::Acquire) == vp { self.deadline() } else { Deadline::NEVER }
    }

    fn deadline(&self) -> Deadline {
        Deadline::at(self.deadline.load(Ordering::Acquire))
    }

    /// Takes a message that a VP posted.
    pub(crate) fn message<H: Host + BusObserver>(
        &self,
        joined: &Joined<'_, R, H>,
        vp: usize,
        connection: u32,
        payload: &[u8],
    ) -> Result<(), HvStatus> {
        if !self.config.is_some_and(|config| config.has_connection(connection)) {
            return Err(HvStatus::INVALID_CONNECTION_ID);
        }
        joined.host.observe_bus(&BusEvent::Message { vp, from_guest: true, payload });
        self.enter(joined, vp, |server, port| server.message(connection, payload, port)).map_err(status)
    }

    /// Takes an event that a VP signalled.
    pub(crate) fn signal<H: Host + BusObserver>(
        &self,
        joined: &Joined<'_, R, H>,
        vp: usize,
        connection: u32,
    ) -> Result<(), HvStatus> {
        if !self.exists() {
            return Err(HvStatus::INVALID_CONNECTION_ID);
        }
        self.enter(joined, vp, |server, port| server.signal(connection, port)).map_err(status)
    }

    /// Sends what waits for the guest, if anything does: a message buffer of a VP may have become free.
    #[inline]
    pub(crate) fn buffer_freed<H: Host + BusObserver>(&self, joined: &Joined<'_, R, H>, vp: usize) {
        if self.pending.load(Ordering::Acquire) {
            self.enter(joined, vp, |server, port| server.flush(port));
        }
    }

    /// Lets the devices do what is due, if anything is; finds the deadline a VP if it has none. `vp` runs.
    pub(crate) fn tick<H: Host + BusObserver>(&self, joined: &Joined<'_, R, H>, vp: usize) {
        let deadline = self.deadline();
        if deadline == Deadline::NEVER {
            return;
        }
        if deadline.is_due(joined.partition.reference_time(joined.host)) {
            // The next deadline is later than now and so another.
            self.enter(joined, vp, |server, port| server.flush(port));
        } else if !is_on(joined, self.carrier.load(Ordering::Acquire)) {
            let _server = self.server.lock();
            self.carry(joined, vp);
        }
    }

    /// Gives the deadline to another VP, or else to the first that starts: `from` has stopped.
    pub(crate) fn hand_over<H: Host + BusObserver>(&self, joined: &Joined<'_, R, H>, from: usize) {
        let _server = self.server.lock();
        if self.carrier.load(Ordering::Acquire) == from {
            self.carry(joined, from);
            joined.partition.hypervisor().renew_deadline(joined, from);
        }
    }

    /// Runs `work` with the server locked, then notes what is left to do.
    pub(crate) fn enter<H: Host + BusObserver, T>(
        &self,
        joined: &Joined<'_, R, H>,
        vp: usize,
        work: impl FnOnce(&mut Server, &mut ServerPort<'_, R, H>) -> T,
    ) -> T {
        let mut server = self.server.lock();
        let result = work(&mut server, &mut ServerPort(joined));
        self.pending.store(server.owes(), Ordering::Release);
        let least = || joined.partition.reference_time(joined.host).saturating_add(LEAST_INTERVAL);
        let deadline = server.deadline().map_or(NEVER, |deadline| deadline.max(least()).min(NEVER - 1));
        if self.deadline.swap(deadline, Ordering::AcqRel) != deadline {
            self.carry(joined, vp);
        }
        result
    }

    /// Makes the deadline that of a VP that runs: the one that has it, or else `vp`, or else any. The caller holds the server's
    /// lock.
    fn carry<H: Host>(&self, joined: &Joined<'_, R, H>, vp: usize) {
        let before = self.carrier.load(Ordering::Acquire);
        let mut candidates = [before, vp].into_iter().chain(0..joined.partition.vp_count());
        let carrier = candidates.find(|&vp| is_on(joined, vp)).unwrap_or(NONE);
        self.carrier.store(carrier, Ordering::Release);
        joined.partition.hypervisor().renew_deadline(joined, carrier);
    }

    /// Saves when the server is to be called, and the server.
    pub(crate) fn save(&self, w: &mut Writer<'_>) {
        let server = self.server.lock();
        w.u64(self.deadline.load(Ordering::Acquire));
        server.save(w);
    }

    /// Restores it. The first VP that is called carries its deadline. If the state is refused, only the channels of the
    /// configuration are offered.
    pub(crate) fn restore(&self, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        let mut server = self.server.lock();
        let deadline = self.restore_server(&mut server, r).inspect_err(|_| {
            *server = Self::new_server(self.config);
        })?;
        self.pending.store(server.owes(), Ordering::Release);
        self.deadline.store(deadline, Ordering::Release);
        self.carrier.store(NONE, Ordering::Release);
        Ok(())
    }

    fn restore_server(&self, server: &mut Server, r: &mut Reader<'_>) -> Result<u64, RestoreError> {
        let deadline = r.u64()?;
        server.restore(r)?;
        r.end()?;
        if !self.exists() && (server.version().is_some() || server.owes()) {
            return Err(RestoreError::Invalid("VMBus connection"));
        }
        if server.deadline().is_some() != (deadline != NEVER) {
            return Err(RestoreError::Invalid("VMBus deadline"));
        }
        Ok(deadline)
    }
}

fn is_on<R: RawMutex, H>(joined: &Joined<'_, R, H>, vp: usize) -> bool {
    joined.partition.power(vp) == Some(Power::On)
}

fn status(refused: Refused) -> HvStatus {
    match refused {
        Refused::NoConnection => HvStatus::INVALID_CONNECTION_ID,
        Refused::Busy => HvStatus::INSUFFICIENT_BUFFERS,
    }
}
