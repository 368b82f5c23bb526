//! VP indices, starting VPs, and what a start resets.

use hv_tlfs::hypercall::{HypercallCode, HypercallOutput};
use hv_tlfs::page::SIZE;
use hv_tlfs::psci;
use hv_tlfs::register::RegisterName;
use hv_tlfs::start_vp::{InitialVpContext, StartVpInput};
use hv_tlfs::status::HvStatus;
use hv_tlfs::vp::{ANY_VP, PARTITION_ID_SELF, PartitionId, VpIndex};

use crate::cx::{Cx, rep, simple};
use crate::facts::VpFacts;
use crate::loopback::{MESSAGE_SINT, MESSAGE_TO_VP1};
use crate::outcome::{Outcome, Stop, fail};

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
    "Inter-Partition Communication", "SynIC Registers (reset values)":
        a_restarted_vp_has_a_fresh_synic,
        a_restarted_vp_has_fresh_timers,
        a_timer_of_a_stopped_vp_does_not_expire,
        a_restarted_vp_has_empty_message_queues,
        a_stopped_vp_gives_its_message_buffers_back,
        a_restart_leaves_the_partitions_registers,
        a_restart_leaves_other_vps_alone;
    "Arm Power State Coordination Interface (DEN0022)", "CPU_ON":
        a_running_vp_is_already_on,
        an_mpidr_without_vp_is_refused,
        a_stopped_vp_starts_by_psci;
    "Virtual Processors", "Virtual Processor Assist Page":
        the_assist_page_register_reads_as_written;
}

const ALREADY_ON: u64 = -4i64 as u64;
const INVALID_PARAMETERS: u64 = -2i64 as u64;
const CPU_ON: u32 = psci::CPU_ON | psci::SMC64;

/// Affinity fields of MPIDR_EL1.
const AFFINITY: u64 = 0xff_00ff_ffff;
/// An affinity that no VP has.
const NOBODY: u64 = 0xee_00dd_ccbb;

pub(super) fn need_index(cx: &Cx<'_>) -> Outcome {
    skip_if!(!cx.facts.features.privileges.access_vp_index(), "the partition may not read VP indices");
    Ok(())
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
        // As the register reads, with bits that are no affinity; and the affinity alone.
        for mpidr in [cx.env.mpidr(vp), cx.env.mpidr(vp) & AFFINITY] {
            let (result, output) = indices(cx, OWN, &[mpidr])?;
            check_eq!(result.status(), HvStatus::SUCCESS);
            check_eq!(result.reps_completed(), 1);
            check_eq!(cx.read::<u32>(output), cx.index(vp));
        }
    }
    Ok(())
}

/// MPIDRs of up to eight VPs, the last one first.
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
    let (result, _) = indices(cx, OWN, &[NOBODY])?;
    check!(result.status() != HvStatus::SUCCESS);
    check_eq!(result.reps_completed(), 0);
    Ok(())
}

