//! How a run ended.

use std::io;

/// Outcome of a run.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunOutcome {
    /// The guest powered off (PSCI SYSTEM_OFF).
    PowerOff,
    /// The guest requested a reset (PSCI SYSTEM_RESET).
    Reset,
    /// The guest took its last VP off.
    AllVpsOff,
    /// [`Machine::stop`](crate::Machine::stop) was called.
    Stopped,
    /// The host failed: an error of an ioctl that no guest can cause.
    Failed {
        /// What it was about.
        what: &'static str,
        /// The error.
        error: io::Error,
    },
}
