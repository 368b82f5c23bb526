//! Virtual secure mode: virtual trust levels, their registers, and the VP assist page.
//!
//! A partition has up to 16 virtual trust levels (VTLs); a higher one protects its memory from lower ones. On ARM64 a
//! VTL calls the next higher one with `hvc #2` and returns with `hvc #3`.

use crate::abi::Tables;
use crate::start_vp::InitialVpContext;
use crate::synic::Message;
use crate::vp::{InputVtl, PartitionId, VpIndex};

pub(crate) const TABLES: Tables = Tables {
    constants: &[LEVELS, ENTRY_REASONS, MAP_FLAGS],
    structs: &[REGISTERS, ENTRY_REASON, ASSIST_REGISTER, ASSIST, CALL_WORDS, CALLS],
};

constants! {
    table LEVELS, kind "vtl", from "TLFS, Virtual Secure Mode; Linux 7.2, include/hyperv/hvgdk_mini.h";

    /// The level that every partition begins with.
    pub const NORMAL_VTL: u8 = 0, "HV_NORMAL_VTL";
    /// Levels that a partition can have today.
    pub const NUM_VTLS: u8 = 2, "HV_NUM_VTLS";
    /// No level.
    pub const INVALID_VTL: u8 = 0xff, "HV_INVALID_VTL";
    /// Every level.
    pub const VTL_ALL: u8 = 0xf, "HV_VTL_ALL";
}

