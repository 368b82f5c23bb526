//! Channels: opening, closing, and the VP that a channel interrupts.

use hv_tlfs::vmbus::{
    ChannelId, GpadlCreated, GpadlId, MessageHeader, MessageType, ModifyChannel, ModifyChannelResponse,
    OfferChannel, OpenChannel, OpenResult, Version,
};

use crate::cx::{Bus, Channel, Cx, Opening, RINGS};
use crate::outcome::{Outcome, Stop, fail};

cases! {
    "vmbus_channels";
    "Linux 6.12, drivers/hv/channel.c", "__vmbus_open":
        a_channel_opens,
        the_answer_has_the_open_id,
        the_answer_names_the_channel,
        two_channels_are_open_at_a_time,
        a_gpadl_that_does_not_exist_has_no_rings,
        the_gpadl_of_another_channel_has_no_rings,
        a_guests_ring_without_pages_is_refused,
        a_guests_ring_without_data_is_refused,
        a_hosts_ring_without_pages_is_refused,
        a_hosts_ring_beyond_the_gpadl_is_refused,
        a_refused_channel_can_be_opened;
    "Linux 6.12, drivers/hv/channel.c", "vmbus_close_internal":
        closing_is_not_answered,
        the_rings_can_be_torn_down_after_the_end,
        a_closed_channel_opens_again,
        a_closed_channel_opens_again_with_other_rings;
    "OpenVMM, vmbus_server", "channels.rs: handle_open_channel":
        an_open_channel_is_not_opened_again,
        an_open_channel_outlives_a_second_request,
        an_unknown_channel_is_not_opened;
    "OpenVMM, vmbus_server", "channels.rs: handle_close_channel":
        closing_a_closed_channel_changes_nothing,
        closing_a_channel_leaves_the_others;
    "Linux 6.12, drivers/hv/channel.c", "send_modifychannel_with_ack":
        a_move_is_answered_from_version_5_3_on,
        a_move_of_a_closed_channel_fails;
    "Linux 6.12, drivers/hv/channel.c", "send_modifychannel_without_ack":
        a_move_is_not_answered_before_version_5_3;
}

/// Runs something with the first channel that is offered.
fn on_channel(cx: &Cx<'_>, work: impl FnOnce(&Bus<'_, '_>, &OfferChannel) -> Outcome) -> Outcome {
    cx.connected(|bus| {
        let offer = bus.any()?;
        work(bus, &offer)
    })
}

/// Checks that a channel is not opened: the host says so, or says nothing of it.
pub(super) fn not_opened(bus: &Bus<'_, '_>, request: &OpenChannel, known: ChannelId) -> Outcome {
    const OTHER: GpadlId = GpadlId(0x777);
    bus.say(request)?;
    // The host answers what follows, and what came before it has been dealt with then.
    bus.gpadl_header(known, OTHER, [16, 1], &[4096, bus.cx.page()? / 4096])?;
    for _ in 0..3 {
        let said = bus.next()?;
        if said.kind != MessageType::OPEN_RESULT {
            check_eq!(said.get::<GpadlCreated>(MessageType::GPADL_CREATED)?.status.0, 0);
            return bus.teardown(known, OTHER);
        }
        check!(said.get::<OpenResult>(MessageType::OPEN_RESULT)?.status.0 != 0);
    }
    Err(fail("a GPADL is created after a channel was refused"))
}

/// Creates rings for a channel.
fn with_rings<'b, 'a, 'e>(
    bus: &'b Bus<'a, 'e>,
    offer: &OfferChannel,
    pages: [usize; 2],
) -> Result<(Channel<'b, 'a, 'e>, OpenChannel), Stop> {
    let channel = bus.channel(offer, RINGS, bus.rings(offer.channel, RINGS, pages)?);
    let request = channel.request(bus.opening().target_vp);
    Ok((channel, request))
}

/// Checks that a channel is not opened with this offset of the host's ring, and is with the right one.
fn refuses_split(cx: &Cx<'_>, offset: u32) -> Outcome {
    on_channel(cx, |bus, offer| {
        let (channel, request) = with_rings(bus, offer, [1, 1])?;
        not_opened(bus, &OpenChannel { downstream_page_offset: offset, ..request }, offer.channel)?;
        check_eq!(bus.ask_to_open(&request)?.0, 0);
        channel.end()
    })
}

