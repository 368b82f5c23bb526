//! PSCI 1.1: VPs are switched on and off, the machine is switched off and reset.
//!
//! Source: Arm Power State Coordination Interface (DEN0022), "PSCI function IDs" and the section of each function.

use hv_tlfs::smccc::NOT_SUPPORTED;

use lock_api::RawMutex;

use crate::host::{Action, Host, VpContext};
use crate::partition::Partition;
use crate::vp::Power;
use crate::{smccc, vp};
use hv_memory::GuestMemory;

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
/// MIGRATE_INFO_TYPE.
pub const MIGRATE_INFO_TYPE: u32 = 0x8400_0006;
/// SYSTEM_OFF.
pub const SYSTEM_OFF: u32 = 0x8400_0008;
/// SYSTEM_RESET.
pub const SYSTEM_RESET: u32 = 0x8400_0009;
/// PSCI_FEATURES.
pub const FEATURES: u32 = 0x8400_000a;
/// Set in the 64-bit form of a function that has one.
pub const SMC64: u32 = 0x4000_0000;

/// The version that PSCI_VERSION gives: 1.1.
pub const VERSION_1_1: u64 = 0x1_0001;
/// The answer of MIGRATE_INFO_TYPE: no Trusted OS that would need migration.
const MIGRATION_NOT_REQUIRED: u64 = 2;

/// Success.
pub const SUCCESS: u64 = 0;
/// A parameter is wrong.
pub const INVALID_PARAMETERS: u64 = -2i64 as u64;
/// The VP is on.
pub const ALREADY_ON: u64 = -4i64 as u64;
/// The VP is starting.
pub const ON_PENDING: u64 = -5i64 as u64;
/// The entry point is not in the guest's memory.
pub const INVALID_ADDRESS: u64 = -9i64 as u64;

/// AFFINITY_INFO: on.
pub const INFO_ON: u64 = 0;
/// AFFINITY_INFO: off.
pub const INFO_OFF: u64 = 1;
/// AFFINITY_INFO: starting.
pub const INFO_ON_PENDING: u64 = 2;

/// Whether PSCI_FEATURES says that the function exists.
const fn exists(function: u32) -> bool {
    matches!(
        function,
        VERSION | CPU_OFF | MIGRATE_INFO_TYPE | SYSTEM_OFF | SYSTEM_RESET | FEATURES | smccc::VERSION
    ) || matches!(function & !SMC64, CPU_SUSPEND | CPU_ON | AFFINITY_INFO)
}

/// A function of the standard secure service range; `arguments` are X1 to X3.
pub(crate) fn call(
    partition: &Partition<'_, impl RawMutex>,
    host: &impl Host,
    vp: usize,
    function: u32,
    arguments: [u64; 3],
) -> (u64, Action) {
    if !exists(function) || function == smccc::VERSION {
        return (NOT_SUPPORTED, Action::Resume);
    }
    let arguments = if function & SMC64 == 0 { arguments.map(|x| x & 0xffff_ffff) } else { arguments };
    let result = match function & !SMC64 {
        VERSION => VERSION_1_1,
        MIGRATE_INFO_TYPE => MIGRATION_NOT_REQUIRED,
        FEATURES => {
            // All flags are 0: original power state format, platform-coordinated mode.
            if exists(arguments[0] as u32) { 0 } else { NOT_SUPPORTED }
        }
        // A power-down state may be replaced by a standby one, which returns to the caller when it wakes.
        CPU_SUSPEND => return (SUCCESS, Action::Suspend),
        CPU_OFF => return (SUCCESS, Action::VpOff),
        CPU_ON => cpu_on(partition, host, vp, arguments),
        AFFINITY_INFO => affinity_info(partition, arguments[0], arguments[1]),
        SYSTEM_OFF => return (SUCCESS, Action::SystemOff),
        SYSTEM_RESET => return (SUCCESS, Action::SystemReset),
        _ => NOT_SUPPORTED,
    };
    (result, Action::Resume)
}

fn cpu_on(
    partition: &Partition<'_, impl RawMutex>,
    host: &impl Host,
    by: usize,
    [target, entry, id]: [u64; 3],
) -> u64 {
    let Some(target) = partition.config().vp_with_mpidr(target).filter(|&n| n < partition.vp_count()) else {
        return INVALID_PARAMETERS;
    };
    if !host.memory().contains(entry, 4) {
        return INVALID_ADDRESS;
    }
    match vp::start(partition, host, by, target, &VpContext::at(entry, id)) {
        Ok(()) => SUCCESS,
        Err(Power::On) => ALREADY_ON,
        Err(Power::Starting | Power::Off) => ON_PENDING,
    }
}

/// State of the VPs that share the affinity fields from `level` up.
fn affinity_info(partition: &Partition<'_, impl RawMutex>, target: u64, level: u64) -> u64 {
    let ignored = match level {
        0 => 0,
        1 => 0xff,
        2 => 0xffff,
        3 => 0xff_ffff,
        _ => return INVALID_PARAMETERS,
    };
    let mut info = None;
    for (vp, state) in partition.vps().iter().enumerate() {
        if (partition.config().mpidr(vp) ^ target) & !ignored != 0 {
            continue;
        }
        let this = match state.power() {
            Power::On => return INFO_ON,
            Power::Starting => INFO_ON_PENDING,
            Power::Off => INFO_OFF,
        };
        info = Some(info.map_or(this, |other: u64| other.max(this)));
    }
    info.unwrap_or(INVALID_PARAMETERS)
}
