//! What the hypervisor reports about itself: version, privileges and features, hints, limits.
//!
//! ARM64 reads these from VP registers where x64 has CPUID leaves; a register's four dwords, lowest first, are that
//! leaf's EAX, EBX, ECX and EDX. The first two dwords of the features mean the same on both. **The third does not**: on
//! ARM64 the features of x64's EDX are in dword C under different bit numbers, which the 2018 patch did not reflect:
//!
//! | feature | ARM64, dword C | x64, EDX (and the 2018 patch) |
//! |---|---|---|
//! | frequency registers | bit 6 | bit 8 |
//! | guest crash registers | bit 8 | bit 10 |
//! | direct synthetic timers | bit 13 | bit 19 |
//!
//! The hints differ too, see [`EnlightenmentHints`].

use crate::abi::Tables;
use crate::register::RegisterValue;

pub(crate) const TABLES: Tables = Tables {
    constants: &[group_a::TABLE, group_b::TABLE, GROUP_C],
    structs: &[PRIVILEGES, WORDS, REGISTERS],
};

/// Dword A of the features: privileges over registers. The same on x64 and ARM64; [`PartitionPrivileges`] has them as
/// bits 31:0.
pub mod group_a {
    constants! {
        table TABLE, kind "feature-a", from "TLFS, HV_PARTITION_PRIVILEGE_MASK; Linux 6.12, include/asm-generic/hyperv-tlfs.h; 2018 patch";

        /// The VP runtime register can be read.
        pub const VP_RUNTIME: u32 = 1 << 0, "HV_MSR_VP_RUNTIME_AVAILABLE";
        /// The reference counter can be read.
        pub const TIME_REF_COUNT: u32 = 1 << 1, "HV_MSR_TIME_REF_COUNT_AVAILABLE";
        /// The SynIC registers can be used.
        pub const SYNIC: u32 = 1 << 2, "HV_MSR_SYNIC_AVAILABLE";
        /// The synthetic timers' registers can be used.
        pub const SYNTIMER: u32 = 1 << 3, "HV_MSR_SYNTIMER_AVAILABLE";
        /// The VP assist page can be used (on x64, the APIC registers as well).
        pub const APIC_ACCESS: u32 = 1 << 4, "HV_MSR_APIC_ACCESS_AVAILABLE";
        /// The guest OS id can be written.
        pub const HYPERCALL: u32 = 1 << 5, "HV_MSR_HYPERCALL_AVAILABLE";
        /// The VP index can be read.
        pub const VP_INDEX: u32 = 1 << 6, "HV_MSR_VP_INDEX_AVAILABLE";
        /// The reset register can be used. x64 only; ARM64 has PSCI.
        pub const RESET: u32 = 1 << 7, "HV_MSR_RESET_AVAILABLE";
        /// Statistics pages can be mapped.
        pub const STAT_PAGES: u32 = 1 << 8, "HV_MSR_STAT_PAGES_AVAILABLE";
        /// The reference TSC page can be used.
        pub const REFERENCE_TSC: u32 = 1 << 9, "HV_MSR_REFERENCE_TSC_AVAILABLE";
        /// The guest idle register can be used.
        pub const GUEST_IDLE: u32 = 1 << 10, "HV_MSR_GUEST_IDLE_AVAILABLE";
        /// The frequency registers can be read.
        pub const FREQUENCY: u32 = 1 << 11, "HV_ACCESS_FREQUENCY_MSRS";
        /// Reenlightenment can be controlled.
        pub const REENLIGHTENMENT: u32 = 1 << 13, "HV_ACCESS_REENLIGHTENMENT";
        /// The invariant TSC can be controlled. x64 only.
        pub const TSC_INVARIANT: u32 = 1 << 15, "HV_ACCESS_TSC_INVARIANT";
    }
}

