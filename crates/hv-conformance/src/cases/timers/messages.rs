//! Expirations by message: what the message says, and what happens while its slot is not free.

use hv_tlfs::register::RegisterName;
use hv_tlfs::synic::{Message, MessageType, TimerMessagePayload};
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::timer::StimerConfig;
use zerocopy::FromBytes;

use super::registers::{config, count, need};
use crate::cx::{Cx, Synic};
use crate::outcome::{Outcome, Stop, fail};

cases! {
    "timer_messages";
    "Timers", "Synthetic Timer Expiration Message":
        an_expiration_is_a_message_of_the_hypervisor,
        the_message_names_the_timer,
        the_message_tells_when_the_timer_was_due,
        the_message_is_delivered_after_the_due_time,
        an_expiration_raises_one_interrupt,
        a_masked_sint_gets_the_timers_message_without_interrupt,
        a_timer_sends_to_its_sint_alone,
        a_timer_sends_to_each_sint,
        every_vps_timer_sends_to_its_own_vp;
    "Inter-Partition Communication", "Message Sources":
        a_timers_message_waits_while_the_slot_is_full,
        four_timers_have_four_buffers,
        timers_messages_are_all_delivered_by_end_of_message,
        a_message_that_waited_tells_the_time_of_its_delivery,
        a_periodic_timer_holds_one_message_at_a_time,
        a_periodic_timer_goes_on_when_its_buffer_is_free;
    "Inter-Partition Communication", "SCONTROL Register":
        a_timer_sends_nothing_while_the_synic_is_off,
        a_timer_sends_nothing_while_the_message_page_is_off;
}

/// The SINT that timers of these cases use, and another one.
const SINT: u8 = 4;
const OTHER: u8 = 11;

const fn one_shot(sint: u8) -> u64 {
    StimerConfig(1).with_sint(sint).0
}

/// Sets timer `n` to expire at once, as a message to a SINT.
fn expire(cx: &Cx<'_>, n: u8, sint: u8) -> Outcome {
    cx.write_register(config(n), 0)?;
    cx.write_register(count(n), 1)?;
    cx.write_register(config(n), one_shot(sint))
}

fn payload(message: &Message) -> Result<TimerMessagePayload, Stop> {
    let read = TimerMessagePayload::read_from_prefix(&message.payload);
    read.map(|(payload, _)| payload).map_err(|_| fail("a timer's payload fits into a message"))
}

/// Waits for a message in the slot, and takes it.
fn next(cx: &Cx<'_>, synic: &Synic, sint: u8) -> Result<Message, Stop> {
    cx.soon("the timer's message arrives", || cx.slot_type(synic, sint) != 0)?;
    cx.take(synic, sint)
}

fn an_expiration_is_a_message_of_the_hypervisor(cx: &Cx<'_>) -> Outcome {
    need(cx)?;
    let synic = cx.synic(&[SINT])?;
    expire(cx, 0, SINT)?;
    let message = next(cx, &synic, SINT)?;
    check_eq!(message.header.message_type.0, MessageType::TIMER_EXPIRED.0);
    check_eq!(message.header.payload_size, 24);
    check_eq!(payload(&message)?.reserved, 0);
    Ok(())
}

fn the_message_names_the_timer(cx: &Cx<'_>) -> Outcome {
    need(cx)?;
    let synic = cx.synic(&[SINT])?;
    for n in 0..4 {
        expire(cx, n, SINT)?;
        check_eq!(payload(&next(cx, &synic, SINT)?)?.timer_index, u32::from(n));
    }
    Ok(())
}

fn the_message_tells_when_the_timer_was_due(cx: &Cx<'_>) -> Outcome {
    need(cx)?;
    let synic = cx.synic(&[SINT])?;
    let due = cx.now()? + 3_000;
    cx.write_register(count(1), due)?;
    cx.write_register(config(1), one_shot(SINT))?;
    check_eq!(payload(&next(cx, &synic, SINT)?)?.expiration_time.0, due);
    Ok(())
}

fn the_message_is_delivered_after_the_due_time(cx: &Cx<'_>) -> Outcome {
    need(cx)?;
    let synic = cx.synic(&[SINT])?;
    for wait in [500, 1_000, 5_000, 20_000] {
        let due = cx.now()? + wait;
        cx.write_register(count(0), due)?;
        cx.write_register(config(0), one_shot(SINT))?;
        let payload = payload(&next(cx, &synic, SINT)?)?;
        let now = cx.now()?;
        check!(payload.delivery_time.0 >= due);
        check!(payload.delivery_time.0 <= now);
        check!(now >= due);
    }
    Ok(())
}

