//! How a hypercall leaves the guest.
//!
//! Everything in this crate is generic over a [`Conduit`] and calls it statically, so the choice costs nothing. On
//! AArch64 there are `arch::Smccc` (`hvc #0`), `arch::Hvc1` (`hvc #1`), and `arch::Either` for an OS that chooses at
//! boot. In a test a conduit is a partition model in the same process.
//!
//! # What is safe
//!
//! A hypercall can make the hypervisor write wherever its arguments say, run code on another VP, or switch the machine
//! off; no type system sees that. So a hypercall made of words is `unsafe`, and so is what leads to one: [`Conduit`]'s
//! methods, [`hypercall`](crate::hypercall), a write to a register that holds an address. The safe routines of this crate
//! issue only calls whose effects are known, with addresses that came from [`Memory`](crate::page::Memory), whose
//! implementer vouches for them, of pages that stay lent for as long as the hypervisor may write.
//!
//! A program that does without any `unsafe` cannot make the hypervisor write to memory of its choice:
//!
//! ```compile_fail,E0133
//! #![forbid(unsafe_code)]
//! # use hv_guest::{conduit::Conduit, tlfs::hypercall::{HypercallCode, HypercallInput}};
//! fn overwrite(hv: &impl Conduit, victim: u64) {
//!     let get = HypercallInput::from_code(HypercallCode::GET_VP_REGISTERS).with_rep_count(1);
//!     hv.call_2(get, [victim, victim]);
//! }
//! ```
//!
//! A program whose business is to make calls by hand, such as a test suite, vouches for all of them in one place:
//! [`Raw`].

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
///
/// # Safety of its methods
///
/// The caller vouches for what the call does: memory that it makes the hypervisor write is the caller's to be written to,
/// for as long as the hypervisor may write it (for the length of the call, or until a page is taken back); code that it
/// makes another VP run is sound to run; a machine that it switches off is the caller's to switch off.
#[doc(alias = "hv_do_hvc")]
pub trait Conduit {
    /// Issues a hypercall with a whole parameter block, which on return holds what the registers held.
    ///
    /// Not fast: word 0 is the input's guest physical address, word 1 the output's. Fast: the words are the input, and
    /// output is where [`fast_output`](Self::fast_output) says.
    ///
    /// # Safety
    ///
    /// What the call does is the caller's to answer for: see [`Conduit`].
    unsafe fn call(&self, control: HypercallInput, block: &mut [u64; FAST_WORDS]) -> HypercallOutput;

    /// Where fast output comes back.
    fn fast_output(&self) -> FastOutput;

    /// An SMCCC call (always `hvc #0`) of a function other than the hypercall: X0 and X1 to X3 in, X0 to X3 out.
    ///
    /// Source: Arm SMC Calling Convention (DEN0028).
    ///
    /// # Safety
    ///
    /// What the call does is the caller's to answer for: see [`Conduit`].
    unsafe fn smccc(&self, function: u32, arguments: [u64; 3]) -> [u64; 4];

    /// A hypercall of at most two input words and no fast output: any memory-based call, and the small fast ones.
    ///
    /// # Safety
    ///
    /// What the call does is the caller's to answer for: see [`Conduit`].
    #[inline]
    unsafe fn call_2(&self, control: HypercallInput, input: [u64; 2]) -> HypercallOutput {
        let mut block = [0; FAST_WORDS];
        block[..2].copy_from_slice(&input);
        // SAFETY: the call is the one that the caller asked for and answers for, by this function's own contract.
        unsafe { self.call(control, &mut block) }
    }

    /// A fast hypercall of at most six input words and no output: one register set.
    ///
    /// # Safety
    ///
    /// What the call does is the caller's to answer for: see [`Conduit`].
    #[inline]
    unsafe fn call_6(&self, control: HypercallInput, input: [u64; 6]) -> HypercallOutput {
        let mut block = [0; FAST_WORDS];
        block[..6].copy_from_slice(&input);
        // SAFETY: the call is the one that the caller asked for and answers for, by this function's own contract.
        unsafe { self.call(control, &mut block) }
    }

