//! Flushing the TLBs of other VPs.

use crate::abi::Tables;
use crate::sets::VpSetHeader;

pub(crate) const TABLES: Tables = Tables { constants: &[FLAGS], structs: &[FLAG_WORD, INPUTS] };

constants! {
    table FLAGS, kind "flush", from "TLFS, HvCallFlushVirtualAddressSpace; Linux 6.12, include/asm-generic/hyperv-tlfs.h; 2018 patch", impl FlushFlags;

    /// [`Self::all_processors`] alone.
    ALL_PROCESSORS = 1 << 0, "HV_FLUSH_ALL_PROCESSORS";
    /// [`Self::all_virtual_address_spaces`] alone.
    ALL_VIRTUAL_ADDRESS_SPACES = 1 << 1, "HV_FLUSH_ALL_VIRTUAL_ADDRESS_SPACES";
    /// [`Self::non_global_mappings_only`] alone.
    NON_GLOBAL_MAPPINGS_ONLY = 1 << 2, "HV_FLUSH_NON_GLOBAL_MAPPINGS_ONLY";
    /// [`Self::use_extended_range_format`] alone.
    USE_EXTENDED_RANGE_FORMAT = 1 << 3, "HV_FLUSH_USE_EXTENDED_RANGE_FORMAT";
}

bits! {
    table FLAG_WORD, from "TLFS, HvCallFlushVirtualAddressSpace; openvmm, vm/hv1/hvdef";

    /// Scope of a flush.
    pub struct FlushFlags(u64) = "HV_FLUSH_FLAGS" {
        /// On every VP; the mask or set is ignored.
        all_processors / with_all_processors: bool @ 0;
        /// Every address space; the one given is ignored.
        all_virtual_address_spaces / with_all_virtual_address_spaces: bool @ 1;
        /// Global mappings may stay. Invalid with a list.
        non_global_mappings_only / with_non_global_mappings_only: bool @ 2;
        /// Ranges are in the extended format.
        use_extended_range_format / with_use_extended_range_format: bool @ 3;
        /// The target VTL bits are valid.
        use_target_vtl / with_use_target_vtl: bool @ 4;
        /// VTL 0 is a target.
        target_vtl0 / with_target_vtl0: bool @ 8;
        /// VTL 1 is a target.
        target_vtl1 / with_target_vtl1: bool @ 9;
    }
}

structs! {
    table INPUTS, from "TLFS, HvCallFlushVirtualAddressSpace and its kin; Linux 6.12, include/asm-generic/hyperv-tlfs.h";

    /// Input of the two flushes with a processor mask; a list of ranges follows it in the rep hypercall.
    pub struct TlbFlush = "hv_tlb_flush", size 24 {
        /// The address space: on ARM64 the translation table base.
        address_space: u64 = 0,
        /// Scope of the flush.
        flags: FlushFlags = 8,
        /// Mask of VPs 0 to 63.
        processor_mask: u64 = 16,
    }
    also {
        "gva_list" @ 24, 0;
    }

    /// Input of the two flushes with a VP set; the set's banks, then a list of ranges follow it.
    pub struct TlbFlushEx = "hv_tlb_flush_ex", size 32 {
        /// The address space: on ARM64 the translation table base.
        address_space: u64 = 0,
        /// Scope of the flush.
        flags: FlushFlags = 8,
        /// The VPs.
        vp_set: VpSetHeader = 16 "hv_vp_set",
    }
    also {
        "gva_list" @ 32, 0;
    }
}
