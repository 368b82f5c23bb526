//! The two calling conventions and the counter.
//!
//! The current TLFS promises that a hypercall preserves all registers except those that return something; the
//! hypervisors of 2018 did not. So X0 to X17 are treated as clobbered here, which costs a caller nothing unless it
//! holds a value in one of them across the call.

use core::arch::asm;

use hv_tlfs::hypercall::{HypercallInput, HypercallOutput};
use hv_tlfs::smccc::{HYPERCALL, VENDOR_HYP_UID, VENDOR_UID};

use crate::conduit::{Conduit, Counter, FAST_WORDS, FastOutput};

/// `hvc #0`, the SMC Calling Convention, recommended by the TLFS. X0 is the function id 0x46000001, X1 the input value,
/// X2 to X17 the parameters.
///
/// Source: TLFS, "Hypercall Interface", "Hypercall Register Conventions (ARM64 SMCCC)".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[doc(alias = "HV_FUNC_ID")]
pub struct Smccc;

/// `hvc #1`, the 2018 convention, still used by firmware: X0 is the input value, X1 to X16 the parameters.
///
/// Source: TLFS, "Hypercall Interface", "Hypercall Register Conventions (ARM64 HVC #1)".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hvc1;

/// Either convention, chosen at boot: one predictable branch per call, no function pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Either {
    /// `hvc #0`.
    Smccc,
    /// `hvc #1`.
    Hvc1,
}

/// The virtual counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cntvct;

/// Makes an SMCCC call through `hvc #0`.
///
/// # Safety
///
/// The same as for [`Conduit::smccc`].
#[inline]
unsafe fn smccc(function: u32, arguments: [u64; 3]) -> [u64; 4] {
    let [x0, x1, x2, x3]: [u64; 4];
    // SAFETY: all registers that SMCCC 1.1 uses or may change are declared: X0 to X3 as inputs and outputs, X4 to X17
    // as clobbers. The caller vouches for the effects of the call, by this function's contract.
    unsafe {
        asm!(
            "hvc #0",
            inlateout("x0") u64::from(function) => x0,
            inlateout("x1") arguments[0] => x1,
            inlateout("x2") arguments[1] => x2,
            inlateout("x3") arguments[2] => x3,
            lateout("x4") _, lateout("x5") _, lateout("x6") _, lateout("x7") _, lateout("x8") _,
            lateout("x9") _, lateout("x10") _, lateout("x11") _, lateout("x12") _, lateout("x13") _,
            lateout("x14") _, lateout("x15") _, lateout("x16") _, lateout("x17") _,
            options(nostack)
        );
    }
    [x0, x1, x2, x3]
}

impl Conduit for Smccc {
    #[inline]
    unsafe fn call(&self, control: HypercallInput, block: &mut [u64; FAST_WORDS]) -> HypercallOutput {
        let result: u64;
        let [w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, w15] = block;
        // SAFETY: every register that the convention reads or may change is declared, and the compiler assumes that all
        // memory changes. The caller vouches for the effects of the call (`Conduit`).
        unsafe {
            asm!(
                "hvc #0",
                inlateout("x0") u64::from(HYPERCALL) => result,
                inlateout("x1") control.bits() => _,
                inlateout("x2") *w0, inlateout("x3") *w1, inlateout("x4") *w2, inlateout("x5") *w3,
                inlateout("x6") *w4, inlateout("x7") *w5, inlateout("x8") *w6, inlateout("x9") *w7,
                inlateout("x10") *w8, inlateout("x11") *w9, inlateout("x12") *w10, inlateout("x13") *w11,
                inlateout("x14") *w12, inlateout("x15") *w13, inlateout("x16") *w14, inlateout("x17") *w15,
                options(nostack)
            );
        }
        HypercallOutput::from_bits(result)
    }

    #[inline]
    fn fast_output(&self) -> FastOutput {
        FastOutput::AfterInput
    }

    #[inline]
    unsafe fn smccc(&self, function: u32, arguments: [u64; 3]) -> [u64; 4] {
        // SAFETY: the caller vouches for the effects of this call, by the contract of `Conduit::smccc`.
        unsafe { smccc(function, arguments) }
    }

