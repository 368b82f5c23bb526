//! What the server asks of the partition.

use crate::event::Event;
use hv_memory::GuestMemory;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posted {
    /// It waits in a message slot or in the queue before it.
    Queued,
    /// The queue is full; the server keeps the message until [`Server::flush`](crate::Server::flush) is called.
    Full,
    /// It is not delivered: there is no such VP, or its SynIC or message page is off. The server drops it, as Hyper-V does
    /// (openvmm, issue 2276).
    Undeliverable,
}

/// The partition, as the server sees it. The server calls these methods from within its own, so none of them may call
/// the server back.
pub trait Port {
    /// The guest's memory.
    type Memory: GuestMemory;

    /// The guest's memory.
    fn memory(&self) -> &Self::Memory;

    /// The partition's reference time, in 100 ns.
    fn reference_time(&self) -> u64;

    /// Queues a SynIC message of type [`MESSAGE_TYPE`](crate::protocol::connection::MESSAGE_TYPE) for a VP's SINT.
    /// The payload has 240 bytes at most.
    fn post(&mut self, vp: u32, sint: u8, payload: &[u8]) -> Posted;

    /// Sets event flag `flag` of a VP's SINT, and interrupts the VP if it was clear. A VP or SINT that does not exist
    /// or is masked loses the signal, as TLFS says of `HvCallSignalEvent`.
    fn interrupt(&mut self, vp: u32, sint: u8, flag: u16);

    /// Whether the partition has a VP with this index.
    fn has_vp(&self, vp: u32) -> bool;

    /// Told of what happens on the bus.
    #[inline]
    fn observe(&mut self, event: Event) {
        let _ = event;
    }
}
