//! Conduits: how a hypercall leaves the guest.
//!
//! Everything in this crate is generic over a [`Conduit`], statically dispatched, so the choice costs nothing. On
//! AArch64 there are `arch::Smccc` (`hvc #0`), `arch::Hvc1` (`hvc #1`), and `arch::Either` for an OS that chooses at
//! boot. In a test a conduit is a partition model in the same process.
//!
//! # Safety model
//!
//! A hypercall can make the hypervisor write to any address in its arguments, run code on another VP, or switch the
//! machine off; the type system does not see that. So a hypercall built from raw words is `unsafe`, and so is
//! everything that leads to one: [`Conduit`]'s methods, [`hypercall`](crate::hypercall), a write to a register that
//! holds an address. The safe routines of this crate issue only calls with known effects, on addresses from
//! [`Memory`](crate::page::Memory), whose implementer vouches for them, of pages that stay lent for as long as the
//! hypervisor may write to them.
//!
//! A program without any `unsafe` cannot make the hypervisor write to memory of its choice:
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
//! A program that makes calls by hand, such as a test suite, vouches for all of them in one place: [`Raw`].

use hv_tlfs::hypercall::{HypercallInput, HypercallOutput};

/// Number of registers in the parameter block of a fast hypercall: X2 to X17 with `hvc #0`, X1 to X16 with `hvc #1`.
///
/// Source: TLFS, "Hypercall Interface", "Register Fast Call Input".
pub const FAST_WORDS: usize = 16;

/// Location of a fast hypercall's output within the parameter block.
///
/// The TLFS describes both conventions the same way; this is what hypervisors and guests do (Linux, arch/arm64/hyperv;
/// openvmm, openhcl/minimal_rt).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FastOutput {
    /// In the register pairs after those of the input: `hvc #0`.
    AfterInput,
    /// In the last register pairs of the block: `hvc #1`.
    Last,
}

impl FastOutput {
    /// Returns the index of the first output word, for an output of `output` bytes after an input of `input` bytes;
    /// each occupies whole register pairs. Returns `None` if the block is too small for both.
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

/// A way to issue hypercalls.
///
/// [`call`](Self::call) is the general form. The others are for hot paths and load fewer registers; by default they go
/// through `call`.
///
/// # Safety of the methods
///
/// The caller vouches for the effects of the call: memory that it makes the hypervisor write must be the caller's to
/// give, for as long as the hypervisor may write to it (for the duration of the call, or until a page is taken back);
/// code that it makes another VP run must be sound to run; a machine that it switches off must be the caller's to
/// switch off.
#[doc(alias = "hv_do_hvc")]
pub trait Conduit {
    /// Issues a hypercall with a whole parameter block. On return the block holds the contents of the registers.
    ///
    /// Memory-based: word 0 is the input's guest physical address, word 1 the output's. Fast: the words are the input,
    /// and the output is where [`fast_output`](Self::fast_output) says.
    ///
    /// # Safety
    ///
    /// The caller vouches for the effects of the call; see [`Conduit`].
    unsafe fn call(&self, control: HypercallInput, block: &mut [u64; FAST_WORDS]) -> HypercallOutput;

    /// Returns where fast output is located.
    fn fast_output(&self) -> FastOutput;

    /// Makes an SMCCC call (always `hvc #0`) of a function other than the hypercall: X0 and X1 to X3 in, X0 to X3 out.
    ///
    /// Source: Arm SMC Calling Convention (DEN0028).
    ///
    /// # Safety
    ///
    /// The caller vouches for the effects of the call; see [`Conduit`].
    unsafe fn smccc(&self, function: u32, arguments: [u64; 3]) -> [u64; 4];

    /// Issues a hypercall with at most two input words and no fast output: any memory-based call, and the small fast
    /// ones.
    ///
    /// # Safety
    ///
    /// The caller vouches for the effects of the call; see [`Conduit`].
    #[inline]
    unsafe fn call_2(&self, control: HypercallInput, input: [u64; 2]) -> HypercallOutput {
        let mut block = [0; FAST_WORDS];
        block[..2].copy_from_slice(&input);
        // SAFETY: the caller vouches for the effects of exactly this call, by this function's contract.
        unsafe { self.call(control, &mut block) }
    }

    /// Issues a fast hypercall with at most six input words and no output, such as one register write.
    ///
    /// # Safety
    ///
    /// The caller vouches for the effects of the call; see [`Conduit`].
    #[inline]
    unsafe fn call_6(&self, control: HypercallInput, input: [u64; 6]) -> HypercallOutput {
        let mut block = [0; FAST_WORDS];
        block[..6].copy_from_slice(&input);
        // SAFETY: the caller vouches for the effects of exactly this call, by this function's contract.
        unsafe { self.call(control, &mut block) }
    }