    #[inline]
    unsafe fn call_2(&self, control: HypercallInput, input: [u64; 2]) -> HypercallOutput {
        let result: u64;
        // SAFETY: every register that the convention reads or may change is declared, and the compiler assumes that all
        // memory changes. The caller vouches for the effects of the call (`Conduit`). Such a call takes no input beyond
        // X3.
        unsafe {
            asm!(
                "hvc #0",
                inlateout("x0") u64::from(HYPERCALL) => result,
                inlateout("x1") control.bits() => _,
                inlateout("x2") input[0] => _, inlateout("x3") input[1] => _,
                lateout("x4") _, lateout("x5") _, lateout("x6") _, lateout("x7") _, lateout("x8") _,
                lateout("x9") _, lateout("x10") _, lateout("x11") _, lateout("x12") _, lateout("x13") _,
                lateout("x14") _, lateout("x15") _, lateout("x16") _, lateout("x17") _,
                options(nostack)
            );
        }
        HypercallOutput::from_bits(result)
    }

    #[inline]
    unsafe fn call_6(&self, control: HypercallInput, input: [u64; 6]) -> HypercallOutput {
        let result: u64;
        // SAFETY: every register that the convention reads or may change is declared, and the compiler assumes that all
        // memory changes. The caller vouches for the effects of the call (`Conduit`). Such a call takes no input beyond
        // X7.
        unsafe {
            asm!(
                "hvc #0",
                inlateout("x0") u64::from(HYPERCALL) => result,
                inlateout("x1") control.bits() => _,
                inlateout("x2") input[0] => _, inlateout("x3") input[1] => _, inlateout("x4") input[2] => _,
                inlateout("x5") input[3] => _, inlateout("x6") input[4] => _, inlateout("x7") input[5] => _,
                lateout("x8") _, lateout("x9") _, lateout("x10") _, lateout("x11") _, lateout("x12") _,
                lateout("x13") _, lateout("x14") _, lateout("x15") _, lateout("x16") _, lateout("x17") _,
                options(nostack)
            );
        }
        HypercallOutput::from_bits(result)
    }

    #[inline]
    unsafe fn call_3_2(&self, control: HypercallInput, input: [u64; 3]) -> (HypercallOutput, [u64; 2]) {
        let (result, low, high): (u64, u64, u64);
        // SAFETY: every register that the convention reads or may change is declared, and the compiler assumes that all
        // memory changes. The caller vouches for the effects of the call (`Conduit`). Three words of input are rounded
        // up to four, so output starts at X6; X5 pads the input.
        unsafe {
            asm!(
                "hvc #0",
                inlateout("x0") u64::from(HYPERCALL) => result,
                inlateout("x1") control.bits() => _,
                inlateout("x2") input[0] => _, inlateout("x3") input[1] => _, inlateout("x4") input[2] => _,
                lateout("x5") _, lateout("x6") low, lateout("x7") high, lateout("x8") _,
                lateout("x9") _, lateout("x10") _, lateout("x11") _, lateout("x12") _, lateout("x13") _,
                lateout("x14") _, lateout("x15") _, lateout("x16") _, lateout("x17") _,
                options(nostack)
            );
        }
        (HypercallOutput::from_bits(result), [low, high])
    }
}

impl Conduit for Hvc1 {
    #[inline]
    unsafe fn call(&self, control: HypercallInput, block: &mut [u64; FAST_WORDS]) -> HypercallOutput {
        let result: u64;
        let [w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, w15] = block;
        // SAFETY: every register that the convention reads or may change is declared, and the compiler assumes that all
        // memory changes. The caller vouches for the effects of the call (`Conduit`). X17 is not part of the parameter
        // block but may change.
        unsafe {
            asm!(
                "hvc #1",
                inlateout("x0") control.bits() => result,
                inlateout("x1") *w0, inlateout("x2") *w1, inlateout("x3") *w2, inlateout("x4") *w3,
                inlateout("x5") *w4, inlateout("x6") *w5, inlateout("x7") *w6, inlateout("x8") *w7,
                inlateout("x9") *w8, inlateout("x10") *w9, inlateout("x11") *w10, inlateout("x12") *w11,
                inlateout("x13") *w12, inlateout("x14") *w13, inlateout("x15") *w14, inlateout("x16") *w15,
                lateout("x17") _,
                options(nostack)
            );
        }
        HypercallOutput::from_bits(result)
    }

