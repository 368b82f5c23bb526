#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_debug_implementations)]

#[cfg(test)]
extern crate std;

mod aligned;
pub mod ic;
pub mod keyboard;
pub mod network;
pub mod socket;
pub mod storage;
pub mod synthvid;
mod wait;

pub use hv_vmbus_client;
pub use wait::Wait;
