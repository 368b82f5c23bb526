//! Synthetic timers.
//!
//! Four per VP, each with a configuration and a count register. Optional on ARM64, where guests prefer the
//! architectural timer.

use crate::abi::Tables;

pub(crate) const TABLES: Tables = Tables { constants: &[COUNT, FLAGS], structs: &[CONFIG] };

constants! {
    table COUNT, kind "timer", from "TLFS, Timers; Linux 6.12, include/asm-generic/hyperv-tlfs.h; 2018 patch";

    /// Synthetic timers of a VP.
    pub const STIMER_COUNT: usize = 4, "HV_SYNIC_STIMER_COUNT";
}

constants! {
    table FLAGS, kind "timer", from "TLFS, Timers; 2018 patch", impl StimerConfig;

    /// [`Self::enable`] alone.
    ENABLE = 1 << 0, "HV_STIMER_ENABLE";
    /// [`Self::periodic`] alone.
    PERIODIC = 1 << 1, "HV_STIMER_PERIODIC";
    /// [`Self::lazy`] alone.
    LAZY = 1 << 2, "HV_STIMER_LAZY";
    /// [`Self::auto_enable`] alone.
    AUTO_ENABLE = 1 << 3, "HV_STIMER_AUTOENABLE";
}

bits! {
    table CONFIG, from "TLFS, Timers; Linux 6.12, include/asm-generic/hyperv-tlfs.h";

    /// The configuration register of a synthetic timer. Reserved bits are zero; so is the register at reset.
    ///
    /// SINT 0 with enable and without direct mode is not allowed: the timer is disabled at once.
    ///
    /// ```
    /// use hv_tlfs::timer::StimerConfig;
    /// let config = StimerConfig::from_bits(0x3_0009);
    /// assert!(config.enable() && config.auto_enable());
    /// assert_eq!(config.sint(), 3);
    /// ```
    pub struct StimerConfig(u64) = "hv_stimer_config" ["HV_X64_MSR_STIMER_CONFIG_CONTENTS", "HV_STIMER_SINT"] {
        /// The timer runs. Cleared by the hypervisor when a one-shot timer expires.
        enable / with_enable: bool @ 0;
        /// The count is a period; else an absolute reference time.
        periodic / with_periodic: bool @ 1;
        /// May expire late while the VP does not run.
        lazy / with_lazy: bool @ 2;
        /// Writing a non-zero count sets enable. Writing zero still stops the timer.
        auto_enable / with_auto_enable: bool @ 3;
        /// The interrupt to assert in direct mode.
        vector / with_vector: u8 @ 11:4 = "apic_vector";
        /// Assert an interrupt on expiry instead of sending a message.
        direct_mode / with_direct_mode: bool @ 12;
        /// The synthetic interrupt source that receives the message.
        sint / with_sint: u8 @ 19:16 = "sintx";
    }
    also {
        "as_uint64" @ 0, 8;
        "reserved_z0" @ 0, 8, bits 15:13;
        "reserved_z1" @ 0, 8, bits 63:20;
    }
}
