//! Posting a message: what it takes, what arrives, and every status.

use hv_tlfs::hypercall::HypercallCode;
use hv_tlfs::register::RegisterName;
use hv_tlfs::status::HvStatus;

use crate::cx::{Cx, simple};
use crate::loopback::{
    DELETED, EVENT, MESSAGE, MESSAGE_PORT, MESSAGE_SINT as SINT, MESSAGE_TO_ANY, MESSAGE_TO_VP1, NOTHING,
};
use crate::outcome::Outcome;

cases! {
    "messages";
    "HvCallPostMessage", "Input Parameters":
        a_message_arrives_as_it_was_posted,
        the_sender_is_the_port,
        the_pending_flag_is_clear_on_a_single_message,
        only_the_given_payload_arrives,
        an_empty_message_arrives,
        a_message_of_240_bytes_arrives,
        every_message_type_but_the_hypervisors_arrives,
        a_message_can_be_posted_from_any_place_in_a_page,
        the_reserved_word_must_be_zero;
    "HvCallPostMessage", "Return Values":
        type_zero_is_refused,
        a_hypervisors_type_is_refused,
        a_payload_beyond_240_bytes_is_refused,
        an_unknown_connection_is_refused,
        connection_zero_is_refused,
        a_connection_id_has_all_its_bits,
        an_event_connection_takes_no_message,
        a_deleted_port_takes_no_message,
        a_synic_that_is_off_takes_no_message,
        a_message_page_that_is_off_takes_no_message,
        no_vp_is_there_for_a_message_to_any;
    "Inter-Partition Communication", "Messages":
        a_message_raises_one_interrupt,
        a_masked_sint_gets_the_message_without_interrupt,
        a_polled_sint_gets_the_message_without_interrupt,
        a_refused_message_arrives_nowhere,
        a_message_goes_to_its_sint_alone,
        a_message_goes_to_another_vp,
        a_message_comes_from_another_vp,
        a_message_to_any_goes_to_a_vp_whose_synic_is_on;
}

const PAYLOAD: [u8; 24] = *b"0123456789abcdefghijklmn";

fn a_message_arrives_as_it_was_posted(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let synic = cx.synic(&[SINT])?;
    cx.posted(MESSAGE, 0x1234_5678, &PAYLOAD)?;
    let message = cx.take(&synic, SINT)?;
    check_eq!(message.header.message_type.0, 0x1234_5678);
    check_eq!(message.header.payload_size, PAYLOAD.len() as u8);
    check!(message.payload[..PAYLOAD.len()] == PAYLOAD);
    check!(message.header.reserved == [0; 2]);
    Ok(())
}

fn the_sender_is_the_port(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let synic = cx.synic(&[SINT])?;
    cx.posted(MESSAGE, 1, &PAYLOAD)?;
    check_eq!(cx.take(&synic, SINT)?.header.sender as u32, MESSAGE_PORT);
    Ok(())
}

fn the_pending_flag_is_clear_on_a_single_message(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let synic = cx.synic(&[SINT])?;
    cx.posted(MESSAGE, 1, &PAYLOAD)?;
    check!(!cx.pending(&synic, SINT));
    check_eq!(cx.take(&synic, SINT)?.header.flags.0, 0);
    Ok(())
}

fn only_the_given_payload_arrives(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let synic = cx.synic(&[SINT])?;
    let input = cx.page()?;
    cx.fill(input, 0x77);
    cx.write(input, &[MESSAGE, 0, 1, 5]);
    check_eq!(cx.memory(simple(HypercallCode::POST_MESSAGE), input, 0).status(), HvStatus::SUCCESS);
    let message = cx.take(&synic, SINT)?;
    check_eq!(message.header.payload_size, 5);
    check!(message.payload[..5] == [0x77; 5]);
    check!(message.payload[8..] != [0x77; 232]);
    Ok(())
}

fn an_empty_message_arrives(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let synic = cx.synic(&[SINT])?;
    cx.posted(MESSAGE, 7, &[])?;
    let message = cx.take(&synic, SINT)?;
    check_eq!(message.header.message_type.0, 7);
    check_eq!(message.header.payload_size, 0);
    Ok(())
}

fn a_message_of_240_bytes_arrives(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let synic = cx.synic(&[SINT])?;
    let payload: [u8; 240] = core::array::from_fn(|n| n as u8 ^ 0x5a);
    cx.posted(MESSAGE, 1, &payload)?;
    let message = cx.take(&synic, SINT)?;
    check_eq!(message.header.payload_size, 240);
    check!(message.payload == payload);
    Ok(())
}

