//! Proofs by exhaustion: loom runs each of these through every order that the memory model allows.
//!
//! The modules are those of the crate, compiled here against loom's atomics in place of the processor's.

mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
}

#[path = "../../src/flags.rs"]
#[expect(dead_code, reason = "the proofs need a part of the module")]
mod flags;
#[path = "../../src/message.rs"]
#[expect(dead_code, unreachable_pub, reason = "the proofs need a part of the module")]
mod message;
#[path = "../../src/tsc.rs"]
#[expect(dead_code, reason = "the proofs need a part of the module")]
mod tsc;
#[path = "../../src/vp_map.rs"]
#[expect(dead_code, unreachable_pub, reason = "the proofs need a part of the module")]
mod vp_map;

/// What `tsc` takes from the crate's module of this name.
mod conduit {
    pub(crate) trait Counter {
        fn counter(&self) -> u64;
    }
}

mod end_of_message;
mod map;
mod reference_clock;
mod synic;
