//! Packets where their words are aligned.

/// A value at a multiple of 8 bytes, as the ring's words are: bare-metal targets make no unaligned accesses, and copy
/// what is not aligned byte by byte.
#[derive(Clone, Copy)]
#[repr(align(8))]
pub(crate) struct Aligned<T>(pub(crate) T);
