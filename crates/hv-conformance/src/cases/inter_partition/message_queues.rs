//! Messages that wait: queues, the pending flag, end of message, buffers.

use hv_tlfs::register::RegisterName;
use hv_tlfs::status::HvStatus;
use hv_tlfs::time::ReferenceTime;

use crate::cx::Cx;
use crate::loopback::{MESSAGE, MESSAGE_SECOND, MESSAGE_SINT as SINT, MESSAGE_TO_VP1, SECOND_SINT};
use crate::outcome::Outcome;

cases! {
    "message_queues";
    "Inter-Partition Communication", "Messages":
        a_second_message_waits_for_the_first,
        a_message_that_waits_sets_the_pending_flag,
        messages_arrive_in_the_order_of_their_posts,
        each_delivery_from_the_queue_raises_an_interrupt,
        the_pending_flag_goes_with_the_last_message,
        an_emptied_slot_is_filled_when_another_message_is_queued,
        a_slot_that_is_not_empty_is_never_overwritten,
        sints_have_queues_of_their_own,
        a_message_page_that_is_off_keeps_its_messages_waiting;
    "Inter-Partition Communication", "EOM Register":
        the_end_of_message_delivers_what_waits,
        the_end_of_message_delivers_nothing_into_a_full_slot,
        the_end_of_message_serves_all_sints,
        the_end_of_message_is_the_vps_own,
        the_end_of_message_drains_a_masked_sint;
    "Inter-Partition Communication", "Guest Message Buffers":
        a_port_has_sixteen_buffers,
        a_delivered_message_gives_its_buffer_back,
        ports_have_buffers_of_their_own,
        a_full_port_takes_messages_again_after_it_was_drained;
    "Inter-Partition Communication", "Reliability and Sequencing of Guest Message Buffers":
        a_hundred_messages_arrive_in_order,
        messages_wait_while_the_page_moves;
}

/// Buffers of a port.
const BUFFERS: u32 = 16;

fn a_second_message_waits_for_the_first(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let synic = cx.synic(&[SINT])?;
    cx.posted(MESSAGE, 1, &[])?;
    cx.no_interrupt(synic.intid, || Ok(()))?;
    cx.no_interrupt(synic.intid, || cx.posted(MESSAGE, 2, &[]))?;
    check_eq!(cx.slot_type(&synic, SINT), 1);
    Ok(())
}

fn a_message_that_waits_sets_the_pending_flag(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let synic = cx.synic(&[SINT])?;
    cx.posted(MESSAGE, 1, &[])?;
    check!(!cx.pending(&synic, SINT));
    cx.posted(MESSAGE, 2, &[])?;
    check!(cx.pending(&synic, SINT));
    Ok(())
}

fn messages_arrive_in_the_order_of_their_posts(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let synic = cx.synic(&[SINT])?;
    for n in 1..=10 {
        cx.posted(MESSAGE, n, &[n as u8])?;
    }
    for n in 1..=10 {
        let message = cx.take(&synic, SINT)?;
        check_eq!(message.header.message_type.0, n);
        check_eq!(message.payload[0], n as u8);
    }
    check_eq!(cx.slot_type(&synic, SINT), 0);
    Ok(())
}

fn each_delivery_from_the_queue_raises_an_interrupt(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let synic = cx.synic(&[SINT])?;
    for n in 1..=3 {
        cx.posted(MESSAGE, n, &[])?;
    }
    for _ in 0..2 {
        cx.one_interrupt(synic.intid, || cx.take(&synic, SINT).map(|_| ()))?;
    }
    Ok(())
}

fn the_pending_flag_goes_with_the_last_message(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let synic = cx.synic(&[SINT])?;
    for n in 1..=3 {
        cx.posted(MESSAGE, n, &[])?;
    }
    check!(cx.take(&synic, SINT)?.header.flags.message_pending());
    check!(cx.take(&synic, SINT)?.header.flags.message_pending());
    check!(!cx.take(&synic, SINT)?.header.flags.message_pending());
    Ok(())
}

