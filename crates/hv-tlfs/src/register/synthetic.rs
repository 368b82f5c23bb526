//! The synthetic registers for discovery, crash, context, SynIC and timers.

use super::RegisterName;

pub(super) const TABLES: &[&[crate::abi::Constant]] = &[DISCOVERY, CRASH, CONTEXT, SYNIC, TIMERS, EXCEPTIONS];

constants! {
    table DISCOVERY, kind "register", from "TLFS, HV_REGISTER_NAME and Feature Discovery; Linux 6.12, include/asm-generic/hyperv-tlfs.h; Linux 7.2, include/hyperv/hvgdk_mini.h", impl RegisterName;

    /// Version of the hypervisor: a [`HypervisorVersion`](crate::features::HypervisorVersion). CPUID 0x40000002 on x64.
    HYPERVISOR_VERSION = 0x0000_0100, "HV_REGISTER_HYPERVISOR_VERSION" ["HvRegisterHypervisorVersion"];
    /// Privileges and features of this partition: a [`Features`](crate::features::Features). CPUID 0x40000003 on x64.
    ///
    /// **One C name, two numbers**: `HV_REGISTER_FEATURES` is this register in Linux 6.12 and was 0x201, now
    /// [`Self::FEATURES_INFO`], in the 2018 patch.
    PRIVILEGES_AND_FEATURES_INFO = 0x0000_0200, "HV_REGISTER_PRIVILEGES_AND_FEATURES_INFO"
        ["HV_REGISTER_FEATURES", "HV_REGISTER_PRIVILEGES_AND_FEATURES", "HvRegisterPrivilegesAndFeaturesInfo"];
    /// Recommendations of the hypervisor: an [`EnlightenmentHints`](crate::features::EnlightenmentHints) and the number
    /// of spins before a long-spin-wait call. CPUID 0x40000004 on x64.
    ///
    /// **One C name, two numbers**: `HV_REGISTER_FEATURES` was this register in the 2018 patch and is 0x200, now
    /// [`Self::PRIVILEGES_AND_FEATURES_INFO`], in Linux 6.12.
    FEATURES_INFO = 0x0000_0201, "HV_REGISTER_FEATURES_INFO"
        ["HV_REGISTER_ENLIGHTENMENTS", "HV_REGISTER_FEATURES", "HvRegisterFeaturesInfo"];
    /// Limits: an [`ImplementationLimits`](crate::features::ImplementationLimits). CPUID 0x40000005 on x64.
    IMPLEMENTATION_LIMITS_INFO = 0x0000_0202, "HV_REGISTER_IMPLEMENTATION_LIMITS_INFO"
        ["HV_REGISTER_IMPLEMENTATION_LIMITS", "HvRegisterImplementationLimitsInfo"];
    /// Hardware features in use: a [`HardwareFeatures`](crate::features::HardwareFeatures). CPUID 0x40000006 on x64.
    HARDWARE_FEATURES_INFO = 0x0000_0203, "HV_REGISTER_HARDWARE_FEATURES_INFO" ["HvRegisterHardwareFeaturesInfo"];
    /// Features of CPU management. CPUID 0x40000007 on x64.
    CPU_MANAGEMENT_FEATURES_INFO = 0x0000_0204, "HV_REGISTER_CPU_MANAGEMENT_FEATURES_INFO"
        ["HvRegisterCpuManagementFeaturesInfo"];
    /// Features of shared virtual memory. CPUID 0x40000008 on x64.
    PASID_FEATURES_INFO = 0x0000_0205, "HV_REGISTER_SVM_FEATURES_INFO"
        ["HvRegisterPasidFeaturesInfo"];
    /// Features of hypervisors two levels up. CPUID 0x40000009 on x64.
    SKIP_LEVEL_FEATURES_INFO = 0x0000_0206, "HV_REGISTER_SKIP_LEVEL_FEATURES_INFO" ["HvRegisterSkipLevelFeaturesInfo"];
    /// Features of nested virtualization. CPUID 0x4000000A on x64.
    NESTED_VIRT_FEATURES_INFO = 0x0000_0207, "HV_REGISTER_NESTED_VIRT_FEATURES_INFO"
        ["HvRegisterNestedVirtFeaturesInfo"];
    /// Features of processor trace. CPUID 0x4000000B on x64.
    IPT_FEATURES_INFO = 0x0000_0208, "HV_REGISTER_IPT_FEATURES_INFO" ["HvRegisterIptFeaturesInfo"];
    /// Isolation of this partition: an [`IsolationConfiguration`](crate::isolation::IsolationConfiguration). CPUID
    /// 0x4000000C on x64.
    ISOLATION_CONFIGURATION = 0x0000_0209, "HvRegisterIsolationConfiguration";
}

