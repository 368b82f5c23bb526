//! Rings: packets between guest and host in pages described by a GPADL.
//!
//! A [`Ring`] is a view of a ring's pages. [`Consumer`] and [`Producer`] are the positions of the two sides, in private
//! memory, so the other side can move only its own index. Nothing written by the other side is trusted: a wrong index
//! or a wrong length is a [`RingError`], after which the ring is unusable.
//!
//! Order of accesses (Linux drivers/hv/ring_buffer.c; OpenVMM vmbus_ring):
//!
//! * The sender writes the packet, then stores `write_index` with release. The receiver loads it with acquire before it
//!   reads the packet.
//! * The receiver reads the packet, then stores `read_index` with release. The sender loads it with acquire before it
//!   writes over the packet.
//! * The sender stores `write_index`, executes a full barrier, then reads `interrupt_mask` and `read_index`: it signals
//!   if the ring was empty. The receiver stores `read_index`, or clears `interrupt_mask`, executes a full barrier, then
//!   reads `write_index` again. So one of them sees the other's store, and no packet is missed. While the receiver
//!   takes packets, `read_index` stays where it was, so the sender does not signal, and the receiver needs no mask for
//!   that.
//! * The same holds for `pending_send_size` and `read_index`, with the sides swapped.

mod consumer;
mod producer;
mod view;

pub use consumer::{Committed, Consumer, Packet};
pub(crate) use producer::Draft;
pub use producer::{Outgoing, Producer, PushError};
pub use view::Ring;

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use hv_memory::BadAddress;

/// An entry of a list of page numbers.
pub trait PageNumber {
    /// Returns the number of a 4096-byte page.
    fn pfn(&self) -> u64;
}

impl PageNumber for u64 {
    #[inline]
    fn pfn(&self) -> u64 {
        *self
    }
}

impl PageNumber for AtomicU64 {
    #[inline]
    fn pfn(&self) -> u64 {
        self.load(Ordering::Relaxed)
    }
}

/// A ring that the other side has corrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RingError {
    /// Fewer than two pages, or more than an index can count.
    Size {
        /// Number of pages.
        pages: usize,
    },
    /// A page number that is not guest memory.
    Memory,
    /// An index that is not a multiple of 8, or beyond the data.
    Index {
        /// The index.
        index: u32,
        /// Bytes of data.
        size: u32,
    },
    /// A packet's length is less than its descriptor's, or more than was written.
    Length {
        /// Claimed length, without the trailer.
        len: u32,
        /// Number of bytes written.
        available: u32,
    },
    /// A packet's payload begins within its descriptor or after its end.
    DataOffset {
        /// Claimed offset.
        offset: u32,
        /// Claimed length.
        len: u32,
    },
}

impl From<BadAddress> for RingError {
    fn from(_: BadAddress) -> Self {
        Self::Memory
    }
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size { pages } => write!(f, "a ring of {pages} pages"),
            Self::Memory => f.write_str("a page of the ring is not guest memory"),
            Self::Index { index, size } => write!(f, "index {index:#x} in a ring of {size:#x} bytes"),
            Self::Length { len, available } => {
                write!(f, "a packet claims {len:#x} bytes where {available:#x} were written")
            }
            Self::DataOffset { offset, len } => {
                write!(f, "a packet of {len:#x} bytes claims its payload at {offset:#x}")
            }
        }
    }
}

impl core::error::Error for RingError {}
