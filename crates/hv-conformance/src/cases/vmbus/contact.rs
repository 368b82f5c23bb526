//! Contact: the version that both sides speak, and where the host's messages go.

use hv_tlfs::vmbus::connection::MESSAGE_CONNECTION_ID;
use hv_tlfs::vmbus::{
    ChannelId, FeatureFlags, GpadlId, MessageHeader, MessageType, OfferChannel, OpenChannel, TargetInfo,
    Version, VersionResponse, VersionResponseFeatures,
};

use crate::cx::{Bus, Contact, Cx, SINT};
use crate::outcome::{Outcome, Stop, fail};

cases! {
    "vmbus_contact";
    "Linux 6.12, include/linux/hyperv.h", "vmbus_channel_initiate_contact":
        the_host_answers_the_contact,
        the_answer_comes_as_a_message_of_type_1,
        the_answer_raises_the_interrupt_of_sint_2,
        the_answer_goes_to_the_vp_that_was_named;
    "OpenVMM, vmbus_server", "channels.rs: initiate_contact":
        a_contact_ends_the_connection_before_it,
        a_declined_version_leaves_no_connection,
        a_sint_that_the_host_does_not_serve_is_declined_there,
        a_sint_is_ignored_on_connection_1,
        both_monitor_pages_may_be_missing,
        one_monitor_page_alone_is_refused,
        a_contact_frees_the_memory_of_the_connection_before_it;
    "Linux 6.12, drivers/hv/connection.c", "vmbus_negotiate_version":
        a_version_that_nobody_speaks_is_declined,
        a_declined_version_can_be_followed_by_another,
        an_older_version_is_spoken_on_connection_1,
        a_version_of_linux_is_spoken,
        the_answer_names_the_connection_for_all_that_follows;
    "OpenVMM, vmbus_server", "channels.rs: check_version_supported":
        an_answer_to_version_6_tells_the_features,
        unknown_features_are_not_granted,
        a_feature_that_was_not_asked_for_is_not_granted;
    "OpenVMM, vmbus_server", "channels.rs: handle_synic_message":
        nothing_is_answered_before_the_contact,
        an_unknown_message_is_ignored,
        a_message_that_is_too_short_is_ignored,
        a_message_of_the_hosts_is_ignored;
}

/// A version of which no host knows anything.
const NOBODYS: Version = Version::new(0x7fff, 0);

fn answer(cx: &Cx<'_>, contact: &Contact) -> Result<VersionResponse, Stop> {
    let synic = cx.vmbus()?;
    cx.initiate(contact)?;
    cx.next_said(&synic)?.get(MessageType::VERSION_RESPONSE)
}

fn the_host_answers_the_contact(cx: &Cx<'_>) -> Outcome {
    cx.connected(|bus| {
        check_eq!(bus.response.supported, 1);
        check_eq!(bus.response.connection_state.0, 0);
        Ok(())
    })
}

fn the_answer_comes_as_a_message_of_type_1(cx: &Cx<'_>) -> Outcome {
    let synic = cx.vmbus()?;
    cx.initiate(&Contact { version: NOBODYS, ..cx.contact(Version::V5_2)? })?;
    let said = cx.next_said(&synic)?;
    check_eq!(said.message_type, 1);
    check!(said.len >= size_of::<VersionResponse>());
    Ok(())
}

fn the_answer_raises_the_interrupt_of_sint_2(cx: &Cx<'_>) -> Outcome {
    let synic = cx.vmbus()?;
    let contact = Contact { version: NOBODYS, ..cx.contact(Version::V5_2)? };
    cx.one_interrupt(synic.intid, || cx.initiate(&contact))?;
    cx.next_said(&synic)?.get::<VersionResponse>(MessageType::VERSION_RESPONSE)?;
    Ok(())
}

fn the_answer_goes_to_the_vp_that_was_named(cx: &Cx<'_>) -> Outcome {
    let own = cx.vmbus()?;
    let other = cx.other()?;
    let synic = cx.synic_on(other, &[SINT])?;
    let contact = Contact { version: NOBODYS, target_vp: cx.index(other), ..cx.contact(Version::V5_2)? };
    cx.no_interrupt(own.intid, || cx.initiate(&contact))?;
    check_eq!(cx.slot_type(&own, SINT), 0);
    cx.check_on(other, |cx| {
        let said = cx.next_said(&synic)?;
        said.get::<VersionResponse>(MessageType::VERSION_RESPONSE)?;
        Ok(())
    })
}

fn a_version_that_nobody_speaks_is_declined(cx: &Cx<'_>) -> Outcome {
    let contact = cx.contact(Version::V5_2)?;
    check_eq!(answer(cx, &Contact { version: NOBODYS, ..contact })?.supported, 0);
    Ok(())
}

fn a_declined_version_can_be_followed_by_another(cx: &Cx<'_>) -> Outcome {
    a_version_that_nobody_speaks_is_declined(cx)?;
    the_host_answers_the_contact(cx)
}

