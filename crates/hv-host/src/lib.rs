//! A Hyper-V partition for ARM64 as a sans-IO state machine.
//!
//! [`Partition`] takes what a guest does (a hypercall with its registers, an SMCCC or PSCI call, an expired deadline)
//! and acts through the [`Host`] that the embedder implements: writes to guest memory, interrupts, deadlines, VPs to
//! start. It does no I/O, does not allocate, and is the same at EL2, in tests and under a fuzzer. Whatever a guest
//! passes in, it gets a status or an exception; no input can make this crate panic or loop.
//!
//! The files follow the TLFS:
//!
//! | TLFS | here |
//! |---|---|
//! | Hypercall Interface | `hypercall` (table, checks), `frame` (parameters), `calls`, `flush` |
//! | Feature Discovery, Partitions | `profile`, `registers`, `crash` |
//! | Virtual Processors | `vp`, `psci`, `smccc` |
//! | Inter-Partition Communication | `port`, `synic`, `queue`, `delivery` (messages), `events`, `overlay`, `overlays` |
//! | Timers | `time`, `timers`, `expiry` |
//!
//! In addition: `partition`, `host` and `connections` (the interface), `faults` and `faulty` (fault injection), `event`
//! (what the observer gets), `save` (saved state), `strict` (the rules for guests). The crate is independent of VMBus:
//! messages and events for a connection that belongs to no [`Port`] go out through [`Connections`]. `hv-partition`
//! joins the two.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod call_registers;
mod calls;
mod connections;
mod crash;
mod deadline;
mod delivery;
pub mod event;
mod events;
mod expiry;
pub mod faults;
mod faulty;
mod flush;
mod frame;
mod general;
mod host;
mod hypercall;
mod image;
mod one;
mod overlay;
mod overlays;
mod partition;
mod port;
mod power;
mod profile;
pub mod psci;
mod queue;
mod registers;
mod save;
mod sets;
pub mod smccc;
pub mod strict;
mod synic;
mod time;
mod timers;
mod traps;
mod vp;
mod vp_context;

pub use call_registers::{CallRegisters, RegisterSet};
pub use connections::Connections;
pub use event::{Cause, Convention, Event, SmcccConduit, TimerEvent};
pub use faulty::Faulty;
pub use general::Registers;
pub use host::{Action, Flush, Host, Retarget, VpContext};
pub use hv_memory::save::RestoreError;
pub use hv_memory::{BadAddress, Deadline, GuestMemory};
pub use lock_api::RawMutex;
pub use partition::Partition;
pub use port::{BUFFERS_PER_PORT, FULL_PORTS_PER_VP, MAX_PORTS, Port, PortTarget};
pub use power::Power;
pub use profile::{Config, Profile};
pub use sets::VpMask;
pub use vp::Vp;
