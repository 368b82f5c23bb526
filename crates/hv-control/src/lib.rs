//! What a host does with the messages of the `hv` tool while its guest runs: the control port and the sockets' port of
//! [`hv_wire::control`], for any embedder of [`hv_partition`].
//!
//! The embedder has a [`Machine`]: its partition with the [`Devices`] of this crate, the boot information, and an
//! [`Outside`] for what it does on its own. It offers what the tool asked for, gives each port a [`Pipe`] to the tool,
//! and calls [`Port::serve`] of each whenever the tool has sent something, a [`flush`](Pipe::flush) can send more of
//! what was written, or [`told`] has found that a device has something for a port.
//!
//! | file | what |
//! |---|---|
//! | `devices` | the devices on the guest's VMBus, and what their events tell |
//! | `machine` | what the ports need of an embedder |
//! | `offers` | what is offered before the guest starts |
//! | `disks` | where disks are, by number |
//! | `services` | requests to the integration services |
//! | `memory` | memory that the guest gives up |
//! | `hotplug` | disks that come, change and go; devices that are taken away |
//! | `pipe`, `link` | a byte stream to the tool, and a port's end of it |
//! | `control`, `sockets` | the ports |
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod control;
mod devices;
mod disks;
mod hotplug;
mod link;
mod machine;
mod memory;
mod offers;
mod pipe;
mod services;
mod sockets;
#[cfg(test)]
mod tests;

pub use control::ControlPort;
pub use devices::{Bus, Controller, Devices, GPADLS, Services, Sockets, Told, WORDS, told};
pub use disks::{Table, growth_end, region};
pub use link::Link;
pub use machine::{Machine, Outside, Serves, State};
pub use pipe::{Pipe, Port};
pub use sockets::SocketsPort;
