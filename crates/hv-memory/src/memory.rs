//! Guest physical memory.

use core::fmt;
use core::sync::atomic::{Ordering, fence};

/// An access outside guest memory: the address or part of the range is not mapped, or a word is not aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadAddress;

impl fmt::Display for BadAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("outside guest memory")
    }
}

impl core::error::Error for BadAddress {}

/// Guest physical memory.
///
/// Every method checks its whole range before it accesses a byte, because an address from a guest is not trusted. Other
/// VPs of the guest run at the same time, so a value read twice may differ; callers read once and validate the copy,
/// and an implementation must tolerate racing writes (volatile or atomic accesses, never references).
pub trait GuestMemory {
    /// Copies `buf.len()` bytes at `gpa` into `buf`.
    ///
    /// # Errors
    /// [`BadAddress`] if part of the range is not guest memory; `buf` is then unspecified.
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), BadAddress>;

    /// Copies `data` to `gpa`.
    ///
    /// # Errors
    /// [`BadAddress`] if part of the range is not guest memory; nothing has been written.
    fn write(&self, gpa: u64, data: &[u8]) -> Result<(), BadAddress>;

    /// Loads the 32-bit word at `gpa` with acquire ordering: no later access is made before it.
    ///
    /// # Errors
    /// [`BadAddress`] if the word is not guest memory or `gpa` is not a multiple of 4.
    fn load_acquire(&self, gpa: u64) -> Result<u32, BadAddress>;

    /// Stores the 32-bit word at `gpa` with release ordering: all earlier writes are visible to any reader of this one.
    ///
    /// # Errors
    /// [`BadAddress`] if the word is not guest memory or `gpa` is not a multiple of 4.
    fn store_release(&self, gpa: u64, value: u32) -> Result<(), BadAddress>;

    /// Sets `bits` in the 32-bit word at `gpa` and returns the old word, atomically with acquire and release ordering.
    ///
    /// # Errors
    /// [`BadAddress`] if the word is not guest memory or `gpa` is not a multiple of 4.
    fn fetch_or(&self, gpa: u64, bits: u32) -> Result<u32, BadAddress>;

    /// Replaces the 32-bit word at `gpa` and returns the old word, atomically with acquire and release ordering.
    ///
    /// # Errors
    /// [`BadAddress`] if the word is not guest memory or `gpa` is not a multiple of 4.
    fn swap(&self, gpa: u64, value: u32) -> Result<u32, BadAddress>;

    /// Returns true if `len` bytes at `gpa` are guest memory.
    fn contains(&self, gpa: u64, len: u64) -> bool;

    /// Orders all earlier accesses before all later ones, including stores before loads. An implementation that models
    /// memory overrides it.
    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}
