//! The partition as presented to the VMBus server: the server's output goes to the hypervisor as messages and events.

use core::fmt;

use hv_devices::storage;
use hv_host::faults::{self, Failing, Faults, Injection};
use hv_host::{Faulty, Host, RawMutex};
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::MessageType;
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::vmbus::connection::{MESSAGE_PORT_ID, MESSAGE_TYPE};
use hv_tlfs::vmbus::{Guid, socket};
use hv_vmbus::{
    Backend, BusFaults, DeviceId, Moment, Pages, Posted, REQUEST_LIMIT, Start, Started, Token, Work,
};

use crate::event::{BusEvent, BusObserver};
use crate::joined::{Core, Joined};

/// The back ends of a partition's devices: an embedder implements it in addition to [`Host`] for every type of request
/// made by its devices. For devices that make none that is [`Never`](crate::Never), and the body is a `match` of the
/// request, which has no values.
pub trait HostBackend<W: Work> {
    /// Starts a request of a device: see [`Backend::start`]. When it is done, call
    /// [`Partition::completed`](crate::Partition::completed) from any thread, but not from within this call.
    fn start(&self, device: DeviceId, token: Token, request: &W, data: Pages<'_>) -> Started<W::Outcome>;

    /// Maximum number of bytes of a request: see [`Backend::REQUEST_LIMIT`].
    const REQUEST_LIMIT: u64 = REQUEST_LIMIT;

    /// Requests of this kind can fail by injection. Others do not count for a plan of failures.
    const FAILS: bool = false;

    /// Returns the outcome of a request that fails by injection, or `None` if it has no such failure. The request is
    /// not carried out. Called only for kinds of requests that [fail](Self::FAILS).
    fn fail(&self, request: &W, failing: Failing) -> Option<W::Outcome> {
        let _ = (request, failing);
        None
    }
}

/// A host with faults has the back ends of the host it decorates, except for the requests that fail by injection.
impl<W: Work, H: HostBackend<W>, F: Faults> HostBackend<W> for Faulty<H, F> {
    const REQUEST_LIMIT: u64 = H::REQUEST_LIMIT;
    const FAILS: bool = H::FAILS;

    fn start(&self, device: DeviceId, token: Token, request: &W, data: Pages<'_>) -> Started<W::Outcome> {
        let failing = if H::FAILS { self.plan().fails(request.begins(), request.extent()) } else { None };
        match failing.and_then(|failing| (**self).fail(request, failing)) {
            Some(outcome) => Started::Done(outcome),
            None => (**self).start(device, token, request, data),
        }
    }
}

/// Returns the failure of a disk that a fault plan wants, for [`HostBackend::fail`].
#[must_use]
pub const fn disk_failure(failing: Failing) -> storage::Failure {
    match failing {
        Failing::Medium => storage::Failure::Medium,
        Failing::Scsi { srb, scsi, sense } => storage::Failure::Exactly { srb, scsi, sense },
    }
}

/// Returns the number of a kind of devices in a fault plan: the first word of its interface's GUID, or that of all
/// sockets.
fn number_of(interface: &Guid) -> u32 {
    if socket::port(*interface).is_some() {
        return faults::SOCKETS;
    }
    let [a, b, c, d, ..] = interface.bytes;
    u32::from_le_bytes([a, b, c, d])
}

/// The partition during one call of the server.
#[doc(hidden)]
pub struct ServerPort<'h, R, H>(pub(crate) Joined<'h, Core<'h, R>, H>);

impl<R, H> fmt::Debug for ServerPort<'_, R, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerPort").finish_non_exhaustive()
    }
}

impl<W, R, H> Backend<W> for ServerPort<'_, R, H>
where
    W: Work,
    R: RawMutex,
    H: Host + BusObserver + HostBackend<W>,
{
    const REQUEST_LIMIT: u64 = H::REQUEST_LIMIT;

    fn start(&self, device: DeviceId, token: Token, request: &W, data: Pages<'_>) -> Started<W::Outcome> {
        self.0.host.start(device, token, request, data)
    }
}