/// Dword B of the features: privileges over hypercalls. The same on x64 and ARM64; [`PartitionPrivileges`] has them as
/// bits 63:32.
pub mod group_b {
    constants! {
        table TABLE, kind "feature-b", from "TLFS, HV_PARTITION_PRIVILEGE_MASK; Linux 6.12, include/asm-generic/hyperv-tlfs.h";

        /// May create partitions.
        pub const CREATE_PARTITIONS: u32 = 1 << 0, "HV_CREATE_PARTITIONS";
        /// May query its own partition id. Linux 7.2 does so if this is set.
        pub const ACCESS_PARTITION_ID: u32 = 1 << 1, "HV_ACCESS_PARTITION_ID";
        /// May deposit and withdraw memory.
        pub const ACCESS_MEMORY_POOL: u32 = 1 << 2, "HV_ACCESS_MEMORY_POOL";
        /// May adjust a port's message buffers.
        pub const ADJUST_MESSAGE_BUFFERS: u32 = 1 << 3, "HV_ADJUST_MESSAGE_BUFFERS";
        /// May post messages.
        pub const POST_MESSAGES: u32 = 1 << 4, "HV_POST_MESSAGES";
        /// May signal events.
        pub const SIGNAL_EVENTS: u32 = 1 << 5, "HV_SIGNAL_EVENTS";
        /// May create ports.
        pub const CREATE_PORT: u32 = 1 << 6, "HV_CREATE_PORT";
        /// May connect ports.
        pub const CONNECT_PORT: u32 = 1 << 7, "HV_CONNECT_PORT";
        /// May map statistics pages.
        pub const ACCESS_STATS: u32 = 1 << 8, "HV_ACCESS_STATS";
        /// May use the synthetic debugger.
        pub const DEBUGGING: u32 = 1 << 11, "HV_DEBUGGING";
        /// May manage processors.
        pub const CPU_MANAGEMENT: u32 = 1 << 12, "HV_CPU_MANAGEMENT";
        /// May use extended hypercalls.
        pub const ENABLE_EXTENDED_HYPERCALLS: u32 = 1 << 20, "HV_ENABLE_EXTENDED_HYPERCALLS";
        /// Is isolated from the host.
        pub const ISOLATION: u32 = 1 << 22, "HV_ISOLATION";
    }
}

constants! {
    table GROUP_C, kind "feature-c", from "TLFS, Feature Discovery, HvRegisterPrivilegesAndFeaturesInfo; Linux 6.12, arch/arm64/include/asm/hyperv-tlfs.h", impl FeatureWordC;

    /// [`Self::guest_crash`] alone, by ARM64's number. The 2018 patch had x64's, bit 10.
    GUEST_CRASH = 1 << 8, "HV_FEATURE_GUEST_CRASH_MSR_AVAILABLE";
    /// [`Self::direct_synthetic_timers`] alone, by ARM64's number. The 2018 patch had x64's, bit 19.
    DIRECT_SYNTHETIC_TIMERS = 1 << 13, "HV_STIMER_DIRECT_MODE_AVAILABLE";
}

