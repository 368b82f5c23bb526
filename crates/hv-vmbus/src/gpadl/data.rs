//! The memory of a GPADL, as bytes.

use super::{Gpadl, Pool, split_range};
use crate::pages::{Builder, PAGE, PagesError};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use hv_memory::{BadAddress, GuestMemory};

impl<'a> Pool<'a> {
    /// Returns the number of bytes in a list's ranges.
    pub(crate) fn bytes(self, gpadl: &Gpadl) -> u64 {
        self.ranges(gpadl).map(|(bytes, ..)| bytes).sum()
    }

    /// Iterates over length, offset and page numbers of the ranges.
    fn ranges(self, gpadl: &Gpadl) -> impl Iterator<Item = (u64, u64, &'a [AtomicU64])> {
        let mut words = self.words(gpadl);
        (0..gpadl.ranges).map_while(move |_| {
            let (range, rest) = words.split_first()?;
            let (bytes, offset) = split_range(range.load(Relaxed));
            let count = usize::try_from((offset + bytes).div_ceil(PAGE)).ok()?;
            let (pages, rest) = rest.split_at_checked(count)?;
            words = rest;
            Some((bytes, offset, pages))
        })
    }

    /// Calls `each` for the pages of `len` bytes from byte `from` of a list on: page number, offset in it, and length.
    pub(super) fn walk<E>(
        self,
        gpadl: &Gpadl,
        from: u64,
        len: u64,
        beyond: E,
        mut each: impl FnMut(u64, u64, u64) -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut from, mut left) = (from, len);
        for (bytes, offset, pages) in self.ranges(gpadl) {
            if from >= bytes {
                from -= bytes;
                continue;
            }
            let mut at = offset + from;
            let end = at + left.min(bytes - from);
            while at < end {
                let part = (PAGE - at % PAGE).min(end - at);
                let page = usize::try_from(at / PAGE).ok().and_then(|page| pages.get(page));
                let Some(page) = page else { return Err(beyond) };
                each(page.load(Relaxed), at % PAGE, part)?;
                at += part;
                left -= part;
            }
            from = 0;
            if left == 0 {
                break;
            }
        }
        if left == 0 { Ok(()) } else { Err(beyond) }
    }

    /// Validates `len` bytes from byte `from` of a list on, and appends them to `into`.
    pub(crate) fn slice<M: GuestMemory>(
        self,
        gpadl: &Gpadl,
        from: u64,
        len: u64,
        memory: &M,
        into: &mut Builder<'_>,
    ) -> Result<(), PagesError> {
        self.walk(gpadl, from, len, PagesError::Beyond, |pfn, offset, part| {
            into.page(memory, pfn, offset, part)
        })
    }

    /// Copies bytes from byte `from` of a list on into `into`.
    pub(crate) fn read<M: GuestMemory>(
        self,
        gpadl: &Gpadl,
        from: u64,
        memory: &M,
        into: &mut [u8],
    ) -> Result<(), BadAddress> {
        let mut done = 0;
        self.walk(gpadl, from, into.len() as u64, BadAddress, |pfn, offset, part| {
            let part = part as usize;
            memory.read(pfn * PAGE + offset, &mut into[done..done + part])?;
            done += part;
            Ok(())
        })
    }

    /// Copies `bytes` to byte `from` of a list on.
    pub(crate) fn write<M: GuestMemory>(
        self,
        gpadl: &Gpadl,
        from: u64,
        memory: &M,
        bytes: &[u8],
    ) -> Result<(), BadAddress> {
        let mut done = 0;
        self.walk(gpadl, from, bytes.len() as u64, BadAddress, |pfn, offset, part| {
            let part = part as usize;
            memory.write(pfn * PAGE + offset, &bytes[done..done + part])?;
            done += part;
            Ok(())
        })
    }
}
