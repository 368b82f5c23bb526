//! The record of pages: a bit for each page of the guest's memory.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

/// Pages that a word has.
const PER_WORD: u64 = 64;

/// Pages of a range at most: its number has 24 bits.
const LONGEST: u64 = (1 << 24) - 1;

/// A bit for each page, in words that the embedder lends. One without words has no pages; it is all zeros.
#[derive(Clone, Copy)]
pub(super) struct Record {
    words: Option<&'static [AtomicU64]>,
    /// Number of the first page.
    first: u64,
    pages: u64,
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("first", &self.first)
            .field("pages", &self.pages)
            .finish_non_exhaustive()
    }
}

impl Record {
    pub(super) const NONE: Self = Self { words: None, first: 0, pages: 0 };

    /// Makes a record of `pages` pages from `first` on, as far as there are words for them. A word may have bits
    /// already: those of pages in a record that was made of the same words before.
    pub(super) fn new(words: &'static [AtomicU64], first: u64, pages: u64) -> Self {
        Self { words: Some(words), first, pages: pages.min(words.len() as u64 * PER_WORD) }
    }

    pub(super) const fn pages(&self) -> u64 {
        self.pages
    }

    fn words(&self) -> &'static [AtomicU64] {
        self.words.unwrap_or_default()
    }

    /// Returns true if the range is not empty, and all its pages are in the record's memory.
    pub(super) fn contains(&self, start: u64, count: u64) -> bool {
        let offset = start.checked_sub(self.first);
        let room = offset.and_then(|offset| self.pages.checked_sub(offset));
        count > 0 && room.is_some_and(|room| count <= room)
    }

    /// Returns the words that a range of the record's pages is in, each with the bits of its pages there.
    fn parts(&self, start: u64, count: u64) -> impl Iterator<Item = (&'static AtomicU64, u64)> {
        let (words, mut at, end) = (self.words(), start - self.first, start - self.first + count);
        core::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let word = at / PER_WORD;
            let (low, high) = (at % PER_WORD, (end - word * PER_WORD).min(PER_WORD));
            at = (word + 1) * PER_WORD;
            Some((words.get(word as usize)?, (u64::MAX << low) & (u64::MAX >> (PER_WORD - high))))
        })
    }

    /// Returns true if any page of a range, which lies in the record's memory, is in the record.
    pub(super) fn has_any(&self, start: u64, count: u64) -> bool {
        self.parts(start, count).any(|(word, bits)| word.load(Ordering::Relaxed) & bits != 0)
    }

    /// Puts the pages of a range, which lies in the record's memory, into the record, or takes them out.
    pub(super) fn put(&self, start: u64, count: u64, into: bool) {
        for (word, bits) in self.parts(start, count) {
            let old = word.load(Ordering::Relaxed);
            word.store(if into { old | bits } else { old & !bits }, Ordering::Relaxed);
        }
    }

    /// Takes all pages out, of which there are `count`. Looks at each word once at most, however the pages are spread.
    pub(super) fn clear(&self, mut count: u64) {
        for word in self.words() {
            // Words after the last page may be memory that nothing has touched: they are not even read.
            if count == 0 {
                return;
            }
            let bits = word.load(Ordering::Relaxed);
            if bits != 0 {
                word.store(0, Ordering::Relaxed);
                count = count.saturating_sub(bits.count_ones().into());
            }
        }
    }

    /// Returns the first page from `from` on that is in the record, and how many follow one another from there.
    pub(super) fn next(&self, from: u64) -> Option<(u64, u64)> {
        let start = self.find(from.saturating_sub(self.first), true)?;
        let end = self.find(start, false).unwrap_or(self.pages);
        Some((self.first + start, (end - start).min(LONGEST)))
    }

    /// Returns the first page from `from` on, counted from the first of all, that is in the record, or is not.
    fn find(&self, from: u64, inside: bool) -> Option<u64> {
        let mut bits = u64::MAX << (from % PER_WORD);
        for (number, word) in (from / PER_WORD..).zip(self.words().get((from / PER_WORD) as usize..)?) {
            let word = word.load(Ordering::Relaxed);
            let found = if inside { word } else { !word } & bits;
            if found != 0 {
                let at = number * PER_WORD + u64::from(found.trailing_zeros());
                return (at < self.pages).then_some(at);
            }
            bits = u64::MAX;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::boxed::Box;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const FIRST: u64 = 1000;
    const PAGES: u64 = 300;

    fn record() -> Record {
        let words: Vec<AtomicU64> = (0..8).map(|_| AtomicU64::new(0)).collect();
        Record::new(Box::leak(words.into_boxed_slice()), FIRST, PAGES)
    }

    proptest! {
        #[test]
        fn it_is_a_set_of_pages(ranges in prop::collection::vec((0_u64..310, 0_u64..150, any::<bool>()), 0..30)) {
            let (record, mut set) = (record(), BTreeSet::new());
            for (start, count, into) in ranges {
                let start = FIRST + start;
                let pages = start..start + count;
                let inside = count > 0 && pages.end <= FIRST + PAGES;
                prop_assert_eq!(record.contains(start, count), inside);
                if !inside {
                    continue;
                }
                prop_assert_eq!(record.has_any(start, count), pages.clone().any(|page| set.contains(&page)));
                record.put(start, count, into);
                for page in pages {
                    if into { set.insert(page) } else { set.remove(&page) };
                }
                let (mut found, mut from) = (BTreeSet::new(), 0);
                while let Some((start, count)) = record.next(from) {
                    prop_assert!(count > 0 && !set.contains(&(start + count)));
                    found.extend(start..start + count);
                    from = start + count;
                }
                prop_assert_eq!(&found, &set);
            }
            record.clear(set.len() as u64);
            prop_assert_eq!(record.next(0), None);
        }
    }

    #[test]
    fn nothing_behind_the_last_page_is_touched_when_all_are_taken_out() {
        let record = record();
        for page in (FIRST..FIRST + 128).step_by(2) {
            record.put(page, 1, true);
        }
        // What is not a page of the record's stands for memory that was not made yet.
        record.words()[2].store(7, Ordering::Relaxed);
        record.clear(64);
        assert_eq!(record.next(0), Some((FIRST + 128, 3)));
        record.clear(0);
        assert_eq!(record.next(0), Some((FIRST + 128, 3)));
    }

    #[test]
    fn there_are_no_pages_without_words_or_beyond_the_memory() {
        assert!(!Record::NONE.contains(0, 1) && Record::NONE.next(0).is_none());
        let record = record();
        for (start, count) in
            [(FIRST - 1, 1), (FIRST, 0), (FIRST, PAGES + 1), (FIRST + PAGES, 1), (u64::MAX, u64::MAX)]
        {
            assert!(!record.contains(start, count), "{start} {count}");
        }
        let words: &'static [AtomicU64] = Box::leak(Box::new([AtomicU64::new(0)]));
        assert_eq!(Record::new(words, 0, 100).pages(), 64);
    }
}
