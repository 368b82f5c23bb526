//! PSCI 1.1: switches VPs on and off, and powers off or resets the machine.
//!
//! Source: Arm Power State Coordination Interface (DEN0022), "PSCI function IDs" and the section of each function.

pub use hv_tlfs::psci::{
    AFFINITY_INFO, ALREADY_ON, CPU_OFF, CPU_ON, CPU_SUSPEND, FEATURES, INFO_OFF, INFO_ON, INFO_ON_PENDING,
    INVALID_ADDRESS, INVALID_PARAMETERS, MIGRATE_INFO_TYPE, ON_PENDING, SMC64, SUCCESS, SYSTEM_OFF,
    SYSTEM_RESET, VERSION,
};
use hv_tlfs::smccc::{self, NOT_SUPPORTED};

use lock_api::RawMutex;

use crate::host::{Action, Host, VpContext};
use crate::partition::Partition;
use crate::power::Power;
use hv_memory::GuestMemory;

/// The version returned by PSCI_VERSION: 1.1.
pub const VERSION_1_1: u64 = 0x1_0001;
/// The answer to MIGRATE_INFO_TYPE: no Trusted OS that would need migration.
const MIGRATION_NOT_REQUIRED: u64 = 2;

/// Returns true if PSCI_FEATURES reports the function as implemented.
const fn exists(function: u32) -> bool {
    matches!(
        function,
        VERSION | CPU_OFF | MIGRATE_INFO_TYPE | SYSTEM_OFF | SYSTEM_RESET | FEATURES | smccc::VERSION
    ) || matches!(function & !SMC64, CPU_SUSPEND | CPU_ON | AFFINITY_INFO)
}

/// Handles a function of the standard secure service range; `arguments` are X1 to X3.
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
    match partition.start_vp(host, by, target, &VpContext::at(entry, id)) {
        Ok(()) => SUCCESS,
        Err(Power::On) => ALREADY_ON,
        Err(Power::Starting | Power::Off) => ON_PENDING,
    }
}

/// Returns the state of the VPs that share the affinity fields from `level` up.
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
