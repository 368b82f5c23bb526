//! Hypercalls: call codes, input value and result value.
//!
//! The input value goes in the register that [`crate::smccc`] names, the result comes back in X0. The parameter
//! structures are in the modules of their subjects: [`crate::register`], [`crate::synic`], [`crate::flush`], ...

mod codes;

pub use codes::HypercallCode;

use crate::abi::Tables;
use crate::status::{HvError, HvStatus};

pub(crate) const TABLES: Tables =
    Tables { constants: &[codes::CODES, codes::EXTENDED, MASKS], structs: &[codes::CODE_TYPE, WORDS] };

constants! {
    table MASKS, kind "hypercall-word", from "TLFS, Hypercall Interface; Linux 6.12, include/asm-generic/hyperv-tlfs.h; 2018 patch";

    /// Bits of the status in the result value.
    pub const RESULT_MASK: u64 = 0xffff, "HV_HYPERCALL_RESULT_MASK";
    /// The fast bit of the input value.
    pub const FAST_BIT: u64 = 1 << 16, "HV_HYPERCALL_FAST_BIT";
    /// Lowest bit of the variable header's size.
    pub const VARHEAD_OFFSET: u32 = 17, "HV_HYPERCALL_VARHEAD_OFFSET";
    /// Bits of the variable header's size.
    pub const VARHEAD_MASK: u64 = 0x3ff << 17, "HV_HYPERCALL_VARHEAD_MASK";
    /// Reserved bits 31:27 of the input value. The TLFS has since assigned bit 31: [`NESTED`].
    pub const RSVD0_MASK: u64 = 0x1f << 27, "HV_HYPERCALL_RSVD0_MASK";
    /// Addresses the underlying hypervisor when nested.
    pub const NESTED: u64 = 1 << 31, "HV_HYPERCALL_NESTED";
    /// Lowest bit of the rep count (input) and of the reps completed (result).
    pub const REP_COMP_OFFSET: u32 = 32, "HV_HYPERCALL_REP_COMP_OFFSET";
    /// A rep count of one.
    pub const REP_COMP_1: u64 = 1 << 32, "HV_HYPERCALL_REP_COMP_1" ["HV_HYPERCALL_REP_COUNT_1"];
    /// Bits of the rep count and of the reps completed.
    pub const REP_COMP_MASK: u64 = 0xfff << 32, "HV_HYPERCALL_REP_COMP_MASK";
    /// Reserved bits 47:44 of the input value.
    pub const RSVD1_MASK: u64 = 0xf << 44, "HV_HYPERCALL_RSVD1_MASK";
    /// Lowest bit of the rep start index.
    pub const REP_START_OFFSET: u32 = 48, "HV_HYPERCALL_REP_START_OFFSET";
    /// Bits of the rep start index.
    pub const REP_START_MASK: u64 = 0xfff << 48, "HV_HYPERCALL_REP_START_MASK";
    /// Reserved bits 63:60 of the input value.
    pub const RSVD2_MASK: u64 = 0xf << 60, "HV_HYPERCALL_RSVD2_MASK";
    /// All reserved bits as Linux counts them, including bit 31.
    pub const RSVD_MASK: u64 = RSVD0_MASK | RSVD1_MASK | RSVD2_MASK, "HV_HYPERCALL_RSVD_MASK";
}

bits! {
    table WORDS, from "TLFS, Hypercall Interface";

    /// The hypercall input value.
    ///
    /// ```
    /// use hv_tlfs::hypercall::{HypercallCode, HypercallInput};
    /// let get_one = HypercallInput::from_code(HypercallCode::GET_VP_REGISTERS).with_fast(true).with_rep_count(1);
    /// assert_eq!(get_one.bits(), 0x1_0001_0050);
    /// ```
    pub struct HypercallInput(u64) = "hv_hypercall_input" ["HV_HYPERCALL_INPUT"] {
        /// The call code.
        code / with_code: HypercallCode(u16) @ 15:0 = "CallCode";
        /// Parameters in registers instead of memory.
        fast / with_fast: bool @ 16 = "IsFast";
        /// Size of the variable part of the header in 8-byte words. A nonzero size for a hypercall without such a
        /// header fails with [`HvStatus::INVALID_HYPERCALL_INPUT`].
        variable_header_size / with_variable_header_size: u16 @ 26:17 = "VariableHeaderSize";
        /// Addresses the underlying hypervisor when nested.
        is_nested / with_is_nested: bool @ 31 = "IsNested";
        /// Number of elements of a rep hypercall; 0 on a simple one.
        rep_count / with_rep_count: u16 @ 43:32 = "RepCount";
        /// First element to process; less than the count.
        rep_start / with_rep_start: u16 @ 59:48 = "RepStartIndex";
    }
    also {
        "Reserved0" @ 0, 8, bits 30:27;
        "Reserved1" @ 0, 8, bits 47:44;
        "Reserved2" @ 0, 8, bits 63:60;
    }

    /// The hypercall result value.
    pub struct HypercallOutput(u64) = "hv_hypercall_output" ["HV_HYPERCALL_OUTPUT"] {
        /// Status of the call.
        status / with_status: HvStatus(u16) @ 15:0 = "CallStatus";
        /// Number of rep elements completed, counted from element 0.
        reps_completed / with_reps_completed: u16 @ 43:32 = "RepsCompleted";
    }
    also {
        "Reserved1" @ 0, 8, bits 31:16;
        "Reserved2" @ 0, 8, bits 63:44;
    }
}

impl HypercallInput {
    /// Returns the input value with this code and all other fields zero.
    #[inline]
    #[must_use]
    pub const fn from_code(code: HypercallCode) -> Self {
        Self(code.0 as u64)
    }
}

impl HypercallOutput {
    /// Success, no elements.
    pub const SUCCESS: Self = Self(0);

    /// Returns the result with this status and no completed elements.
    #[inline]
    #[must_use]
    pub const fn from_status(status: HvStatus) -> Self {
        Self(status.0 as u64)
    }

    /// Converts the status to a `Result`.
    ///
    /// # Errors
    ///
    /// Any status but success.
    #[inline]
    pub const fn to_result(self) -> Result<(), HvError> {
        self.status().to_result()
    }
}
