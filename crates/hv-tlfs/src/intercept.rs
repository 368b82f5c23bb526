//! Intercepts: what a higher VTL or a parent can intercept, and the ARM64 messages that report it.

use crate::abi::Tables;
use crate::memory::CacheType;
use crate::register::RegisterName;
use crate::vp::{PartitionId, VpIndex};

pub(crate) const TABLES: Tables = Tables {
    constants: &[TYPES, ACCESSES, ACCESS_MASKS, RESETS],
    structs: &[TYPE, ACCESS, WORDS, RESET_TYPE, CALL, MESSAGES],
};

open_enum! {
    table TYPE, from "TLFS, HV_INTERCEPT_TYPE; Linux 7.2, include/hyperv/hvgdk_mini.h";
    names [TYPES];
    /// Type of intercept. x64 types are left out.
    pub struct InterceptType(u32) = "hv_intercept_type" ["HV_INTERCEPT_TYPE"];
}

constants! {
    table TYPES, kind "intercept", from "TLFS, HV_INTERCEPT_TYPE; mshv-bindings", impl InterceptType;

    /// Exceptions.
    EXCEPTION = 0x3, "HV_INTERCEPT_TYPE_EXCEPTION" ["HvInterceptTypeException"];
    /// Once registers; reserved today.
    RESERVED0 = 0x4, "HV_INTERCEPT_TYPE_RESERVED0";
    /// Accesses to memory that is not mapped.
    MMIO = 0x5, "HV_INTERCEPT_TYPE_MMIO";
    /// Hypercalls.
    HYPERCALL = 0x8, "HV_INTERCEPT_TYPE_HYPERCALL" ["HvInterceptTypeHypercall"];
    /// Connections that are not known.
    UNKNOWN_SYNIC_CONNECTION = 0xd, "HvInterceptTypeUnknownSynicConnection";
    /// Retargeting of the interrupt of an unknown device.
    RETARGET_INTERRUPT_WITH_UNKNOWN_DEVICE_ID = 0xf, "HvInterceptTypeRetargetInterruptWithUnknownDeviceId";
    /// Accesses to registers. ARM64 only.
    REGISTER = 0x12, "HvInterceptTypeRegister";
    /// PSCI's SYSTEM_RESET2 and SYSTEM_OFF2. ARM64 only.
    SYSTEM_RESET_EXTENDED = 0x13, "HvInterceptTypeSystemResetExtended";
    /// None.
    INVALID = 0xffff_ffff, "HV_INTERCEPT_TYPE_INVALID";
}

open_enum! {
    table ACCESS, from "openvmm, vm/hv1/hvdef; mshv-bindings";
    names [ACCESSES];
    /// Type of an intercepted access.
    pub struct AccessType(u8) = "HV_INTERCEPT_ACCESS_TYPE";
}

constants! {
    table ACCESSES, kind "intercept", from "openvmm, vm/hv1/hvdef; mshv-bindings", impl AccessType;

    /// Read.
    READ = 0, "HV_INTERCEPT_ACCESS_READ";
    /// Write.
    WRITE = 1, "HV_INTERCEPT_ACCESS_WRITE";
    /// Execute.
    EXECUTE = 2, "HV_INTERCEPT_ACCESS_EXECUTE";
}

constants! {
    table ACCESS_MASKS, kind "intercept", from "TLFS, HV_INTERCEPT_ACCESS_TYPE_MASK; mshv-bindings";

    /// No accesses.
    pub const ACCESS_MASK_NONE: u32 = 0, "HV_INTERCEPT_ACCESS_MASK_NONE";
    /// Reads.
    pub const ACCESS_MASK_READ: u32 = 1, "HV_INTERCEPT_ACCESS_MASK_READ";
    /// Writes.
    pub const ACCESS_MASK_WRITE: u32 = 2, "HV_INTERCEPT_ACCESS_MASK_WRITE";
    /// Execution.
    pub const ACCESS_MASK_EXECUTE: u32 = 4, "HV_INTERCEPT_ACCESS_MASK_EXECUTE";
}

