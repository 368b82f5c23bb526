//! The Hyper-V guest interface on ARM64 as types: registers, hypercalls, SynIC, timers, VMBus.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(target_endian = "big")]
compile_error!(
    "everything that Hyper-V shares with a guest is little-endian; this crate maps it without conversion"
);

#[macro_use]
mod macros;

pub mod abi;
pub mod crash;
pub mod extended;
pub mod features;
pub mod flush;
pub mod guest_id;
pub mod hypercall;
pub mod intercept;
pub mod interrupt;
pub mod isolation;
pub mod memory;
pub mod page;
pub mod patch2018;
pub mod port;
pub mod register;
pub mod sets;
pub mod smccc;
pub mod start_vp;
pub mod status;
pub mod synic;
pub mod time;
pub mod timer;
pub mod vmbus;
pub mod vp;
pub mod vsm;
