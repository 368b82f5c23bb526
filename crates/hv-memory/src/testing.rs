//! Guest memory and saved images for tests, fuzz targets and benchmarks of hosts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::vec::Vec;

use crate::save::{HASH_START, hash};
use crate::{BadAddress, GuestMemory};

/// Makes the hash at the end of a saved image valid again after a change.
///
/// # Panics
/// If the image is shorter than its hash.
pub fn rehash(image: &mut [u8]) {
    let end = image.len().checked_sub(8).expect("an image ends with a hash");
    let hash = hash(HASH_START, &image[..end]);
    image[end..].copy_from_slice(&hash.to_le_bytes());
}

/// Bytes of a word.
const WORD: usize = 8;
/// The bits of a 32-bit word, the lower half of a word.
const HALF: u64 = 0xffff_ffff;

/// Guest memory of one range, zero at first, for threads.
#[derive(Debug)]
pub struct Memory {
    /// Each access is of a whole word, so none has another width than one beside it.
    words: Vec<AtomicU64>,
    base: u64,
    by_pages: bool,
}

impl Memory {
    /// Makes memory of `size` bytes from guest physical address `base` on. Both are multiples of 8.
    ///
    /// # Panics
    /// If one is not.
    #[must_use]
    pub fn new(base: u64, size: u64) -> Self {
        assert!(base.is_multiple_of(8) && size.is_multiple_of(8), "{size:#x} bytes at {base:#x}");
        Self { words: (0..size / WORD as u64).map(|_| AtomicU64::new(0)).collect(), base, by_pages: false }
    }

    /// Returns the same memory for a host that never asks for bytes beyond the end of a page: it panics if it does.
    #[must_use]
    pub fn by_pages(self) -> Self {
        Self { by_pages: true, ..self }
    }

    /// Copies the contents of another one of the same size.
    pub fn copy_from(&self, other: &Self) {
        for (to, from) in self.words.iter().zip(&other.words) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Returns the word with this 32-bit word, which is aligned, and the shift of that in it.
    #[inline]
    fn half(&self, gpa: u64) -> Result<(&AtomicU64, u32), BadAddress> {
        let offset = gpa.checked_sub(self.base).filter(|offset| offset % 4 == 0).ok_or(BadAddress)?;
        let word = self.words.get((offset / WORD as u64) as usize).ok_or(BadAddress)?;
        Ok((word, (offset % WORD as u64) as u32 * 8))
    }

    /// Returns the words with these bytes, and the place of the first byte in the first of them.
    fn words(&self, gpa: u64, len: usize) -> Result<(&[AtomicU64], usize), BadAddress> {
        assert!(!self.by_pages || gpa % 4096 + len as u64 <= 4096, "an access at {gpa:#x} crosses a page");
        let start = gpa.checked_sub(self.base).ok_or(BadAddress)? as usize;
        let end = start.checked_add(len).ok_or(BadAddress)?;
        let words = self.words.get(start / WORD..end.div_ceil(WORD)).ok_or(BadAddress)?;
        Ok((words, start % WORD))
    }
}

/// Splits `len` bytes, of which the first is at `skip` in its word: bytes of the first word if it is not whole, and of
/// the whole words after it.
fn split(skip: usize, len: usize) -> (usize, usize) {
    let first = if skip == 0 { 0 } else { len.min(WORD - skip) };
    (first, (len - first) / WORD * WORD)
}

/// Words that are copied at a time where as many follow: less is spent on counting them.
const AT_ONCE: usize = 8;

/// Reads as many words as `bytes` has.
fn load(words: &[AtomicU64], bytes: &mut [[u8; WORD]]) {
    let load =
        |(bytes, word): (&mut [u8; WORD], &AtomicU64)| *bytes = word.load(Ordering::Relaxed).to_le_bytes();
    let (parts, rest) = bytes.as_chunks_mut::<AT_ONCE>();
    let (words, words_of_rest) = words.as_chunks::<AT_ONCE>();
    for (bytes, words) in parts.iter_mut().zip(words) {
        bytes.iter_mut().zip(words).for_each(load);
    }
    rest.iter_mut().zip(words_of_rest).for_each(load);
}

/// Writes as many words as `bytes` has.
fn store(words: &[AtomicU64], bytes: &[[u8; WORD]]) {
    let store = |(bytes, word): (&[u8; WORD], &AtomicU64)| {
        word.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
    };
    let (parts, rest) = bytes.as_chunks::<AT_ONCE>();
    let (words, words_of_rest) = words.as_chunks::<AT_ONCE>();
    for (bytes, words) in parts.iter().zip(words) {
        bytes.iter().zip(words).for_each(store);
    }
    rest.iter().zip(words_of_rest).for_each(store);
}

/// Reads bytes of a word, from this one on.
fn get(word: &AtomicU64, skip: usize, part: &mut [u8]) {
    let bytes = word.load(Ordering::Relaxed).to_le_bytes();
    part.copy_from_slice(&bytes[skip..skip + part.len()]);
}

/// Writes bytes of a word, from this one on. Its other bytes may be written meanwhile.
fn put(word: &AtomicU64, skip: usize, part: &[u8]) {
    let _ = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
        let mut bytes = word.to_le_bytes();
        bytes[skip..skip + part.len()].copy_from_slice(part);
        Some(u64::from_le_bytes(bytes))
    });
}

