//! Rings: packets between guest and host in memory that both write.
//!
//! A ring has a header page and pages of data. [`Sender`] and [`Receiver`] are the positions of the guest in the ring
//! to the host and in the ring from the host. They stand in memory of the guest's own, so the host can move only its
//! own index, and every index, length and offset that it writes is read once and then judged. What is impossible is a
//! [`RingError`], after which the ring is dead: each further call returns the same error.
//!
//! Order of accesses (Linux 6.12, drivers/hv/ring_buffer.c):
//!
//! | sender | receiver |
//! |---|---|
//! | writes the packet | |
//! | `write_index`, with release | loads it with acquire, then reads the packet |
//! | *full barrier* | `read_index`, with release |
//! | loads `interrupt_mask` and `read_index`: signals if not masked and the ring was empty | *full barrier* |
//! | | loads `pending_send_size`: signals if the room passes it now |
//!
//! A receiver that clears its mask, and a sender that sets `pending_send_size`, makes a full barrier and looks again.
//! So one of the two sees the other's store. `tests/loom.rs` explores all orders.

mod packet;
mod receiver;
mod sender;

use core::fmt;
use core::mem::offset_of;
use core::sync::atomic::{Ordering, fence};

use hv_guest::page::Page;
use hv_tlfs::page::SIZE;
use hv_tlfs::vmbus::RingHeader;

pub use packet::{Packet, TransferRanges};
pub use receiver::{Committed, Receiver};
pub use sender::{Outgoing, SendError, Sender};

/// Memory in which a ring lies: the header page first, then the data. All of it may change at any time.
///
/// Implemented by `[Page]`. Another implementation is for proofs about the order of accesses.
pub trait Area {
    /// Returns the number of pages, the header's counted.
    fn pages(&self) -> usize;
    /// Loads a word of the header, with acquire.
    fn load(&self, offset: usize) -> u32;
    /// Stores a word of the header, with release.
    fn store(&self, offset: usize, value: u32);
    /// Reads the word of data at `offset`, a multiple of 8, of page `page`.
    fn word(&self, page: usize, offset: usize) -> u64;
    /// Writes a word of data at `offset`, a multiple of 8, of page `page`.
    fn put(&self, page: usize, offset: usize, word: u64);
    /// Copies data out of page `page`.
    fn read(&self, page: usize, offset: usize, into: &mut [u8]);
    /// Copies data into page `page`.
    fn write(&self, page: usize, offset: usize, from: &[u8]);
    /// Makes a full barrier.
    fn fence(&self);
}

impl Area for [Page] {
    fn pages(&self) -> usize {
        self.len()
    }

    #[inline]
    fn load(&self, offset: usize) -> u32 {
        self.first().and_then(|page| page.load_u32(offset)).unwrap_or(0)
    }

    #[inline]
    fn store(&self, offset: usize, value: u32) {
        if let Some(page) = self.first() {
            page.store_u32(offset, value);
        }
    }

    #[inline]
    fn word(&self, page: usize, offset: usize) -> u64 {
        self.get(page).map_or(0, |page| page.load_word(offset))
    }

    #[inline]
    fn put(&self, page: usize, offset: usize, word: u64) {
        if let Some(page) = self.get(page) {
            page.store_word(offset, word);
        }
    }

    #[inline]
    fn read(&self, page: usize, offset: usize, into: &mut [u8]) {
        if let Some(page) = self.get(page) {
            page.read(offset, into);
        }
    }

    #[inline]
    fn write(&self, page: usize, offset: usize, from: &[u8]) {
        if let Some(page) = self.get(page) {
            page.write(offset, from);
        }
    }

    #[inline]
    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}

const WRITE_INDEX: usize = offset_of!(RingHeader, write_index);
const READ_INDEX: usize = offset_of!(RingHeader, read_index);
const INTERRUPT_MASK: usize = offset_of!(RingHeader, interrupt_mask);
const PENDING_SEND_SIZE: usize = offset_of!(RingHeader, pending_send_size);
const FEATURES: usize = offset_of!(RingHeader, features);

const PAGE: u32 = SIZE as u32;
/// Bytes of a word.
const WORD: u32 = size_of::<u64>() as u32;
/// Bytes of a packet's descriptor.
const DESCRIPTOR: u32 = size_of::<hv_tlfs::vmbus::PacketDescriptor>() as u32;

