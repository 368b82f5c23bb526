//! The protocols of the devices: how each negotiates, and how it refuses.

pub(in crate::cases) mod input;
pub(in crate::cases) mod memory;
pub(in crate::cases) mod network;
pub(in crate::cases) mod scsi;
pub(in crate::cases) mod services;
pub(in crate::cases) mod sockets;
pub(in crate::cases) mod storage;
pub(in crate::cases) mod video;
