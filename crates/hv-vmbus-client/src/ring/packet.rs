//! A packet from the host.

use hv_tlfs::vmbus::{PACKET_FLAG_COMPLETION_REQUESTED, PacketDescriptor, PacketType, TransferPageRange};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::{Area, DESCRIPTOR, Geometry};

/// A packet in the ring. The descriptor was read once and judged; what follows it is read from front to back, each byte
/// once, since the host may change it meanwhile.
#[derive(Debug)]
pub struct Packet<'r, A: ?Sized> {
    area: &'r A,
    geometry: Geometry,
    descriptor: PacketDescriptor,
    /// Where the next byte between descriptor and payload is, and how many there are.
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
        take(self.area, self.geometry, &mut self.payload, into)
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
        let mut words = [0_u32; 2];
        if take(self.area, self.geometry, &mut self.header, words.as_mut_bytes()) < size_of_val(&words) {
            return None;
        }
        Some(TransferRanges { page_set: words[0] as u16, left: words[1], packet: self })
    }
}

/// Reads the next bytes of a part of the packet.
fn take<A: Area + ?Sized>(area: &A, geometry: Geometry, from: &mut (u32, u32), into: &mut [u8]) -> usize {
    let len = into.len().min(from.1 as usize);
    if let Some(into) = into.get_mut(..len) {
        geometry.read(area, from.0, into);
    }
    *from = (geometry.advance(from.0, len as u32), from.1 - len as u32);
    len
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
        let mut range = TransferPageRange::new_zeroed();
        let packet = &mut *self.packet;
        let len = take(packet.area, packet.geometry, &mut packet.header, range.as_mut_bytes());
        (len == size_of::<TransferPageRange>()).then_some(range)
    }
}
