//! The synthetic registers of virtual secure mode, of nested hypervisors, of suspension and pending events.

use super::RegisterName;

pub(super) const TABLES: &[&[crate::abi::Constant]] = &[SUSPEND, PENDING, VSM, NESTED];

constants! {
    table SUSPEND, kind "register", from "TLFS, HV_REGISTER_NAME; Linux 7.2, include/hyperv/hvgdk_mini.h", impl RegisterName;

    /// The VP is suspended by its owner: an [`ExplicitSuspend`](super::ExplicitSuspend).
    EXPLICIT_SUSPEND = 0x0, "HV_REGISTER_EXPLICIT_SUSPEND" ["HvRegisterExplicitSuspend"];
    /// The VP is suspended by an intercept: an [`InterceptSuspend`](super::InterceptSuspend).
    INTERCEPT_SUSPEND = 0x1, "HV_REGISTER_INTERCEPT_SUSPEND" ["HvRegisterInterceptSuspend"];
    /// Hints for who emulates instructions of this VP.
    INSTRUCTION_EMULATION_HINTS = 0x2, "HV_REGISTER_INSTRUCTION_EMULATION_HINTS"
        ["HvRegisterInstructionEmulationHints"];
    /// The VP is not dispatched: a [`DispatchSuspend`](super::DispatchSuspend).
    DISPATCH_SUSPEND = 0x3, "HV_REGISTER_DISPATCH_SUSPEND" ["HvRegisterDispatchSuspend"];
    /// What the VP is waiting for: an [`InternalActivity`](super::InternalActivity).
    INTERNAL_ACTIVITY_STATE = 0x4, "HV_REGISTER_INTERNAL_ACTIVITY_STATE" ["HvRegisterInternalActivityState"];
}

constants! {
    table PENDING, kind "register", from "TLFS, HV_REGISTER_NAME; openvmm, vm/hv1/hvdef", impl RegisterName;

    /// An interruption to inject: a [`PendingInterruption`](super::PendingInterruption).
    PENDING_INTERRUPTION = 0x10002, "HvRegisterPendingInterruption";
    /// Whether an instruction shadows interrupts: an [`InterruptState`](super::InterruptState).
    INTERRUPT_STATE = 0x10003, "HvRegisterInterruptState";
    /// An event to inject, first half: a [`PendingEvent`](super::PendingEvent).
    PENDING_EVENT0 = 0x10004, "HV_REGISTER_PENDING_EVENT0" ["HvRegisterPendingEvent0"];
    /// Likewise, second.
    PENDING_EVENT1 = 0x10005, "HV_REGISTER_PENDING_EVENT1" ["HvRegisterPendingEvent1"];
    /// Deliverability conditions to report to the VP's owner: a
    /// [`DeliverabilityNotifications`](super::DeliverabilityNotifications).
    DELIVERABILITY_NOTIFICATIONS = 0x10006, "HV_REGISTER_DELIVERABILITY_NOTIFICATIONS"
        ["HvRegisterDeliverabilityNotifications"];
    /// An event to inject, third.
    PENDING_EVENT2 = 0x10008, "HvRegisterPendingEvent2";
    /// An event to inject, fourth.
    PENDING_EVENT3 = 0x10009, "HvRegisterPendingEvent3";
}

