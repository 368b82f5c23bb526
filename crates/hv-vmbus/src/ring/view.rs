//! A ring's pages.

use super::{PageNumber, RingError};
use crate::protocol::{RingFeatures, RingHeader};
use core::mem::offset_of;
use hv_memory::GuestMemory;
use zerocopy::IntoBytes;

const PAGE: u32 = 4096;

/// A word of the ring's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    WriteIndex = offset_of!(RingHeader, write_index) as isize,
    ReadIndex = offset_of!(RingHeader, read_index) as isize,
    InterruptMask = offset_of!(RingHeader, interrupt_mask) as isize,
    PendingSendSize = offset_of!(RingHeader, pending_send_size) as isize,
    Features = offset_of!(RingHeader, features) as isize,
}

/// A ring: a header page followed by the data pages, in the order of their page numbers. They need not be contiguous.
#[derive(Debug)]
pub struct Ring<'a, M, W = u64> {
    memory: &'a M,
    /// Address of the header.
    header: u64,
    data: &'a [W],
    size: u32,
}

impl<M, W> Clone for Ring<'_, M, W> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M, W> Copy for Ring<'_, M, W> {}

impl<'a, M: GuestMemory, W: PageNumber> Ring<'a, M, W> {
    /// Creates the ring whose header is the first of these pages. Page numbers count 4096-byte pages.
    ///
    /// # Errors
    /// [`RingError::Size`] if there is no page for data, or data of 2 GiB or more; [`RingError::Memory`] if the header
    /// has no address.
    pub fn new(memory: &'a M, pages: &'a [W]) -> Result<Self, RingError> {
        let error = RingError::Size { pages: pages.len() };
        let (header, data) = pages.split_first().ok_or(error)?;
        // Less than half of what a word can count, so that sums of two offsets, up to the size each, do not overflow.
        let size = u32::try_from(data.len()).ok().and_then(|n| n.checked_mul(PAGE)).filter(|s| *s < 1 << 31);
        match size {
            None | Some(0) => Err(error),
            Some(size) => Ok(Self { memory, header: address(header.pfn())?, data, size }),
        }
    }

    /// Creates a ring that [`new`](Self::new) has judged, from its header's address and the pages of its data.
    #[inline]
    pub(crate) fn judged(memory: &'a M, header: u64, data: &'a [W]) -> Self {
        Self { memory, header, data, size: data.len() as u32 * PAGE }
    }

    /// Returns the address of the header.
    pub(crate) fn header(&self) -> u64 {
        self.header
    }

    /// Returns the size of the data in bytes.
    #[must_use]
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Returns the offset `by` bytes after `at`, wrapping at the end. Both are less than or equal to the size.
    #[inline]
    pub(crate) fn advance(&self, at: u32, by: u32) -> u32 {
        let to = at + by;
        if to >= self.size { to - self.size } else { to }
    }

    /// Returns the number of bytes from `from` forward to `to`.
    pub(super) fn distance(&self, from: u32, to: u32) -> u32 {
        if to >= from { to - from } else { self.size - from + to }
    }

    #[inline]
    pub(super) fn load(&self, word: Word) -> Result<u32, RingError> {
        Ok(self.memory.load_acquire(self.header + word as u64)?)
    }

    #[inline]
    pub(super) fn store(&self, word: Word, value: u32) -> Result<(), RingError> {
        Ok(self.memory.store_release(self.header + word as u64, value)?)
    }

    pub(super) fn fence(&self) {
        self.memory.fence();
    }

    /// Returns a validated index of the header.
    #[inline]
    pub(super) fn index(&self, word: Word) -> Result<u32, RingError> {
        let index = self.load(word)?;
        if index >= self.size || index % 8 != 0 {
            return Err(RingError::Index { index, size: self.size });
        }
        Ok(index)
    }

    /// Returns the features that the sender of this ring announces.
    ///
    /// # Errors
    /// [`RingError::Memory`].
    pub fn features(&self) -> Result<RingFeatures, RingError> {
        Ok(RingFeatures(self.load(Word::Features)?))
    }

