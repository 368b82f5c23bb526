//! The sending side of a ring.

use super::view::{Ring, Word, is_position};
use super::{PageNumber, RingError};
use crate::image;
use crate::protocol::{PACKET_TRAILER_SIZE, PacketDescriptor, PacketType, RingFeatures};
use core::fmt;
use hv_memory::GuestMemory;

const DESCRIPTOR: u32 = size_of::<PacketDescriptor>() as u32;
/// Bytes of a packet that [`Producer::push`] requests at a time: a multiple of 8.
const PART: usize = 256;
/// Bytes of zeros that are written at a time.
const ZEROS: usize = 64;

/// A part of a packet, aligned so that it is copied by words.
#[repr(align(8))]
struct Part([u8; PART]);

/// The sender's position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    next: u32,
    /// A signal was requested from the receiver.
    waiting: bool,
}

/// A packet to send: a descriptor and a payload, which [`Producer::push`] requests in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Kind.
    pub packet_type: PacketType,
    /// 0, or [`PACKET_FLAG_COMPLETION_REQUESTED`](crate::protocol::PACKET_FLAG_COMPLETION_REQUESTED).
    pub flags: u16,
    /// The sender's id of the request, or the id of the packet that this one completes.
    pub transaction_id: u64,
    /// Bytes of payload.
    pub len: u32,
}

/// Reason why a packet was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PushError {
    /// There is no room now; the packet needs this many bytes.
    Full(u32),
    /// The ring can never hold the packet, or its length has more than 19 bits.
    TooLong,
    /// The other side has corrupted this ring, or the one that the payload came from.
    Ring(RingError),
}

