//! VP indices: the register, and HvCallGetVpIndexFromApicId.

use hv_tlfs::hypercall::{HypercallCode, HypercallOutput};
use hv_tlfs::register::RegisterName;
use hv_tlfs::status::HvStatus;
use hv_tlfs::vp::PARTITION_ID_SELF;

use super::{AFFINITY, UNKNOWN_MPIDR, need_index};
use crate::cx::{Cx, rep};
use crate::outcome::{Outcome, Stop};

cases! {
    "virtual_processors";
    "Virtual Processors", "Virtual Processor Indices":
        vp_indices_differ,
        a_vp_index_does_not_change,
        vp_indices_are_below_the_special_values;
    "HvCallGetVpIndexFromApicId", "Input List Element":
        the_index_is_found_by_mpidr,
        all_indices_are_found_by_one_call,
        the_order_of_the_list_is_kept,
        an_index_list_in_registers_does_the_same,
        an_unknown_mpidr_is_refused,
        an_error_in_the_list_stops_there,
        the_padding_of_an_index_is_zero;
    "HvCallGetVpIndexFromApicId", "Return Values":
        the_index_in_an_unknown_partition_is_refused,
        the_index_in_another_vtl_is_refused;
}

fn vp_indices_differ(cx: &Cx<'_>) -> Outcome {
    need_index(cx)?;
    for vp in 0..cx.env.vp_count() {
        for other in 0..vp {
            check!(cx.index(vp) != cx.index(other));
        }
    }
    Ok(())
}

fn a_vp_index_does_not_change(cx: &Cx<'_>) -> Outcome {
    need_index(cx)?;
    for vp in 1..cx.env.vp_count() {
        let index = cx.on(vp, |cx| cx.get(RegisterName::VP_INDEX).ok());
        check!(index == Some(cx.index(vp).into()));
    }
    check_eq!(cx.get(RegisterName::VP_INDEX), Ok(cx.index(0).into()));
    Ok(())
}

fn vp_indices_are_below_the_special_values(cx: &Cx<'_>) -> Outcome {
    need_index(cx)?;
    for vp in 0..cx.env.vp_count() {
        check!(cx.index(vp) < 4096);
    }
    Ok(())
}

/// Asks for VP indices by MPIDR in memory form; the output's page.
fn indices(cx: &Cx<'_>, header: [u64; 2], mpidrs: &[u64]) -> Result<(HypercallOutput, u64), Stop> {
    let (input, output) = (cx.page()?, cx.page()?);
    cx.write(input, &header);
    cx.write(input + 16, mpidrs);
    cx.fill(output, 0xff);
    let control = rep(HypercallCode::GET_VP_ID_FROM_APIC_ID, mpidrs.len() as u16);
    Ok((cx.memory(control, input, output), output))
}

const OWN: [u64; 2] = [PARTITION_ID_SELF, 0];

fn the_index_is_found_by_mpidr(cx: &Cx<'_>) -> Outcome {
    need_index(cx)?;
    for vp in 0..cx.env.vp_count() {
        // As the register reads, with bits that are not affinity; and the affinity alone.
        for mpidr in [cx.env.mpidr(vp), cx.env.mpidr(vp) & AFFINITY] {
            let (result, output) = indices(cx, OWN, &[mpidr])?;
            check_eq!(result.status(), HvStatus::SUCCESS);
            check_eq!(result.reps_completed(), 1);
            check_eq!(cx.read::<u32>(output), cx.index(vp));
        }
    }
    Ok(())
}

/// Returns the MPIDRs of up to eight VPs, the last one first.
fn backwards(cx: &Cx<'_>) -> ([u64; 8], usize) {
    let count = cx.env.vp_count().min(8);
    let list = core::array::from_fn(|n| if n < count { cx.env.mpidr(count - 1 - n) & AFFINITY } else { 0 });
    (list, count)
}

