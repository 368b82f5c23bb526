//! The ports and the disks with a partition in this process, whose tool is a test.

mod embedder;
mod hotplug;
mod ports;
