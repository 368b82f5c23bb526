//! Validation of the ranges of a packet that lists pages.

use crate::packet::Data;
use crate::pages::{Builder, PAGE, PagesError, Segment};
use crate::protocol::{GpaDirectPacket, PacketDescriptor};
use crate::ring::{Packet, PageNumber, Ring, RingError};
use core::mem::offset_of;
use hv_memory::GuestMemory;

/// Offset of the count of ranges, from the end of the descriptor, and of the ranges.
const COUNT: u32 = (offset_of!(GpaDirectPacket, range_count) - size_of::<PacketDescriptor>()) as u32;
const RANGES: u32 = (offset_of!(GpaDirectPacket, first_range) - size_of::<PacketDescriptor>()) as u32;
const _: () = assert!(RANGES == COUNT + 4, "the ranges follow their count");

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
    let mut header = Header { ring, packet, at: COUNT };
    let Some(count) = header.u32()? else { return Ok(Err(PagesError::Truncated)) };
    let mut builder = Builder::new(list, 0);
    let mut total = 0;
    for _ in 0..count {
        // A range has at least one page, so the builder's room bounds the number of iterations.
        let (Some(len), Some(offset)) = (header.u32()?, header.u32()?) else {
            return Ok(Err(PagesError::Truncated));
        };
        let (len, offset) = (u64::from(len), u64::from(offset));
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

/// A reader of the bytes between a packet's descriptor and its payload, from front to back.
struct Header<'a, M, W> {
    ring: &'a Ring<'a, M, W>,
    packet: &'a Packet,
    at: u32,
}

impl<M: GuestMemory, W: PageNumber> Header<'_, M, W> {
    fn left(&self) -> u32 {
        self.packet.header_len().saturating_sub(self.at)
    }

    fn u32(&mut self) -> Result<Option<u32>, RingError> {
        let mut bytes = [0; 4];
        if self.left() < 4 {
            return Ok(None);
        }
        self.packet.read_header(self.ring, self.at, &mut bytes)?;
        self.at += 4;
        Ok(Some(u32::from_le_bytes(bytes)))
    }

    /// Reads the page numbers of a range, in chunks.
    fn pages(
        &mut self,
        memory: &M,
        offset: u64,
        len: u64,
        builder: &mut Builder<'_>,
    ) -> Result<Result<(), PagesError>, RingError> {
        let (mut at, end) = (offset, offset + len);
        let mut bytes = [0; 128];
        while at < end {
            let pages = (end.div_ceil(PAGE) - at / PAGE).min(bytes.len() as u64 / 8) as usize;
            let part = &mut bytes[..pages * 8];
            self.packet.read_header(self.ring, self.at, part)?;
            self.at += part.len() as u32;
            for number in part.chunks_exact(8) {
                let pfn = u64::from_le_bytes(number.try_into().unwrap_or_default());
                let within = at % PAGE;
                let bytes = (PAGE - within).min(end - at);
                if let Err(error) = builder.page(memory, pfn, within, bytes) {
                    return Ok(Err(error));
                }
                at += bytes;
            }
        }
        Ok(Ok(()))
    }
}