    #[inline]
    fn fast_output(&self) -> FastOutput {
        FastOutput::Last
    }

    #[inline]
    unsafe fn smccc(&self, function: u32, arguments: [u64; 3]) -> [u64; 4] {
        // SAFETY: the caller vouches for the effects of this call, by the contract of `Conduit::smccc`.
        unsafe { smccc(function, arguments) }
    }

    #[inline]
    unsafe fn call_2(&self, control: HypercallInput, input: [u64; 2]) -> HypercallOutput {
        let result: u64;
        // SAFETY: every register that the convention reads or may change is declared, and the compiler assumes that all
        // memory changes. The caller vouches for the effects of the call (`Conduit`). Such a call takes no input beyond
        // X2.
        unsafe {
            asm!(
                "hvc #1",
                inlateout("x0") control.bits() => result,
                inlateout("x1") input[0] => _, inlateout("x2") input[1] => _,
                lateout("x3") _, lateout("x4") _, lateout("x5") _, lateout("x6") _, lateout("x7") _,
                lateout("x8") _, lateout("x9") _, lateout("x10") _, lateout("x11") _, lateout("x12") _,
                lateout("x13") _, lateout("x14") _, lateout("x15") _, lateout("x16") _, lateout("x17") _,
                options(nostack)
            );
        }
        HypercallOutput::from_bits(result)
    }

    #[inline]
    unsafe fn call_6(&self, control: HypercallInput, input: [u64; 6]) -> HypercallOutput {
        let result: u64;
        // SAFETY: every register that the convention reads or may change is declared, and the compiler assumes that all
        // memory changes. The caller vouches for the effects of the call (`Conduit`). Such a call takes no input beyond
        // X6.
        unsafe {
            asm!(
                "hvc #1",
                inlateout("x0") control.bits() => result,
                inlateout("x1") input[0] => _, inlateout("x2") input[1] => _, inlateout("x3") input[2] => _,
                inlateout("x4") input[3] => _, inlateout("x5") input[4] => _, inlateout("x6") input[5] => _,
                lateout("x7") _, lateout("x8") _, lateout("x9") _, lateout("x10") _, lateout("x11") _,
                lateout("x12") _, lateout("x13") _, lateout("x14") _, lateout("x15") _, lateout("x16") _,
                lateout("x17") _,
                options(nostack)
            );
        }
        HypercallOutput::from_bits(result)
    }

    #[inline]
    unsafe fn call_3_2(&self, control: HypercallInput, input: [u64; 3]) -> (HypercallOutput, [u64; 2]) {
        let (result, low, high): (u64, u64, u64);
        // SAFETY: every register that the convention reads or may change is declared, and the compiler assumes that all
        // memory changes. The caller vouches for the effects of the call (`Conduit`). Two words of output are in the
        // last registers of the block, X15 and X16.
        unsafe {
            asm!(
                "hvc #1",
                inlateout("x0") control.bits() => result,
                inlateout("x1") input[0] => _, inlateout("x2") input[1] => _, inlateout("x3") input[2] => _,
                lateout("x4") _, lateout("x5") _, lateout("x6") _, lateout("x7") _, lateout("x8") _,
                lateout("x9") _, lateout("x10") _, lateout("x11") _, lateout("x12") _, lateout("x13") _,
                lateout("x14") _, lateout("x15") low, lateout("x16") high, lateout("x17") _,
                options(nostack)
            );
        }
        (HypercallOutput::from_bits(result), [low, high])
    }
}

impl Either {
    /// Returns the convention to use on a host that is known to be Hyper-V: `hvc #0` if the host answers the vendor UID
    /// call with its UID, `hvc #1` if it is too old for that.
    ///
    /// An unknown SMCCC function returns -1, so the query is harmless on any host; a call through `hvc #1` on another
    /// hypervisor may be an undefined instruction. Detect first ([`crate::detect`]).
    #[must_use]
    pub fn probe() -> Self {
        // SAFETY: the vendor UID call returns four registers, and does nothing else (SMCCC, "Vendor Specific Hypervisor
        // Service Calls").
        let answer = unsafe { smccc(VENDOR_HYP_UID, [0; 3]) };
        if answer.map(|word| word as u32) == VENDOR_UID { Self::Smccc } else { Self::Hvc1 }
    }
}