/// Reason why a ring is dead: the host wrote an invalid value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RingError {
    /// Fewer than two pages, or more than 2 GiB.
    Pages(usize),
    /// An index that is not a multiple of 8, is beyond the data, or passes the guest's own.
    Index {
        /// The index.
        index: u32,
        /// Bytes of data in the ring.
        size: u32,
    },
    /// A packet's length is less than its descriptor's, or more than was written.
    Length {
        /// Length claimed, without the trailer.
        len: u32,
        /// Bytes that were written.
        available: u32,
    },
    /// A packet's payload begins within its descriptor or after its end.
    DataOffset {
        /// Offset claimed.
        offset: u32,
        /// Length claimed.
        len: u32,
    },
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pages(pages) => write!(f, "ring of {pages} pages, expected 2 or more, up to 2 GiB"),
            Self::Index { index, size } => write!(
                f,
                "index {index:#x} from the host in a ring of {size:#x} bytes, expected a multiple of 8 between the indices; close the channel"
            ),
            Self::Length { len, available } => write!(
                f,
                "packet of {len:#x} bytes from the host where {available:#x} were written; close the channel"
            ),
            Self::DataOffset { offset, len } => write!(
                f,
                "payload at {offset:#x} in a packet of {len:#x} bytes from the host; close the channel"
            ),
        }
    }
}

impl core::error::Error for RingError {}

/// The size of a ring's data, and arithmetic on offsets in it.
#[derive(Clone, Copy, Debug)]
struct Geometry {
    size: u32,
}

impl Geometry {
    fn new(pages: usize) -> Result<Self, RingError> {
        let data = pages.checked_sub(1).and_then(|n| u32::try_from(n).ok()).and_then(|n| n.checked_mul(PAGE));
        match data.filter(|size| (1..=1 << 31).contains(size)) {
            Some(size) => Ok(Self { size }),
            None => Err(RingError::Pages(pages)),
        }
    }

    /// Returns the offset `by` bytes behind `at`; both are at most the size, which is at most 2 GiB.
    fn advance(self, at: u32, by: u32) -> u32 {
        let to = at + by;
        if to >= self.size { to - self.size } else { to }
    }

    /// Returns the bytes from `from` forward to `to`.
    fn distance(self, from: u32, to: u32) -> u32 {
        if to >= from { to - from } else { self.size - from + to }
    }

    /// Judges an index.
    fn index(self, index: u32) -> Result<u32, RingError> {
        if index < self.size && index.is_multiple_of(8) { Ok(index) } else { Err(self.error(index)) }
    }

    fn error(self, index: u32) -> RingError {
        RingError::Index { index, size: self.size }
    }

    /// Calls `access` for each part of `len` bytes at `at` that lies in one page: page, offset in it, and the part's
    /// bytes.
    fn parts(self, at: u32, len: usize, mut access: impl FnMut(usize, usize, core::ops::Range<usize>)) {
        let (mut at, mut done) = (at, 0);
        while done < len {
            let offset = at % PAGE;
            let part = (len - done).min((PAGE - offset) as usize);
            access((at / PAGE) as usize + 1, offset as usize, done..done + part);
            done += part;
            // A part is at most a page long.
            at = self.advance(at, part as u32);
        }
    }

    /// Reads a word. Packets are whole words, at multiples of 8: none crosses a page.
    #[inline]
    fn word<A: Area + ?Sized>(self, area: &A, at: u32) -> u64 {
        area.word((at / PAGE) as usize + 1, (at % PAGE) as usize)
    }

    #[inline]
    fn put<A: Area + ?Sized>(self, area: &A, at: u32, word: u64) {
        area.put((at / PAGE) as usize + 1, (at % PAGE) as usize, word);
    }

    fn read<A: Area + ?Sized>(self, area: &A, at: u32, into: &mut [u8]) {
        self.parts(at, into.len(), |page, offset, part| {
            if let Some(into) = into.get_mut(part) {
                area.read(page, offset, into);
            }
        });
    }

    fn write<A: Area + ?Sized>(self, area: &A, at: u32, from: &[u8]) {
        self.parts(at, from.len(), |page, offset, part| {
            if let Some(from) = from.get(part) {
                area.write(page, offset, from);
            }
        });
    }
}

/// Empties a ring before the host is told of it.
pub(crate) fn clear<A: Area + ?Sized>(area: &A) {
    for word in [WRITE_INDEX, READ_INDEX, INTERRUPT_MASK, PENDING_SEND_SIZE, FEATURES] {
        area.store(word, 0);
    }
}
