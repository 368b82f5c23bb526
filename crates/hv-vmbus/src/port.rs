//! What the bus asks of the partition, and devices of what stands behind them.

use crate::device::{DeviceId, Token};
use crate::event::Event;
use crate::pages::Pages;
use core::convert::Infallible;
use hv_memory::GuestMemory;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posted {
    /// It waits in a message slot or in the queue before it.
    Queued,
    /// The queue is full; the bus keeps the message until [`Bus::flush`](crate::Bus::flush) is called.
    Full,
    /// It can never be delivered: there is no such VP, or its SynIC is off. The bus drops it.
    Undeliverable,
}

/// The partition, as the bus sees it.
///
/// Every call of the bus is given one. The bus calls these methods with locks held, so none of them may call the bus.
/// What they take of locks comes after the bus's own.
pub trait BusPort {
    /// The guest's memory.
    type Memory: GuestMemory;

    /// The guest's memory.
    fn memory(&self) -> &Self::Memory;

    /// The partition's reference time, in 100 ns.
    fn reference_time(&self) -> u64;

    /// Queues a SynIC message of type [`MESSAGE_TYPE`](crate::protocol::connection::MESSAGE_TYPE) for a VP's SINT.
    /// The payload has 240 bytes at most.
    fn post(&self, vp: u32, sint: u8, payload: &[u8]) -> Posted;

    /// Sets event flag `flag` of a VP's SINT, and interrupts the VP if it was clear. A VP or SINT that does not exist
    /// or is masked loses the signal, as TLFS says of `HvCallSignalEvent`.
    fn interrupt(&self, vp: u32, sint: u8, flag: u16);

    /// Returns true if the partition has a VP with this index.
    fn has_vp(&self, vp: u32) -> bool;

    /// Is told of what happens on the bus.
    #[inline]
    fn observe(&self, event: Event) {
        let _ = event;
    }
}

/// What a device asks its back end for.
pub trait Work {
    /// What the back end answers with.
    type Outcome;

    /// Bytes that the back end goes through beside the data that go with the request. They count against what is done at one
    /// call, as those data do: a request of much work with little data holds nothing up.
    fn cost(&self) -> usize {
        0
    }
}

/// The request of a device that never asks.
pub type Never = Infallible;

impl Work for Never {
    type Outcome = Never;
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started<O> {
    /// The back end works on it, and [`Bus::completed`](crate::Bus::completed) will be called with the token.
    Pending,
    /// It is done.
    Done(O),
    /// The back end has no room. The request waits, and no further packet is taken, until another request of the
    /// device is completed or [`Bus::resume`](crate::Bus::resume) is called.
    Full,
}

/// What stands behind a device: it is told what to do, and not why.
///
/// A port implements it for each kind of request that the devices on its bus make. For devices that make none that is
/// [`Never`], and the body a `match` of the request, which has no value.
pub trait Backend<W: Work>: BusPort {
    /// Starts a request of a device.
    ///
    /// `data` is guest memory that was judged; its addresses stay the guest's until the request is completed, and the bus
    /// tells no guest before that its pages are its own again. It is called with the device's lock held, so it must not
    /// call the bus; another thread or an interrupt may call [`Bus::completed`](crate::Bus::completed) even before this
    /// returns.
    fn start(&self, device: DeviceId, token: Token, request: &W, data: Pages<'_>) -> Started<W::Outcome>;
}
