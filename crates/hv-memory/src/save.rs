//! The codec of saved state: little-endian, field after field, without padding.
//!
//! An image is a sequence of bytes to which each part of a host appends its state. [`Writer::begin`] and
//! [`Writer::finish`] frame it with a magic number, a version and a hash; [`Reader::open`] checks all three.
//!
//! ```
//! use hv_memory::save::{Reader, RestoreError, Writer};
//!
//! let mut image = Vec::new();
//! let mut sink = |bytes: &[u8]| image.extend_from_slice(bytes);
//! let mut writer = Writer::begin(&mut sink, *b"example\0", 1);
//! writer.u32(7);
//! writer.finish();
//!
//! let mut reader = Reader::open(&image, *b"example\0", 1)?;
//! assert_eq!(reader.u32(), Ok(7));
//! reader.end()?;
//! image[13] ^= 1;
//! assert_eq!(Reader::open(&image, *b"example\0", 1).err(), Some(RestoreError::Damaged));
//! # Ok::<(), RestoreError>(())
//! ```

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// FNV-1a, 64 bits: it detects damage. It does not protect against malice; the checks of each field do.
pub(crate) const HASH_START: u64 = 0xcbf2_9ce4_8422_2325;
const HASH_PRIME: u64 = 0x0000_0100_0000_01b3;

pub(crate) fn hash(state: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(state, |state, &byte| (state ^ u64::from(byte)).wrapping_mul(HASH_PRIME))
}

/// Returns a hash of some words: of what an image and the host that restores it must have in common.
#[must_use]
pub fn fingerprint(words: &[u64]) -> u64 {
    words.iter().fold(HASH_START, |state, word| hash(state, &word.to_le_bytes()))
}

/// Reason why saved state could not be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RestoreError {
    /// It does not begin like a saved image.
    NotAnImage,
    /// Its version is unknown.
    Version(u32),
    /// The hash at its end does not match: it is damaged or cut off.
    Damaged,
    /// It was saved by a host with another configuration.
    OtherPartition,
    /// Part of it ends too early.
    Truncated,
    /// It holds more than this host has room for.
    NoRoom,
    /// This part of it is invalid.
    Invalid(&'static str),
    /// Requests of the host that was to take it over are in flight. Nothing was restored.
    InFlight,
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnImage => f.write_str("not the saved state of a partition"),
            Self::Version(version) => write!(f, "saved state of unknown version {version}"),
            Self::Damaged => f.write_str("the saved state is damaged or cut off"),
            Self::OtherPartition => f.write_str("saved state of a partition with another configuration; restore it on a host configured like the one that saved it"),
            Self::Truncated => f.write_str("a part of the saved state ends too early"),
            Self::NoRoom => f.write_str("the saved state holds more than this host has room for"),
            Self::Invalid(part) => write!(f, "invalid {part} in the saved state"),
            Self::InFlight => {
                f.write_str("requests of devices are in flight; complete them before the saved state is restored")
            }
        }
    }
}

impl core::error::Error for RestoreError {}

/// A writer of state, piece by piece, to a sink.
pub struct Writer<'w> {
    sink: &'w mut dyn FnMut(&[u8]),
    hash: u64,
}

impl fmt::Debug for Writer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("hash", &self.hash).finish_non_exhaustive()
    }
}

impl<'w> Writer<'w> {
    /// Creates a writer of bare state, without a frame.
    pub fn new(sink: &'w mut dyn FnMut(&[u8])) -> Self {
        Self { sink, hash: HASH_START }
    }

    /// Begins an image with its magic number and version.
    pub fn begin(sink: &'w mut dyn FnMut(&[u8]), magic: [u8; 8], version: u32) -> Self {
        let mut writer = Self::new(sink);
        writer.bytes(&magic);
        writer.u32(version);
        writer
    }

    /// Ends an image with the hash of all before it.
    pub fn finish(self) {
        (self.sink)(&self.hash.to_le_bytes());
    }

