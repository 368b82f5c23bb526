//! What only AArch64 instructions can do: system registers, barriers, translation.

mod sysreg;

pub(crate) use sysreg::*;