constants! {
    table VSM, kind "register", from "TLFS, HV_REGISTER_NAME and Virtual Secure Mode; openvmm, vm/hv1/hvdef", impl RegisterName;

    /// Offsets of the VTL calls in the hypercall page. x64 only: ARM64 has `hvc #2` and `hvc #3`.
    VSM_CODE_PAGE_OFFSETS = 0xd0002, "HV_REGISTER_VSM_CODE_PAGE_OFFSETS" ["HvRegisterVsmCodePageOffsets"];
    /// VTLs of this VP: a [`VpStatus`](crate::vsm::VpStatus).
    VSM_VP_STATUS = 0xd0003, "HV_REGISTER_VSM_VP_STATUS" ["HvRegisterVsmVpStatus"];
    /// VTLs of the partition: a [`PartitionStatus`](crate::vsm::PartitionStatus).
    VSM_PARTITION_STATUS = 0xd0004, "HV_REGISTER_VSM_PARTITION_STATUS" ["HvRegisterVsmPartitionStatus"];
    /// The interrupt that notifies a VTL of a lower VTL's interrupts: a [`Vina`](crate::vsm::Vina).
    VSM_VINA = 0xd0005, "HV_REGISTER_VSM_VINA" ["HvRegisterVsmVina"];
    /// VSM capabilities: a [`Capabilities`](crate::vsm::Capabilities).
    VSM_CAPABILITIES = 0xd0006, "HV_REGISTER_VSM_CAPABILITIES" ["HvRegisterVsmCapabilities"];
    /// A VTL's configuration of lower ones: a [`PartitionConfig`](crate::vsm::PartitionConfig).
    VSM_PARTITION_CONFIG = 0xd0007, "HV_REGISTER_VSM_PARTITION_CONFIG" ["HvRegisterVsmPartitionConfig"];
    /// The VTLs that a guest may use, as set by the paravisor.
    GUEST_VSM_PARTITION_CONFIG = 0xd0008, "HvRegisterGuestVsmPartitionConfig";
    /// A VTL's configuration of VTL 0 on this VP: a [`VpSecureConfig`](crate::vsm::VpSecureConfig).
    VSM_VP_SECURE_CONFIG_VTL0 = 0xd0010, "HV_REGISTER_VSM_VP_SECURE_CONFIG_VTL0"
        ["HvRegisterVsmVpSecureConfigVtl0"];
    /// A VTL's configuration of VTL 1 on this VP: a [`VpSecureConfig`](crate::vsm::VpSecureConfig).
    VSM_VP_SECURE_CONFIG_VTL1 = 0xd0011, "HV_REGISTER_VSM_VP_SECURE_CONFIG_VTL1"
        ["HvRegisterVsmVpSecureConfigVtl1"];
    /// A VTL's configuration of VTL 2 on this VP: a [`VpSecureConfig`](crate::vsm::VpSecureConfig).
    VSM_VP_SECURE_CONFIG_VTL2 = 0xd0012, "HV_REGISTER_VSM_VP_SECURE_CONFIG_VTL2"
        ["HvRegisterVsmVpSecureConfigVtl2"];
    /// A VTL's configuration of VTL 3 on this VP: a [`VpSecureConfig`](crate::vsm::VpSecureConfig).
    VSM_VP_SECURE_CONFIG_VTL3 = 0xd0013, "HV_REGISTER_VSM_VP_SECURE_CONFIG_VTL3"
        ["HvRegisterVsmVpSecureConfigVtl3"];
    /// A VTL's configuration of VTL 4 on this VP: a [`VpSecureConfig`](crate::vsm::VpSecureConfig).
    VSM_VP_SECURE_CONFIG_VTL4 = 0xd0014, "HV_REGISTER_VSM_VP_SECURE_CONFIG_VTL4"
        ["HvRegisterVsmVpSecureConfigVtl4"];
    /// A VTL's configuration of VTL 5 on this VP: a [`VpSecureConfig`](crate::vsm::VpSecureConfig).
    VSM_VP_SECURE_CONFIG_VTL5 = 0xd0015, "HV_REGISTER_VSM_VP_SECURE_CONFIG_VTL5"
        ["HvRegisterVsmVpSecureConfigVtl5"];
    /// A VTL's configuration of VTL 6 on this VP: a [`VpSecureConfig`](crate::vsm::VpSecureConfig).
    VSM_VP_SECURE_CONFIG_VTL6 = 0xd0016, "HV_REGISTER_VSM_VP_SECURE_CONFIG_VTL6"
        ["HvRegisterVsmVpSecureConfigVtl6"];
    /// A VTL's configuration of VTL 7 on this VP: a [`VpSecureConfig`](crate::vsm::VpSecureConfig).
    VSM_VP_SECURE_CONFIG_VTL7 = 0xd0017, "HV_REGISTER_VSM_VP_SECURE_CONFIG_VTL7"
        ["HvRegisterVsmVpSecureConfigVtl7"];
    /// A VTL's configuration of VTL 8 on this VP: a [`VpSecureConfig`](crate::vsm::VpSecureConfig).
    VSM_VP_SECURE_CONFIG_VTL8 = 0xd0018, "HV_REGISTER_VSM_VP_SECURE_CONFIG_VTL8"
        ["HvRegisterVsmVpSecureConfigVtl8"];
    /// A VTL's configuration of VTL 9 on this VP: a [`VpSecureConfig`](crate::vsm::VpSecureConfig).
    VSM_VP_SECURE_CONFIG_VTL9 = 0xd0019, "HV_REGISTER_VSM_VP_SECURE_CONFIG_VTL9"
        ["HvRegisterVsmVpSecureConfigVtl9"];
    /// A VTL's configuration of VTL 10 on this VP: a [`VpSecureConfig`](crate::vsm::VpSecureConfig).
    VSM_VP_SECURE_CONFIG_VTL10 = 0xd001a, "HV_REGISTER_VSM_VP_SECURE_CONFIG_VTL10"
        ["HvRegisterVsmVpSecureConfigVtl10"];
    /// A VTL's configuration of VTL 11 on this VP: a [`VpSecureConfig`](crate::vsm::VpSecureConfig).
    VSM_VP_SECURE_CONFIG_VTL11 = 0xd001b, "HV_REGISTER_VSM_VP_SECURE_CONFIG_VTL11"
        ["HvRegisterVsmVpSecureConfigVtl11"];
    /// A VTL's configuration of VTL 12 on this VP: a [`VpSecureConfig`](crate::vsm::VpSecureConfig).
    VSM_VP_SECURE_CONFIG_VTL12 = 0xd001c, "HV_REGISTER_VSM_VP_SECURE_CONFIG_VTL12"
        ["HvRegisterVsmVpSecureConfigVtl12"];
    /// A VTL's configuration of VTL 13 on this VP: a [`VpSecureConfig`](crate::vsm::VpSecureConfig).
    VSM_VP_SECURE_CONFIG_VTL13 = 0xd001d, "HV_REGISTER_VSM_VP_SECURE_CONFIG_VTL13"
        ["HvRegisterVsmVpSecureConfigVtl13"];
    /// A VTL's configuration of VTL 14 on this VP: a [`VpSecureConfig`](crate::vsm::VpSecureConfig).
    VSM_VP_SECURE_CONFIG_VTL14 = 0xd001e, "HV_REGISTER_VSM_VP_SECURE_CONFIG_VTL14"
        ["HvRegisterVsmVpSecureConfigVtl14"];
    /// Wait for the lock of the TLB.
    VSM_VP_WAIT_FOR_TLB_LOCK = 0xd0020, "HV_REGISTER_VSM_VP_WAIT_FOR_TLB_LOCK" ["HvRegisterVsmVpWaitForTlbLock"];
    /// Isolation capabilities of this partition.
    ISOLATION_CAPABILITIES = 0xd0100, "HV_REGISTER_ISOLATION_CAPABILITIES" ["HvRegisterIsolationCapabilities"];
}

