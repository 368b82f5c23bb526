//! Page lists established by the guest, in a pool of fixed size.
//!
//! Entries and words are atomics only so that two locks can protect them: to change an entry, the bus's lock is held,
//! and once the entry is ready, the lock of its channel's device as well. So the packet path, which holds only the
//! device's lock, can look up the entries of its own channels; of others it compares only the ids. The locks order all
//! accesses. A list's words do not move until the list is removed.

mod data;
mod save;

use crate::event::{Flaw, Reason};
use crate::pages::PAGE;
use crate::protocol::GpadlId;
use core::ops::Range;
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};
use hv_memory::GuestMemory;

/// Page numbers have 40 bits: a physical address of the architecture has 52.
const PFN_LIMIT: u64 = 1 << 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Body messages are missing.
    Filling = 1,
    /// The guest was told that it is ready.
    Ready = 2,
    /// It contains the rings of an open channel.
    Rings = 3,
}

/// What to do with a list as soon as it is neither held nor used as rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing.
    Stay = 0,
    /// The guest is told that it is torn down, and it is removed.
    TearDown = 1,
    /// It is removed.
    Drop = 2,
}

/// The current state of a list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gpadl {
    pub(crate) id: GpadlId,
    /// Number of its channel.
    pub(crate) channel: u32,
    pub(crate) state: State,
    pub(crate) fate: Fate,
    ranges: u32,
    /// First word in the pool.
    start: usize,
    /// Total number of words.
    len: usize,
    /// Number of words received.
    filled: usize,
    /// Number of requests in flight that use it.
    holds: u32,
}

#[derive(Debug)]
pub(crate) struct Entry {
    /// Channel in the upper, id in the lower half; 0 is not an entry, since no channel has the number 0.
    key: AtomicU64,
    /// State, with the fate in the second byte.
    state: AtomicU32,
    ranges: AtomicU32,
    start: AtomicU32,
    len: AtomicU32,
    filled: AtomicU32,
    holds: AtomicU32,
}

impl Entry {
    const fn new() -> Self {
        Self {
            key: AtomicU64::new(0),
            state: AtomicU32::new(0),
            ranges: AtomicU32::new(0),
            start: AtomicU32::new(0),
            len: AtomicU32::new(0),
            filled: AtomicU32::new(0),
            holds: AtomicU32::new(0),
        }
    }

    fn is_used(&self) -> bool {
        self.key.load(Relaxed) != 0
    }

    fn get(&self) -> Option<Gpadl> {
        let key = self.key.load(Relaxed);
        let word = self.state.load(Relaxed);
        let state = match word & 0xff {
            1 => State::Filling,
            2 => State::Ready,
            3 => State::Rings,
            _ => return None,
        };
        let fate = match word >> 8 {
            0 => Fate::Stay,
            1 => Fate::TearDown,
            _ => Fate::Drop,
        };
        (key != 0).then(|| Gpadl {
            id: GpadlId(key as u32),
            channel: (key >> 32) as u32,
            state,
            fate,
            ranges: self.ranges.load(Relaxed),
            start: self.start.load(Relaxed) as usize,
            len: self.len.load(Relaxed) as usize,
            filled: self.filled.load(Relaxed) as usize,
            holds: self.holds.load(Relaxed),
        })
    }

    fn set(&self, gpadl: &Gpadl) {
        self.set_state(gpadl.state, gpadl.fate);
        self.ranges.store(gpadl.ranges, Relaxed);
        self.start.store(gpadl.start as u32, Relaxed);
        self.len.store(gpadl.len as u32, Relaxed);
        self.filled.store(gpadl.filled as u32, Relaxed);
        self.holds.store(gpadl.holds, Relaxed);
        self.key.store(u64::from(gpadl.channel) << 32 | u64::from(gpadl.id.0), Relaxed);
    }

    fn set_state(&self, state: State, fate: Fate) {
        self.state.store(state as u32 | (fate as u32) << 8, Relaxed);
    }
}

