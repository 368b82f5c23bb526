//! Validated page lists: the guest memory that a device, or its back end, may access.

use core::fmt;
use hv_memory::{BadAddress, GuestMemory};

pub(crate) const PAGE: u64 = 4096;

/// Adjacent bytes of validated guest memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Segment {
    gpa: u64,
    len: u64,
}

impl Segment {
    pub(crate) const EMPTY: Self = Self { gpa: 0, len: 0 };

    /// Returns the guest physical address of the first byte.
    #[must_use]
    pub const fn gpa(&self) -> u64 {
        self.gpa
    }

    /// Returns the number of bytes, never 0.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a segment is never empty")]
    pub const fn len(&self) -> u64 {
        self.len
    }
}

/// Reason why a guest's ranges were rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PagesError {
    /// The ranges do not fit into the packet that lists them.
    Truncated,
    /// A range without bytes.
    Empty,
    /// A range starts beyond its first page.
    Offset,
    /// More pages than the device accepts in one request.
    TooMany,
    /// A page that is not guest memory.
    NotMemory,
    /// There is no such GPADL ready on the device's channels.
    UnknownGpadl,
    /// The part is beyond the GPADL's end.
    Beyond,
}

impl fmt::Display for PagesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "the ranges are longer than the packet",
            Self::Empty => "a range has no bytes",
            Self::Offset => "a range begins 4096 bytes or more into its first page",
            Self::TooMany => "more pages than the device accepts in one request",
            Self::NotMemory => "a page is not guest memory",
            Self::UnknownGpadl => "the channel has no such GPADL, or it is not ready",
            Self::Beyond => "the part lies beyond the end of the GPADL",
        })
    }
}

impl core::error::Error for PagesError {}

/// A validated list of guest memory: every byte is in the guest's own RAM, and listed by the guest for this request.
///
/// Only this crate creates one. The guest can write to the bytes at any time, so validate what is read from them; the
/// addresses do not change.
#[derive(Clone, Copy, Debug)]
pub struct Pages<'a> {
    segments: &'a [Segment],
    /// Offset of the list's first byte in the first segment.
    skip: u64,
    len: u64,
}

impl<'a> Pages<'a> {
    /// The list of no bytes.
    pub const EMPTY: Self = Self { segments: &[], skip: 0, len: 0 };

    pub(crate) fn new(segments: &'a [Segment]) -> Self {
        Self { segments, skip: 0, len: segments.iter().map(|s| s.len).sum() }
    }

    /// Returns `len` bytes from byte `offset` of these segments on; no bytes at all if they have fewer.
    pub(crate) fn part(segments: &'a [Segment], offset: u64, len: u64) -> Self {
        match segments {
            [only] if offset.checked_add(len).is_some_and(|end| end <= only.len) => {
                Self { segments, skip: offset, len }
            }
            _ => Self::new(segments).slice(offset, len).unwrap_or(Self::EMPTY),
        }
    }

    /// Returns the number of bytes.
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

    /// Iterates over the segments in order. Adjacent ones are joined.
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
    /// The same as for [`read`](Self::read).
    pub fn write<M: GuestMemory>(&self, memory: &M, offset: u64, from: &[u8]) -> Result<(), BadAddress> {
        self.parts(offset, from.len(), |gpa, part| memory.write(gpa, &from[part]))
    }

    fn parts(
        &self,
        offset: u64,
        len: usize,
        mut access: impl FnMut(u64, core::ops::Range<usize>) -> Result<(), BadAddress>,
    ) -> Result<(), BadAddress> {
        let bytes = len as u64;
        if offset.checked_add(bytes).is_none_or(|end| end > self.len) {
            return Err(BadAddress);
        }
        if len == 0 {
            return Ok(());
        }
        // Most parts are short, and in the first page.
        if let [first, ..] = self.segments {
            let at = self.skip + offset;
            let gpa = first.gpa.wrapping_add(at);
            if first.len.checked_sub(at).is_some_and(|left| bytes <= left.min(PAGE - gpa % PAGE)) {
                return access(gpa, 0..len);
            }
        }
        let part = self.slice(offset, bytes).ok_or(BadAddress)?;
        let mut done = 0;
        for segment in part.segments() {
            let mut gpa = segment.gpa;
            let end = gpa + segment.len;
            // No access crosses a page, here as elsewhere.
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

/// An iterator over the segments of [`Pages`].
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

/// A list being built.
#[derive(Debug)]
pub(crate) struct Builder<'a> {
    segments: &'a mut [Segment],
    pub(crate) count: usize,
    /// Number of pages so far, before adjacent ones were joined: limited by the capacity.
    pages: usize,
}

impl<'a> Builder<'a> {
    /// Continues after the first `count` segments, each of which counts as a page.
    pub(crate) fn new(segments: &'a mut [Segment], count: usize) -> Self {
        Self { segments, count, pages: count }
    }

    /// Checks that this many more pages fit, before accessing any of them.
    pub(crate) fn check_room(&self, pages: u64) -> Result<(), PagesError> {
        let room = (self.segments.len() - self.pages) as u64;
        if pages > room { Err(PagesError::TooMany) } else { Ok(()) }
    }

    /// Validates `len` bytes at `offset` of a page, which do not extend beyond it, and appends them.
    pub(crate) fn page<M: GuestMemory>(
        &mut self,
        memory: &M,
        pfn: u64,
        offset: u64,
        len: u64,
    ) -> Result<(), PagesError> {
        // Not a checked multiplication, which takes two.
        let page = pfn << PAGE.trailing_zeros();
        if page >> PAGE.trailing_zeros() != pfn || !memory.contains(page, PAGE) {
            return Err(PagesError::NotMemory);
        }
        self.check_room(1)?;
        self.pages += 1;
        let gpa = page + offset;
        // Validated before it is joined.
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