fn a_channel_opens(cx: &Cx<'_>) -> Outcome {
    on_channel(cx, |bus, offer| bus.open(offer)?.end())
}

fn the_answer_has_the_open_id(cx: &Cx<'_>) -> Outcome {
    on_channel(cx, |bus, offer| {
        let (_, request) = with_rings(bus, offer, [1, 1])?;
        bus.say(&OpenChannel { open_id: 0xfeed_f00d, ..request })?;
        check_eq!(bus.expect::<OpenResult>(MessageType::OPEN_RESULT)?.open_id, 0xfeed_f00d);
        Ok(())
    })
}

fn the_answer_names_the_channel(cx: &Cx<'_>) -> Outcome {
    cx.connected(|bus| {
        let [_, other] = bus.two()?;
        let (_, request) = with_rings(bus, &other, [1, 1])?;
        bus.say(&request)?;
        check_eq!(bus.expect::<OpenResult>(MessageType::OPEN_RESULT)?.channel.0, other.channel.0);
        Ok(())
    })
}

fn two_channels_are_open_at_a_time(cx: &Cx<'_>) -> Outcome {
    cx.connected(|bus| {
        let [one, other] = bus.two()?;
        let one = bus.open(&one)?;
        let other = bus.open_as(&other, Opening { gpadl: GpadlId(RINGS.0 + 1), ..bus.opening() })?;
        one.end()?;
        other.end()
    })
}

fn a_gpadl_that_does_not_exist_has_no_rings(cx: &Cx<'_>) -> Outcome {
    on_channel(cx, |bus, offer| {
        let (_, request) = with_rings(bus, offer, [1, 1])?;
        not_opened(bus, &OpenChannel { ring_gpadl: GpadlId(0x5555), ..request }, offer.channel)
    })
}

fn the_gpadl_of_another_channel_has_no_rings(cx: &Cx<'_>) -> Outcome {
    cx.connected(|bus| {
        let [one, other] = bus.two()?;
        let (_, request) = with_rings(bus, &one, [1, 1])?;
        not_opened(bus, &OpenChannel { channel: other.channel, ..request }, one.channel)
    })
}

fn a_guests_ring_without_pages_is_refused(cx: &Cx<'_>) -> Outcome {
    refuses_split(cx, 0)
}

fn a_guests_ring_without_data_is_refused(cx: &Cx<'_>) -> Outcome {
    refuses_split(cx, 1)
}

fn a_hosts_ring_without_pages_is_refused(cx: &Cx<'_>) -> Outcome {
    refuses_split(cx, 4)
}

fn a_hosts_ring_beyond_the_gpadl_is_refused(cx: &Cx<'_>) -> Outcome {
    refuses_split(cx, 0x8000_0002)
}

fn a_refused_channel_can_be_opened(cx: &Cx<'_>) -> Outcome {
    on_channel(cx, |bus, offer| {
        let (channel, request) = with_rings(bus, offer, [1, 1])?;
        let refused = OpenChannel { ring_gpadl: GpadlId(0x5555), ..request };
        not_opened(bus, &refused, offer.channel)?;
        check_eq!(bus.ask_to_open(&request)?.0, 0);
        channel.end()
    })
}

fn closing_is_not_answered(cx: &Cx<'_>) -> Outcome {
    cx.connected(|bus| {
        let offer = bus.any()?;
        let channel = bus.open(&offer)?;
        bus.close(channel.id)?;
        bus.unload_in_silence()
    })
}

fn the_rings_can_be_torn_down_after_the_end(cx: &Cx<'_>) -> Outcome {
    on_channel(cx, |bus, offer| {
        let channel = bus.open(offer)?;
        bus.close(channel.id)?;
        bus.teardown(channel.id, channel.gpadl)
    })
}

fn a_closed_channel_opens_again(cx: &Cx<'_>) -> Outcome {
    on_channel(cx, |bus, offer| {
        let channel = bus.open(offer)?;
        bus.close(channel.id)?;
        check_eq!(bus.ask_to_open(&channel.request(bus.opening().target_vp))?.0, 0);
        channel.end()
    })
}

