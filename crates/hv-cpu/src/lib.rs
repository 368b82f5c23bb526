//! What a hypervisor at EL2 must know of the Arm CPU that its guest runs on. Data and pure functions: no register is
//! read or written here, so all of it is tested in process.
//!
//! - [`pstate`]: what a trapped instruction leaves once it was emulated, and what an exception that the hypervisor makes
//!   up leaves at EL1.
//! - [`id`]: which features a guest is told of, and what EL2 must enable for each of them, by one table.
//!
//! Source: Arm Architecture Reference Manual for A-profile architecture (DDI 0487), called Arm ARM below.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod id;
pub mod pstate;