bits! {
    table WORDS, from "openvmm, vm/hv1/hvdef; mshv-bindings";

    /// State of a VP at the time of the intercept, ARM64 layout.
    pub struct ExecutionState(u16) = "hv_arm64_vp_execution_state" ["HV_ARM64_VP_EXECUTION_STATE"] {
        /// Exception level of the VP.
        cpl / with_cpl: u8 @ 1:0;
        /// The VP's debug registers are in use.
        debug_active / with_debug_active: bool @ 2;
        /// An interruption is pending.
        interruption_pending / with_interruption_pending: bool @ 3;
        /// VTL of the VP.
        vtl / with_vtl: u8 @ 7:4;
        /// A virtualization fault is being handled.
        virtualization_fault_active / with_virtualization_fault_active: bool @ 8;
    }
    also {
        "as_uint16" @ 0, 2;
        "reserved" @ 0, 2, bits 15:9;
    }

    /// Details of an intercepted memory access, ARM64 layout.
    pub struct MemoryAccessInfo(u8) = "hv_arm64_memory_access_info" ["HV_ARM64_MEMORY_ACCESS_INFO"] {
        /// The virtual address is valid.
        gva_valid / with_gva_valid: bool @ 0;
        /// It led to the physical address.
        gva_gpa_valid / with_gva_gpa_valid: bool @ 1;
        /// Output of a hypercall is still to be written.
        hypercall_output_pending / with_hypercall_output_pending: bool @ 2;
    }
    also {
        "as_uint8" @ 0, 1;
    }
}

open_enum! {
    table RESET_TYPE, from "mshv-bindings; openvmm, vm/hv1/hvdef";
    names [RESETS];
    /// Type of reset requested by an ARM64 guest.
    pub struct ResetType(u32) = "hv_arm64_reset_type" ["HV_ARM64_RESET_TYPE"];
}

constants! {
    table RESETS, kind "reset", from "mshv-bindings; openvmm, vm/hv1/hvdef", impl ResetType;

    /// Off.
    POWER_OFF = 0, "HV_ARM64_RESET_TYPE_POWER_OFF";
    /// Reset.
    REBOOT = 1, "HV_ARM64_RESET_TYPE_REBOOT";
    /// PSCI's SYSTEM_RESET2.
    SYSTEM_RESET2 = 2, "HV_ARM64_RESET_TYPE_SYSTEM_RESET2";
    /// PSCI's SYSTEM_OFF2: hibernate.
    HIBERNATE = 3, "HV_ARM64_RESET_TYPE_HIBERNATE";
}

structs! {
    table CALL, from "TLFS, HvCallInstallIntercept; mshv-bindings";

    /// Input of [`INSTALL_INTERCEPT`](crate::hypercall::HypercallCode::INSTALL_INTERCEPT).
    pub struct InstallInterceptInput = "hv_input_install_intercept" ["HV_INPUT_INSTALL_INTERCEPT"], size 24 {
        /// The partition.
        partition_id: PartitionId = 0,
        /// The accesses to intercept: `ACCESS_MASK_` flags.
        access_mask: u32 = 8 "access_type",
        /// The intercept.
        intercept_type: InterceptType = 12,
        /// More about it, by type.
        parameters: u64 = 16 "intercept_parameter",
    }
}

