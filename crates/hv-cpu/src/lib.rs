//! What a hypervisor at EL2 needs to know about the Arm CPU that its guest runs on. Data and pure functions: no
//! register is read or written here, so everything is tested in process.
//!
//! - [`pstate`]: the state after a trapped instruction has been emulated, and the state at EL1 after an exception that
//!   the hypervisor injects.
//! - [`id`]: the features reported to a guest, and what EL2 must enable for each of them, from one table.
//! - [`sysreg`]: names of system registers, for messages.
//! - [`gic`]: offsets of a GICv3's registers.
//!
//! Source: Arm Architecture Reference Manual for A-profile architecture (DDI 0487), called Arm ARM below.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod gic;
pub mod id;
pub mod pstate;
pub mod sysreg;