impl<R: RawMutex, H: Host + BusObserver> hv_vmbus::BusPort for ServerPort<'_, R, H> {
    type Memory = H::Memory;

    fn memory(&self) -> &Self::Memory {
        self.0.host.memory()
    }

    fn reference_time(&self) -> ReferenceTime {
        self.0.hypervisor().reference_time(self.0.host)
    }

    fn has_vp(&self, vp: u32) -> bool {
        (vp as usize) < self.0.hypervisor().vp_count()
    }

    fn post(&self, vp: u32, sint: u8, payload: &[u8]) -> Posted {
        let (hypervisor, host, target) = (self.0.hypervisor(), self.0.host, vp as usize);
        // Hyper-V keeps messages for a masked SINT until it is unmasked (openvmm, pull request 962).
        if host.faults().injects(Injection::Silent) || hypervisor.is_masked(target, sint) {
            return Posted::Full;
        }
        let (kind, sender) = (MessageType(MESSAGE_TYPE), u64::from(MESSAGE_PORT_ID));
        match hypervisor.post_message(&self.0, target, sint, kind, sender, payload) {
            Ok(()) => {
                host.observe_bus(&BusEvent::Message { vp: target, from_guest: false, payload });
                Posted::Queued
            }
            Err(HvStatus::INSUFFICIENT_BUFFERS) => Posted::Full,
            // Hyper-V drops messages for a VP whose SynIC or message page is off (openvmm, issue 2276).
            Err(_) => Posted::Undeliverable,
        }
    }

    fn interrupt(&self, vp: u32, sint: u8, flag: u16) {
        // A target that cannot take it loses the signal.
        let _ = self.0.hypervisor().signal_event(&self.0, vp as usize, sint, flag);
    }

    fn traffic(&self, device: DeviceId, traffic: &hv_vmbus::Traffic) {
        self.0.host.traffic(device, traffic);
    }

    fn served(&self, device: DeviceId, time: ReferenceTime) {
        self.0.host.served(device, time);
    }

    fn observe(&self, event: hv_vmbus::Event) {
        self.0.host.observe_bus(&BusEvent::Server(event));
    }

    #[inline]
    fn faults(&self) -> impl BusFaults {
        Planned(self.0.host.faults())
    }

    #[inline]
    fn sees_packets(&self) -> bool {
        self.0.host.sees_packets()
    }

    fn packet(&self, packet: &hv_vmbus::Seen<'_>) {
        self.0.host.observe_bus(&BusEvent::Packet(*packet));
    }

    fn contents(&self, contents: &hv_vmbus::Contents<'_>) {
        self.0.host.observe_bus(&BusEvent::Contents(*contents));
    }
}

/// The faults of a host, as injected into the server.
struct Planned<F>(F);

impl<F: Faults> BusFaults for Planned<F> {
    #[inline]
    fn is_planned(&self) -> bool {
        !self.0.is_empty()
    }

    #[inline]
    fn starts(&self, _: DeviceId) -> Start {
        match self.0.starts() {
            faults::StartFault::Now => Start::Now,
            faults::StartFault::Late(time) => Start::Late(time),
            faults::StartFault::After => Start::After,
            faults::StartFault::Never => Start::Never,
        }
    }

    #[inline]
    fn is_mute(&self) -> bool {
        self.0.mutes()
    }

    #[inline]
    fn rescinds(&self, interface: &Guid, moment: Moment) -> bool {
        let moment = match moment {
            Moment::Open => faults::RescindPoint::Open,
            Moment::Packet => faults::RescindPoint::Packet,
        };
        self.0.rescinds(number_of(interface), moment)
    }

    #[inline]
    fn refuses(&self, interface: &Guid, version: u32) -> bool {
        self.0.refuses(number_of(interface), version)
    }
}
