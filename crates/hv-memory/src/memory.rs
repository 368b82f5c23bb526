//! Guest physical memory.

use core::fmt;
use core::sync::atomic::{Ordering, fence};

/// An access outside the guest's memory: the address is not mapped, a part of the range is not, or a word is not aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadAddress;

impl fmt::Display for BadAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not in the guest's memory")
    }
}

impl core::error::Error for BadAddress {}

/// Guest physical memory.
///
/// Every method checks its whole range before it touches a byte: an address from a guest is a claim. Other VPs of the
/// guest run at the same time, so a value read twice may differ; the callers read once and judge the copy, and an
/// implementation has to cope with racing writes (volatile or atomic accesses, never references).
pub trait GuestMemory {
    /// Copies `buf.len()` bytes at `gpa` into `buf`.
    ///
    /// # Errors
    /// [`BadAddress`] if the range is not all guest memory; `buf` is then unspecified.
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), BadAddress>;

    /// Copies `data` to `gpa`.
    ///
    /// # Errors
    /// [`BadAddress`] if the range is not all guest memory; nothing was written.
    fn write(&self, gpa: u64, data: &[u8]) -> Result<(), BadAddress>;

    /// Loads the 32-bit word at `gpa` with acquire ordering: no later access is made before it.
    ///
    /// # Errors
    /// [`BadAddress`] if the word is not guest memory or `gpa` is not a multiple of 4.
    fn load_acquire(&self, gpa: u64) -> Result<u32, BadAddress>;

    /// Stores the 32-bit word at `gpa` with release ordering: all earlier writes are visible to whoever sees this one.
    ///
    /// # Errors
    /// [`BadAddress`] if the word is not guest memory or `gpa` is not a multiple of 4.
    fn store_release(&self, gpa: u64, value: u32) -> Result<(), BadAddress>;

    /// Sets `bits` in the 32-bit word at `gpa` and returns the old word, in one access of acquire and release ordering.
    ///
    /// # Errors
    /// [`BadAddress`] if the word is not guest memory or `gpa` is not a multiple of 4.
    fn fetch_or(&self, gpa: u64, bits: u32) -> Result<u32, BadAddress>;

    /// Replaces the 32-bit word at `gpa` and returns the old word, in one access of acquire and release ordering.
    ///
    /// # Errors
    /// [`BadAddress`] if the word is not guest memory or `gpa` is not a multiple of 4.
    fn swap(&self, gpa: u64, value: u32) -> Result<u32, BadAddress>;

    /// Returns whether `len` bytes at `gpa` are guest memory.
    fn contains(&self, gpa: u64, len: u64) -> bool;

    /// Orders every earlier access before every later one, stores before loads too. An implementation that models memory
    /// replaces it.
    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}