fn an_expiration_raises_one_interrupt(cx: &Cx<'_>) -> Outcome {
    need(cx)?;
    let synic = cx.synic(&[SINT])?;
    for n in 0..4 {
        cx.one_interrupt(synic.intid, || expire(cx, n, SINT))?;
        next(cx, &synic, SINT)?;
    }
    Ok(())
}

fn a_masked_sint_gets_the_timers_message_without_interrupt(cx: &Cx<'_>) -> Outcome {
    need(cx)?;
    let synic = cx.synic(&[])?;
    cx.write_register(RegisterName::sint(SINT), 0x1_0000 | u64::from(synic.intid))?;
    cx.no_interrupt(synic.intid, || expire(cx, 0, SINT))?;
    next(cx, &synic, SINT)?;
    Ok(())
}

fn a_timer_sends_to_its_sint_alone(cx: &Cx<'_>) -> Outcome {
    need(cx)?;
    let all: [u8; 16] = core::array::from_fn(|n| n as u8);
    let synic = cx.synic(&all)?;
    expire(cx, 2, SINT)?;
    cx.soon("the timer's message arrives", || cx.slot_type(&synic, SINT) != 0)?;
    for sint in all {
        check_eq!(cx.slot_type(&synic, sint) != 0, sint == SINT);
    }
    Ok(())
}

fn a_timer_sends_to_each_sint(cx: &Cx<'_>) -> Outcome {
    need(cx)?;
    let all: [u8; 15] = core::array::from_fn(|n| n as u8 + 1);
    let synic = cx.synic(&all)?;
    for sint in all {
        expire(cx, sint % 4, sint)?;
        check_eq!(payload(&next(cx, &synic, sint)?)?.timer_index, u32::from(sint % 4));
    }
    Ok(())
}

fn every_vps_timer_sends_to_its_own_vp(cx: &Cx<'_>) -> Outcome {
    need(cx)?;
    let other = cx.other()?;
    let own = cx.synic(&[SINT])?;
    for vp in other..cx.env.vp_count() {
        cx.check_on(vp, |cx| {
            let synic = cx.synic(&[SINT])?;
            cx.one_interrupt(synic.intid, || expire(cx, 3, SINT))?;
            check_eq!(payload(&next(cx, &synic, SINT)?)?.timer_index, 3);
            Ok(())
        })?;
    }
    check_eq!(cx.slot_type(&own, SINT), 0);
    Ok(())
}

fn a_timers_message_waits_while_the_slot_is_full(cx: &Cx<'_>) -> Outcome {
    need(cx)?;
    let synic = cx.synic(&[SINT])?;
    expire(cx, 0, SINT)?;
    cx.soon("the first timer's message arrives", || cx.slot_type(&synic, SINT) != 0)?;
    expire(cx, 1, SINT)?;
    cx.soon("the second timer's message waits", || cx.pending(&synic, SINT))?;
    check_eq!(payload(&cx.take(&synic, SINT)?)?.timer_index, 0);
    check_eq!(payload(&next(cx, &synic, SINT)?)?.timer_index, 1);
    Ok(())
}

fn four_timers_have_four_buffers(cx: &Cx<'_>) -> Outcome {
    need(cx)?;
    let synic = cx.synic(&[SINT])?;
    // The slot holds a message that this test wrote.
    cx.env.store(synic.slot(SINT), 1);
    for n in 0..4 {
        expire(cx, n, SINT)?;
    }
    cx.soon("messages wait", || cx.pending(&synic, SINT))?;
    cx.pause(ReferenceTime(2_000));
    let mut seen = 0;
    cx.take(&synic, SINT)?;
    for _ in 0..4 {
        seen |= 1 << payload(&next(cx, &synic, SINT)?)?.timer_index;
    }
    check_eq!(seen, 0b1111u32);
    Ok(())
}

