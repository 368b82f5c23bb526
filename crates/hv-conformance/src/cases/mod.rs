//! The cases, one file per chapter of the TLFS; a long chapter has a folder.

mod feature_discovery;
mod hypercall_interface;
mod inter_partition;
mod partitions;
mod timers;
mod virtual_interrupts;
mod virtual_mmu;
mod virtual_processors;
mod vmbus;
mod vp_registers;

use crate::case::Case;

/// The lists of all files, in the order in which they run.
pub(crate) const ALL: &[&[Case]] = &[
    feature_discovery::CASES,
    hypercall_interface::input_value::CASES,
    hypercall_interface::registers::CASES,
    hypercall_interface::parameters::CASES,
    hypercall_interface::reps::CASES,
    vp_registers::early::CASES,
    vp_registers::access::CASES,
    partitions::CASES,
    virtual_processors::indices::CASES,
    virtual_processors::start::CASES,
    virtual_processors::reset::CASES,
    virtual_processors::psci::CASES,
    virtual_processors::assist_page::CASES,
    virtual_mmu::CASES,
    virtual_interrupts::CASES,
    inter_partition::synic::CASES,
    inter_partition::overlays::CASES,
    inter_partition::messages::CASES,
    inter_partition::message_queues::CASES,
    inter_partition::events::CASES,
    timers::registers::CASES,
    timers::messages::CASES,
    timers::modes::CASES,
    timers::clock::CASES,
    vmbus::contact::CASES,
    vmbus::offers::CASES,
    vmbus::gpadls::CASES,
    vmbus::channels::CASES,
    vmbus::rings::CASES,
    vmbus::packets::CASES,
    vmbus::signals::CASES,
    vmbus::subchannels::CASES,
    vmbus::rescind::CASES,
    vmbus::unload::CASES,
    vmbus::devices::services::CASES,
    vmbus::devices::storage::CASES,
    vmbus::devices::scsi::CASES,
    vmbus::devices::network::CASES,
    vmbus::devices::input::CASES,
    vmbus::devices::video::CASES,
    vmbus::devices::memory::CASES,
    vmbus::devices::sockets::CASES,
];
