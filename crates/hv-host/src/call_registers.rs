//! The general registers of a VP that a call reads and writes.
//!
//! Source: TLFS, "Hypercall Interface", "Register Mapping for Hypercall Inputs"; Arm SMC Calling Convention (DEN0028).

use hv_tlfs::hypercall::HypercallInput;
use hv_tlfs::smccc::{VENDOR_HYP_UID, VENDOR_HYP_UID_64};

use crate::event::Convention;
use crate::hypercall::fast_places;

/// A set of the registers X0 to X30.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegisterSet(
    /// Bit n stands for Xn.
    pub u32,
);

impl RegisterSet {
    /// Creates a set of `count` registers starting at X`first`.
    #[must_use]
    pub const fn range(first: usize, count: usize) -> Self {
        Self((((1u64 << count) - 1) << first) as u32)
    }

    /// Returns the registers of both sets.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns true if X`n` is in the set.
    #[must_use]
    pub const fn contains(self, n: usize) -> bool {
        n < 32 && self.0 >> n & 1 != 0
    }

    /// Iterates over the register numbers.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..31).filter(move |&n| self.contains(n))
    }
}

/// The registers that a call may read, and those that it may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallRegisters {
    /// The registers that it may read.
    pub read: RegisterSet,
    /// The registers that it may write, whatever its result and even if it has to be repeated.
    pub written: RegisterSet,
}

impl CallRegisters {
    /// Returns the registers of a hypercall with this control word.
    #[must_use]
    pub fn of_hypercall(convention: Convention, control: HypercallInput) -> Self {
        let first = convention.control();
        // The registers that identify the hypercall, the control word, and the two after it: addresses, or the first 16
        // bytes of a fast call's input.
        let read = RegisterSet::range(0, first + 3);
        // The result; for a call that is repeated, its control word.
        let written = RegisterSet::range(0, 1).union(RegisterSet::range(first, 1));
        let Some((input, output)) = fast_places(convention, control) else {
            return Self { read, written };
        };
        Self {
            read: read.union(RegisterSet::range(input.start, input.len())),
            written: written.union(RegisterSet::range(output.start, output.len())),
        }
    }

    /// Returns the registers of an SMCCC function other than a hypercall, PSCI included.
    #[must_use]
    pub const fn of_function(function: u32) -> Self {
        let results = if matches!(function, VENDOR_HYP_UID | VENDOR_HYP_UID_64) { 4 } else { 1 };
        Self { read: RegisterSet::range(0, 4), written: RegisterSet::range(0, results) }
    }
}
