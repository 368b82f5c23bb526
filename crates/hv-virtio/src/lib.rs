//! Drivers of virtio devices for hypervisors: the MMIO transport, split queues, the console as a byte
//! stream, and the network card as a stream of frames.
//!
//! There is no IOMMU in front of virtio over MMIO: a descriptor with a wrong address writes anywhere in the machine. So
//! every address passed to the device is within [`DeviceMemory`], whose creator has vouched for it, and none comes from
//! a guest. There are no references to that memory: it is accessed by copying.
//!
//! The device's answers are validated: an index, an id or a length that violates the protocol is a [`Broken`], and the
//! device is no longer used.
//!
//! Source of layouts and numbers: Virtual I/O Device (VIRTIO) Version 1.2, cited by section title.
#![no_std]

mod console;
mod memory;
mod net;
mod packets;
mod queue;
mod transport;

pub use console::{Console, PORT_BYTES};
pub use memory::DeviceMemory;
pub use net::{NET_HEADER, NET_MEMORY, NetReceiver, NetSender, RECEIVE_FRAME, SEND_FRAME, net};
pub use queue::{Broken, Queue};
pub use transport::{Refused, Registers, Transport, device, register, status};
