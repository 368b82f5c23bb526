//! Offers: what the host says of its devices.

use hv_tlfs::vmbus::connection::MAX_CHANNELS;
use hv_tlfs::vmbus::{Guid, MessageHeader, MessageType, OfferChannel, PipeMode, RelIdReleased};

use crate::cx::{Bus, Cx};
use crate::outcome::{Outcome, Stop};

cases! {
    "vmbus_offers";
    "Linux 6.12, drivers/hv/channel_mgmt.c", "vmbus_request_offers":
        offers_end_with_a_message_that_says_so,
        no_offer_comes_before_the_request,
        nothing_comes_after_the_end_of_the_offers,
        an_offer_comes_once;
    "Linux 6.12, drivers/hv/channel_mgmt.c", "vmbus_onoffer":
        a_channel_has_a_number_of_its_own,
        a_channels_number_is_an_event_flag,
        a_channel_has_a_connection_of_its_own,
        a_channels_connection_is_none_of_the_wellknown,
        a_channel_has_an_interrupt_of_its_own,
        a_monitor_that_is_allocated_exists,
        an_offer_has_an_interface_and_an_instance,
        the_reserved_words_of_an_offer_are_zero;
    "Linux 6.12, drivers/hv/channel_mgmt.c", "vmbus_process_offer":
        no_two_offers_are_of_the_same_device,
        subchannels_are_not_offered_unasked;
    "Linux 7.2, drivers/hv/channel_mgmt.c", "vmbus_onoffer":
        nothing_confidential_is_offered_to_who_did_not_ask;
    "Linux 6.12, include/linux/hyperv.h", "vmbus_channel_offer":
        a_pipe_has_a_mode;
    "OpenVMM, vmbus_server", "channels.rs: handle_request_offers":
        offers_are_made_once_in_a_connection;
    "OpenVMM, vmbus_server", "channels.rs: handle_rel_id_released":
        a_released_channel_is_offered_with_the_next_contact;
}

/// Offers that a case compares with one another at most.
const KEPT: usize = 64;

/// Checks each offer.
fn each(cx: &Cx<'_>, check: impl FnMut(&OfferChannel) -> Outcome) -> Outcome {
    cx.connected(|bus| {
        skip_if!(bus.offers(check)? == 0, "the host offers no device");
        Ok(())
    })
}

/// Checks that no two offers have the same value.
fn distinct(cx: &Cx<'_>, value: impl Fn(&OfferChannel) -> u64) -> Outcome {
    let (mut values, mut count) = ([0; KEPT], 0);
    each(cx, |offer| {
        let value = value(offer);
        let again = values[..count].contains(&value);
        check!(!again);
        if count < KEPT {
            values[count] = value;
            count += 1;
        }
        Ok(())
    })
}

fn offers_end_with_a_message_that_says_so(cx: &Cx<'_>) -> Outcome {
    cx.connected(|bus| {
        bus.say_plain(MessageType::REQUEST_OFFERS)?;
        for _ in 0..KEPT {
            let said = bus.next()?;
            if said.kind != MessageType::OFFER_CHANNEL {
                said.get::<MessageHeader>(MessageType::ALL_OFFERS_DELIVERED)?;
                return Ok(());
            }
        }
        Err(Stop::Skip("the host offers very many devices"))
    })
}

fn no_offer_comes_before_the_request(cx: &Cx<'_>) -> Outcome {
    cx.connected(|bus| {
        bus.silence()?;
        bus.unload_in_silence()
    })
}

fn nothing_comes_after_the_end_of_the_offers(cx: &Cx<'_>) -> Outcome {
    cx.connected(|bus| {
        let offer = bus.any()?;
        bus.silence()?;
        // Nor when something else happens.
        bus.say(&RelIdReleased {
            header: MessageHeader::new(MessageType::RELID_RELEASED),
            channel: offer.channel,
        })?;
        bus.unload_in_silence()
    })
}

fn an_offer_comes_once(cx: &Cx<'_>) -> Outcome {
    let mut last = None;
    each(cx, |offer| {
        let again = last == Some(offer.channel);
        check!(!again);
        last = Some(offer.channel);
        Ok(())
    })
}

fn a_channel_has_a_number_of_its_own(cx: &Cx<'_>) -> Outcome {
    distinct(cx, |offer| offer.channel.0.into())
}