/// The GPADLs of a connection. `WORDS` bounds the sum of their sizes: one word per page and one per range.
#[derive(Debug)]
pub(crate) struct Gpadls<const GPADLS: usize, const WORDS: usize> {
    entries: [Entry; GPADLS],
    order: [AtomicU16; GPADLS],
    count: AtomicU32,
    words: [AtomicU64; WORDS],
}

impl<const GPADLS: usize, const WORDS: usize> Gpadls<GPADLS, WORDS> {
    pub(crate) const fn new() -> Self {
        assert!(WORDS <= u32::MAX as usize, "a word's place has 32 bits");
        assert!(GPADLS <= u16::MAX as usize, "an entry's number has 16 bits");
        Self {
            entries: [const { Entry::new() }; GPADLS],
            order: [const { AtomicU16::new(0) }; GPADLS],
            count: AtomicU32::new(0),
            words: [const { AtomicU64::new(0) }; WORDS],
        }
    }

    pub(crate) fn pool(&self) -> Pool<'_> {
        Pool { entries: &self.entries, order: &self.order, count: &self.count, words: &self.words }
    }
}

/// The same without its capacities in the type.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pool<'a> {
    entries: &'a [Entry],
    /// The used entries, by the positions of their words; only accessed with the bus's lock held.
    order: &'a [AtomicU16],
    /// Number of used entries.
    count: &'a AtomicU32,
    words: &'a [AtomicU64],
}

impl<'a> Pool<'a> {
    /// Removes all lists.
    pub(crate) fn clear(self) {
        for entry in self.entries {
            entry.key.store(0, Relaxed);
        }
        self.count.store(0, Relaxed);
    }

