//! The VMBus of a partition: its server with its devices, and its callers.
//!
//! The server has its own locks, which are taken before a VP's lock and never after.

use core::fmt;

use hv_devices::any::{Any, Offer};
use hv_host::{Host, RawMutex};
use hv_memory::save::{Reader, RestoreError, Writer};
use hv_tlfs::status::HvStatus;
use hv_tlfs::vmbus::{ChannelId, ChannelOffer, Version};
use hv_vmbus::{BusError, Device, DeviceId, DeviceSet, Devices, Io, Never, Refused, Slot};

use crate::event::{BusEvent, BusObserver};
use crate::port::{HostBackend, ServerPort};
use crate::served::{AnyBus, Served};

/// Slots for small devices, selected at run time.
pub type SmallDevices<R, const PLACES: usize = 8> = [Slot<R, Any>; PLACES];

/// The VMBus of a partition, with the devices `D`.
///
/// It is separate from the [`Partition`](crate::Partition) because it is large: make it a static. `R`, `GPADLS` and
/// `WORDS` are those of [`hv_vmbus::Bus`]. Compose a set of devices with [`hv_vmbus::devices!`]; the default has 8
/// slots for small ones.
pub struct Bus<R, D = SmallDevices<R>, const GPADLS: usize = 16, const WORDS: usize = 1024> {
    /// Set if there is no VMBus. Its presence is all zeros, like the rest of a new bus: see `Optional` in `hv-vmbus`.
    absent: bool,
    server: hv_vmbus::Bus<R, D, GPADLS, WORDS>,
}

impl<R, D, const GPADLS: usize, const WORDS: usize> fmt::Debug for Bus<R, D, GPADLS, WORDS>
where
    hv_vmbus::Bus<R, D, GPADLS, WORDS>: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus").field("absent", &self.absent).field("server", &self.server).finish()
    }
}

impl<R: RawMutex, const PLACES: usize, const GPADLS: usize, const WORDS: usize>
    Bus<R, SmallDevices<R, PLACES>, GPADLS, WORDS>
{
    /// Creates a bus without devices; `None`: there is no VMBus, and its connections do not exist.
    #[must_use]
    pub const fn new(config: Option<hv_vmbus::Config>) -> Self {
        Self::with_offers(config, &[])
    }

    /// Creates a bus that offers these devices from the start.
    ///
    /// # Panics
    /// If there are more of them than slots.
    #[must_use]
    pub const fn with_offers(config: Option<hv_vmbus::Config>, offers: &[Offer]) -> Self {
        assert!(offers.len() <= PLACES, "more offers than places for devices");
        let mut places = [const { Slot::new(Any::SILENT) }; PLACES];
        let mut at = 0;
        while at < offers.len() {
            // Forgotten, since a lock may have a destructor, which cannot run in a constant.
            core::mem::forget(core::mem::replace(
                &mut places[at],
                Slot::offering(offers[at].device, offers[at].channel),
            ));
            at += 1;
        }
        Self::with_devices(config, places)
    }
}

impl<R: RawMutex, D: DeviceSet, const GPADLS: usize, const WORDS: usize> Bus<R, D, GPADLS, WORDS> {
    /// Creates a bus with these devices; `None`: there is no VMBus, and its connections do not exist.
    ///
    /// # Panics
    /// The same as for [`hv_vmbus::Bus::new`].
    #[must_use]
    pub const fn with_devices(config: Option<hv_vmbus::Config>, devices: D) -> Self {
        let known = match config {
            Some(config) => config,
            None => hv_vmbus::Config::DEFAULT,
        };
        Self { absent: config.is_none(), server: hv_vmbus::Bus::new(known, devices) }
    }

    /// Returns the devices.
    #[must_use]
    pub const fn devices(&self) -> &D {
        self.server.devices()
    }

    pub(crate) const fn server(&self) -> &hv_vmbus::Bus<R, D, GPADLS, WORDS> {
        &self.server
    }

