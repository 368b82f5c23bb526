//! The CPUs' stacks, as rt.ld lays them out: for each CPU one for the program and one for its exceptions.
#![expect(unsafe_code, reason = "symbols of the linker script")]

use core::ops::Range;

/// Maximum number of CPUs of a program; `rt.ld` has stacks for each.
pub const MAX_CPUS: usize = 120;

unsafe extern "C" {
    static __stacks: u8;
    static __stacks_end: u8;
    static __stack_stride: u8;
}

/// Returns all stacks, with their guards.
pub(crate) fn all() -> Range<u64> {
    &raw const __stacks as u64..&raw const __stacks_end as u64
}

/// Returns the mapped half of a CPU's stack: the lower half is a guard.
pub(crate) fn mapped(cpu: usize) -> Range<u64> {
    let stride = &raw const __stack_stride as u64;
    let end = all().start + (cpu as u64 + 1) * stride;
    end - stride / 2..end
}