fn timers_messages_are_all_delivered_by_end_of_message(cx: &Cx<'_>) -> Outcome {
    need(cx)?;
    let synic = cx.synic(&[SINT, OTHER])?;
    cx.env.store(synic.slot(SINT), 1);
    cx.env.store(synic.slot(OTHER), 1);
    expire(cx, 0, SINT)?;
    expire(cx, 1, OTHER)?;
    cx.soon("both wait", || cx.pending(&synic, SINT) && cx.pending(&synic, OTHER))?;
    cx.empty(&synic, SINT);
    cx.empty(&synic, OTHER);
    cx.eom()?;
    check_eq!(payload(&cx.take(&synic, SINT)?)?.timer_index, 0);
    check_eq!(payload(&cx.take(&synic, OTHER)?)?.timer_index, 1);
    Ok(())
}

fn a_message_that_waited_tells_the_time_of_its_delivery(cx: &Cx<'_>) -> Outcome {
    need(cx)?;
    let synic = cx.synic(&[SINT])?;
    cx.env.store(synic.slot(SINT), 1);
    let due = cx.now()? + 1_000;
    cx.write_register(count(0), due)?;
    cx.write_register(config(0), one_shot(SINT))?;
    cx.soon("the message waits", || cx.pending(&synic, SINT))?;
    cx.pause(ReferenceTime(10_000));
    let freed = cx.now()?;
    cx.take(&synic, SINT)?;
    let payload = payload(&next(cx, &synic, SINT)?)?;
    check_eq!(payload.expiration_time.0, due);
    check!(payload.delivery_time.0 >= freed);
    Ok(())
}

fn a_periodic_timer_holds_one_message_at_a_time(cx: &Cx<'_>) -> Outcome {
    need(cx)?;
    let synic = cx.synic(&[SINT])?;
    cx.env.store(synic.slot(SINT), 1);
    cx.write_register(count(0), 5_000)?;
    cx.write_register(config(0), StimerConfig(0b11).with_sint(SINT).0)?;
    cx.soon("the message waits", || cx.pending(&synic, SINT))?;
    cx.pause(ReferenceTime(50_000));
    cx.write_register(config(0), 0)?;
    cx.take(&synic, SINT)?;
    // Whether the one that waits outlives its timer is the host's choice; a second one is not.
    cx.wait_for(ReferenceTime(2_000), || cx.slot_type(&synic, SINT) != 0);
    if cx.slot_type(&synic, SINT) != 0 {
        cx.take(&synic, SINT)?;
    }
    cx.pause(ReferenceTime(20_000));
    cx.eom()?;
    check_eq!(cx.slot_type(&synic, SINT), 0);
    Ok(())
}

fn a_periodic_timer_goes_on_when_its_buffer_is_free(cx: &Cx<'_>) -> Outcome {
    need(cx)?;
    let synic = cx.synic(&[SINT])?;
    cx.env.store(synic.slot(SINT), 1);
    cx.write_register(count(0), 5_000)?;
    cx.write_register(config(0), StimerConfig(0b11).with_sint(SINT).0)?;
    cx.soon("the message waits", || cx.pending(&synic, SINT))?;
    // Expirations for which there is no buffer.
    cx.pause(ReferenceTime(50_000));
    cx.take(&synic, SINT)?;
    for _ in 0..4 {
        next(cx, &synic, SINT)?;
    }
    Ok(())
}

/// Checks that with something switched off no message comes, and with it on again the guest is well.
fn nothing_comes_without(cx: &Cx<'_>, name: RegisterName, off: u64) -> Outcome {
    need(cx)?;
    let synic = cx.synic(&[SINT])?;
    let on = cx.read_register(name)?;
    cx.write_register(name, off)?;
    cx.no_interrupt(synic.intid, || expire(cx, 0, SINT))?;
    check_eq!(cx.slot_type(&synic, SINT), 0);
    cx.write_register(name, on)?;
    // Whether the expiration was kept is the host's choice; a new one must come.
    cx.wait_for(ReferenceTime(2_000), || cx.slot_type(&synic, SINT) != 0);
    if cx.slot_type(&synic, SINT) != 0 {
        cx.take(&synic, SINT)?;
    }
    expire(cx, 1, SINT)?;
    check_eq!(payload(&next(cx, &synic, SINT)?)?.timer_index, 1);
    Ok(())
}

fn a_timer_sends_nothing_while_the_synic_is_off(cx: &Cx<'_>) -> Outcome {
    nothing_comes_without(cx, RegisterName::SCONTROL, 0)
}

fn a_timer_sends_nothing_while_the_message_page_is_off(cx: &Cx<'_>) -> Outcome {
    nothing_comes_without(cx, RegisterName::SIMP, 0)
}
