//! The interface of a partition to its bus, independent of the bus's devices.

use hv_memory::save::{Reader, RestoreError, Writer};
use hv_tlfs::status::HvStatus;
use hv_vmbus::BusError;

use crate::port::ServerPort;

/// A [`Bus`](crate::Bus), whatever its devices.
pub trait AnyBus {
    #[doc(hidden)]
    fn exists(&self) -> bool;
}

/// A [`Bus`](crate::Bus) whose devices' requests the embedder `H` serves: it implements
/// [`HostBackend`](crate::HostBackend) for all of them.
#[doc(hidden)]
pub trait Served<'h, R, H>: AnyBus {
    fn reset(&self, port: &ServerPort<'h, R, H>);

    /// Handles a message that a VP posted.
    fn message(
        &self,
        port: &ServerPort<'h, R, H>,
        vp: usize,
        connection: u32,
        payload: &[u8],
    ) -> Result<(), HvStatus>;

    /// Handles an event that a VP signalled.
    fn signal(&self, port: &ServerPort<'h, R, H>, vp: usize, connection: u32) -> Result<(), HvStatus>;

    /// Returns true while messages are pending for the guest.
    fn has_pending(&self) -> bool;

    /// Sends what is pending for the guest, and lets the devices do what is due.
    fn flush(&self, port: &ServerPort<'h, R, H>, vp: usize);

    /// Has all devices look at their rings again.
    fn resume(&self, port: &ServerPort<'h, R, H>, vp: usize);

    fn is_idle(&self) -> bool;

    fn save(&self, port: &ServerPort<'h, R, H>, w: &mut Writer<'_>) -> Result<(), BusError>;

    /// Restores the server, and its deadline. If the state is rejected, the bus is reset to its initial state.
    fn restore(&self, port: &ServerPort<'h, R, H>, r: &mut Reader<'_>) -> Result<(), RestoreError>;
}