fn an_error_in_the_list_stops_there(cx: &Cx<'_>) -> Outcome {
    need_index(cx)?;
    let mpidr = cx.env.mpidr(0) & AFFINITY;
    let (result, output) = indices(cx, OWN, &[mpidr, mpidr, NOBODY, mpidr])?;
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

pub(super) fn need_start(cx: &Cx<'_>) -> Outcome {
    skip_if!(!cx.facts.features.privileges.start_virtual_processor(), "the partition may not start VPs");
    Ok(())
}

/// HvCallStartVirtualProcessor in memory form.
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

/// A context for calls that must be refused.
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

fn a_restarted_vp_has_a_fresh_synic(cx: &Cx<'_>) -> Outcome {
    need_start(cx)?;
    let other = cx.other()?;
    cx.synic_on(other, &[2, 5, 15])?;
    cycle(cx, other)?;
    let fresh = cx.on(other, VpFacts::read);
    check_eq!(fresh.control, Ok(0));
    check_eq!(fresh.message_page, Ok(0));
    check_eq!(fresh.event_page, Ok(0));
    for sint in fresh.sints {
        check_eq!(sint, Ok(0x1_0000));
    }
    Ok(())
}

fn need_timers(cx: &Cx<'_>) -> Outcome {
    skip_if!(
        !cx.facts.features.privileges.access_synthetic_timers(),
        "the partition has no synthetic timers"
    );
    Ok(())
}

fn a_restarted_vp_has_fresh_timers(cx: &Cx<'_>) -> Outcome {
    need_start(cx)?;
    need_timers(cx)?;
    let other = cx.other()?;
    cx.check_on(other, |cx| {
        let far = cx.now()? + 864_000_000_000;
        for n in 0..4 {
            cx.write_register(RegisterName::stimer_count(n), far)?;
            cx.write_register(RegisterName::stimer_config(n), 0x3_0001)?;
        }
        Ok(())
    })?;
    cycle(cx, other)?;
    let fresh = cx.on(other, VpFacts::read);
    for [config, count] in fresh.timers {
        check_eq!(config, Ok(0));
        check_eq!(count, Ok(0));
    }
    Ok(())
}

fn a_timer_of_a_stopped_vp_does_not_expire(cx: &Cx<'_>) -> Outcome {
    need_start(cx)?;
    need_timers(cx)?;
    let other = cx.other()?;
    let done = cx.attempts(100_000, |span| {
        let synic = cx.synic_on(other, &[4])?;
        let due = cx.now()? + span;
        cx.check_on(other, |cx| {
            cx.write_register(RegisterName::STIMER0_COUNT, due)?;
            cx.write_register(RegisterName::STIMER0_CONFIG, 0x4_0001)
        })?;
        stop(cx, other)?;
        let in_time = cx.now()? < due;
        restart(cx, other)?;
        // The same page again, and time enough.
        cx.check_on(other, |cx| {
            cx.write_register(RegisterName::SIMP, synic.messages | 1)?;
            cx.write_register(RegisterName::SCONTROL, 1)?;
            cx.pause(2 * span);
            Ok(())
        })?;
        check!(!in_time || cx.slot_type(&synic, 4) == 0);
        Ok(in_time)
    })?;
    skip_if!(!done, "this machine is too slow to stop a VP in time");
    Ok(())
}

fn a_restarted_vp_has_empty_message_queues(cx: &Cx<'_>) -> Outcome {
    need_start(cx)?;
    cx.need_messages()?;
    let other = cx.other()?;
    let synic = cx.synic_on(other, &[MESSAGE_SINT])?;
    for n in 1..=5 {
        cx.posted(MESSAGE_TO_VP1, n, &[])?;
    }
    cycle(cx, other)?;
    cx.fill(synic.messages, 0);
    cx.check_on(other, |cx| {
        cx.write_register(RegisterName::SIMP, synic.messages | 1)?;
        cx.write_register(RegisterName::SCONTROL, 1)?;
        cx.eom()
    })?;
    check_eq!(cx.slot_type(&synic, MESSAGE_SINT), 0);
    Ok(())
}

fn a_stopped_vp_gives_its_message_buffers_back(cx: &Cx<'_>) -> Outcome {
    need_start(cx)?;
    cx.need_messages()?;
    let other = cx.other()?;
    for _ in 0..2 {
        cx.synic_on(other, &[MESSAGE_SINT])?;
        for n in 1..=17 {
            cx.posted(MESSAGE_TO_VP1, n, &[])?;
        }
        check_eq!(cx.post(MESSAGE_TO_VP1, 18, &[])?, HvStatus::INSUFFICIENT_BUFFERS);
        cycle(cx, other)?;
    }
    Ok(())
}

fn a_restart_leaves_the_partitions_registers(cx: &Cx<'_>) -> Outcome {
    need_start(cx)?;
    let other = cx.other()?;
    let crash = cx.facts.features.c.guest_crash();
    if crash {
        cx.write_register(RegisterName::GUEST_CRASH_P1, 0x5555)?;
    }
    cycle(cx, other)?;
    check_eq!(cx.get(RegisterName::GUEST_OS_ID), Ok(crate::suite::GUEST_ID));
    if crash {
        check_eq!(cx.get(RegisterName::GUEST_CRASH_P1), Ok(0x5555));
    }
    Ok(())
}

fn a_restart_leaves_other_vps_alone(cx: &Cx<'_>) -> Outcome {
    need_start(cx)?;
    let other = cx.other()?;
    let synic = cx.synic(&[3])?;
    cycle(cx, other)?;
    check_eq!(cx.get(RegisterName::SIMP), Ok(synic.messages | 1));
    check_eq!(cx.get(RegisterName::SIEFP), Ok(synic.events | 1));
    check_eq!(cx.get(RegisterName::SINT3), Ok(synic.intid.into()));
    check_eq!(cx.get(RegisterName::SCONTROL), Ok(1));
    Ok(())
}

fn cpu_on(cx: &Cx<'_>, mpidr: u64) -> u64 {
    cx.env.conduit().smccc(CPU_ON, [mpidr, cx.env.page(0), 0])[0]
}

fn a_running_vp_is_already_on(cx: &Cx<'_>) -> Outcome {
    for vp in 0..cx.env.vp_count() {
        check_eq!(cpu_on(cx, cx.env.mpidr(vp) & AFFINITY), ALREADY_ON);
    }
    Ok(())
}

fn an_mpidr_without_vp_is_refused(cx: &Cx<'_>) -> Outcome {
    check_eq!(cpu_on(cx, NOBODY), INVALID_PARAMETERS);
    Ok(())
}

fn a_stopped_vp_starts_by_psci(cx: &Cx<'_>) -> Outcome {
    let other = cx.other()?;
    stop(cx, other)?;
    check!(cx.env.start(other));
    check!(cx.env.wait_online(other));
    check_eq!(cpu_on(cx, cx.env.mpidr(other) & AFFINITY), ALREADY_ON);
    Ok(())
}

fn the_assist_page_register_reads_as_written(cx: &Cx<'_>) -> Outcome {
    let offered = cx.facts.features.privileges.access_interrupt_control();
    skip_if!(!offered, "the partition has no VP assist page");
    let before = cx.read_register(RegisterName::VP_ASSIST_PAGE)?;
    let page = cx.page()?;
    check_eq!(page % SIZE as u64, 0);
    cx.write_and_read(RegisterName::VP_ASSIST_PAGE, page | 1)?;
    cx.write_and_read(RegisterName::VP_ASSIST_PAGE, before)
}