fn all_indices_are_found_by_one_call(cx: &Cx<'_>) -> Outcome {
    need_index(cx)?;
    let (list, count) = backwards(cx);
    let (result, output) = indices(cx, OWN, &list[..count])?;
    check_eq!(result.status(), HvStatus::SUCCESS);
    check_eq!(result.reps_completed(), count as u16);
    for vp in 0..count {
        check_eq!(cx.read::<u32>(output + (count - 1 - vp) as u64 * 8), cx.index(vp));
    }
    Ok(())
}

fn the_order_of_the_list_is_kept(cx: &Cx<'_>) -> Outcome {
    need_index(cx)?;
    let other = cx.other()?;
    let (a, b) = (cx.env.mpidr(0) & AFFINITY, cx.env.mpidr(other) & AFFINITY);
    let (result, output) = indices(cx, OWN, &[b, a, b, b])?;
    check_eq!(result.reps_completed(), 4);
    for (n, vp) in (0..).zip([other, 0, other, other]) {
        check_eq!(cx.read::<u32>(output + n * 8), cx.index(vp));
    }
    Ok(())
}

fn an_index_list_in_registers_does_the_same(cx: &Cx<'_>) -> Outcome {
    need_index(cx)?;
    let mpidr = cx.env.mpidr(0) & AFFINITY;
    let (result, block) = cx.fast(rep(HypercallCode::GET_VP_ID_FROM_APIC_ID, 1), &[OWN[0], OWN[1], mpidr]);
    check_eq!(result.status(), HvStatus::SUCCESS);
    // 24 bytes of input, rounded up to 32; 8 of output, rounded up to 16.
    let first = match cx.env.convention() {
        crate::env::Convention::Smccc => 4,
        crate::env::Convention::Hvc1 => 14,
    };
    check_eq!(block[first] as u32, cx.index(0));
    Ok(())
}

fn an_unknown_mpidr_is_refused(cx: &Cx<'_>) -> Outcome {
    let (result, _) = indices(cx, OWN, &[UNKNOWN_MPIDR])?;
    check!(result.status() != HvStatus::SUCCESS);
    check_eq!(result.reps_completed(), 0);
    Ok(())
}

fn an_error_in_the_list_stops_there(cx: &Cx<'_>) -> Outcome {
    need_index(cx)?;
    let mpidr = cx.env.mpidr(0) & AFFINITY;
    let (result, output) = indices(cx, OWN, &[mpidr, mpidr, UNKNOWN_MPIDR, mpidr])?;
    check!(result.status() != HvStatus::SUCCESS);
    check_eq!(result.reps_completed(), 2);
    check_eq!(cx.read::<u32>(output + 8), cx.index(0));
    Ok(())
}

fn the_padding_of_an_index_is_zero(cx: &Cx<'_>) -> Outcome {
    let (result, output) = indices(cx, OWN, &[cx.env.mpidr(0) & AFFINITY])?;
    check_eq!(result.status(), HvStatus::SUCCESS);
    // It may be left alone; where it is written, it is zero.
    let padding = cx.read::<u32>(output + 4);
    check!(padding == 0 || padding == u32::MAX);
    check_eq!(cx.read::<u64>(output + 8), u64::MAX);
    Ok(())
}

fn the_index_in_an_unknown_partition_is_refused(cx: &Cx<'_>) -> Outcome {
    let (result, _) = indices(cx, [0x7e57_7e57, 0], &[cx.env.mpidr(0) & AFFINITY])?;
    check_eq!(result.status(), HvStatus::INVALID_PARTITION_ID);
    check_eq!(result.reps_completed(), 0);
    Ok(())
}

fn the_index_in_another_vtl_is_refused(cx: &Cx<'_>) -> Outcome {
    skip_if!(cx.facts.features.privileges.access_vsm(), "the partition has VTLs");
    let (result, _) = indices(cx, [PARTITION_ID_SELF, 0x11], &[cx.env.mpidr(0) & AFFINITY])?;
    check!(result.status() != HvStatus::SUCCESS);
    Ok(())
}
