//! Posting messages and signalling events over a connection.
//!
//! Source: TLFS, `HvCallPostMessage` and `HvCallSignalEvent`.

use core::fmt;
use core::mem::offset_of;

use hv_tlfs::hypercall::{HypercallCode, HypercallInput};
use hv_tlfs::status::{HvError, HvStatus};
use hv_tlfs::synic::{ConnectionId, MESSAGE_PAYLOAD_SIZE, MessageType, PostMessageInput, SignalEventInput};

use crate::conduit::Conduit;
use crate::hypercall;
use crate::page::CallPage;

/// Reason why a message was not posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PostError {
    /// The payload is longer than 240 bytes.
    TooLong,
    /// The hypervisor's status.
    Hypervisor(HvError),
}

impl PostError {
    /// Returns true if the same message may be retried a little later: the port had no free buffer.
    #[must_use]
    pub fn may_retry(self) -> bool {
        matches!(self, Self::Hypervisor(error) if error.status() == HvStatus::INSUFFICIENT_BUFFERS)
    }
}

impl fmt::Display for PostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => f.write_str("message payload longer than 240 bytes; shorten or split it"),
            Self::Hypervisor(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for PostError {}

/// Posts a message. The type is any number except 0 with bit 31 clear; VMBus uses 1.
///
/// # Errors
///
/// [`PostError`]. If the port has no free buffer ([`PostError::may_retry`]), wait a little: Linux waits a millisecond
/// first, then longer.
#[doc(alias = "HVCALL_POST_MESSAGE")]
#[doc(alias = "hv_post_message")]
pub fn post_message(
    conduit: &(impl Conduit + ?Sized),
    page: &mut CallPage<'_>,
    connection: ConnectionId,
    message_type: MessageType,
    payload: &[u8],
) -> Result<(), PostError> {
    if payload.len() > MESSAGE_PAYLOAD_SIZE {
        return Err(PostError::TooLong);
    }
    let header = [connection.0, 0, message_type.0, payload.len() as u32];
    const { assert!(offset_of!(PostMessageInput, payload) == size_of::<[u32; 4]>()) }
    // What the page has behind the payload is no part of the message.
    page.page().write(size_of_val(&header), payload);
    let control = HypercallInput::from_code(HypercallCode::POST_MESSAGE);
    // SAFETY: the hypervisor reads the message from the call page; the call writes no guest memory.
    unsafe { hypercall::memory(conduit, page, control, &header) }.map_err(PostError::Hypervisor)
}

/// Signals an event: sets flag number `flag`, counted from the port's base flag, at the other end.
///
/// # Errors
///
/// The hypervisor's status.
#[doc(alias = "HVCALL_SIGNAL_EVENT")]
#[doc(alias = "vmbus_set_event")]
#[inline]
pub fn signal_event(
    conduit: &(impl Conduit + ?Sized),
    connection: ConnectionId,
    flag: u16,
) -> Result<(), HvError> {
    let input = SignalEventInput { connection_id: connection, flag_number: flag, reserved: 0 };
    // SAFETY: the input is in registers, and the call sets an event flag at the other end, in a page that its owner
    // lent for that; it writes no memory chosen by this call.
    unsafe { hypercall::fast(conduit, HypercallInput::from_code(HypercallCode::SIGNAL_EVENT), &input) }
}
