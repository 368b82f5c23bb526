//! Connections that are no port's.

use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::MessageType;

/// Where messages and events go whose connection is no [`Port`](crate::Port)'s: to a VMBus server, for example.
///
/// An embedder implements it beside [`Host`](crate::Host). Unlike that trait's methods, these are called with no lock of the
/// partition held, and may call it: to post the answer of a message, for example. A VP's lock is taken within, so a lock
/// of the implementation comes before it and is never taken while a VP's is held.
pub trait Connections {
    /// Takes a message that VP `vp` posted.
    ///
    /// # Errors
    /// The status for the guest; [`HvStatus::INVALID_CONNECTION_ID`] if there is no such connection.
    fn post_message(
        &self,
        vp: usize,
        connection: u32,
        message_type: MessageType,
        payload: &[u8],
    ) -> Result<(), HvStatus>;

    /// Takes an event that VP `vp` signalled.
    ///
    /// # Errors
    /// The status for the guest; [`HvStatus::INVALID_CONNECTION_ID`] if there is no such connection.
    fn signal_event(&self, vp: usize, connection: u32, flag: u16) -> Result<(), HvStatus>;

    /// Told that VP `vp` may take messages again that found no buffer or a masked SINT: it has ended a message, or changed
    /// its SynIC.
    fn buffer_freed(&self, vp: usize);
}

/// A reference to connections is one.
impl<C: Connections> Connections for &C {
    fn post_message(
        &self,
        vp: usize,
        connection: u32,
        message_type: MessageType,
        payload: &[u8],
    ) -> Result<(), HvStatus> {
        (**self).post_message(vp, connection, message_type, payload)
    }

    fn signal_event(&self, vp: usize, connection: u32, flag: u16) -> Result<(), HvStatus> {
        (**self).signal_event(vp, connection, flag)
    }

    fn buffer_freed(&self, vp: usize) {
        (**self).buffer_freed(vp);
    }
}
