//! The VMBus server of a partition: who calls it, and when.
//!
//! The server has its own locks, which are taken before a VP's lock and never after. Its deadline is carried by a VP: one
//! that runs, and for as long as it does.

use core::fmt;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use hv_devices::any::{Any, Offer};
use hv_host::{Deadline, Host, Power};
use hv_memory::save::{Reader, RestoreError, Writer};
use hv_tlfs::status::HvStatus;
use hv_tlfs::vmbus::{ChannelId, Version};
use hv_vmbus::{DeviceId, Refused, Slot};
use lock_api::{Mutex, RawMutex};

use crate::event::{BusEvent, BusObserver};
use crate::joined::Joined;
use crate::port::ServerPort;

/// Places for devices.
const DEVICES: usize = 8;

/// The VMBus server of a partition.
pub(crate) type Server<R> = hv_vmbus::Bus<R, [Slot<R, Any>; DEVICES]>;

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
    server: Server<R>,
    offers: &'static [Offer],
    /// Reference time of the server's deadline.
    deadline: AtomicU64,
    /// The VP whose deadline includes the server's.
    carrier: AtomicUsize,
    /// Held while the carrier is chosen.
    carrying: Mutex<R, ()>,
}

impl<R: RawMutex> fmt::Debug for Bus<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("Bus");
        fields.field("config", &self.config).field("server", &"hv_vmbus::Bus");
        fields.field("deadline", &self.deadline()).field("carrier", &self.carrier).finish()
    }
}

impl<R: RawMutex> Bus<R> {
    /// Makes a bus without devices; `None`: there is no VMBus, and its connections do not exist.
    #[must_use]
    pub const fn new(config: Option<hv_vmbus::Config>) -> Self {
        Self::with_offers(config, &[])
    }

    /// Makes a bus that offers these devices from the start.
    ///
    /// # Panics
    /// If there are more of them than the bus has places, which is 8.
    #[must_use]
    pub const fn with_offers(config: Option<hv_vmbus::Config>, offers: &'static [Offer]) -> Self {
        assert!(offers.len() <= DEVICES, "more offers than places for devices");
        let known = match config {
            Some(config) => config,
            None => hv_vmbus::Config::DEFAULT,
        };
        let devices = Self::places(offers);
        Self {
            config,
            server: hv_vmbus::Bus::new(known, devices),
            offers,
            deadline: AtomicU64::new(NEVER),
            carrier: AtomicUsize::new(NONE),
            carrying: Mutex::new(()),
        }
    }

    const fn places(offers: &'static [Offer]) -> [Slot<R, Any>; DEVICES] {
        [
            place(offers, 0),
            place(offers, 1),
            place(offers, 2),
            place(offers, 3),
            place(offers, 4),
            place(offers, 5),
            place(offers, 6),
            place(offers, 7),
        ]
    }

    pub(crate) const fn exists(&self) -> bool {
        self.config.is_some()
    }

    pub(crate) fn reset<H: Host + BusObserver>(&self, joined: &Joined<'_, R, H>) {
        self.server.reset(&ServerPort(joined));
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
        // A signal of a connection that does not exist changes nothing, and takes no lock.
        self.server.signal(connection, &ServerPort(joined)).map_err(status)?;
        self.note_deadline(joined, vp);
        Ok(())
    }

    /// Sends what waits for the guest, if anything does: a message buffer of a VP may have become free.
    #[inline]
    pub(crate) fn buffer_freed<H: Host + BusObserver>(&self, joined: &Joined<'_, R, H>, vp: usize) {
        if self.server.owes() {
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
            let _carrying = self.carrying.lock();
            self.carry(joined, vp);
        }
    }

    /// Gives the deadline to another VP, or else to the first that starts: `from` has stopped.
    pub(crate) fn hand_over<H: Host + BusObserver>(&self, joined: &Joined<'_, R, H>, from: usize) {
        let _carrying = self.carrying.lock();
        if self.carrier.load(Ordering::Acquire) == from {
            self.carry(joined, from);
            joined.partition.hypervisor().renew_deadline(joined, from);
        }
    }

