//! The general registers of a VP that makes a call, and which of them a call reads and writes.
//!
//! Source: TLFS, "Hypercall Interface", "Register Mapping for Hypercall Inputs"; Arm SMC Calling Convention (DEN0028).

use hv_tlfs::hypercall::HypercallInput;
use hv_tlfs::smccc::{VENDOR_HYP_UID, VENDOR_HYP_UID_64};

use crate::event::Convention;
use crate::hypercall::fast_places;

/// X0 to X30 of the VP whose call is carried out.
///
/// A call reads and writes the registers that it needs, and no others: where an access is dear (one `ioctl` of KVM), nothing
/// is paid for the rest. [`CallRegisters`] says beforehand which they are.
pub trait Registers {
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

/// A set of the registers X0 to X30.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegisterSet(
    /// Bit n stands for Xn.
    pub u32,
);

impl RegisterSet {
    /// Makes a set of `count` registers from X`first` on.
    #[must_use]
    pub const fn range(first: usize, count: usize) -> Self {
        Self((((1u64 << count) - 1) << first) as u32)
    }

    /// Returns the registers of both sets.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns whether X`n` is in the set.
    #[must_use]
    pub const fn contains(self, n: usize) -> bool {
        n < 32 && self.0 >> n & 1 != 0
    }

    /// Walks over the registers' numbers.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..31).filter(move |&n| self.contains(n))
    }
}

/// The registers that a call may read, and those that it may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallRegisters {
    /// It reads no others.
    pub read: RegisterSet,
    /// It writes no others, whatever its result and whether it has to be made again.
    pub written: RegisterSet,
}

impl CallRegisters {
    /// Returns those of a hypercall with this control word.
    #[must_use]
    pub fn of_hypercall(convention: Convention, control: HypercallInput) -> Self {
        let first = convention.control();
        // The control word with what tells that this is a hypercall, and the two registers behind it: addresses, or the
        // first 16 bytes of a fast call's input.
        let read = RegisterSet::range(0, first + 3);
        // The result; of a call that is made again its control word.
        let written = RegisterSet::range(0, 1).union(RegisterSet::range(first, 1));
        let Some((input, output)) = fast_places(convention, control) else {
            return Self { read, written };
        };
        Self {
            read: read.union(RegisterSet::range(input.start, input.len())),
            written: written.union(RegisterSet::range(output.start, output.len())),
        }
    }

    /// Returns those of an SMCCC function that is no hypercall, PSCI included.
    #[must_use]
    pub const fn of_function(function: u32) -> Self {
        let results = if matches!(function, VENDOR_HYP_UID | VENDOR_HYP_UID_64) { 4 } else { 1 };
        Self { read: RegisterSet::range(0, 4), written: RegisterSet::range(0, results) }
    }
}
