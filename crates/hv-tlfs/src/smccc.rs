//! Hypercall conduits: the immediate of `hvc`, the SMCCC function ids, the vendor's UID.

use crate::abi::Tables;

pub(crate) const TABLES: Tables = Tables { constants: &[FUNCTIONS, UID, IMMEDIATES], structs: &[] };

constants! {
    table FUNCTIONS, kind "smccc", from "TLFS, Hypercall Interface; Arm SMCCC (DEN0028), Function Identifiers; Linux 6.12, arch/arm64/include/asm/mshyperv.h";

    /// X0 of a hypercall through `hvc #0`: a fast 64-bit vendor-specific hypervisor service call, function 1. The input
    /// value is in X1, the two addresses (or the fast input) in X2 and on, the result in X0.
    pub const HYPERCALL: u32 = 0x4600_0001, "HV_FUNC_ID" ["HV_SMCCC_HYPERCALL"];
    /// The function number within [`HYPERCALL`].
    pub const HYPERCALL_NUMBER: u32 = 1, "HV_SMCCC_FUNC_NUMBER";
    /// X0 of the call that queries the vendor UID; the answer is [`VENDOR_UID`] in W0 to W3.
    ///
    /// The TLFS page Feature Discovery prints 0xC600FF0, which is neither form of the number: the 32-bit form is this
    /// one, which Linux uses.
    pub const VENDOR_HYP_UID: u32 = 0x8600_FF01, "ARM_SMCCC_VENDOR_HYP_CALL_UID_FUNC_ID"
        ["VENDOR_HYP_FUNCTION_CODE_UID"];
    /// The 64-bit form of [`VENDOR_HYP_UID`]. openvmm answers it too.
    pub const VENDOR_HYP_UID_64: u32 = 0xC600_FF01, "HV_SMC64_VENDOR_HYP_UID";
    /// X0 returned by an SMCCC call for an unimplemented function: -1, as 64 bits.
    pub const NOT_SUPPORTED: u64 = u64::MAX, "SMCCC_RET_NOT_SUPPORTED";
}

constants! {
    table UID, kind "smccc", from "TLFS, Feature Discovery; openvmm, vm/hv1/hvdef";

    /// W0 of the answer to [`VENDOR_HYP_UID`].
    pub const VENDOR_UID_0: u32 = 0x4d32_ba58, "HV_SMCCC_UID_0" ["VENDOR_HYP_UID_MS_HYPERVISOR"];
    /// W1 of the answer.
    pub const VENDOR_UID_1: u32 = 0xcd24_4764, "HV_SMCCC_UID_1";
    /// W2 of the answer.
    pub const VENDOR_UID_2: u32 = 0x8eef_6c75, "HV_SMCCC_UID_2";
    /// W3 of the answer.
    pub const VENDOR_UID_3: u32 = 0x1659_7024, "HV_SMCCC_UID_3";
}

/// SMCCC_VERSION (Arm SMCCC, DEN0028, "SMCCC_VERSION").
pub const VERSION: u32 = 0x8000_0000;
/// SMCCC_ARCH_FEATURES (Arm SMCCC, DEN0028, "SMCCC_ARCH_FEATURES").
pub const ARCH_FEATURES: u32 = 0x8000_0001;
/// SMCCC_ARCH_SOC_ID (Arm SMCCC, DEN0028, "SMCCC_ARCH_SOC_ID").
pub const ARCH_SOC_ID: u32 = 0x8000_0002;
/// SMCCC_ARCH_WORKAROUND_1 (Arm SMCCC, DEN0028, "SMCCC_ARCH_WORKAROUND_1").
pub const ARCH_WORKAROUND_1: u32 = 0x8000_8000;
/// SMCCC_ARCH_WORKAROUND_2 (Arm SMCCC, DEN0028, "SMCCC_ARCH_WORKAROUND_2").
pub const ARCH_WORKAROUND_2: u32 = 0x8000_7fff;
/// SMCCC_ARCH_WORKAROUND_3 (Arm SMCCC, DEN0028, "SMCCC_ARCH_WORKAROUND_3").
pub const ARCH_WORKAROUND_3: u32 = 0x8000_3fff;
/// TRNG_VERSION (Arm True Random Number Generator Firmware Interface, DEN0098, "TRNG_VERSION").
pub const TRNG_VERSION: u32 = 0x8400_0050;

/// W0 to W3 of Microsoft's answer to [`VENDOR_HYP_UID`].
///
/// Linux writes the same 16 bytes as the UUID 58ba324d-6447-24cd-756c-ef8e24705916, whose words are little-endian.
/// A kernel of 2025 swapped them and did not find the hypervisor: compare words, in this order.
pub const VENDOR_UID: [u32; 4] = [VENDOR_UID_0, VENDOR_UID_1, VENDOR_UID_2, VENDOR_UID_3];

constants! {
    table IMMEDIATES, kind "hvc", from "TLFS, Hypercall Interface; openvmm, openhcl/minimal_rt; 2018 patch";

    /// `hvc #0`: the SMCCC conduit. X0 is the function id, X1 the input value; fast input in X2 to X17, fast output
    /// after it in 16-byte pairs (one register read by a fast Get comes back in X6 and X7).
    pub const HVC_SMCCC: u16 = 0, "HV_HVC_SMCCC" ["hv_do_hypercall"];
    /// `hvc #1`: the 2018 convention, still used by UEFI firmware. X0 is the input value, X1 and X2 the addresses; fast
    /// input in X1 to X16, and the last registers hold the fast output (one register: X15 and X16).
    pub const HVC_HYPERCALL: u16 = 1, "HV_HVC_HYPERCALL" ["hv_do_hvc", "hv_do_hvc_fast_get"];
    /// `hvc #2`: call into the next higher VTL.
    pub const HVC_VTL_CALL: u16 = 2, "HV_HVC_VTL_CALL";
    /// `hvc #3`: return from it.
    pub const HVC_VTL_RETURN: u16 = 3, "HV_HVC_VTL_RETURN";
    /// `hvc #4`: VP start in openvmm's minimal runtime; not part of the TLFS.
    pub const HVC_VP_LAUNCH: u16 = 4, "HV_HVC_VP_LAUNCH";
}