fn every_message_type_but_the_hypervisors_arrives(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let synic = cx.synic(&[SINT])?;
    for message_type in [1, 2, 0x8000, 0x4000_0000, 0x7fff_ffff] {
        cx.posted(MESSAGE, message_type, &PAYLOAD)?;
        check_eq!(cx.take(&synic, SINT)?.header.message_type.0, message_type);
    }
    Ok(())
}

fn a_message_can_be_posted_from_any_place_in_a_page(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let synic = cx.synic(&[SINT])?;
    let page = cx.page()?;
    for offset in [0, 8, 0x708, 4096 - 256] {
        cx.write(page + offset, &[MESSAGE, 0, 1, 8]);
        cx.write(page + offset + 16, &offset);
        let result = cx.memory(simple(HypercallCode::POST_MESSAGE), page + offset, 0);
        check_eq!(result.status(), HvStatus::SUCCESS);
        check!(cx.take(&synic, SINT)?.payload[..8] == offset.to_le_bytes());
    }
    Ok(())
}

fn the_reserved_word_must_be_zero(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let synic = cx.synic(&[SINT])?;
    for reserved in [1, 1 << 31] {
        check!(cx.post_words([MESSAGE, reserved, 1, 4], &[0; 4])? != HvStatus::SUCCESS);
    }
    check_eq!(cx.slot_type(&synic, SINT), 0);
    Ok(())
}

fn type_zero_is_refused(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    cx.synic(&[SINT])?;
    check_eq!(cx.post(MESSAGE, 0, &PAYLOAD)?, HvStatus::INVALID_PARAMETER);
    Ok(())
}

fn a_hypervisors_type_is_refused(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    cx.synic(&[SINT])?;
    for message_type in [0x8000_0000, 0x8000_0010, u32::MAX] {
        check_eq!(cx.post(MESSAGE, message_type, &PAYLOAD)?, HvStatus::INVALID_PARAMETER);
    }
    Ok(())
}

fn a_payload_beyond_240_bytes_is_refused(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    cx.synic(&[SINT])?;
    for size in [241, 256, 0x100 + 16, u32::MAX] {
        check_eq!(cx.post_words([MESSAGE, 0, 1, size], &PAYLOAD)?, HvStatus::INVALID_PARAMETER);
    }
    Ok(())
}

/// Checks that a post to this connection gets this status, and the SynIC is ready.
fn post_gets(cx: &Cx<'_>, connection: u32, status: HvStatus) -> Outcome {
    check_eq!(cx.post(connection, 1, &PAYLOAD)?, status);
    Ok(())
}

fn need_privilege(cx: &Cx<'_>) -> Outcome {
    skip_if!(!cx.facts.features.privileges.post_messages(), "the partition may not post messages");
    Ok(())
}

fn an_unknown_connection_is_refused(cx: &Cx<'_>) -> Outcome {
    need_privilege(cx)?;
    post_gets(cx, NOTHING, HvStatus::INVALID_CONNECTION_ID)
}

fn connection_zero_is_refused(cx: &Cx<'_>) -> Outcome {
    need_privilege(cx)?;
    post_gets(cx, 0, HvStatus::INVALID_CONNECTION_ID)
}

fn a_connection_id_has_all_its_bits(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let synic = cx.synic(&[SINT])?;
    for bit in [24, 31, 15] {
        check!(cx.post(MESSAGE ^ 1 << bit, 1, &PAYLOAD)? != HvStatus::SUCCESS);
    }
    check_eq!(cx.slot_type(&synic, SINT), 0);
    Ok(())
}

fn an_event_connection_takes_no_message(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    cx.synic(&[SINT])?;
    post_gets(cx, EVENT, HvStatus::INVALID_PORT_ID)
}

fn a_deleted_port_takes_no_message(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    cx.synic(&[SINT])?;
    post_gets(cx, DELETED, HvStatus::INVALID_PORT_ID)
}

fn a_synic_that_is_off_takes_no_message(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let synic = cx.synic(&[SINT])?;
    cx.write_register(RegisterName::SCONTROL, 0)?;
    post_gets(cx, MESSAGE, HvStatus::INVALID_SYNIC_STATE)?;
    check_eq!(cx.slot_type(&synic, SINT), 0);
    cx.write_register(RegisterName::SCONTROL, 1)?;
    check_eq!(cx.slot_type(&synic, SINT), 0);
    post_gets(cx, MESSAGE, HvStatus::SUCCESS)
}

