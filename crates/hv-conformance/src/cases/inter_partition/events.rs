//! Signalling events: flags, interrupts, and every status.

use hv_tlfs::hypercall::HypercallCode;
use hv_tlfs::register::RegisterName;
use hv_tlfs::status::HvStatus;

use crate::cx::{Cx, simple};
use crate::loopback::{
    DELETED, EVENT, EVENT_BASE, EVENT_COUNT, EVENT_SINT as SINT, EVENT_TO_ANY, EVENT_TO_VP1, MESSAGE, NOTHING,
};
use crate::outcome::Outcome;

cases! {
    "events";
    "HvCallSignalEvent", "Input Parameters":
        a_signal_sets_the_flag_counted_from_the_ports_base,
        a_signal_sets_no_other_flag,
        every_flag_of_the_port_can_be_set,
        a_signal_in_memory_form_does_the_same,
        the_word_behind_the_input_is_ignored,
        the_reserved_word_of_an_event_must_be_zero;
    "HvCallSignalEvent", "Return Values":
        a_flag_beyond_the_ports_is_refused,
        an_event_to_an_unknown_connection_is_refused,
        a_message_connection_takes_no_event,
        a_deleted_port_takes_no_event,
        a_synic_that_is_off_takes_no_event,
        an_event_flags_page_that_is_off_takes_no_event,
        no_vp_is_there_for_an_event_to_any;
    "Inter-Partition Communication", "Event Flag Delivery":
        a_flag_that_gets_set_raises_an_interrupt,
        a_flag_that_is_set_raises_no_interrupt,
        a_cleared_flag_raises_an_interrupt_again,
        two_flags_raise_an_interrupt_each,
        a_masked_sint_takes_no_event,
        a_polled_sint_takes_events_without_interrupt,
        a_refused_event_sets_no_flag,
        an_event_needs_no_message_page,
        an_event_goes_to_another_vp,
        an_event_comes_from_another_vp,
        an_event_to_any_goes_to_a_vp_whose_synic_is_on;
    "Inter-Partition Communication", "Event Flags versus Messages":
        all_flags_of_a_sint_can_be_set_at_once;
}

fn signalled(cx: &Cx<'_>, connection: u32, flag: u16) -> Outcome {
    check_eq!(cx.signal(connection, flag), HvStatus::SUCCESS);
    Ok(())
}

fn a_signal_sets_the_flag_counted_from_the_ports_base(cx: &Cx<'_>) -> Outcome {
    cx.need_events()?;
    let synic = cx.synic(&[SINT])?;
    signalled(cx, EVENT, 3)?;
    check!(cx.flag(&synic, SINT, EVENT_BASE + 3));
    Ok(())
}

fn a_signal_sets_no_other_flag(cx: &Cx<'_>) -> Outcome {
    cx.need_events()?;
    let synic = cx.synic(&[SINT])?;
    signalled(cx, EVENT, 0)?;
    let word = synic.flag_word(SINT, EVENT_BASE);
    for offset in (0..4096).step_by(4) {
        let at = synic.events + offset;
        check_eq!(cx.env.load(at), if at == word { 1 << (EVENT_BASE % 32) } else { 0 });
    }
    Ok(())
}

fn every_flag_of_the_port_can_be_set(cx: &Cx<'_>) -> Outcome {
    cx.need_events()?;
    let synic = cx.synic(&[SINT])?;
    for flag in 0..EVENT_COUNT {
        check!(!cx.flag(&synic, SINT, EVENT_BASE + flag));
        signalled(cx, EVENT, flag)?;
        check!(cx.flag(&synic, SINT, EVENT_BASE + flag));
    }
    Ok(())
}

fn a_signal_in_memory_form_does_the_same(cx: &Cx<'_>) -> Outcome {
    cx.need_events()?;
    let synic = cx.synic(&[SINT])?;
    let input = cx.page()?;
    cx.write(input, &[EVENT, 5]);
    check_eq!(cx.memory(simple(HypercallCode::SIGNAL_EVENT), input, 0).status(), HvStatus::SUCCESS);
    check!(cx.flag(&synic, SINT, EVENT_BASE + 5));
    Ok(())
}

fn the_word_behind_the_input_is_ignored(cx: &Cx<'_>) -> Outcome {
    cx.need_events()?;
    let synic = cx.synic(&[SINT])?;
    let (result, _) = cx.fast(simple(HypercallCode::SIGNAL_EVENT), &[EVENT.into(), u64::MAX, u64::MAX]);
    check_eq!(result.status(), HvStatus::SUCCESS);
    check!(cx.flag(&synic, SINT, EVENT_BASE));
    Ok(())
}

