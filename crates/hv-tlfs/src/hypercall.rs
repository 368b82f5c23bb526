//! Hypercalls: the call codes, the input value that asks for one, the result value that answers it.
//!
//! The input value goes in the register that [`crate::smccc`] names, the result comes back in X0. The structures of
//! the parameters are with their subjects: [`crate::register`], [`crate::synic`], [`crate::flush`], ...

use crate::abi::Tables;
use crate::status::{HvError, HvStatus};

pub(crate) const TABLES: Tables =
    Tables { constants: &[CODES, EXTENDED, MASKS], structs: &[CODE_TYPE, WORDS] };

open_enum! {
    table CODE_TYPE, from "TLFS, Hypercall Reference";
    /// The call code: which hypercall is asked for.
    pub struct HypercallCode(u16) = "HV_CALL_CODE";
}

constants! {
    table CODES, kind "hypercall", from "TLFS, Hypercall Reference; Linux 6.12, include/asm-generic/hyperv-tlfs.h", impl HypercallCode;

    /// Switch the address space of the calling VP. x64 only.
    SWITCH_VIRTUAL_ADDRESS_SPACE = 0x0001, "HVCALL_SWITCH_VIRTUAL_ADDRESS_SPACE" ["HvCallSwitchVirtualAddressSpace"];
    /// Invalidate every TLB entry of an address space, on a mask of VPs. Simple.
    FLUSH_VIRTUAL_ADDRESS_SPACE = 0x0002, "HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE" ["HvCallFlushVirtualAddressSpace"];
    /// Invalidate ranges of an address space, on a mask of VPs. Rep; the TLFS has it for x64 only.
    FLUSH_VIRTUAL_ADDRESS_LIST = 0x0003, "HVCALL_FLUSH_VIRTUAL_ADDRESS_LIST" ["HvCallFlushVirtualAddressList"];
    /// Tell the hypervisor that this VP has been spinning on a lock for long. Simple, fast.
    NOTIFY_LONG_SPIN_WAIT = 0x0008, "HVCALL_NOTIFY_LONG_SPIN_WAIT" ["HvCallNotifyLongSpinWait"];
    /// Break into the hypervisor's debugger.
    INVOKE_HYPERVISOR_DEBUGGER = 0x000a, "HVCALL_INVOKE_HYPERVISOR_DEBUGGER" ["HvCallInvokeHypervisorDebugger"];
    /// Send an interrupt to a mask of VPs. Simple.
    SEND_IPI = 0x000b, "HVCALL_SEND_IPI" ["HvCallSendSyntheticClusterIpi"];
    /// Change what lower VTLs may do with pages. Rep.
    MODIFY_VTL_PROTECTION_MASK = 0x000c, "HVCALL_MODIFY_VTL_PROTECTION_MASK" ["HvCallModifyVtlProtectionMask"];
    /// Enable a VTL for the partition. Simple.
    ENABLE_PARTITION_VTL = 0x000d, "HVCALL_ENABLE_PARTITION_VTL" ["HvCallEnablePartitionVtl"];
    /// Enable a VTL on one VP, with its initial context. Simple.
    ENABLE_VP_VTL = 0x000f, "HVCALL_ENABLE_VP_VTL" ["HvCallEnableVpVtl"];
    /// Call into the next higher VTL. On ARM64 this is `hvc #2`, not a call code.
    VTL_CALL = 0x0011, "HVCALL_VTL_CALL" ["HvCallVtlCall"];
    /// Return from a VTL. On ARM64 this is `hvc #3`, not a call code.
    VTL_RETURN = 0x0012, "HVCALL_VTL_RETURN" ["HvCallVtlReturn"];
    /// As [`Self::FLUSH_VIRTUAL_ADDRESS_SPACE`], with a VP set.
    FLUSH_VIRTUAL_ADDRESS_SPACE_EX = 0x0013, "HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE_EX"
        ["HvCallFlushVirtualAddressSpaceEx"];
    /// As [`Self::FLUSH_VIRTUAL_ADDRESS_LIST`], with a VP set.
    FLUSH_VIRTUAL_ADDRESS_LIST_EX = 0x0014, "HVCALL_FLUSH_VIRTUAL_ADDRESS_LIST_EX"
        ["HvCallFlushVirtualAddressListEx"];
    /// As [`Self::SEND_IPI`], with a VP set.
    SEND_IPI_EX = 0x0015, "HVCALL_SEND_IPI_EX" ["HvCallSendSyntheticClusterIpiEx"];
    /// The caller's own partition id. Simple, output only.
    GET_PARTITION_ID = 0x0046, "HVCALL_GET_PARTITION_ID" ["HvCallGetPartitionId"];
    /// Give pages to a partition's memory pool. Rep.
    DEPOSIT_MEMORY = 0x0048, "HVCALL_DEPOSIT_MEMORY" ["HvCallDepositMemory"];
    /// Create a VP in a child partition.
    CREATE_VP = 0x004e, "HVCALL_CREATE_VP" ["HvCallCreateVp"];
    /// Read VP registers. Rep. With guest OS id 0 only discovery and crash registers can be read.
    GET_VP_REGISTERS = 0x0050, "HVCALL_GET_VP_REGISTERS" ["HvCallGetVpRegisters"];
    /// Write VP registers. Rep. With guest OS id 0 only the id itself and crash registers can be written.
    SET_VP_REGISTERS = 0x0051, "HVCALL_SET_VP_REGISTERS" ["HvCallSetVpRegisters"];
    /// Translate a virtual address as a VP would.
    TRANSLATE_VIRTUAL_ADDRESS = 0x0052, "HVCALL_TRANSLATE_VIRTUAL_ADDRESS" ["HvCallTranslateVirtualAddress"];
    /// Post a message to a connection. Simple, memory-based.
    POST_MESSAGE = 0x005c, "HVCALL_POST_MESSAGE" ["HvCallPostMessage"];
    /// Signal an event to a connection. Simple, fast.
    SIGNAL_EVENT = 0x005d, "HVCALL_SIGNAL_EVENT" ["HvCallSignalEvent"];
    /// Send data to the synthetic debugger.
    POST_DEBUG_DATA = 0x0069, "HVCALL_POST_DEBUG_DATA" ["HvCallPostDebugData"];
    /// Fetch data from the synthetic debugger.
    RETRIEVE_DEBUG_DATA = 0x006a, "HVCALL_RETRIEVE_DEBUG_DATA" ["HvCallRetrieveDebugData"];
    /// Drop what the synthetic debugger has queued.
    RESET_DEBUG_SESSION = 0x006b, "HVCALL_RESET_DEBUG_SESSION" ["HvCallResetDebugSession"];
    /// Start a logical processor. Root partition only.
    ADD_LOGICAL_PROCESSOR = 0x0076, "HVCALL_ADD_LOGICAL_PROCESSOR" ["HvCallAddLogicalProcessor"];
    /// Map a device interrupt. Root partition only.
    MAP_DEVICE_INTERRUPT = 0x007c, "HVCALL_MAP_DEVICE_INTERRUPT" ["HvCallMapDeviceInterrupt"];
    /// Undo [`Self::MAP_DEVICE_INTERRUPT`].
    UNMAP_DEVICE_INTERRUPT = 0x007d, "HVCALL_UNMAP_DEVICE_INTERRUPT" ["HvCallUnmapDeviceInterrupt"];
    /// Send a device's interrupt to other VPs.
    RETARGET_INTERRUPT = 0x007e, "HVCALL_RETARGET_INTERRUPT" ["HvCallRetargetDeviceInterrupt"];
    /// Raise an interrupt in a partition that the caller controls.
    ASSERT_VIRTUAL_INTERRUPT = 0x0094, "HVCALL_ASSERT_VIRTUAL_INTERRUPT" ["HvCallAssertVirtualInterrupt"];
    /// Start a VP with an initial context.
    START_VP = 0x0099, "HVCALL_START_VP" ["HVCALL_START_VIRTUAL_PROCESSOR", "HvCallStartVirtualProcessor"];
    /// VP indices from APIC ids (x64) or MPIDR values (ARM64).
    ///
    /// The review of the 2018 patch had it deleted for ARM64, where no guest used it; the TLFS now names MPIDR values
    /// as its ARM64 input.
    GET_VP_ID_FROM_APIC_ID = 0x009a, "HVCALL_GET_VP_INDEX_FROM_APIC_ID"
        ["HVCALL_GET_VP_ID_FROM_APIC_ID", "HVCALL_GET_VP_INDEX_FROM_APICID", "HvCallGetVpIndexFromApicId"];
    /// As [`Self::TRANSLATE_VIRTUAL_ADDRESS`], with more in the answer.
    TRANSLATE_VIRTUAL_ADDRESS_EX = 0x00ac, "HVCALL_TRANSLATE_VIRTUAL_ADDRESS_EX"
        ["HvCallTranslateVirtualAddressEx"];
    /// Flush translations of guest physical addresses (a nested hypervisor's).
    FLUSH_GUEST_PHYSICAL_ADDRESS_SPACE = 0x00af, "HVCALL_FLUSH_GUEST_PHYSICAL_ADDRESS_SPACE"
        ["HvCallFlushGuestPhysicalAddressSpace"];
    /// Flush ranges of guest physical addresses. Rep.
    FLUSH_GUEST_PHYSICAL_ADDRESS_LIST = 0x00b0, "HVCALL_FLUSH_GUEST_PHYSICAL_ADDRESS_LIST"
        ["HvCallFlushGuestPhysicalAddressList"];
    /// Change which pages of an isolated guest the host sees. Rep.
    MODIFY_SPARSE_GPA_PAGE_HOST_VISIBILITY = 0x00db, "HVCALL_MODIFY_SPARSE_GPA_PAGE_HOST_VISIBILITY"
        ["HvCallModifySparseGpaPageHostVisibility"];
    /// Read MMIO through the hypervisor.
    MMIO_READ = 0x0106, "HVCALL_MMIO_READ" ["HvCallMemoryMappedIoRead"];
    /// Write MMIO through the hypervisor.
    MMIO_WRITE = 0x0107, "HVCALL_MMIO_WRITE" ["HvCallMemoryMappedIoWrite"];
}

