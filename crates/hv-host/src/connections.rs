//! Connections that belong to no port.

use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::MessageType;

/// The target of messages and events whose connection belongs to no [`Port`](crate::Port): a VMBus server, for example.
///
/// An embedder implements it in addition to [`Host`](crate::Host). Unlike that trait's methods, these are called
/// without any lock of the partition held, and may call it: to post the answer to a message, for example. Such a call
/// takes a VP's lock, so a lock of the implementation comes before it in lock order, and is never taken while a VP's is
/// held.
pub trait Connections {
    /// Receives a message that VP `vp` posted.
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

    /// Receives an event that VP `vp` signalled.
    ///
    /// # Errors
    /// The status for the guest; [`HvStatus::INVALID_CONNECTION_ID`] if there is no such connection.
    fn signal_event(&self, vp: usize, connection: u32, flag: u16) -> Result<(), HvStatus>;

    /// Reports that VP `vp` may accept messages that found no buffer or a masked SINT before: it has ended a message,
    /// or changed its SynIC.
    fn buffer_freed(&self, vp: usize);
}

/// A reference to connections implements the trait as well.
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
