//! VMBus events for the observer.

use hv_host::Faulty;
use hv_tlfs::time::ReferenceTime;
use hv_vmbus::{Contents, DeviceId, Seen, Traffic};

/// An event on VMBus.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum BusEvent<'a> {
    /// A message that the server received or sent.
    Message {
        /// VP of the sender or receiver.
        vp: usize,
        /// From the guest to the host.
        from_guest: bool,
        /// The message, including the header.
        payload: &'a [u8],
    },
    /// The server changed its state, or rejected a message from the guest.
    Server(hv_vmbus::Event),
    /// A packet in a channel's ring, for an observer that [sees packets](BusObserver::sees_packets).
    Packet(Seen<'a>),
    /// A part of a packet's data, for such an observer as well.
    Contents(Contents<'a>),
}

/// The observer of VMBus; an embedder implements it in addition to [`Host`](crate::Host).
pub trait BusObserver {
    /// Reports an event on VMBus, like [`Host::observe`](crate::Host::observe) for the hypervisor. The default compiles
    /// to nothing.
    #[inline]
    fn observe_bus(&self, event: &BusEvent<'_>) {
        let _ = event;
    }

    /// Returns true if the observer has a use for packets: see [`hv_vmbus::BusPort::sees_packets`].
    #[inline]
    fn sees_packets(&self) -> bool {
        false
    }

    /// Observes how much a device did during one call: see [`hv_vmbus::BusPort::traffic`].
    #[inline]
    fn traffic(&self, device: DeviceId, traffic: &Traffic) {
        let _ = (device, traffic);
    }

    /// Observes how long a request took: see [`hv_vmbus::BusPort::served`].
    #[inline]
    fn served(&self, device: DeviceId, time: ReferenceTime) {
        let _ = (device, time);
    }
}

impl<H: BusObserver, F> BusObserver for Faulty<H, F> {
    #[inline(always)]
    fn observe_bus(&self, event: &BusEvent<'_>) {
        (**self).observe_bus(event);
    }

    #[inline(always)]
    fn sees_packets(&self) -> bool {
        (**self).sees_packets()
    }

    #[inline(always)]
    fn traffic(&self, device: DeviceId, traffic: &Traffic) {
        (**self).traffic(device, traffic);
    }

    #[inline(always)]
    fn served(&self, device: DeviceId, time: ReferenceTime) {
        (**self).served(device, time);
    }
}
