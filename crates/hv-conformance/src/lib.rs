//! Test cases that check whether a host implements Hyper-V's guest interface on ARM64.
//!
//! Each case is a function that checks one rule, is named after it, and cites its source: [`cases`] lists them. They
//! run wherever [`Env`] is implemented: in a guest at EL1, or in process over a model of the host. [`run`](run()) runs
//! them and reports to a [`Sink`]; [`protocol`] is a sink that writes lines to a console, and parses them on the other
//! side; `report` (a feature) turns those into text, TAP, JUnit XML or JSON.
//!
//! # The rules of the suite
//!
//! - A case fails only on what the Top Level Functional Specification rules out. If the TLFS names a status, that
//!   status is required; if it only says that something is invalid, any error is accepted.
//! - VMBus and its devices are not part of the TLFS. Their cases (chapters `vmbus_*`) check what stock guests rely on,
//!   and what Microsoft's OpenVMM does as a host; where hosts may differ, any answer is accepted that harms nothing.
//!   None of them writes to a disk or sends a frame.
//! - What the host or the environment lacks is skipped with a reason, never passed. The absence of a feature must be
//!   visible in its feature bit: a call or register that the bits announce and that fails is a failure.
//! - Rules about bits are checked with words composed by hand. `hv-guest` provides only the way out of the guest, its
//!   [`Conduit`](hv_guest::conduit::Conduit). So are VMBus's messages and rings: no client is between a case and the
//!   host.
//! - Before each case all registers that the suite writes are reset.
#![cfg_attr(not(any(test, feature = "report", feature = "mutants")), no_std)]
#![forbid(unsafe_code)]

#[macro_use]
#[cfg_attr(not(feature = "run"), allow(dead_code, reason = "checks are for the cases"))]
mod outcome;
#[macro_use]
mod case;
// Without the feature `run`, the list alone is used: nothing calls the cases, which are then not compiled to code.
#[cfg_attr(not(feature = "run"), allow(dead_code, reason = "the list alone is used"))]
mod cases;
#[cfg_attr(not(feature = "run"), allow(dead_code, reason = "for the cases"))]
mod cx;
mod env;
#[cfg_attr(not(feature = "run"), allow(dead_code, reason = "for the cases"))]
mod facts;
pub mod loopback;
#[cfg(feature = "mutants")]
pub mod mutants;
pub mod protocol;
#[cfg(feature = "report")]
pub mod report;
#[cfg(feature = "run")]
mod run;
mod suite;

pub use case::Case;
pub use env::{Convention, CrashReport, Env, Exception, MAX_VPS, PAGES};
pub use outcome::{Failure, Outcome, Stop};
#[cfg(feature = "run")]
pub use run::run;
pub use suite::{Setting, Sink, Totals, cases, matches};
