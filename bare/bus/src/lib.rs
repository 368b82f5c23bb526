//! What the guest programs that use VMBus share: the parts that [`hv_vmbus_client`] asks of an OS.
//!
//! - [`Pool`]: memory that the host may access. [`window`]: where its devices have memory.
//! - [`Boot`]: the partition, and the SynIC of each VP with VMBus's interrupt.
//! - [`Os`]: a VP that waits by interrupt. [`connect`] makes contact, and waits for all offers.
//!
//! Interrupts are masked except where a VP waits, so none comes between a look at memory and the WFI after it. There
//! is no time limit unless the program sets one ([`Os::with_limit`]): an interrupt that is lost shows as a program that
//! hangs, or as an error.
#![no_std]

mod boot;
mod memory;

pub use boot::{Boot, Os, client, connect};
pub use memory::{MEMORY, Pool, window};
