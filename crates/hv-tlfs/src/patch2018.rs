//! Definitions of the 2018 patch that the current ABI does not have.
//!
//! The patch *arm64: hyperv: Add core Hyper-V include files* (2018) was written before the ARM64 interface was
//! published. Most of its definitions live on, under the same or other names, in the modules of their subjects, with
//! the patch's names as aliases. This module has the rest, so every name of the patch can be found: x64 numbers,
//! hard-coded numbers, structures that have changed. **Do not use anything here in new code.**

use crate::abi::{Function, Tables};

pub(crate) const TABLES: Tables = Tables { constants: &[X64_FEATURES, INTERRUPTS], structs: &[STRUCTS] };

constants! {
    table X64_FEATURES, kind "x64-feature", from "2018 patch; Linux 6.12, arch/x86/include/asm/hyperv-tlfs.h";

    /// x64's number of the frequency registers, in EDX. On ARM64 it is bit 6 of dword C,
    /// [`frequency_registers`](crate::features::FeatureWordC::frequency_registers), and bit 8 there is the crash
    /// registers'.
    pub const X64_FREQUENCY_REGISTERS: u32 = 1 << 8, "HV_FEATURE_FREQUENCY_MSRS_AVAILABLE";
    /// x64's number of the guest crash registers, in EDX. On ARM64 it is bit 8 of dword C,
    /// [`guest_crash`](crate::features::FeatureWordC::guest_crash).
    pub const X64_GUEST_CRASH: u32 = 1 << 10, "HV_X64_FEATURE_GUEST_CRASH_MSR_AVAILABLE"
        ["HV_FEATURE_GUEST_CRASH_MSR_AVAILABLE"];
    /// x64's number of direct synthetic timers, in EDX. On ARM64 it is bit 13 of dword C,
    /// [`direct_synthetic_timers`](crate::features::FeatureWordC::direct_synthetic_timers).
    pub const X64_DIRECT_SYNTHETIC_TIMERS: u32 = 1 << 19, "HV_X64_STIMER_DIRECT_MODE_AVAILABLE"
        ["HV_STIMER_DIRECT_MODE_AVAILABLE"];
    /// x64's hint not to use auto-EOI. ARM64 has no such hint: its guests never use auto-EOI.
    pub const X64_DEPRECATING_AEOI: u32 = 1 << 9, "HV_DEPRECATING_AEOI_RECOMMENDED";
}

constants! {
    table INTERRUPTS, kind "interrupt", from "2018 patch, arch/arm64/include/asm/mshyperv.h";

    /// The INTID that the patch used for VMBus. Since 2020 it comes from ACPI or the device tree (18 by convention).
    pub const VMBUS_INTID: u32 = 16, "HYPERVISOR_CALLBACK_VECTOR";
    /// The INTID that the patch used for synthetic timer 0. Current Linux uses the architectural timer.
    pub const STIMER0_INTID: u32 = 17, "HV_STIMER0_IRQNR"
        ["hv_enable_stimer0_percpu_irq", "hv_disable_stimer0_percpu_irq"];
}

structs! {
    table STRUCTS, from "2018 patch";

    /// The hypercall result as four 16-bit words; today it is a word with bit fields,
    /// [`HypercallOutput`](crate::hypercall::HypercallOutput).
    pub struct HypercallStatus = "hv_hypercall_status", size 8 {
        /// Status.
        status: u16 = 0,
        /// Zero.
        reserved: u16 = 2,
        /// Elements done, in the low 12 bits.
        reps_completed: u16 = 4,
        /// Zero.
        reserved2: u16 = 6,
    }
    also {
        "as_uint64" @ 0, 8;
    }

    /// What the patch's kernel kept from discovery. Never shared with the hypervisor; Linux's structure of this name
    /// has grown since (48 bytes in 6.12), and its fields have moved.
    pub struct MsHypervInfo = "ms_hyperv_info", size 20 {
        /// Dword A of the features.
        features: u32 = 0,
        /// Dword C of the features (D on x64).
        misc_features: u32 = 4,
        /// The hints.
        hints: u32 = 8,
        /// Maximum number of virtual processors.
        max_vp_index: u32 = 12,
        /// Maximum number of logical processors.
        max_lp_index: u32 = 16,
    }
}