fn a_message_page_that_is_off_takes_no_message(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let synic = cx.synic(&[SINT])?;
    cx.write_register(RegisterName::SIMP, synic.messages)?;
    post_gets(cx, MESSAGE, HvStatus::INVALID_SYNIC_STATE)?;
    check_eq!(cx.slot_type(&synic, SINT), 0);
    cx.write_register(RegisterName::SIMP, synic.messages | 1)?;
    post_gets(cx, MESSAGE, HvStatus::SUCCESS)
}

fn no_vp_is_there_for_a_message_to_any(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    // All VPs have their SynIC off at the start of a case.
    post_gets(cx, MESSAGE_TO_ANY, HvStatus::INVALID_VP_INDEX)
}

fn a_message_raises_one_interrupt(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let synic = cx.synic(&[SINT])?;
    for _ in 0..3 {
        cx.one_interrupt(synic.intid, || cx.posted(MESSAGE, 1, &PAYLOAD))?;
        cx.take(&synic, SINT)?;
    }
    Ok(())
}

fn a_masked_sint_gets_the_message_without_interrupt(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let synic = cx.synic(&[])?;
    cx.write_register(RegisterName::sint(SINT), 0x1_0000 | u64::from(synic.intid))?;
    cx.no_interrupt(synic.intid, || cx.posted(MESSAGE, 1, &PAYLOAD))?;
    cx.take(&synic, SINT)?;
    // The interrupt is lost: unmasking does not bring it back.
    cx.no_interrupt(synic.intid, || cx.write_register(RegisterName::sint(SINT), synic.intid.into()))
}

fn a_polled_sint_gets_the_message_without_interrupt(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    skip_if!(!cx.facts.features.c.sint_polling_mode(), "no polling mode");
    let synic = cx.synic(&[])?;
    cx.write_register(RegisterName::sint(SINT), 0x4_0000 | u64::from(synic.intid))?;
    cx.no_interrupt(synic.intid, || cx.posted(MESSAGE, 1, &PAYLOAD))?;
    cx.take(&synic, SINT)?;
    Ok(())
}

fn a_refused_message_arrives_nowhere(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let all: [u8; 16] = core::array::from_fn(|n| n as u8);
    let synic = cx.synic(&all)?;
    cx.no_interrupt(synic.intid, || {
        for (connection, message_type) in [(NOTHING, 1), (EVENT, 1), (DELETED, 1), (MESSAGE, 0)] {
            check!(cx.post(connection, message_type, &PAYLOAD)? != HvStatus::SUCCESS);
        }
        Ok(())
    })?;
    cx.eom()?;
    for sint in all {
        check_eq!(cx.slot_type(&synic, sint), 0);
    }
    Ok(())
}

fn a_message_goes_to_its_sint_alone(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let all: [u8; 16] = core::array::from_fn(|n| n as u8);
    let synic = cx.synic(&all)?;
    cx.posted(MESSAGE, 1, &PAYLOAD)?;
    for sint in all {
        check_eq!(cx.slot_type(&synic, sint) != 0, sint == SINT);
    }
    Ok(())
}

fn a_message_goes_to_another_vp(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let other = cx.other()?;
    let own = cx.synic(&[SINT])?;
    let synic = cx.synic_on(other, &[SINT])?;
    cx.no_interrupt(own.intid, || cx.posted(MESSAGE_TO_VP1, 3, &PAYLOAD))?;
    cx.soon("the message arrives", || cx.slot_type(&synic, SINT) != 0)?;
    check!(cx.slot(&synic, SINT).is_some_and(|message| message.payload[..24] == PAYLOAD));
    check_eq!(cx.slot_type(&own, SINT), 0);
    let intid = synic.intid;
    cx.soon("the other VP takes the interrupt", || cx.on(other, |cx| cx.env.taken(intid)) != 0)
}

fn a_message_comes_from_another_vp(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let other = cx.other()?;
    let synic = cx.synic(&[SINT])?;
    cx.one_interrupt(synic.intid, || cx.check_on(other, |cx| cx.posted(MESSAGE, 4, &PAYLOAD)))?;
    check_eq!(cx.take(&synic, SINT)?.header.message_type.0, 4);
    Ok(())
}

fn a_message_to_any_goes_to_a_vp_whose_synic_is_on(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let target = cx.env.vp_count() - 1;
    let synic = if target == 0 { cx.synic(&[SINT])? } else { cx.synic_on(target, &[SINT])? };
    cx.posted(MESSAGE_TO_ANY, 6, &PAYLOAD)?;
    cx.soon("the message arrives", || cx.slot_type(&synic, SINT) == 6)
}