bits! {
    table PRIVILEGES, from "TLFS, HV_PARTITION_PRIVILEGE_MASK; openvmm, vm/hv1/hvdef";

    /// What a partition may do: bits 63:0 of the features register.
    pub struct PartitionPrivileges(u64) = "HV_PARTITION_PRIVILEGE_MASK" ["hv_partition_privilege_mask"] {
        /// Read the VP runtime.
        access_vp_runtime / with_access_vp_runtime: bool @ 0 = "AccessVpRunTimeReg";
        /// Read the reference counter.
        access_reference_counter / with_access_reference_counter: bool @ 1 = "AccessPartitionReferenceCounter";
        /// Use the SynIC registers.
        access_synic / with_access_synic: bool @ 2 = "AccessSynicRegs";
        /// Use the synthetic timers' registers.
        access_synthetic_timers / with_access_synthetic_timers: bool @ 3 = "AccessSyntheticTimerRegs";
        /// Use the VP assist page (on x64, the APIC registers as well).
        access_interrupt_control / with_access_interrupt_control: bool @ 4 = "AccessIntrCtrlRegs";
        /// Write the guest OS id.
        access_hypercall_registers / with_access_hypercall_registers: bool @ 5 = "AccessHypercallMsrs";
        /// Read the VP index.
        access_vp_index / with_access_vp_index: bool @ 6 = "AccessVpIndex";
        /// Use the reset register.
        access_reset / with_access_reset: bool @ 7 = "AccessResetReg";
        /// Map its own statistics pages.
        access_stats_registers / with_access_stats_registers: bool @ 8 = "AccessStatsReg";
        /// Use the reference TSC page.
        access_reference_tsc / with_access_reference_tsc: bool @ 9 = "AccessPartitionReferenceTsc";
        /// Use the guest idle register.
        access_guest_idle / with_access_guest_idle: bool @ 10 = "AccessGuestIdleReg";
        /// Read the frequency registers.
        access_frequency / with_access_frequency: bool @ 11 = "AccessFrequencyRegs";
        /// Use the debug registers.
        access_debug / with_access_debug: bool @ 12 = "AccessDebugRegs";
        /// Control reenlightenment.
        access_reenlightenment / with_access_reenlightenment: bool @ 13 = "AccessReenlightenmentControls";
        /// Use the root scheduler's register.
        access_root_scheduler / with_access_root_scheduler: bool @ 14 = "AccessRootSchedulerReg";
        /// Control the invariant TSC. x64 only.
        access_tsc_invariant / with_access_tsc_invariant: bool @ 15 = "AccessTscInvariantControls";
        /// Create partitions.
        create_partitions / with_create_partitions: bool @ 32 = "CreatePartitions";
        /// Query its own partition id.
        access_partition_id / with_access_partition_id: bool @ 33 = "AccessPartitionId";
        /// Deposit and withdraw memory.
        access_memory_pool / with_access_memory_pool: bool @ 34 = "AccessMemoryPool";
        /// Adjust a port's message buffers.
        adjust_message_buffers / with_adjust_message_buffers: bool @ 35 = "AdjustMessageBuffers";
        /// Post messages.
        post_messages / with_post_messages: bool @ 36 = "PostMessages";
        /// Signal events.
        signal_events / with_signal_events: bool @ 37 = "SignalEvents";
        /// Create ports.
        create_port / with_create_port: bool @ 38 = "CreatePort";
        /// Connect ports.
        connect_port / with_connect_port: bool @ 39 = "ConnectPort";
        /// Map statistics pages by hypercall.
        access_stats / with_access_stats: bool @ 40 = "AccessStats";
        /// Use the synthetic debugger.
        debugging / with_debugging: bool @ 43 = "Debugging";
        /// Manage processors.
        cpu_management / with_cpu_management: bool @ 44 = "CpuManagement";
        /// Configure the profiler.
        configure_profiler / with_configure_profiler: bool @ 45 = "ConfigureProfiler";
        /// Trace VP exits.
        access_vp_exit_tracing / with_access_vp_exit_tracing: bool @ 46 = "AccessVpExitTracing";
        /// Use the extended range format of the list flushes.
        extended_gva_ranges / with_extended_gva_ranges: bool @ 47 = "EnableExtendedGvaRangesFlushVaList";
        /// Use VSM.
        access_vsm / with_access_vsm: bool @ 48 = "AccessVSM";
        /// Get and Set VP registers.
        access_vp_registers / with_access_vp_registers: bool @ 49 = "AccessVpRegisters";
        /// Get fast hypercalls' output in registers.
        fast_hypercall_output / with_fast_hypercall_output: bool @ 51 = "FastHypercallOutput";
        /// Use extended hypercalls.
        enable_extended_hypercalls / with_enable_extended_hypercalls: bool @ 52 = "EnableExtendedHypercalls";
        /// Start VPs by hypercall.
        start_virtual_processor / with_start_virtual_processor: bool @ 53 = "StartVirtualProcessor";
        /// Is isolated from the host.
        isolation / with_isolation: bool @ 54 = "Isolation";
    }
}

