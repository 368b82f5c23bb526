//! The atomics. `tests/loom` compiles the modules whose orders it proves against a `sync` module of its own, with loom's
//! atomics, so that what is proven is the code that ships.

pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
