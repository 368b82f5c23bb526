//! What only AArch64 instructions can do: start, vectors, system registers.
#![expect(unsafe_code, reason = "assembly")]

mod sysreg;

pub(crate) use sysreg::*;

core::arch::global_asm!(include_str!("start.s"));
core::arch::global_asm!(include_str!("vectors.s"));
