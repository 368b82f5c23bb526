//! Devices behind VMBus, with stock kernels and their own drivers as the witness.

mod faults;
mod network;
mod sockets;
mod storage;

use super::runner::Step;

/// The scenarios.
pub(super) fn steps() -> Vec<Step> {
    let mut steps = storage::steps();
    steps.extend(faults::steps());
    steps.extend(sockets::steps());
    steps.extend(network::steps());
    steps
}
