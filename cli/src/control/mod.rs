//! The control port: requests to a running guest.
//!
//! `hv boot --control` listens on a Unix socket ([`serve`]), takes requests from it as lines of JSON ([`lines`]), and
//! passes them on to the hypervisor over a socket pair that QEMU has the other end of ([`port`]). `hv ctl` ([`ctl`]) is
//! a client of that socket ([`client`]), and so is `hv snapshot` ([`snapshot`]).

mod adapter;
mod client;
mod ctl;
mod lines;
mod memory;
mod pairs;
mod png;
mod pointing;
mod port;
mod screen;
mod serve;
mod services;
pub(crate) mod snapshot;
mod target;
mod typing;

pub(crate) use ctl::{Args, machine_name, run};
pub(crate) use memory::Memory;
pub(crate) use serve::{Controlled, Server, Serving};
pub(crate) use services::{Services, host_time, name as service_name};
