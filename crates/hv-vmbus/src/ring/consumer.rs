//! The receiving side of a ring.

use super::view::{Ring, Word, is_position};
use super::{PageNumber, RingError};
use crate::image;
use crate::protocol::{PACKET_TRAILER_SIZE, PacketDescriptor};
use hv_memory::GuestMemory;
use zerocopy::{FromZeros, IntoBytes};

const DESCRIPTOR: u32 = size_of::<PacketDescriptor>() as u32;

/// The receiver's position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consumer {
    /// The `read_index` that the other side sees.
    committed: u32,
    /// Offset of the next packet.
    next: u32,
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

    /// Copies the bytes between descriptor and payload, from byte `from` on, into `into`. Returns their number. Read
    /// each byte only once.
    ///
    /// # Errors
    /// [`RingError::Memory`].
    pub fn read_header<M: GuestMemory, W: PageNumber>(
        &self,
        ring: &Ring<'_, M, W>,
        from: u32,
        into: &mut [u8],
    ) -> Result<usize, RingError> {
        let Some(left) = self.header_len().checked_sub(from) else { return Ok(0) };
        let len = into.len().min(left as usize);
        let at = ring.advance(ring.advance(self.at, DESCRIPTOR), from);
        ring.read(at, &mut into[..len])?;
        Ok(len)
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
        // Acquire: the packet is read after this.
        let written = ring.index(Word::WriteIndex)?;
        let available = ring.distance(self.next, written);
        if available == 0 {
            return Ok(None);
        }
        let error = |len| RingError::Length { len, available };
        let room = available.checked_sub(PACKET_TRAILER_SIZE).ok_or(error(0))?;
        if room < DESCRIPTOR {
            return Err(error(0));
        }
        let mut descriptor = PacketDescriptor::new_zeroed();
        ring.read(self.next, descriptor.as_mut_bytes())?;
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

    /// Returns the room of all packets read so far to the sender. Returns true if the sender waits for it and must be
    /// signalled.
    ///
    /// # Errors
    /// The ring is corrupt.
    pub fn commit<M: GuestMemory, W: PageNumber>(
        &mut self,
        ring: &Ring<'_, M, W>,
    ) -> Result<bool, RingError> {
        if self.committed == self.next {
            return Ok(false);
        }
        let before = core::mem::replace(&mut self.committed, self.next);
        // Release: the packets were read before this.
        ring.store(Word::ReadIndex, self.next)?;
        ring.fence();
        // Some senders wait for the size of the ring minus 1, and mean all of it: packets are multiples of 8 bytes.
        let pending = ring.load(Word::PendingSendSize)? & !7;
        if pending == 0 {
            return Ok(false);
        }
        let written = ring.index(Word::WriteIndex)?;
        let free = |read| ring.size() - ring.distance(read, written) - 8;
        Ok(free(before) < pending && free(self.next) >= pending)
    }

    /// Tells the sender not to interrupt for new packets. It may do so nevertheless.
    ///
    /// # Errors
    /// [`RingError::Memory`].
    pub fn mask<M: GuestMemory, W: PageNumber>(&self, ring: &Ring<'_, M, W>) -> Result<(), RingError> {
        ring.store(Word::InterruptMask, 1)
    }

    /// Tells the sender to interrupt for new packets. Returns true if there already is a packet, for which the sender may not have
    /// interrupted.
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
