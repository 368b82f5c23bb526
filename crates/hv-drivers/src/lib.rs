#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_debug_implementations)]

#[cfg(test)]
extern crate std;

#[macro_use]
mod error;
mod aligned;
pub mod ic;
pub mod keyboard;
pub mod network;
pub mod socket;
mod state;
pub mod storage;
pub mod synthvid;
mod wait;

pub use hv_vmbus_client;
pub use wait::Wait;
