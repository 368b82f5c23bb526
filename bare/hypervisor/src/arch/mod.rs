//! What only AArch64 instructions can do: system registers, barriers, translation, and copies by pairs of words.
#![expect(unsafe_code, reason = "memcpy and memset are assembly")]

mod sysreg;

pub(crate) use sysreg::*;

core::arch::global_asm!(include_str!("copy.s"));
