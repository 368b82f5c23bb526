//! PSCI: function ids and results. Not part of the TLFS, but needed on both sides of a partition that starts VPs.
//!
//! Source: Arm Power State Coordination Interface (DEN0022), "PSCI function IDs", "Return error codes" and
//! "AFFINITY_INFO".

/// PSCI_VERSION.
pub const VERSION: u32 = 0x8400_0000;
/// CPU_SUSPEND.
pub const CPU_SUSPEND: u32 = 0x8400_0001;
/// CPU_OFF.
pub const CPU_OFF: u32 = 0x8400_0002;
/// CPU_ON.
pub const CPU_ON: u32 = 0x8400_0003;
/// AFFINITY_INFO.
pub const AFFINITY_INFO: u32 = 0x8400_0004;
/// MIGRATE, which only a Trusted OS answers.
pub const MIGRATE: u32 = 0x8400_0005;
/// MIGRATE_INFO_TYPE.
pub const MIGRATE_INFO_TYPE: u32 = 0x8400_0006;
/// SYSTEM_OFF.
pub const SYSTEM_OFF: u32 = 0x8400_0008;
/// SYSTEM_RESET.
pub const SYSTEM_RESET: u32 = 0x8400_0009;
/// PSCI_FEATURES.
pub const FEATURES: u32 = 0x8400_000a;
/// SYSTEM_SUSPEND.
pub const SYSTEM_SUSPEND: u32 = 0x8400_000e;
/// SYSTEM_RESET2.
pub const SYSTEM_RESET2: u32 = 0x8400_0012;
/// Set in the 64-bit form of a function that has one.
pub const SMC64: u32 = 0x4000_0000;

/// Success.
pub const SUCCESS: u64 = 0;
/// Invalid parameter.
pub const INVALID_PARAMETERS: u64 = -2i64 as u64;
/// The CPU is on.
pub const ALREADY_ON: u64 = -4i64 as u64;
/// The CPU is starting.
pub const ON_PENDING: u64 = -5i64 as u64;
/// The entry point is not a valid address.
pub const INVALID_ADDRESS: u64 = -9i64 as u64;

/// AFFINITY_INFO: on.
pub const INFO_ON: u64 = 0;
/// AFFINITY_INFO: off.
pub const INFO_OFF: u64 = 1;
/// AFFINITY_INFO: starting.
pub const INFO_ON_PENDING: u64 = 2;