bits! {
    table WORDS, from "TLFS, Feature Discovery, ARM64; openvmm, vm/hv1/hvdef";

    /// Dword C of the features, ARM64's bit numbers.
    pub struct FeatureWordC(u32) = "HV_ARM64_FEATURES_C" {
        /// Guest debugging.
        guest_debugging / with_guest_debugging: bool @ 0 = "GuestDebuggingAvailable";
        /// Performance monitors.
        performance_monitors / with_performance_monitors: bool @ 1 = "PerformanceMonitorsAvailable";
        /// Processor add and remove events.
        cpu_dynamic_partitioning / with_cpu_dynamic_partitioning: bool @ 2 = "CpuDynamicPartitioningAvailable";
        /// The guest idle state.
        guest_idle / with_guest_idle: bool @ 3 = "GuestIdleAvailable";
        /// Sleep states of the hypervisor.
        hypervisor_sleep / with_hypervisor_sleep: bool @ 4 = "HypervisorSleepStateSupportAvailable";
        /// NUMA distances can be queried.
        numa_distance_query / with_numa_distance_query: bool @ 5 = "NumaDistanceQueryAvailable";
        /// The frequency registers. x64: EDX bit 8.
        frequency_registers / with_frequency_registers: bool @ 6 = "FrequencyRegsAvailable";
        /// Synthetic machine checks.
        synthetic_machine_check / with_synthetic_machine_check: bool @ 7 = "SyntheticMachineCheckAvailable";
        /// The guest crash registers. x64: EDX bit 10. The TLFS's page Partition Properties says bit 105 of the
        /// register, its page Feature Discovery says bit 72, which is this bit and Linux's.
        guest_crash / with_guest_crash: bool @ 8 = "GuestCrashRegsAvailable";
        /// The hypervisor can be disabled.
        disable_hypervisor / with_disable_hypervisor: bool @ 10 = "DisableHypervisorAvailable";
        /// Sources can poll: [`Sint::polling`](crate::synic::Sint::polling).
        sint_polling_mode / with_sint_polling_mode: bool @ 12 = "SintPollingModeAvailable";
        /// Direct synthetic timers. x64: EDX bit 19.
        direct_synthetic_timers / with_direct_synthetic_timers: bool @ 13 = "DirectSyntheticTimers";
    }

    /// Dword A of the register [`FEATURES_INFO`](crate::register::RegisterName::FEATURES_INFO), ARM64's bit numbers:
    /// what the hypervisor recommends.
    ///
    /// x64's numbers differ: there relaxed timing is bit 5, cluster IPI bit 10, VP sets bit 11, nested bit 12. The 2018
    /// patch's `HV_DEPRECATING_AEOI_RECOMMENDED` (bit 9) is x64's; ARM64 guests never use auto-EOI.
    pub struct EnlightenmentHints(u32) = "HV_ARM64_ENLIGHTENMENTS" {
        /// Reset through a register; always false on ARM64, which resets through PSCI.
        use_hv_register_for_reset / with_use_hv_register_for_reset: bool @ 0 = "UseHvRegisterForReset";
        /// Disable watchdogs that rely on timely interrupts.
        use_relaxed_timing / with_use_relaxed_timing: bool @ 1 = "UseRelaxedTiming";
        /// Send IPIs by hypercall.
        use_synthetic_cluster_ipi / with_use_synthetic_cluster_ipi: bool @ 2 = "UseSyntheticClusterIpi";
        /// Hypercalls with VP sets are available.
        use_ex_processor_masks / with_use_ex_processor_masks: bool @ 3 = "UseExProcessorMasks";
        /// The hypervisor is nested.
        nested / with_nested: bool @ 4 = "Nested";
        /// Add the bias that the root partition publishes for the performance counter.
        use_synced_timeline / with_use_synced_timeline: bool @ 5 = "UseSyncedTimeline";
        /// Do MMIO by hypercall.
        use_hypercall_for_mmio / with_use_hypercall_for_mmio: bool @ 21 = "UseHypercallForMmioAccess";
        /// Pin pages by hypercall.
        use_gpa_pinning_hypercall / with_use_gpa_pinning_hypercall: bool @ 22 = "UseGpaPinningHypercall";
        /// Wake VPs.
        wake_vps / with_wake_vps: bool @ 23 = "WakeVps";
        /// Map the partition's event log buffer.
        map_partition_event_log_buffer / with_map_partition_event_log_buffer: bool @ 26 =
            "MapPartitionEventLogBuffer";
    }

    /// Dword A of the register [`HARDWARE_FEATURES_INFO`](crate::register::RegisterName::HARDWARE_FEATURES_INFO),
    /// ARM64's bit numbers: hardware that the hypervisor uses.
    pub struct HardwareFeatures(u32) = "HV_ARM64_HARDWARE_FEATURES" {
        /// Performance counters.
        performance_counters / with_performance_counters: bool @ 0 = "ArchPerformanceCountersInUse";
        /// Stage 2 translation.
        second_level_address_translation / with_second_level_address_translation: bool @ 1 =
            "SecondLevelAddressTranslationInUse";
        /// DMA remapping.
        dma_remapping / with_dma_remapping: bool @ 2 = "DmaRemappingInUse";
        /// Interrupt remapping.
        interrupt_remapping / with_interrupt_remapping: bool @ 3 = "InterruptRemappingInUse";
        /// A memory patrol scrubber is present.
        memory_patrol_scrubber / with_memory_patrol_scrubber: bool @ 4 = "MemoryPatrolScrubberPresent";
        /// DMA protection.
        dma_protection / with_dma_protection: bool @ 5 = "DmaProtectionInUse";
        /// Synthetic timers lose their state in sleep.
        synthetic_timers_volatile / with_synthetic_timers_volatile: bool @ 6 = "SyntheticTimersVolatile";
    }

    /// Last dword of the hypervisor's version.
    pub struct ServiceVersion(u32) = "HV_SERVICE_VERSION" {
        /// Service number.
        number / with_number: u32 @ 23:0 = "service_number";
        /// Service branch.
        branch / with_branch: u8 @ 31:24 = "service_branch";
    }
}

