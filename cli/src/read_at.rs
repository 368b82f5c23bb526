//! Bytes of an image, to read at any place.

use std::io::{self, ErrorKind};

/// A range of bytes.
pub(crate) trait ReadAt {
    /// Reads bytes from this place on.
    ///
    /// # Errors
    /// They are not all in the range, or cannot be read.
    fn read_at(&self, at: u64, bytes: &mut [u8]) -> io::Result<()>;
}

impl ReadAt for &[u8] {
    fn read_at(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        let rest = usize::try_from(at).ok().and_then(|at| self.get(at..));
        let from = rest.and_then(|rest| rest.get(..bytes.len())).ok_or_else(outside)?;
        bytes.copy_from_slice(from);
        Ok(())
    }
}

/// Returns the error for bytes outside of the range.
pub(crate) fn outside() -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, "it leads out of the partition")
}

/// Reads a little-endian number of up to eight bytes.
pub(crate) fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
