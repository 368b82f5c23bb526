//! One-shot and periodic timers, by message and direct.

use hv_tlfs::time::ReferenceTime;
use hv_tlfs::timer::StimerConfig;

use super::registers::{config, count, far, need};
use crate::cx::{Cx, Synic};
use crate::outcome::{Outcome, Stop};

cases! {
    "timers";
    "Timers", "Synthetic Timers":
        a_one_shot_timer_expires,
        a_one_shot_timer_is_never_early,
        a_one_shot_timer_expires_once,
        a_short_timer_is_never_early,
        timers_run_side_by_side,
        a_timer_can_be_used_again;
    "Timers", "Synthetic Timer Configuration Register":
        a_one_shot_timer_is_disabled_when_it_expires,
        a_periodic_timer_stays_enabled,
        a_one_shot_count_in_the_past_expires_immediately,
        a_disabled_timer_does_not_expire,
        an_auto_enabled_timer_expires,
        an_auto_enabled_timer_can_be_set_again_by_its_count;
    "Timers", "Synthetic Timer Count Register":
        a_one_shot_count_is_a_time_and_no_span,
        a_zero_count_stops_a_running_timer,
        a_zero_count_never_expires,
        a_new_count_replaces_the_old_one;
    "Timers", "Periodic Timers":
        a_periodic_timer_goes_on,
        a_periodic_timer_is_never_early,
        a_periodic_timer_keeps_its_rate,
        the_first_period_begins_when_the_timer_is_enabled,
        a_periodic_timer_stops_when_it_is_disabled,
        a_lazy_timer_expires,
        a_short_period_leaves_the_guest_running;
    "Timers", "Direct Synthetic Timers":
        a_direct_timer_raises_its_interrupt,
        a_direct_timer_is_never_early,
        a_direct_timer_sends_no_message,
        a_direct_timer_needs_no_synic,
        a_direct_timer_in_the_past_expires_immediately,
        a_direct_periodic_timer_goes_on,
        a_direct_one_shot_timer_is_disabled_when_it_expires,
        a_stopped_direct_timer_does_not_expire;
}

const SINT: u8 = 9;

const SLOW: &str = "this machine is too slow to stop a timer in time";

const ONE_SHOT: StimerConfig = StimerConfig(1).with_sint(SINT);
const PERIODIC: StimerConfig = ONE_SHOT.with_periodic(true);
const AUTO: StimerConfig = StimerConfig(0).with_sint(SINT).with_auto_enable(true);

/// Returns a SynIC for timers that send messages.
fn ready(cx: &Cx<'_>) -> Result<Synic, Stop> {
    need(cx)?;
    cx.synic(&[SINT])
}

fn start(cx: &Cx<'_>, n: u8, value: u64, mode: StimerConfig) -> Outcome {
    cx.write_register(config(n), 0)?;
    cx.write_register(count(n), value)?;
    cx.write_register(config(n), mode.0)
}

/// Waits for the next message, and takes it; the reference time after it.
fn next(cx: &Cx<'_>, synic: &Synic) -> Result<u64, Stop> {
    cx.soon("the timer expires", || cx.slot_type(synic, SINT) != 0)?;
    let now = cx.now()?;
    cx.take(synic, SINT)?;
    Ok(now)
}

/// Checks that no message comes for a span of 100 ns.
fn nothing(cx: &Cx<'_>, synic: &Synic, span: u64) -> Outcome {
    check!(!cx.wait_for(ReferenceTime(span), || cx.slot_type(synic, SINT) != 0));
    Ok(())
}

/// Drops what a timer has sent or is about to send, and stops timer 0.
fn clear(cx: &Cx<'_>, synic: &Synic) -> Outcome {
    cx.write_register(config(0), 0)?;
    while cx.wait_for(ReferenceTime(2_000), || cx.slot_type(synic, SINT) != 0) {
        cx.take(synic, SINT)?;
    }
    Ok(())
}

/// Starts timer 0, stops it by `stop` before it is due, and checks that it does not expire.
fn stopped(cx: &Cx<'_>, synic: &Synic, mode: StimerConfig, stop: impl Fn(&Cx<'_>) -> Outcome) -> Outcome {
    let done = cx.attempts(ReferenceTime(20_000), |span| {
        let span = span.ticks();
        let due = cx.now()? + span;
        start(cx, 0, if mode.periodic() { span } else { due }, mode)?;
        stop(cx)?;
        if cx.now()? >= due {
            clear(cx, synic)?;
            return Ok(false);
        }
        nothing(cx, synic, 2 * span)?;
        Ok(true)
    })?;
    skip_if!(!done, SLOW);
    Ok(())
}

