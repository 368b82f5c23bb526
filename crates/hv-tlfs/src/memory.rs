//! Memory: ranges of pages, translation, MMIO by hypercall, memory pools.

use crate::abi::Tables;
use crate::vp::{InputVtl, PartitionId, VpIndex};

pub(crate) const TABLES: Tables = Tables {
    constants: &[LIMITS, TRANSLATE, RESULTS, CACHE, MMIO_LIMITS],
    structs: &[RANGES, MAPPING, TRANSLATE_WORDS, RESULT_TYPE, CACHE_TYPE, TRANSLATION, MMIO, POOLS],
};

constants! {
    table LIMITS, kind "memory", from "Linux 6.12, include/asm-generic/hyperv-tlfs.h";

    /// Maximum number of pages in one range: the additional ones and the first.
    pub const MAX_RANGE_PAGES: u64 = 2048, "HV_MAX_FLUSH_PAGES";
    /// Large pages of a range are 2 MiB.
    pub const RANGE_PAGE_SIZE_2MB: u64 = 0, "HV_GPA_PAGE_RANGE_PAGE_SIZE_2MB";
    /// Large pages of a range are 1 GiB.
    pub const RANGE_PAGE_SIZE_1GB: u64 = 1, "HV_GPA_PAGE_RANGE_PAGE_SIZE_1GB";
    /// Maximum number of ranges in one [`FLUSH_GUEST_PHYSICAL_ADDRESS_LIST`]: what fits into a page after the header.
    ///
    /// [`FLUSH_GUEST_PHYSICAL_ADDRESS_LIST`]: crate::hypercall::HypercallCode::FLUSH_GUEST_PHYSICAL_ADDRESS_LIST
    pub const MAX_FLUSH_REP_COUNT: usize = (crate::page::SIZE - 16) / 8, "HV_MAX_FLUSH_REP_COUNT";
}

bits! {
    table RANGES, from "TLFS, HvCallFlushVirtualAddressList; Linux 6.12, include/asm-generic/hyperv-tlfs.h; openvmm, vm/hv1/hvdef";

    /// A range of virtual pages: one element of a list flush.
    pub struct GvaRange(u64) = "HV_GVA_RANGE" {
        /// Pages after the first.
        additional_pages / with_additional_pages: u16 @ 11:0 = "AdditionalPages";
        /// Number of the first page.
        page_number / with_page_number: u64 @ 63:12 = "GvaPageNumber";
    }

    /// A range of virtual pages in the extended format; the pages are 4 KiB if `large_page` is clear.
    pub struct GvaRangeExtended(u64) = "HV_GVA_RANGE_EXTENDED" {
        /// Pages after the first.
        additional_pages / with_additional_pages: u16 @ 10:0 = "AdditionalPages";
        /// The pages are large: the word is a [`GvaRangeLarge`].
        large_page / with_large_page: bool @ 11 = "LargePage";
        /// Number of the first page.
        page_number / with_page_number: u64 @ 63:12 = "GvaPageNumber";
    }

    /// A range of large virtual pages.
    pub struct GvaRangeLarge(u64) = "HV_GVA_RANGE_EXTENDED_LARGE_PAGE" {
        /// Pages after the first.
        additional_pages / with_additional_pages: u16 @ 10:0 = "AdditionalPages";
        /// Always 1: the pages are large.
        large_page / with_large_page: bool @ 11 = "LargePage";
        /// 1: pages of 1 GiB; 0: of 2 MiB.
        gigabyte / with_gigabyte: bool @ 12 = "PageSize";
        /// The first page's address shifted right by 21.
        large_page_number / with_large_page_number: u64 @ 63:21 = "GvaLargePageNumber";
    }

    /// A range of 4 KiB physical pages; if `large_page` is set, bits 63:12 are as in [`GvaRangeLarge`].
    pub struct GpaRange(u64) = "hv_gpa_page_range" ["HV_GPA_PAGE_RANGE"] {
        /// Pages after the first.
        additional_pages / with_additional_pages: u16 @ 10:0 = "page.additional_pages";
        /// The pages are large.
        large_page / with_large_page: bool @ 11 = "page.largepage";
        /// Number of the first page.
        page_number / with_page_number: u64 @ 63:12 = "page.basepfn";
    }
    also {
        "address_space" @ 0, 8;
        "page" @ 0, 8;
        "reserved" @ 0, 8, bits 11:0;
        "page_size" @ 0, 8, bits 12;
        "reserved1" @ 0, 8, bits 20:13;
        "base_large_pfn" @ 0, 8, bits 63:21;
    }
}

