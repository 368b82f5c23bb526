//! Restart: the program as it was at first, on the machine as it leaves it, as kexec does with another kernel.
#![expect(unsafe_code, reason = "everything that Rust knows of ends here")]

use core::sync::atomic::{AtomicU64, Ordering};

use crate::cpu::AffinityState;
use crate::{cpu, hardware, irq};

static TREE: AtomicU64 = AtomicU64::new(0);
static GENERATION: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" {
    fn rt_restart(tree: u64, generation: u64) -> !;
}

/// Returns the number of times that the program has restarted.
pub fn generation() -> u64 {
    GENERATION.load(Ordering::Relaxed)
}

/// Starts the program again: statics as in the file, MMU off, the same device tree. The interrupt controller is set up
/// again; other devices, and the hypervisor, keep their state.
///
/// # Panics
///
/// If another CPU is on.
pub fn restart() -> ! {
    irq::mask();
    let others = (0..hardware::get().vps()).filter(|&cpu| cpu != cpu::index());
    for cpu in others {
        assert_eq!(cpu::state(cpu), Ok(AffinityState::Off), "CPU {cpu} runs what is to be overwritten");
    }
    // SAFETY: it does not return, and no other CPU runs, so nothing that Rust code relies on is used after it.
    unsafe { rt_restart(TREE.load(Ordering::Relaxed), generation() + 1) }
}

/// Stores the arguments of the start.
pub(crate) fn started(tree: *const u8, generation: u64) {
    TREE.store(tree as u64, Ordering::Relaxed);
    GENERATION.store(generation, Ordering::Relaxed);
}