constants! {
    table CRASH, kind "register", from "TLFS, HV_REGISTER_NAME and Partition Properties; Linux 6.12, include/asm-generic/hyperv-tlfs.h; 2018 patch", impl RegisterName;

    /// Crash parameter 0; free for the guest.
    GUEST_CRASH_P0 = 0x0000_0210, "HV_REGISTER_GUEST_CRASH_P0"
        ["HV_REGISTER_CRASH_P0", "HV_MSR_CRASH_P0", "HvRegisterGuestCrashP0"];
    /// Crash parameter 1; free for the guest.
    GUEST_CRASH_P1 = 0x0000_0211, "HV_REGISTER_GUEST_CRASH_P1"
        ["HV_REGISTER_CRASH_P1", "HV_MSR_CRASH_P1", "HvRegisterGuestCrashP1"];
    /// Crash parameter 2; free for the guest.
    GUEST_CRASH_P2 = 0x0000_0212, "HV_REGISTER_GUEST_CRASH_P2"
        ["HV_REGISTER_CRASH_P2", "HV_MSR_CRASH_P2", "HvRegisterGuestCrashP2"];
    /// Crash parameter 3: guest physical address of the message, if there is one.
    GUEST_CRASH_P3 = 0x0000_0213, "HV_REGISTER_GUEST_CRASH_P3"
        ["HV_REGISTER_CRASH_P3", "HV_MSR_CRASH_P3", "HvRegisterGuestCrashP3"];
    /// Crash parameter 4: length of the message in bytes, if there is one.
    GUEST_CRASH_P4 = 0x0000_0214, "HV_REGISTER_GUEST_CRASH_P4"
        ["HV_REGISTER_CRASH_P4", "HV_MSR_CRASH_P4", "HvRegisterGuestCrashP4"];
    /// Crash control: a [`CrashControl`](crate::crash::CrashControl). A read returns what is supported; a write reports
    /// the crash.
    GUEST_CRASH_CTL = 0x0000_0215, "HV_REGISTER_GUEST_CRASH_CTL"
        ["HV_REGISTER_CRASH_CTL", "HV_MSR_CRASH_CTL", "HvRegisterGuestCrashCtl", "HvSyntheticMsrCrashCtl",
         "hv_get_crash_ctl"];
}