structs! {
    table REGISTERS, from "TLFS, Feature Discovery; Linux 6.12, include/asm-generic/hyperv-tlfs.h";

    /// Register [`HYPERVISOR_VERSION`](crate::register::RegisterName::HYPERVISOR_VERSION).
    pub struct HypervisorVersion = "hv_hypervisor_version_info" ["HV_HYPERVISOR_VERSION_INFO"], size 16 {
        /// Build.
        build_number: u32 = 0,
        /// Minor version.
        minor_version: u16 = 4,
        /// Major version.
        major_version: u16 = 6,
        /// Service pack.
        service_pack: u32 = 8,
        /// Service number and branch.
        service: ServiceVersion = 12 "service_version",
    }
    also {
        "service_number" @ 12, 4, bits 23:0;
        "service_branch" @ 12, 4, bits 31:24;
        "eax" @ 0, 4;
        "ebx" @ 4, 4;
        "ecx" @ 8, 4;
        "edx" @ 12, 4;
    }

    /// Register [`PRIVILEGES_AND_FEATURES_INFO`](crate::register::RegisterName::PRIVILEGES_AND_FEATURES_INFO).
    pub struct Features = "HV_HYPERVISOR_FEATURES" ["hv_hypervisor_features"], size 16 {
        /// Dwords A and B: what the partition may do.
        privileges: PartitionPrivileges = 0 "PartitionPrivileges",
        /// Dword C: features.
        c: FeatureWordC = 8 "FeaturesC",
        /// Dword D: reserved on ARM64.
        d: u32 = 12 "FeaturesD",
    }

    /// Register [`FEATURES_INFO`](crate::register::RegisterName::FEATURES_INFO).
    pub struct Enlightenments = "HV_ENLIGHTENMENT_INFORMATION" ["hv_enlightenment_information"], size 16 {
        /// Dword A: recommendations.
        hints: EnlightenmentHints = 0 "Hints",
        /// Dword B: number of spins on a lock before the long-spin-wait call; 0xffff_ffff: never call.
        long_spin_wait_count: u32 = 4 "LongSpinWaitCount",
        /// Dwords C and D: reserved on ARM64.
        reserved: [u32; 2] = 8 "Reserved",
    }

    /// Register [`IMPLEMENTATION_LIMITS_INFO`](crate::register::RegisterName::IMPLEMENTATION_LIMITS_INFO). 0 means not
    /// reported.
    pub struct ImplementationLimits = "HV_IMPLEMENTATION_LIMITS" ["hv_implementation_limits"], size 16 {
        /// Maximum number of virtual processors.
        max_virtual_processors: u32 = 0 "MaxVirtualProcessorCount",
        /// Maximum number of logical processors.
        max_logical_processors: u32 = 4 "MaxLogicalProcessorCount",
        /// Maximum number of physical interrupt vectors that can be remapped.
        max_interrupt_mappings: u32 = 8 "MaxInterruptMappingCount",
        /// Reserved.
        reserved: u32 = 12 "Reserved",
    }
}

