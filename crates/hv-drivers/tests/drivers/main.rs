//! The drivers against this project's devices, in process.

#[expect(unsafe_code, reason = "as an OS does: it vouches for its messages")]
mod first_sector;
mod host;
mod services;
mod storage;
