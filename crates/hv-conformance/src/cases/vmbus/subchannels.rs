//! Sub-channels: offered when their device is asked for them, and gone with its first channel.

use hv_tlfs::vmbus::storage::{self, Operation, Properties};
use hv_tlfs::vmbus::{
    ChannelId, GpadlId, MessageHeader, MessageType, OfferChannel, RelIdReleased, RescindOffer, guid,
};

use crate::cx::{Bus, Channel, Cx, Opening, RINGS};
use crate::outcome::{Outcome, Stop};

use super::devices::storage::{initialize, inquire};
use super::{NO_SCSI, vstor};

cases! {
    "vmbus_subchannels";
    "Linux 6.12, drivers/scsi/storvsc_drv.c", "handle_multichannel_storage":
        a_subchannel_is_offered_when_it_is_asked_for,
        a_subchannel_is_of_the_same_device,
        as_many_are_offered_as_were_asked_for,
        a_subchannel_has_a_number_and_a_connection_of_its_own,
        a_subchannel_answers_what_came_on_it;
    "OpenVMM, storvsp", "lib.rs: CREATE_SUB_CHANNELS":
        more_than_there_are_are_refused;
    "Linux 6.12, drivers/hv/channel_mgmt.c", "vmbus_onoffer_rescind":
        the_end_of_the_first_channel_rescinds_them,
        an_open_subchannel_is_rescinded_too,
        they_can_be_asked_for_again;
}

/// Asks for sub-channels. Returns the status of the answer.
pub(super) fn request(channel: &Channel<'_, '_, '_>, count: u16) -> Result<u32, Stop> {
    let mut packet = vstor(Operation::CREATE_SUB_CHANNELS);
    packet.body[..2].copy_from_slice(&count.to_le_bytes());
    let answer: storage::Packet = channel.ask(13, &packet)?.get(0)?;
    Ok(answer.header.status.0)
}

/// Runs something on a controller that is ready and can have sub-channels: how many.
pub(super) fn prepared(
    cx: &Cx<'_>,
    work: impl FnOnce(&Bus<'_, '_>, &Channel<'_, '_, '_>, &OfferChannel, u16) -> Outcome,
) -> Outcome {
    cx.connected(|bus| {
        let offer = bus.find(guid::SCSI, NO_SCSI)?;
        let channel = bus.open(&offer)?;
        let properties: Properties = initialize(&channel)?;
        skip_if!(properties.max_channels == 0, "the controller has no sub-channels");
        work(bus, &channel, &offer, properties.max_channels)
    })
}

/// Takes the offer of a sub-channel.
pub(super) fn offered(bus: &Bus<'_, '_>) -> Result<OfferChannel, Stop> {
    bus.expect(MessageType::OFFER_CHANNEL)
}

fn a_subchannel_is_offered_when_it_is_asked_for(cx: &Cx<'_>) -> Outcome {
    prepared(cx, |bus, channel, _, _| {
        bus.silence()?;
        check_eq!(request(channel, 1)?, 0);
        check_eq!(offered(bus)?.offer.subchannel_index, 1);
        Ok(())
    })
}

fn a_subchannel_is_of_the_same_device(cx: &Cx<'_>) -> Outcome {
    prepared(cx, |bus, channel, offer, _| {
        check_eq!(request(channel, 1)?, 0);
        let sub = offered(bus)?;
        check!(sub.offer.interface == offer.offer.interface);
        check!(sub.offer.instance == offer.offer.instance);
        check!(sub.offer.subchannel_index != 0);
        Ok(())
    })
}

fn as_many_are_offered_as_were_asked_for(cx: &Cx<'_>) -> Outcome {
    prepared(cx, |bus, channel, _, most| {
        let count = most.min(3);
        check_eq!(request(channel, count)?, 0);
        // Each once, in any order.
        let mut seen = 0u32;
        for _ in 0..count {
            seen |= 1 << offered(bus)?.offer.subchannel_index;
        }
        check_eq!(seen, (1 << (count + 1)) - 2);
        bus.silence()
    })
}

fn a_subchannel_has_a_number_and_a_connection_of_its_own(cx: &Cx<'_>) -> Outcome {
    prepared(cx, |bus, channel, offer, _| {
        check_eq!(request(channel, 1)?, 0);
        let sub = offered(bus)?;
        check!(sub.channel != offer.channel);
        check!(sub.connection != offer.connection);
        Ok(())
    })
}

/// Opens a sub-channel beside its device's first channel.
pub(super) fn open<'b, 'a, 'e>(
    bus: &'b Bus<'a, 'e>,
    sub: &OfferChannel,
) -> Result<Channel<'b, 'a, 'e>, Stop> {
    bus.open_as(sub, Opening { gpadl: GpadlId(RINGS.0 + 1), ..bus.opening() })
}

