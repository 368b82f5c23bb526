//! A packet from the host.

use hv_tlfs::vmbus::{PACKET_FLAG_COMPLETION_REQUESTED, PacketDescriptor, PacketType, TransferPageRange};
use zerocopy::{FromBytes, IntoBytes};

use super::{Area, DESCRIPTOR, Geometry, WORD};

/// A packet in the ring. The descriptor was read once and judged; what follows it is read from front to back, each byte
/// once, since the host may change it meanwhile.
#[derive(Debug)]
pub struct Packet<'r, A: ?Sized> {
    area: &'r A,
    geometry: Geometry,
    descriptor: PacketDescriptor,
    /// Where the next word between descriptor and payload is, and how many bytes there are.
    header: (u32, u32),
    /// Where the next byte of payload is, and how many there are.
    payload: (u32, u32),
}

impl<'r, A: Area + ?Sized> Packet<'r, A> {
    /// Makes the packet at `at`, whose lengths were judged.
    pub(super) fn new(area: &'r A, geometry: Geometry, at: u32, descriptor: PacketDescriptor) -> Self {
        let (len, offset) = (descriptor.len(), descriptor.data_offset());
        Self {
            area,
            geometry,
            descriptor,
            header: (geometry.advance(at, DESCRIPTOR), offset - DESCRIPTOR),
            payload: (geometry.advance(at, offset), len - offset),
        }
    }

    /// Returns the kind.
    #[must_use]
    pub fn kind(&self) -> PacketType {
        self.descriptor.packet_type
    }

    /// Returns the transaction id: of a completion that of the request, else the host's own.
    #[must_use]
    pub fn transaction(&self) -> u64 {
        self.descriptor.transaction_id
    }

    /// Returns true if the host expects a completion.
    #[must_use]
    pub fn wants_completion(&self) -> bool {
        self.descriptor.flags & PACKET_FLAG_COMPLETION_REQUESTED != 0
    }

    /// Returns the bytes of payload that were not read yet. The sender rounds up to a multiple of 8.
    #[must_use]
    pub fn left(&self) -> usize {
        self.payload.1 as usize
    }

    /// Reads the next bytes of the payload, and returns how many there were.
    pub fn read(&mut self, into: &mut [u8]) -> usize {
        let (at, left) = self.payload;
        let len = into.len().min(left as usize);
        if let Some(into) = into.get_mut(..len) {
            self.geometry.read(self.area, at, into);
        }
        self.payload = (self.geometry.advance(at, len as u32), left - len as u32);
        len
    }

    /// Reads a value from the payload; `None`, and nothing is read, if that is shorter.
    pub fn take<T: FromBytes + IntoBytes>(&mut self) -> Option<T> {
        if self.left() < size_of::<T>() {
            return None;
        }
        let mut value = T::new_zeroed();
        self.read(value.as_mut_bytes());
        Some(value)
    }

    /// Returns the ranges of a packet of transfer pages (type 7); `None` if it is another, or has none.
    ///
    /// The ranges are judged by who knows the page set: offset and length are the host's claims.
    pub fn transfer_ranges(&mut self) -> Option<TransferRanges<'_, 'r, A>> {
        if self.kind() != PacketType::DATA_USING_TRANSFER_PAGES {
            return None;
        }
        let word = u64::from_le(self.header_word()?);
        Some(TransferRanges { page_set: word as u16, left: (word >> 32) as u32, packet: self })
    }

    /// Reads the next word between descriptor and payload.
    fn header_word(&mut self) -> Option<u64> {
        let (at, len) = self.header;
        self.header = (self.geometry.advance(at, WORD), len.checked_sub(WORD)?);
        Some(self.geometry.word(self.area, at))
    }
}

/// The ranges of a packet of transfer pages: at most as many as the packet says, and as its length has room for.
#[derive(Debug)]
pub struct TransferRanges<'p, 'r, A: ?Sized> {
    page_set: u16,
    left: u32,
    packet: &'p mut Packet<'r, A>,
}

impl<A: ?Sized> TransferRanges<'_, '_, A> {
    /// Returns the number of the page set.
    #[must_use]
    pub fn page_set(&self) -> u16 {
        self.page_set
    }
}

impl<A: Area + ?Sized> Iterator for TransferRanges<'_, '_, A> {
    type Item = TransferPageRange;

    fn next(&mut self) -> Option<TransferPageRange> {
        self.left = self.left.checked_sub(1)?;
        self.packet.header_word().map(|word| zerocopy::transmute!(word))
    }
}
