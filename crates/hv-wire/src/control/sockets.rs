//! The messages of the sockets' port: many streams of bytes, with credit for each.
//!
//! A stream has a name that the hypervisor gives it. Either side may name one that has just ended; the other ignores
//! it.
//!
//! The hypervisor grants credit for bytes to the guest, counted as they lie in the guest's ring ([`ring_cost`]). The
//! tool takes [`SOCKET_WINDOW`] bytes of each stream from the guest, and gives credit for what it has passed on. So
//! neither waits for the other with the port full of what it cannot take, and a stream that nothing reads stops itself
//! alone.

use super::message::{Body, Field, messages};
use super::{CONTROL_VERSION, FrameHead, FrameWriter, MAX_BODY};
use zerocopy::IntoBytes;

/// Bytes of a stream that the tool takes without giving credit.
pub const SOCKET_WINDOW: u32 = 128 << 10;

/// Bytes of a stream in one message at most.
pub const MAX_DATA: usize = MAX_BODY - (DATA_HEAD - FrameHead::BYTES);

/// Bytes of a message with data before the data.
pub const DATA_HEAD: usize = FrameHead::BYTES + size_of::<u32>() + size_of::<u16>();

/// Returns how many bytes of credit it takes to send this many bytes in one message: a packet's descriptor, pipe
/// header, payload and trailer.
#[must_use]
pub const fn ring_cost(bytes: u32) -> u32 {
    16 + 8 + bytes.next_multiple_of(8) + 8
}

messages! {
    /// A message to the hypervisor.
    ToSockets {
        /// A host program connects to a guest port. Answered with opened or refused.
        Connect = 1 {
            /// The tool's name for it.
            request: u32,
            /// The port.
            port: u32,
        }
        /// The guest's connection is accepted.
        Accept = 2 {
            /// The stream.
            stream: u32,
        }
        /// The guest's connection is refused.
        Refuse = 3 {
            /// The stream.
            stream: u32,
        }
        /// Bytes for the guest.
        Data = 4 {
            /// The stream.
            stream: u32,
            /// The bytes, one at least.
            bytes: &'a [u8],
        }
        /// There are no more bytes for the guest.
        Finish = 5 {
            /// The stream.
            stream: u32,
        }
        /// The program has gone: the stream ends in both directions.
        Reset = 6 {
            /// The stream.
            stream: u32,
        }
        /// Bytes from the guest were passed on.
        Credit = 7 {
            /// The stream.
            stream: u32,
            /// Their number.
            bytes: u32,
        }
    }
}

messages! {
    /// A message of the hypervisor's.
    FromSockets {
        /// A guest program connects to a host port. Answer with accept or refuse.
        Connect = 0x8001 {
            /// The new stream.
            stream: u32,
            /// The port.
            port: u32,
        }
        /// The program's connection is open.
        Opened = 0x8002 {
            /// The tool's name for it.
            request: u32,
            /// The new stream.
            stream: u32,
            /// The host's port that it comes from.
            own: u32,
        }
        /// No guest program has taken the connection.
        Refused = 0x8003 {
            /// The tool's name for it.
            request: u32,
        }
        /// Bytes that may still be sent, counted as their cost in the ring.
        Credit = 0x8004 {
            /// The stream.
            stream: u32,
            /// The bytes.
            bytes: u32,
        }
        /// Bytes from the guest.
        Data = 0x8005 {
            /// The stream.
            stream: u32,
            /// The bytes.
            bytes: &'a [u8],
        }
        /// There are no more bytes from the guest.
        Finished = 0x8006 {
            /// The stream.
            stream: u32,
        }
        /// The stream has ended in both directions.
        Ended = 0x8007 {
            /// The stream.
            stream: u32,
        }
    }
}

/// Returns what stands before the data of a message of this kind ([`ToSockets::DATA`] or [`FromSockets::DATA`]), so
/// that the data need not be copied to it.
#[must_use]
pub fn data_head(kind: u16, stream: u32, len: u16) -> [u8; DATA_HEAD] {
    let body = (DATA_HEAD - FrameHead::BYTES) as u32 + u32::from(len);
    let head = FrameHead { magic: FrameHead::MAGIC, len: body, id: 0, kind, version: CONTROL_VERSION };
    let mut bytes = [0; DATA_HEAD];
    let (front, rest) = bytes.split_at_mut(FrameHead::BYTES);
    front.copy_from_slice(head.as_bytes());
    rest[..4].copy_from_slice(&stream.to_le_bytes());
    rest[4..].copy_from_slice(&len.to_le_bytes());
    bytes
}

impl ToSockets<'_> {
    /// Kind of the message with data.
    pub const DATA: u16 = 4;
}

impl FromSockets<'_> {
    /// Kind of the message with data.
    pub const DATA: u16 = 0x8005;
}