fn a_closed_channel_opens_again_with_other_rings(cx: &Cx<'_>) -> Outcome {
    on_channel(cx, |bus, offer| {
        for pages in [[1, 1], [2, 3], [1, 2]] {
            bus.open_as(offer, Opening { pages, ..bus.opening() })?.end()?;
        }
        Ok(())
    })
}

fn an_open_channel_is_not_opened_again(cx: &Cx<'_>) -> Outcome {
    on_channel(cx, |bus, offer| {
        let channel = bus.open(offer)?;
        not_opened(bus, &channel.request(bus.opening().target_vp), offer.channel)
    })
}

fn an_open_channel_outlives_a_second_request(cx: &Cx<'_>) -> Outcome {
    on_channel(cx, |bus, offer| {
        let channel = bus.open(offer)?;
        let request = channel.request(bus.opening().target_vp);
        not_opened(bus, &request, offer.channel)?;
        // If the second request had closed it, the third would open it.
        not_opened(bus, &request, offer.channel)?;
        channel.end()
    })
}

fn an_unknown_channel_is_not_opened(cx: &Cx<'_>) -> Outcome {
    on_channel(cx, |bus, offer| {
        let (_, request) = with_rings(bus, offer, [1, 1])?;
        for unknown in [0, 2047, 2048, u32::MAX] {
            not_opened(bus, &OpenChannel { channel: ChannelId(unknown), ..request }, offer.channel)?;
        }
        Ok(())
    })
}

fn closing_a_closed_channel_changes_nothing(cx: &Cx<'_>) -> Outcome {
    cx.connected(|bus| {
        let offer = bus.any()?;
        bus.close(offer.channel)?;
        bus.open(&offer)?.end()?;
        bus.close(offer.channel)?;
        bus.unload_in_silence()
    })
}

fn closing_a_channel_leaves_the_others(cx: &Cx<'_>) -> Outcome {
    cx.connected(|bus| {
        let [one, other] = bus.two()?;
        let one = bus.open(&one)?;
        let other = bus.open_as(&other, Opening { gpadl: GpadlId(RINGS.0 + 1), ..bus.opening() })?;
        one.end()?;
        // It is open still: otherwise it would open now.
        not_opened(bus, &other.request(bus.opening().target_vp), other.id)?;
        other.end()
    })
}

/// Posts MODIFYCHANNEL.
fn ask_to_move(bus: &Bus<'_, '_>, channel: ChannelId) -> Outcome {
    bus.say(&ModifyChannel {
        header: MessageHeader::new(MessageType::MODIFY_CHANNEL),
        channel,
        target_vp: bus.opening().target_vp,
    })
}

fn a_move_is_answered_from_version_5_3_on(cx: &Cx<'_>) -> Outcome {
    cx.connected_by(Version::V5_3, |bus| {
        let offer = bus.any()?;
        let channel = bus.open(&offer)?;
        ask_to_move(bus, channel.id)?;
        let answer: ModifyChannelResponse = bus.expect(MessageType::MODIFY_CHANNEL_RESPONSE)?;
        check_eq!(answer.channel.0, channel.id.0);
        check_eq!(answer.status.0, 0);
        channel.end()
    })
}

fn a_move_of_a_closed_channel_fails(cx: &Cx<'_>) -> Outcome {
    cx.connected_by(Version::V5_3, |bus| {
        let offer = bus.any()?;
        ask_to_move(bus, offer.channel)?;
        let answer: ModifyChannelResponse = bus.expect(MessageType::MODIFY_CHANNEL_RESPONSE)?;
        check_eq!(answer.channel.0, offer.channel.0);
        check!(answer.status.0 != 0);
        Ok(())
    })
}

fn a_move_is_not_answered_before_version_5_3(cx: &Cx<'_>) -> Outcome {
    cx.connected_by(Version::V5_2, |bus| {
        let offer = bus.any()?;
        let channel = bus.open(&offer)?;
        ask_to_move(bus, channel.id)?;
        channel.end()?;
        bus.unload_in_silence()
    })
}
