//! Messages between the tool and the hypervisor over the control port: a byte stream, cut into frames. The sockets of
//! the guest have a port of their own, with the same frames and other messages; so has the agent of `hv exec`, over one
//! of those sockets.
//!
//! A frame is a [`FrameHead`] and a body. Each side judges what it gets: a head that is none ends the use of the port,
//! since nothing tells where the next one is. A request's id is repeated in its answer; what has no request has id 0.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

mod agent;
mod message;
mod sockets;

pub use agent::{
    AGENT_ENTROPY, AGENT_PORT, AGENT_WINDOW, FromAgent, MAX_AGENT_DATA, MAX_SHARE_READ, MAX_SHARE_REQUEST,
    MAX_SHARES, SHARE_PORT, ToAgent, share_step,
};
pub use message::{DriverState, FromHypervisor, Refusal, Service, ServiceState, ToHypervisor};
pub use sockets::{DATA_HEAD, FromSockets, MAX_DATA, SOCKET_WINDOW, ToSockets, data_head, ring_cost};

/// Version of the messages. Each side begins with a hello that names it.
pub const CONTROL_VERSION: u16 = 1;

/// Bytes of a body at most.
pub const MAX_BODY: usize = 8192;

/// Bytes of a file in one request at most.
pub const MAX_PIECE: usize = 6 * 1024;

/// Keys that are pressed or released by one request at most.
pub const MAX_KEYS: usize = 64;

/// What stands before a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct FrameHead {
    /// [`FrameHead::MAGIC`].
    pub magic: u32,
    /// Bytes of the body.
    pub len: u32,
    /// Name of the request, or 0.
    pub id: u32,
    /// Kind of the message.
    pub kind: u16,
    /// [`CONTROL_VERSION`].
    pub version: u16,
}

impl FrameHead {
    /// "hvct", read as a little-endian number.
    pub const MAGIC: u32 = u32::from_le_bytes(*b"hvct");
    /// Bytes of a head.
    pub const BYTES: usize = size_of::<Self>();

    /// Returns true if this is the head of a frame that may be.
    #[must_use]
    pub const fn is_valid(&self) -> bool {
        self.magic == Self::MAGIC && self.len as usize <= MAX_BODY
    }
}

/// Bytes of a frame at most.
pub const MAX_FRAME: usize = FrameHead::BYTES + MAX_BODY;

/// What the other side sent is not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoFrame;

/// Assembler of frames from a byte stream. It never takes a byte of the next frame.
#[derive(Debug)]
pub struct Assembler {
    bytes: [u8; MAX_FRAME],
    filled: usize,
}

impl Assembler {
    /// Makes one that waits for a frame.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: [0; MAX_FRAME], filled: 0 }
    }

    fn head(&self) -> Option<FrameHead> {
        let (head, _) = FrameHead::read_from_prefix(&self.bytes).ok()?;
        (self.filled >= FrameHead::BYTES).then_some(head)
    }

    /// Returns the room for the next bytes of the frame: as many as are known to be missing, and none if it is
    /// complete.
    ///
    /// # Errors
    /// [`NoFrame`].
    pub fn space(&mut self) -> Result<&mut [u8], NoFrame> {
        let end = match self.head() {
            None => FrameHead::BYTES,
            Some(head) if head.is_valid() => FrameHead::BYTES + head.len as usize,
            Some(_) => return Err(NoFrame),
        };
        Ok(&mut self.bytes[self.filled..end])
    }

    /// Counts bytes that were put there.
    pub fn advance(&mut self, bytes: usize) {
        self.filled = (self.filled + bytes).min(MAX_FRAME);
    }

    /// Returns the frame, if it is complete; [`done`](Self::done) begins with the next one.
    #[must_use]
    pub fn frame(&self) -> Option<(FrameHead, &[u8])> {
        let head = self.head().filter(FrameHead::is_valid)?;
        let end = FrameHead::BYTES + head.len as usize;
        (self.filled >= end).then(|| (head, &self.bytes[FrameHead::BYTES..end]))
    }

    /// Returns true between two frames.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Begins with the next frame.
    pub fn done(&mut self) {
        self.filled = 0;
    }
}

impl Default for Assembler {
    fn default() -> Self {
        Self::new()
    }
}

/// A frame that is being made.
struct FrameWriter<'b> {
    bytes: &'b mut [u8],
    len: usize,
}

impl<'b> FrameWriter<'b> {
    /// Begins a frame of this kind; `None` if there is too little room.
    fn begin(bytes: &'b mut [u8], id: u32, kind: u16) -> Option<Self> {
        let mut frame = Self { bytes, len: 0 };
        let head = FrameHead { magic: FrameHead::MAGIC, len: 0, id, kind, version: CONTROL_VERSION };
        frame.put(head.as_bytes())?;
        Some(frame)
    }

    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.len.checked_add(bytes.len()).filter(|end| *end <= MAX_FRAME)?;
        self.bytes.get_mut(self.len..end)?.copy_from_slice(bytes);
        self.len = end;
        Some(())
    }

    /// Ends it, and returns its length.
    fn end(self) -> Option<usize> {
        let body = self.len.checked_sub(FrameHead::BYTES)? as u32;
        self.bytes.get_mut(4..8)?.copy_from_slice(&body.to_le_bytes());
        Some(self.len)
    }
}

#[cfg(test)]
mod tests;
