//! Contact with the host half of VMBus: messages that come from the host.
//!
//! VMBus is no part of the TLFS. What is checked here is what every guest relies on before its first channel.

use hv_tlfs::synic::Message;
use hv_tlfs::vmbus::connection::{MESSAGE_CONNECTION_ID, MESSAGE_CONNECTION_ID_4, MESSAGE_SINT};
use hv_tlfs::vmbus::{InitiateContact, MessageHeader, MessageType, TargetInfo, Version, VersionResponse};
use zerocopy::{FromBytes, IntoBytes};

use crate::cx::{Cx, Synic};
use crate::outcome::{Outcome, Stop, fail};

cases! {
    "vmbus";
    "Linux 6.12, include/linux/hyperv.h", "vmbus_channel_initiate_contact":
        the_host_answers_the_contact,
        the_answer_comes_as_a_message_of_type_1,
        the_answer_raises_the_interrupt_of_sint_2,
        the_answer_goes_to_the_vp_that_was_named,
        a_version_that_nobody_speaks_is_declined,
        an_older_version_is_spoken_on_connection_1,
        a_declined_version_can_be_followed_by_another;
    "Linux 6.12, include/linux/hyperv.h", "vmbus_channel_message_header":
        unloading_is_answered,
        offers_end_with_a_message_that_says_so;
}

const SINT: u8 = MESSAGE_SINT as u8;

/// Skips without VMBus; sets up the SynIC for it.
fn ready(cx: &Cx<'_>) -> Result<Synic, Stop> {
    skip_if!(!cx.env.vmbus(), "no VMBus");
    skip_if!(!cx.facts.features.privileges.post_messages(), "the partition may not post messages");
    cx.synic(&[SINT])
}

fn contact(cx: &Cx<'_>, connection: u32, version: Version, vp: usize) -> Outcome {
    let target_info = TargetInfo(0).with_sint(SINT);
    let message = InitiateContact {
        header: MessageHeader::new(MessageType::INITIATE_CONTACT),
        version,
        target_vp: cx.index(vp),
        target_info: if version >= Version::V5_0 { target_info } else { TargetInfo(0) },
        monitor_page_in: cx.page()?,
        monitor_page_out: cx.page()?,
    };
    cx.posted(connection, 1, message.as_bytes())
}

/// Waits for the next message, and takes it.
fn next(cx: &Cx<'_>, synic: &Synic) -> Result<Message, Stop> {
    cx.soon("the host sends a message", || cx.slot_type(synic, SINT) != 0)?;
    cx.take(synic, SINT)
}

/// Returns the kind of a VMBus message.
fn kind(message: &Message) -> MessageType {
    MessageHeader::read_from_prefix(&message.payload)
        .map_or(MessageType(0), |(header, _)| header.message_type)
}

fn response(message: &Message) -> Result<VersionResponse, Stop> {
    if kind(message) != MessageType::VERSION_RESPONSE {
        return Err(fail("the message is a VERSION_RESPONSE"));
    }
    let read = VersionResponse::read_from_prefix(&message.payload);
    read.map(|(response, _)| response).map_err(|_| fail("a VERSION_RESPONSE fits into a message"))
}

/// Ends the connection, whatever its state.
fn unload(cx: &Cx<'_>, synic: &Synic, connection: u32) -> Outcome {
    cx.posted(connection, 1, MessageHeader::new(MessageType::UNLOAD).as_bytes())?;
    // Whatever was on its way comes first.
    for _ in 0..100 {
        if kind(&next(cx, synic)?) == MessageType::UNLOAD_RESPONSE {
            return Ok(());
        }
    }
    Err(fail("an UNLOAD_RESPONSE comes"))
}

/// Makes contact by version 5.2: the response, and the connection for all that follows.
fn connect(cx: &Cx<'_>, synic: &Synic) -> Result<(VersionResponse, u32), Stop> {
    contact(cx, MESSAGE_CONNECTION_ID_4, Version::V5_2, synic.vp)?;
    let response = response(&next(cx, synic)?)?;
    Ok((response, response.message_connection))
}

