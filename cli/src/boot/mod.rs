//! `hv boot`: one guest, from the kernel file to the report. [`run`](run()) resolves the options ([`resolve`]), runs
//! the guest, and reports. `hv exec` does the same with an agent in the guest ([`agent`]).

pub(crate) mod accel;
mod agent;
mod args;
mod console;
mod entry;
mod faults;
mod guest;
pub(crate) mod image;
mod keep;
pub(crate) mod modules;
mod place;
mod plan;
mod programs;
mod resolve;
mod resume;
mod run;
mod saved;
mod sources;
mod start;
mod stock;

pub(crate) use agent::{Agent, Ended, run_agent};
pub(crate) use args::Args;
pub(crate) use run::run;
