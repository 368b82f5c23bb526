//! The host half of VMBus behind the partition's connections.

mod back_end;
mod connections;
mod device_faults;
mod devices;
mod faults;
mod guest;
mod save_restore;
