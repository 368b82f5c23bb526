//! Guest memory and saved images for tests, fuzz targets and benchmarks of hosts.

use std::sync::atomic::{AtomicU32, Ordering};
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

/// Guest memory of one range, zero at first, for threads.
#[derive(Debug)]
pub struct Memory {
    words: Vec<AtomicU32>,
    base: u64,
    by_pages: bool,
}

impl Memory {
    /// Makes memory of `size` bytes from guest physical address `base` on. Both are multiples of 4.
    ///
    /// # Panics
    /// If one is not.
    #[must_use]
    pub fn new(base: u64, size: u64) -> Self {
        assert!(base.is_multiple_of(4) && size.is_multiple_of(4), "{size:#x} bytes at {base:#x}");
        Self { words: (0..size / 4).map(|_| AtomicU32::new(0)).collect(), base, by_pages: false }
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

    fn word(&self, gpa: u64) -> Result<&AtomicU32, BadAddress> {
        let offset = gpa.checked_sub(self.base).filter(|offset| offset % 4 == 0).ok_or(BadAddress)?;
        self.words.get((offset / 4) as usize).ok_or(BadAddress)
    }

    /// Returns the words with these bytes, and the place of the first byte in the first of them.
    fn words(&self, gpa: u64, len: usize) -> Result<(&[AtomicU32], usize), BadAddress> {
        assert!(!self.by_pages || gpa % 4096 + len as u64 <= 4096, "an access at {gpa:#x} crosses a page");
        let start = gpa.checked_sub(self.base).ok_or(BadAddress)? as usize;
        let end = start.checked_add(len).ok_or(BadAddress)?;
        let words = self.words.get(start / 4..end.div_ceil(4)).ok_or(BadAddress)?;
        Ok((words, start % 4))
    }
}

/// Splits `len` bytes, of which the first is at `skip` in its word: bytes of the first word if it is not whole, and of
/// the whole words after it.
fn split(skip: usize, len: usize) -> (usize, usize) {
    let first = if skip == 0 { 0 } else { len.min(4 - skip) };
    (first, (len - first) / 4 * 4)
}

/// Words that are copied at a time where as many follow: less is spent on counting them.
const AT_ONCE: usize = 8;

/// Reads as many words as `bytes` has.
fn load(words: &[AtomicU32], bytes: &mut [[u8; 4]]) {
    let load =
        |(bytes, word): (&mut [u8; 4], &AtomicU32)| *bytes = word.load(Ordering::Relaxed).to_le_bytes();
    let (parts, rest) = bytes.as_chunks_mut::<AT_ONCE>();
    let (words, words_of_rest) = words.as_chunks::<AT_ONCE>();
    for (bytes, words) in parts.iter_mut().zip(words) {
        bytes.iter_mut().zip(words).for_each(load);
    }
    rest.iter_mut().zip(words_of_rest).for_each(load);
}

/// Writes as many words as `bytes` has.
fn store(words: &[AtomicU32], bytes: &[[u8; 4]]) {
    let store =
        |(bytes, word): (&[u8; 4], &AtomicU32)| word.store(u32::from_le_bytes(*bytes), Ordering::Relaxed);
    let (parts, rest) = bytes.as_chunks::<AT_ONCE>();
    let (words, words_of_rest) = words.as_chunks::<AT_ONCE>();
    for (bytes, words) in parts.iter().zip(words) {
        bytes.iter().zip(words).for_each(store);
    }
    rest.iter().zip(words_of_rest).for_each(store);
}

/// Reads bytes of a word, from this one on.
fn get(word: &AtomicU32, skip: usize, part: &mut [u8]) {
    let bytes = word.load(Ordering::Relaxed).to_le_bytes();
    part.copy_from_slice(&bytes[skip..skip + part.len()]);
}

/// Writes bytes of a word, from this one on. Its other bytes may be written meanwhile.
fn put(word: &AtomicU32, skip: usize, part: &[u8]) {
    let _ = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
        let mut bytes = word.to_le_bytes();
        bytes[skip..skip + part.len()].copy_from_slice(part);
        Some(u32::from_le_bytes(bytes))
    });
}

impl GuestMemory for Memory {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), BadAddress> {
        let (words, skip) = self.words(gpa, buf.len())?;
        let (first, whole) = split(skip, buf.len());
        let (first, rest) = buf.split_at_mut(first);
        let (whole, last) = rest.split_at_mut(whole);
        let (before, words) = words.split_at(usize::from(!first.is_empty()));
        let (words, behind) = words.split_at(whole.len() / 4);
        before.iter().for_each(|word| get(word, skip, first));
        load(words, whole.as_chunks_mut().0);
        behind.iter().for_each(|word| get(word, 0, last));
        Ok(())
    }

    fn write(&self, gpa: u64, data: &[u8]) -> Result<(), BadAddress> {
        let (words, skip) = self.words(gpa, data.len())?;
        let (first, whole) = split(skip, data.len());
        let (first, rest) = data.split_at(first);
        let (whole, last) = rest.split_at(whole);
        let (before, words) = words.split_at(usize::from(!first.is_empty()));
        let (words, behind) = words.split_at(whole.len() / 4);
        before.iter().for_each(|word| put(word, skip, first));
        store(words, whole.as_chunks().0);
        behind.iter().for_each(|word| put(word, 0, last));
        Ok(())
    }

    fn load_acquire(&self, gpa: u64) -> Result<u32, BadAddress> {
        Ok(self.word(gpa)?.load(Ordering::Acquire))
    }

    fn store_release(&self, gpa: u64, value: u32) -> Result<(), BadAddress> {
        self.word(gpa)?.store(value, Ordering::Release);
        Ok(())
    }

    fn fetch_or(&self, gpa: u64, bits: u32) -> Result<u32, BadAddress> {
        Ok(self.word(gpa)?.fetch_or(bits, Ordering::AcqRel))
    }

    fn swap(&self, gpa: u64, value: u32) -> Result<u32, BadAddress> {
        Ok(self.word(gpa)?.swap(value, Ordering::AcqRel))
    }

    fn contains(&self, gpa: u64, len: u64) -> bool {
        let end = self.base + self.words.len() as u64 * 4;
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
        for (gpa, len) in (0x1001..0x1009).flat_map(|gpa| (0..=20).map(move |len| (gpa, len))) {
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
