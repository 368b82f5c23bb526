//! The call codes.

open_enum! {
    table CODE_TYPE, from "TLFS, Hypercall Reference";
    names [CODES, EXTENDED];
    /// The call code of a hypercall.
    pub struct HypercallCode(u16) = "HV_CALL_CODE";
}

constants! {
    table CODES, kind "hypercall", from "TLFS, Hypercall Reference; Linux 6.12, include/asm-generic/hyperv-tlfs.h", impl HypercallCode;

    /// Switch the address space of the calling VP. x64 only.
    SWITCH_VIRTUAL_ADDRESS_SPACE = 0x0001, "HvCallSwitchVirtualAddressSpace";
    /// Invalidate every TLB entry of an address space, on a mask of VPs. Simple.
    FLUSH_VIRTUAL_ADDRESS_SPACE = 0x0002, "HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE" ["HvCallFlushVirtualAddressSpace"];
    /// Invalidate ranges of an address space, on a mask of VPs. Rep; x64 only in the TLFS.
    FLUSH_VIRTUAL_ADDRESS_LIST = 0x0003, "HVCALL_FLUSH_VIRTUAL_ADDRESS_LIST" ["HvCallFlushVirtualAddressList"];
    /// Tell the hypervisor that this VP has been spinning on a lock for a long time. Simple, fast.
    NOTIFY_LONG_SPIN_WAIT = 0x0008, "HVCALL_NOTIFY_LONG_SPIN_WAIT" ["HvCallNotifyLongSpinWait"];
    /// Break into the hypervisor's debugger.
    INVOKE_HYPERVISOR_DEBUGGER = 0x000a, "HvCallInvokeHypervisorDebugger";
    /// Send an interrupt to a mask of VPs. Simple.
    SEND_IPI = 0x000b, "HVCALL_SEND_IPI" ["HvCallSendSyntheticClusterIpi"];
    /// Change the access of lower VTLs to pages. Rep.
    MODIFY_VTL_PROTECTION_MASK = 0x000c, "HvCallModifyVtlProtectionMask";
    /// Enable a VTL for the partition. Simple.
    ENABLE_PARTITION_VTL = 0x000d, "HvCallEnablePartitionVtl";
    /// Enable a VTL on one VP, with its initial context. Simple.
    ENABLE_VP_VTL = 0x000f, "HVCALL_ENABLE_VP_VTL" ["HvCallEnableVpVtl"];
    /// Call into the next higher VTL. On ARM64 this is `hvc #2`, not a call code.
    VTL_CALL = 0x0011, "HvCallVtlCall";
    /// Return from a VTL. On ARM64 this is `hvc #3`, not a call code.
    VTL_RETURN = 0x0012, "HvCallVtlReturn";
    /// As [`Self::FLUSH_VIRTUAL_ADDRESS_SPACE`], with a VP set.
    FLUSH_VIRTUAL_ADDRESS_SPACE_EX = 0x0013, "HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE_EX"
        ["HvCallFlushVirtualAddressSpaceEx"];
    /// As [`Self::FLUSH_VIRTUAL_ADDRESS_LIST`], with a VP set.
    FLUSH_VIRTUAL_ADDRESS_LIST_EX = 0x0014, "HVCALL_FLUSH_VIRTUAL_ADDRESS_LIST_EX"
        ["HvCallFlushVirtualAddressListEx"];
    /// Like [`Self::SEND_IPI`], with a VP set.
    SEND_IPI_EX = 0x0015, "HVCALL_SEND_IPI_EX" ["HvCallSendSyntheticClusterIpiEx"];
    /// Create a child partition.
    CREATE_PARTITION = 0x0040, "HVCALL_CREATE_PARTITION" ["HvCallCreatePartition"];
    /// Make a created partition ready to run.
    INITIALIZE_PARTITION = 0x0041, "HVCALL_INITIALIZE_PARTITION" ["HvCallInitializePartition"];
    /// Take a partition's resources back.
    FINALIZE_PARTITION = 0x0042, "HVCALL_FINALIZE_PARTITION" ["HvCallFinalizePartition"];
    /// Delete a partition.
    DELETE_PARTITION = 0x0043, "HVCALL_DELETE_PARTITION" ["HvCallDeletePartition"];
    /// Read a property of a partition.
    GET_PARTITION_PROPERTY = 0x0044, "HVCALL_GET_PARTITION_PROPERTY" ["HvCallGetPartitionProperty"];
    /// Write a property of a partition.
    SET_PARTITION_PROPERTY = 0x0045, "HVCALL_SET_PARTITION_PROPERTY" ["HvCallSetPartitionProperty"];
    /// The caller's own partition id. Simple, output only.
    GET_PARTITION_ID = 0x0046, "HVCALL_GET_PARTITION_ID" ["HvCallGetPartitionId"];
    /// Get the child partition that follows the given one.
    GET_NEXT_CHILD_PARTITION = 0x0047, "HvCallGetNextChildPartition";
    /// Give pages to a partition's memory pool. Rep.
    DEPOSIT_MEMORY = 0x0048, "HVCALL_DEPOSIT_MEMORY" ["HvCallDepositMemory"];
    /// Take pages out of a partition's memory pool. Rep.
    WITHDRAW_MEMORY = 0x0049, "HVCALL_WITHDRAW_MEMORY" ["HvCallWithdrawMemory"];
    /// Query the size of a partition's memory pool.
    GET_MEMORY_BALANCE = 0x004a, "HvCallGetMemoryBalance";
    /// Map pages into a child partition. Rep.
    MAP_GPA_PAGES = 0x004b, "HVCALL_MAP_GPA_PAGES" ["HvCallMapGpaPages"];
    /// Undo [`Self::MAP_GPA_PAGES`]. Rep.
    UNMAP_GPA_PAGES = 0x004c, "HVCALL_UNMAP_GPA_PAGES" ["HvCallUnmapGpaPages"];
    /// Register for notifications about a partition.
    INSTALL_INTERCEPT = 0x004d, "HVCALL_INSTALL_INTERCEPT" ["HvCallInstallIntercept"];
    /// Create a VP in a child partition.
    CREATE_VP = 0x004e, "HVCALL_CREATE_VP" ["HvCallCreateVp"];
    /// Delete a VP.
    DELETE_VP = 0x004f, "HVCALL_DELETE_VP" ["HvCallDeleteVp"];
    /// Read VP registers. Rep. With guest OS id 0 only discovery and crash registers can be read.
    GET_VP_REGISTERS = 0x0050, "HVCALL_GET_VP_REGISTERS"
        ["HvCallGetVpRegisters", "hv_get_vpreg", "hv_get_vpreg_128"];
    /// Write VP registers. Rep. With guest OS id 0 only the id itself and crash registers can be written.
    SET_VP_REGISTERS = 0x0051, "HVCALL_SET_VP_REGISTERS" ["HvCallSetVpRegisters", "hv_set_vpreg"];
    /// Translate a virtual address as a VP would.
    TRANSLATE_VIRTUAL_ADDRESS = 0x0052, "HVCALL_TRANSLATE_VIRTUAL_ADDRESS" ["HvCallTranslateVirtualAddress"];
    /// Read memory of a partition. Root partition only.
    READ_GPA = 0x0053, "HVCALL_READ_GPA";
    /// Write memory of a partition. Root partition only.
    WRITE_GPA = 0x0054, "HVCALL_WRITE_GPA";
    /// Take back a virtual interrupt.
    CLEAR_VIRTUAL_INTERRUPT = 0x0056, "HVCALL_CLEAR_VIRTUAL_INTERRUPT";
    /// Delete a port.
    DELETE_PORT = 0x0058, "HVCALL_DELETE_PORT" ["HvCallDeletePort"];
    /// Undo [`Self::CONNECT_PORT`].
    DISCONNECT_PORT = 0x005b, "HVCALL_DISCONNECT_PORT" ["HvCallDisconnectPort"];
    /// Post a message to a connection. Simple, memory-based.
    POST_MESSAGE = 0x005c, "HVCALL_POST_MESSAGE" ["HvCallPostMessage"];
    /// Signal an event to a connection. Simple, fast.
    SIGNAL_EVENT = 0x005d, "HVCALL_SIGNAL_EVENT" ["HvCallSignalEvent"];
    /// Send data to the synthetic debugger.
    POST_DEBUG_DATA = 0x0069, "HVCALL_POST_DEBUG_DATA" ["HvCallPostDebugData"];
    /// Fetch data from the synthetic debugger.
    RETRIEVE_DEBUG_DATA = 0x006a, "HVCALL_RETRIEVE_DEBUG_DATA" ["HvCallRetrieveDebugData"];
    /// Drop the data queued by the synthetic debugger.
    RESET_DEBUG_SESSION = 0x006b, "HVCALL_RESET_DEBUG_SESSION" ["HvCallResetDebugSession"];
    /// Map a page of statistics.
    MAP_STATS_PAGE = 0x006c, "HVCALL_MAP_STATS_PAGE";
    /// Undo [`Self::MAP_STATS_PAGE`].
    UNMAP_STATS_PAGE = 0x006d, "HVCALL_UNMAP_STATS_PAGE" ["HvCallUnmapStatsPage"];
    /// Map pages, each by its own pair of numbers. Rep.
    MAP_SPARSE_GPA_PAGES = 0x006e, "HvCallMapSparseGpaPages";
    /// Write a character to the hypervisor's debugger.
    OUTPUT_DEBUG_CHARACTER = 0x0071, "HvCallOutputDebugCharacter";
    /// Start a logical processor. Root partition only.
    ADD_LOGICAL_PROCESSOR = 0x0076, "HVCALL_ADD_LOGICAL_PROCESSOR" ["HvCallAddLogicalProcessor"];
    /// Read a property of the system. Root partition only.
    GET_SYSTEM_PROPERTY = 0x007b, "HVCALL_GET_SYSTEM_PROPERTY";
    /// Map a device interrupt. Root partition only.
    MAP_DEVICE_INTERRUPT = 0x007c, "HVCALL_MAP_DEVICE_INTERRUPT" ["HvCallMapDeviceInterrupt"];
    /// Undo [`Self::MAP_DEVICE_INTERRUPT`].
    UNMAP_DEVICE_INTERRUPT = 0x007d, "HVCALL_UNMAP_DEVICE_INTERRUPT" ["HvCallUnmapDeviceInterrupt"];
    /// Send a device's interrupt to other VPs.
    RETARGET_INTERRUPT = 0x007e, "HVCALL_RETARGET_INTERRUPT" ["HvCallRetargetDeviceInterrupt"];
    /// Tell the hypervisor of a partition's event.
    NOTIFY_PARTITION_EVENT = 0x0087, "HvCallNotifyPartitionEvent";
    /// Notify that a port's ring was found empty.
    NOTIFY_PORT_RING_EMPTY = 0x008b, "HVCALL_NOTIFY_PORT_RING_EMPTY";
    /// Change the access rights of pages, given by page number. Rep.
    MODIFY_SPARSE_GPA_PAGES = 0x0090, "HvCallModifySparseGpaPages";
    /// Set an intercept's result beforehand.
    REGISTER_INTERCEPT_RESULT = 0x0091, "HVCALL_REGISTER_INTERCEPT_RESULT" ["HvCallRegisterInterceptResult"];
    /// Undo [`Self::REGISTER_INTERCEPT_RESULT`].
    UNREGISTER_INTERCEPT_RESULT = 0x0092, "HvCallUnregisterInterceptResult";
    /// Raise an interrupt in a partition that the caller controls.
    ASSERT_VIRTUAL_INTERRUPT = 0x0094, "HVCALL_ASSERT_VIRTUAL_INTERRUPT" ["HvCallAssertVirtualInterrupt"];
    /// Create a port.
    CREATE_PORT = 0x0095, "HVCALL_CREATE_PORT" ["HvCallCreatePort"];
    /// Connect to a port.
    CONNECT_PORT = 0x0096, "HVCALL_CONNECT_PORT" ["HvCallConnectPort"];
    /// Start a VP with an initial context.
    START_VP = 0x0099, "HVCALL_START_VP" ["HVCALL_START_VIRTUAL_PROCESSOR", "HvCallStartVirtualProcessor"];
    /// Get VP indices from APIC ids (x64) or MPIDR values (ARM64).
    ///
    /// The review of the 2018 patch asked to delete it for ARM64, where no guest used it; the TLFS now gives MPIDR
    /// values as its ARM64 input.
    GET_VP_ID_FROM_APIC_ID = 0x009a, "HVCALL_GET_VP_INDEX_FROM_APIC_ID"
        ["HVCALL_GET_VP_ID_FROM_APIC_ID", "HVCALL_GET_VP_INDEX_FROM_APICID", "HvCallGetVpIndexFromApicId"];
    /// Like [`Self::TRANSLATE_VIRTUAL_ADDRESS`], with more output.
    TRANSLATE_VIRTUAL_ADDRESS_EX = 0x00ac, "HvCallTranslateVirtualAddressEx";
    /// Flush guest physical address translations (of a nested hypervisor).
    FLUSH_GUEST_PHYSICAL_ADDRESS_SPACE = 0x00af, "HVCALL_FLUSH_GUEST_PHYSICAL_ADDRESS_SPACE"
        ["HvCallFlushGuestPhysicalAddressSpace"];
    /// Flush ranges of guest physical addresses. Rep.
    FLUSH_GUEST_PHYSICAL_ADDRESS_LIST = 0x00b0, "HVCALL_FLUSH_GUEST_PHYSICAL_ADDRESS_LIST"
        ["HvCallFlushGuestPhysicalAddressList"];
    /// Signal an event to a VP, without a port.
    SIGNAL_EVENT_DIRECT = 0x00c0, "HVCALL_SIGNAL_EVENT_DIRECT" ["HvCallSignalEventDirect"];
    /// Post a message to a VP, without a port.
    POST_MESSAGE_DIRECT = 0x00c1, "HVCALL_POST_MESSAGE_DIRECT" ["HvCallPostMessageDirect"];
    /// Run a VP. Root scheduler only.
    DISPATCH_VP = 0x00c2, "HVCALL_DISPATCH_VP";
    /// Query which pages were accessed or written. Rep.
    GET_GPA_PAGES_ACCESS_STATES = 0x00c9, "HVCALL_GET_GPA_PAGES_ACCESS_STATES";
    /// Check whether a VTL may access pages. Rep.
    CHECK_SPARSE_GPA_PAGE_VTL_ACCESS = 0x00d4, "HvCallCheckSparseGpaPageVtlAccess";
    /// Let the host access pages of an isolated partition. Root partition only.
    ACQUIRE_SPARSE_SPA_PAGE_HOST_ACCESS = 0x00d7, "HVCALL_ACQUIRE_SPARSE_SPA_PAGE_HOST_ACCESS";
    /// Undo [`Self::ACQUIRE_SPARSE_SPA_PAGE_HOST_ACCESS`].
    RELEASE_SPARSE_SPA_PAGE_HOST_ACCESS = 0x00d8, "HVCALL_RELEASE_SPARSE_SPA_PAGE_HOST_ACCESS";
    /// Accept pages of an isolated guest. Rep.
    ACCEPT_GPA_PAGES = 0x00d9, "HvCallAcceptGpaPages";
    /// Change which pages of an isolated guest the host sees. Rep.
    MODIFY_SPARSE_GPA_PAGE_HOST_VISIBILITY = 0x00db, "HVCALL_MODIFY_SPARSE_GPA_PAGE_HOST_VISIBILITY"
        ["HvCallModifySparseGpaPageHostVisibility"];
    /// Map a page of a VP's state. Root partition only.
    MAP_VP_STATE_PAGE = 0x00e1, "HVCALL_MAP_VP_STATE_PAGE" ["HvCallMapVpStatePage"];
    /// Undo [`Self::MAP_VP_STATE_PAGE`].
    UNMAP_VP_STATE_PAGE = 0x00e2, "HVCALL_UNMAP_VP_STATE_PAGE" ["HvCallUnmapVpStatePage"];
    /// Read a VP's state. Root partition only.
    GET_VP_STATE = 0x00e3, "HVCALL_GET_VP_STATE";
    /// Write a VP's state. Root partition only.
    SET_VP_STATE = 0x00e4, "HVCALL_SET_VP_STATE";
    /// Get the VPs that the address of a message-signalled interrupt targets.
    GET_VP_SET_FROM_MDA = 0x00e5, "HvCallGetVpSetFromMda";
    /// Put pages into an isolated partition. Root partition only.
    IMPORT_ISOLATED_PAGES = 0x00ef, "HVCALL_IMPORT_ISOLATED_PAGES";
    /// End that. Root partition only.
    COMPLETE_ISOLATED_IMPORT = 0x00f1, "HVCALL_COMPLETE_ISOLATED_IMPORT";
    /// Go on from the partition's saved time.
    RESTORE_PARTITION_TIME = 0x0103, "HvCallRestorePartitionTime";
    /// Read a large property of a partition.
    GET_PARTITION_PROPERTY_EX = 0x0101, "HVCALL_GET_PARTITION_PROPERTY_EX";
    /// Read MMIO through the hypervisor.
    MMIO_READ = 0x0106, "HVCALL_MMIO_READ" ["HvCallMemoryMappedIoRead"];
    /// Write MMIO through the hypervisor.
    MMIO_WRITE = 0x0107, "HVCALL_MMIO_WRITE" ["HvCallMemoryMappedIoWrite"];
    /// Write a large property of a partition.
    SET_PARTITION_PROPERTY_EX = 0x010a, "HvCallSetPartitionPropertyEx";
    /// As [`Self::INSTALL_INTERCEPT`], with more parameters. Rep.
    INSTALL_INTERCEPT_EX = 0x0110, "HvCallInstallInterceptEx";
    /// Keep pages in memory. Rep.
    PIN_GPA_PAGE_RANGES = 0x0112, "HvCallPinGpaPageRanges";
    /// Undo [`Self::PIN_GPA_PAGE_RANGES`]. Rep.
    UNPIN_GPA_PAGE_RANGES = 0x0113, "HvCallUnpinGpaPageRanges";
    /// Query which pages of an isolated guest the host sees. Rep.
    QUERY_SPARSE_GPA_PAGE_HOST_VISIBILITY = 0x011c, "HvCallQuerySparseGpaPageHostVisibility";
    /// Send a device's interrupt to other VPs of a child.
    SET_VIRTUAL_INTERRUPT_TARGET = 0x011f, "HvCallSetVirtualInterruptTarget";
    /// Map a page of statistics at a given address.
    MAP_STATS_PAGE2 = 0x0131, "HvCallMapStatsPage2";
}