    /// Returns the address of the byte at `at`.
    #[inline]
    fn place(&self, at: u32) -> Result<u64, RingError> {
        let page = self.data.get((at / PAGE) as usize).ok_or(RingError::Memory)?;
        Ok(address(page.pfn())? + u64::from(at % PAGE))
    }

    /// Reads 8 bytes at `at`, a multiple of 8: they lie in one page.
    #[inline]
    pub(crate) fn word(&self, at: u32) -> Result<u64, RingError> {
        let mut bytes = [0; 8];
        self.memory.read(self.place(at)?, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Writes 8 bytes at `at`, a multiple of 8.
    #[inline]
    pub(super) fn set_word(&self, at: u32, word: u64) -> Result<(), RingError> {
        Ok(self.memory.write(self.place(at)?, &word.to_le_bytes())?)
    }

    /// Reads 16 bytes at `at`, a multiple of 8: usually they lie in one page.
    #[inline]
    pub(super) fn pair(&self, at: u32) -> Result<[u64; 2], RingError> {
        if at % PAGE == PAGE - 8 {
            return Ok([self.word(at)?, self.word(self.advance(at, 8))?]);
        }
        let mut pair = [0_u64; 2];
        self.memory.read(self.place(at)?, pair.as_mut_bytes())?;
        Ok(pair.map(u64::from_le))
    }

    /// Writes 16 bytes at `at`, a multiple of 8.
    #[inline]
    pub(super) fn set_pair(&self, at: u32, pair: [u64; 2]) -> Result<(), RingError> {
        if at % PAGE == PAGE - 8 {
            self.set_word(at, pair[0])?;
            return self.set_word(self.advance(at, 8), pair[1]);
        }
        Ok(self.memory.write(self.place(at)?, pair.map(u64::to_le).as_bytes())?)
    }

    /// Calls `access` for each part of `len` bytes at `at` that is within one page, with its address and its range in
    /// the whole.
    fn parts(
        &self,
        at: u32,
        len: usize,
        mut access: impl FnMut(u64, core::ops::Range<usize>) -> Result<(), RingError>,
    ) -> Result<(), RingError> {
        let (mut at, mut done) = (at, 0);
        while done < len {
            let part = (len - done).min((PAGE - at % PAGE) as usize);
            access(self.place(at)?, done..done + part)?;
            done += part;
            // A part is at most a page long.
            at = self.advance(at, part as u32);
        }
        Ok(())
    }

    /// Copies data out of the ring from offset `at` on, wrapping at the end.
    pub(super) fn read(&self, at: u32, into: &mut [u8]) -> Result<(), RingError> {
        // Most packets are short, and in one page.
        if is_within_page(at, into.len()) {
            return Ok(self.memory.read(self.place(at)?, into)?);
        }
        self.parts(at, into.len(), |gpa, part| Ok(self.memory.read(gpa, &mut into[part])?))
    }

    /// Copies data into the ring.
    pub(super) fn write(&self, at: u32, from: &[u8]) -> Result<(), RingError> {
        if is_within_page(at, from.len()) {
            return Ok(self.memory.write(self.place(at)?, from)?);
        }
        self.parts(at, from.len(), |gpa, part| Ok(self.memory.write(gpa, &from[part])?))
    }
}

/// Returns the address of a page.
#[inline]
fn address(page: u64) -> Result<u64, RingError> {
    // Not a checked multiplication, which takes two.
    if page >> (u64::BITS - PAGE.trailing_zeros()) == 0 {
        Ok(page << PAGE.trailing_zeros())
    } else {
        Err(RingError::Memory)
    }
}

/// Returns true if there are bytes, all of them in one page.
fn is_within_page(at: u32, len: usize) -> bool {
    len != 0 && len <= (PAGE - at % PAGE) as usize
}

/// Returns true if an offset is a valid position in the data of a ring of this many pages, including the header's.
pub(super) fn is_position(at: u32, pages: usize) -> bool {
    at.is_multiple_of(8) && (at / PAGE) as usize + 1 < pages
}
