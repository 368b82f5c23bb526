//! What a run needs and the machine may lack: found, installed or fetched, and checked.

mod apt;
pub(crate) mod cache;
pub(crate) mod newest;
pub(crate) mod qemu;
pub(crate) mod stock;
pub(crate) mod system;
pub(crate) mod target;
