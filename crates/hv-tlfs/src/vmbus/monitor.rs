//! The monitor pages: signals that may be delayed a little, so that many of them cost one exit.

bits! {
    table BITS, from "Linux 6.12, drivers/hv/hyperv_vmbus.h";

    /// Groups of the page that are in use.
    pub struct MonitorTriggerState(u32) = "hv_monitor_trigger_state" {
        /// One bit per group.
        group_enable / with_group_enable: u32 @ 3:0;
    }
    also {
        "asu32" @ 0, 4;
        "rsvdz" @ 0, 4, bits 31:4;
    }

    /// The 32 slots of a group.
    pub struct MonitorTriggerGroup(u64) = "hv_monitor_trigger_group" {
        /// Slots that the sender has signalled.
        pending / with_pending: u32 @ 31:0;
        /// Slots that the receiver watches.
        armed / with_armed: u32 @ 63:32;
    }
    also {
        "as_uint64" @ 0, 8;
    }
}

structs! {
    table STRUCTS, from "Linux 6.12, drivers/hv/hyperv_vmbus.h";

    /// The connection and flag that a slot signals.
    pub struct MonitorParameter = "hv_monitor_parameter", size 8 {
        /// Connection.
        connection: u32 = 0 "connectionid",
        /// Event flag.
        flag_number: u16 = 4 "flagnumber",
        /// Zero.
        reserved: u16 = 6 "rsvdz",
    }

    /// A monitor page: 4 groups of 32 slots.
    pub struct MonitorPage = "hv_monitor_page", size 4096 {
        /// Groups in use.
        trigger_state: MonitorTriggerState = 0,
        /// Zero.
        reserved1: u32 = 4 "rsvdz1",
        /// Signals.
        trigger_group: [MonitorTriggerGroup; 4] = 8,
        /// Zero.
        reserved2: [u64; 3] = 40 "rsvdz2",
        /// When the receiver looks next.
        next_check_time: [[i32; 32]; 4] = 64 "next_checktime",
        /// Maximum delay of a signal, in 100 ns.
        latency: [[u16; 32]; 4] = 576,
        /// Zero.
        reserved3: [u64; 32] = 832 "rsvdz3",
        /// The connections and flags that the slots signal.
        parameter: [[MonitorParameter; 32]; 4] = 1088,
        /// Zero.
        reserved4: [u8; 1984] = 2112 "rsvdz4",
    }
}
