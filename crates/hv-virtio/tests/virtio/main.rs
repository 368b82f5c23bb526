//! Drivers against a device that judges every address, and against one that lies.

mod console;
mod device;
mod net;
