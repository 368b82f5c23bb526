//! Isolated partitions: the isolation type, and the pages visible to the host.

use crate::abi::Tables;
use crate::register::RegisterValue;
use crate::vp::PartitionId;

pub(crate) const TABLES: Tables = Tables {
    constants: &[TYPES, VISIBILITIES, LIMITS],
    structs: &[TYPE, VISIBILITY, WORDS, REGISTER, CALLS],
};

open_enum! {
    table TYPE, from "Linux 7.2, include/hyperv/hvgdk_mini.h; openvmm, vm/hv1/hvdef";
    names [TYPES];
    /// Type of isolation of a partition.
    pub struct IsolationType(u8) = "hv_isolation_type" ["HV_PARTITION_ISOLATION_TYPE"];
}

constants! {
    table TYPES, kind "isolation", from "Linux 7.2, include/hyperv/hvgdk_mini.h; openvmm, vm/hv1/hvdef", impl IsolationType;

    /// None.
    NONE = 0, "HV_ISOLATION_TYPE_NONE" ["HV_PARTITION_ISOLATION_TYPE_NONE"];
    /// The hypervisor, by virtual trust levels.
    VBS = 1, "HV_ISOLATION_TYPE_VBS";
    /// AMD's SEV-SNP. x64 only.
    SNP = 2, "HV_ISOLATION_TYPE_SNP";
    /// Intel's TDX. x64 only.
    TDX = 3, "HV_ISOLATION_TYPE_TDX";
    /// Arm's CCA. openvmm knows it.
    CCA = 4, "HV_ISOLATION_TYPE_CCA";
}

open_enum! {
    table VISIBILITY, from "Linux 7.2, include/hyperv/hvgdk_mini.h; openvmm, vm/hv1/hvdef";
    names [VISIBILITIES];
    /// Host access to a page (2 bits).
    pub struct HostVisibility(u8) = "hv_mem_host_visibility";
}

constants! {
    table VISIBILITIES, kind "isolation", from "Linux 7.2, include/hyperv/hvgdk_mini.h", impl HostVisibility;

    /// No access: the page is private.
    NOT_VISIBLE = 0, "VMBUS_PAGE_NOT_VISIBLE";
    /// Read it.
    READ_ONLY = 1, "VMBUS_PAGE_VISIBLE_READ_ONLY";
    /// Read and write it: the page is shared.
    READ_WRITE = 3, "VMBUS_PAGE_VISIBLE_READ_WRITE";
}

constants! {
    table LIMITS, kind "isolation", from "Linux 7.2, include/hyperv/hvgdk_mini.h";

    /// Maximum number of pages in one visibility change: a page of parameters less the header's two words.
    pub const MAX_MODIFY_GPA_REP_COUNT: usize = crate::page::SIZE / 8 - 2, "HV_MAX_MODIFY_GPA_REP_COUNT";
}

bits! {
    table WORDS, from "openvmm, vm/hv1/hvdef; Linux 6.12, include/asm-generic/mshyperv.h";

    /// First dword of the isolation configuration.
    pub struct IsolationConfigA(u32) = "HV_ISOLATION_CONFIG_A" ["isolation_config_a"] {
        /// A paravisor runs in a higher VTL.
        paravisor_present / with_paravisor_present: bool @ 0;
    }
    also {
        "reserved_a1" @ 0, 4, bits 31:1;
    }

    /// Second dword of the isolation configuration.
    pub struct IsolationConfigB(u32) = "HV_ISOLATION_CONFIG_B" ["isolation_config_b"] {
        /// Type of isolation.
        isolation_type / with_isolation_type: IsolationType(u8) @ 3:0 = "cvm_type";
        /// Addresses at or above the boundary are shared with the host.
        shared_gpa_boundary_active / with_shared_gpa_boundary_active: bool @ 5;
        /// The boundary is at this power of two.
        shared_gpa_boundary_bits / with_shared_gpa_boundary_bits: u8 @ 11:6;
    }
    also {
        "reserved_b1" @ 0, 4, bits 4;
        "reserved_b2" @ 0, 4, bits 31:12;
    }

    /// Visibility, as in the header of the call that changes it.
    pub struct VisibilityWord(u32) = "HV_HOST_VISIBILITY" {
        /// Host access.
        host_visibility / with_host_visibility: HostVisibility(u8) @ 1:0;
    }
    also {
        "reserved0" @ 0, 4, bits 31:2;
    }
}

structs! {
    table REGISTER, from "openvmm, vm/hv1/hvdef; Linux 6.12, include/asm-generic/mshyperv.h";

    /// Register [`ISOLATION_CONFIGURATION`](crate::register::RegisterName::ISOLATION_CONFIGURATION).
    pub struct IsolationConfiguration = "HV_ISOLATION_CONFIGURATION", size 16 {
        /// First dword.
        a: IsolationConfigA = 0 "isolation_config_a",
        /// Second dword.
        b: IsolationConfigB = 4 "isolation_config_b",
        /// Zero.
        reserved: [u32; 2] = 8,
    }
}

impl IsolationConfiguration {
    /// Decodes the configuration from a register value.
    #[must_use]
    pub const fn from_register(value: RegisterValue) -> Self {
        let [a, b, c, d] = value.to_dwords();
        Self { a: IsolationConfigA(a), b: IsolationConfigB(b), reserved: [c, d] }
    }
}

structs! {
    table CALLS, from "Linux 7.2, include/hyperv/hvgdk_mini.h; openvmm, vm/hv1/hvdef";

    /// Input header of [`MODIFY_SPARSE_GPA_PAGE_HOST_VISIBILITY`]; a list of page numbers, 8 bytes each, follows it.
    ///
    /// [`MODIFY_SPARSE_GPA_PAGE_HOST_VISIBILITY`]:
    /// crate::hypercall::HypercallCode::MODIFY_SPARSE_GPA_PAGE_HOST_VISIBILITY
    pub struct ModifyHostVisibilityInput = "hv_gpa_range_for_visibility", size 16 {
        /// Whose pages.
        partition_id: PartitionId = 0,
        /// Host access to them.
        visibility: VisibilityWord = 8,
        /// Zero.
        reserved: u32 = 12 "reserved1",
    }
    also {
        "host_visibility" @ 8, 4, bits 1:0;
        "reserved0" @ 8, 4, bits 31:2;
        "gpa_page_list" @ 16, 0;
    }
}