fn a_channels_number_is_an_event_flag(cx: &Cx<'_>) -> Outcome {
    each(cx, |offer| {
        check!((1..MAX_CHANNELS).contains(&offer.channel.0));
        Ok(())
    })
}

fn a_channel_has_a_connection_of_its_own(cx: &Cx<'_>) -> Outcome {
    distinct(cx, |offer| offer.connection.into())
}

fn a_channels_connection_is_none_of_the_wellknown(cx: &Cx<'_>) -> Outcome {
    each(cx, |offer| {
        check!(offer.connection > 4);
        Ok(())
    })
}

fn a_channel_has_an_interrupt_of_its_own(cx: &Cx<'_>) -> Outcome {
    each(cx, |offer| {
        check_eq!(offer.dedicated_interrupt & 1, 1);
        Ok(())
    })
}

fn a_monitor_that_is_allocated_exists(cx: &Cx<'_>) -> Outcome {
    each(cx, |offer| {
        // Four groups of 32.
        check!(offer.monitor_allocated & 1 == 0 || offer.monitor_id < 128);
        Ok(())
    })
}

fn an_offer_has_an_interface_and_an_instance(cx: &Cx<'_>) -> Outcome {
    each(cx, |offer| {
        check!(offer.offer.interface != Guid::ZERO);
        check!(offer.offer.instance != Guid::ZERO);
        Ok(())
    })
}

fn the_reserved_words_of_an_offer_are_zero(cx: &Cx<'_>) -> Outcome {
    each(cx, |offer| {
        check!(offer.offer.reserved1 == [0; 2]);
        check!(offer.offer.reserved2 == [0; 2]);
        Ok(())
    })
}

/// Returns a number that is the device's: two of 64 bits that are equal by accident are not to be expected.
fn device(offer: &OfferChannel) -> u64 {
    let bytes = offer.offer.interface.bytes.iter().chain(&offer.offer.instance.bytes);
    bytes.fold(u64::from(offer.offer.subchannel_index) | 1 << 63, |hash, byte| {
        (hash.rotate_left(5) ^ u64::from(*byte)).wrapping_mul(0x517c_c1b7_2722_0a95)
    })
}

fn no_two_offers_are_of_the_same_device(cx: &Cx<'_>) -> Outcome {
    distinct(cx, device)
}

fn subchannels_are_not_offered_unasked(cx: &Cx<'_>) -> Outcome {
    each(cx, |offer| {
        check_eq!(offer.offer.subchannel_index, 0);
        Ok(())
    })
}

fn nothing_confidential_is_offered_to_who_did_not_ask(cx: &Cx<'_>) -> Outcome {
    each(cx, |offer| {
        check!(!offer.offer.flags.confidential_ring());
        check!(!offer.offer.flags.confidential_memory());
        Ok(())
    })
}

fn a_pipe_has_a_mode(cx: &Cx<'_>) -> Outcome {
    each(cx, |offer| {
        let [a, b, c, d, ..] = offer.offer.user_defined;
        let mode = PipeMode(u32::from_le_bytes([a, b, c, d]));
        check!(!offer.offer.flags.named_pipe() || matches!(mode, PipeMode::BYTE | PipeMode::MESSAGE));
        Ok(())
    })
}

fn offers_are_made_once_in_a_connection(cx: &Cx<'_>) -> Outcome {
    cx.connected(|bus| {
        skip_if!(bus.offers(|_| Ok(()))? == 0, "the host offers no device");
        bus.say_plain(MessageType::REQUEST_OFFERS)?;
        // A host may say again that it has made them all.
        bus.say_plain(MessageType::UNLOAD)?;
        let again = loop {
            match bus.next()?.kind {
                MessageType::UNLOAD_RESPONSE => break false,
                MessageType::OFFER_CHANNEL => break true,
                _ => {}
            }
        };
        check!(!again);
        bus.reconnect()
    })
}

fn released(bus: &mut Bus<'_, '_>) -> Outcome {
    let offer = bus.any()?;
    bus.say(&RelIdReleased {
        header: MessageHeader::new(MessageType::RELID_RELEASED),
        channel: offer.channel,
    })?;
    bus.reconnect()?;
    let mut found = false;
    bus.offers(|other| {
        found |= device(other) == device(&offer);
        Ok(())
    })?;
    check!(found);
    Ok(())
}

fn a_released_channel_is_offered_with_the_next_contact(cx: &Cx<'_>) -> Outcome {
    cx.connected(released)
}