/// The patch's functions, function-like macros and header guards, and what became of each.
pub(crate) const FUNCTIONS: &[Function] = &[
    Function {
        name: "HV_STIMER_SINT",
        now: "timer::StimerConfig::sint",
        doc: "bits 19:16 of a timer's configuration",
    },
    Function {
        name: "hv_init_timer",
        now: "register::RegisterName::stimer_count",
        doc: "write the count register of timer n",
    },
    Function {
        name: "hv_init_timer_config",
        now: "register::RegisterName::stimer_config",
        doc: "write the configuration register of timer n",
    },
    Function {
        name: "hv_get_current_tick",
        now: "register::RegisterName::TIME_REF_COUNT",
        doc: "read the reference time",
    },
    Function {
        name: "hv_get_simp",
        now: "register::RegisterName::SIMP",
        doc: "read where the message page is",
    },
    Function {
        name: "hv_set_simp",
        now: "register::RegisterName::SIMP",
        doc: "write where the message page is",
    },
    Function {
        name: "hv_get_siefp",
        now: "register::RegisterName::SIEFP",
        doc: "read where the event flags page is",
    },
    Function {
        name: "hv_set_siefp",
        now: "register::RegisterName::SIEFP",
        doc: "write where the event flags page is",
    },
    Function {
        name: "hv_get_synic_state",
        now: "register::RegisterName::SCONTROL",
        doc: "read SynIC control",
    },
    Function {
        name: "hv_set_synic_state",
        now: "register::RegisterName::SCONTROL",
        doc: "write SynIC control",
    },
    Function { name: "hv_get_vp_index", now: "register::RegisterName::VP_INDEX", doc: "read the VP's index" },
    Function { name: "hv_signal_eom", now: "register::RegisterName::EOM", doc: "write end of message" },
    Function { name: "hv_get_synint_state", now: "register::RegisterName::sint", doc: "read source n" },
    Function { name: "hv_set_synint_state", now: "register::RegisterName::sint", doc: "write source n" },
    Function {
        name: "hv_get_crash_ctl",
        now: "register::RegisterName::GUEST_CRASH_CTL",
        doc: "read crash control",
    },
    Function {
        name: "hv_enable_stimer0_percpu_irq",
        now: "",
        doc: "Linux's own: enable the interrupt of timer 0",
    },
    Function {
        name: "hv_disable_stimer0_percpu_irq",
        now: "",
        doc: "Linux's own: disable the interrupt of timer 0",
    },
    Function {
        name: "hv_do_hvc",
        now: "smccc::HVC_HYPERCALL",
        doc: "a hypercall by hvc #1; today by hvc #0, smccc::HVC_SMCCC",
    },
    Function {
        name: "hv_do_hvc_fast_get",
        now: "smccc::HVC_HYPERCALL",
        doc: "a fast Get of one register by hvc #1",
    },
    Function {
        name: "hv_set_vpreg",
        now: "hypercall::HypercallCode::SET_VP_REGISTERS",
        doc: "write one VP register",
    },
    Function {
        name: "hv_get_vpreg",
        now: "hypercall::HypercallCode::GET_VP_REGISTERS",
        doc: "read 64 bits of one VP register",
    },
    Function {
        name: "hv_get_vpreg_128",
        now: "hypercall::HypercallCode::GET_VP_REGISTERS",
        doc: "read 128 bits of one VP register",
    },
    Function {
        name: "hv_read_hwclock",
        now: "time::ReferenceTscPage",
        doc: "read CNTVCT_EL0, between two barriers",
    },
    Function {
        name: "hv_do_hypercall",
        now: "hypercall::HypercallInput",
        doc: "a hypercall with parameters in memory",
    },
    Function {
        name: "hv_do_fast_hypercall8",
        now: "hypercall::HypercallInput",
        doc: "a fast hypercall with one word of input",
    },
    Function {
        name: "generate_guest_id",
        now: "guest_id::GuestOsId::linux",
        doc: "make Linux's guest OS id; hv_generate_guest_id today",
    },
    Function {
        name: "vmbus_signal_eom",
        now: "synic::MessageHeader",
        doc: "empty a message slot, then write end of message if more wait",
    },
    Function { name: "hv_setup_vmbus_irq", now: "", doc: "Linux's own: hv_setup_vmbus_handler today" },
    Function { name: "hv_remove_vmbus_irq", now: "", doc: "Linux's own: hv_remove_vmbus_handler today" },
    Function { name: "hv_enable_vmbus_irq", now: "", doc: "Linux's own; gone" },
    Function { name: "hv_disable_vmbus_irq", now: "", doc: "Linux's own; gone" },
    Function { name: "hv_setup_kexec_handler", now: "", doc: "Linux's own" },
    Function { name: "hv_remove_kexec_handler", now: "", doc: "Linux's own" },
    Function { name: "hv_setup_crash_handler", now: "", doc: "Linux's own" },
    Function { name: "hv_remove_crash_handler", now: "", doc: "Linux's own" },
    Function {
        name: "hv_cpu_number_to_vp_number",
        now: "vp::VpIndex",
        doc: "Linux's own map from CPU to VP index",
    },
    Function {
        name: "hyperv_report_panic",
        now: "crash::CrashControl",
        doc: "report a crash by the five parameters",
    },
    Function {
        name: "hyperv_report_panic_msg",
        now: "crash::CrashControl",
        doc: "report a crash with a message; gone",
    },
    Function { name: "hv_is_hyperv_initialized", now: "", doc: "Linux's own" },
    Function {
        name: "hyperv_cleanup",
        now: "",
        doc: "Linux's own: take back what was given to the hypervisor",
    },
    Function { name: "hv_setup_stimer0_irq", now: "", doc: "Linux's own: hv_setup_stimer0_handler today" },
    Function { name: "hv_remove_stimer0_irq", now: "", doc: "Linux's own: hv_remove_stimer0_handler today" },
    Function {
        name: "hv_read_tsc_page_tsc",
        now: "time::ReferenceTscPage",
        doc: "read the reference TSC page",
    },
    Function { name: "_ASM_ARM64_HYPERV_H", now: "", doc: "header guard" },
    Function { name: "_ASM_ARM64_MSHYPERV_H", now: "", doc: "header guard" },
    Function { name: "_ASM_GENERIC_MSHYPERV_H", now: "", doc: "header guard" },
];