fn the_reserved_word_of_an_event_must_be_zero(cx: &Cx<'_>) -> Outcome {
    cx.need_events()?;
    let synic = cx.synic(&[SINT])?;
    for bit in [48, 63] {
        let (result, _) = cx.fast(simple(HypercallCode::SIGNAL_EVENT), &[u64::from(EVENT) | 1 << bit]);
        check!(result.status() != HvStatus::SUCCESS);
    }
    check!(!cx.flag(&synic, SINT, EVENT_BASE));
    Ok(())
}

fn a_flag_beyond_the_ports_is_refused(cx: &Cx<'_>) -> Outcome {
    cx.need_events()?;
    cx.synic(&[SINT])?;
    for flag in [EVENT_COUNT, EVENT_COUNT + 1, 2047, 2048, u16::MAX] {
        check_eq!(cx.signal(EVENT, flag), HvStatus::INVALID_PARAMETER);
    }
    Ok(())
}

fn an_event_to_an_unknown_connection_is_refused(cx: &Cx<'_>) -> Outcome {
    skip_if!(!cx.facts.features.privileges.signal_events(), "the partition may not signal events");
    check_eq!(cx.signal(NOTHING, 0), HvStatus::INVALID_CONNECTION_ID);
    check_eq!(cx.signal(0, 0), HvStatus::INVALID_CONNECTION_ID);
    Ok(())
}

fn a_message_connection_takes_no_event(cx: &Cx<'_>) -> Outcome {
    cx.need_events()?;
    cx.synic(&[SINT])?;
    check_eq!(cx.signal(MESSAGE, 0), HvStatus::INVALID_PORT_ID);
    Ok(())
}

fn a_deleted_port_takes_no_event(cx: &Cx<'_>) -> Outcome {
    cx.need_events()?;
    cx.synic(&[SINT])?;
    check_eq!(cx.signal(DELETED, 0), HvStatus::INVALID_PORT_ID);
    Ok(())
}

fn a_synic_that_is_off_takes_no_event(cx: &Cx<'_>) -> Outcome {
    cx.need_events()?;
    let synic = cx.synic(&[SINT])?;
    cx.write_register(RegisterName::SCONTROL, 0)?;
    check_eq!(cx.signal(EVENT, 0), HvStatus::INVALID_SYNIC_STATE);
    check!(!cx.flag(&synic, SINT, EVENT_BASE));
    cx.write_register(RegisterName::SCONTROL, 1)?;
    signalled(cx, EVENT, 0)
}

fn an_event_flags_page_that_is_off_takes_no_event(cx: &Cx<'_>) -> Outcome {
    cx.need_events()?;
    let synic = cx.synic(&[SINT])?;
    cx.write_register(RegisterName::SIEFP, synic.events)?;
    check_eq!(cx.signal(EVENT, 0), HvStatus::INVALID_SYNIC_STATE);
    check!(!cx.flag(&synic, SINT, EVENT_BASE));
    Ok(())
}

fn no_vp_is_there_for_an_event_to_any(cx: &Cx<'_>) -> Outcome {
    cx.need_events()?;
    check_eq!(cx.signal(EVENT_TO_ANY, 0), HvStatus::INVALID_VP_INDEX);
    Ok(())
}

fn a_flag_that_gets_set_raises_an_interrupt(cx: &Cx<'_>) -> Outcome {
    cx.need_events()?;
    let synic = cx.synic(&[SINT])?;
    cx.one_interrupt(synic.intid, || signalled(cx, EVENT, 0))
}

fn a_flag_that_is_set_raises_no_interrupt(cx: &Cx<'_>) -> Outcome {
    cx.need_events()?;
    let synic = cx.synic(&[SINT])?;
    cx.one_interrupt(synic.intid, || signalled(cx, EVENT, 0))?;
    cx.no_interrupt(synic.intid, || signalled(cx, EVENT, 0))
}

fn a_cleared_flag_raises_an_interrupt_again(cx: &Cx<'_>) -> Outcome {
    cx.need_events()?;
    let synic = cx.synic(&[SINT])?;
    for _ in 0..3 {
        cx.one_interrupt(synic.intid, || signalled(cx, EVENT, 1))?;
        cx.clear_flags(&synic, SINT, EVENT_BASE);
    }
    Ok(())
}

