//! VMBus on ARM64: the host's state machine for offers, GPADLs and channels, the rings, and the trait of devices.
//!
//! [`Bus`] is the host's end of one partition's VMBus. It does no I/O and allocates nothing: messages, signals,
//! completions and time go in, and what follows from them goes out through the [`BusPort`] that the partition
//! implements. It knows no device: each is a [`Device`] in a [`Slot`] of a structure that the embedder composes with
//! [`devices!`]. A bus fits in a `static`, and is used through `&self`.
//!
//! A device accesses its back end through requests, which the embedder's [`Backend`] serves: with validated guest
//! memory ([`Pages`]), and a [`Token`] for [`Bus::completed`]. The crate `hv-devices` has devices, and explains how to
//! write one.
//!
//! ```
//! use hv_vmbus::protocol::{InitiateContact, MessageHeader, MessageType, TargetInfo, Version};
//! use hv_vmbus::{Bus, Config, Posted, Slot};
//! use std::cell::RefCell;
//! use zerocopy::{FromZeros, IntoBytes};
//!
//! # use hv_vmbus::{Backend, Device, Io, Never, Packet, Taken};
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
//! # #[derive(Debug)] struct Silent;
//! # impl Device for Silent {
//! #     type Request = Never;
//! #     const NAME: [u8; 4] = *b"none";
//! #     fn packet<P: Backend<Never>>(&mut self, _: &mut Packet<'_, P::Memory>, _: &mut Io<'_, P, Never>) -> Taken {
//! #         Taken::Later
//! #     }
//! #     fn reset(&mut self) {}
//! # }
//! #[derive(Default)]
//! struct Partition {
//!     slots: RefCell<Vec<Vec<u8>>>,
//! }
//!
//! impl hv_vmbus::BusPort for Partition {
//! #   type Memory = NoMemory;
//! #   fn memory(&self) -> &NoMemory { &NoMemory }
//! #   fn reference_time(&self) -> hv_tlfs::time::ReferenceTime { hv_tlfs::time::ReferenceTime::ZERO }
//! #   fn has_vp(&self, vp: u32) -> bool { vp == 0 }
//! #   fn interrupt(&self, _: u32, _: u8, _: u16) {}
//!     fn post(&self, _vp: u32, _sint: u8, payload: &[u8]) -> Posted {
//!         self.slots.borrow_mut().push(payload.to_vec());
//!         Posted::Queued
//!     }
//!     // memory, time and interrupts left out here
//! }
//!
//! # impl Backend<Never> for Partition {
//! #     fn start(
//! #         &self,
//! #         _: hv_vmbus::DeviceId,
//! #         _: hv_vmbus::Token,
//! #         request: &Never,
//! #         _: hv_vmbus::Pages<'_>,
//! #     ) -> hv_vmbus::Started<Never> {
//! #         match *request {}
//! #     }
//! # }
//! type Lock = spin::Mutex<()>;
//! static BUS: Bus<Lock, Slot<Lock, Silent>> = Bus::new(Config::DEFAULT, Slot::new(Silent));
//! let partition = Partition::default();
//!
//! let mut contact = InitiateContact::new_zeroed();
//! contact.header = MessageHeader::new(MessageType::INITIATE_CONTACT);
//! contact.version = Version::V5_3;
//! contact.target_info = TargetInfo(0).with_sint(2);
//! BUS.message(4, contact.as_bytes(), &partition).unwrap();
//! assert_eq!(partition.slots.borrow()[0][..4], MessageType::VERSION_RESPONSE.0.to_le_bytes());
//! assert_eq!(BUS.version(), Some(Version::V5_3));
//! ```
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "testing")]
extern crate std;

/// The protocol's types.
pub use hv_tlfs::vmbus as protocol;

mod bus;
mod calls;
mod config;
mod contact;
mod control;
mod device;
mod devices;
mod due;
mod error;
mod event;
mod gpadl;
mod id;
mod image;
mod incoming;
mod io;
mod judge;
mod line;
mod messages;
mod optional;
mod outbox;
mod packet;
mod pages;
mod parse;
mod port;
mod reach;
mod requests;
pub mod ring;
mod save;
mod seen;
mod settle;
mod shared;
mod slot;
mod sync;
#[cfg(feature = "testing")]
pub mod testing;
mod traffic;
mod typed;
mod worker;

/// Internals used by [`devices!`].
#[doc(hidden)]
pub mod composing {
    pub use crate::devices::{Node, Part};
    pub use crate::io::Cx;
    pub use crate::io::Position;
    pub use hv_memory::Deadline;
    pub use hv_memory::save::{Reader, Writer};
}

pub use bus::Bus;
pub use config::{Config, offer, pipe};
pub use device::{Connect, Device, Head, Opening, Refusal, Taken};
pub use devices::{DeviceSet, Devices};
pub use error::{BusError, Refused};
pub use event::{Event, Flaw, Reason};
pub use hv_memory::save::RestoreError;
pub use hv_memory::{BadAddress, GuestMemory};
pub use id::{Channel, DeviceId, Token};
pub use io::{Buffer, Context, Io, Message, RequestError, SendError, TRANSFER_RANGES};
pub use packet::{Answer, Done, Packet, Requester, Ticket};
pub use pages::{Pages, PagesError, Segment, Segments};
pub use port::{
    Backend, BusFaults, BusPort, Moment, Never, OVERTAKEN, Posted, REQUEST_LIMIT, Start, Started, Work,
};
pub use seen::{CONTENTS_BYTES, Contents, Listed, SEEN_BYTES, Seen};
pub use slot::Slot;
pub use traffic::Traffic;