    /// Records when the server must be called next, after a call of `vp`'s.
    pub(crate) fn note<H: Host>(&self, port: &ServerPort<'_, R, H>, vp: usize) {
        port.0.note_deadline(vp, false, || self.server.deadline());
    }
}

impl<R, D, const GPADLS: usize, const WORDS: usize> AnyBus for Bus<R, D, GPADLS, WORDS> {
    fn exists(&self) -> bool {
        !self.absent
    }
}

impl<'h, R, H, D, const GPADLS: usize, const WORDS: usize> Served<'h, R, H> for Bus<R, D, GPADLS, WORDS>
where
    R: RawMutex + 'h,
    H: Host + BusObserver + 'h,
    D: Devices<ServerPort<'h, R, H>>,
{
    fn reset(&self, port: &ServerPort<'h, R, H>) {
        self.server.reset(port);
        port.0.partition.carrier.reset();
    }

    fn message(
        &self,
        port: &ServerPort<'h, R, H>,
        vp: usize,
        connection: u32,
        payload: &[u8],
    ) -> Result<(), HvStatus> {
        if self.absent || !self.server.config().has_connection(connection) {
            return Err(HvStatus::INVALID_CONNECTION_ID);
        }
        port.0.host.observe_bus(&BusEvent::Message { vp, from_guest: true, payload });
        let taken = self.server.message(connection, payload, port);
        self.note(port, vp);
        taken.map_err(status)
    }

    fn signal(&self, port: &ServerPort<'h, R, H>, vp: usize, connection: u32) -> Result<(), HvStatus> {
        if self.absent {
            return Err(HvStatus::INVALID_CONNECTION_ID);
        }
        // A signal of an unknown connection changes nothing, and takes no lock.
        self.server.signal(connection, port).map_err(status)?;
        // Whoever learns that the deadline has moved notes it, this VP or another one.
        if self.server.has_moved() {
            self.note(port, vp);
        }
        Ok(())
    }

    #[inline]
    fn has_pending(&self) -> bool {
        self.server.has_pending()
    }

    // Whoever uses the bus ends with it.
    #[inline(never)]
    fn flush(&self, port: &ServerPort<'h, R, H>, vp: usize) {
        self.server.flush(port);
        // Otherwise there was no deadline, and there is none now.
        if self.server.has_moved() || port.0.awaits_deadline() {
            port.0.note_deadline(vp, true, || self.server.deadline());
        }
    }

    fn resume(&self, port: &ServerPort<'h, R, H>, vp: usize) {
        self.server.resume_all(port);
        self.note(port, vp);
    }

    fn is_idle(&self) -> bool {
        self.server.is_idle()
    }

    fn save(&self, port: &ServerPort<'h, R, H>, w: &mut Writer<'_>) -> Result<(), BusError> {
        self.server.save(port, w)
    }

    fn restore(&self, port: &ServerPort<'h, R, H>, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        let restored = self.server.restore(port, r).and_then(|()| {
            if self.absent && (self.server.version().is_some() || self.server.has_pending()) {
                return Err(RestoreError::Invalid("VMBus connection"));
            }
            r.end()
        });
        if restored.is_err() {
            // A state that no bus can have: this one is reset to its initial state.
            let _ = self.server.restore(port, &mut Reader::new(&[]));
        }
        port.0.restore_deadline(self.server.deadline());
        restored
    }
}

/// The host half of VMBus: offers and rescinds channels, gives access to its devices and to its state.
pub struct Vmbus<'h, R, H, B> {
    pub(crate) bus: &'h B,
    pub(crate) port: ServerPort<'h, R, H>,
}

impl<R, H, B> fmt::Debug for Vmbus<'_, R, H, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vmbus").finish_non_exhaustive()
    }
}

