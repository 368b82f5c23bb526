//! Devices behind VMBus, with stock kernels and their own drivers as the witness.

mod storage;

use super::runner::Step;

/// The scenarios.
pub(super) fn steps() -> Vec<Step> {
    storage::steps()
}