fn the_host_answers_the_contact(cx: &Cx<'_>) -> Outcome {
    let synic = ready(cx)?;
    let (response, connection) = connect(cx, &synic)?;
    check_eq!(response.supported, 1);
    check_eq!(response.connection_state.0, 0);
    unload(cx, &synic, connection)
}

fn the_answer_comes_as_a_message_of_type_1(cx: &Cx<'_>) -> Outcome {
    let synic = ready(cx)?;
    contact(cx, MESSAGE_CONNECTION_ID_4, Version::V5_2, 0)?;
    let message = next(cx, &synic)?;
    check_eq!(message.header.message_type.0, 1);
    check!(usize::from(message.header.payload_size) >= size_of::<VersionResponse>());
    let connection = response(&message)?.message_connection;
    unload(cx, &synic, connection)
}

fn the_answer_raises_the_interrupt_of_sint_2(cx: &Cx<'_>) -> Outcome {
    let synic = ready(cx)?;
    cx.one_interrupt(synic.intid, || contact(cx, MESSAGE_CONNECTION_ID_4, Version::V5_2, 0))?;
    let connection = response(&next(cx, &synic)?)?.message_connection;
    unload(cx, &synic, connection)
}

fn the_answer_goes_to_the_vp_that_was_named(cx: &Cx<'_>) -> Outcome {
    let own = ready(cx)?;
    let other = cx.other()?;
    let synic = cx.synic_on(other, &[SINT])?;
    cx.no_interrupt(own.intid, || contact(cx, MESSAGE_CONNECTION_ID_4, Version::V5_2, other))?;
    check_eq!(cx.slot_type(&own, SINT), 0);
    cx.check_on(other, |cx| {
        let connection = response(&next(cx, &synic)?)?.message_connection;
        unload(cx, &synic, connection)
    })
}

fn a_version_that_nobody_speaks_is_declined(cx: &Cx<'_>) -> Outcome {
    let synic = ready(cx)?;
    contact(cx, MESSAGE_CONNECTION_ID_4, Version::new(0x7fff, 0), 0)?;
    check_eq!(response(&next(cx, &synic)?)?.supported, 0);
    Ok(())
}

fn an_older_version_is_spoken_on_connection_1(cx: &Cx<'_>) -> Outcome {
    let synic = ready(cx)?;
    contact(cx, MESSAGE_CONNECTION_ID, Version::V4_0, 0)?;
    let response = response(&next(cx, &synic)?)?;
    skip_if!(response.supported == 0, "the host does not speak version 4.0");
    unload(cx, &synic, MESSAGE_CONNECTION_ID)
}

fn a_declined_version_can_be_followed_by_another(cx: &Cx<'_>) -> Outcome {
    let synic = ready(cx)?;
    contact(cx, MESSAGE_CONNECTION_ID_4, Version::new(0x7fff, 0), 0)?;
    check_eq!(response(&next(cx, &synic)?)?.supported, 0);
    let (response, connection) = connect(cx, &synic)?;
    check_eq!(response.supported, 1);
    unload(cx, &synic, connection)
}

fn unloading_is_answered(cx: &Cx<'_>) -> Outcome {
    let synic = ready(cx)?;
    for _ in 0..2 {
        let (_, connection) = connect(cx, &synic)?;
        unload(cx, &synic, connection)?;
    }
    Ok(())
}

fn offers_end_with_a_message_that_says_so(cx: &Cx<'_>) -> Outcome {
    let synic = ready(cx)?;
    let (_, connection) = connect(cx, &synic)?;
    cx.posted(connection, 1, MessageHeader::new(MessageType::REQUEST_OFFERS).as_bytes())?;
    let mut ended = false;
    for _ in 0..100 {
        match kind(&next(cx, &synic)?) {
            MessageType::OFFER_CHANNEL => {}
            other => {
                check_eq!(other.0, MessageType::ALL_OFFERS_DELIVERED.0);
                ended = true;
                break;
            }
        }
    }
    check!(ended);
    unload(cx, &synic, connection)
}
