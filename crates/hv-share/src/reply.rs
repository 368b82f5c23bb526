//! A reply, of bounded length.

use polyfuse_kernel::fuse_out_header;
use rustix::io::Errno;
use zerocopy::{Immutable, IntoBytes};

use crate::MAX_READ;

/// Bytes of the head.
const HEAD: usize = size_of::<fuse_out_header>();

/// A reply that is being made; its memory is that of the last one.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    bytes: Vec<u8>,
}

impl Reply {
    /// Begins with room for the head.
    pub(crate) fn begin(&mut self) {
        self.bytes.clear();
        self.bytes.resize(HEAD, 0);
    }

    /// Adds a structure.
    pub(crate) fn put(&mut self, value: &(impl IntoBytes + Immutable)) {
        self.bytes(value.as_bytes());
    }

    /// Adds bytes.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Returns the number of bytes after the head.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - HEAD
    }

    /// Adds zeros up to a multiple of eight bytes after the head.
    pub(crate) fn align(&mut self) {
        let length = self.len().next_multiple_of(8);
        self.keep(length);
    }

    /// Returns room for this number of bytes, all zero.
    ///
    /// # Errors
    /// They are more than [`MAX_READ`].
    pub(crate) fn room(&mut self, bytes: u32) -> Result<&mut [u8], Errno> {
        if bytes > MAX_READ {
            return Err(Errno::INVAL);
        }
        self.bytes.resize(HEAD + bytes as usize, 0);
        Ok(&mut self.bytes[HEAD..])
    }

    /// Sets its length in bytes, the head not counted.
    pub(crate) fn keep(&mut self, bytes: usize) {
        self.bytes.resize(HEAD + bytes, 0);
    }

    /// Writes the head, and returns the whole. With an error there is nothing else.
    pub(crate) fn end(&mut self, unique: u64, error: Option<Errno>) -> &[u8] {
        if error.is_some() {
            self.keep(0);
        }
        let error = error.map_or(0, |error| -error.raw_os_error());
        let head = fuse_out_header { len: self.bytes.len() as u32, error, unique };
        self.bytes[..HEAD].copy_from_slice(head.as_bytes());
        &self.bytes
    }
}
