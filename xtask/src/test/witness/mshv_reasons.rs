//! Why the table and mshv-bindings differ, where they do.

use super::Reasons;

const ROOT: &str = "for a root partition, which no guest of this project is";
const X64: &str = "x64 only";
const COUNT: &str = "how many the headers know";
const HEADER: &str = "the version of a header file";

/// What mshv-bindings has and the table lacks.
pub(super) const LACKS: &Reasons = &[
    (
        "HV_ARM64_REGISTER_*",
        "registers of EL2, of AArch32 and of the GIC's system interface, and reserved identification numbers: the TLFS \
         lists none of them, and the table has all that it lists",
    ),
    ("HVGDK_*", HEADER),
    ("HVHDK_*", HEADER),
    ("HVHVK_*", HEADER),
    ("HVCALL_GET_VP_CPUID_VALUES", X64),
    ("hv_cpuid_leaf_info", X64),
    ("hv_get_vp_cpuid_values_flags", X64),
    ("hv_input_get_vp_cpuid_values", X64),
    ("hv_output_get_vp_cpuid_values", X64),
    ("HV_REGISTER_POWER_STATE_*", "C-states, which are x64's"),
    ("HV_REGISTER_STATS_PARTITION_INTERNAL", ROOT),
    ("HV_REGISTER_STATS_VP_INTERNAL", ROOT),
    ("HV_ARM64_INTERRUPT_TYPE_MAXIMUM", COUNT),
    ("HV_INTERCEPT_TYPE_MAX", COUNT),
    ("HV_ARM64_RESET_TYPE_MAX", COUNT),
    ("HV_ISOLATED_PAGE_*", ROOT),
    ("HV_ACCESS_GPA_*", ROOT),
    ("HV_READ_WRITE_GPA_MAX_SIZE", ROOT),
    ("HV_PARTITION_*", ROOT),
    ("HV_PFN_RNG_PAGEBITS", ROOT),
    ("HV_VP_REGISTER_PAGE_*", ROOT),
    ("hv_pfn_range", ROOT),
    ("hv_vp_register_page*", ROOT),
    ("hv_partition_*", ROOT),
    ("hv_input_get_partition_property*", ROOT),
    ("hv_output_get_partition_property*", ROOT),
    ("hv_input_set_partition_property", ROOT),
    ("hv_input_complete_isolated_import", ROOT),
    ("hv_input_import_isolated_pages", ROOT),
    ("hv_access_gpa_*", ROOT),
    ("hv_input_read_gpa", ROOT),
    ("hv_output_read_gpa", ROOT),
    ("hv_input_write_gpa", ROOT),
    ("hv_output_write_gpa", ROOT),
    ("hv_opaque_intercept_message", ROOT),
    ("hv_stimer_state", "saved state, for a root partition"),
    ("hv_synthetic_timers_state", "saved state, for a root partition"),
    ("hv_u128", "two words; the table has them in each structure"),
    ("hv_intercept_parameters", "a union of views of one word"),
    ("hv_arm64_register_access_info", "a union of views of 16 bytes"),
];

/// What both have, with different numbers or fields.
pub(super) const DIFFERENT: &Reasons = &[
    ("hv_port_id::as__u32", "a slip of that crate's headers: asu32"),
    ("hv_register_vsm_partition_config::as_u64", "as_uint64 elsewhere"),
    (
        "hv_register_value::*",
        "a union of views; the table has the words, and the views as registers' own types",
    ),
    ("hv_arm64_register_intercept_message::Header", "header elsewhere"),
    ("hv_arm64_register_intercept_message::reserved16", "the table has one reserved field of three bytes"),
];