fn a_subchannel_answers_what_came_on_it(cx: &Cx<'_>) -> Outcome {
    prepared(cx, |bus, channel, _, _| {
        check_eq!(request(channel, 1)?, 0);
        let sub = open(bus, &offered(bus)?)?;
        inquire(&sub, 0)?;
        check!(!channel.has_packet());
        sub.end()
    })
}

fn more_than_there_are_are_refused(cx: &Cx<'_>) -> Outcome {
    prepared(cx, |bus, channel, _, most| {
        check!(request(channel, most + 1)? != 0);
        bus.silence()
    })
}

/// Takes the message that rescinds a channel.
pub(super) fn rescinded(bus: &Bus<'_, '_>, channel: ChannelId) -> Outcome {
    let message: RescindOffer = bus.expect(MessageType::RESCIND_OFFER)?;
    check_eq!(message.channel.0, channel.0);
    Ok(())
}

pub(super) fn release(bus: &Bus<'_, '_>, channel: ChannelId) -> Outcome {
    bus.say(&RelIdReleased { header: MessageHeader::new(MessageType::RELID_RELEASED), channel })
}

/// Has a sub-channel rescinded by the end of its device's first channel, which `work` gets with the offers of both.
pub(super) fn after_rescission(
    cx: &Cx<'_>,
    work: impl FnOnce(&Bus<'_, '_>, &Channel<'_, '_, '_>, &OfferChannel, &OfferChannel) -> Outcome,
) -> Outcome {
    prepared(cx, |bus, channel, offer, _| {
        check_eq!(request(channel, 1)?, 0);
        let sub = offered(bus)?;
        bus.close(channel.id)?;
        rescinded(bus, sub.channel)?;
        work(bus, channel, offer, &sub)
    })
}

/// Has an open sub-channel rescinded by the end of its device's first channel. `work` gets the first channel and the
/// sub-channel.
pub(super) fn after_rescission_when_open(
    cx: &Cx<'_>,
    work: impl FnOnce(&Bus<'_, '_>, &Channel<'_, '_, '_>, &Channel<'_, '_, '_>) -> Outcome,
) -> Outcome {
    prepared(cx, |bus, channel, _, _| {
        check_eq!(request(channel, 1)?, 0);
        let sub = open(bus, &offered(bus)?)?;
        bus.close(channel.id)?;
        rescinded(bus, sub.id)?;
        work(bus, channel, &sub)
    })
}

fn the_end_of_the_first_channel_rescinds_them(cx: &Cx<'_>) -> Outcome {
    after_rescission(cx, |_, _, _, _| Ok(()))
}

fn an_open_subchannel_is_rescinded_too(cx: &Cx<'_>) -> Outcome {
    after_rescission_when_open(cx, |bus, channel, sub| {
        // As Linux does: closed, and released without a teardown.
        bus.close(sub.id)?;
        release(bus, sub.id)?;
        bus.teardown(channel.id, channel.gpadl)
    })
}

fn they_can_be_asked_for_again(cx: &Cx<'_>) -> Outcome {
    after_rescission(cx, |bus, channel, offer, sub| {
        release(bus, sub.channel)?;
        bus.teardown(channel.id, channel.gpadl)?;
        let channel = bus.open(offer)?;
        initialize(&channel)?;
        check_eq!(request(&channel, 1)?, 0);
        check_eq!(offered(bus)?.offer.subchannel_index, 1);
        Ok(())
    })
}
