//! What the ports need of an embedder.

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};

use hv_devices::balloon::Discard;
use hv_devices::{network, storage};
use hv_partition::{BusObserver, Host, HostBackend, Never, Partition, RawMutex};
use hv_tlfs::vmbus::ChannelOffer;
use hv_vmbus::DeviceId;

use hv_wire::control::Service;
use hv_wire::{BootInfo, MAX_DISKS};
use lock_api::Mutex;

use crate::devices::Bus;
use crate::disks::Table;
use crate::memory::Discarding;

/// An embedder that serves the requests of all [`Devices`](crate::Devices).
pub trait Serves:
    Host
    + BusObserver
    + HostBackend<Never>
    + HostBackend<storage::Request>
    + HostBackend<Discard>
    + HostBackend<network::Request>
{
}

impl<H> Serves for H where
    H: Host
        + BusObserver
        + HostBackend<Never>
        + HostBackend<storage::Request>
        + HostBackend<Discard>
        + HostBackend<network::Request>
{
}

/// What the embedder does on its own.
pub trait Outside {
    /// Notes what is offered at a place of the bus.
    fn offered(&self, device: DeviceId, offer: &ChannelOffer);

    /// Tells the user of something that went wrong.
    fn log(&self, text: fmt::Arguments<'_>);

    /// Waits until every transfer has ended that runs by what the table of disks was before: then a disk's memory may
    /// be another one's. Called with no lock but that of the port held. Nothing is to do where transfers run under the
    /// lock of their controller.
    fn transfers_ended(&self) {}
}

/// The machine, as the ports see it.
pub struct Machine<'h, R: RawMutex + 'static, H, const REQUESTS: usize> {
    /// The partition.
    pub partition: &'h Partition<'static, R, Bus<R, REQUESTS>>,
    /// Its embedder.
    pub host: &'h H,
    /// What the tool asked for.
    pub info: &'h BootInfo,
    /// The guest's disks, by number.
    pub disks: &'h Table,
    /// What the ports keep.
    pub state: &'h State<R>,
    /// The rest of the embedder.
    pub outside: &'h (dyn Outside + Sync),
}

impl<R: RawMutex, H, const REQUESTS: usize> fmt::Debug for Machine<'_, R, H, REQUESTS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").finish_non_exhaustive()
    }
}

impl<R: RawMutex, H, const REQUESTS: usize> Machine<'_, R, H, REQUESTS> {
    /// Returns true if the tool asked for a service, and has not taken it away since.
    pub(crate) fn has(&self, service: Service) -> bool {
        self.info.services & !self.state.taken_away.load(Ordering::Relaxed) & service.bit() != 0
    }
}

/// What the ports keep of a machine, beside what their devices do.
#[derive(Debug)]
pub struct State<R: RawMutex> {
    /// Services that were taken away from the guest, by their bits. None comes back.
    pub(crate) taken_away: AtomicU32,
    /// Number of the disk that was added last. Those of the start have smaller ones.
    pub(crate) last_disk: AtomicU16,
    /// The request to discard memory that is under way. Its lock comes after the device's, and is never held for more.
    pub(crate) discarding: Mutex<R, Discarding>,
    /// A service has had an outcome since the control port has looked.
    has_outcome: AtomicBool,
}

impl<R: RawMutex> State<R> {
    /// Creates that of a machine that has not started.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            taken_away: AtomicU32::new(0),
            last_disk: AtomicU16::new(MAX_DISKS as u16 - 1),
            discarding: Mutex::new(Discarding::NONE),
            has_outcome: AtomicBool::new(false),
        }
    }

    /// Notes that a service has an outcome for the control port, [`Told::Outcome`](crate::Told::Outcome). Locks may be
    /// held.
    pub fn note_outcome(&self) {
        self.has_outcome.store(true, Ordering::Release);
    }

    /// Returns whether a service has had an outcome since the last call.
    pub(crate) fn take_outcome(&self) -> bool {
        self.has_outcome.swap(false, Ordering::AcqRel)
    }
}

impl<R: RawMutex> Default for State<R> {
    fn default() -> Self {
        Self::new()
    }
}
