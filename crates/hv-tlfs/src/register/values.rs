//! Layouts of register values that belong to no other module.

use crate::abi::Struct;

pub(super) const STRUCTS: &[&[Struct]] = &[SUSPEND, INTERRUPTS, EVENT_TYPE, EVENTS, MESSAGES];

bits! {
    table SUSPEND, from "Linux 7.2, include/hyperv/hvgdk_mini.h; openvmm, vm/hv1/hvdef";

    /// Suspended by the VP's owner.
    pub struct ExplicitSuspend(u64) = "hv_explicit_suspend_register" {
        /// It is suspended.
        suspended / with_suspended: bool @ 0;
    }
    also {
        "as_uint64" @ 0, 8;
        "reserved" @ 0, 8, bits 63:1;
    }

    /// Suspended by an intercept.
    pub struct InterceptSuspend(u64) = "hv_intercept_suspend_register" {
        /// It is suspended.
        suspended / with_suspended: bool @ 0;
    }
    also {
        "as_uint64" @ 0, 8;
        "reserved" @ 0, 8, bits 63:1;
    }

    /// Not dispatched.
    pub struct DispatchSuspend(u64) = "hv_dispatch_suspend_register" {
        /// It is suspended: the VP is not dispatched.
        suspended / with_suspended: bool @ 0;
    }
    also {
        "as_uint64" @ 0, 8;
        "reserved" @ 0, 8, bits 63:1;
    }

    /// What a VP is waiting for.
    pub struct InternalActivity(u64) = "hv_internal_activity_register" {
        /// It waits to be started.
        startup_suspend / with_startup_suspend: bool @ 0;
        /// It is halted, and waits for an interrupt.
        halt_suspend / with_halt_suspend: bool @ 1;
        /// It is idle, and waits for an interrupt.
        idle_suspend / with_idle_suspend: bool @ 2;
    }
    also {
        "as_uint64" @ 0, 8;
    }
}

bits! {
    table INTERRUPTS, from "Linux 7.2, include/hyperv/hvgdk_mini.h";

    /// An interruption to inject, ARM64 layout.
    pub struct PendingInterruption(u64) = "hv_arm64_pending_interruption_register" {
        /// An interruption is pending.
        pending / with_pending: bool @ 0 = "interruption_pending";
        /// Type of the interruption.
        interruption_type / with_interruption_type: bool @ 1;
        /// The error code.
        error_code / with_error_code: u32 @ 63:32;
    }
    also {
        "as_uint64" @ 0, 8;
        "reserved" @ 0, 8, bits 31:2;
    }

    /// Interrupt shadow state, ARM64 layout.
    pub struct InterruptState(u64) = "hv_arm64_interrupt_state_register" {
        /// Interrupts wait for one instruction.
        interrupt_shadow / with_interrupt_shadow: bool @ 0;
    }
    also {
        "as_uint64" @ 0, 8;
        "reserved" @ 0, 8, bits 63:1;
    }

    /// Deliverability conditions to report to a VP's owner.
    pub struct DeliverabilityNotifications(u64) = "hv_deliverability_notifications_register" {
        /// Report that a non-maskable interrupt can be delivered.
        nmi / with_nmi: bool @ 0 = "nmi_notification";
        /// Report that an interrupt can be delivered.
        interrupt / with_interrupt: bool @ 1 = "interrupt_notification";
        /// Of at least this priority.
        interrupt_priority / with_interrupt_priority: u8 @ 5:2;
        /// A message, one bit per source.
        sints / with_sints: u16 @ 63:48;
    }
    also {
        "as_uint64" @ 0, 8;
    }
}

open_enum! {
    table EVENT_TYPE, from "openvmm, vm/hv1/hvdef";
    /// Type of the pending event: 0 an exception, 1 a synthetic exception, 2 the output of a hypercall.
    pub struct PendingEventType(u8) = "HV_ARM64_PENDING_EVENT_TYPE";
}

impl PendingEventType {
    /// An exception, with syndrome and fault address.
    pub const EXCEPTION: Self = Self(0);
    /// A synthetic exception: [`PendingSyntheticException`].
    pub const SYNTHETIC_EXCEPTION: Self = Self(1);
    /// Output of a hypercall still to be written.
    pub const HYPERCALL_OUTPUT: Self = Self(2);
}

bits! {
    table EVENTS, from "openvmm, vm/hv1/hvdef; Linux 7.2, include/hyperv/hvgdk_mini.h";

    /// First byte of a pending event.
    pub struct PendingEvent(u8) = "HV_ARM64_PENDING_EVENT_HEADER" {
        /// An event is pending.
        pending / with_pending: bool @ 0 = "event_pending";
        /// The type.
        event_type / with_event_type: PendingEventType(u8) @ 3:1;
    }
    also {
        "reserved" @ 0, 1, bits 7:4;
    }
}

structs! {
    table MESSAGES, from "Linux 7.2, include/hyperv/hvgdk_mini.h; openvmm, vm/hv1/hvdef";

    /// A synthetic exception to inject.
    pub struct PendingSyntheticException = "hv_arm64_pending_synthetic_exception_event", size 16 {
        /// Pending flag and event type.
        event: PendingEvent = 0 "header",
        /// Zero.
        reserved: [u8; 3] = 1 "rsvd",
        /// The exception.
        exception_type: u32 = 4,
        /// More about it.
        context: u64 = 8,
    }
    also {
        "as_uint64" @ 0, 16;
        "event_pending" @ 0, 1, bits 0;
        "event_type" @ 0, 1, bits 3:1;
        "reserved" @ 0, 1, bits 7:4;
    }

    /// An architectural exception to inject.
    pub struct PendingException = "HV_ARM64_PENDING_EXCEPTION_EVENT", size 24 {
        /// Pending flag and event type.
        event: PendingEvent = 0,
        /// Zero.
        reserved: [u8; 7] = 1,
        /// The syndrome, as in ESR_ELx.
        syndrome: u64 = 8,
        /// The fault address, as in FAR_ELx.
        fault_address: u64 = 16,
    }
}