    /// Writes bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.hash = hash(self.hash, bytes);
        (self.sink)(bytes);
    }

    /// Writes the bytes of a structure.
    pub fn value<T: IntoBytes + Immutable + ?Sized>(&mut self, value: &T) {
        self.bytes(value.as_bytes());
    }

    /// Writes a byte.
    pub fn u8(&mut self, value: u8) {
        self.bytes(&[value]);
    }

    /// Writes a 32-bit number.
    pub fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    /// Writes a 64-bit number.
    pub fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    /// Writes a flag, as 0 or 1.
    pub fn flag(&mut self, flag: bool) {
        self.u8(u8::from(flag));
    }

    /// Writes a count or an index, which fits 32 bits.
    pub fn count(&mut self, count: usize) {
        self.u32(count as u32);
    }
}

/// A reader of state that was written by a [`Writer`], or claims to be.
#[derive(Clone, Debug)]
pub struct Reader<'r> {
    rest: &'r [u8],
}

impl<'r> Reader<'r> {
    /// Creates a reader of bare state, without a frame.
    #[must_use]
    pub const fn new(state: &'r [u8]) -> Self {
        Self { rest: state }
    }

    /// Opens an image framed by [`Writer::begin`] and [`Writer::finish`].
    ///
    /// # Errors
    /// [`RestoreError::NotAnImage`], [`RestoreError::Version`] or [`RestoreError::Damaged`].
    pub fn open(image: &'r [u8], magic: [u8; 8], version: u32) -> Result<Self, RestoreError> {
        let (body, end) = image.split_last_chunk::<8>().ok_or(RestoreError::NotAnImage)?;
        let mut reader = Self { rest: body };
        if reader.array() != Ok(magic) {
            return Err(RestoreError::NotAnImage);
        }
        match reader.u32().map_err(|_| RestoreError::NotAnImage)? {
            known if known == version => {}
            other => return Err(RestoreError::Version(other)),
        }
        if u64::from_le_bytes(*end) != hash(HASH_START, body) {
            return Err(RestoreError::Damaged);
        }
        Ok(reader)
    }

    /// Returns the number of remaining bytes.
    #[must_use]
    pub const fn left(&self) -> usize {
        self.rest.len()
    }

    /// Reads bytes.
    ///
    /// # Errors
    /// [`RestoreError::Truncated`], as for every method here.
    pub fn bytes(&mut self, count: usize) -> Result<&'r [u8], RestoreError> {
        let (bytes, rest) = self.rest.split_at_checked(count).ok_or(RestoreError::Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RestoreError> {
        self.bytes(N)?.try_into().map_err(|_| RestoreError::Truncated)
    }

    /// Reads a structure from its bytes.
    ///
    /// # Errors
    /// [`RestoreError::Truncated`].
    pub fn value<T: FromBytes>(&mut self) -> Result<T, RestoreError> {
        T::read_from_bytes(self.bytes(size_of::<T>())?).map_err(|_| RestoreError::Truncated)
    }

    /// Reads a byte.
    ///
    /// # Errors
    /// [`RestoreError::Truncated`].
    pub fn u8(&mut self) -> Result<u8, RestoreError> {
        self.array().map(|[byte]| byte)
    }

    /// Reads a 32-bit number.
    ///
    /// # Errors
    /// [`RestoreError::Truncated`].
    pub fn u32(&mut self) -> Result<u32, RestoreError> {
        self.array().map(u32::from_le_bytes)
    }

    /// Reads a 64-bit number.
    ///
    /// # Errors
    /// [`RestoreError::Truncated`].
    pub fn u64(&mut self) -> Result<u64, RestoreError> {
        self.array().map(u64::from_le_bytes)
    }

    /// Reads a flag, stored as 0 or 1; an error names it `part`.
    ///
    /// # Errors
    /// [`RestoreError::Truncated`], or [`RestoreError::Invalid`] with `part`.
    pub fn flag(&mut self, part: &'static str) -> Result<bool, RestoreError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(RestoreError::Invalid(part)),
        }
    }

    /// Reads a count or an index.
    ///
    /// # Errors
    /// [`RestoreError::Truncated`].
    pub fn count(&mut self) -> Result<usize, RestoreError> {
        self.u32().map(|count| count as usize)
    }

    /// Checks that nothing remains.
    ///
    /// # Errors
    /// [`RestoreError::Invalid`] if something remains.
    pub fn end(&self) -> Result<(), RestoreError> {
        if self.rest.is_empty() { Ok(()) } else { Err(RestoreError::Invalid("length")) }
    }
}
