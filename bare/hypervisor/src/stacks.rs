//! The CPUs' stacks, as hypervisor.ld lays them out: one for each CPU, with a guard page at its low end.
#![expect(unsafe_code, reason = "symbols of the linker script")]

use core::ops::Range;

unsafe extern "C" {
    static __stacks: u8;
    static __stack_stride: u8;
}

/// Bytes of the guard page.
const GUARD: usize = 0x1000;

/// Returns the distance between the ends of two stacks, in bytes.
fn stride() -> usize {
    (&raw const __stack_stride) as usize
}

/// Returns the end of a CPU's stack: it grows down from the CPU's frame, which is right below.
pub(crate) fn end(cpu: usize) -> usize {
    (&raw const __stacks) as usize + (cpu + 1) * stride()
}

/// Returns the mapped part of a CPU's stack: all but the guard page.
pub(crate) fn mapped(cpu: usize) -> Range<usize> {
    end(cpu) - stride() + GUARD..end(cpu)
}
