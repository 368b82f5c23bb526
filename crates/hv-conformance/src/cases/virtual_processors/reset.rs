//! What a start resets, and what it leaves.

use hv_tlfs::register::RegisterName;
use hv_tlfs::status::HvStatus;
use hv_tlfs::time::ReferenceTime;

use super::{cycle, need_start, restart, stop};
use crate::cx::Cx;
use crate::facts::VpFacts;
use crate::loopback::{MESSAGE_SINT, MESSAGE_TO_VP1};
use crate::outcome::Outcome;

cases! {
    "virtual_processors";
    "Inter-Partition Communication", "SynIC Registers (reset values)":
        a_restarted_vp_has_a_fresh_synic,
        a_restarted_vp_has_fresh_timers,
        a_timer_of_a_stopped_vp_does_not_expire,
        a_restarted_vp_has_empty_message_queues,
        a_stopped_vp_gives_its_message_buffers_back,
        a_restart_leaves_the_partitions_registers,
        a_restart_leaves_other_vps_alone;
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
    let done = cx.attempts(ReferenceTime(100_000), |span| {
        let span = span.ticks();
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
            cx.pause(ReferenceTime(2 * span));
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
    check_eq!(cx.get(RegisterName::GUEST_OS_ID), Ok(crate::facts::GUEST_ID));
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
