//! Extended hypercalls, which the virtualization stack handles: capabilities, memory zeroed at boot, memory hints.

use crate::abi::Tables;

pub(crate) const TABLES: Tables =
    Tables { constants: &[BITS, HINTS], structs: &[CAPABILITIES, OUTPUTS, HINT_WORD] };

bits! {
    table CAPABILITIES, from "TLFS, HvExtCallQueryCapabilities; Linux 6.12, include/asm-generic/hyperv-tlfs.h";

    /// Output of [`EXT_QUERY_CAPABILITIES`](crate::hypercall::HypercallCode::EXT_QUERY_CAPABILITIES).
    pub struct ExtendedCapabilities(u64) = "HV_EXT_OUTPUT_QUERY_CAPABILITIES" {
        /// The list of memory zeroed at boot can be queried.
        boot_zeroed_memory / with_boot_zeroed_memory: bool @ 0 = "GetBootZeroedMemory";
        /// Memory heat hints are supported.
        memory_heat_hint / with_memory_heat_hint: bool @ 1 = "MemoryHeatHint";
        /// Enlightened page faults can be set up.
        epf_setup / with_epf_setup: bool @ 2 = "EpfSetup";
        /// The scheduler assist can be set up.
        scheduler_assist_setup / with_scheduler_assist_setup: bool @ 3 = "SchedulerAssistSetup";
        /// Asynchronous memory heat hints are supported.
        memory_heat_hint_async / with_memory_heat_hint_async: bool @ 4 = "MemoryHeatHintAsync";
        /// The hint "cold, discard" is supported. Linux's bit; reserved in the TLFS.
        memory_cold_discard_hint / with_memory_cold_discard_hint: bool @ 8 = "MemoryColdDiscardHint";
    }
}

constants! {
    table BITS, kind "extended", from "Linux 6.12, include/asm-generic/hyperv-tlfs.h";

    /// [`ExtendedCapabilities::memory_cold_discard_hint`] alone.
    pub const MEMORY_COLD_DISCARD_HINT: u64 = 1 << 8, "HV_EXT_CAPABILITY_MEMORY_COLD_DISCARD_HINT";
}

structs! {
    table OUTPUTS, from "TLFS, HvExtCallGetBootZeroedMemory";

    /// A range of pages that read as zero.
    pub struct ZeroedRange = "HV_EXT_OUTPUT_BOOT_ZEROED_MEMORY_RANGE", size 16 {
        /// Number of the first page.
        start_page: u64 = 0 "StartGpa",
        /// Number of pages.
        page_count: u64 = 8 "PageCount",
    }

    /// Output of [`EXT_GET_BOOT_ZEROED_MEMORY`](crate::hypercall::HypercallCode::EXT_GET_BOOT_ZEROED_MEMORY).
    pub struct BootZeroedMemory = "HV_EXT_OUTPUT_GET_BOOT_ZEROED_MEMORY", size 4088 {
        /// Number of valid ranges, at most 255.
        range_count: u64 = 0 "RangeCount",
        /// The ranges, best first. They may overlap, and may cover memory that is absent.
        ranges: [ZeroedRange; 255] = 8 "Ranges",
    }
}

constants! {
    table HINTS, kind "extended", from "Linux 6.12, include/asm-generic/hyperv-tlfs.h";

    /// The pages are cold and their contents may be discarded.
    pub const MEMORY_HEAT_HINT_COLD_DISCARD: u64 = 2, "HV_EXT_MEMORY_HEAT_HINT_TYPE_COLD_DISCARD";
    /// Maximum number of ranges in one hint: what fits into a page after the header.
    pub const MAX_HINT_RANGES: usize = (crate::page::SIZE - 8) / 8, "HV_MEMORY_HINT_MAX_GPA_PAGE_RANGES";
}

bits! {
    table HINT_WORD, from "Linux 6.12, include/asm-generic/hyperv-tlfs.h";

    /// Input header of [`EXT_MEMORY_HEAT_HINT`](crate::hypercall::HypercallCode::EXT_MEMORY_HEAT_HINT); a list of
    /// [`GpaRange`](crate::memory::GpaRange)s follows it.
    pub struct MemoryHint(u64) = "hv_memory_hint" {
        /// The kind of hint.
        hint_type / with_hint_type: u8 @ 1:0 = "type";
    }
    also {
        "reserved" @ 0, 8, bits 63:2;
        "ranges" @ 8, 0;
    }
}
