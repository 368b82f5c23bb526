//! What a partition asks of its bus, whatever the devices of that are.

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

    /// Takes a message that a VP posted.
    fn message(
        &self,
        port: &ServerPort<'h, R, H>,
        vp: usize,
        connection: u32,
        payload: &[u8],
    ) -> Result<(), HvStatus>;

    /// Takes an event that a VP signalled.
    fn signal(&self, port: &ServerPort<'h, R, H>, vp: usize, connection: u32) -> Result<(), HvStatus>;

    /// Returns true while messages wait for the guest.
    fn owes(&self) -> bool;

    /// Sends what waits for the guest, and lets the devices do what is due.
    fn flush(&self, port: &ServerPort<'h, R, H>, vp: usize);

    fn is_idle(&self) -> bool;

    fn save(&self, port: &ServerPort<'h, R, H>, w: &mut Writer<'_>) -> Result<(), BusError>;

    /// Restores the server, and when it is to be called. If the state is refused, the bus is as it was made.
    fn restore(&self, port: &ServerPort<'h, R, H>, r: &mut Reader<'_>) -> Result<(), RestoreError>;
}