constants! {
    table EXTENDED, kind "hypercall", from "TLFS, Hypercall Reference", impl HypercallCode;

    /// Which extended hypercalls there are. Simple, output only.
    EXT_QUERY_CAPABILITIES = 0x8001, "HV_EXT_CALL_QUERY_CAPABILITIES" ["HvExtCallQueryCapabilities"];
    /// Ranges of memory that the host zeroed at boot.
    EXT_GET_BOOT_ZEROED_MEMORY = 0x8002, "HV_EXT_CALL_GET_BOOT_ZEROED_MEMORY" ["HvExtCallGetBootZeroedMemory"];
    /// Tell the host that pages are cold. Rep.
    EXT_MEMORY_HEAT_HINT = 0x8003, "HV_EXT_CALL_MEMORY_HEAT_HINT" ["HvExtCallMemoryHeatHint"];
    /// Set up enlightened page faults.
    EXT_EPF_SETUP = 0x8004, "HV_EXT_CALL_EPF_SETUP" ["HvExtCallEpfSetup"];
    /// As [`Self::EXT_MEMORY_HEAT_HINT`], not waiting for it.
    EXT_MEMORY_HEAT_HINT_ASYNC = 0x8006, "HV_EXT_CALL_MEMORY_HEAT_HINT_ASYNC" ["HvExtCallMemoryHeatHintAsync"];
}