fn an_emptied_slot_is_filled_when_another_message_is_queued(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let synic = cx.synic(&[SINT])?;
    cx.posted(MESSAGE, 1, &[])?;
    cx.posted(MESSAGE, 2, &[])?;
    // No EOM: the next post scans the queue.
    cx.empty(&synic, SINT);
    cx.posted(MESSAGE, 3, &[])?;
    check_eq!(cx.slot_type(&synic, SINT), 2);
    cx.take(&synic, SINT)?;
    check_eq!(cx.slot_type(&synic, SINT), 3);
    Ok(())
}

fn a_slot_that_is_not_empty_is_never_overwritten(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let synic = cx.synic(&[SINT])?;
    cx.posted(MESSAGE, 1, b"the first")?;
    for n in 2..6 {
        cx.posted(MESSAGE, n, b"no other!")?;
        cx.eom()?;
    }
    let message = cx.take(&synic, SINT)?;
    check_eq!(message.header.message_type.0, 1);
    check!(message.payload[..9] == *b"the first");
    Ok(())
}

fn sints_have_queues_of_their_own(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let synic = cx.synic(&[SINT, SECOND_SINT])?;
    cx.posted(MESSAGE, 1, &[])?;
    cx.posted(MESSAGE, 2, &[])?;
    cx.posted(MESSAGE_SECOND, 3, &[])?;
    check_eq!(cx.slot_type(&synic, SECOND_SINT), 3);
    check!(!cx.pending(&synic, SECOND_SINT));
    cx.take(&synic, SECOND_SINT)?;
    cx.eom()?;
    check_eq!(cx.slot_type(&synic, SECOND_SINT), 0);
    check_eq!(cx.slot_type(&synic, SINT), 1);
    Ok(())
}

fn a_message_page_that_is_off_keeps_its_messages_waiting(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let synic = cx.synic(&[SINT])?;
    for n in 1..=2 {
        cx.posted(MESSAGE, n, &[])?;
    }
    cx.empty(&synic, SINT);
    cx.write_register(RegisterName::SIMP, 0)?;
    cx.no_interrupt(synic.intid, || cx.eom())?;
    cx.write_register(RegisterName::SIMP, synic.messages | 1)?;
    cx.eom()?;
    check_eq!(cx.slot_type(&synic, SINT), 2);
    Ok(())
}

fn the_end_of_message_delivers_what_waits(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let synic = cx.synic(&[SINT])?;
    cx.posted(MESSAGE, 1, &[])?;
    cx.posted(MESSAGE, 2, &[])?;
    cx.empty(&synic, SINT);
    cx.eom()?;
    check_eq!(cx.slot_type(&synic, SINT), 2);
    Ok(())
}

fn the_end_of_message_delivers_nothing_into_a_full_slot(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let synic = cx.synic(&[SINT])?;
    cx.posted(MESSAGE, 1, &[])?;
    cx.posted(MESSAGE, 2, &[])?;
    cx.pause(ReferenceTime::ZERO);
    cx.no_interrupt(synic.intid, || cx.eom())?;
    check_eq!(cx.slot_type(&synic, SINT), 1);
    cx.empty(&synic, SINT);
    cx.eom()?;
    check_eq!(cx.slot_type(&synic, SINT), 2);
    Ok(())
}

fn the_end_of_message_serves_all_sints(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let synic = cx.synic(&[SINT, SECOND_SINT])?;
    for n in 1..=2 {
        cx.posted(MESSAGE, n, &[])?;
        cx.posted(MESSAGE_SECOND, 10 + n, &[])?;
    }
    cx.empty(&synic, SINT);
    cx.empty(&synic, SECOND_SINT);
    cx.eom()?;
    check_eq!(cx.slot_type(&synic, SINT), 2);
    check_eq!(cx.slot_type(&synic, SECOND_SINT), 12);
    Ok(())
}

