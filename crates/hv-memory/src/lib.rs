//! Guest memory as a host sees it, the codec of saved state, and deadlines.
//!
//! The crates that serve a guest (`hv-host`, `hv-vmbus` and the devices) reach its memory through [`GuestMemory`] and
//! write their state through [`save`]; the program that embeds them implements the former and stores the bytes of the
//! latter. [`Deadline`] is when one of them must be called next.
#![no_std]
// On Linux, with vm-memory, the kernel transfers to guest memory.
#![cfg_attr(not(all(feature = "vm-memory", target_os = "linux")), forbid(unsafe_code))]

#[cfg(any(feature = "testing", feature = "vm-memory"))]
extern crate std;

mod deadline;
mod memory;
pub mod save;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "vm-memory")]
mod vm;

pub use deadline::{AtomicDeadline, Deadline};
pub use memory::{BadAddress, GuestMemory};
#[cfg(feature = "vm-memory")]
pub use vm::VmMemory;
