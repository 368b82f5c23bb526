//! How a hypercall leaves the guest.
//!
//! Everything in this crate is generic over a [`Conduit`] and calls it statically, so the choice costs nothing. On
//! AArch64 there are `arch::Smccc` (`hvc #0`), `arch::Hvc1` (`hvc #1`), and `arch::Either` for an OS that chooses at
//! boot. In a test a conduit is a partition model in the same process.
//!
//! # What "safe" means here
//!
//! A hypercall can make the hypervisor write wherever its arguments say, which no type system sees. The routines of
//! this crate hand out only addresses that came from [`Memory`](crate::page::Memory), whose implementer vouches for
//! them, and from pages that stay lent for as long as the hypervisor may write. A caller that uses a conduit with
//! words of its own making, or writes an address to a register by hand, takes that duty over, as a program does that
//! writes to a device's DMA registers.

use hv_tlfs::hypercall::{HypercallInput, HypercallOutput};

/// Registers of a fast hypercall's parameter block: X2 to X17 with `hvc #0`, X1 to X16 with `hvc #1`.
///
/// Source: TLFS, "Hypercall Interface", "Register Fast Call Input".
pub const FAST_WORDS: usize = 16;

/// Where a fast hypercall returns its output within the parameter block.
///
/// The TLFS describes both conventions alike; this is what hypervisors and guests do (Linux, arch/arm64/hyperv; openvmm,
/// openhcl/minimal_rt).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FastOutput {
    /// In the register pairs after those of the input: `hvc #0`.
    AfterInput,
    /// In the last register pairs of the block: `hvc #1`.
    Last,
}

impl FastOutput {
    /// The first word of an output of `output` bytes, after an input of `input` bytes: each has pairs of registers to
    /// itself. `None` if the block is too small for both.
    #[inline]
    #[must_use]
    pub const fn first_word(self, input: usize, output: usize) -> Option<usize> {
        let input = input.div_ceil(16) * 2;
        let output = output.div_ceil(16) * 2;
        if input > FAST_WORDS || output > FAST_WORDS - input {
            return None;
        }
        Some(match self {
            Self::AfterInput => input,
            Self::Last => FAST_WORDS - output,
        })
    }
}

/// How a hypercall is issued.
///
/// [`call`](Self::call) is the general form. The others exist because they are what hot paths need and load fewer
/// registers; their defaults go through `call`.
#[doc(alias = "hv_do_hvc")]
pub trait Conduit {
    /// Issues a hypercall with a whole parameter block, which on return holds what the registers held.
    ///
    /// Not fast: word 0 is the input's guest physical address, word 1 the output's. Fast: the words are the input, and
    /// output is where [`fast_output`](Self::fast_output) says.
    fn call(&self, control: HypercallInput, block: &mut [u64; FAST_WORDS]) -> HypercallOutput;

    /// Where fast output comes back.
    fn fast_output(&self) -> FastOutput;

    /// An SMCCC call (always `hvc #0`) of a function other than the hypercall: X0 and X1 to X3 in, X0 to X3 out.
    ///
    /// Source: Arm SMC Calling Convention (DEN0028).
    fn smccc(&self, function: u32, arguments: [u64; 3]) -> [u64; 4];

    /// A hypercall of at most two input words and no fast output: any memory-based call, and the small fast ones.
    #[inline]
    fn call_2(&self, control: HypercallInput, input: [u64; 2]) -> HypercallOutput {
        let mut block = [0; FAST_WORDS];
        block[..2].copy_from_slice(&input);
        self.call(control, &mut block)
    }

    /// A fast hypercall of at most six input words and no output: one register set.
    #[inline]
    fn call_6(&self, control: HypercallInput, input: [u64; 6]) -> HypercallOutput {
        let mut block = [0; FAST_WORDS];
        block[..6].copy_from_slice(&input);
        self.call(control, &mut block)
    }

    /// A fast hypercall of three input words and two output words: one register read.
    #[inline]
    #[doc(alias = "hv_do_hvc_fast_get")]
    fn call_3_2(&self, control: HypercallInput, input: [u64; 3]) -> (HypercallOutput, [u64; 2]) {
        let mut block = [0; FAST_WORDS];
        block[..3].copy_from_slice(&input);
        let result = self.call(control, &mut block);
        let output = match self.fast_output() {
            FastOutput::AfterInput => [block[4], block[5]],
            FastOutput::Last => [block[14], block[15]],
        };
        (result, output)
    }
}

/// The counter that the reference TSC page scales: CNTVCT_EL0.
pub trait Counter {
    /// The counter now, in ticks. Not earlier than any load before it that an acquire ordered.
    #[doc(alias = "hv_read_hwclock")]
    fn counter(&self) -> u64;
}

impl<C: Conduit + ?Sized> Conduit for &C {
    #[inline]
    fn call(&self, control: HypercallInput, block: &mut [u64; FAST_WORDS]) -> HypercallOutput {
        (**self).call(control, block)
    }

    #[inline]
    fn fast_output(&self) -> FastOutput {
        (**self).fast_output()
    }

    #[inline]
    fn smccc(&self, function: u32, arguments: [u64; 3]) -> [u64; 4] {
        (**self).smccc(function, arguments)
    }

    #[inline]
    fn call_2(&self, control: HypercallInput, input: [u64; 2]) -> HypercallOutput {
        (**self).call_2(control, input)
    }

    #[inline]
    fn call_6(&self, control: HypercallInput, input: [u64; 6]) -> HypercallOutput {
        (**self).call_6(control, input)
    }

    #[inline]
    fn call_3_2(&self, control: HypercallInput, input: [u64; 3]) -> (HypercallOutput, [u64; 2]) {
        (**self).call_3_2(control, input)
    }
}

impl<C: Counter + ?Sized> Counter for &C {
    #[inline]
    fn counter(&self) -> u64 {
        (**self).counter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_register_comes_back_where_linux_and_minimal_rt_read_it() {
        // A Get of one register: 16 bytes of header and a 4-byte name in, 16 bytes out.
        assert_eq!(FastOutput::AfterInput.first_word(20, 16), Some(4)); // X2 + 4 = X6
        assert_eq!(FastOutput::Last.first_word(20, 16), Some(14)); // X1 + 14 = X15
        // Half a pair is a pair.
        assert_eq!(FastOutput::AfterInput.first_word(0, 8), Some(0));
        assert_eq!(FastOutput::Last.first_word(0, 8), Some(14));
    }

    #[test]
    fn input_and_output_share_one_block() {
        for place in [FastOutput::AfterInput, FastOutput::Last] {
            assert_eq!(place.first_word(128, 0), Some(16));
            assert_eq!(place.first_word(128, 8), None);
            assert_eq!(place.first_word(112, 16), Some(14));
            assert_eq!(place.first_word(113, 16), None);
            assert_eq!(place.first_word(usize::MAX, 1), None);
        }
    }
}
