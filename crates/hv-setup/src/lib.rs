//! What the tool `hv` and its tests share: the prerequisites of a run (found, installed or fetched, and checked), and
//! the user interface of a command: progress, results, files, signals, exit codes.
//!
//! It is independent of guests and hosts. `hv` uses it, and so does `xtask`, which tests `hv`; neither uses the other's
//! code.

mod apt;
pub mod cache;
pub mod child;
pub mod debian;
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
pub mod size;
pub mod sources;
pub mod stock;
pub mod system;
pub mod target;
pub mod ui;
pub mod value;