bits! {
    table REGISTERS, from "TLFS, Virtual Secure Mode; openvmm, vm/hv1/hvdef";

    /// VSM capabilities. The TLFS's table counts the bits from the top (63 for bit 0); shipping code counts them as
    /// here.
    pub struct Capabilities(u64) = "hv_register_vsm_capabilities" ["HV_REGISTER_VSM_CAPABILITIES"] {
        /// Debug register 6 is shared. x64 only.
        dr6_shared / with_dr6_shared: bool @ 0 = "Dr6Shared";
        /// Levels that support separate execute rights for user and kernel.
        mbec_vtl_mask / with_mbec_vtl_mask: u16 @ 16:1 = "MbecVtlMask";
        /// Lower levels can be kept from starting VPs.
        deny_lower_vtl_startup / with_deny_lower_vtl_startup: bool @ 17 = "DenyLowerVtlStartup";
        /// The intercept page can be used.
        intercept_page_available / with_intercept_page_available: bool @ 28 = "InterceptPageAvailable";
        /// Return actions can be used.
        return_action_available / with_return_action_available: bool @ 29 = "ReturnActionAvailable";
        /// VTL 0's memory has an alias.
        vtl0_alias_map_available / with_vtl0_alias_map_available: bool @ 30 = "Vtl0AliasMapAvailable";
        /// Accesses to absent memory can be intercepted.
        intercept_not_present_available / with_intercept_not_present_available: bool @ 31 =
            "InterceptNotPresentAvailable";
        /// The extended call to install intercepts is available.
        install_intercept_ex / with_install_intercept_ex: bool @ 32 = "InstallInterceptEx";
        /// System resets can be intercepted.
        intercept_system_reset_available / with_intercept_system_reset_available: bool @ 33 =
            "InterceptSystemResetAvailable";
        /// Interrupts can be redirected through a proxy.
        proxy_interrupt_redirect_available / with_proxy_interrupt_redirect_available: bool @ 35 =
            "ProxyInterruptRedirectAvailable";
    }
    also {
        "AsUINT64" @ 0, 8;
    }

    /// Levels of the partition.
    pub struct PartitionStatus(u64) = "hv_register_vsm_partition_status" ["HV_REGISTER_VSM_PARTITION_STATUS"] {
        /// Those enabled.
        enabled_vtl_set / with_enabled_vtl_set: u16 @ 15:0 = "EnabledVtlSet";
        /// The highest that can be.
        maximum_vtl / with_maximum_vtl: u8 @ 19:16 = "MaximumVtl";
        /// Levels with separate execute rights for user and kernel.
        mbec_enabled_vtl_set / with_mbec_enabled_vtl_set: u16 @ 35:20 = "MbecEnabledVtlSet";
    }
    also {
        "AsUINT64" @ 0, 8;
    }

    /// Levels of a VP.
    pub struct VpStatus(u64) = "hv_register_vsm_vp_status" ["HV_REGISTER_VSM_VP_STATUS"] {
        /// The one that runs.
        active_vtl / with_active_vtl: u8 @ 3:0 = "ActiveVtl";
        /// It has separate execute rights for user and kernel.
        active_mbec_enabled / with_active_mbec_enabled: bool @ 4 = "ActiveMbecEnabled";
        /// Those enabled.
        enabled_vtl_set / with_enabled_vtl_set: u16 @ 31:16 = "EnabledVtlSet";
    }
    also {
        "AsUINT64" @ 0, 8;
        "ReservedZ0" @ 0, 8, bits 15:5;
        "ReservedZ1" @ 0, 8, bits 63:32;
    }

    /// Configuration of lower levels. Bits 7, 8 and above 9 are from openvmm; the TLFS reserves them.
    pub struct PartitionConfig(u64) = "hv_register_vsm_partition_config" ["HV_REGISTER_VSM_PARTITION_CONFIG"] {
        /// Protection of memory is enabled.
        enable_vtl_protection / with_enable_vtl_protection: bool @ 0;
        /// Default rights of pages that are not protected: read 1, write 2, kernel execute 4, user execute 8.
        default_vtl_protection_mask / with_default_vtl_protection_mask: u8 @ 4:1;
        /// Zero the memory on reset.
        zero_memory_on_reset / with_zero_memory_on_reset: bool @ 5;
        /// Lower levels may not start VPs.
        deny_lower_vtl_startup / with_deny_lower_vtl_startup: bool @ 6;
        /// Intercept the acceptance of pages.
        intercept_acceptance / with_intercept_acceptance: bool @ 7;
        /// Intercept that a lower level protects memory.
        intercept_enable_vtl_protection / with_intercept_enable_vtl_protection: bool @ 8;
        /// Intercept the start of VPs.
        intercept_vp_startup / with_intercept_vp_startup: bool @ 9;
        /// Intercept exceptions that cannot be handled.
        intercept_unrecoverable_exception / with_intercept_unrecoverable_exception: bool @ 11;
        /// Deliver intercepts by the intercept page.
        intercept_page / with_intercept_page: bool @ 12;
        /// Intercept the restoring of the partition's time.
        intercept_restore_partition_time / with_intercept_restore_partition_time: bool @ 13;
        /// Intercept accesses to absent memory.
        intercept_not_present / with_intercept_not_present: bool @ 14;
        /// Intercept system resets.
        intercept_system_reset / with_intercept_system_reset: bool @ 15;
    }
    also {
        "as_uint64" @ 0, 8;
    }

    /// The interrupt that notifies a level of interrupts pending for a lower one.
    pub struct Vina(u64) = "hv_register_vsm_vina" ["HV_REGISTER_VSM_VINA"] {
        /// The vector.
        vector / with_vector: u8 @ 7:0 = "Vector";
        /// It is enabled.
        enabled / with_enabled: bool @ 8 = "Enabled";
        /// It resets itself.
        auto_reset / with_auto_reset: bool @ 9 = "AutoReset";
        /// The hypervisor ends it.
        auto_eoi / with_auto_eoi: bool @ 10 = "AutoEoi";
    }
    also {
        "AsUINT64" @ 0, 8;
    }

    /// A level's configuration of one lower level on one VP.
    pub struct VpSecureConfig(u64) = "HV_REGISTER_VSM_VP_SECURE_VTL_CONFIG" {
        /// Separate execute rights for user and kernel.
        mbec_enabled / with_mbec_enabled: bool @ 0 = "MbecEnabled";
        /// The lower level's TLB is locked.
        tlb_locked / with_tlb_locked: bool @ 1 = "TlbLocked";
    }
    also {
        "AsUINT64" @ 0, 8;
    }
}

open_enum! {
    table ENTRY_REASON, from "TLFS, HV_VP_VTL_CONTROL";
    names [ENTRY_REASONS];
    /// Reason why a level was entered.
    pub struct VtlEntryReason(u32) = "HV_VTL_ENTRY_REASON";
}

constants! {
    table ENTRY_REASONS, kind "vtl", from "TLFS, HV_VP_VTL_CONTROL", impl VtlEntryReason;

    /// Not used.
    RESERVED = 0, "HvVtlEntryReserved";
    /// A call from a lower level.
    VTL_CALL = 1, "HvVtlEntryVtlCall";
    /// An interrupt for this level.
    INTERRUPT = 2, "HvVtlEntryInterrupt";
    /// An intercept, delivered by the intercept page.
    INTERCEPT = 3, "HvVtlEntryIntercept";
}