impl<'h, R, H, D, const GPADLS: usize, const WORDS: usize> Vmbus<'h, R, H, Bus<R, D, GPADLS, WORDS>>
where
    R: RawMutex,
    H: Host + BusObserver,
    D: Devices<ServerPort<'h, R, H>>,
{
    /// Offers a device's first channel. Returns its number.
    ///
    /// # Errors
    /// The same as for [`hv_vmbus::Bus::offer`].
    pub fn offer_device(&self, device: DeviceId, offer: &ChannelOffer) -> Result<ChannelId, BusError> {
        self.bus.server.offer(device, offer, &self.port)
    }

    /// Rescinds a channel. Returns false if it is not offered.
    pub fn rescind(&self, channel: ChannelId) -> bool {
        self.bus.server.rescind(channel, &self.port)
    }

    /// Calls a function with a device: see [`hv_vmbus::Bus::with`].
    ///
    /// # Errors
    /// The same as for [`hv_vmbus::Bus::with`].
    pub fn with<T, U, const LINES: usize, const REQUESTS: usize, const SEGMENTS: usize>(
        &self,
        slot: &Slot<R, T, LINES, REQUESTS, SEGMENTS>,
        work: impl FnOnce(&mut T, &mut Io<'_, ServerPort<'h, R, H>, T::Request>) -> U,
    ) -> Result<U, BusError>
    where
        T: Device,
        H: HostBackend<T::Request>,
    {
        self.bus.server.with(slot, &self.port, work)
    }

    /// Returns a device's index on the bus, and its first channel's number.
    ///
    /// # Errors
    /// The same as for [`hv_vmbus::Bus::place`].
    pub fn place<T, const LINES: usize, const REQUESTS: usize, const SEGMENTS: usize>(
        &self,
        slot: &Slot<R, T, LINES, REQUESTS, SEGMENTS>,
    ) -> Result<(DeviceId, ChannelId), BusError>
    where
        T: Device,
        H: HostBackend<T::Request>,
    {
        self.bus.server.place(slot, &self.port)
    }

    /// Starts the requests pending for the back end of a device, which has room again.
    pub fn resume(&self, device: DeviceId) {
        self.bus.server.resume(device, &self.port);
    }

    /// Stops taking packets, for all devices, before the partition is saved. Requests in flight are still completed.
    pub fn pause(&self) {
        self.bus.server.pause();
    }

    /// Resumes taking packets.
    pub fn unpause(&self) {
        self.bus.server.unpause(&self.port);
    }

    /// Returns true if no request is in flight, so that the partition can be saved.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.bus.server.is_idle()
    }

    /// Returns the negotiated version, while there is a connection.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.bus.server.version()
    }

    /// Resets the server to its initial state, with its current offers.
    pub fn reset(&self) {
        self.bus.server.reset(&self.port);
    }
}

impl<'h, R, H, const PLACES: usize, const GPADLS: usize, const WORDS: usize>
    Vmbus<'h, R, H, Bus<R, SmallDevices<R, PLACES>, GPADLS, WORDS>>
where
    R: RawMutex,
    H: Host + BusObserver + HostBackend<Never>,
{
    /// Offers a small device in the first free slot. Returns its channel's number, or `None` if all slots are in use,
    /// or a device with the same interface and instance is already offered.
    pub fn offer(&self, offer: Offer) -> Option<ChannelId> {
        let free = |slot: &Slot<R, Any>| {
            let put = self.with(slot, |device, io| {
                let vacant = io.vacant().is_some();
                if vacant {
                    device.replace(offer.device);
                }
                vacant
            });
            put == Ok(true)
        };
        let at = self.bus.devices().iter().position(free)?;
        self.offer_device(DeviceId(u16::try_from(at).ok()?), &offer.channel).ok()
    }
}

fn status(refused: Refused) -> HvStatus {
    match refused {
        Refused::NoConnection => HvStatus::INVALID_CONNECTION_ID,
        Refused::Busy => HvStatus::INSUFFICIENT_BUFFERS,
    }
}