fn a_one_shot_timer_expires(cx: &Cx<'_>) -> Outcome {
    let synic = ready(cx)?;
    let due = cx.now()? + 10_000;
    cx.one_interrupt(synic.intid, || start(cx, 0, due, ONE_SHOT))?;
    next(cx, &synic)?;
    Ok(())
}

fn a_one_shot_timer_is_never_early(cx: &Cx<'_>) -> Outcome {
    let synic = ready(cx)?;
    for n in 0..20 {
        let due = cx.now()? + 2_000 + n * 317;
        start(cx, 0, due, ONE_SHOT)?;
        check!(next(cx, &synic)? >= due);
    }
    Ok(())
}

fn a_one_shot_timer_expires_once(cx: &Cx<'_>) -> Outcome {
    let synic = ready(cx)?;
    start(cx, 0, cx.now()? + 5_000, ONE_SHOT)?;
    next(cx, &synic)?;
    nothing(cx, &synic, 30_000)
}

fn a_short_timer_is_never_early(cx: &Cx<'_>) -> Outcome {
    let synic = ready(cx)?;
    for span in [0, 1, 2, 5, 10, 50, 100] {
        let due = cx.now()? + span;
        start(cx, 0, due, ONE_SHOT)?;
        check!(next(cx, &synic)? >= due);
    }
    Ok(())
}

fn timers_run_side_by_side(cx: &Cx<'_>) -> Outcome {
    need(cx)?;
    let synic = cx.synic(&[SINT, SINT + 1, SINT + 2, SINT + 3])?;
    let begin = cx.now()? + 2_000;
    for n in 0..4 {
        // The last to be set is the first to be due.
        let due = begin + (3 - u64::from(n)) * 4_000;
        start(cx, n, due, StimerConfig(1).with_sint(SINT + n))?;
    }
    for n in (0..4).rev() {
        cx.soon("the timer expires", || cx.slot_type(&synic, SINT + n) != 0)?;
        check!(cx.now()? >= begin + (3 - u64::from(n)) * 4_000);
    }
    Ok(())
}

fn a_timer_can_be_used_again(cx: &Cx<'_>) -> Outcome {
    let synic = ready(cx)?;
    for _ in 0..10 {
        start(cx, 3, cx.now()? + 1_000, ONE_SHOT)?;
        next(cx, &synic)?;
    }
    Ok(())
}

fn a_one_shot_timer_is_disabled_when_it_expires(cx: &Cx<'_>) -> Outcome {
    let synic = ready(cx)?;
    start(cx, 0, cx.now()? + 3_000, ONE_SHOT)?;
    next(cx, &synic)?;
    check_eq!(cx.get(config(0)), Ok(ONE_SHOT.with_enable(false).0));
    Ok(())
}

fn a_periodic_timer_stays_enabled(cx: &Cx<'_>) -> Outcome {
    let synic = ready(cx)?;
    start(cx, 0, 10_000, PERIODIC)?;
    for _ in 0..2 {
        next(cx, &synic)?;
        check_eq!(cx.get(config(0)), Ok(PERIODIC.0));
    }
    Ok(())
}

fn a_one_shot_count_in_the_past_expires_immediately(cx: &Cx<'_>) -> Outcome {
    let synic = ready(cx)?;
    for due in [1, cx.now()?] {
        start(cx, 0, due, ONE_SHOT)?;
        next(cx, &synic)?;
        check!(!StimerConfig(cx.read_register(config(0))?).enable());
    }
    Ok(())
}

fn a_disabled_timer_does_not_expire(cx: &Cx<'_>) -> Outcome {
    let synic = ready(cx)?;
    stopped(cx, &synic, ONE_SHOT, |cx| cx.write_register(config(0), ONE_SHOT.with_enable(false).0))?;
    start(cx, 1, 1, ONE_SHOT.with_enable(false))?;
    nothing(cx, &synic, 5_000)
}

fn an_auto_enabled_timer_expires(cx: &Cx<'_>) -> Outcome {
    let synic = ready(cx)?;
    cx.write_register(config(0), AUTO.0)?;
    let due = cx.now()? + 3_000;
    cx.write_register(count(0), due)?;
    check!(next(cx, &synic)? >= due);
    Ok(())
}

fn an_auto_enabled_timer_can_be_set_again_by_its_count(cx: &Cx<'_>) -> Outcome {
    let synic = ready(cx)?;
    cx.write_register(config(0), AUTO.0)?;
    for _ in 0..5 {
        let due = cx.now()? + 2_000;
        cx.write_register(count(0), due)?;
        check!(next(cx, &synic)? >= due);
        check_eq!(cx.get(config(0)), Ok(AUTO.0));
    }
    Ok(())
}

