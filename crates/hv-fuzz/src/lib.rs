//! What the fuzz targets do.
//!
//! Each function here takes any bytes, lets a guest (and a host around it) do what they say, and panics if the partition
//! breaks one of its promises. The programs in `fuzz/` hand them to libFuzzer; `tests/corpus.rs` plays the committed corpus
//! with an ordinary toolchain, so that neither can rot.
//!
//! Nothing here depends on the clock, on addresses or on chance: the same bytes give the same run.
#![forbid(unsafe_code)]

mod health;
mod hypercall;
mod input;
mod machine;
mod memory;
mod messages;
mod restore;
mod scsi;
mod sequence;
mod vmbus;

pub use hypercall::hypercall;
pub use restore::restore;
pub use scsi::scsi;
pub use sequence::sequence;
pub use vmbus::vmbus;

/// A target: its name, which is that of its corpus too, and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 5] = [
    ("hypercall", hypercall),
    ("sequence", sequence),
    ("restore", restore),
    ("vmbus", vmbus),
    ("scsi", scsi),
];
