//! A command's work for the back end, split into pieces: no piece delays the bus for long, whatever the command.

use crate::scsi::{Extent, Transfer};

/// The work of a back end in one step. Its tag is a word, so that the rest is copied by words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u64)]
pub enum Piece {
    /// Copies from the disk to the data of the request.
    Read {
        /// First byte on the disk.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// Copies the data of the request to the disk.
    Write {
        /// First byte on the disk.
        offset: u64,
        /// Bytes.
        len: u64,
        /// Complete only when this data, and what was written before it, is on stable storage.
        durable: bool,
    },
    /// Brings all written data to stable storage.
    Flush,
    /// Writes the data of the request, one block, repeatedly.
    Fill {
        /// First byte on the disk.
        offset: u64,
        /// Bytes, a multiple of the block.
        len: u64,
        /// Zeros may be written by deallocating the blocks.
        unmap: bool,
    },
    /// Makes a part read as zeros, and deallocates it if possible.
    Clear {
        /// First byte on the disk.
        offset: u64,
        /// Bytes, a multiple of the block.
        len: u64,
    },
}

impl Piece {
    /// Returns the first byte on the disk, and the first after the last; `None` if it names none.
    #[must_use]
    pub const fn extent(&self) -> Option<(u64, u64)> {
        match *self {
            Self::Read { offset, len }
            | Self::Write { offset, len, .. }
            | Self::Fill { offset, len, .. }
            | Self::Clear { offset, len } => Some((offset, offset.saturating_add(len))),
            Self::Flush => None,
        }
    }

    /// Returns the number of bytes written besides the data of the request.
    pub(super) const fn cleared(&self) -> u64 {
        match self {
            Self::Fill { len, .. } | Self::Clear { len, .. } => *len,
            Self::Read { .. } | Self::Write { .. } | Self::Flush => 0,
        }
    }
}

/// A transfer, and its progress.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    transfer: Transfer,
    /// Bytes of a logical block.
    block: u64,
    /// Number of bytes done, of all extents together.
    done: u64,
    /// Size of the current piece in bytes; 1 for a flush.
    now: u64,
}

impl Job {
    /// A job without work.
    pub(super) const EMPTY: Self = Self { transfer: Transfer::Flush, block: 0, done: 0, now: 1 };

    /// Makes it the job of a transfer. Its first piece is the [`next`](Self::next) one.
    pub(super) fn begin(&mut self, transfer: &Transfer, block: u32) {
        (self.block, self.done, self.now) = (block.into(), 0, 0);
        // Each in its place, and without the room for extents, which is most of it.
        match *transfer {
            Transfer::Read { offset, len } => self.transfer = Transfer::Read { offset, len },
            Transfer::Write { offset, len, durable } => {
                self.transfer = Transfer::Write { offset, len, durable };
            }
            other => self.transfer = other,
        }
    }

    /// Returns true if the current piece is the first one.
    pub(super) const fn is_at_start(&self) -> bool {
        self.done == 0
    }

    /// Records that the current piece is done, and returns the next one, if there is one, with the range of the
    /// command's data that belongs to it: offset and length. A piece has `most` bytes at most, a multiple of the block.
    pub(super) fn next(&mut self, most: u64) -> Option<(Piece, (u64, u64))> {
        self.done += self.now;
        let at = self.done;
        let left = |len: u64| len.saturating_sub(at);
        let (piece, data) = match self.transfer {
            Transfer::Read { offset, len } => {
                let part = left(len).min(most);
                (Piece::Read { offset: offset + at, len: part }, (at, part))
            }
            Transfer::Write { offset, len, durable } => {
                let part = left(len).min(most);
                let durable = durable && part == left(len);
                (Piece::Write { offset: offset + at, len: part, durable }, (at, part))
            }
            Transfer::Flush => {
                self.now = 1;
                return (at == 0).then_some((Piece::Flush, (0, 0)));
            }
            Transfer::Fill { offset, len, unmap } => {
                let part = left(len).min(most);
                (Piece::Fill { offset: offset + at, len: part, unmap }, (0, self.block))
            }
            Transfer::Discard { ref extents } => {
                let (offset, len) = within(extents, self.block, at)?;
                (Piece::Clear { offset, len: len.min(most) }, (0, 0))
            }
        };
        self.now = match piece {
            Piece::Read { len, .. } | Piece::Write { len, .. } => len,
            _ => piece.cleared(),
        };
        (self.now > 0).then_some((piece, data))
    }

    /// Returns the number of bytes of the command's data transferred when all is done; `None` for a transfer without
    /// data.
    pub(super) const fn moved(&self) -> Option<u64> {
        match self.transfer {
            Transfer::Read { len, .. } | Transfer::Write { len, .. } => Some(len),
            Transfer::Flush | Transfer::Fill { .. } | Transfer::Discard { .. } => None,
        }
    }

    /// Returns true if it reads from the disk.
    pub(super) const fn reads(&self) -> bool {
        matches!(self.transfer, Transfer::Read { .. })
    }
}

/// Returns the disk offset of byte `at` of all extents together, and the number of bytes to the end of its extent.
fn within(extents: &[Extent], block: u64, mut at: u64) -> Option<(u64, u64)> {
    for extent in extents {
        let len = u64::from(extent.count) * block;
        if at < len {
            return Some((extent.block * block + at, len - at));
        }
        at -= len;
    }
    None
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    const MOST: u64 = 8192;

    type Part = (Piece, (u64, u64));

    fn all(transfer: Transfer) -> Vec<Part> {
        let mut job = Job::EMPTY;
        job.begin(&transfer, 512);
        let parts: Vec<Part> = core::iter::from_fn(|| job.next(MOST)).collect();
        assert_eq!(job.next(MOST), None);
        parts
    }

    #[test]
    fn a_long_write_is_durable_with_its_last_piece() {
        let parts = all(Transfer::Write { offset: 512, len: MOST + 1024, durable: true });
        let [first, last] = [
            (Piece::Write { offset: 512, len: MOST, durable: false }, (0, MOST)),
            (Piece::Write { offset: 512 + MOST, len: 1024, durable: true }, (MOST, 1024)),
        ];
        assert_eq!(parts, [first, last]);
    }

    #[test]
    fn every_byte_of_every_extent_is_cleared_once() {
        let mut extents = [Extent::default(); crate::scsi::MAX_EXTENTS];
        extents[1] = Extent { block: 8, count: 44 };
        extents[3] = Extent { block: 4, count: 1 };
        let parts = all(Transfer::Discard { extents });
        let clear = |offset, len| (Piece::Clear { offset, len }, (0, 0));
        let rest = 44 * 512 - 2 * MOST;
        let expected = [
            clear(8 * 512, MOST),
            clear(8 * 512 + MOST, MOST),
            clear(8 * 512 + 2 * MOST, rest),
            clear(4 * 512, 512),
        ];
        assert_eq!(parts, expected);
    }

    #[test]
    fn each_piece_of_a_fill_has_the_same_block() {
        let parts = all(Transfer::Fill { offset: 0, len: 3 * MOST, unmap: false });
        assert_eq!(parts.len(), 3);
        assert!(parts.iter().all(|(_, data)| *data == (0, 512)));
        assert_eq!(all(Transfer::Flush), [(Piece::Flush, (0, 0))]);
        assert_eq!(all(Transfer::Read { offset: 0, len: 0 }), []);
    }
}