fn a_one_shot_count_is_a_time_and_no_span(cx: &Cx<'_>) -> Outcome {
    let synic = ready(cx)?;
    // As a span this would be longer than any case waits for; as a time it is soon.
    cx.pause(ReferenceTime(20_000));
    let due = cx.now()? + 1_000;
    start(cx, 0, due, ONE_SHOT)?;
    let after = next(cx, &synic)?;
    check!(after >= due);
    start(cx, 0, far(cx)?, ONE_SHOT)?;
    nothing(cx, &synic, 20_000)
}

fn a_zero_count_stops_a_running_timer(cx: &Cx<'_>) -> Outcome {
    let synic = ready(cx)?;
    for mode in [ONE_SHOT, PERIODIC, ONE_SHOT.with_auto_enable(true)] {
        stopped(cx, &synic, mode, |cx| cx.write_register(count(0), 0))?;
    }
    Ok(())
}

fn a_zero_count_never_expires(cx: &Cx<'_>) -> Outcome {
    let synic = ready(cx)?;
    start(cx, 0, 0, ONE_SHOT)?;
    start(cx, 1, 0, PERIODIC)?;
    nothing(cx, &synic, 10_000)
}

fn a_new_count_replaces_the_old_one(cx: &Cx<'_>) -> Outcome {
    let synic = ready(cx)?;
    let done = cx.attempts(ReferenceTime(10_000), |span| {
        let span = span.ticks();
        // Each time: `clear` stops the timer for good.
        cx.write_register(config(0), AUTO.0)?;
        let now = cx.now()?;
        cx.write_register(count(0), now + span)?;
        cx.write_register(count(0), now + 2 * span)?;
        if cx.now()? >= now + span {
            // The first one was due before it was replaced.
            clear(cx, &synic)?;
            return Ok(false);
        }
        check!(next(cx, &synic)? >= now + 2 * span);
        nothing(cx, &synic, span)?;
        Ok(true)
    })?;
    skip_if!(!done, SLOW);
    Ok(())
}

fn a_periodic_timer_goes_on(cx: &Cx<'_>) -> Outcome {
    let synic = ready(cx)?;
    start(cx, 0, 5_000, PERIODIC)?;
    for _ in 0..10 {
        next(cx, &synic)?;
    }
    Ok(())
}

fn a_periodic_timer_is_never_early(cx: &Cx<'_>) -> Outcome {
    let synic = ready(cx)?;
    let begin = cx.now()?;
    start(cx, 0, 10_000, PERIODIC)?;
    for n in 1..=8 {
        check!(next(cx, &synic)? >= begin + n * 10_000);
    }
    Ok(())
}

fn a_periodic_timer_keeps_its_rate(cx: &Cx<'_>) -> Outcome {
    let synic = ready(cx)?;
    // Late by a period or two at most, and not by one each time.
    let done = cx.attempts(ReferenceTime(50_000), |period| {
        let period = period.ticks();
        let begin = cx.now()?;
        start(cx, 0, period, PERIODIC)?;
        let mut last = begin;
        for _ in 0..5 {
            last = next(cx, &synic)?;
        }
        clear(cx, &synic)?;
        check!(last >= begin + 5 * period);
        Ok(last <= begin + 7 * period)
    })?;
    check!(done);
    Ok(())
}

fn the_first_period_begins_when_the_timer_is_enabled(cx: &Cx<'_>) -> Outcome {
    let synic = ready(cx)?;
    cx.write_register(count(0), 30_000)?;
    cx.pause(ReferenceTime(50_000));
    let begin = cx.now()?;
    cx.write_register(config(0), PERIODIC.0)?;
    check!(next(cx, &synic)? >= begin + 30_000);
    Ok(())
}

fn a_periodic_timer_stops_when_it_is_disabled(cx: &Cx<'_>) -> Outcome {
    let synic = ready(cx)?;
    start(cx, 0, 10_000, PERIODIC)?;
    next(cx, &synic)?;
    cx.write_register(config(0), 0)?;
    // Two may have been on their way: one in the slot, and one that waits for it.
    for _ in 0..2 {
        if cx.wait_for(ReferenceTime(2_000), || cx.slot_type(&synic, SINT) != 0) {
            cx.take(&synic, SINT)?;
        }
    }
    nothing(cx, &synic, 50_000)
}

fn a_lazy_timer_expires(cx: &Cx<'_>) -> Outcome {
    let synic = ready(cx)?;
    let begin = cx.now()?;
    start(cx, 0, 20_000, PERIODIC.with_lazy(true))?;
    check!(next(cx, &synic)? >= begin + 20_000);
    check!(next(cx, &synic)? >= begin + 40_000);
    Ok(())
}