impl From<RingError> for PushError {
    fn from(error: RingError) -> Self {
        Self::Ring(error)
    }
}

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(needed) => write!(f, "no room for a packet of {needed} bytes"),
            Self::TooLong => f.write_str("longer than the ring or than a packet can be"),
            Self::Ring(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for PushError {}

/// A packet that is being written.
#[derive(Debug)]
pub(crate) struct Draft {
    /// Where its next byte goes.
    at: u32,
    /// Bytes of header and payload that are missing.
    left: u32,
    /// Where its trailer goes.
    end: u32,
}

impl Draft {
    /// Appends bytes. Those that are more than the packet has are dropped.
    ///
    /// # Errors
    /// [`RingError::Memory`].
    #[inline]
    pub(crate) fn put<M: GuestMemory, W: PageNumber>(
        &mut self,
        ring: &Ring<'_, M, W>,
        bytes: &[u8],
    ) -> Result<(), RingError> {
        let len = bytes.len().min(self.left as usize);
        ring.write(self.at, &bytes[..len])?;
        self.at = ring.advance(self.at, len as u32);
        self.left -= len as u32;
        Ok(())
    }
}

impl Producer {
    /// Starts at the sender's position in the ring's header, and announces that this side uses `pending_send_size`.
    ///
    /// # Errors
    /// The ring is corrupt.
    pub fn attach<M: GuestMemory, W: PageNumber>(ring: &Ring<'_, M, W>) -> Result<Self, RingError> {
        let next = ring.index(Word::WriteIndex)?;
        ring.index(Word::ReadIndex)?;
        ring.store(Word::PendingSendSize, 0)?;
        ring.store(Word::Features, RingFeatures(0).with_pending_send_size(true).0)?;
        Ok(Self { next, waiting: false })
    }

    /// Returns the number of bytes in a ring for a packet with this many bytes after its descriptor.
    #[must_use]
    pub(crate) fn total(len: u32) -> Option<u32> {
        len.checked_next_multiple_of(8)?.checked_add(DESCRIPTOR + PACKET_TRAILER_SIZE)
    }

    /// Returns true if the position is valid in a ring of this many pages.
    pub(crate) fn is_within(&self, pages: usize) -> bool {
        is_position(self.next, pages)
    }

    /// Returns the number of bytes of packets, including trailers, that fit now. 8 bytes always stay free, since a full
    /// ring would look like an empty one.
    ///
    /// # Errors
    /// The ring is corrupt.
    pub fn free<M: GuestMemory, W: PageNumber>(&self, ring: &Ring<'_, M, W>) -> Result<u32, RingError> {
        // Acquire: the memory to be overwritten has been read before.
        let read = ring.index(Word::ReadIndex)?;
        Ok(ring.size() - ring.distance(read, self.next) - 8)
    }

    /// Sends a packet. `payload` fills a part of it, given the part's offset; what it leaves is zeros. Returns true if
    /// the receiver must be signalled: the ring was empty, and the receiver wants interrupts.
    ///
    /// # Errors
    /// Nothing was sent.
    pub fn push<M: GuestMemory, W: PageNumber>(
        &mut self,
        ring: &Ring<'_, M, W>,
        packet: &Outgoing,
        payload: impl FnMut(u32, &mut [u8]) -> Result<(), RingError>,
    ) -> Result<bool, PushError> {
        self.push_behind(ring, packet, 0, payload)
    }

    /// Sends a packet with `header` bytes, a multiple of 8, between descriptor and payload. `fill` is called for these
    /// first, and then for the payload, with the offset from the first of them.
    ///
    /// # Errors
    /// Nothing was sent.
    pub fn push_behind<M: GuestMemory, W: PageNumber>(
        &mut self,
        ring: &Ring<'_, M, W>,
        packet: &Outgoing,
        header: u32,
        mut fill: impl FnMut(u32, &mut [u8]) -> Result<(), RingError>,
    ) -> Result<bool, PushError> {
        let mut draft = self.begin(ring, packet, header, 0)?;
        let (bytes, mut done) = (draft.left, 0);
        while done < bytes {
            let mut part = Part([0; PART]);
            let part = &mut part.0[..PART.min((bytes - done) as usize)];
            fill(done, part)?;
            draft.put(ring, part)?;
            done += part.len() as u32;
        }
        Ok(self.finish(ring, draft)?)
    }

    /// Begins a packet with `header` bytes, a multiple of 8, between descriptor and payload, if `others` bytes stay
    /// free after it. The receiver does not see it before it is [finished](Self::finish).
    ///
    /// # Errors
    /// The packet cannot be sent now.
    pub(crate) fn begin<M: GuestMemory, W: PageNumber>(
        &self,
        ring: &Ring<'_, M, W>,
        packet: &Outgoing,
        header: u32,
        others: u32,
    ) -> Result<Draft, PushError> {
        let left =
            packet.len.checked_add(header).filter(|_| header.is_multiple_of(8)).ok_or(PushError::TooLong)?;
        let total = Self::total(left).ok_or(PushError::TooLong)?;
        let length8 = u16::try_from((total - PACKET_TRAILER_SIZE) / 8).map_err(|_| PushError::TooLong)?;
        if total > ring.size() - 8 {
            return Err(PushError::TooLong);
        }
        if total.saturating_add(others) > self.free(ring)? {
            return Err(PushError::Full(total));
        }
        let data_offset8 = ((DESCRIPTOR + header) / 8) as u16;
        let first = u64::from(packet.packet_type.0)
            | u64::from(data_offset8) << 16
            | u64::from(length8) << 32
            | u64::from(packet.flags) << 48;
        ring.set_pair(self.next, [first, packet.transaction_id])?;
        Ok(Draft {
            at: ring.advance(self.next, DESCRIPTOR),
            left,
            end: ring.advance(self.next, total - PACKET_TRAILER_SIZE),
        })
    }

    /// Sends a packet; what has not been put into it is zeros. Returns true if the receiver must be signalled: the ring
    /// was empty, and the receiver wants interrupts.
    ///
    /// # Errors
    /// Nothing was sent.
    pub(crate) fn finish<M: GuestMemory, W: PageNumber>(
        &mut self,
        ring: &Ring<'_, M, W>,
        mut draft: Draft,
    ) -> Result<bool, RingError> {
        while draft.at != draft.end {
            let zeros = ZEROS.min(ring.distance(draft.at, draft.end) as usize);
            ring.write(draft.at, &[0; ZEROS][..zeros])?;
            draft.at = ring.advance(draft.at, zeros as u32);
        }
        ring.set_word(draft.end, u64::from(self.next) << 32)?;
        if core::mem::take(&mut self.waiting) {
            ring.store(Word::PendingSendSize, 0)?;
        }
        let start = core::mem::replace(&mut self.next, ring.advance(draft.end, PACKET_TRAILER_SIZE));
        // Release: the packet is written before this.
        ring.store(Word::WriteIndex, self.next)?;
        ring.fence();
        Ok(ring.load(Word::InterruptMask)? == 0 && ring.index(Word::ReadIndex)? == start)
    }

    /// Sends a packet whose payload is in memory.
    ///
    /// # Errors
    /// Nothing was sent. [`PushError::TooLong`] also if the length of `payload` is not the packet's.
    pub fn push_bytes<M: GuestMemory, W: PageNumber>(
        &mut self,
        ring: &Ring<'_, M, W>,
        packet: &Outgoing,
        payload: &[u8],
    ) -> Result<bool, PushError> {
        if payload.len() != packet.len as usize {
            return Err(PushError::TooLong);
        }
        let mut draft = self.begin(ring, packet, 0, 0)?;
        draft.put(ring, payload)?;
        Ok(self.finish(ring, draft)?)
    }

    /// Requests a signal from the receiver once this many bytes are free; the next packet cancels the request. Returns
    /// true if they are already free, when no signal may come.
    ///
    /// # Errors
    /// The ring is corrupt.
    pub fn wait_for<M: GuestMemory, W: PageNumber>(
        &mut self,
        ring: &Ring<'_, M, W>,
        bytes: u32,
    ) -> Result<bool, RingError> {
        self.waiting = true;
        ring.store(Word::PendingSendSize, bytes)?;
        ring.fence();
        Ok(self.free(ring)? >= bytes)
    }
}

image::fields!(Producer { next, waiting });