constants! {
    table CONTEXT, kind "register", from "TLFS, HV_REGISTER_NAME; Linux 6.12, include/asm-generic/hyperv-tlfs.h; 2018 patch", impl RegisterName;

    /// Nominal clock of the processor, in kHz.
    PROCESSOR_CLOCK_FREQUENCY = 0x0000_0240, "HV_REGISTER_PROCESSOR_CLOCK_FREQUENCY"
        ["HvRegisterProcessorClockFrequency"];
    /// Clock of the timer, in kHz.
    INTERRUPT_CLOCK_FREQUENCY = 0x0000_0241, "HV_REGISTER_INTERRUPT_CLOCK_FREQUENCY"
        ["HvRegisterInterruptClockFrequency"];
    /// A read idles until an interrupt. x64 only according to the TLFS: ARM64 has WFI.
    GUEST_IDLE = 0x0000_0250, "HV_REGISTER_GUEST_IDLE" ["HvRegisterGuestIdle"];
    /// Options of the synthetic debug device.
    DEBUG_DEVICE_OPTIONS = 0x0000_0260, "HV_REGISTER_DEBUG_DEVICE_OPTIONS" ["HvRegisterDebugDeviceOptions"];
    /// Memory zeroing configuration.
    MEMORY_ZEROING_CONTROL = 0x0000_0270, "HV_REGISTER_MEMORY_ZEROING_CONTROL" ["HvRegisterMemoryZeroingControl"];
    /// Time that this VP has run, in 100 ns.
    VP_RUNTIME = 0x0009_0000, "HV_REGISTER_VP_RUNTIME" ["HvRegisterVpRuntime"];
    /// The guest's identity: a [`GuestOsId`](crate::guest_id::GuestOsId). Most hypercalls fail while it is 0.
    GUEST_OS_ID = 0x0009_0002, "HV_REGISTER_GUEST_OS_ID" ["HV_REGISTER_GUEST_OSID", "HvRegisterGuestOsId"];
    /// This VP's index. Read-only.
    VP_INDEX = 0x0009_0003, "HV_REGISTER_VP_INDEX"
        ["HV_REGISTER_VPINDEX", "HV_MSR_VP_INDEX", "HvRegisterVpIndex", "hv_get_vp_index"];
    /// The partition's reference time in 100 ns. Read-only: a write fails with
    /// [`INVALID_PARAMETER`](crate::status::HvStatus::INVALID_PARAMETER).
    TIME_REF_COUNT = 0x0009_0004, "HV_REGISTER_TIME_REF_COUNT"
        ["HV_REGISTER_TIME_REFCOUNT", "HV_MSR_TIME_REF_COUNT", "HvRegisterTimeRefCount", "hv_get_current_tick"];
    /// The 2018 patch's counterpart of CPUID 0x40000001. Absent from later headers and from the TLFS; kept only so it
    /// can be found.
    INTERFACE_VERSION = 0x0009_0006, "HV_ARM64_REGISTER_INTERFACE_VERSION";
    /// Version of the CPU management interface.
    CPU_MANAGEMENT_VERSION = 0x0009_0007, "HV_REGISTER_CPU_MANAGEMENT_VERSION" ["HvRegisterCpuManagementVersion"];
    /// Location of the VP assist page: a [`VpAssistPageRegister`](crate::vsm::VpAssistPageRegister).
    VP_ASSIST_PAGE = 0x0009_0013, "HV_REGISTER_VP_ASSIST_PAGE" ["HvRegisterVpAssistPage"];
    /// Signals that the root partition has sent this VP.
    VP_ROOT_SIGNAL_COUNT = 0x0009_0014, "HV_REGISTER_VP_ROOT_SIGNAL_COUNT" ["HvRegisterVpRootSignalCount"];
    /// Location of the reference TSC page: a [`ReferenceTscRegister`](crate::time::ReferenceTscRegister).
    REFERENCE_TSC = 0x0009_0017, "HV_REGISTER_REFERENCE_TSC" ["HV_MSR_REFERENCE_TSC", "HvRegisterReferenceTsc"];
    /// The sequence number of the reference TSC page.
    REFERENCE_TSC_SEQUENCE = 0x0009_001a, "HvRegisterReferenceTscSequence";
    /// Notifies a guest's scheduler of an event. Known from openvmm.
    GUEST_SCHEDULER_EVENT = 0x0009_001b, "HvRegisterGuestSchedulerEvent";
    /// Location of the partition's statistics page.
    STATS_PARTITION_RETAIL = 0x0009_0020, "HV_REGISTER_STATS_PARTITION_RETAIL"
        ["HvRegisterStatsPartitionRetail"];
    /// Location of the VP's statistics page.
    STATS_VP_RETAIL = 0x0009_0022, "HV_REGISTER_STATS_VP_RETAIL" ["HvRegisterStatsVpRetail"];
    /// This VP's index in the underlying hypervisor, if nested.
    NESTED_VP_INDEX = 0x0009_1003, "HV_REGISTER_NESTED_VP_INDEX" ["HvRegisterNestedVpIndex"];
}

