//! Sets of virtual processors, as in the variable header of hypercalls.

use crate::abi::Tables;

pub(crate) const TABLES: Tables =
    Tables { constants: &[FORMATS, BANKS, LIMITS], structs: &[FORMAT_TYPE, SETS] };

open_enum! {
    table FORMAT_TYPE, from "TLFS, HV_VP_SET; Linux 6.12, include/asm-generic/hyperv-tlfs.h; 2018 patch";
    names [FORMATS];
    /// The format of a VP set. In memory it is 64 bits wide: [`VpSetHeader::format`].
    pub struct GenericSetFormat(u32) = "hv_generic_set_format" ["HV_GENERIC_SET_FORMAT"];
}

constants! {
    table FORMATS, kind "set", from "TLFS, HV_VP_SET; Linux 6.12, include/asm-generic/hyperv-tlfs.h; 2018 patch", impl GenericSetFormat;

    /// Banks of 64 VPs, only those listed.
    SPARSE_4K = 0, "HV_GENERIC_SET_SPARSE_4K";
    /// Every VP of the partition.
    ALL = 1, "HV_GENERIC_SET_ALL";
}

constants! {
    table BANKS, kind "set", from "mshv-bindings";

    /// Log2 of the VPs of a bank.
    pub const BANK_SHIFT: u32 = 6, "HV_GENERIC_SET_SHIFT";
    /// Bits of a VP index that choose the bit in its bank.
    pub const BANK_MASK: u32 = 63, "HV_GENERIC_SET_MASK";
}

constants! {
    table LIMITS, kind "set", from "TLFS, HV_VP_SET; Linux 6.12, include/asm-generic/hyperv-tlfs.h";

    /// Maximum number of banks in a set: the bits of the bank mask.
    pub const MAX_SPARSE_BANKS: usize = 64, "HV_MAX_SPARSE_VCPU_BANKS";
    /// VPs of a bank.
    pub const VPS_PER_BANK: usize = 64, "HV_VCPUS_PER_SPARSE_BANK";
}

structs! {
    table SETS, from "TLFS, HV_VP_SET; Linux 6.12, include/asm-generic/hyperv-tlfs.h";

    /// The fixed part of a VP set. One `u64` follows for each bit set in the bank mask, lowest bank first; together
    /// they are the variable header whose size the hypercall input value gives.
    pub struct VpSetHeader = "hv_vpset" ["HV_VP_SET"], size 16 {
        /// A [`GenericSetFormat`], 64 bits wide.
        format: u64 = 0,
        /// Mask of the banks of 64 VPs that follow.
        valid_bank_mask: u64 = 8,
    }
    also {
        "bank_contents" @ 16, 0;
    }
}

impl VpSetHeader {
    /// Every VP.
    pub const ALL: Self = Self { format: GenericSetFormat::ALL.0 as u64, valid_bank_mask: 0 };

    /// Creates the header of a sparse set with these banks.
    #[must_use]
    pub const fn sparse(valid_bank_mask: u64) -> Self {
        Self { format: GenericSetFormat::SPARSE_4K.0 as u64, valid_bank_mask }
    }
}

/// Returns the bank and bit of a VP in a sparse set; `None` for an index that no set can hold.
#[must_use]
pub const fn bank_and_bit(vp_index: u32) -> Option<(u32, u32)> {
    if vp_index < (MAX_SPARSE_BANKS * VPS_PER_BANK) as u32 {
        Some((vp_index >> BANK_SHIFT, vp_index & BANK_MASK))
    } else {
        None
    }
}
