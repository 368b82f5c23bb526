//! The end of the run.

use smccc::{Hvc, Smc, psci};

use crate::arch;

/// Switches the machine off: PSCI by `hvc`, which both the partition and plain QEMU take.
pub fn off() -> ! {
    // A refusal shows below.
    let _ = psci::system_off::<Hvc>();
    let _ = psci::system_off::<Smc>();
    loop {
        arch::wfi();
    }
}

/// Resets the machine.
pub fn reset() -> ! {
    // A refusal shows below.
    let _ = psci::system_reset::<Hvc>();
    loop {
        arch::wfi();
    }
}