    /// Issues a fast hypercall with three input words and two output words, such as one register read.
    ///
    /// # Safety
    ///
    /// The caller vouches for the effects of the call; see [`Conduit`].
    #[inline]
    #[doc(alias = "hv_do_hvc_fast_get")]
    unsafe fn call_3_2(&self, control: HypercallInput, input: [u64; 3]) -> (HypercallOutput, [u64; 2]) {
        let mut block = [0; FAST_WORDS];
        block[..3].copy_from_slice(&input);
        // SAFETY: the caller vouches for the effects of exactly this call, by this function's contract.
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
    /// Returns the counter, in ticks. It is not read before any earlier load that an acquire orders.
    #[doc(alias = "hv_read_hwclock")]
    fn counter(&self) -> u64;
}

/// Implements a conduit that forwards every call to another.
macro_rules! passes_on {
    ($([$($generics:tt)*] $ty:ty: |$this:ident| $conduit:expr;)*) => {$(
        impl<$($generics)*> Conduit for $ty {
            #[inline]
            unsafe fn call(&self, control: HypercallInput, block: &mut [u64; FAST_WORDS]) -> HypercallOutput {
                let $this = self;
                // SAFETY: the caller vouches for the effects of exactly this call, by this function's contract.
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
                // SAFETY: the caller vouches for the effects of exactly this call, by this function's contract.
                unsafe { $conduit.smccc(function, arguments) }
            }

            #[inline]
            unsafe fn call_2(&self, control: HypercallInput, input: [u64; 2]) -> HypercallOutput {
                let $this = self;
                // SAFETY: the caller vouches for the effects of exactly this call, by this function's contract.
                unsafe { $conduit.call_2(control, input) }
            }

            #[inline]
            unsafe fn call_6(&self, control: HypercallInput, input: [u64; 6]) -> HypercallOutput {
                let $this = self;
                // SAFETY: the caller vouches for the effects of exactly this call, by this function's contract.
                unsafe { $conduit.call_6(control, input) }
            }

            #[inline]
            unsafe fn call_3_2(&self, control: HypercallInput, input: [u64; 3]) -> (HypercallOutput, [u64; 2]) {
                let $this = self;
                // SAFETY: the caller vouches for the effects of exactly this call, by this function's contract.
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

/// A conduit for calls made by hand, for example by a test suite or a fuzzer. Its methods are those of [`Conduit`] but
/// safe, because its creator has vouched for all calls.
#[derive(Clone, Copy)]
pub struct Raw<C: ?Sized>(C);

impl<C: ?Sized> core::fmt::Debug for Raw<C> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Raw")
    }
}

impl<C> Raw<C> {
    /// Creates the conduit, vouching for every call made through it.
    ///
    /// # Safety
    ///
    /// All code with access to the value makes only calls that keep the contract of [`Conduit`]'s methods; or the calls
    /// reach no hypervisor, only a model that accesses nothing but its own memory.
    #[must_use]
    pub const unsafe fn new(conduit: C) -> Self {
        Self(conduit)
    }
}

impl<C: Conduit + ?Sized> Raw<C> {
    /// Calls [`Conduit::call`].
    #[inline]
    pub fn call(&self, control: HypercallInput, block: &mut [u64; FAST_WORDS]) -> HypercallOutput {
        // SAFETY: the creator of this value has vouched for every call made through it (`Raw::new`).
        unsafe { self.0.call(control, block) }
    }

    /// Calls [`Conduit::fast_output`].
    #[inline]
    #[must_use]
    pub fn fast_output(&self) -> FastOutput {
        self.0.fast_output()
    }

    /// Calls [`Conduit::smccc`].
    #[inline]
    #[must_use]
    pub fn smccc(&self, function: u32, arguments: [u64; 3]) -> [u64; 4] {
        // SAFETY: the creator of this value has vouched for every call made through it (`Raw::new`).
        unsafe { self.0.smccc(function, arguments) }
    }

    /// Calls [`Conduit::call_2`].
    #[inline]
    pub fn call_2(&self, control: HypercallInput, input: [u64; 2]) -> HypercallOutput {
        // SAFETY: the creator of this value has vouched for every call made through it (`Raw::new`).
        unsafe { self.0.call_2(control, input) }
    }

    /// Calls [`Conduit::call_6`].
    #[inline]
    pub fn call_6(&self, control: HypercallInput, input: [u64; 6]) -> HypercallOutput {
        // SAFETY: the creator of this value has vouched for every call made through it (`Raw::new`).
        unsafe { self.0.call_6(control, input) }
    }

    /// Calls [`Conduit::call_3_2`].
    #[inline]
    pub fn call_3_2(&self, control: HypercallInput, input: [u64; 3]) -> (HypercallOutput, [u64; 2]) {
        // SAFETY: the creator of this value has vouched for every call made through it (`Raw::new`).
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
        // Half a pair counts as a pair.
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
