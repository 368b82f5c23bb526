//! Validation of the ranges of a packet that lists pages.

use crate::packet::Data;
use crate::pages::{Builder, PAGE, PagesError, Segment};
use crate::protocol::{GpaDirectPacket, PacketDescriptor};
use crate::ring::{Packet, PageNumber, Ring, RingError};
use core::mem::offset_of;
use hv_memory::GuestMemory;
use zerocopy::IntoBytes;

/// Offset of the count of ranges, from the end of the descriptor, and of the ranges.
const COUNT: usize = offset_of!(GpaDirectPacket, range_count) - size_of::<PacketDescriptor>();
const RANGES: usize = offset_of!(GpaDirectPacket, first_range) - size_of::<PacketDescriptor>();
const _: () =
    assert!(COUNT == 4 && RANGES == 8, "the count is the high half of the first word, and ranges follow");
/// Words that are read at a time.
const CHUNK: usize = 8;

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
    let mut header = Header { ring, packet, at: 0, words: [0; CHUNK], used: 0, filled: 0 };
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
        if u64::from(header.left()) < pages * 8 {
            return Ok(Err(PagesError::Truncated));
        }
        if let Err(error) = header.pages(memory, offset, len, &mut builder)? {
            return Ok(Err(error));
        }
        total += len;
    }
    Ok(Ok(Ranges { data: Data { segments: builder.count, offset: 0, len: total }, count }))
}

/// A reader of the words between a packet's descriptor and its payload, from front to back.
struct Header<'a, M, W> {
    ring: &'a Ring<'a, M, W>,
    packet: &'a Packet,
    /// Bytes that were read.
    at: u32,
    /// The last of them: those before `used` were returned.
    words: [u64; CHUNK],
    used: usize,
    filled: usize,
}

impl<M: GuestMemory, W: PageNumber> Header<'_, M, W> {
    /// Returns the number of bytes that [`word`](Self::word) has not returned yet.
    fn left(&self) -> u32 {
        self.packet.header_len().saturating_sub(self.at) + (self.filled - self.used) as u32 * 8
    }

    /// Returns the next word, or `None` if there is none.
    #[inline(always)]
    fn word(&mut self) -> Result<Option<u64>, RingError> {
        if self.used == self.filled {
            self.fill()?;
            if self.filled == 0 {
                return Ok(None);
            }
        }
        let word = self.words.get(self.used).map(|word| u64::from_le(*word));
        self.used += 1;
        Ok(word)
    }

    /// Reads the next words, as many as there are and fit.
    #[inline(never)]
    fn fill(&mut self) -> Result<(), RingError> {
        let words = (self.packet.header_len().saturating_sub(self.at) as usize / 8).min(CHUNK);
        self.packet.read_header(self.ring, self.at, self.words[..words].as_mut_bytes())?;
        self.at += words as u32 * 8;
        (self.used, self.filled) = (0, words);
        Ok(())
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
