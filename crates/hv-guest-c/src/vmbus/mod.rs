//! VMBus for kernels in C: the bus, disks and network cards (`include/hv_vmbus.h`).
//!
//! The objects stand in memory of the kernel (`object.rs`), and each belongs to one call at a time, whatever the
//! kernel's locks do. Nothing here allocates but by the kernel's own callbacks.

mod bus;
/// cbindgen:ignore
mod closing;
/// cbindgen:ignore
mod dma;
mod error;
mod net;
/// cbindgen:ignore
mod object;
mod storage;
/// cbindgen:ignore
mod wait;

pub use bus::*;
pub use error::*;
pub use net::*;
pub use storage::*;
