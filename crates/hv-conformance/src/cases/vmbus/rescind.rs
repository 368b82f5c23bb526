//! Rescission: channels that the host takes away while the guest runs. A guest can have that done by itself on any host
//! with sub-channels: they go with the first channel of their device.

use hv_tlfs::vmbus::{GpadlCreated, GpadlId, MessageType, OfferChannel};

use crate::cx::{Cx, RINGS};
use crate::outcome::Outcome;

use super::channels::not_opened;
use super::devices::storage::initialize;
use super::subchannels::{
    after_rescission, after_rescission_when_open, offered, prepared, release, request, rescinded,
};

cases! {
    "vmbus_rescind";
    "Linux 6.12, drivers/hv/channel_mgmt.c", "vmbus_onoffer_rescind":
        a_channel_is_rescinded_once,
        memory_of_a_released_channel_is_free;
    "Linux 6.12, drivers/hv/channel_mgmt.c", "vmbus_release_relid":
        a_number_that_is_not_released_is_not_offered_again,
        a_channel_that_was_released_is_not_rescinded;
    "OpenVMM, vmbus_server", "channels.rs: handle_open_channel":
        a_rescinded_channel_is_not_opened;
}

fn a_channel_is_rescinded_once(cx: &Cx<'_>) -> Outcome {
    after_rescission_when_open(cx, |bus, _, sub| {
        bus.silence()?;
        bus.close(sub.id)?;
        release(bus, sub.id)?;
        bus.silence()
    })
}

/// Checks that a channel's memory is free after a rescind and release: Linux posts no GPADL_TEARDOWN for a channel that
/// was rescinded.
fn memory_of_a_released_channel_is_free(cx: &Cx<'_>) -> Outcome {
    after_rescission_when_open(cx, |bus, channel, sub| {
        bus.close(sub.id)?;
        release(bus, sub.id)?;
        // Its name is free for the memory of another channel.
        check_eq!(bus.create(channel.id, sub.gpadl, 1, &[4096, cx.page()? / 4096])?.0, 0);
        bus.teardown(channel.id, sub.gpadl)?;
        bus.teardown(channel.id, channel.gpadl)
    })
}

fn a_number_that_is_not_released_is_not_offered_again(cx: &Cx<'_>) -> Outcome {
    after_rescission(cx, |bus, channel, offer, sub| {
        bus.teardown(channel.id, channel.gpadl)?;
        let channel = bus.open(offer)?;
        initialize(&channel)?;
        // A host may fail the request, or offer a channel with another number. What comes before the answer to the next
        // message is all that it does at once.
        request(&channel, 1)?;
        let other = GpadlId(RINGS.0 + 1);
        bus.gpadl_header(channel.id, other, [16, 1], &[4096, cx.page()? / 4096])?;
        loop {
            let said = bus.next()?;
            if said.kind != MessageType::OFFER_CHANNEL {
                check_eq!(said.get::<GpadlCreated>(MessageType::GPADL_CREATED)?.status.0, 0);
                return bus.teardown(channel.id, other);
            }
            check!(said.get::<OfferChannel>(MessageType::OFFER_CHANNEL)?.channel != sub.channel);
        }
    })
}

fn a_channel_that_was_released_is_not_rescinded(cx: &Cx<'_>) -> Outcome {
    prepared(cx, |bus, channel, _, _| {
        check_eq!(request(channel, 1)?, 0);
        let sub = offered(bus)?;
        release(bus, sub.channel)?;
        bus.close(channel.id)?;
        bus.silence()?;
        bus.teardown(channel.id, channel.gpadl)
    })
}

fn a_rescinded_channel_is_not_opened(cx: &Cx<'_>) -> Outcome {
    prepared(cx, |bus, channel, _, _| {
        check_eq!(request(channel, 1)?, 0);
        let (sub, gpadl) = (offered(bus)?, GpadlId(RINGS.0 + 1));
        let rings = bus.rings(sub.channel, gpadl, bus.opening().pages)?;
        bus.close(channel.id)?;
        rescinded(bus, sub.channel)?;
        let sub = bus.channel(&sub, gpadl, rings);
        not_opened(bus, &sub.request(bus.opening().target_vp), channel.id)?;
        release(bus, sub.id)
    })
}
