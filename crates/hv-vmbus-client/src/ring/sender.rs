//! The guest's position in the ring to the host.

use core::fmt;

use hv_tlfs::vmbus::{
    PACKET_FLAG_COMPLETION_REQUESTED, PACKET_TRAILER_SIZE, PacketDescriptor, PacketType, RingFeatures,
};

use super::{
    Area, DESCRIPTOR, FEATURES, Geometry, INTERRUPT_MASK, PENDING_SEND_SIZE, READ_INDEX, RingError, WORD,
    WRITE_INDEX,
};
use crate::Data;

/// A packet to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    kind: PacketType,
    flags: u16,
    transaction: u64,
    ranges: &'a [Data<'a>],
    payload: &'a [u8],
}

impl<'a> Outgoing<'a> {
    /// Makes a packet whose data is the payload (type 6).
    #[must_use]
    pub const fn in_band(transaction: u64, payload: &'a [u8]) -> Self {
        Self { kind: PacketType::DATA_IN_BAND, flags: 0, transaction, ranges: &[], payload }
    }

    /// Makes a packet that names pages with data (type 9). Hosts take one range for storage.
    #[must_use]
    pub const fn gpa_direct(transaction: u64, ranges: &'a [Data<'a>], payload: &'a [u8]) -> Self {
        Self { kind: PacketType::DATA_USING_GPA_DIRECT, flags: 0, transaction, ranges, payload }
    }

    /// Makes the completion (type 11) of a packet with this transaction id.
    #[must_use]
    pub const fn completion(transaction: u64, payload: &'a [u8]) -> Self {
        Self { kind: PacketType::COMPLETION, flags: 0, transaction, ranges: &[], payload }
    }

    /// Asks the host for a completion.
    #[must_use]
    pub const fn with_completion(mut self) -> Self {
        self.flags = PACKET_FLAG_COMPLETION_REQUESTED;
        self
    }

    /// Returns the bytes between descriptor and payload.
    fn header_len(&self) -> Result<u32, SendError> {
        if self.kind != PacketType::DATA_USING_GPA_DIRECT {
            return Ok(0);
        }
        self.ranges.iter().try_fold(8, |len: u32, range| {
            let (_, _, pages) = range.span().ok_or(SendError::Data)?;
            let add = |n: u32| n.checked_add(len)?.checked_add(8);
            pages.checked_mul(8).and_then(add).ok_or(SendError::TooLong)
        })
    }

    /// Returns the bytes that the packet takes in a ring, its trailer counted.
    ///
    /// # Errors
    ///
    /// [`SendError::TooLong`], [`SendError::Data`].
    pub fn total(&self) -> Result<u32, SendError> {
        Ok(self.lengths()?.1 + PACKET_TRAILER_SIZE)
    }

    /// Returns the offset of the payload, and the length without the trailer.
    fn lengths(&self) -> Result<(u32, u32), SendError> {
        let offset = self.header_len()?.checked_add(DESCRIPTOR).ok_or(SendError::TooLong)?;
        let payload = u32::try_from(self.payload.len()).ok().and_then(|len| len.checked_next_multiple_of(8));
        let len = payload.and_then(|len| len.checked_add(offset)).ok_or(SendError::TooLong)?;
        // The descriptor counts 8 bytes in 16 bits.
        if len / 8 > u16::MAX.into() { Err(SendError::TooLong) } else { Ok((offset, len)) }
    }
}

/// Reason why a packet was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// There is no room now for a packet of this many bytes. [`Sender::wait_for`] asks the host for a signal.
    Full(u32),
    /// The ring can never hold the packet, or it is longer than packets can be (524,280 bytes).
    TooLong,
    /// The data have no bytes, or more than there are pages.
    Data,
    /// The host has corrupted the ring.
    Ring(RingError),
}