fn an_older_version_is_spoken_on_connection_1(cx: &Cx<'_>) -> Outcome {
    cx.connected_by(Version::V4_0, |bus| {
        check_eq!(bus.connection, MESSAGE_CONNECTION_ID);
        bus.offers(|_| Ok(()))?;
        Ok(())
    })
}

fn a_version_of_linux_is_spoken(cx: &Cx<'_>) -> Outcome {
    cx.connected(|bus| {
        check!((Version::V4_0..=Version::V5_3).contains(&bus.version));
        bus.offers(|_| Ok(()))?;
        Ok(())
    })
}

fn the_answer_names_the_connection_for_all_that_follows(cx: &Cx<'_>) -> Outcome {
    cx.connected(|bus| {
        skip_if!(bus.version < Version::V5_0, "the host speaks no version that names one");
        check!(bus.response.message_connection != 0);
        check_eq!(bus.connection, bus.response.message_connection);
        bus.offers(|_| Ok(()))?;
        Ok(())
    })
}

fn a_declined_version_leaves_no_connection(cx: &Cx<'_>) -> Outcome {
    let synic = cx.vmbus()?;
    let contact = cx.contact(Version::V5_2)?;
    let refused = Contact { version: NOBODYS, ..contact };
    cx.initiate(&refused)?;
    check_eq!(cx.next_said(&synic)?.get::<VersionResponse>(MessageType::VERSION_RESPONSE)?.supported, 0);
    cx.posted(contact.connection, 1, zerocopy::IntoBytes::as_bytes(&plain(MessageType::REQUEST_OFFERS)))?;
    // The next contact is answered after what came before it.
    cx.initiate(&refused)?;
    cx.next_said(&synic)?.get::<VersionResponse>(MessageType::VERSION_RESPONSE)?;
    Ok(())
}

fn a_sint_that_the_host_does_not_serve_is_declined_there(cx: &Cx<'_>) -> Outcome {
    const OTHER: u8 = SINT + 1;
    skip_if!(!cx.env.vmbus(), "no VMBus");
    let synic = cx.synic(&[SINT, OTHER])?;
    let contact = cx.contact(Version::V5_2)?;
    cx.initiate(&Contact { target: TargetInfo(0).with_sint(OTHER), ..contact })?;
    cx.soon("the host answers on the SINT that was named", || cx.slot_type(&synic, OTHER) != 0)?;
    let message = cx.take(&synic, OTHER)?;
    let read = <VersionResponse as zerocopy::FromBytes>::read_from_prefix(&message.payload);
    let (response, _) = read.map_err(|_| fail("a VERSION_RESPONSE fits into a message"))?;
    check_eq!(response.header.message_type.0, MessageType::VERSION_RESPONSE.0);
    check_eq!(response.supported, 0);
    check_eq!(cx.slot_type(&synic, SINT), 0);
    Ok(())
}

fn a_sint_is_ignored_on_connection_1(cx: &Cx<'_>) -> Outcome {
    let synic = cx.vmbus()?;
    let contact = cx.contact(Version::V4_0)?;
    // An address in versions before 5.0: that of the interrupt page.
    let contact = Contact { target: TargetInfo(0x1_2345_6703), ..contact };
    cx.initiate(&contact)?;
    let response: VersionResponse = cx.next_said(&synic)?.get(MessageType::VERSION_RESPONSE)?;
    skip_if!(response.supported == 0, "the host does not speak version 4.0");
    check_eq!(response.connection_state.0, 0);
    end(cx, contact)
}

/// Ends whatever connection there is: a contact by an unknown version leaves none.
fn end(cx: &Cx<'_>, contact: Contact) -> Outcome {
    let contact = Contact { version: NOBODYS, target: TargetInfo(0).with_sint(SINT), ..contact };
    check_eq!(answer(cx, &contact)?.supported, 0);
    Ok(())
}

fn both_monitor_pages_may_be_missing(cx: &Cx<'_>) -> Outcome {
    let synic = cx.vmbus()?;
    let contact = Contact { monitor: [0; 2], ..cx.contact(Version::V5_2)? };
    let bus = Bus::connect(cx, synic, &contact)?;
    bus.ok_or(Stop::Skip("the host does not speak version 5.2"))?.run(|bus| {
        check_eq!(bus.response.connection_state.0, 0);
        bus.offers(|_| Ok(()))?;
        Ok(())
    })
}

fn one_monitor_page_alone_is_refused(cx: &Cx<'_>) -> Outcome {
    let contact = cx.contact(Version::V5_2)?;
    for alone in [[contact.monitor[0], 0], [0, contact.monitor[1]]] {
        let response = answer(cx, &Contact { monitor: alone, ..contact })?;
        let refused = response.supported == 0 || response.connection_state.0 != 0;
        end(cx, contact)?;
        check!(refused);
    }
    Ok(())
}

/// Returns something to compare two series of offers by.
fn sum(bus: &Bus<'_, '_>) -> Result<(usize, u64), Stop> {
    let mut sum = 0u64;
    let count = bus.offers(|offer: &OfferChannel| {
        let bytes = offer.offer.interface.bytes.iter().chain(&offer.offer.instance.bytes);
        let one = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
        });
        // The order is the host's affair.
        sum = sum.wrapping_add(one);
        Ok(())
    })?;
    Ok((count, sum))
}

