//! VMBus on ARM64: the host's offer, GPADL and channel state machine, and rings.
//!
//! [`Server`] is the host's end of one partition's VMBus. It does no I/O and allocates nothing: messages, signals and
//! time go in, and what follows from them goes out through the [`Port`] that the partition implements. A server fits in
//! a `static` behind the partition's lock.
//!
//! ```
//! use hv_vmbus::protocol::{InitiateContact, MessageHeader, MessageType, TargetInfo, Version};
//! use hv_vmbus::{Config, Posted, Server};
//! use zerocopy::{FromZeros, IntoBytes};
//!
//! # struct NoMemory;
//! # impl hv_vmbus::GuestMemory for NoMemory {
//! #     fn read(&self, _: u64, _: &mut [u8]) -> Result<(), hv_vmbus::BadAddress> { Err(hv_vmbus::BadAddress) }
//! #     fn write(&self, _: u64, _: &[u8]) -> Result<(), hv_vmbus::BadAddress> { Err(hv_vmbus::BadAddress) }
//! #     fn load_acquire(&self, _: u64) -> Result<u32, hv_vmbus::BadAddress> { Err(hv_vmbus::BadAddress) }
//! #     fn store_release(&self, _: u64, _: u32) -> Result<(), hv_vmbus::BadAddress> { Err(hv_vmbus::BadAddress) }
//! #     fn fetch_or(&self, _: u64, _: u32) -> Result<u32, hv_vmbus::BadAddress> { Err(hv_vmbus::BadAddress) }
//! #     fn swap(&self, _: u64, _: u32) -> Result<u32, hv_vmbus::BadAddress> { Err(hv_vmbus::BadAddress) }
//! #     fn contains(&self, _: u64, _: u64) -> bool { false }
//! # }
//! #[derive(Default)]
//! struct Partition {
//!     slots: Vec<Vec<u8>>,
//! }
//!
//! impl hv_vmbus::Port for Partition {
//! #   type Memory = NoMemory;
//! #   fn memory(&self) -> &NoMemory { &NoMemory }
//! #   fn reference_time(&self) -> u64 { 0 }
//! #   fn has_vp(&self, vp: u32) -> bool { vp == 0 }
//! #   fn interrupt(&mut self, _: u32, _: u8, _: u16) {}
//!     fn post(&mut self, _vp: u32, _sint: u8, payload: &[u8]) -> Posted {
//!         self.slots.push(payload.to_vec());
//!         Posted::Queued
//!     }
//!     // memory, time and interrupts left out here
//! }
//!
//! static DEFAULT: Server = Server::new(Config::DEFAULT);
//! let mut server = DEFAULT.clone();
//! let mut partition = Partition::default();
//!
//! let mut contact = InitiateContact::new_zeroed();
//! contact.header = MessageHeader::new(MessageType::INITIATE_CONTACT);
//! contact.version = Version::V5_3;
//! contact.target_info = TargetInfo(0).with_sint(2);
//! server.message(4, contact.as_bytes(), &mut partition).unwrap();
//! assert_eq!(partition.slots[0][..4], MessageType::VERSION_RESPONSE.0.to_le_bytes());
//! assert_eq!(server.version(), Some(Version::V5_3));
//! ```
#![no_std]
#![forbid(unsafe_code)]

/// The protocol's types.
pub use hv_tlfs::vmbus as protocol;

mod channel;
mod config;
mod contact;
mod device;
mod event;
mod gpadl;
mod image;
mod outbox;
mod port;
mod requests;
pub mod ring;
mod save;
mod server;
mod service;

pub use config::{Config, Device, ECHO_INTERFACE, Offer};
pub use event::{Event, Reason};
pub use hv_memory::save::RestoreError;
pub use hv_memory::{BadAddress, GuestMemory};
pub use port::{Port, Posted};
pub use server::{Refused, Server};
