//! The drivers against this project's devices, in process.

mod bounce;
mod faults;
#[expect(unsafe_code, reason = "as an OS does: it vouches for its messages")]
mod first_sector;
mod foreign;
mod host;
mod hostile;
mod network;
mod offload;
mod peer_faults;
mod ram;
mod screen;
mod services;
mod sockets;
#[cfg(feature = "smoltcp")]
mod stack;
mod storage;
mod threads;