constants! {
    table NESTED, kind "register", from "Linux 7.2, include/hyperv/hvgdk_mini.h; mshv-bindings", impl RegisterName;

    /// Synthetic interrupt source 0 of the underlying hypervisor, if nested.
    NESTED_SINT0 = 0xa1000, "HV_REGISTER_NESTED_SINT0";
    /// Synthetic interrupt source 1 of the underlying hypervisor, if nested.
    NESTED_SINT1 = 0xa1001, "HV_REGISTER_NESTED_SINT1";
    /// Synthetic interrupt source 2 of the underlying hypervisor, if nested.
    NESTED_SINT2 = 0xa1002, "HV_REGISTER_NESTED_SINT2";
    /// Synthetic interrupt source 3 of the underlying hypervisor, if nested.
    NESTED_SINT3 = 0xa1003, "HV_REGISTER_NESTED_SINT3";
    /// Synthetic interrupt source 4 of the underlying hypervisor, if nested.
    NESTED_SINT4 = 0xa1004, "HV_REGISTER_NESTED_SINT4";
    /// Synthetic interrupt source 5 of the underlying hypervisor, if nested.
    NESTED_SINT5 = 0xa1005, "HV_REGISTER_NESTED_SINT5";
    /// Synthetic interrupt source 6 of the underlying hypervisor, if nested.
    NESTED_SINT6 = 0xa1006, "HV_REGISTER_NESTED_SINT6";
    /// Synthetic interrupt source 7 of the underlying hypervisor, if nested.
    NESTED_SINT7 = 0xa1007, "HV_REGISTER_NESTED_SINT7";
    /// Synthetic interrupt source 8 of the underlying hypervisor, if nested.
    NESTED_SINT8 = 0xa1008, "HV_REGISTER_NESTED_SINT8";
    /// Synthetic interrupt source 9 of the underlying hypervisor, if nested.
    NESTED_SINT9 = 0xa1009, "HV_REGISTER_NESTED_SINT9";
    /// Synthetic interrupt source 10 of the underlying hypervisor, if nested.
    NESTED_SINT10 = 0xa100a, "HV_REGISTER_NESTED_SINT10";
    /// Synthetic interrupt source 11 of the underlying hypervisor, if nested.
    NESTED_SINT11 = 0xa100b, "HV_REGISTER_NESTED_SINT11";
    /// Synthetic interrupt source 12 of the underlying hypervisor, if nested.
    NESTED_SINT12 = 0xa100c, "HV_REGISTER_NESTED_SINT12";
    /// Synthetic interrupt source 13 of the underlying hypervisor, if nested.
    NESTED_SINT13 = 0xa100d, "HV_REGISTER_NESTED_SINT13";
    /// Synthetic interrupt source 14 of the underlying hypervisor, if nested.
    NESTED_SINT14 = 0xa100e, "HV_REGISTER_NESTED_SINT14";
    /// Synthetic interrupt source 15 of the underlying hypervisor, if nested.
    NESTED_SINT15 = 0xa100f, "HV_REGISTER_NESTED_SINT15";
    /// Control of that SynIC.
    NESTED_SCONTROL = 0xa1010, "HV_REGISTER_NESTED_SCONTROL";
    /// Version of that SynIC.
    NESTED_SVERSION = 0xa1011, "HV_REGISTER_NESTED_SVERSION";
    /// Event flags page of that SynIC.
    NESTED_SIFP = 0xa1012, "HV_REGISTER_NESTED_SIFP";
    /// Message page of that SynIC.
    NESTED_SIPP = 0xa1013, "HV_REGISTER_NESTED_SIPP";
    /// End of message of that SynIC.
    NESTED_EOM = 0xa1014, "HV_REGISTER_NESTED_EOM";
    /// Interrupt response buffer page of that SynIC.
    NESTED_SIRBP = 0xa1015, "HV_REGISTER_NESTED_SIRBP";
}