impl HypervisorVersion {
    /// Decodes the version from a register value.
    #[must_use]
    pub const fn from_register(value: RegisterValue) -> Self {
        let [build_number, version, service_pack, service] = value.to_dwords();
        Self {
            build_number,
            minor_version: version as u16,
            major_version: (version >> 16) as u16,
            service_pack,
            service: ServiceVersion(service),
        }
    }

    /// Encodes the version as a register value.
    #[must_use]
    pub const fn to_register(self) -> RegisterValue {
        let version = (self.major_version as u32) << 16 | self.minor_version as u32;
        RegisterValue::from_dwords([self.build_number, version, self.service_pack, self.service.0])
    }
}

impl Features {
    /// Decodes the features from a register value.
    #[must_use]
    pub const fn from_register(value: RegisterValue) -> Self {
        let [_, _, c, d] = value.to_dwords();
        Self { privileges: PartitionPrivileges(value.low), c: FeatureWordC(c), d }
    }

    /// Encodes the features as a register value.
    #[must_use]
    pub const fn to_register(self) -> RegisterValue {
        RegisterValue { low: self.privileges.0, high: self.c.0 as u64 | (self.d as u64) << 32 }
    }
}

impl Enlightenments {
    /// Decodes the hints from a register value.
    #[must_use]
    pub const fn from_register(value: RegisterValue) -> Self {
        let [a, long_spin_wait_count, c, d] = value.to_dwords();
        Self { hints: EnlightenmentHints(a), long_spin_wait_count, reserved: [c, d] }
    }

    /// Encodes the hints as a register value.
    #[must_use]
    pub const fn to_register(self) -> RegisterValue {
        let [c, d] = self.reserved;
        RegisterValue::from_dwords([self.hints.0, self.long_spin_wait_count, c, d])
    }
}

impl ImplementationLimits {
    /// Decodes the limits from a register value.
    #[must_use]
    pub const fn from_register(value: RegisterValue) -> Self {
        let [max_virtual_processors, max_logical_processors, max_interrupt_mappings, reserved] =
            value.to_dwords();
        Self { max_virtual_processors, max_logical_processors, max_interrupt_mappings, reserved }
    }

    /// Encodes the limits as a register value.
    #[must_use]
    pub const fn to_register(self) -> RegisterValue {
        RegisterValue::from_dwords([
            self.max_virtual_processors,
            self.max_logical_processors,
            self.max_interrupt_mappings,
            self.reserved,
        ])
    }
}
