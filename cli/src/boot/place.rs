//! The places of a machine's parts after the guest's RAM, and the boot information that tells the hypervisor.
//!
//! In this order: the page tables, the VPs' memory, the trace, the screen's memory, the disks.

use anyhow::ensure;
use hv_machine::{ALIGN_2M, Image};
use hv_wire::control::Service;
use hv_wire::{BootFlags, BootInfo, platform};

use super::args::Args;
use super::faults;
use crate::control::host_time;
use crate::disks::{ADDRESS_END, Chosen, Disks};
use crate::machine::load::{end_of_own, orders};
use crate::net::{self, NetOption};
use crate::setup::size::exact;
use crate::trace::Region;

/// Returns the location of the trace, if there is one: after the guest's RAM and what the hypervisor always has.
pub(super) fn trace_region(args: &Args) -> anyhow::Result<Option<Region>> {
    let size = args.trace_buffer.max(1).next_multiple_of(ALIGN_2M);
    let base = end_of_own(args.vps, args.memory);
    let most = ADDRESS_END.saturating_sub(base);
    ensure!(
        args.trace.is_none() || size <= most,
        "--trace-buffer {} does not fit after {} of guest memory: the hypervisor maps 39 bits of address; give at most {}",
        exact(args.trace_buffer),
        exact(args.memory),
        exact(most)
    );
    Ok(args.trace.is_some().then_some(Region { base, size, vps: args.vps }))
}

/// Returns true if the machine has a screen.
pub(super) fn has_screen(args: &Args) -> bool {
    args.services().has(Service::Video)
}

/// Returns where video memory is, on a machine that has it: after the guest's RAM, the page tables and the trace.
pub(super) fn video_base(args: &Args, trace: Option<Region>) -> u64 {
    trace.map_or(end_of_own(args.vps, args.memory), |trace| trace.base + trace.size)
}

/// Returns where disks are: after everything else in the machine's RAM.
pub(super) fn disk_base(args: &Args, trace: Option<Region>) -> u64 {
    let size = if has_screen(args) { platform::VIDEO_BYTES } else { 0 };
    video_base(args, trace) + size
}

/// Chooses the guest's disks.
pub(super) fn disks(args: &Args, trace: Option<Region>) -> anyhow::Result<Chosen> {
    let room = args.hotplug_room.next_multiple_of(ALIGN_2M);
    Chosen::open(&args.disk, &args.dvd, disk_base(args, trace), room)
}

/// Returns the hypervisor's boot information.
pub(super) fn boot_info(
    args: &Args,
    image: &Image,
    plan: &faults::Orders,
    trace: Option<Region>,
    disks: &Disks,
) -> BootInfo {
    let (disk_count, disks, window_base, window_size) = disks.boot();
    let [a, b, c, d, e, f] = net::MAC;
    BootInfo {
        flags: flags(args),
        trace_base: trace.map_or(0, |trace| trace.base),
        trace_size: trace.map_or(0, |trace| trace.size),
        plan_rules: plan.rules.len() as u32,
        plan: plan.words,
        host_time: host_time(args.deterministic),
        services: args.services().bits(),
        disk_count,
        disks,
        mac: [a, b, c, d, e, f, 0, 0],
        video_base: if has_screen(args) { video_base(args, trace) } else { 0 },
        window_base,
        window_size,
        ..orders(image, args.vps, args.memory)
    }
}

/// Returns the run's flags.
fn flags(args: &Args) -> u64 {
    let switches = [
        (args.strict.is_some(), BootFlags::STRICT),
        (args.trace.is_some(), BootFlags::TRACE),
        (args.loopback, BootFlags::LOOPBACK),
        (args.has_control(), BootFlags::CONTROL),
        (args.vsock.is_some(), BootFlags::SOCKETS),
        (args.net != NetOption::None, BootFlags::NETWORK),
    ];
    switches.iter().filter(|(on, _)| *on).map(|(_, flag)| flag).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_buffer_that_cannot_be_mapped_is_refused_at_once() {
        let region = |words: &str| trace_region(&Args::of_words(words));
        assert_eq!(region("").unwrap().map(|region| region.size), None);
        assert_eq!(region("--trace x").unwrap().map(|region| region.size), Some(64 << 20));
        let error = region("--trace x --trace-buffer 1T").unwrap_err().to_string();
        assert!(error.starts_with("--trace-buffer 1 TiB does not fit after 512 MiB"), "{error}");
        assert!(region("--trace x --trace-buffer 511G").is_err());
        assert!(region("--trace x --trace-buffer 300G --memory 200G").is_ok());
    }
}
