//! Why a call of the client failed.

use core::fmt;

use hv_guest::connection::PostError;
use hv_tlfs::vmbus::{ChannelId, ConnectionState, NtStatus};

use crate::ring::{RingError, SendError};

/// Packets that lead to nothing which one call takes: completions of nothing, messages that the driver does not use. A
/// host gets room with each batch, so one that never stops would block a call forever.
pub const FLOOD: usize = 4096;

/// Reason why a call of the client failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The hypervisor did not take a message or a signal.
    Post(PostError),
    /// There is no connection: contact was not made, did not succeed, or has ended.
    NotConnected,
    /// The host speaks none of the versions.
    NoVersion,
    /// The host speaks the version and refused the contact.
    Contact(ConnectionState),
    /// The host's answer has a length or a value that it cannot have.
    Malformed,
    /// The host refused a GPADL, an open or a modify request.
    Refused(NtStatus),
    /// No such channel is offered.
    UnknownChannel(ChannelId),
    /// The channel was rescinded, or the connection has ended.
    Rescinded,
    /// The channel is open, is being opened, or one of its GPADLs exists.
    InUse,
    /// All places that the OS has lent are taken.
    NoSlot,
    /// The OS has no memory, or would not share it.
    Memory,
    /// The GPADL has 0 pages, or more than 8190; or its rings have not 2 pages each.
    Pages(usize),
    /// The agreed version has not this message.
    Version,
    /// The packet was not sent.
    Send(SendError),
    /// The host has corrupted a ring. The channel is dead: close it.
    Ring(RingError),
    /// The host has sent [`FLOOD`](crate::FLOOD) packets in one call that lead to nothing. The channel is dead: close
    /// it.
    Flood,
    /// A packet from the host is longer than the buffer for it.
    TooLong(usize),
    /// The OS has stopped waiting.
    TimedOut,
}

impl Error {
    /// Returns true if the same call may succeed a little later, with nothing changed: a port without a free buffer, a
    /// ring without room.
    #[must_use]
    pub fn may_retry(self) -> bool {
        match self {
            Self::Post(error) => error.may_retry(),
            Self::Send(SendError::Full(_)) => true,
            _ => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Post(error) => write!(f, "message to the host: {error}"),
            Self::NotConnected => f.write_str("no connection to the host; make contact first"),
            Self::NoVersion => f.write_str("host speaks none of the versions; allow older ones"),
            Self::Contact(state) => write!(f, "host refused the contact: connection state {}", state.0),
            Self::Malformed => f.write_str("malformed answer from the host"),
            Self::Refused(status) => write!(f, "host refused the request: status {:#x}", status.0),
            Self::UnknownChannel(channel) => write!(f, "channel {} is not offered", channel.0),
            Self::Rescinded => f.write_str("channel was rescinded; close it and release it"),
            Self::InUse => f.write_str("channel is in use; close it and tear its GPADLs down first"),
            Self::NoSlot => f.write_str("no free slot for a channel or GPADL; lend more"),
            Self::Memory => f.write_str("no memory that can be shared with the host"),
            Self::Pages(pages) => write!(
                f,
                "{pages} pages, expected 1 to 8190 for a GPADL, and 2 or more for each of a channel's rings"
            ),
            Self::Version => f.write_str("the agreed VMBus version has not this message"),
            Self::Send(error) => error.fmt(f),
            Self::Ring(error) => error.fmt(f),
            Self::Flood => f.write_str("host keeps sending unsolicited packets; close the channel"),
            Self::TooLong(len) => write!(f, "packet of {len} bytes from the host, longer than the buffer"),
            Self::TimedOut => f.write_str("the host did not answer in time"),
        }
    }
}

impl core::error::Error for Error {}

impl From<PostError> for Error {
    fn from(error: PostError) -> Self {
        Self::Post(error)
    }
}

impl From<RingError> for Error {
    fn from(error: RingError) -> Self {
        Self::Ring(error)
    }
}

impl From<SendError> for Error {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Ring(error) => Self::Ring(error),
            error => Self::Send(error),
        }
    }
}