constants! {
    table SYNIC, kind "register", from "TLFS, HV_REGISTER_NAME and Inter-Partition Communication, SynIC Registers; Linux 6.12, include/asm-generic/hyperv-tlfs.h; 2018 patch", impl RegisterName;

    /// Synthetic interrupt source 0: a [`Sint`](crate::synic::Sint).
    SINT0 = 0x000a_0000, "HV_REGISTER_SINT0" ["HV_MSR_SINT0", "HvRegisterSint0", "hv_get_synint_state", "hv_set_synint_state"];
    /// Synthetic interrupt source 1: a [`Sint`](crate::synic::Sint).
    SINT1 = 0x000a_0001, "HV_REGISTER_SINT1" ["HvRegisterSint1"];
    /// Synthetic interrupt source 2: a [`Sint`](crate::synic::Sint).
    SINT2 = 0x000a_0002, "HV_REGISTER_SINT2" ["HvRegisterSint2"];
    /// Synthetic interrupt source 3: a [`Sint`](crate::synic::Sint).
    SINT3 = 0x000a_0003, "HV_REGISTER_SINT3" ["HvRegisterSint3"];
    /// Synthetic interrupt source 4: a [`Sint`](crate::synic::Sint).
    SINT4 = 0x000a_0004, "HV_REGISTER_SINT4" ["HvRegisterSint4"];
    /// Synthetic interrupt source 5: a [`Sint`](crate::synic::Sint).
    SINT5 = 0x000a_0005, "HV_REGISTER_SINT5" ["HvRegisterSint5"];
    /// Synthetic interrupt source 6: a [`Sint`](crate::synic::Sint).
    SINT6 = 0x000a_0006, "HV_REGISTER_SINT6" ["HvRegisterSint6"];
    /// Synthetic interrupt source 7: a [`Sint`](crate::synic::Sint).
    SINT7 = 0x000a_0007, "HV_REGISTER_SINT7" ["HvRegisterSint7"];
    /// Synthetic interrupt source 8: a [`Sint`](crate::synic::Sint).
    SINT8 = 0x000a_0008, "HV_REGISTER_SINT8" ["HvRegisterSint8"];
    /// Synthetic interrupt source 9: a [`Sint`](crate::synic::Sint).
    SINT9 = 0x000a_0009, "HV_REGISTER_SINT9" ["HvRegisterSint9"];
    /// Synthetic interrupt source 10: a [`Sint`](crate::synic::Sint).
    SINT10 = 0x000a_000a, "HV_REGISTER_SINT10" ["HvRegisterSint10"];
    /// Synthetic interrupt source 11: a [`Sint`](crate::synic::Sint).
    SINT11 = 0x000a_000b, "HV_REGISTER_SINT11" ["HvRegisterSint11"];
    /// Synthetic interrupt source 12: a [`Sint`](crate::synic::Sint).
    SINT12 = 0x000a_000c, "HV_REGISTER_SINT12" ["HvRegisterSint12"];
    /// Synthetic interrupt source 13: a [`Sint`](crate::synic::Sint).
    SINT13 = 0x000a_000d, "HV_REGISTER_SINT13" ["HvRegisterSint13"];
    /// Synthetic interrupt source 14: a [`Sint`](crate::synic::Sint).
    SINT14 = 0x000a_000e, "HV_REGISTER_SINT14" ["HvRegisterSint14"];
    /// Synthetic interrupt source 15: a [`Sint`](crate::synic::Sint).
    SINT15 = 0x000a_000f, "HV_REGISTER_SINT15" ["HvRegisterSint15"];
    /// SynIC control: a [`SynicControl`](crate::synic::SynicControl).
    SCONTROL = 0x000a_0010, "HV_REGISTER_SCONTROL"
        ["HV_MSR_SCONTROL", "HvRegisterScontrol", "hv_get_synic_state", "hv_set_synic_state"];
    /// Version of the SynIC: 1. Read-only.
    SVERSION = 0x000a_0011, "HV_REGISTER_SVERSION" ["HvRegisterSversion"];
    /// Location of the event flags page: a [`Siefp`](crate::synic::Siefp).
    SIEFP = 0x000a_0012, "HV_REGISTER_SIEFP"
        ["HV_REGISTER_SIFP", "HV_MSR_SIEFP", "HvRegisterSifp", "hv_get_siefp", "hv_set_siefp"];
    /// Location of the message page: a [`Simp`](crate::synic::Simp).
    SIMP = 0x000a_0013, "HV_REGISTER_SIMP"
        ["HV_REGISTER_SIPP", "HV_MSR_SIMP", "HvRegisterSipp", "hv_get_simp", "hv_set_simp"];
    /// End of message: any write lets the hypervisor refill emptied slots. Reads as 0.
    EOM = 0x000a_0014, "HV_REGISTER_EOM" ["HV_MSR_EOM", "HvRegisterEom", "hv_signal_eom"];
    /// The interrupt response buffer page.
    SIRBP = 0x000a_0015, "HV_REGISTER_SIRBP" ["HvRegisterSirbp"];
}

