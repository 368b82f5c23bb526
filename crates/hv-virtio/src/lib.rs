//! Driver of virtio devices for hypervisors: the MMIO transport, split queues, and the console as a byte stream.
//!
//! No IOMMU stands before virtio over MMIO: a descriptor with a wrong address is a write anywhere in the machine. So every
//! address that reaches the device is that of a part of [`DeviceMemory`], for which its maker has vouched, and none comes from a
//! guest. No reference to that memory exists: it is read and written by copies.
//!
//! What the device says back is judged: an index, a name or a length that breaks the protocol is a [`Broken`], and the device is
//! used no more.
//!
//! Source of layouts and numbers: Virtual I/O Device (VIRTIO) Version 1.2, cited by section title.
#![no_std]

mod console;
mod memory;
mod queue;
mod transport;

pub use console::{Console, PORT_BYTES};
pub use memory::DeviceMemory;
pub use queue::{Broken, Queue};
pub use transport::{Refused, Registers, Transport, device, register, status};