    /// Calls the server, then notes when it wants to be called.
    pub(crate) fn enter<H: Host + BusObserver, T>(
        &self,
        joined: &Joined<'_, R, H>,
        vp: usize,
        work: impl FnOnce(&Server<R>, &ServerPort<'_, R, H>) -> T,
    ) -> T {
        let result = work(&self.server, &ServerPort(joined));
        self.note_deadline(joined, vp);
        result
    }

    fn note_deadline<H: Host>(&self, joined: &Joined<'_, R, H>, vp: usize) {
        loop {
            let wanted = self.server.deadline();
            let least = || joined.partition.reference_time(joined.host).saturating_add(LEAST_INTERVAL);
            let deadline = wanted.map_or(NEVER, |deadline| deadline.max(least()).min(NEVER - 1));
            if self.deadline.swap(deadline, Ordering::AcqRel) != deadline {
                let _carrying = self.carrying.lock();
                self.carry(joined, vp);
            }
            // Another VP may have noted an earlier one in between.
            if self.server.deadline() == wanted {
                return;
            }
        }
    }

    /// Makes the deadline that of a VP that runs: the one that has it, or else `vp`, or else any. The caller holds
    /// `carrying`.
    fn carry<H: Host>(&self, joined: &Joined<'_, R, H>, vp: usize) {
        let before = self.carrier.load(Ordering::Acquire);
        let mut candidates = [before, vp].into_iter().chain(0..joined.partition.vp_count());
        let carrier = candidates.find(|&vp| is_on(joined, vp)).unwrap_or(NONE);
        self.carrier.store(carrier, Ordering::Release);
        joined.partition.hypervisor().renew_deadline(joined, carrier);
    }

    /// Saves when the server is to be called, and the server.
    pub(crate) fn save<H: Host + BusObserver>(&self, joined: &Joined<'_, R, H>, w: &mut Writer<'_>) {
        w.u64(self.deadline.load(Ordering::Acquire));
        // These devices ask no back end, so that nothing is ever in flight.
        let saved = self.server.save(&ServerPort(joined), w);
        debug_assert_eq!(saved, Ok(()));
    }

    /// Restores it. The first VP that is called carries its deadline. If the state is refused, only the channels of the
    /// configuration are offered.
    pub(crate) fn restore<H: Host + BusObserver>(
        &self,
        joined: &Joined<'_, R, H>,
        r: &mut Reader<'_>,
    ) -> Result<(), RestoreError> {
        let deadline = self.restore_server(joined, r).inspect_err(|_| self.refuse(joined))?;
        self.deadline.store(deadline, Ordering::Release);
        self.carrier.store(NONE, Ordering::Release);
        Ok(())
    }

    /// Puts the devices of the configuration back into their places: what was restored may have been others.
    fn refuse<H: Host + BusObserver>(&self, joined: &Joined<'_, R, H>) {
        let port = &ServerPort(joined);
        let _ = self.server.restore(port, &mut Reader::new(&[]));
        let devices = self.offers.iter().map(|offer| offer.device).chain(core::iter::repeat(Any::SILENT));
        for (slot, device) in self.server.devices().iter().zip(devices) {
            let _ = self.server.with(slot, port, |place, _| *place = device);
        }
    }

    fn restore_server<H: Host + BusObserver>(
        &self,
        joined: &Joined<'_, R, H>,
        r: &mut Reader<'_>,
    ) -> Result<u64, RestoreError> {
        let (server, deadline) = (&self.server, r.u64()?);
        server.restore(&ServerPort(joined), r)?;
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

/// The place with this number: with a device that is offered, or free.
const fn place<R: RawMutex>(offers: &'static [Offer], at: usize) -> Slot<R, Any> {
    if at < offers.len() {
        Slot::offering(offers[at].device, offers[at].channel)
    } else {
        Slot::new(Any::SILENT)
    }
}

/// The host half of VMBus: to offer channels and take them away, or to look at its state.
pub struct Vmbus<'c, R: RawMutex, H> {
    pub(crate) server: &'c Server<R>,
    pub(crate) port: &'c ServerPort<'c, R, H>,
}

impl<R: RawMutex, H> fmt::Debug for Vmbus<'_, R, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vmbus").finish_non_exhaustive()
    }
}

impl<R: RawMutex, H: Host + BusObserver> Vmbus<'_, R, H> {
    /// Offers a device. Returns its channel's number, or `None` if all places are taken, or a device with the same interface
    /// and instance is offered already.
    pub fn offer(&self, offer: Offer) -> Option<ChannelId> {
        let free = |slot: &Slot<R, Any>| {
            let put = self.server.with(slot, self.port, |device, io| {
                let vacant = io.vacant().is_some();
                if vacant {
                    *device = offer.device;
                }
                vacant
            });
            put == Ok(true)
        };
        let at = self.server.devices().iter().position(free)?;
        self.server.offer(DeviceId(u16::try_from(at).ok()?), &offer.channel, self.port).ok()
    }

    /// Takes a channel away. Returns false if it is not offered.
    pub fn rescind(&self, channel: ChannelId) -> bool {
        self.server.rescind(channel, self.port)
    }

    /// Returns the version agreed on, while a connection stands.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.server.version()
    }

    /// Brings the server into its first state, with the offers that it has now.
    pub fn reset(&self) {
        self.server.reset(self.port);
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
