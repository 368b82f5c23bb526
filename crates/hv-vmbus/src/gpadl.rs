//! Page lists that the guest has named, in a pool of fixed size.

use crate::event::Reason;
use crate::image;
use crate::protocol::{ChannelId, GpadlId};
use hv_memory::save::RestoreError;

/// Page numbers have 40 bits: a physical address of the architecture has 52.
const PFN_LIMIT: u64 = 1 << 40;

const PAGE: u64 = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Body messages are missing.
    Filling,
    /// The guest was told that it can be used.
    Ready,
    /// It holds the rings of an open channel.
    InUse,
    /// It does, and the guest wants it back as soon as the channel is closed.
    TearingDown,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Gpadl {
    pub(crate) id: GpadlId,
    pub(crate) channel: ChannelId,
    pub(crate) state: State,
    ranges: u16,
    /// First word in the pool.
    start: usize,
    /// Words in all.
    len: usize,
    /// Words that have come.
    filled: usize,
}

/// The GPADLs of a connection. `WORDS` bounds the sum of their sizes: one word per page and one per range.
#[derive(Clone, Debug)]
pub(crate) struct Gpadls<const GPADLS: usize, const WORDS: usize> {
    entries: [Option<Gpadl>; GPADLS],
    words: [u64; WORDS],
    used: usize,
}

impl<const GPADLS: usize, const WORDS: usize> Gpadls<GPADLS, WORDS> {
    pub(crate) const fn new() -> Self {
        Self { entries: [None; GPADLS], words: [0; WORDS], used: 0 }
    }

    pub(crate) fn clear(&mut self) {
        self.entries = [None; GPADLS];
        self.words.fill(0);
        self.used = 0;
    }

    pub(crate) fn get(&self, id: GpadlId) -> Option<&Gpadl> {
        self.entries.iter().flatten().find(|g| g.id == id)
    }

    pub(crate) fn get_mut(&mut self, id: GpadlId) -> Option<&mut Gpadl> {
        self.entries.iter_mut().flatten().find(|g| g.id == id)
    }

    /// The GPADL that holds a channel's rings.
    pub(crate) fn rings_of(&mut self, channel: ChannelId) -> Option<&mut Gpadl> {
        let rings =
            |g: &&mut Gpadl| g.channel == channel && matches!(g.state, State::InUse | State::TearingDown);
        self.entries.iter_mut().flatten().find(rings)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Gpadl> {
        self.entries.iter().flatten()
    }

    /// The same in the order in which they came: each begins in the pool where the one before it ends.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = &Gpadl> {
        let beginning_at = |start| self.iter().find(|g| g.start == start);
        core::iter::successors(beginning_at(0), move |g| beginning_at(g.start + g.len))
    }

    /// The words of a GPADL, those that have not come included.
    pub(crate) fn words(&self, gpadl: &Gpadl) -> &[u64] {
        &self.words[gpadl.start..gpadl.start + gpadl.len]
    }

    /// Takes a saved GPADL, and returns its words to be filled.
    pub(crate) fn insert(&mut self, gpadl: Gpadl) -> Result<&mut [u64], RestoreError> {
        let Gpadl { len, filled, state, .. } = gpadl;
        if self.get(gpadl.id).is_some() {
            return Err(RestoreError::Invalid("page list, which is there twice,"));
        }
        if len == 0 || filled > len || (filled == len) == (state == State::Filling) {
            return Err(RestoreError::Invalid("length of a page list"));
        }
        if len > WORDS - self.used {
            return Err(RestoreError::NoRoom);
        }
        let slot = self.entries.iter_mut().find(|e| e.is_none()).ok_or(RestoreError::NoRoom)?;
        let start = self.used;
        *slot = Some(Gpadl { start, ..gpadl });
        self.used += len;
        Ok(&mut self.words[start..start + len])
    }

    /// Whether a GPADL that has come completely is one.
    pub(crate) fn is_valid(&self, id: GpadlId) -> bool {
        let whole = |g: &Gpadl| g.state == State::Filling || validate(g.ranges, self.words(g)).is_ok();
        self.get(id).is_some_and(whole)
    }

    /// Begins a GPADL of `bytes` bytes of ranges with the part of them that came with the header. Returns its page
    /// count if that was all.
    pub(crate) fn begin(
        &mut self,
        id: GpadlId,
        channel: ChannelId,
        ranges: u16,
        bytes: u16,
        data: &[u8],
    ) -> Result<Option<u32>, Reason> {
        if self.get(id).is_some() {
            return Err(Reason::DuplicateGpadl);
        }
        let len = usize::from(bytes) / 8;
        if len == 0 || ranges == 0 {
            return Err(Reason::BadRange);
        }
        if len > WORDS - self.used {
            return Err(Reason::NoRoom);
        }
        let slot = self.entries.iter_mut().find(|e| e.is_none()).ok_or(Reason::NoRoom)?;
        *slot = Some(Gpadl { id, channel, state: State::Filling, ranges, start: self.used, len, filled: 0 });
        self.used += len;
        self.append(id, data)
    }

