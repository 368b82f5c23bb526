//! Messages of the guest, read from bytes.

use crate::event::Reason;
use zerocopy::FromBytes;

/// Reads a message of fixed length; guests may post more bytes.
pub(crate) fn parse<T: FromBytes>(payload: &[u8]) -> Result<T, Reason> {
    T::read_from_prefix(payload).map(|(message, _)| message).map_err(|_| Reason::TooShort)
}
