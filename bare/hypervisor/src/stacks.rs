//! The CPUs' stacks, in the memory that the tool sets aside for the VPs: one for each CPU, with a guard page at its low
//! end, which stays unmapped: an overflow faults instead of spreading.

use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use hv_wire::BootInfo;
use hv_wire::platform::VP_STACK_STRIDE;

/// Bytes of the guard page.
const GUARD: u64 = 0x1000;

/// Start of the stacks, for start.s as well. CPU 0 writes it before there is another CPU.
pub(crate) static STACKS: AtomicU64 = AtomicU64::new(0);

/// Places the stacks. CPU 0 calls it with the boot information that it has judged.
pub(crate) fn place(info: &BootInfo) {
    STACKS.store(info.stacks(), Ordering::Relaxed);
}

/// Returns the end of a CPU's stack: it grows down from the CPU's frame, which is right below. `None` before there are
/// stacks.
pub(crate) fn end(cpu: usize) -> Option<usize> {
    let start = STACKS.load(Ordering::Relaxed);
    (start != 0).then_some((start + (cpu as u64 + 1) * VP_STACK_STRIDE) as usize)
}

/// Returns the mapped part of a CPU's stack: all but the guard page.
pub(crate) fn mapped(info: &BootInfo, cpu: usize) -> Range<u64> {
    let start = info.stacks() + cpu as u64 * VP_STACK_STRIDE;
    start + GUARD..start + VP_STACK_STRIDE
}