impl From<RingError> for SendError {
    fn from(error: RingError) -> Self {
        Self::Ring(error)
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(bytes) => write!(f, "no room for a packet of {bytes} bytes; wait for a completion"),
            Self::TooLong => f.write_str("packet longer than the ring or than 524,280 bytes; split it"),
            Self::Data => f.write_str("data of 0 bytes, or beyond the last page"),
            Self::Ring(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for SendError {}

/// The guest's position in the ring to the host.
#[derive(Debug)]
pub struct Sender {
    geometry: Geometry,
    next: u32,
    /// The host's `read_index`, as last judged.
    read: u32,
    /// The host was asked for a signal.
    waiting: bool,
    dead: Option<RingError>,
}

impl Sender {
    /// Begins with an empty ring, which the host does not know yet.
    ///
    /// # Errors
    ///
    /// [`RingError::Pages`].
    pub fn new<A: Area + ?Sized>(area: &A) -> Result<Self, RingError> {
        let geometry = Geometry::new(area.pages())?;
        super::clear(area);
        area.store(FEATURES, RingFeatures(0).with_pending_send_size(true).0);
        Ok(Self { geometry, next: 0, read: 0, waiting: false, dead: None })
    }

    /// Returns the error after which the ring is dead.
    #[must_use]
    pub fn dead(&self) -> Option<RingError> {
        self.dead
    }

    fn judged<T>(&mut self, result: Result<T, RingError>) -> Result<T, RingError> {
        if let Err(error) = result {
            self.dead = Some(error);
        }
        result
    }

    /// Looks at the host's index. It may move forward only, and not beyond the guest's.
    fn look<A: Area + ?Sized>(&mut self, area: &A) -> Result<(), RingError> {
        self.dead.map_or(Ok(()), Err)?;
        // Acquire: what is written over was read before this.
        let index = area.load(READ_INDEX);
        let judged = self.geometry.index(index).and_then(|read| {
            let unread = self.geometry.distance(self.read, self.next);
            let passed = self.geometry.distance(self.read, read);
            if passed > unread { Err(self.geometry.error(read)) } else { Ok(read) }
        });
        self.read = self.judged(judged)?;
        Ok(())
    }

    /// Returns the bytes of packets, with their trailers, that fit now. 8 bytes always stay free: a full ring would
    /// look like an empty one.
    ///
    /// # Errors
    ///
    /// [`RingError`]: the ring is dead.
    pub fn free<A: Area + ?Sized>(&mut self, area: &A) -> Result<u32, RingError> {
        self.look(area)?;
        Ok(self.room())
    }

    fn room(&self) -> u32 {
        self.geometry.size - self.geometry.distance(self.read, self.next) - 8
    }

    /// Puts a packet into the ring. Returns true if the host must be signalled: the ring was empty, and the host does
    /// not mask its interrupts.
    ///
    /// # Errors
    ///
    /// [`SendError`]: nothing was sent.
    pub fn send<A: Area + ?Sized>(&mut self, area: &A, packet: &Outgoing<'_>) -> Result<bool, SendError> {
        let (offset, len) = packet.lengths()?;
        let total = len + PACKET_TRAILER_SIZE;
        if total > self.geometry.size - 8 {
            return Err(SendError::TooLong);
        }
        if total > self.room() || self.dead.is_some() {
            self.look(area)?;
        }
        if total > self.room() {
            return Err(SendError::Full(total));
        }
        let descriptor = PacketDescriptor {
            packet_type: packet.kind,
            data_offset8: (offset / 8) as u16,
            length8: (len / 8) as u16,
            flags: packet.flags,
            transaction_id: packet.transaction,
        };
        let mut writer = Writer { area, geometry: self.geometry, at: self.next };
        let words: [u64; DESCRIPTOR as usize / 8] = zerocopy::transmute!(descriptor);
        words.into_iter().for_each(|word| writer.word(word));
        if packet.kind == PacketType::DATA_USING_GPA_DIRECT {
            writer.ranges(packet.ranges)?;
        }
        writer.payload(packet.payload);
        writer.word((u64::from(self.next) << 32).to_le());
        let end = writer.at;

        if core::mem::take(&mut self.waiting) {
            area.store(PENDING_SEND_SIZE, 0);
        }
        let start = core::mem::replace(&mut self.next, end);
        // Release: the packet is written before this.
        area.store(WRITE_INDEX, end);
        area.fence();
        let masked = area.load(INTERRUPT_MASK) != 0;
        // The packet is sent, even if the host's index is found to be wrong now: the next call tells.
        let seen = self.look(area).is_ok();
        Ok(!masked && (!seen || self.read == start))
    }

    /// Asks the host for a signal once `bytes` bytes are free; the next packet takes the request back. Returns true if
    /// they are free already, when no signal may come.
    ///
    /// Some hosts and guests signal late (Linux before 3.11, OpenVMM pull requests 1939 and 1970): look again now and
    /// then.
    ///
    /// # Errors
    ///
    /// [`RingError`]: the ring is dead.
    pub fn wait_for<A: Area + ?Sized>(&mut self, area: &A, bytes: u32) -> Result<bool, RingError> {
        self.waiting = true;
        // The host counts the 8 bytes that stay free as room, and signals when the room exceeds the size.
        area.store(PENDING_SEND_SIZE, bytes.min(self.geometry.size - 8));
        area.fence();
        Ok(self.free(area)? >= bytes)
    }
}

/// Writer of a packet from front to back.
struct Writer<'a, A: ?Sized> {
    area: &'a A,
    geometry: Geometry,
    at: u32,
}

impl<'a, A: Area + ?Sized> Writer<'a, A> {
    fn word(&mut self, word: u64) {
        self.geometry.put(self.area, self.at, word);
        self.at = self.geometry.advance(self.at, WORD);
    }

    /// Writes the payload, with zeros up to a multiple of 8.
    fn payload(&mut self, payload: &[u8]) {
        let (whole, rest) = payload.split_at(payload.len() & !7);
        self.geometry.write(self.area, self.at, whole);
        // The packet fits in the ring, and so does each part of it.
        self.at = self.geometry.advance(self.at, whole.len() as u32);
        if !rest.is_empty() {
            let mut last = [0; 8];
            last.iter_mut().zip(rest).for_each(|(place, byte)| *place = *byte);
            self.word(u64::from_ne_bytes(last));
        }
    }

    fn ranges(&mut self, ranges: &[Data<'_>]) -> Result<(), SendError> {
        // A reserved word, then the number of ranges.
        self.word(((ranges.len() as u64) << 32).to_le());
        for range in ranges {
            let (first, offset, pages) = range.span().ok_or(SendError::Data)?;
            self.word((u64::from(range.len()) | u64::from(offset) << 32).to_le());
            for n in 0..pages as usize {
                let pfn = first.checked_add(n).and_then(|n| range.pfn(n));
                self.word(pfn.ok_or(SendError::Data)?.to_le());
            }
        }
        Ok(())
    }
}
