//! What the tool `hv` and its tests share: what a run needs and the machine may lack (found, installed or fetched, and
//! checked), and how a command treats its user: progress, results, files, signals, exit codes.
//!
//! Nothing in it knows a guest or a host. `hv` uses it, and `xtask`, which tests `hv`; neither uses the other's code.

mod apt;
pub mod cache;
pub mod child;
pub mod developer;
pub mod exit;
pub mod guest;
pub mod input;
pub mod interrupt;
pub mod newest;
pub mod output;
pub mod process;
pub mod programs;
pub mod qemu;
pub mod sources;
pub mod stock;
pub mod system;
pub mod target;
pub mod ui;
