//! Page lists that were judged: what a device, or the back end behind it, may touch of the guest's memory.

use core::fmt;
use hv_memory::{BadAddress, GuestMemory};

pub(crate) const PAGE: u64 = 4096;

/// Adjacent bytes of guest memory that were judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    gpa: u64,
    len: u64,
}

impl Segment {
    pub(crate) const EMPTY: Self = Self { gpa: 0, len: 0 };

    /// Guest physical address of the first byte.
    #[must_use]
    pub const fn gpa(&self) -> u64 {
        self.gpa
    }

    /// Number of bytes, never 0.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a segment is never empty")]
    pub const fn len(&self) -> u64 {
        self.len
    }
}

/// Why a guest's ranges were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PagesError {
    /// The ranges do not fit into the packet that lists them.
    Truncated,
    /// A range without bytes.
    Empty,
    /// A range that begins behind its first page.
    Offset,
    /// More pages than the device takes in one request.
    TooMany,
    /// A page that is not guest memory.
    NotMemory,
    /// No GPADL with that name is ready on the device's channels.
    UnknownGpadl,
    /// The part lies beyond the GPADL's end.
    Beyond,
}

impl fmt::Display for PagesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "the ranges are longer than the packet",
            Self::Empty => "a range has no bytes",
            Self::Offset => "a range begins 4096 bytes or more into its first page",
            Self::TooMany => "more pages than the device takes in one request",
            Self::NotMemory => "a page is not guest memory",
            Self::UnknownGpadl => "the channel has no such GPADL that is ready",
            Self::Beyond => "the part lies beyond the end of the GPADL",
        })
    }
}

impl core::error::Error for PagesError {}

/// A judged list of guest memory: every byte is the guest's own RAM, and named by the guest for this request.
///
/// Only this crate makes one. The guest can write to the bytes at any time, so what is read from them has to be judged
/// again; the addresses stay.
#[derive(Clone, Copy, Debug)]
pub struct Pages<'a> {
    segments: &'a [Segment],
    /// Bytes of the first segment before the first byte of the list.
    skip: u64,
    len: u64,
}

impl<'a> Pages<'a> {
    /// The list of no bytes.
    pub const EMPTY: Self = Self { segments: &[], skip: 0, len: 0 };

    pub(crate) fn new(segments: &'a [Segment]) -> Self {
        Self { segments, skip: 0, len: segments.iter().map(|s| s.len).sum() }
    }

    /// Number of bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Returns true if the list has no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the `len` bytes from byte `offset` on, or `None` if the list is shorter.
    #[must_use]
    pub fn slice(&self, offset: u64, len: u64) -> Option<Self> {
        if offset.checked_add(len)? > self.len {
            return None;
        }
        if len == 0 {
            return Some(Self::EMPTY);
        }
        let (mut segments, mut skip) = (self.segments, self.skip + offset);
        while let Some((first, rest)) = segments.split_first() {
            if skip < first.len {
                break;
            }
            skip -= first.len;
            segments = rest;
        }
        Some(Self { segments, skip, len })
    }

    /// Returns the segments, in order. Neighbours are joined.
    #[must_use]
    pub const fn segments(&self) -> Segments<'a> {
        Segments { pages: *self }
    }

    /// Copies bytes from byte `offset` on into `into`.
    ///
    /// # Errors
    /// [`BadAddress`] if the list is shorter, or its memory is gone.
    pub fn read<M: GuestMemory>(&self, memory: &M, offset: u64, into: &mut [u8]) -> Result<(), BadAddress> {
        self.parts(offset, into.len(), |gpa, part| memory.read(gpa, &mut into[part]))
    }

    /// Copies `from` to byte `offset` on.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn write<M: GuestMemory>(&self, memory: &M, offset: u64, from: &[u8]) -> Result<(), BadAddress> {
        self.parts(offset, from.len(), |gpa, part| memory.write(gpa, &from[part]))
    }

    fn parts(
        &self,
        offset: u64,
        len: usize,
        mut access: impl FnMut(u64, core::ops::Range<usize>) -> Result<(), BadAddress>,
    ) -> Result<(), BadAddress> {
        let mut done = 0;
        for segment in self.slice(offset, len as u64).ok_or(BadAddress)?.segments() {
            let mut gpa = segment.gpa;
            let end = gpa + segment.len;
            // No access crosses a page, as none does elsewhere.
            while gpa < end {
                let part = (PAGE - gpa % PAGE).min(end - gpa);
                access(gpa, done..done + part as usize)?;
                done += part as usize;
                gpa += part;
            }
        }
        Ok(())
    }
}

/// The segments of [`Pages`].
#[derive(Clone, Debug)]
pub struct Segments<'a> {
    pages: Pages<'a>,
}

impl Iterator for Segments<'_> {
    type Item = Segment;

    fn next(&mut self) -> Option<Segment> {
        if self.pages.len == 0 {
            return None;
        }
        let (first, rest) = self.pages.segments.split_first()?;
        let len = (first.len - self.pages.skip).min(self.pages.len);
        let gpa = first.gpa + self.pages.skip;
        self.pages = Pages { segments: rest, skip: 0, len: self.pages.len - len };
        Some(Segment { gpa, len })
    }
}

/// A list in the making.
#[derive(Debug)]
pub(crate) struct Builder<'a> {
    segments: &'a mut [Segment],
    pub(crate) count: usize,
    /// Pages so far, before neighbours were joined: what the capacity bounds.
    pages: usize,
}

impl<'a> Builder<'a> {
    /// Goes on behind the first `count` segments, of which each counts as a page.
    pub(crate) fn new(segments: &'a mut [Segment], count: usize) -> Self {
        Self { segments, count, pages: count }
    }

    /// Checks that so many more pages fit, before one of them is looked at.
    pub(crate) fn check_room(&self, pages: u64) -> Result<(), PagesError> {
        let room = (self.segments.len() - self.pages) as u64;
        if pages > room { Err(PagesError::TooMany) } else { Ok(()) }
    }

    /// Judges `len` bytes at `offset` of a page, which do not go beyond it, and appends them.
    pub(crate) fn page<M: GuestMemory>(
        &mut self,
        memory: &M,
        pfn: u64,
        offset: u64,
        len: u64,
    ) -> Result<(), PagesError> {
        let page = pfn.checked_mul(PAGE).ok_or(PagesError::NotMemory)?;
        if !memory.contains(page, PAGE) {
            return Err(PagesError::NotMemory);
        }
        self.check_room(1)?;
        self.pages += 1;
        let gpa = page + offset;
        // Judged before it is joined.
        if let Some(last) = self.count.checked_sub(1).and_then(|last| self.segments.get_mut(last))
            && last.gpa + last.len == gpa
        {
            last.len += len;
            return Ok(());
        }
        if let Some(next) = self.segments.get_mut(self.count) {
            *next = Segment { gpa, len };
            self.count += 1;
        }
        Ok(())
    }
}