impl Conduit for Either {
    #[inline]
    unsafe fn call(&self, control: HypercallInput, block: &mut [u64; FAST_WORDS]) -> HypercallOutput {
        match self {
            // SAFETY: the caller vouches for the effects of this call, by the contract of `Conduit::call`; the conduit
            // only fixes the convention.
            Self::Smccc => unsafe { Smccc.call(control, block) },
            // SAFETY: the caller vouches for the effects of this call, by the contract of `Conduit::call`; the conduit
            // only fixes the convention.
            Self::Hvc1 => unsafe { Hvc1.call(control, block) },
        }
    }

    #[inline]
    fn fast_output(&self) -> FastOutput {
        match self {
            Self::Smccc => Smccc.fast_output(),
            Self::Hvc1 => Hvc1.fast_output(),
        }
    }

    #[inline]
    unsafe fn smccc(&self, function: u32, arguments: [u64; 3]) -> [u64; 4] {
        // SAFETY: the caller vouches for the effects of this call, by the contract of `Conduit::smccc`.
        unsafe { smccc(function, arguments) }
    }

    #[inline]
    unsafe fn call_2(&self, control: HypercallInput, input: [u64; 2]) -> HypercallOutput {
        match self {
            // SAFETY: the caller vouches for the effects of this call, by the contract of `Conduit::call_2`.
            Self::Smccc => unsafe { Smccc.call_2(control, input) },
            // SAFETY: the caller vouches for the effects of this call, by the contract of `Conduit::call_2`.
            Self::Hvc1 => unsafe { Hvc1.call_2(control, input) },
        }
    }

    #[inline]
    unsafe fn call_6(&self, control: HypercallInput, input: [u64; 6]) -> HypercallOutput {
        match self {
            // SAFETY: the caller vouches for the effects of this call, by the contract of `Conduit::call_6`.
            Self::Smccc => unsafe { Smccc.call_6(control, input) },
            // SAFETY: the caller vouches for the effects of this call, by the contract of `Conduit::call_6`.
            Self::Hvc1 => unsafe { Hvc1.call_6(control, input) },
        }
    }

    #[inline]
    unsafe fn call_3_2(&self, control: HypercallInput, input: [u64; 3]) -> (HypercallOutput, [u64; 2]) {
        match self {
            // SAFETY: the caller vouches for the effects of this call, by the contract of `Conduit::call_3_2`.
            Self::Smccc => unsafe { Smccc.call_3_2(control, input) },
            // SAFETY: the caller vouches for the effects of this call, by the contract of `Conduit::call_3_2`.
            Self::Hvc1 => unsafe { Hvc1.call_3_2(control, input) },
        }
    }
}

impl Counter for Cntvct {
    /// Reads CNTVCT_EL0 after an ISB. Without the ISB the counter may be read early, before loads and stores that
    /// precede it in program order (Arm ARM, D12.1.2 "Physical and virtual counters", on speculative reads). Unlike in
    /// the 2018 patch there is no second ISB: without it, later instructions may see an *older* counter value, which a
    /// reader of a clock cannot tell from being interrupted.
    #[inline]
    fn counter(&self) -> u64 {
        let ticks: u64;
        // SAFETY: the instructions read a counter that is always accessible at EL1; the barrier has no other effect.
        // Not `nomem`, so that the compiler does not move it across memory accesses.
        unsafe {
            asm!("isb", "mrs {}, cntvct_el0", out(reg) ticks, options(nostack, preserves_flags));
        }
        ticks
    }
}

/// A conduit also reads the counter: both belong to the current VP.
macro_rules! counter_of_the_vp {
    ($($conduit:ty)*) => {$(
        impl Counter for $conduit {
            #[inline]
            fn counter(&self) -> u64 {
                Cntvct.counter()
            }
        }
    )*};
}
counter_of_the_vp!(Smccc Hvc1 Either);