constants! {
    table TIMERS, kind "register", from "TLFS, HV_REGISTER_NAME and Timers; Linux 6.12, include/asm-generic/hyperv-tlfs.h; 2018 patch", impl RegisterName;

    /// Configuration of synthetic timer 0: a [`StimerConfig`](crate::timer::StimerConfig).
    STIMER0_CONFIG = 0x000b_0000, "HV_REGISTER_STIMER0_CONFIG" ["HvRegisterStimer0Config", "HV_MSR_STIMER0_CONFIG", "hv_init_timer_config"];
    /// Expiry time or period of synthetic timer 0, in 100 ns; 0 stops it.
    STIMER0_COUNT = 0x000b_0001, "HV_REGISTER_STIMER0_COUNT" ["HvRegisterStimer0Count", "HV_MSR_STIMER0_COUNT", "hv_init_timer"];
    /// Configuration of synthetic timer 1: a [`StimerConfig`](crate::timer::StimerConfig).
    STIMER1_CONFIG = 0x000b_0002, "HV_REGISTER_STIMER1_CONFIG" ["HvRegisterStimer1Config"];
    /// Expiry time or period of synthetic timer 1, in 100 ns; 0 stops it.
    STIMER1_COUNT = 0x000b_0003, "HV_REGISTER_STIMER1_COUNT" ["HvRegisterStimer1Count"];
    /// Configuration of synthetic timer 2: a [`StimerConfig`](crate::timer::StimerConfig).
    STIMER2_CONFIG = 0x000b_0004, "HV_REGISTER_STIMER2_CONFIG" ["HvRegisterStimer2Config"];
    /// Expiry time or period of synthetic timer 2, in 100 ns; 0 stops it.
    STIMER2_COUNT = 0x000b_0005, "HV_REGISTER_STIMER2_COUNT" ["HvRegisterStimer2Count"];
    /// Configuration of synthetic timer 3: a [`StimerConfig`](crate::timer::StimerConfig).
    STIMER3_CONFIG = 0x000b_0006, "HV_REGISTER_STIMER3_CONFIG" ["HvRegisterStimer3Config"];
    /// Expiry time or period of synthetic timer 3, in 100 ns; 0 stops it.
    STIMER3_COUNT = 0x000b_0007, "HV_REGISTER_STIMER3_COUNT" ["HvRegisterStimer3Count"];
    /// Configuration of the timer that runs only while the VP runs.
    STIME_UNHALTED_TIMER_CONFIG = 0x000b_0100, "HV_REGISTER_STIME_UNHALTED_TIMER_CONFIG"
        ["HvRegisterStimeUnhaltedTimerConfig"];
    /// Count of that timer.
    STIME_UNHALTED_TIMER_COUNT = 0x000b_0101, "HV_REGISTER_STIME_UNHALTED_TIMER_COUNT"
        ["HvRegisterStimeUnhaltedTimerCount"];
}

constants! {
    table EXCEPTIONS, kind "register", from "TLFS, HvCallGetVpRegisters, Early Register List (ARM64); mshv-bindings", impl RegisterName;

    /// Vector of the exceptions that the hypervisor raises, such as on a hypercall from the wrong exception level. Can
    /// be read and written before the guest OS id is written. The TLFS names it without its number, which is from
    /// mshv-bindings.
    SYNTHETIC_VBAR_EL1 = 0x40400, "HvArm64RegisterSyntheticVbarEl1" ["HV_ARM64_REGISTER_SYNTHETIC_VBAR_EL1"];
    /// Syndrome of such an exception. Can be read before the guest OS id is written. The number is from mshv-bindings.
    SYNTHETIC_ESR_EL1 = 0x40401, "HvArm64RegisterSyntheticEsrEl1" ["HV_ARM64_REGISTER_SYNTHETIC_ESR_EL1"];
}
