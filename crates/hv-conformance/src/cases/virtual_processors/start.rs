//! HvCallStartVirtualProcessor: what it refuses, and what it starts.

use hv_tlfs::register::RegisterName;
use hv_tlfs::start_vp::InitialVpContext;
use hv_tlfs::status::HvStatus;
use hv_tlfs::vp::{ANY_VP, PARTITION_ID_SELF};

use super::{cycle, need_index, need_start, restart, start, stop};
use crate::cx::Cx;
use crate::outcome::Outcome;

cases! {
    "virtual_processors";
    "HvCallStartVirtualProcessor", "Return Values":
        a_running_vp_is_not_started,
        the_caller_is_not_started,
        an_unknown_vp_is_not_started,
        any_vp_is_not_started,
        a_vp_of_an_unknown_partition_is_not_started,
        a_vp_is_not_started_in_an_unknown_vtl;
    "HvCallStartVirtualProcessor", "HvCallStartVirtualProcessor":
        a_stopped_vp_starts,
        a_vp_can_be_started_again_and_again,
        a_vp_that_was_started_has_its_index,
        a_starting_vp_is_not_started_again,
        the_last_vp_can_be_restarted;
}

/// Returns a context for calls that must be refused.
fn no_context(cx: &Cx<'_>) -> InitialVpContext {
    InitialVpContext {
        pc: cx.env.page(0),
        sp_elh: 0,
        sctlr_el1: 0x30d0_0800,
        mair_el1: 0,
        tcr_el1: 0,
        vbar_el1: 0,
        ttbr0_el1: 0,
        ttbr1_el1: 0,
        x18: 0,
    }
}

fn a_running_vp_is_not_started(cx: &Cx<'_>) -> Outcome {
    need_start(cx)?;
    let other = cx.other()?;
    let status = start(cx, PARTITION_ID_SELF, cx.index(other), 0, no_context(cx))?;
    check_eq!(status, HvStatus::INVALID_VP_STATE);
    check!(cx.on(other, |cx| cx.get(RegisterName::VP_INDEX).is_ok()));
    Ok(())
}

fn the_caller_is_not_started(cx: &Cx<'_>) -> Outcome {
    need_start(cx)?;
    for index in [cx.index(0), hv_tlfs::vp::VP_INDEX_SELF] {
        let status = start(cx, PARTITION_ID_SELF, index, 0, no_context(cx))?;
        check!(status == HvStatus::INVALID_VP_STATE || status == HvStatus::INVALID_VP_INDEX);
    }
    Ok(())
}

fn an_unknown_vp_is_not_started(cx: &Cx<'_>) -> Outcome {
    need_start(cx)?;
    for index in [0xffff, 0x7fff_ffff] {
        let status = start(cx, PARTITION_ID_SELF, index, 0, no_context(cx))?;
        check_eq!(status, HvStatus::INVALID_VP_INDEX);
    }
    Ok(())
}

fn any_vp_is_not_started(cx: &Cx<'_>) -> Outcome {
    need_start(cx)?;
    let status = start(cx, PARTITION_ID_SELF, ANY_VP, 0, no_context(cx))?;
    check_eq!(status, HvStatus::INVALID_VP_INDEX);
    Ok(())
}

fn a_vp_of_an_unknown_partition_is_not_started(cx: &Cx<'_>) -> Outcome {
    need_start(cx)?;
    let status = start(cx, 0x7e57_7e57, cx.index(0), 0, no_context(cx))?;
    check_eq!(status, HvStatus::INVALID_PARTITION_ID);
    Ok(())
}

fn a_vp_is_not_started_in_an_unknown_vtl(cx: &Cx<'_>) -> Outcome {
    need_start(cx)?;
    skip_if!(cx.facts.features.privileges.access_vsm(), "the partition has VTLs");
    let other = cx.other()?;
    stop(cx, other)?;
    let status = start(cx, PARTITION_ID_SELF, cx.index(other), 1, no_context(cx))?;
    let back = restart(cx, other);
    check!(status != HvStatus::SUCCESS);
    back
}

fn a_stopped_vp_starts(cx: &Cx<'_>) -> Outcome {
    need_start(cx)?;
    let other = cx.other()?;
    cycle(cx, other)?;
    check!(cx.on(other, |cx| cx.get(RegisterName::GUEST_OS_ID).is_ok()));
    Ok(())
}

fn a_vp_can_be_started_again_and_again(cx: &Cx<'_>) -> Outcome {
    need_start(cx)?;
    let other = cx.other()?;
    for _ in 0..5 {
        cycle(cx, other)?;
    }
    Ok(())
}

fn a_vp_that_was_started_has_its_index(cx: &Cx<'_>) -> Outcome {
    need_start(cx)?;
    need_index(cx)?;
    let other = cx.other()?;
    cycle(cx, other)?;
    check!(cx.on(other, |cx| cx.get(RegisterName::VP_INDEX).ok()) == Some(cx.index(other).into()));
    Ok(())
}

fn a_starting_vp_is_not_started_again(cx: &Cx<'_>) -> Outcome {
    need_start(cx)?;
    let other = cx.other()?;
    let context = cx.env.start_context(other);
    skip_if!(context.is_none(), "the environment has no context for a start by hypercall");
    stop(cx, other)?;
    restart(cx, other)?;
    // It starts, or runs already: both are the wrong state.
    let status = start(cx, PARTITION_ID_SELF, cx.index(other), 0, no_context(cx))?;
    check_eq!(status, HvStatus::INVALID_VP_STATE);
    Ok(())
}

fn the_last_vp_can_be_restarted(cx: &Cx<'_>) -> Outcome {
    need_start(cx)?;
    cx.other()?;
    let last = cx.env.vp_count() - 1;
    cycle(cx, last)?;
    check!(cx.on(last, |cx| cx.get(RegisterName::VP_INDEX).ok()) == Some(cx.index(last).into()));
    Ok(())
}