impl HypercallCode {
    /// True of an extended hypercall, which the virtualization stack handles and not the hypervisor.
    #[must_use]
    pub const fn is_extended(self) -> bool {
        self.0 & 0x8000 != 0
    }
}

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
    /// Reserved bits 31:27 of the input value. The TLFS has since given bit 31 a meaning: [`NESTED`].
    pub const RSVD0_MASK: u64 = 0x1f << 27, "HV_HYPERCALL_RSVD0_MASK";
    /// For the hypervisor below, where one runs inside another.
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
    /// All reserved bits, by Linux's count, bit 31 among them.
    pub const RSVD_MASK: u64 = RSVD0_MASK | RSVD1_MASK | RSVD2_MASK, "HV_HYPERCALL_RSVD_MASK";
}

bits! {
    table WORDS, from "TLFS, Hypercall Interface";

    /// The hypercall input value: what is asked for, and how.
    ///
    /// ```
    /// use hv_tlfs::hypercall::{HypercallCode, HypercallInput};
    /// let get_one = HypercallInput::from_code(HypercallCode::GET_VP_REGISTERS).with_fast(true).with_rep_count(1);
    /// assert_eq!(get_one.bits(), 0x1_0001_0050);
    /// ```
    pub struct HypercallInput(u64) = "hv_hypercall_input" ["HV_HYPERCALL_INPUT"] {
        /// Which hypercall.
        code / with_code: HypercallCode(u16) @ 15:0 = "CallCode";
        /// Parameters in registers instead of memory.
        fast / with_fast: bool @ 16 = "IsFast";
        /// Size of the variable part of the header in 8-byte words. Not zero on a hypercall without such a header is
        /// [`HvStatus::INVALID_HYPERCALL_INPUT`].
        variable_header_size / with_variable_header_size: u16 @ 26:17 = "VariableHeaderSize";
        /// For the hypervisor below, where one runs inside another.
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
        /// Elements of a rep hypercall that are done, counted from element 0.
        reps_completed / with_reps_completed: u16 @ 43:32 = "RepsCompleted";
    }
    also {
        "Reserved1" @ 0, 8, bits 31:16;
        "Reserved2" @ 0, 8, bits 63:44;
    }
}

impl HypercallInput {
    /// The input value with this code and nothing else.
    #[inline]
    #[must_use]
    pub const fn from_code(code: HypercallCode) -> Self {
        Self(code.0 as u64)
    }
}

impl HypercallOutput {
    /// Success, no elements.
    pub const SUCCESS: Self = Self(0);

    /// The result with this status and no elements.
    #[inline]
    #[must_use]
    pub const fn from_status(status: HvStatus) -> Self {
        Self(status.0 as u64)
    }

    /// The status as a result.
    ///
    /// # Errors
    ///
    /// Any status but success.
    #[inline]
    pub const fn to_result(self) -> Result<(), HvError> {
        self.status().to_result()
    }
}