    /// Returns the used part of `order`.
    fn ordered(self) -> &'a [AtomicU16] {
        self.order.get(..self.count.load(Relaxed) as usize).unwrap_or_default()
    }

    /// Fills a free entry.
    fn insert(self, at: usize, gpadl: &Gpadl) {
        let count = self.count.load(Relaxed) as usize;
        let (Some(entry), true) = (self.entries.get(at), count < self.order.len()) else { return };
        let mut place = count;
        // One pass, like every other search here: a guest with many lists cannot delay others.
        while let Some(before) = place.checked_sub(1) {
            let other = self.order[before].load(Relaxed);
            if self.start_of(other) <= gpadl.start {
                break;
            }
            self.order[place].store(other, Relaxed);
            place = before;
        }
        self.order[place].store(at as u16, Relaxed);
        self.count.store(count as u32 + 1, Relaxed);
        entry.set(gpadl);
    }

    fn start_of(self, at: u16) -> usize {
        self.entries.get(usize::from(at)).map_or(0, |entry| entry.start.load(Relaxed) as usize)
    }

    fn slot(self, id: GpadlId) -> Option<(usize, &'a Entry)> {
        let named = |(_, e): &(usize, &Entry)| {
            let key = e.key.load(Relaxed);
            key != 0 && key as u32 == id.0
        };
        self.entries.iter().enumerate().find(named)
    }

    pub(crate) fn find(self, id: GpadlId) -> Option<(usize, Gpadl)> {
        let (at, entry) = self.slot(id)?;
        Some((at, entry.get()?))
    }

    pub(crate) fn get(self, at: usize) -> Option<Gpadl> {
        self.entries.get(at)?.get()
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = (usize, Gpadl)> + 'a {
        self.entries.iter().enumerate().filter_map(|(at, entry)| Some((at, entry.get()?)))
    }

    /// Finds the list with this id, if it belongs to one of these channels and is ready.
    pub(crate) fn ready(self, id: GpadlId, channels: Range<u32>) -> Option<(usize, Gpadl)> {
        let usable = |g: &Gpadl| g.state != State::Filling && g.fate == Fate::Stay;
        self.find(id).filter(|(_, g)| channels.contains(&g.channel) && usable(g))
    }

    /// Returns true if these words are in the pool and in no list.
    fn is_free(self, start: usize, len: usize) -> bool {
        let fits = start.checked_add(len).is_some_and(|end| end <= self.words.len());
        fits && !self.iter().any(|(_, g)| g.start < start + len && start < g.start + g.len)
    }

    /// Finds the start of the first gap of this many words.
    fn gap(self, len: usize) -> Option<usize> {
        let mut start = 0;
        for at in self.ordered() {
            let Some(entry) = self.entries.get(usize::from(at.load(Relaxed))) else { continue };
            let (begin, size) = (entry.start.load(Relaxed) as usize, entry.len.load(Relaxed) as usize);
            if begin - start >= len {
                return Some(start);
            }
            start = begin + size;
        }
        (self.words.len() - start >= len).then_some(start)
    }

    /// Starts a GPADL of `bytes` bytes of ranges with the part of them in the header. Returns its page count if that is
    /// complete.
    pub(crate) fn begin(
        self,
        id: GpadlId,
        channel: u32,
        ranges: u16,
        bytes: u16,
        data: &[u8],
    ) -> Result<Option<u32>, Reason> {
        if self.slot(id).is_some() {
            return Err(Reason::DuplicateGpadl);
        }
        let len = usize::from(bytes) / 8;
        if len == 0 || ranges == 0 {
            return Err(Reason::BadRange);
        }
        let at = self.entries.iter().position(|e| !e.is_used()).ok_or(Reason::NoRoom)?;
        let start = self.gap(len).ok_or(Reason::NoRoom)?;
        let (state, ranges) = (State::Filling, ranges.into());
        self.insert(
            at,
            &Gpadl { id, channel, state, fate: Fate::Stay, ranges, start, len, filled: 0, holds: 0 },
        );
        self.append(id, data)
    }

    /// Adds page numbers to an incomplete GPADL. Returns its page count if it is complete now. Bytes beyond the
    /// announced length are ignored: UEFI firmware always posts messages of full length. A GPADL with an error is
    /// removed.
    pub(crate) fn append(self, id: GpadlId, data: &[u8]) -> Result<Option<u32>, Reason> {
        let (at, gpadl) = self.find(id).ok_or(Reason::UnknownGpadl)?;
        if gpadl.state != State::Filling {
            return Err(Reason::GpadlBusy);
        }
        let mut filled = gpadl.filled;
        for (word, bytes) in self.words(&gpadl)[filled..].iter().zip(data.chunks_exact(8)) {
            word.store(u64::from_le_bytes(bytes.try_into().unwrap_or_default()), Relaxed);
            filled += 1;
        }
        self.entries[at].filled.store(filled as u32, Relaxed);
        if filled < gpadl.len {
            return Ok(None);
        }
        match validate(gpadl.ranges, self.words(&gpadl)) {
            Ok(pages) => {
                self.entries[at].set_state(State::Ready, gpadl.fate);
                Ok(Some(pages))
            }
            Err(reason) => {
                self.remove(at);
                Err(reason)
            }
        }
    }

    /// Returns the words of a list, including those not received yet.
    fn words(self, gpadl: &Gpadl) -> &'a [AtomicU64] {
        self.words.get(gpadl.start..gpadl.start + gpadl.len).unwrap_or_default()
    }

    /// Removes a list.
    pub(crate) fn remove(self, at: usize) {
        let Some(entry) = self.entries.get(at).filter(|entry| entry.is_used()) else { return };
        entry.key.store(0, Relaxed);
        let ordered = self.ordered();
        let Some(place) = ordered.iter().position(|other| usize::from(other.load(Relaxed)) == at) else {
            return;
        };
        for (to, from) in ordered[place..].iter().zip(&ordered[place + 1..]) {
            to.store(from.load(Relaxed), Relaxed);
        }
        self.count.store(ordered.len() as u32 - 1, Relaxed);
    }

    pub(crate) fn set_state(self, at: usize, state: State, fate: Fate) {
        if let Some(entry) = self.entries.get(at) {
            entry.set_state(state, fate);
        }
    }

    /// Records one more request that uses the list. Its channel's device is locked, so this is not an exchange.
    pub(crate) fn hold(self, at: usize) {
        if let Some(entry) = self.entries.get(at) {
            entry.holds.store(entry.holds.load(Relaxed) + 1, Relaxed);
        }
    }

    /// Records the end of a request that used the list. Returns true if the removal of the list was waiting for it.
    pub(crate) fn release(self, at: usize) -> bool {
        let Some(entry) = self.entries.get(at) else { return false };
        let holds = entry.holds.load(Relaxed).saturating_sub(1);
        entry.holds.store(holds, Relaxed);
        let leaves = entry.state.load(Relaxed) >> 8 != Fate::Stay as u32;
        holds == 0 && leaves && entry.get().is_some_and(|gpadl| gpadl.is_over())
    }

    /// Returns the page numbers of a list that is one range of whole pages, as for rings: their position in the pool.
    pub(crate) fn whole_pages(self, gpadl: &Gpadl) -> Option<Range<usize>> {
        let (range, pages) = self.words(gpadl).split_first()?;
        let (bytes, offset) = split_range(range.load(Relaxed));
        if gpadl.ranges != 1 || offset != 0 || bytes % PAGE != 0 {
            return None;
        }
        let count = usize::try_from(bytes / PAGE).ok().filter(|count| *count <= pages.len())?;
        Some(gpadl.start + 1..gpadl.start + 1 + count)
    }

    /// Returns what is suspicious about a complete list, each once.
    pub(crate) fn flaws<M: GuestMemory>(self, gpadl: &Gpadl, memory: &M) -> [Option<Flaw>; 2] {
        let (mut outside, mut repeated) = (false, false);
        let mut words = self.words(gpadl);
        for _ in 0..gpadl.ranges {
            let Some((range, rest)) = words.split_first() else { break };
            let (bytes, offset) = split_range(range.load(Relaxed));
            let count =
                usize::try_from((offset + bytes).div_ceil(PAGE)).unwrap_or(usize::MAX).min(rest.len());
            let (pages, rest) = rest.split_at(count);
            outside |= pages.iter().any(|pfn| !memory.contains(pfn.load(Relaxed) * PAGE, PAGE));
            repeated |= pages.windows(2).any(|pair| pair[0].load(Relaxed) == pair[1].load(Relaxed));
            words = rest;
        }
        [outside.then_some(Flaw::Outside), repeated.then_some(Flaw::Repeated)]
    }

    /// Iterates over words of the pool.
    pub(crate) fn part(self, range: Range<usize>) -> &'a [AtomicU64] {
        self.words.get(range).unwrap_or_default()
    }
}