/// Reads bytes of which the first is at `skip` in its word.
#[inline(never)]
fn load_parts(words: &[AtomicU64], skip: usize, bytes: &mut [u8]) {
    let (first, whole) = split(skip, bytes.len());
    let (first, rest) = bytes.split_at_mut(first);
    let (whole, last) = rest.split_at_mut(whole);
    let (before, words) = words.split_at(usize::from(!first.is_empty()));
    let (words, behind) = words.split_at(whole.len() / WORD);
    before.iter().for_each(|word| get(word, skip, first));
    load(words, whole.as_chunks_mut().0);
    behind.iter().for_each(|word| get(word, 0, last));
}

/// Writes bytes of which the first is at `skip` in its word.
#[inline(never)]
fn store_parts(words: &[AtomicU64], skip: usize, bytes: &[u8]) {
    let (first, whole) = split(skip, bytes.len());
    let (first, rest) = bytes.split_at(first);
    let (whole, last) = rest.split_at(whole);
    let (before, words) = words.split_at(usize::from(!first.is_empty()));
    let (words, behind) = words.split_at(whole.len() / WORD);
    before.iter().for_each(|word| put(word, skip, first));
    store(words, whole.as_chunks().0);
    behind.iter().for_each(|word| put(word, 0, last));
}

/// Replaces a half of a word, and returns what it was.
#[inline]
fn replace(word: &AtomicU64, shift: u32, value: u32, order: Ordering) -> u32 {
    let new = |word: u64| word & !(HALF << shift) | u64::from(value) << shift;
    let mut old = word.load(Ordering::Relaxed);
    while let Err(other) = word.compare_exchange_weak(old, new(old), order, Ordering::Relaxed) {
        old = other;
    }
    (old >> shift) as u32
}

impl GuestMemory for Memory {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), BadAddress> {
        let (words, skip) = self.words(gpa, buf.len())?;
        match buf.as_chunks_mut() {
            (whole, []) if skip == 0 => load(words, whole),
            _ => load_parts(words, skip, buf),
        }
        Ok(())
    }

    fn write(&self, gpa: u64, data: &[u8]) -> Result<(), BadAddress> {
        let (words, skip) = self.words(gpa, data.len())?;
        match data.as_chunks() {
            (whole, []) if skip == 0 => store(words, whole),
            _ => store_parts(words, skip, data),
        }
        Ok(())
    }

    #[inline]
    fn load_acquire(&self, gpa: u64) -> Result<u32, BadAddress> {
        let (word, shift) = self.half(gpa)?;
        Ok((word.load(Ordering::Acquire) >> shift) as u32)
    }

    #[inline]
    fn store_release(&self, gpa: u64, value: u32) -> Result<(), BadAddress> {
        let (word, shift) = self.half(gpa)?;
        replace(word, shift, value, Ordering::Release);
        Ok(())
    }

    #[inline]
    fn fetch_or(&self, gpa: u64, bits: u32) -> Result<u32, BadAddress> {
        let (word, shift) = self.half(gpa)?;
        Ok((word.fetch_or(u64::from(bits) << shift, Ordering::AcqRel) >> shift) as u32)
    }

    fn swap(&self, gpa: u64, value: u32) -> Result<u32, BadAddress> {
        let (word, shift) = self.half(gpa)?;
        Ok(replace(word, shift, value, Ordering::AcqRel))
    }

    fn contains(&self, gpa: u64, len: u64) -> bool {
        let end = self.base + (self.words.len() * WORD) as u64;
        gpa >= self.base && gpa.checked_add(len).is_some_and(|last| last <= end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_at_any_address_come_back_and_their_neighbours_stay() {
        let memory = Memory::new(0x1000, 0x100);
        let data: Vec<u8> = (1..=20).collect();
        for (gpa, len) in (0x1001..0x1011).flat_map(|gpa| (0..=20).map(move |len| (gpa, len))) {
            memory.write(0x1000, &[0xee; 0x40]).unwrap();
            memory.write(gpa, &data[..len]).unwrap();
            let mut read = [0; 0x40];
            memory.read(0x1000, &mut read).unwrap();
            let at = (gpa - 0x1000) as usize;
            assert_eq!(read[at..at + len], data[..len], "{len} bytes at {gpa:#x}");
            let mut others = read[..at].iter().chain(&read[at + len..]);
            assert!(others.all(|byte| *byte == 0xee), "{len} bytes at {gpa:#x}");
        }
    }

    #[test]
    fn what_is_not_memory_is_refused_as_a_whole() {
        let memory = Memory::new(0x1000, 0x100);
        assert!(memory.write(0x10fc, &[1; 5]).is_err());
        assert_eq!(memory.load_acquire(0x10fc), Ok(0));
        assert!(memory.read(0xfff, &mut [0]).is_err());
        assert!(memory.load_acquire(0x1002).is_err());
        assert!(!memory.contains(u64::MAX, 2));
    }

    #[test]
    #[should_panic(expected = "crosses a page")]
    fn an_access_across_pages_is_seen() {
        let _ = Memory::new(0, 0x2000).by_pages().read(0xfff, &mut [0; 2]);
    }
}
