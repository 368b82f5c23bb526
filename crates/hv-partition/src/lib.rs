//! A whole Hyper-V partition for ARM64: the hypervisor of `hv-host` joined with the VMBus server of `hv-vmbus`.
//!
//! [`Partition`] has the calls of [`hv_host::Partition`] and passes them on. The embedder implements [`Host`] for the
//! hypervisor and [`BusObserver`] for VMBus. It chooses the devices of its [`Bus`], and serves their requests as their
//! [`HostBackend`]. The files, in the order in which a VMBus message passes through them:
//!
//! | file | what |
//! |---|---|
//! | `partition` | the embedder's calls |
//! | `joined` | the embedder as presented to the hypervisor: deadlines combined |
//! | `route` | connections that lead to VMBus |
//! | `bus` | the server with its devices (`served`: as the partition calls it, whatever the devices) |
//! | `carrier`, `carry` | when the server is called, and on which VP's deadline |
//! | `port` | the partition as presented to the server: answers go to the hypervisor |
//!
//! In addition: `save` (saved state), `strict` (the judge, with VMBus's rules), `event` (VMBus events for the
//! observer), `record` (events as trace records, and back for the judge), `loopback` (connections for the conformance
//! suite).
//!
//! Locks are taken in this order: the bus, then a VP.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "testing")]
extern crate std;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod bus;
mod calls;
mod carrier;
mod carry;
mod config;
mod event;
mod joined;
pub mod loopback;
mod partition;
mod port;
#[cfg(feature = "record")]
pub mod record;
mod route;
mod save;
mod served;
mod split;
pub mod strict;
#[cfg(feature = "testing")]
pub mod testing;

pub use bus::{Bus, SmallDevices, Vmbus};
pub use config::Config;
pub use event::{BusEvent, BusObserver};
pub use hv_host::{
    self, Action, Cause, Connections, Convention, Event, Faulty, Flush, Host, Port, PortTarget, Power,
    Profile, RawMutex, Registers, Retarget, TimerEvent, Vp, VpContext, VpMask, faults,
};
pub use hv_memory::save::RestoreError;
pub use hv_memory::{BadAddress, GuestMemory};
pub use hv_vmbus::{DeviceId, Never, Pages, Started, Token, Work};
pub use partition::Partition;
#[doc(hidden)]
pub use port::ServerPort;
pub use port::{HostBackend, disk_failure};
#[doc(hidden)]
pub use served::{AnyBus, Served};
pub use split::{Forms, Split};