fn a_short_period_leaves_the_guest_running(cx: &Cx<'_>) -> Outcome {
    let synic = ready(cx)?;
    for period in [1, 10, 100] {
        start(cx, 0, period, PERIODIC)?;
        for _ in 0..3 {
            next(cx, &synic)?;
        }
        cx.write_register(config(0), 0)?;
        cx.drain(synic.messages);
        cx.write_register(hv_tlfs::register::RegisterName::SIMP, synic.messages | 1)?;
        cx.write_register(hv_tlfs::register::RegisterName::SCONTROL, 1)?;
    }
    Ok(())
}

/// Returns the interrupt for a direct timer, and the timer's mode. Skips without direct timers.
fn direct(cx: &Cx<'_>) -> Result<(u32, StimerConfig), Stop> {
    need(cx)?;
    skip_if!(!cx.facts.features.c.direct_synthetic_timers(), "no direct timers");
    let intid = cx.env.intids().get(1).copied().unwrap_or(cx.intid());
    cx.env.listen(intid);
    Ok((intid, StimerConfig(1).with_direct_mode(true).with_vector(intid as u8)))
}

fn a_direct_timer_raises_its_interrupt(cx: &Cx<'_>) -> Outcome {
    let (intid, mode) = direct(cx)?;
    for n in 0..4 {
        cx.one_interrupt(intid, || start(cx, n, cx.now()? + 5_000, mode))?;
    }
    Ok(())
}

fn a_direct_timer_is_never_early(cx: &Cx<'_>) -> Outcome {
    let (intid, mode) = direct(cx)?;
    for n in 0..20 {
        let before = cx.env.taken(intid);
        let due = cx.now()? + 2_000 + n * 317;
        start(cx, 0, due, mode)?;
        cx.soon("the timer expires", || cx.env.taken(intid) != before)?;
        check!(cx.now()? >= due);
    }
    Ok(())
}

fn a_direct_timer_sends_no_message(cx: &Cx<'_>) -> Outcome {
    let (intid, mode) = direct(cx)?;
    let synic = cx.synic(&[SINT])?;
    cx.one_interrupt(intid, || start(cx, 0, 1, mode.with_sint(SINT)))?;
    check_eq!(cx.slot_type(&synic, SINT), 0);
    check_eq!(cx.slot_type(&synic, 0), 0);
    Ok(())
}

fn a_direct_timer_needs_no_synic(cx: &Cx<'_>) -> Outcome {
    let (intid, mode) = direct(cx)?;
    // At the start of a case SCONTROL is 0 and there is no message page.
    cx.one_interrupt(intid, || start(cx, 1, cx.now()? + 1_000, mode))
}

fn a_direct_timer_in_the_past_expires_immediately(cx: &Cx<'_>) -> Outcome {
    let (intid, mode) = direct(cx)?;
    cx.one_interrupt(intid, || start(cx, 2, 1, mode))
}

fn a_direct_periodic_timer_goes_on(cx: &Cx<'_>) -> Outcome {
    let (intid, mode) = direct(cx)?;
    let (before, begin) = (cx.env.taken(intid), cx.now()?);
    start(cx, 0, 20_000, mode.with_periodic(true))?;
    for n in 1..=5 {
        cx.soon("the timer expires", || cx.env.taken(intid) - before >= n)?;
        check!(cx.now()? >= begin + n * 20_000);
    }
    check_eq!(cx.get(config(0)), Ok(mode.with_periodic(true).0));
    Ok(())
}

fn a_direct_one_shot_timer_is_disabled_when_it_expires(cx: &Cx<'_>) -> Outcome {
    let (intid, mode) = direct(cx)?;
    cx.one_interrupt(intid, || start(cx, 0, cx.now()? + 1_000, mode))?;
    check_eq!(cx.get(config(0)), Ok(mode.with_enable(false).0));
    Ok(())
}

fn a_stopped_direct_timer_does_not_expire(cx: &Cx<'_>) -> Outcome {
    let (intid, mode) = direct(cx)?;
    let done = cx.attempts(ReferenceTime(10_000), |span| {
        let span = span.ticks();
        let (before, due) = (cx.env.taken(intid), cx.now()? + span);
        start(cx, 0, due, mode)?;
        cx.write_register(config(0), mode.with_enable(false).0)?;
        if cx.now()? >= due {
            return Ok(false);
        }
        cx.pause(ReferenceTime(2 * span));
        check_eq!(cx.env.taken(intid), before);
        Ok(true)
    })?;
    skip_if!(!done, SLOW);
    Ok(())
}