/// Comes before all other cases that take offers: a host that offers a device only once has none left for them.
fn a_contact_ends_the_connection_before_it(cx: &Cx<'_>) -> Outcome {
    cx.connected(|bus| {
        let before = sum(bus)?;
        bus.reconnect()?;
        bus.silence()?;
        check!(sum(bus)? == before);
        Ok(())
    })
}

fn a_contact_frees_the_memory_of_the_connection_before_it(cx: &Cx<'_>) -> Outcome {
    cx.connected(|bus| {
        let offer = bus.any()?;
        let words = [4096, cx.page()? / 4096];
        check_eq!(bus.create(offer.channel, GpadlId(7), 1, &words)?.0, 0);
        bus.reconnect()?;
        let offer = bus.any()?;
        check_eq!(bus.create(offer.channel, GpadlId(7), 1, &words)?.0, 0);
        bus.teardown(offer.channel, GpadlId(7))
    })
}

/// Makes contact by version 6.0 with these features, and returns those that are granted.
fn granted(cx: &Cx<'_>, asked: FeatureFlags) -> Result<FeatureFlags, Stop> {
    let contact = cx.contact(Version::V6_0)?;
    let synic = cx.vmbus()?;
    cx.initiate(&Contact { target: contact.target.with_features(asked), ..contact })?;
    let said = cx.next_said(&synic)?;
    let response: VersionResponse = said.get(MessageType::VERSION_RESPONSE)?;
    let features = said.get::<VersionResponseFeatures>(MessageType::VERSION_RESPONSE);
    end(cx, contact)?;
    skip_if!(response.supported == 0, "the host does not speak version 6.0");
    Ok(features?.features)
}

fn an_answer_to_version_6_tells_the_features(cx: &Cx<'_>) -> Outcome {
    let asked = FeatureFlags(0).with_guest_specified_signal(true);
    let features = granted(cx, asked)?;
    skip_if!(!features.guest_specified_signal(), "the host does not grant chosen signals");
    check_eq!(features.0, asked.0);
    Ok(())
}

fn unknown_features_are_not_granted(cx: &Cx<'_>) -> Outcome {
    check_eq!(granted(cx, FeatureFlags(0xf000_0000))?.0, 0);
    Ok(())
}

fn a_feature_that_was_not_asked_for_is_not_granted(cx: &Cx<'_>) -> Outcome {
    check_eq!(granted(cx, FeatureFlags(0))?.0, 0);
    Ok(())
}

fn plain(kind: MessageType) -> MessageHeader {
    MessageHeader::new(kind)
}

fn nothing_is_answered_before_the_contact(cx: &Cx<'_>) -> Outcome {
    let synic = cx.vmbus()?;
    let contact = cx.contact(Version::V5_2)?;
    let post = |message: &[u8]| cx.posted(contact.connection, 1, message);
    post(zerocopy::IntoBytes::as_bytes(&open(1)))?;
    post(zerocopy::IntoBytes::as_bytes(&plain(MessageType::REQUEST_OFFERS)))?;
    // The contact is answered after what came before it.
    cx.initiate(&Contact { version: NOBODYS, ..contact })?;
    cx.next_said(&synic)?.get::<VersionResponse>(MessageType::VERSION_RESPONSE)?;
    Ok(())
}

/// Returns a request to open a channel without rings.
fn open(channel: u32) -> OpenChannel {
    OpenChannel {
        header: plain(MessageType::OPEN_CHANNEL),
        channel: ChannelId(channel),
        open_id: 1,
        ring_gpadl: GpadlId(0),
        target_vp: 0,
        downstream_page_offset: 1,
        user_data: [0; 120],
    }
}

fn an_unknown_message_is_ignored(cx: &Cx<'_>) -> Outcome {
    cx.connected(|bus| {
        for kind in [0, 99, 0x8000_0001] {
            bus.say(&[kind, 0u32, 0, 0])?;
        }
        bus.offers(|_| Ok(()))?;
        bus.unload_in_silence()
    })
}

fn a_message_that_is_too_short_is_ignored(cx: &Cx<'_>) -> Outcome {
    cx.connected(|bus| {
        for kind in [MessageType::OPEN_CHANNEL, MessageType::GPADL_HEADER, MessageType::MODIFY_CHANNEL] {
            bus.say_plain(kind)?;
        }
        bus.offers(|_| Ok(()))?;
        bus.unload_in_silence()
    })
}

fn a_message_of_the_hosts_is_ignored(cx: &Cx<'_>) -> Outcome {
    cx.connected(|bus| {
        for kind in [MessageType::ALL_OFFERS_DELIVERED, MessageType::UNLOAD_RESPONSE] {
            bus.say_plain(kind)?;
        }
        bus.offers(|_| Ok(()))?;
        bus.unload_in_silence()
    })
}