structs! {
    table MAPPING, from "TLFS, HvCallFlushGuestPhysicalAddressSpace; Linux 6.12, include/asm-generic/hyperv-tlfs.h";

    /// Input of [`FLUSH_GUEST_PHYSICAL_ADDRESS_SPACE`], by a nested hypervisor.
    ///
    /// [`FLUSH_GUEST_PHYSICAL_ADDRESS_SPACE`]: crate::hypercall::HypercallCode::FLUSH_GUEST_PHYSICAL_ADDRESS_SPACE
    pub struct GuestMappingFlush = "hv_guest_mapping_flush", size 16 {
        /// Root of the stage 2 tables.
        address_space: u64 = 0,
        /// Zero.
        flags: u64 = 8,
    }

    /// Input of [`FLUSH_GUEST_PHYSICAL_ADDRESS_LIST`], its list at full length.
    ///
    /// [`FLUSH_GUEST_PHYSICAL_ADDRESS_LIST`]: crate::hypercall::HypercallCode::FLUSH_GUEST_PHYSICAL_ADDRESS_LIST
    pub struct GuestMappingFlushList = "hv_guest_mapping_flush_list", size 4096 {
        /// Root of the stage 2 tables.
        address_space: u64 = 0,
        /// Zero.
        flags: u64 = 8,
        /// The ranges.
        gpa_list: [GpaRange; 510] = 16,
    }
}

constants! {
    table TRANSLATE, kind "translate", from "TLFS, HV_TRANSLATE_GVA_CONTROL_FLAGS; mshv-bindings", impl TranslateFlags;

    /// [`Self::validate_read`] alone.
    VALIDATE_READ = 0x1, "HV_TRANSLATE_GVA_VALIDATE_READ";
    /// [`Self::validate_write`] alone.
    VALIDATE_WRITE = 0x2, "HV_TRANSLATE_GVA_VALIDATE_WRITE";
    /// [`Self::validate_execute`] alone.
    VALIDATE_EXECUTE = 0x4, "HV_TRANSLATE_GVA_VALIDATE_EXECUTE";
    /// [`Self::set_page_table_bits`] alone.
    SET_PAGE_TABLE_BITS = 0x10, "HV_TRANSLATE_GVA_SET_PAGE_TABLE_BITS";
    /// [`Self::tlb_flush_inhibit`] alone.
    TLB_FLUSH_INHIBIT = 0x20, "HV_TRANSLATE_GVA_TLB_FLUSH_INHIBIT";
    /// [`Self::supervisor_access`] alone.
    SUPERVISOR_ACCESS = 0x40, "HV_TRANSLATE_GVA_SUPERVISOR_ACCESS";
    /// [`Self::user_access`] alone.
    USER_ACCESS = 0x80, "HV_TRANSLATE_GVA_USER_ACCESS";
    /// [`Self::pan_set`] alone. The same bit is ENFORCE_SMAP on x64.
    PAN_SET = 0x100, "HV_TRANSLATE_GVA_PAN_SET";
    /// [`Self::pan_clear`] alone. The same bit is OVERRIDE_SMAP on x64.
    PAN_CLEAR = 0x200, "HV_TRANSLATE_GVA_PAN_CLEAR";
}

bits! {
    table TRANSLATE_WORDS, from "TLFS, HV_TRANSLATE_GVA_CONTROL_FLAGS and HV_TRANSLATE_GVA_RESULT; openvmm, vm/hv1/hvdef";

    /// Control flags of a translation, ARM64 bits.
    pub struct TranslateFlags(u64) = "HV_TRANSLATE_GVA_CONTROL_FLAGS" {
        /// Check that it can be read.
        validate_read / with_validate_read: bool @ 0 = "ValidateRead";
        /// Check that it can be written.
        validate_write / with_validate_write: bool @ 1 = "ValidateWrite";
        /// Check that it can be executed.
        validate_execute / with_validate_execute: bool @ 2 = "ValidateExecute";
        /// Set accessed and dirty bits on the way.
        set_page_table_bits / with_set_page_table_bits: bool @ 4 = "SetPageTableBits";
        /// Block TLB flushes until the VP resumes.
        tlb_flush_inhibit / with_tlb_flush_inhibit: bool @ 5 = "TlbFlushInhibit";
        /// Translate as a privileged access.
        supervisor_access / with_supervisor_access: bool @ 6 = "SupervisorAccess";
        /// Translate as an unprivileged access.
        user_access / with_user_access: bool @ 7 = "UserAccess";
        /// Translate as if PSTATE.PAN were 1.
        pan_set / with_pan_set: bool @ 8 = "PanSet";
        /// Translate as if PSTATE.PAN were 0.
        pan_clear / with_pan_clear: bool @ 9 = "PanClear";
        /// Whose VTL.
        input_vtl / with_input_vtl: InputVtl(u8) @ 63:56 = "InputVtl";
    }

    /// Result of a translation.
    pub struct TranslateResult(u64) = "hv_translate_gva_result" ["HV_TRANSLATE_GVA_RESULT"] {
        /// Success, or why not.
        code / with_code: TranslateResultCode(u32) @ 31:0 = "result_code";
        /// Caching of the page.
        cache_type / with_cache_type: u8 @ 39:32;
        /// It is an overlay page.
        overlay_page / with_overlay_page: bool @ 40;
    }
    also {
        "as_uint64" @ 0, 8;
        "reserved" @ 0, 8, bits 63:41;
    }
}