fn two_flags_raise_an_interrupt_each(cx: &Cx<'_>) -> Outcome {
    cx.need_events()?;
    let synic = cx.synic(&[SINT])?;
    cx.one_interrupt(synic.intid, || signalled(cx, EVENT, 1))?;
    cx.one_interrupt(synic.intid, || signalled(cx, EVENT, 2))
}

fn a_masked_sint_takes_no_event(cx: &Cx<'_>) -> Outcome {
    cx.need_events()?;
    let synic = cx.synic(&[])?;
    cx.write_register(RegisterName::sint(SINT), 0x1_0000 | u64::from(synic.intid))?;
    cx.no_interrupt(synic.intid, || {
        check_eq!(cx.signal(EVENT, 0), HvStatus::INVALID_SYNIC_STATE);
        Ok(())
    })
}

fn a_polled_sint_takes_events_without_interrupt(cx: &Cx<'_>) -> Outcome {
    cx.need_events()?;
    skip_if!(!cx.facts.features.c.sint_polling_mode(), "no polling mode");
    let synic = cx.synic(&[])?;
    cx.write_register(RegisterName::sint(SINT), 0x4_0000 | u64::from(synic.intid))?;
    cx.no_interrupt(synic.intid, || signalled(cx, EVENT, 0))?;
    check!(cx.flag(&synic, SINT, EVENT_BASE));
    Ok(())
}

fn a_refused_event_sets_no_flag(cx: &Cx<'_>) -> Outcome {
    cx.need_events()?;
    let all: [u8; 16] = core::array::from_fn(|n| n as u8);
    let synic = cx.synic(&all)?;
    cx.no_interrupt(synic.intid, || {
        for (connection, flag) in [(NOTHING, 0), (MESSAGE, 0), (DELETED, 0), (EVENT, EVENT_COUNT)] {
            check!(cx.signal(connection, flag) != HvStatus::SUCCESS);
        }
        Ok(())
    })?;
    for offset in (0..4096).step_by(4) {
        check_eq!(cx.env.load(synic.events + offset), 0);
    }
    Ok(())
}

fn an_event_needs_no_message_page(cx: &Cx<'_>) -> Outcome {
    cx.need_events()?;
    let synic = cx.synic(&[SINT])?;
    cx.write_register(RegisterName::SIMP, 0)?;
    cx.one_interrupt(synic.intid, || signalled(cx, EVENT, 7))?;
    check!(cx.flag(&synic, SINT, EVENT_BASE + 7));
    Ok(())
}

fn an_event_goes_to_another_vp(cx: &Cx<'_>) -> Outcome {
    cx.need_events()?;
    let other = cx.other()?;
    let own = cx.synic(&[SINT])?;
    let synic = cx.synic_on(other, &[SINT])?;
    cx.no_interrupt(own.intid, || signalled(cx, EVENT_TO_VP1, 2047))?;
    cx.soon("the flag is set", || cx.flag(&synic, SINT, 2047))?;
    check!(!cx.flag(&own, SINT, 2047));
    let intid = synic.intid;
    cx.soon("the other VP takes the interrupt", || cx.on(other, |cx| cx.env.taken(intid)) != 0)
}

fn an_event_comes_from_another_vp(cx: &Cx<'_>) -> Outcome {
    cx.need_events()?;
    let other = cx.other()?;
    let synic = cx.synic(&[SINT])?;
    cx.one_interrupt(synic.intid, || cx.check_on(other, |cx| signalled(cx, EVENT, 6)))?;
    check!(cx.flag(&synic, SINT, EVENT_BASE + 6));
    Ok(())
}

fn an_event_to_any_goes_to_a_vp_whose_synic_is_on(cx: &Cx<'_>) -> Outcome {
    cx.need_events()?;
    let target = cx.env.vp_count() - 1;
    let synic = if target == 0 { cx.synic(&[SINT])? } else { cx.synic_on(target, &[SINT])? };
    signalled(cx, EVENT_TO_ANY, 77)?;
    cx.soon("the flag is set", || cx.flag(&synic, SINT, 77))
}

fn all_flags_of_a_sint_can_be_set_at_once(cx: &Cx<'_>) -> Outcome {
    cx.need_events()?;
    let other = cx.other()?;
    let synic = cx.synic_on(other, &[SINT])?;
    for flag in 0..2048 {
        signalled(cx, EVENT_TO_VP1, flag)?;
    }
    for word in 0..64 {
        check_eq!(cx.env.load(synic.flag_word(SINT, word * 32)), u32::MAX);
    }
    Ok(())
}
