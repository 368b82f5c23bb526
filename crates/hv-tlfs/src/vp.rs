//! Partitions, virtual processors and virtual trust levels: their identifiers.

use crate::abi::Tables;

pub(crate) const TABLES: Tables =
    Tables { constants: &[SELF, VP_SELF, LIMITS, SENTINEL], structs: &[VP_INDEX, PARTITION_ID, VTL_WORD] };

open_enum! {
    table VP_INDEX, from "TLFS, HV_VP_INDEX";
    names [VP_SELF];
    /// The index of a virtual processor in its partition.
    pub struct VpIndex(u32) = "HV_VP_INDEX";
}

open_enum! {
    table PARTITION_ID, from "TLFS, HV_PARTITION_ID";
    names [SELF];
    /// The id of a partition.
    pub struct PartitionId(u64) = "HV_PARTITION_ID";
}

constants! {
    table SELF, kind "vp", from "TLFS, HV_PARTITION_ID and HV_VP_INDEX; Linux 6.12, include/asm-generic/hyperv-tlfs.h; 2018 patch";

    /// The caller's own partition.
    pub const PARTITION_ID_SELF: u64 = u64::MAX, "HV_PARTITION_ID_SELF";
}

constants! {
    table VP_SELF, kind "vp", from "TLFS, HV_PARTITION_ID and HV_VP_INDEX; Linux 6.12, include/asm-generic/hyperv-tlfs.h; 2018 patch";

    /// The VP that calls.
    pub const VP_INDEX_SELF: u32 = 0xffff_fffe, "HV_VP_INDEX_SELF";
    /// Any VP: the hypervisor chooses (target of a port).
    pub const ANY_VP: u32 = 0xffff_ffff, "HV_ANY_VP";
}

constants! {
    table LIMITS, kind "vp", from "Linux 7.2, include/hyperv/hvgdk_mini.h; mshv-bindings";

    /// Maximum number of VPs of a partition on ARM64, from Linux and the root driver's headers. A hypervisor reports
    /// its own limit in [`ImplementationLimits`](crate::features::ImplementationLimits).
    pub const MAXIMUM_PROCESSORS: u32 = 320, "HV_MAXIMUM_PROCESSORS";
    /// Highest index of a VP, likewise.
    pub const MAX_VP_INDEX: u32 = MAXIMUM_PROCESSORS - 1, "HV_MAX_VP_INDEX";
    /// No partition.
    pub const PARTITION_ID_INVALID: u64 = 0, "HV_PARTITION_ID_INVALID";
}

constants! {
    table SENTINEL, kind "vp", from "Linux 6.12, include/asm-generic/mshyperv.h; 2018 patch";

    /// In Linux's map from CPU to VP index: not yet known. Never crosses the interface.
    pub const VP_INDEX_UNKNOWN: u32 = 0xffff_ffff, "VP_INVAL";
}

impl VpIndex {
    /// The VP that calls.
    pub const SELF: Self = Self(VP_INDEX_SELF);
    /// Any VP.
    pub const ANY: Self = Self(ANY_VP);
}

impl PartitionId {
    /// The caller's own partition.
    pub const SELF: Self = Self(PARTITION_ID_SELF);
}

bits! {
    table VTL_WORD, from "TLFS, HV_INPUT_VTL";

    /// The virtual trust level that a hypercall targets; 0 is the caller's own.
    pub struct InputVtl(u8) = "hv_input_vtl" ["HV_INPUT_VTL"] {
        /// The level.
        target_vtl / with_target_vtl: u8 @ 3:0;
        /// The level is valid; else the caller's own is used.
        use_target_vtl / with_use_target_vtl: bool @ 4;
    }
    also {
        "as_uint8" @ 0, 1;
        "reserved_z" @ 0, 1, bits 7:5;
    }
}

impl InputVtl {
    /// The caller's own VTL.
    pub const CURRENT: Self = Self(0);
}
