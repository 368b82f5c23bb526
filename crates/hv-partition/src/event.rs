//! What the observer is told of VMBus.

use hv_host::Faulty;

/// Something that happened on VMBus.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum BusEvent<'a> {
    /// A message that the server took or sent.
    Message {
        /// Sender, or the VP to which it goes.
        vp: usize,
        /// From the guest to the host.
        from_guest: bool,
        /// The whole message, header included.
        payload: &'a [u8],
    },
    /// The server changed its state, or found a message of the guest's wrong.
    Server(hv_vmbus::Event),
}

/// Who is told of what happens on VMBus; an embedder implements it beside [`Host`](crate::Host).
pub trait BusObserver {
    /// Told of everything that happens on VMBus, as [`Host::observe`](crate::Host::observe) is of the hypervisor. With this
    /// default nothing remains of it in the compiled code.
    #[inline]
    fn observe_bus(&self, event: &BusEvent<'_>) {
        let _ = event;
    }
}

impl<H: BusObserver, F> BusObserver for Faulty<H, F> {
    #[inline(always)]
    fn observe_bus(&self, event: &BusEvent<'_>) {
        (**self).observe_bus(event);
    }
}