fn the_end_of_message_is_the_vps_own(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let other = cx.other()?;
    let synic = cx.synic_on(other, &[SINT])?;
    cx.posted(MESSAGE_TO_VP1, 1, &[])?;
    cx.posted(MESSAGE_TO_VP1, 2, &[])?;
    cx.soon("the first message arrives", || cx.slot_type(&synic, SINT) == 1)?;
    cx.empty(&synic, SINT);
    cx.eom()?;
    check_eq!(cx.slot_type(&synic, SINT), 0);
    cx.check_on(other, |cx| cx.eom())?;
    cx.soon("the second message arrives", || cx.slot_type(&synic, SINT) == 2)
}

fn the_end_of_message_drains_a_masked_sint(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let synic = cx.synic(&[SINT])?;
    for n in 1..=3 {
        cx.posted(MESSAGE, n, &[])?;
    }
    cx.write_register(RegisterName::sint(SINT), 0x1_0000 | u64::from(synic.intid))?;
    cx.no_interrupt(synic.intid, || {
        for n in 1..=3 {
            check_eq!(cx.take(&synic, SINT)?.header.message_type.0, n);
        }
        Ok(())
    })
}

/// Fills slot and buffers of a connection, and checks that no more fits.
fn fill(cx: &Cx<'_>, connection: u32) -> Outcome {
    for n in 0..=BUFFERS {
        cx.posted(connection, n + 1, &[])?;
    }
    check_eq!(cx.post(connection, 99, &[])?, HvStatus::INSUFFICIENT_BUFFERS);
    Ok(())
}

fn a_port_has_sixteen_buffers(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let synic = cx.synic(&[SINT])?;
    fill(cx, MESSAGE)?;
    // What was refused does not arrive.
    for n in 0..=BUFFERS {
        check_eq!(cx.take(&synic, SINT)?.header.message_type.0, n + 1);
    }
    cx.eom()?;
    check_eq!(cx.slot_type(&synic, SINT), 0);
    Ok(())
}

fn a_delivered_message_gives_its_buffer_back(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let synic = cx.synic(&[SINT])?;
    fill(cx, MESSAGE)?;
    cx.take(&synic, SINT)?;
    cx.posted(MESSAGE, 100, &[])?;
    check_eq!(cx.post(MESSAGE, 101, &[])?, HvStatus::INSUFFICIENT_BUFFERS);
    Ok(())
}

fn ports_have_buffers_of_their_own(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let synic = cx.synic(&[SINT, SECOND_SINT])?;
    fill(cx, MESSAGE)?;
    fill(cx, MESSAGE_SECOND)?;
    check_eq!(cx.slot_type(&synic, SINT), 1);
    check_eq!(cx.slot_type(&synic, SECOND_SINT), 1);
    Ok(())
}

fn a_full_port_takes_messages_again_after_it_was_drained(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let synic = cx.synic(&[SINT])?;
    for _ in 0..3 {
        fill(cx, MESSAGE)?;
        for _ in 0..=BUFFERS {
            cx.take(&synic, SINT)?;
        }
        check_eq!(cx.slot_type(&synic, SINT), 0);
    }
    Ok(())
}

fn a_hundred_messages_arrive_in_order(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let synic = cx.synic(&[SINT])?;
    let (mut sent, mut got) = (0u32, 0u32);
    while got < 100 {
        // In bursts of up to five, taken one at a time.
        while sent < 100 && sent - got < 5 {
            sent += 1;
            cx.posted(MESSAGE, sent, &sent.to_le_bytes())?;
        }
        let message = cx.take(&synic, SINT)?;
        got += 1;
        check_eq!(message.header.message_type.0, got);
        check!(message.payload[..4] == got.to_le_bytes());
    }
    Ok(())
}

fn messages_wait_while_the_page_moves(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let mut synic = cx.synic(&[SINT])?;
    for n in 1..=3 {
        cx.posted(MESSAGE, n, &[])?;
    }
    check_eq!(cx.take(&synic, SINT)?.header.message_type.0, 1);
    cx.empty(&synic, SINT);
    synic.messages = cx.page()?;
    cx.write_register(RegisterName::SIMP, synic.messages | 1)?;
    cx.eom()?;
    check_eq!(cx.slot_type(&synic, SINT), 3);
    Ok(())
}