    /// Adds page numbers to a GPADL that is being filled. Returns its page count if these were the last. Bytes beyond
    /// the announced length are ignored: UEFI firmware always posts messages of full length. A GPADL with an error is
    /// forgotten.
    pub(crate) fn append(&mut self, id: GpadlId, data: &[u8]) -> Result<Option<u32>, Reason> {
        let gpadl = self.entries.iter_mut().flatten().find(|g| g.id == id).ok_or(Reason::UnknownGpadl)?;
        if gpadl.state != State::Filling {
            return Err(Reason::GpadlBusy);
        }
        let room = &mut self.words[gpadl.start..gpadl.start + gpadl.len][gpadl.filled..];
        for (word, bytes) in room.iter_mut().zip(data.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
            gpadl.filled += 1;
        }
        if gpadl.filled < gpadl.len {
            return Ok(None);
        }
        gpadl.state = State::Ready;
        let (ranges, words) = (gpadl.ranges, &self.words[gpadl.start..gpadl.start + gpadl.len]);
        match validate(ranges, words) {
            Ok(pages) => Ok(Some(pages)),
            Err(reason) => {
                self.remove(id);
                Err(reason)
            }
        }
    }

    /// Forgets a GPADL, and closes the gap that it leaves in the pool.
    pub(crate) fn remove(&mut self, id: GpadlId) {
        let Some(slot) = self.entries.iter_mut().find(|e| e.is_some_and(|g| g.id == id)) else { return };
        let Some(gone) = slot.take() else { return };
        self.words.copy_within(gone.start + gone.len..self.used, gone.start);
        self.used -= gone.len;
        for gpadl in self.entries.iter_mut().flatten() {
            if gpadl.start > gone.start {
                gpadl.start -= gone.len;
            }
        }
    }

    /// Forgets all GPADLs of a channel.
    pub(crate) fn remove_channel(&mut self, channel: ChannelId) {
        while let Some(id) = self.entries.iter().flatten().find(|g| g.channel == channel).map(|g| g.id) {
            self.remove(id);
        }
    }

    /// The page numbers of a GPADL that is one range of whole pages, as rings are.
    pub(crate) fn whole_pages(&self, id: GpadlId) -> Option<&[u64]> {
        let gpadl = self.get(id)?;
        let (range, pages) = self.words[gpadl.start..gpadl.start + gpadl.len].split_first()?;
        let (bytes, offset) = split_range(*range);
        if gpadl.ranges != 1 || offset != 0 || bytes % PAGE != 0 {
            return None;
        }
        pages.get(..usize::try_from(bytes / PAGE).ok()?)
    }
}

/// Length and offset of a range from its first word.
fn split_range(word: u64) -> (u64, u64) {
    (word & 0xffff_ffff, word >> 32)
}

/// Walks the ranges and returns the number of pages. Words beyond the last range are ignored.
fn validate(ranges: u16, mut words: &[u64]) -> Result<u32, Reason> {
    let mut total = 0;
    for _ in 0..ranges {
        let (range, rest) = words.split_first().ok_or(Reason::BadRange)?;
        let (bytes, offset) = split_range(*range);
        if bytes == 0 || offset >= PAGE {
            return Err(Reason::BadRange);
        }
        let pages = (offset + bytes).div_ceil(PAGE);
        let count = usize::try_from(pages).map_err(|_| Reason::BadRange)?;
        if count > rest.len() || rest[..count].iter().any(|pfn| *pfn >= PFN_LIMIT) {
            return Err(Reason::BadRange);
        }
        total += count;
        words = &rest[count..];
    }
    u32::try_from(total).map_err(|_| Reason::BadRange)
}

image::fields!(Gpadl { id, channel, state, ranges, start, len, filled });
image::variants!(State, "state of a page list" {
    0 => Filling,
    1 => Ready,
    2 => InUse,
    3 => TearingDown,
});

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::vec::Vec;

    const CHANNEL: ChannelId = ChannelId(1);

    /// The words of one range of these pages, as bytes.
    fn list(pages: &[u64]) -> Vec<u8> {
        let range = pages.len() as u64 * PAGE;
        [range].iter().chain(pages).flat_map(|w| w.to_le_bytes()).collect()
    }

    proptest! {
        #[test]
        fn lists_keep_their_pages_while_others_come_and_go(
            steps in vec((0u32..6, 1u64..20, any::<bool>(), any::<u16>()), 0..100),
        ) {
            let mut gpadls = Gpadls::<4, 48>::new();
            let mut model = BTreeMap::new();
            for (id, count, add, seed) in steps {
                let id = GpadlId(id);
                if add {
                    let pages: Vec<u64> = (0..count).map(|i| u64::from(seed) * 64 + i).collect();
                    let words: usize = model.values().map(|p: &Vec<u64>| p.len() + 1).sum();
                    let fits = !model.contains_key(&id) && model.len() < 4 && words + pages.len() < 48;
                    let bytes = list(&pages);
                    let outcome = gpadls.begin(id, CHANNEL, 1, bytes.len() as u16, &bytes);
                    prop_assert_eq!(outcome.is_ok(), fits);
                    if fits {
                        model.insert(id, pages);
                    }
                } else {
                    gpadls.remove(id);
                    model.remove(&id);
                }
                for id in (0..6).map(GpadlId) {
                    prop_assert_eq!(gpadls.whole_pages(id), model.get(&id).map(|p| &p[..]));
                }
            }
        }

        #[test]
        fn any_words_are_a_list_or_an_error(
            ranges in 0u16..4,
            words in vec(prop_oneof![any::<u64>(), 0u64..10_000, (0u64..5).prop_map(|n| n << 32 | 4096)], 0..30),
        ) {
            let mut gpadls = Gpadls::<1, 32>::new();
            let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
            match gpadls.begin(GpadlId(1), CHANNEL, ranges, bytes.len() as u16, &bytes) {
                Ok(Some(pages)) => prop_assert!(pages as usize + usize::from(ranges) <= words.len()),
                Ok(None) => prop_assert!(false, "all words were there"),
                Err(_) => prop_assert!(gpadls.get(GpadlId(1)).is_none()),
            }
        }
    }
}
