//! The receiving side of a ring.

use super::view::{Ring, Word, is_position};
use super::{PageNumber, RingError};
use crate::image;
use crate::protocol::{PACKET_TRAILER_SIZE, PacketDescriptor, PacketType};
use hv_memory::GuestMemory;

const DESCRIPTOR: u32 = size_of::<PacketDescriptor>() as u32;

/// The receiver's position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consumer {
    /// The `read_index` that the other side sees.
    committed: u32,
    /// Offset of the next packet.
    next: u32,
}

/// Outcome of returning room to the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Committed {
    /// The sender waits for the room, and must be signalled.
    pub signal: bool,
    /// There are more packets.
    pub more: bool,
}

/// A packet in the ring: its validated descriptor, and the location of its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The descriptor. Its lengths are within the ring.
    pub descriptor: PacketDescriptor,
    at: u32,
}

impl Packet {
    /// Returns the size of the payload in bytes, rounded up to a multiple of 8 by the sender.
    #[must_use]
    pub fn payload_len(&self) -> u32 {
        self.descriptor.len() - self.descriptor.data_offset()
    }

    /// Returns the number of bytes between the descriptor and the payload: ranges and page numbers, for the types that
    /// have them.
    #[must_use]
    pub fn header_len(&self) -> u32 {
        self.descriptor.data_offset() - DESCRIPTOR
    }

    /// Returns the position of the first byte after the descriptor.
    pub(crate) fn header_at<M: GuestMemory, W: PageNumber>(&self, ring: &Ring<'_, M, W>) -> u32 {
        ring.advance(self.at, DESCRIPTOR)
    }

    /// Copies payload from byte `from` on into `into`, and returns the number of bytes. The other side can still change
    /// them: read each byte only once.
    ///
    /// # Errors
    /// [`RingError::Memory`].
    pub fn read<M: GuestMemory, W: PageNumber>(
        &self,
        ring: &Ring<'_, M, W>,
        from: u32,
        into: &mut [u8],
    ) -> Result<usize, RingError> {
        let Some(left) = self.payload_len().checked_sub(from) else { return Ok(0) };
        let len = into.len().min(left as usize);
        let at = ring.advance(ring.advance(self.at, self.descriptor.data_offset()), from);
        ring.read(at, &mut into[..len])?;
        Ok(len)
    }
}

impl Consumer {
    /// Starts at the receiver's position in the ring's header, and requests interrupts.
    ///
    /// # Errors
    /// The ring is corrupt.
    pub fn attach<M: GuestMemory, W: PageNumber>(ring: &Ring<'_, M, W>) -> Result<Self, RingError> {
        let at = ring.index(Word::ReadIndex)?;
        ring.index(Word::WriteIndex)?;
        ring.store(Word::InterruptMask, 0)?;
        // Before the first look at the write index, as after each later store.
        ring.fence();
        Ok(Self { committed: at, next: at })
    }

    /// Returns true if the position is valid in a ring of this many pages.
    pub(crate) fn is_within(&self, pages: usize) -> bool {
        [self.committed, self.next].iter().all(|at| is_position(*at, pages))
    }

    /// Returns the next packet, or `None` if the ring is empty.
    ///
    /// # Errors
    /// The ring is corrupt.
    pub fn next<M: GuestMemory, W: PageNumber>(
        &mut self,
        ring: &Ring<'_, M, W>,
    ) -> Result<Option<Packet>, RingError> {
        self.next_before(ring, Self::written(ring)?)
    }

    /// Returns how far the sender has written. Packets up to there are read after this.
    ///
    /// # Errors
    /// The ring is corrupt.
    pub(crate) fn written<M: GuestMemory, W: PageNumber>(ring: &Ring<'_, M, W>) -> Result<u32, RingError> {
        // Acquire.
        ring.index(Word::WriteIndex)
    }

    /// Returns the next packet of those that the sender has [written](Self::written), or `None`.
    ///
    /// # Errors
    /// The ring is corrupt.
    #[inline]
    pub(crate) fn next_before<M: GuestMemory, W: PageNumber>(
        &mut self,
        ring: &Ring<'_, M, W>,
        written: u32,
    ) -> Result<Option<Packet>, RingError> {
        let available = ring.distance(self.next, written);
        if available == 0 {
            return Ok(None);
        }
        let error = |len| RingError::Length { len, available };
        let room = available.checked_sub(PACKET_TRAILER_SIZE).ok_or(error(0))?;
        if room < DESCRIPTOR {
            return Err(error(0));
        }
        let [first, transaction_id] = ring.pair(self.next)?;
        let descriptor = PacketDescriptor {
            packet_type: PacketType(first as u16),
            data_offset8: (first >> 16) as u16,
            length8: (first >> 32) as u16,
            flags: (first >> 48) as u16,
            transaction_id,
        };
        let (len, offset) = (descriptor.len(), descriptor.data_offset());
        if len < DESCRIPTOR || len > room {
            return Err(error(len));
        }
        if offset < DESCRIPTOR || offset > len {
            return Err(RingError::DataOffset { offset, len });
        }
        let packet = Packet { descriptor, at: self.next };
        self.next = ring.advance(self.next, len + PACKET_TRAILER_SIZE);
        Ok(Some(packet))
    }

    /// Goes back to before the last packet returned by [`next`](Self::next).
    pub fn put_back(&mut self, packet: &Packet) {
        self.next = packet.at;
    }

    /// Returns the room of all packets read so far to the sender, and looks for more of them. A sender that has written
    /// one since, and is not masked, has seen an empty ring and signals, or what it has written is seen here.
    ///
    /// # Errors
    /// The ring is corrupt.
    pub fn commit<M: GuestMemory, W: PageNumber>(
        &mut self,
        ring: &Ring<'_, M, W>,
    ) -> Result<Committed, RingError> {
        let before = core::mem::replace(&mut self.committed, self.next);
        if before == self.next {
            return Ok(Committed { signal: false, more: Self::written(ring)? != self.next });
        }
        // Release: the packets were read before this.
        ring.store(Word::ReadIndex, self.next)?;
        ring.fence();
        let written = Self::written(ring)?;
        let more = written != self.next;
        // Some senders wait for the size of the ring minus 1, and mean all of it: packets are multiples of 8 bytes.
        let pending = ring.load(Word::PendingSendSize)? & !7;
        if pending == 0 {
            return Ok(Committed { signal: false, more });
        }
        let free = |read| ring.size() - ring.distance(read, written) - 8;
        Ok(Committed { signal: free(before) < pending && free(self.next) >= pending, more })
    }

    /// Tells the sender not to interrupt for new packets. It may do so nevertheless.
    ///
    /// # Errors
    /// [`RingError::Memory`].
    pub fn mask<M: GuestMemory, W: PageNumber>(&self, ring: &Ring<'_, M, W>) -> Result<(), RingError> {
        ring.store(Word::InterruptMask, 1)
    }

    /// Tells the sender to interrupt for new packets. Returns true if there already is a packet, for which the sender
    /// may not have interrupted.
    ///
    /// # Errors
    /// The ring is corrupt.
    pub fn unmask<M: GuestMemory, W: PageNumber>(&self, ring: &Ring<'_, M, W>) -> Result<bool, RingError> {
        ring.store(Word::InterruptMask, 0)?;
        ring.fence();
        Ok(ring.index(Word::WriteIndex)? != self.next)
    }
}

image::fields!(Consumer { committed, next });