open_enum! {
    table RESULT_TYPE, from "TLFS, HV_TRANSLATE_GVA_RESULT";
    names [RESULTS];
    /// Success of a translation, or why not.
    pub struct TranslateResultCode(u32) = "hv_translate_gva_result_code" ["HV_TRANSLATE_GVA_RESULT_CODE"];
}

constants! {
    table RESULTS, kind "translate", from "TLFS, HV_TRANSLATE_GVA_RESULT; mshv-bindings", impl TranslateResultCode;

    /// Translated.
    SUCCESS = 0, "HV_TRANSLATE_GVA_SUCCESS" ["HvTranslateGvaSuccess"];
    /// No page is mapped.
    PAGE_NOT_PRESENT = 1, "HV_TRANSLATE_GVA_PAGE_NOT_PRESENT" ["HvTranslateGvaPageNotPresent"];
    /// The mapping does not allow the access.
    PRIVILEGE_VIOLATION = 2, "HV_TRANSLATE_GVA_PRIVILEGE_VIOLATION" ["HvTranslateGvaPrivilegeViolation"];
    /// A table entry is malformed.
    INVALID_PAGE_TABLE_FLAGS = 3, "HV_TRANSLATE_GVA_INVALID_PAGE_TABLE_FLAGS"
        ["HvTranslateGvaInvalidPageTableFlags"];
    /// The physical page is not mapped.
    GPA_UNMAPPED = 4, "HV_TRANSLATE_GVA_GPA_UNMAPPED" ["HvTranslateGvaGpaUnmapped"];
    /// The physical page cannot be read.
    GPA_NO_READ_ACCESS = 5, "HV_TRANSLATE_GVA_GPA_NO_READ_ACCESS" ["HvTranslateGvaGpaNoReadAccess"];
    /// The physical page cannot be written.
    GPA_NO_WRITE_ACCESS = 6, "HV_TRANSLATE_GVA_GPA_NO_WRITE_ACCESS" ["HvTranslateGvaGpaNoWriteAccess"];
    /// The physical page is an overlay that does not allow the access.
    GPA_ILLEGAL_OVERLAY_ACCESS = 7, "HV_TRANSLATE_GVA_GPA_ILLEGAL_OVERLAY_ACCESS"
        ["HvTranslateGvaGpaIllegalOverlayAccess"];
    /// The access was intercepted.
    INTERCEPT = 8, "HV_TRANSLATE_GVA_INTERCEPT" ["HvTranslateGvaIntercept"];
    /// The isolated guest has not accepted the physical page.
    GPA_UNACCEPTED = 9, "HV_TRANSLATE_GVA_GPA_UNACCEPTED" ["HvTranslateGvaGpaUnaccepted"];
}

open_enum! {
    table CACHE_TYPE, from "TLFS, HV_TRANSLATE_GVA_RESULT";
    names [CACHE];
    /// Caching of memory.
    pub struct CacheType(u32) = "HV_CACHE_TYPE";
}

constants! {
    table CACHE, kind "cache-type", from "TLFS, HV_TRANSLATE_GVA_RESULT", impl CacheType;

    /// Uncached.
    UNCACHED = 0, "HvCacheTypeUncached";
    /// Writes are gathered.
    WRITE_COMBINING = 1, "HvCacheTypeWriteCombining";
    /// Writes go to memory at once.
    WRITE_THROUGH = 4, "HvCacheTypeWriteThrough";
    /// Write-protected. x64 only.
    WRITE_PROTECTED = 5, "HvCacheTypeWriteProtected";
    /// Writes go to memory later.
    WRITE_BACK = 6, "HvCacheTypeWriteBack";
}

