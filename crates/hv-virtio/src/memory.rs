//! Memory shared by the driver and the device.
#![expect(unsafe_code, reason = "memory that a device writes is accessed by address")]

use core::fmt;
use core::sync::atomic::{Ordering, fence};

/// Memory for queues and buffers: the device may read and write all of it at any time.
///
/// There are no references to it. Each access is bounds-checked and volatile, by bytes or by aligned words.
pub struct DeviceMemory {
    base: *mut u8,
    len: usize,
}

// SAFETY: the value is the only access to its memory, by the contract of `new`, and has no ties to a thread, so it may
// move to another one.
unsafe impl Send for DeviceMemory {}

impl fmt::Debug for DeviceMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceMemory").field("base", &self.base).field("len", &self.len).finish()
    }
}

impl DeviceMemory {
    /// Creates memory to share with a device.
    ///
    /// # Safety
    ///
    /// The range is valid for reads and writes for the rest of the program, aligned to 16 bytes, and Rust code accesses
    /// it only through the result and what is split off it. The device accesses it at the same addresses, coherently
    /// with this CPU.
    #[must_use]
    pub const unsafe fn new(base: *mut u8, len: usize) -> Self {
        Self { base, len }
    }

    /// Splits off the next `len` bytes, rounded up to a multiple of 16; returns `None` if there are too few.
    pub fn split(&mut self, len: usize) -> Option<Self> {
        let len = len.checked_next_multiple_of(16).filter(|len| *len <= self.len)?;
        let front = Self { base: self.base, len };
        self.base = self.base.wrapping_add(len);
        self.len -= len;
        Some(front)
    }

    /// Returns the number of bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Returns true if there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the device address of `len` bytes from byte `offset` on.
    ///
    /// # Panics
    /// If they are not all in the memory.
    pub(crate) fn address(&self, offset: usize, len: usize) -> u64 {
        self.place(offset, len) as u64
    }

    fn place(&self, offset: usize, len: usize) -> *mut u8 {
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.len);
        assert!(inside, "beyond the memory shared with the device");
        self.base.wrapping_add(offset)
    }

    fn word<T>(&self, offset: usize) -> *mut T {
        // The memory begins at a multiple of 16.
        const { assert!(align_of::<T>() <= 16) };
        assert!(offset.is_multiple_of(align_of::<T>()), "a word that is not aligned");
        self.place(offset, size_of::<T>()).cast::<T>()
    }

    /// Reads a word.
    ///
    /// # Panics
    /// If it is not in the memory, or not aligned.
    #[must_use]
    pub fn load<T: Word>(&self, offset: usize) -> T {
        let place: *mut T = self.word(offset);
        // SAFETY: `word` found it inside the memory, which is valid, and aligned; any bytes are a `Word`.
        T::from_le(unsafe { place.read_volatile() })
    }

    /// Writes a word.
    ///
    /// # Panics
    /// The same as for [`load`](Self::load).
    pub fn store<T: Word>(&mut self, offset: usize, value: T) {
        let place: *mut T = self.word(offset);
        // SAFETY: `word` found it inside the memory, which is valid, and aligned.
        unsafe { place.write_volatile(value.to_le()) };
    }

    /// Copies bytes out: in words, if the bytes here are as far from a word's beginning as the others are.
    ///
    /// # Panics
    /// If they are not all in the memory.
    pub fn read(&self, offset: usize, into: &mut [u8]) {
        let place = self.place(offset, into.len());
        // SAFETY: any bytes are words, and any words bytes.
        let (mut front, mut words, mut rest) = unsafe { into.align_to_mut::<u64>() };
        if !place.wrapping_add(front.len()).cast::<u64>().is_aligned() {
            (front, words, rest) = (into, &mut [], &mut []);
        }
        let middle = front.len();
        let end = middle + size_of_val(words);
        // SAFETY: `at` is less than the length of `into`, and `place` found as many bytes inside the memory, which is
        // valid.
        let byte = |at: usize| unsafe { place.wrapping_add(at).read_volatile() };
        front.iter_mut().zip(0..).for_each(|(into, at)| *into = byte(at));
        rest.iter_mut().zip(end..).for_each(|(into, at)| *into = byte(at));
        let place = place.wrapping_add(middle).cast::<u64>();
        for (word, at) in words.iter_mut().zip(0..) {
            // SAFETY: `place` found the bytes inside the memory, which is valid, and these words of them are aligned.
            *word = unsafe { place.wrapping_add(at).read_volatile() };
        }
    }

    /// Copies bytes in, as [`read`](Self::read) does.
    ///
    /// # Panics
    /// The same as for [`read`](Self::read).
    pub fn write(&mut self, offset: usize, from: &[u8]) {
        let place = self.place(offset, from.len());
        // SAFETY: any bytes are words.
        let (mut front, mut words, mut rest) = unsafe { from.align_to::<u64>() };
        if !place.wrapping_add(front.len()).cast::<u64>().is_aligned() {
            (front, words, rest) = (from, &[], &[]);
        }
        let middle = front.len();
        let end = middle + size_of_val(words);
        let put = |at: usize, byte: u8| {
            // SAFETY: `at` is less than the length of `from`, and `place` found as many bytes inside the memory, which
            // is valid.
            unsafe { place.wrapping_add(at).write_volatile(byte) };
        };
        front.iter().zip(0..).for_each(|(byte, at)| put(at, *byte));
        rest.iter().zip(end..).for_each(|(byte, at)| put(at, *byte));
        let place = place.wrapping_add(middle).cast::<u64>();
        let put = |at: usize, word: u64| {
            // SAFETY: `place` found the bytes inside the memory, which is valid, and these words of them are aligned.
            unsafe { place.wrapping_add(at).write_volatile(word) };
        };
        // Four at a time: a round of a loop costs more than a word.
        let (blocks, last) = words.as_chunks::<4>();
        let mut at = 0;
        for [a, b, c, d] in blocks {
            put(at, *a);
            put(at + 1, *b);
            put(at + 2, *c);
            put(at + 3, *d);
            at += 4;
        }
        for word in last {
            put(at, *word);
            at += 1;
        }
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A number of 2, 4 or 8 bytes, which virtio has little-endian.
pub trait Word: Copy + sealed::Sealed {
    #[doc(hidden)]
    fn from_le(value: Self) -> Self;
    #[doc(hidden)]
    fn to_le(self) -> Self;
}

macro_rules! numbers {
    ($($Word:ident),+) => {$(
        impl sealed::Sealed for $Word {}
        impl Word for $Word {
            fn from_le(value: Self) -> Self {
                $Word::from_le(value)
            }

            fn to_le(self) -> Self {
                $Word::to_le(self)
            }
        }
    )+};
}
numbers!(u16, u32, u64);

/// Orders earlier accesses to the memory before later ones, as seen by the device.
pub(crate) fn barrier() {
    fence(Ordering::SeqCst);
}
