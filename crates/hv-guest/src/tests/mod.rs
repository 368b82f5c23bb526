//! Unit tests of the modules that `tests/loom` compiles too; there they would run against loom's atomics.

mod flags;
mod message;
mod tsc;
mod vp_map;