impl Gpadl {
    /// Returns true if nothing prevents the removal of the list.
    pub(crate) fn is_over(&self) -> bool {
        self.fate != Fate::Stay && self.holds == 0 && self.state != State::Rings
    }
}

/// Decodes length and offset of a range from its first word.
fn split_range(word: u64) -> (u64, u64) {
    (word & 0xffff_ffff, word >> 32)
}

/// Walks the ranges and returns the number of pages. Words beyond the last range are ignored.
fn validate(ranges: u32, mut words: &[AtomicU64]) -> Result<u32, Reason> {
    let mut total = 0;
    for _ in 0..ranges {
        let (range, rest) = words.split_first().ok_or(Reason::BadRange)?;
        let (bytes, offset) = split_range(range.load(Relaxed));
        if bytes == 0 || offset >= PAGE {
            return Err(Reason::BadRange);
        }
        let pages = (offset + bytes).div_ceil(PAGE);
        let count = usize::try_from(pages).map_err(|_| Reason::BadRange)?;
        if count > rest.len() || rest[..count].iter().any(|pfn| pfn.load(Relaxed) >= PFN_LIMIT) {
            return Err(Reason::BadRange);
        }
        total += count;
        words = &rest[count..];
    }
    u32::try_from(total).map_err(|_| Reason::BadRange)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::vec::Vec;

    const CHANNEL: u32 = 1;

    /// Returns the words of one range of these pages, as bytes.
    fn list(pages: &[u64]) -> Vec<u8> {
        let range = pages.len() as u64 * PAGE;
        [range].iter().chain(pages).flat_map(|w| w.to_le_bytes()).collect()
    }

    fn pages(pool: Pool<'_>, id: GpadlId) -> Option<Vec<u64>> {
        let (_, gpadl) = pool.find(id)?;
        Some(pool.part(pool.whole_pages(&gpadl)?).iter().map(|w| w.load(Relaxed)).collect())
    }

    proptest! {
        #[test]
        fn lists_keep_their_pages_and_places_while_others_come_and_go(
            steps in vec((0u32..6, 1u64..20, any::<bool>(), any::<u16>()), 0..100),
        ) {
            let gpadls = Gpadls::<4, 48>::new();
            let pool = gpadls.pool();
            let mut model: BTreeMap<GpadlId, (usize, Vec<u64>)> = BTreeMap::new();
            for (id, count, add, seed) in steps {
                let id = GpadlId(id);
                if add {
                    let list_of: Vec<u64> = (0..count).map(|i| u64::from(seed) * 64 + i).collect();
                    let words: usize = model.values().map(|(_, p)| p.len() + 1).sum();
                    let bytes = list(&list_of);
                    let outcome = pool.begin(id, CHANNEL, 1, bytes.len() as u16, &bytes);
                    if model.contains_key(&id) || model.len() == 4 || words + list_of.len() + 1 > 48 {
                        prop_assert!(outcome.is_err());
                    }
                    if words == 0 {
                        prop_assert!(outcome.is_ok());
                    }
                    if outcome.is_ok() {
                        model.insert(id, (pool.find(id).unwrap().1.start, list_of));
                    }
                } else {
                    if let Some((at, _)) = pool.find(id) {
                        pool.remove(at);
                    }
                    model.remove(&id);
                }
                for id in (0..6).map(GpadlId) {
                    prop_assert_eq!(pages(pool, id), model.get(&id).map(|(_, p)| p.clone()));
                    prop_assert_eq!(pool.find(id).map(|(_, g)| g.start), model.get(&id).map(|(s, _)| *s));
                }
            }
        }

        #[test]
        fn any_words_are_a_list_or_an_error(
            ranges in 0u16..4,
            words in vec(prop_oneof![any::<u64>(), 0u64..10_000, (0u64..5).prop_map(|n| n << 32 | 4096)], 0..30),
        ) {
            let gpadls = Gpadls::<1, 32>::new();
            let pool = gpadls.pool();
            let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
            match pool.begin(GpadlId(1), CHANNEL, ranges, bytes.len() as u16, &bytes) {
                Ok(Some(pages)) => prop_assert!(pages as usize + usize::from(ranges) <= words.len()),
                Ok(None) => prop_assert!(false, "all words were there"),
                Err(_) => prop_assert!(pool.find(GpadlId(1)).is_none()),
            }
        }

        #[test]
        fn a_part_of_a_list_is_the_bytes_that_it_names(
            ranges in vec((0u64..4096, 1u64..9000), 1..4),
            from in 0u64..30_000,
            len in 1u64..20_000,
        ) {
            let gpadls = Gpadls::<1, 64>::new();
            let pool = gpadls.pool();
            let (mut words, mut bytes, mut page) = (Vec::new(), Vec::new(), 0);
            for (offset, count) in &ranges {
                words.push(offset << 32 | count);
                for byte in *offset..offset + count {
                    bytes.push((page + byte / PAGE * 2) * PAGE + byte % PAGE);
                }
                for _ in 0..(offset + count).div_ceil(PAGE) {
                    words.push(page);
                    page += 2;
                }
            }
            let data: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
            pool.begin(GpadlId(1), CHANNEL, ranges.len() as u16, data.len() as u16, &data).unwrap();
            let (_, gpadl) = pool.find(GpadlId(1)).unwrap();
            prop_assert_eq!(pool.bytes(&gpadl), bytes.len() as u64);
            let mut seen = Vec::new();
            let outcome = pool.walk(&gpadl, from, len, (), |pfn, offset, part| {
                seen.extend((0..part).map(|i| pfn * PAGE + offset + i));
                Ok(())
            });
            match usize::try_from(from).ok().and_then(|from| bytes.get(from..from + len as usize)) {
                Some(expected) => {
                    prop_assert_eq!(outcome, Ok(()));
                    prop_assert_eq!(&seen[..], expected);
                }
                None => prop_assert_eq!(outcome, Err(())),
            }
        }
    }
}
