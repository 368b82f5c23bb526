//! The end of the run.

use smccc::{Hvc, Smc, psci};

use crate::arch;

/// Switches the machine off: PSCI by `hvc`, which both the partition and plain QEMU accept.
pub fn off() -> ! {
    // A refusal is reported below.
    let _ = psci::system_off::<Hvc>();
    let _ = psci::system_off::<Smc>();
    loop {
        arch::wfi();
    }
}

/// Resets the machine.
pub fn reset() -> ! {
    // A refusal is reported below.
    let _ = psci::system_reset::<Hvc>();
    loop {
        arch::wfi();
    }
}
