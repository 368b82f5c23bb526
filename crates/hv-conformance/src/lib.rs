//! Test cases that tell whether a host speaks Hyper-V's guest interface on ARM64.
//!
//! Each case is a function that checks one rule, is named after it, and cites where the rule stands: [`cases`] lists
//! them. They run wherever somebody implements [`Env`]: in a guest at EL1, or in process over a model of the host.
//! [`run`] runs them and tells a [`Sink`] what happens; [`protocol`] is a sink that writes lines to a console, and reads
//! them on the other side; `report` (a feature) turns those into text, TAP, JUnit XML or JSON.
//!
//! # The rules of the suite
//!
//! - A case fails on what the Top Level Functional Specification rules out, and on nothing else. Where the TLFS names a
//!   status, that status must come; where it only says that something is invalid, any error will do.
//! - What the host or the environment lacks is a skip with a reason, never a pass. That a feature is absent must show in
//!   its feature bit: a call or register that the bits promise and that fails is a failure.
//! - Rules about bits are checked with words made by hand. `hv-guest` lends the way out of the guest, its
//!   [`Conduit`](hv_guest::conduit::Conduit), and nothing else.
//! - Before each case every register that the suite writes is brought back to its reset value.
#![cfg_attr(not(any(test, feature = "report", feature = "mutants")), no_std)]
#![forbid(unsafe_code)]

#[macro_use]
mod outcome;
#[macro_use]
mod case;
mod cases;
mod cx;
mod env;
mod facts;
pub mod loopback;
#[cfg(feature = "mutants")]
pub mod mutants;
pub mod protocol;
#[cfg(feature = "report")]
pub mod report;
mod suite;

pub use case::Case;
pub use env::{Convention, CrashReport, Env, Exception, MAX_VPS, PAGES};
pub use outcome::{Failure, Outcome, Stop};
pub use suite::{Setting, Sink, Totals, cases, matches, run};