bits! {
    table ASSIST_REGISTER, from "TLFS, Virtual Processor Assist Page; Linux 7.2, include/hyperv/hvgdk_mini.h";

    /// Location of the VP assist page: the register [`VP_ASSIST_PAGE`](crate::register::RegisterName::VP_ASSIST_PAGE).
    pub struct VpAssistPageRegister(u64) = "hv_vp_assist_msr_contents" {
        /// The page is in use.
        enable / with_enable: bool @ 0;
        /// Number of a 4096-byte page.
        page_number / with_page_number: u64 @ 63:12 = "pfn";
    }
    also {
        "as_uint64" @ 0, 8;
        "reserved" @ 0, 8, bits 11:1;
    }
}

structs! {
    table ASSIST, from "TLFS, HV_VP_ASSIST_PAGE and HV_VP_VTL_CONTROL; Linux 7.2, include/hyperv/hvgdk_mini.h";

    /// Information for a level on its entry, ARM64 layout (x64 has registers to restore at the end).
    pub struct VpVtlControl = "HV_VP_VTL_CONTROL", size 24 {
        /// Why it was entered.
        entry_reason: VtlEntryReason = 0 "EntryReason",
        /// Bit 0: the interrupt of [`Vina`] is asserted.
        vina_status: u8 = 4 "VinaStatus",
        /// Zero.
        reserved1: [u8; 3] = 5 "ReservedZ00",
        /// Zero.
        reserved2: [u64; 2] = 8 "ReservedZ2",
    }

    /// A fault that the hypervisor reports to the guest. The page reserves 40 bytes for it.
    pub struct VirtualizationFaultInformation = "HV_VIRTUALIZATION_FAULT_INFORMATION", size 16 {
        /// First parameter.
        parameter0: u16 = 0 "Parameter0",
        /// Zero.
        reserved: u16 = 2 "Reserved0",
        /// The fault.
        code: u32 = 4 "Code",
        /// Second parameter.
        parameter1: u64 = 8 "Parameter1",
    }

    /// The defined part of the VP assist page: the first 624 of its 4096 bytes. On ARM64 the fields of the APIC and of
    /// nested virtualization are reserved.
    pub struct VpAssistPage = "hv_vp_assist_page" ["HV_VP_ASSIST_PAGE"], size 624 {
        /// Reserved on ARM64.
        apic_assist: u32 = 0,
        /// Zero.
        reserved1: u32 = 4,
        /// For code in a higher VTL.
        vtl_control: VpVtlControl = 8,
        /// Reserved on ARM64.
        nested_control: u64 = 32,
        /// Reserved on ARM64.
        enlighten_vmentry: u8 = 40,
        /// Zero.
        reserved2: [u8; 7] = 41,
        /// Reserved on ARM64.
        current_nested_vmcs: u64 = 48,
        /// The timer that runs only while the VP runs has expired.
        synthetic_time_unhalted_timer_expired: u8 = 56,
        /// Zero.
        reserved3: [u8; 7] = 57,
        /// The fault, in a place at a multiple of 16.
        virtualization_fault_information: VirtualizationFaultInformation = 64,
        /// Zero.
        reserved4: [u64; 4] = 80,
        /// The intercept, where the intercept page is used.
        intercept_message: Message = 112,
        /// What to do on return to the lower level.
        vtl_return_actions: [u8; 256] = 368 "vtl_ret_actions",
    }
    also {
        "vtl_entry_reason" @ 8, 4;
    }
}

bits! {
    table CALL_WORDS, from "TLFS, HvCallEnablePartitionVtl and HV_MAP_GPA_FLAGS; openvmm, vm/hv1/hvdef";

    /// Features to enable with a level.
    pub struct EnablePartitionVtlFlags(u8) = "HV_ENABLE_PARTITION_VTL_FLAGS" {
        /// Separate execute rights for user and kernel.
        enable_mbec / with_enable_mbec: bool @ 0 = "EnableMbec";
    }
    also {
        "AsUINT8" @ 0, 1;
        "Reserved" @ 0, 1, bits 7:1;
    }

    /// Rights to a page, and how it is mapped.
    pub struct MapGpaFlags(u32) = "HV_MAP_GPA_FLAGS" {
        /// It can be read.
        readable / with_readable: bool @ 0 = "Readable";
        /// It can be written.
        writable / with_writable: bool @ 1 = "Writable";
        /// It can be executed by the kernel.
        kernel_executable / with_kernel_executable: bool @ 2 = "KernelExecutable";
        /// It can be executed by a user.
        user_executable / with_user_executable: bool @ 3 = "UserExecutable";
        /// It is not cached.
        not_cached / with_not_cached: bool @ 21 = "NotCached";
        /// It is a large page.
        large_page / with_large_page: bool @ 31 = "LargePage";
    }
}

