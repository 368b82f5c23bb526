//! The general registers of a VP that makes a call.

/// X0 to X30 of the calling VP.
///
/// A call accesses only the registers that it needs: where an access is expensive (an `ioctl` of KVM), the others cost
/// nothing. [`CallRegisters`](crate::CallRegisters) lists them in advance.
pub trait Registers {
    /// A read takes a multiple of a call's own time, so registers that a call does not use are not read.
    const READS_COST: bool = false;

    /// Reads register X`n`, at most 30.
    fn x(&self, n: usize) -> u64;

    /// Writes register X`n`, at most 30.
    fn set_x(&mut self, n: usize, value: u64);
}

impl Registers for [u64; 31] {
    #[inline(always)]
    fn x(&self, n: usize) -> u64 {
        self[n]
    }

    #[inline(always)]
    fn set_x(&mut self, n: usize, value: u64) {
        self[n] = value;
    }
}
