//! VP indices, starting VPs, and what a start resets.

pub(super) mod assist_page;
pub(super) mod indices;
pub(super) mod psci;
pub(super) mod reset;
pub(super) mod start;

use hv_tlfs::hypercall::HypercallCode;
use hv_tlfs::start_vp::{InitialVpContext, StartVpInput};
use hv_tlfs::status::HvStatus;
use hv_tlfs::vp::{PARTITION_ID_SELF, PartitionId, VpIndex};

use crate::cx::{Cx, simple};
use crate::outcome::{Outcome, Stop, fail};

/// Affinity fields of MPIDR_EL1.
const AFFINITY: u64 = 0xff_00ff_ffff;
/// An affinity that no VP has.
const UNKNOWN_MPIDR: u64 = 0xee_00dd_ccbb;

pub(super) fn need_index(cx: &Cx<'_>) -> Outcome {
    skip_if!(!cx.facts.features.privileges.access_vp_index(), "the partition may not read VP indices");
    Ok(())
}

pub(super) fn need_start(cx: &Cx<'_>) -> Outcome {
    skip_if!(!cx.facts.features.privileges.start_virtual_processor(), "the partition may not start VPs");
    Ok(())
}

/// Makes HvCallStartVirtualProcessor in memory form.
pub(super) fn start(
    cx: &Cx<'_>,
    partition: u64,
    index: u32,
    vtl: u8,
    context: InitialVpContext,
) -> Result<HvStatus, Stop> {
    let input = cx.parameters();
    let parameters = StartVpInput {
        partition_id: PartitionId(partition),
        vp_index: VpIndex(index),
        target_vtl: vtl,
        reserved: [0; 3],
        context,
    };
    cx.write(input, &parameters);
    Ok(cx.memory(simple(HypercallCode::START_VP), input, 0).status())
}

pub(super) fn stop(cx: &Cx<'_>, vp: usize) -> Outcome {
    skip_if!(!cx.env.stop(vp), "the environment cannot stop a VP");
    Ok(())
}

/// Starts a stopped VP by hypercall, and waits until it is at work.
pub(super) fn restart(cx: &Cx<'_>, vp: usize) -> Outcome {
    let Some(context) = cx.env.start_context(vp) else {
        // The suite needs the VP further on.
        if !(cx.env.start(vp) && cx.env.wait_online(vp)) {
            return Err(fail("the VP comes back"));
        }
        return Err(Stop::Skip("the environment has no context for a start by hypercall"));
    };
    let status = start(cx, PARTITION_ID_SELF, cx.index(vp), 0, context)?;
    if status != HvStatus::SUCCESS {
        // By other means, or all that follows fails for want of a VP.
        let back = cx.env.start(vp) && cx.env.wait_online(vp);
        return Err(fail(if back { "a stopped VP is started" } else { "the VP comes back" }));
    }
    check!(cx.env.wait_online(vp));
    Ok(())
}

/// Stops a VP and starts it again.
pub(super) fn cycle(cx: &Cx<'_>, vp: usize) -> Outcome {
    stop(cx, vp)?;
    restart(cx, vp)
}
