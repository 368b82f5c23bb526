//! Packets as an observer sees them.

use crate::pages::PagesError;
use crate::protocol::{ChannelId, Guid, PacketType};

/// Maximum number of bytes of a packet's payload that an observer is shown: as many as two records of a trace have.
pub const SEEN_BYTES: usize = 61;

/// A packet, as an observer sees it ([`BusPort::packet`](crate::BusPort::packet)).
///
/// The bytes are those that the device gets: they are read from the ring once, for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Seen<'a> {
    /// Channel.
    pub channel: ChannelId,
    /// Kind of the device.
    pub interface: Guid,
    /// From the guest to the host.
    pub from_guest: bool,
    /// Kind.
    pub kind: PacketType,
    /// Flags of the descriptor.
    pub flags: u16,
    /// The sender's id, or for a completion that of the packet that it completes.
    pub transaction: u64,
    /// Size of the payload in bytes, as the sender has rounded it.
    pub len: u32,
    /// The guest memory that the packet lists, if it lists any.
    pub listed: Result<Listed, PagesError>,
    /// The beginning of the payload: [`SEEN_BYTES`], or all of it. In a pipe it begins with the pipe's header.
    pub payload: &'a [u8],
}

impl<'a> Seen<'a> {
    /// Returns a packet from the guest that lists no memory: id 0, no flags, the payload's length rounded up to a
    /// multiple of 8, and of the payload the first [`SEEN_BYTES`].
    #[must_use]
    pub const fn new(channel: ChannelId, interface: Guid, kind: PacketType, payload: &'a [u8]) -> Self {
        Self {
            channel,
            interface,
            from_guest: true,
            kind,
            flags: 0,
            transaction: 0,
            len: payload.len().next_multiple_of(8) as u32,
            listed: Ok(Listed::new(0, 0)),
            payload: payload.split_at(if payload.len() < SEEN_BYTES { payload.len() } else { SEEN_BYTES }).0,
        }
    }

    /// Sets the channel.
    #[must_use]
    pub const fn with_channel(mut self, channel: ChannelId) -> Self {
        self.channel = channel;
        self
    }

    /// Sets whether the guest sent it.
    #[must_use]
    pub const fn with_from_guest(mut self, from_guest: bool) -> Self {
        self.from_guest = from_guest;
        self
    }

    /// Sets its kind.
    #[must_use]
    pub const fn with_kind(mut self, kind: PacketType) -> Self {
        self.kind = kind;
        self
    }

    /// Sets the flags of its descriptor.
    #[must_use]
    pub const fn with_flags(mut self, flags: u16) -> Self {
        self.flags = flags;
        self
    }

    /// Sets its id.
    #[must_use]
    pub const fn with_transaction(mut self, transaction: u64) -> Self {
        self.transaction = transaction;
        self
    }

    /// Sets the size of its payload in bytes.
    #[must_use]
    pub const fn with_len(mut self, len: u32) -> Self {
        self.len = len;
        self
    }

    /// Sets the guest memory that it lists.
    #[must_use]
    pub const fn with_listed(mut self, listed: Result<Listed, PagesError>) -> Self {
        self.listed = listed;
        self
    }
}

/// Maximum number of bytes of contents that an observer is shown.
pub const CONTENTS_BYTES: usize = 104;

/// A part of a packet's data, which lies in guest memory outside the ring: what a device has read for itself, or has
/// written ([`Context::show_read`](crate::Context::show_read),
/// [`Context::show_written`](crate::Context::show_written)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Contents<'a> {
    /// Channel.
    pub channel: ChannelId,
    /// Kind of the device.
    pub interface: Guid,
    /// From the guest to the host.
    pub from_guest: bool,
    /// Id of the packet, which may be sent after its contents are shown, or 0 if it has none yet.
    pub transaction: u64,
    /// Which part it is, as defined by the device's documentation.
    pub part: u8,
    /// Size in bytes.
    pub len: u32,
    /// The beginning: at most [`CONTENTS_BYTES`], as far as the device has read it.
    pub bytes: &'a [u8],
}

impl<'a> Contents<'a> {
    /// Returns a part of a packet from the guest, with the id 0, and of these bytes the first [`CONTENTS_BYTES`].
    #[must_use]
    pub const fn new(channel: ChannelId, interface: Guid, part: u8, bytes: &'a [u8]) -> Self {
        let shown = bytes.split_at(if bytes.len() < CONTENTS_BYTES { bytes.len() } else { CONTENTS_BYTES }).0;
        Self {
            channel,
            interface,
            from_guest: true,
            transaction: 0,
            part,
            len: bytes.len() as u32,
            bytes: shown,
        }
    }

    /// Sets whether it goes from the guest to the host.
    #[must_use]
    pub const fn with_from_guest(mut self, from_guest: bool) -> Self {
        self.from_guest = from_guest;
        self
    }

    /// Sets the id of the packet.
    #[must_use]
    pub const fn with_transaction(mut self, transaction: u64) -> Self {
        self.transaction = transaction;
        self
    }

    /// Sets the size in bytes.
    #[must_use]
    pub const fn with_len(mut self, len: u32) -> Self {
        self.len = len;
        self
    }
}

/// The guest memory that a packet lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listed {
    /// Number of ranges.
    pub ranges: u32,
    /// Bytes in all of them.
    pub bytes: u32,
}

impl Listed {
    /// Returns this number of ranges with this number of bytes in all of them.
    #[must_use]
    pub const fn new(ranges: u32, bytes: u32) -> Self {
        Self { ranges, bytes }
    }
}

/// The beginning of a payload.
#[derive(Debug)]
pub(crate) struct Front {
    bytes: [u8; SEEN_BYTES],
    len: usize,
}

impl Front {
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; SEEN_BYTES], len: 0 }
    }

    /// Returns the room for the beginning of a payload of this many bytes.
    pub(crate) fn of(&mut self, len: u32) -> &mut [u8] {
        self.len = SEEN_BYTES.min(len as usize);
        &mut self.bytes[..self.len]
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Keeps the next part of the payload, as far as there is room.
    pub(crate) fn append(&mut self, part: &[u8]) {
        let part = &part[..part.len().min(SEEN_BYTES - self.len)];
        self.bytes[self.len..self.len + part.len()].copy_from_slice(part);
        self.len += part.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_kept_as_far_as_there_is_room() {
        let mut front = Front::new();
        front.append(&[1; 40]);
        front.append(&[2; 40]);
        front.append(&[3; 8]);
        assert_eq!(front.bytes(), [[1; 40].as_slice(), &[2; SEEN_BYTES - 40]].concat());
        assert_eq!(Front::new().of(100).len(), SEEN_BYTES);
        assert_eq!(Front::new().of(8).len(), 8);
    }
}