structs! {
    table MESSAGES, from "openvmm, vm/hv1/hvdef; mshv-bindings";

    /// The head of each intercept message, ARM64 layout.
    pub struct InterceptHeader = "hv_arm64_intercept_message_header" ["HV_ARM64_INTERCEPT_MESSAGE_HEADER"], size 24 {
        /// The VP.
        vp_index: VpIndex = 0,
        /// Bytes of the instruction.
        instruction_length: u8 = 4,
        /// Type of the access.
        access_type: AccessType = 5 "intercept_access_type",
        /// State of the VP.
        execution_state: ExecutionState = 6,
        /// Address of the instruction.
        pc: u64 = 8,
        /// PSTATE of the VP.
        cpsr: u64 = 16,
    }

    /// Payload of [`GPA_INTERCEPT`](crate::synic::MessageType::GPA_INTERCEPT) and its kin.
    pub struct MemoryIntercept = "hv_arm64_memory_intercept_message" ["HV_ARM64_MEMORY_INTERCEPT_MESSAGE"], size 64 {
        /// The head.
        header: InterceptHeader = 0,
        /// Caching of the memory.
        cache_type: CacheType = 24,
        /// Valid bytes of the instruction.
        instruction_byte_count: u8 = 28,
        /// Details that are valid.
        memory_access_info: MemoryAccessInfo = 29,
        /// Zero.
        reserved1: u16 = 30,
        /// The instruction.
        instruction_bytes: [u8; 4] = 32,
        /// Zero.
        reserved2: u32 = 36,
        /// The virtual address, if valid.
        guest_virtual_address: u64 = 40,
        /// The physical address.
        guest_physical_address: u64 = 48,
        /// The syndrome, as in ESR_EL2.
        syndrome: u64 = 56,
    }

    /// Payload of an intercepted MMIO access.
    pub struct MmioIntercept = "HV_ARM64_MMIO_INTERCEPT_MESSAGE", size 72 {
        /// The head.
        header: InterceptHeader = 0,
        /// The physical address.
        guest_physical_address: u64 = 24,
        /// Bytes of the access.
        access_size: u32 = 32,
        /// The data written, or room for the data read.
        data: [u8; 32] = 36,
        /// Zero.
        reserved: u32 = 68,
    }

    /// Payload of [`REGISTER_INTERCEPT`](crate::synic::MessageType::REGISTER_INTERCEPT).
    pub struct RegisterIntercept = "hv_arm64_register_intercept_message", size 48 {
        /// The head.
        header: InterceptHeader = 0,
        /// Bit 0: the access is to memory.
        flags: u8 = 24,
        /// Zero.
        reserved: [u8; 3] = 25 "reserved8",
        /// The register.
        register_name: RegisterName = 28,
        /// The value written, or (in the low word) the register to receive the value read.
        access_info: [u64; 2] = 32,
    }

    /// Payload of [`HYPERCALL_INTERCEPT`](crate::synic::MessageType::HYPERCALL_INTERCEPT).
    pub struct HypercallIntercept = "HV_ARM64_HYPERCALL_INTERCEPT_MESSAGE", size 176 {
        /// The head.
        header: InterceptHeader = 0,
        /// Immediate of the `hvc`.
        immediate: u16 = 24,
        /// Zero.
        reserved: u16 = 26,
        /// Bit 0: the partition is isolated.
        flags: u32 = 28,
        /// X0 to X17.
        x: [u64; 18] = 32,
    }

    /// Payload of [`ARM64_RESET_INTERCEPT`](crate::synic::MessageType::ARM64_RESET_INTERCEPT).
    pub struct ResetIntercept = "hv_arm64_reset_intercept_message", size 32 {
        /// The head.
        header: InterceptHeader = 0,
        /// The type.
        reset_type: ResetType = 24,
        /// The code that the guest gave.
        reset_code: u32 = 28,
    }

    /// Payload of [`SYNIC_SINT_DELIVERABLE`](crate::synic::MessageType::SYNIC_SINT_DELIVERABLE).
    pub struct SintDeliverable = "HV_ARM64_SYNIC_SINT_DELIVERABLE_MESSAGE", size 32 {
        /// The head.
        header: InterceptHeader = 0,
        /// The sources, one bit each.
        deliverable_sints: u16 = 24,
        /// Zero.
        reserved1: u16 = 26,
        /// Zero.
        reserved2: u32 = 28,
    }

    /// Payload of [`INVALID_VP_REGISTER_VALUE`](crate::synic::MessageType::INVALID_VP_REGISTER_VALUE).
    pub struct InvalidRegister = "HV_INVALID_VP_REGISTER_MESSAGE", size 8 {
        /// The VP.
        vp_index: VpIndex = 0,
        /// Zero.
        reserved: u32 = 4,
    }
}
