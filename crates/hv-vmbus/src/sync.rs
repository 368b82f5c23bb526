//! The atomics. `tests/loom` compiles the modules whose memory ordering it checks against its own `sync` module with
//! loom's atomics, so the code that is checked is the code that ships.

pub(crate) use core::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
