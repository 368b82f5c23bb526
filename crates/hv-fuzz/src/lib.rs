//! The code of the fuzz targets.
//!
//! Each function here takes any bytes, makes a guest (and a host around it) do what they say, and panics if the
//! partition violates an invariant. The programs in `fuzz/` pass the bytes from libFuzzer; `tests/corpus.rs` runs the
//! committed corpus with an ordinary toolchain, so neither can rot.
//!
//! Nothing here depends on the clock, on addresses or on randomness: the same bytes give the same run.
#![forbid(unsafe_code)]

mod card;
mod client;
mod devices;
mod health;
mod hypercall;
mod input;
mod machine;
mod memory;
mod messages;
mod network;
mod peers;
mod restore;
mod scsi;
mod sequence;
mod sockets;
mod vmbus;

pub use card::card;
pub use client::client;
pub use devices::devices;
pub use hypercall::hypercall;
pub use network::{network, nvsp, rndis};
pub use peers::peers;
pub use restore::restore;
pub use scsi::scsi;
pub use sequence::sequence;
pub use sockets::sockets;
pub use vmbus::vmbus;

/// A target: its name, which is also that of its corpus, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 13] = [
    ("hypercall", hypercall),
    ("sequence", sequence),
    ("restore", restore),
    ("vmbus", vmbus),
    ("scsi", scsi),
    ("client", client),
    ("card", card),
    ("peers", peers),
    ("devices", devices),
    ("sockets", sockets),
    ("nvsp", nvsp),
    ("rndis", rndis),
    ("network", network),
];