    /// A fast hypercall of three input words and two output words: one register read.
    ///
    /// # Safety
    ///
    /// What the call does is the caller's to answer for: see [`Conduit`].
    #[inline]
    #[doc(alias = "hv_do_hvc_fast_get")]
    unsafe fn call_3_2(&self, control: HypercallInput, input: [u64; 3]) -> (HypercallOutput, [u64; 2]) {
        let mut block = [0; FAST_WORDS];
        block[..3].copy_from_slice(&input);
        // SAFETY: the call is the one that the caller asked for and answers for, by this function's own contract.
        let result = unsafe { self.call(control, &mut block) };
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

/// A conduit that passes every call on to another.
macro_rules! passes_on {
    ($([$($generics:tt)*] $ty:ty: |$this:ident| $conduit:expr;)*) => {$(
        impl<$($generics)*> Conduit for $ty {
            #[inline]
            unsafe fn call(&self, control: HypercallInput, block: &mut [u64; FAST_WORDS]) -> HypercallOutput {
                let $this = self;
                // SAFETY: the call is the one that the caller asked for and answers for, by this function's own contract.
                unsafe { $conduit.call(control, block) }
            }

            #[inline]
            fn fast_output(&self) -> FastOutput {
                let $this = self;
                $conduit.fast_output()
            }

            #[inline]
            unsafe fn smccc(&self, function: u32, arguments: [u64; 3]) -> [u64; 4] {
                let $this = self;
                // SAFETY: the call is the one that the caller asked for and answers for, by this function's own contract.
                unsafe { $conduit.smccc(function, arguments) }
            }

            #[inline]
            unsafe fn call_2(&self, control: HypercallInput, input: [u64; 2]) -> HypercallOutput {
                let $this = self;
                // SAFETY: the call is the one that the caller asked for and answers for, by this function's own contract.
                unsafe { $conduit.call_2(control, input) }
            }

            #[inline]
            unsafe fn call_6(&self, control: HypercallInput, input: [u64; 6]) -> HypercallOutput {
                let $this = self;
                // SAFETY: the call is the one that the caller asked for and answers for, by this function's own contract.
                unsafe { $conduit.call_6(control, input) }
            }

            #[inline]
            unsafe fn call_3_2(&self, control: HypercallInput, input: [u64; 3]) -> (HypercallOutput, [u64; 2]) {
                let $this = self;
                // SAFETY: the call is the one that the caller asked for and answers for, by this function's own contract.
                unsafe { $conduit.call_3_2(control, input) }
            }
        }
    )*};
}
pub(crate) use passes_on;

passes_on! {
    [C: Conduit + ?Sized] &C: |it| (**it);
    [C: Conduit + ?Sized] Raw<C>: |it| it.0;
}

/// A conduit for calls made by hand, as a test suite or a fuzzer makes them: its methods are those of [`Conduit`], and safe,
/// because whoever made it has vouched for all of them.
#[derive(Clone, Copy)]
pub struct Raw<C: ?Sized>(C);

impl<C: ?Sized> core::fmt::Debug for Raw<C> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Raw")
    }
}

impl<C> Raw<C> {
    /// Vouches for every call that is made through this value.
    ///
    /// # Safety
    ///
    /// All code that the value is handed to makes only calls that keep the promise of [`Conduit`]'s methods; or no call
    /// reaches a hypervisor, but a model that reaches nothing but memory of its own.
    #[must_use]
    pub const unsafe fn new(conduit: C) -> Self {
        Self(conduit)
    }
}

impl<C: Conduit + ?Sized> Raw<C> {
    /// [`Conduit::call`].
    #[inline]
    pub fn call(&self, control: HypercallInput, block: &mut [u64; FAST_WORDS]) -> HypercallOutput {
        // SAFETY: who made the value has vouched for the call.
        unsafe { self.0.call(control, block) }
    }

    /// [`Conduit::fast_output`].
    #[inline]
    #[must_use]
    pub fn fast_output(&self) -> FastOutput {
        self.0.fast_output()
    }

    /// [`Conduit::smccc`].
    #[inline]
    #[must_use]
    pub fn smccc(&self, function: u32, arguments: [u64; 3]) -> [u64; 4] {
        // SAFETY: the call is the one that the caller asked for and answers for, by this function's own contract.
        unsafe { self.0.smccc(function, arguments) }
    }

    /// [`Conduit::call_2`].
    #[inline]
    pub fn call_2(&self, control: HypercallInput, input: [u64; 2]) -> HypercallOutput {
        // SAFETY: the call is the one that the caller asked for and answers for, by this function's own contract.
        unsafe { self.0.call_2(control, input) }
    }

    /// [`Conduit::call_6`].
    #[inline]
    pub fn call_6(&self, control: HypercallInput, input: [u64; 6]) -> HypercallOutput {
        // SAFETY: the call is the one that the caller asked for and answers for, by this function's own contract.
        unsafe { self.0.call_6(control, input) }
    }

    /// [`Conduit::call_3_2`].
    #[inline]
    pub fn call_3_2(&self, control: HypercallInput, input: [u64; 3]) -> (HypercallOutput, [u64; 2]) {
        // SAFETY: the call is the one that the caller asked for and answers for, by this function's own contract.
        unsafe { self.0.call_3_2(control, input) }
    }
}

impl<C: Counter + ?Sized> Counter for Raw<C> {
    #[inline]
    fn counter(&self) -> u64 {
        self.0.counter()
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
