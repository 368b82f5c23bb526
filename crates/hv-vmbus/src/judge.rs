//! Validation of the ranges of a packet that lists pages.

use crate::packet::Data;
use crate::pages::{Builder, PAGE, PagesError, Segment};
use crate::protocol::{GpaDirectPacket, PacketDescriptor};
use crate::ring::{Packet, PageNumber, Ring, RingError};
use core::mem::offset_of;
use hv_memory::GuestMemory;

/// Offset of the count of ranges, from the end of the descriptor, and of the ranges.
const COUNT: usize = offset_of!(GpaDirectPacket, range_count) - size_of::<PacketDescriptor>();
const RANGES: usize = offset_of!(GpaDirectPacket, first_range) - size_of::<PacketDescriptor>();
const _: () =
    assert!(COUNT == 4 && RANGES == 8, "the count is the high half of the first word, and ranges follow");

/// Validated ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ranges {
    pub(crate) data: Data,
    pub(crate) count: u32,
}

/// Reads the ranges of a packet once, and adds the memory that they list to `list`.
///
/// # Errors
/// The ring is corrupt. Inner error: the ranges are invalid, or more than `list` can hold.
pub(crate) fn ranges<M: GuestMemory, W: PageNumber>(
    ring: &Ring<'_, M, W>,
    packet: &Packet,
    memory: &M,
    list: &mut [Segment],
) -> Result<Result<Ranges, PagesError>, RingError> {
    let mut header = Header { ring, at: packet.header_at(ring), left: packet.header_len() / 8 };
    let Some(first) = header.word()? else { return Ok(Err(PagesError::Truncated)) };
    let count = (first >> 32) as u32;
    let mut builder = Builder::new(list, 0);
    let mut total = 0;
    for _ in 0..count {
        // A range has at least one page, so the builder's room bounds the number of iterations.
        let Some(range) = header.word()? else { return Ok(Err(PagesError::Truncated)) };
        let (len, offset) = (range & 0xffff_ffff, range >> 32);
        if len == 0 {
            return Ok(Err(PagesError::Empty));
        }
        if offset >= PAGE {
            return Ok(Err(PagesError::Offset));
        }
        let pages = (offset + len).div_ceil(PAGE);
        if let Err(error) = builder.check_room(pages) {
            return Ok(Err(error));
        }
        if u64::from(header.left) < pages {
            return Ok(Err(PagesError::Truncated));
        }
        if let Err(error) = header.pages(memory, offset, len, &mut builder)? {
            return Ok(Err(error));
        }
        total += len;
    }
    Ok(Ok(Ranges { data: Data { segments: builder.count, all: total, offset: 0, len: total }, count }))
}

/// A reader of the words between a packet's descriptor and its payload, from front to back.
struct Header<'a, M, W> {
    ring: &'a Ring<'a, M, W>,
    /// Where the next word is.
    at: u32,
    /// Number of words that were not read yet.
    left: u32,
}

impl<M: GuestMemory, W: PageNumber> Header<'_, M, W> {
    /// Returns the next word, or `None` if there is none.
    #[inline(always)]
    fn word(&mut self) -> Result<Option<u64>, RingError> {
        if self.left == 0 {
            return Ok(None);
        }
        let word = self.ring.word(self.at)?;
        self.left -= 1;
        self.at = self.ring.advance(self.at, 8);
        Ok(Some(word))
    }

    /// Reads the page numbers of a range.
    fn pages(
        &mut self,
        memory: &M,
        offset: u64,
        len: u64,
        builder: &mut Builder<'_>,
    ) -> Result<Result<(), PagesError>, RingError> {
        let (mut at, end) = (offset, offset + len);
        while at < end {
            let Some(pfn) = self.word()? else { return Ok(Err(PagesError::Truncated)) };
            let within = at % PAGE;
            let bytes = (PAGE - within).min(end - at);
            if let Err(error) = builder.page(memory, pfn, within, bytes) {
                return Ok(Err(error));
            }
            at += bytes;
        }
        Ok(Ok(()))
    }
}