constants! {
    table MAP_FLAGS, kind "map-flag", from "TLFS, HV_MAP_GPA_FLAGS; mshv-bindings", impl MapGpaFlags;

    /// No rights.
    NONE = 0x0, "HV_MAP_GPA_PERMISSIONS_NONE";
    /// [`Self::readable`] alone.
    READABLE = 0x1, "HV_MAP_GPA_READABLE";
    /// [`Self::writable`] alone.
    WRITABLE = 0x2, "HV_MAP_GPA_WRITABLE";
    /// [`Self::kernel_executable`] alone.
    KERNEL_EXECUTABLE = 0x4, "HV_MAP_GPA_KERNEL_EXECUTABLE";
    /// [`Self::user_executable`] alone.
    USER_EXECUTABLE = 0x8, "HV_MAP_GPA_USER_EXECUTABLE";
    /// Executable by kernel and user.
    EXECUTABLE = 0xc, "HV_MAP_GPA_EXECUTABLE";
    /// All rights.
    PERMISSIONS_MASK = 0xf, "HV_MAP_GPA_PERMISSIONS_MASK";
    /// The rights can be changed.
    ADJUSTABLE = 0x8000, "HV_MAP_GPA_ADJUSTABLE";
    /// Every access faults.
    NO_ACCESS = 0x1_0000, "HV_MAP_GPA_NO_ACCESS";
    /// Maps a page of zeros.
    ZEROED = 0x2_0000, "HV_MAP_GPA_ZEROED";
    /// Maps a page of ones.
    ONES = 0x3_0000, "HV_MAP_GPA_ONES";
    /// No overlay page may cover it.
    NO_OVERLAY = 0x10_0000, "HV_MAP_GPA_NO_OVERLAY";
    /// [`Self::not_cached`] alone.
    NOT_CACHED = 0x20_0000, "HV_MAP_GPA_NOT_CACHED";
    /// [`Self::large_page`] alone.
    LARGE_PAGE = 0x8000_0000, "HV_MAP_GPA_LARGE_PAGE";
}

structs! {
    table CALLS, from "TLFS, HvCallEnablePartitionVtl, HvCallEnableVpVtl and HvCallModifyVtlProtectionMask";

    /// Input of [`ENABLE_PARTITION_VTL`](crate::hypercall::HypercallCode::ENABLE_PARTITION_VTL); no output.
    pub struct EnablePartitionVtlInput = "HV_INPUT_ENABLE_PARTITION_VTL", size 16 {
        /// The partition.
        partition_id: PartitionId = 0 "TargetPartitionId",
        /// The level.
        target_vtl: u8 = 8 "TargetVtl",
        /// Flags.
        flags: EnablePartitionVtlFlags = 9 "Flags",
        /// Zero.
        reserved: [u8; 6] = 10 "RsvdZ",
    }

    /// Input of [`ENABLE_VP_VTL`](crate::hypercall::HypercallCode::ENABLE_VP_VTL), ARM64 layout; no output. Linux 7.2
    /// has the structure with x64's context only.
    pub struct EnableVpVtlInput = "hv_enable_vp_vtl" ["HV_INPUT_ENABLE_VP_VTL"], size 88 {
        /// The partition.
        partition_id: PartitionId = 0,
        /// The VP.
        vp_index: VpIndex = 8,
        /// The level.
        target_vtl: InputVtl = 12,
        /// Zero.
        reserved: [u8; 3] = 13 "mbz0",
        /// The registers of the level on its first entry.
        context: InitialVpContext = 16 "vp_context",
    }

    /// Input header of [`MODIFY_VTL_PROTECTION_MASK`](crate::hypercall::HypercallCode::MODIFY_VTL_PROTECTION_MASK); a
    /// list of page numbers, 8 bytes each, follows it.
    pub struct ModifyVtlProtectionMaskInput = "HV_INPUT_MODIFY_VTL_PROTECTION_MASK", size 16 {
        /// The partition.
        partition_id: PartitionId = 0 "TargetPartitionId",
        /// The rights that lower levels keep.
        map_flags: MapGpaFlags = 8 "MapFlags",
        /// The level that is restricted.
        target_vtl: InputVtl = 12 "TargetVtl",
        /// Zero.
        reserved: [u8; 3] = 13 "RsvdZ",
    }
    also {
        "GpaPageList" @ 16, 0;
    }
}