structs! {
    table TRANSLATION, from "TLFS, HvCallTranslateVirtualAddress; openvmm, vm/hv1/hvdef";

    /// Input of [`TRANSLATE_VIRTUAL_ADDRESS`](crate::hypercall::HypercallCode::TRANSLATE_VIRTUAL_ADDRESS).
    pub struct TranslateInput = "hv_input_translate_virtual_address", size 32 {
        /// Whose VP.
        partition_id: PartitionId = 0,
        /// The VP.
        vp_index: VpIndex = 8,
        /// Zero.
        reserved: u32 = 12 "padding",
        /// Flags.
        control_flags: TranslateFlags = 16,
        /// Number of the virtual page.
        gva_page: u64 = 24,
    }

    /// Output of [`TRANSLATE_VIRTUAL_ADDRESS`](crate::hypercall::HypercallCode::TRANSLATE_VIRTUAL_ADDRESS), and on
    /// ARM64 of its extended form too.
    pub struct TranslateOutput = "hv_output_translate_virtual_address", size 16 {
        /// Result.
        result: TranslateResult = 0 "translation_result",
        /// Number of the physical page, on success.
        gpa_page: u64 = 8,
    }
}

constants! {
    table MMIO_LIMITS, kind "memory", from "Linux 6.12, include/asm-generic/hyperv-tlfs.h";

    /// Bytes of one MMIO access by hypercall at most.
    pub const MMIO_MAX_DATA_LENGTH: usize = 64, "HV_HYPERCALL_MMIO_MAX_DATA_LENGTH";
}

structs! {
    table MMIO, from "Linux 6.12, include/asm-generic/hyperv-tlfs.h; openvmm, vm/hv1/hvdef";

    /// Input of [`MMIO_READ`](crate::hypercall::HypercallCode::MMIO_READ).
    pub struct MmioReadInput = "hv_mmio_read_input" ["HV_INPUT_MEMORY_MAPPED_IO_READ"], size 16 {
        /// The address.
        gpa: u64 = 0,
        /// Bytes.
        length: u32 = 8 "size",
        /// Zero.
        reserved: u32 = 12,
    }

    /// Output of [`MMIO_READ`](crate::hypercall::HypercallCode::MMIO_READ).
    pub struct MmioReadOutput = "hv_mmio_read_output" ["HV_OUTPUT_MEMORY_MAPPED_IO_READ"], size 64 {
        /// The data read.
        data: [u8; 64] = 0,
    }

    /// Input of [`MMIO_WRITE`](crate::hypercall::HypercallCode::MMIO_WRITE); no output.
    pub struct MmioWriteInput = "hv_mmio_write_input" ["HV_INPUT_MEMORY_MAPPED_IO_WRITE"], size 80 {
        /// The address.
        gpa: u64 = 0,
        /// Bytes.
        length: u32 = 8 "size",
        /// Zero.
        reserved: u32 = 12,
        /// The data to write.
        data: [u8; 64] = 16,
    }
}

structs! {
    table POOLS, from "TLFS, HvCallDepositMemory; Linux 6.12, include/asm-generic/hyperv-tlfs.h";

    /// Input header of [`DEPOSIT_MEMORY`](crate::hypercall::HypercallCode::DEPOSIT_MEMORY); a list of page numbers
    /// follows it.
    pub struct DepositMemoryInput = "hv_deposit_memory", size 8 {
        /// Whose pool.
        partition_id: PartitionId = 0,
    }
    also {
        "gpa_page_list" @ 8, 0;
    }

    /// Output of [`GET_PARTITION_ID`](crate::hypercall::HypercallCode::GET_PARTITION_ID).
    pub struct GetPartitionIdOutput = "hv_output_get_partition_id" ["hv_get_partition_id"], size 8 {
        /// The caller's partition.
        partition_id: PartitionId = 0,
    }

    /// Input header of [`GET_VP_ID_FROM_APIC_ID`], whose ARM64 form takes a list of MPIDR values, 8 bytes each, and
    /// returns a list of VP indices, 4 bytes each.
    ///
    /// [`GET_VP_ID_FROM_APIC_ID`]: crate::hypercall::HypercallCode::GET_VP_ID_FROM_APIC_ID
    pub struct GetVpIndexInput = "hv_get_vp_from_apic_id_in", size 16 {
        /// Whose VPs.
        partition_id: PartitionId = 0,
        /// Whose VTL.
        target_vtl: InputVtl = 8,
        /// Zero.
        reserved: [u8; 7] = 9 "res",
    }
    also {
        "apic_ids" @ 16, 0;
    }
}