constants! {
    table EXTENDED, kind "hypercall", from "TLFS, Hypercall Reference", impl HypercallCode;

    /// Query the available extended hypercalls. Simple, output only.
    EXT_QUERY_CAPABILITIES = 0x8001, "HV_EXT_CALL_QUERY_CAPABILITIES" ["HvExtCallQueryCapabilities"];
    /// Ranges of memory that the host zeroed at boot.
    EXT_GET_BOOT_ZEROED_MEMORY = 0x8002, "HvExtCallGetBootZeroedMemory";
    /// Tell the host that pages are cold. Rep.
    EXT_MEMORY_HEAT_HINT = 0x8003, "HV_EXT_CALL_MEMORY_HEAT_HINT" ["HvExtCallMemoryHeatHint"];
    /// Set up enlightened page faults.
    EXT_EPF_SETUP = 0x8004, "HvExtCallEpfSetup";
    /// Like [`Self::EXT_MEMORY_HEAT_HINT`], without waiting for completion.
    EXT_MEMORY_HEAT_HINT_ASYNC = 0x8006, "HvExtCallMemoryHeatHintAsync";
}

impl HypercallCode {
    /// Returns true for an extended hypercall, which the virtualization stack handles instead of the hypervisor.
    #[must_use]
    pub const fn is_extended(self) -> bool {
        self.0 & 0x8000 != 0
    }
}
