//! Devices behind VMBus, with stock kernels and their own drivers as the witness.

mod card;
mod disk_faults;
pub(crate) mod faults;
mod fcopy;
pub(crate) mod file_systems;
mod fio;
mod frame_faults;
mod freeze;
mod hotplug;
mod input;
mod memory;
pub(crate) mod network;
mod passt;
mod peers;
pub(crate) mod programs;
mod sg3_utils;
mod sockets;
pub(crate) mod storage;
mod systemd;
mod traced;
pub(crate) mod video;

use super::runner::Step;

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    [
        storage::steps(),
        faults::steps(),
        disk_faults::steps(),
        frame_faults::steps(),
        traced::steps(),
        sockets::steps(),
        network::steps(),
        passt::steps(),
        card::steps(),
        peers::steps(),
        sg3_utils::steps(),
        fio::steps(),
        fcopy::steps(),
        freeze::steps(),
        file_systems::steps(),
        hotplug::steps(),
        input::steps(),
        memory::steps(),
        systemd::steps(),
        video::steps(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
