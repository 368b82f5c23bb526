//! The cells of a page: each byte of one belongs to one access width.

use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// A cell of a page, and the offset of a byte in it.
pub(super) enum Cell<'a> {
    Half(&'a AtomicU32, usize),
    Word(&'a AtomicU64, usize),
}

impl Cell<'_> {
    /// Returns the number of bytes from the offset to the end of the cell.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Half(_, first) => 4 - first,
            Self::Word(_, first) => 8 - first,
        }
    }

    /// Reads the cell once, and copies its bytes from the offset on.
    #[inline]
    pub(super) fn read(&self, bytes: &mut [u8]) {
        match self {
            Self::Half(cell, first) => {
                let half = cell.load(Ordering::Relaxed);
                match <&mut [u8; 4]>::try_from(&mut *bytes) {
                    Ok(whole) => *whole = half.to_ne_bytes(),
                    Err(_) => take(bytes, u32::from_le(half).into(), *first),
                }
            }
            Self::Word(cell, first) => {
                let word = cell.load(Ordering::Relaxed);
                match <&mut [u8; 8]>::try_from(&mut *bytes) {
                    Ok(whole) => *whole = word.to_ne_bytes(),
                    Err(_) => take(bytes, u64::from_le(word), *first),
                }
            }
        }
    }

    /// Replaces the bytes from the offset on; the cell's other bytes are unchanged.
    #[inline]
    pub(super) fn write(&self, bytes: &[u8]) {
        let order = (Ordering::Relaxed, Ordering::Relaxed);
        match self {
            Self::Half(cell, first) => match <&[u8; 4]>::try_from(bytes) {
                Ok(whole) => cell.store(u32::from_ne_bytes(*whole), order.0),
                Err(_) => {
                    let [new, mask] = put(bytes, *first).map(|word| u32::from_le(word as u32));
                    let _ = cell.fetch_update(order.0, order.1, |old| Some(old & !mask | new));
                }
            },
            Self::Word(cell, first) => match <&[u8; 8]>::try_from(bytes) {
                Ok(whole) => cell.store(u64::from_ne_bytes(*whole), order.0),
                Err(_) => {
                    let [new, mask] = put(bytes, *first).map(u64::from_le);
                    let _ = cell.fetch_update(order.0, order.1, |old| Some(old & !mask | new));
                }
            },
        }
    }
}

/// Copies bytes of a little-endian word to `bytes`, starting at byte `first`.
///
/// Uses shifts: the compiler turns a loop over bytes into a `memcpy` call, which is several times slower.
#[inline]
fn take(bytes: &mut [u8], word: u64, first: usize) {
    let mut rest = word >> (8 * first);
    for byte in bytes {
        *byte = rest as u8;
        rest >>= 8;
    }
}

/// Returns a little-endian word with these bytes at `first`, cut off at its end, the other bytes zero; and the mask of
/// the bits they occupy.
#[inline]
fn put(bytes: &[u8], first: usize) -> [u64; 2] {
    let step = |[new, mask]: [u64; 2], byte: &u8| [new << 8 | u64::from(*byte), mask << 8 | 0xff];
    bytes.iter().rev().fold([0; 2], step).map(|word| word << (8 * first))
}

/// Returns half of a word: the four bytes at `first`, 0 or 4.
pub(super) fn half_of(word: u64, first: usize) -> u32 {
    u32::from_le((u64::from_le(word) >> (8 * first)) as u32)
}

/// Returns a word with these four bytes at `first`, the others zero.
pub(super) fn word_of(half: u32, first: usize) -> u64 {
    u64::from_le(u64::from(u32::from_le(half)) << (8 * first))
}
