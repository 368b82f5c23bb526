//! Signals: which VP a channel interrupts, by which flag, and which connection the guest signals.

use hv_tlfs::time::ReferenceTime;
use hv_tlfs::vmbus::{
    FeatureFlags, MessageHeader, MessageType, ModifyChannel, ModifyChannelResponse, OpenChannelFlags,
    OpenChannelSignal, OpenResult, TARGET_VP_NONE, Version, guid,
};

use crate::cx::{Bus, Channel, Contact, Cx, Opening, RINGS, SINT, Synic, Word};
use crate::outcome::{Outcome, Stop};

use super::{NO_SCSI, begin, on_scsi};

cases! {
    "vmbus_signals";
    "Linux 6.12, drivers/hv/connection.c", "vmbus_set_event":
        a_signal_of_an_open_channel_is_taken,
        a_signal_of_a_closed_channel_has_no_effect;
    "Linux 6.12, drivers/hv/vmbus_drv.c", "vmbus_chan_sched":
        the_host_sets_the_flag_of_the_channels_number,
        the_host_sets_no_other_flag,
        the_flag_comes_with_an_interrupt,
        the_flag_is_set_on_the_vp_that_was_named;
    "OpenVMM, vmbus_core", "protocol.rs: VP_INDEX_DISABLE_INTERRUPT":
        a_channel_without_a_vp_is_served_in_silence;
    "Linux 6.12, drivers/hv/channel.c", "vmbus_send_modifychannel":
        a_channel_that_moved_interrupts_the_other_vp;
    "OpenVMM, vmbus_server", "channels.rs: handle_open_channel":
        the_guest_may_choose_the_connection_in_version_6,
        the_guest_may_choose_the_flag_in_version_6;
}

fn a_signal_of_an_open_channel_is_taken(cx: &Cx<'_>) -> Outcome {
    on_scsi(cx, |channel| {
        channel.signalled()?;
        channel.ask(1, &begin())?;
        Ok(())
    })
}

fn a_signal_of_a_closed_channel_has_no_effect(cx: &Cx<'_>) -> Outcome {
    cx.connected(|bus| {
        let offer = bus.find(guid::SCSI, NO_SCSI)?;
        let channel = bus.open(&offer)?;
        channel.ask(1, &begin())?;
        bus.close(channel.id)?;
        // The memory is the guest's again when it is torn down.
        bus.teardown(channel.id, channel.gpadl)?;
        let read = channel.word(&channel.outgoing, Word::Read);
        channel.put_in_band(2, true, &begin())?;
        let _ = channel.signal();
        cx.pause(ReferenceTime(2_000));
        check_eq!(channel.word(&channel.outgoing, Word::Read), read);
        check!(!channel.has_packet());
        Ok(())
    })
}

/// Makes a request whose answer comes with a flag.
fn flagged(channel: &Channel<'_, '_, '_>) -> Outcome {
    channel.clear_flag();
    channel.put_in_band(1, true, &begin())?;
    channel.signalled()
}

fn the_host_sets_the_flag_of_the_channels_number(cx: &Cx<'_>) -> Outcome {
    on_scsi(cx, |channel| {
        flagged(channel)?;
        cx.soon("the channel's flag is set", || channel.is_flagged())
    })
}

fn the_host_sets_no_other_flag(cx: &Cx<'_>) -> Outcome {
    on_scsi(cx, |channel| {
        let synic = &channel.bus.synic;
        flagged(channel)?;
        check!(channel.comes());
        cx.pause(ReferenceTime(2_000));
        for first in (0..2048).step_by(32) {
            let own = if channel.flag / 32 == first / 32 { 1 << (channel.flag % 32) } else { 0 };
            check_eq!(cx.env.load(synic.flag_word(SINT, first)), own);
        }
        Ok(())
    })
}

fn the_flag_comes_with_an_interrupt(cx: &Cx<'_>) -> Outcome {
    on_scsi(cx, |channel| {
        let taken = cx.interrupts_of(channel.bus.synic.intid, 1, || flagged(channel))?;
        check!(taken >= 1);
        Ok(())
    })
}

/// Checks that an answer sets the flag on the other VP, and none on this one.
fn flags_other(channel: &Channel<'_, '_, '_>, other: &Synic) -> Outcome {
    let cx = channel.bus.cx;
    flagged(channel)?;
    check!(channel.comes());
    for _ in 0..1000 {
        if cx.flag(other, SINT, channel.flag) {
            break;
        }
        cx.pause(ReferenceTime(2_000));
    }
    check!(cx.flag(other, SINT, channel.flag));
    check!(!channel.is_flagged());
    Ok(())
}

fn the_flag_is_set_on_the_vp_that_was_named(cx: &Cx<'_>) -> Outcome {
    let other = cx.other()?;
    cx.connected(|bus| {
        let synic = cx.synic_on(other, &[SINT])?;
        let offer = bus.find(guid::SCSI, NO_SCSI)?;
        let opening = Opening { target_vp: cx.index(other), ..bus.opening() };
        let channel = bus.open_as(&offer, opening)?;
        flags_other(&channel, &synic)?;
        channel.end()
    })
}

fn a_channel_without_a_vp_is_served_in_silence(cx: &Cx<'_>) -> Outcome {
    cx.connected(|bus| {
        let offer = bus.find(guid::SCSI, NO_SCSI)?;
        let channel = bus.open_as(&offer, Opening { target_vp: TARGET_VP_NONE, ..bus.opening() })?;
        flagged(&channel)?;
        check!(channel.comes());
        cx.pause(ReferenceTime(2_000));
        check!(!channel.is_flagged());
        channel.end()
    })
}

fn a_channel_that_moved_interrupts_the_other_vp(cx: &Cx<'_>) -> Outcome {
    let other = cx.other()?;
    cx.connected_by(Version::V5_3, |bus| {
        let synic = cx.synic_on(other, &[SINT])?;
        let offer = bus.find(guid::SCSI, NO_SCSI)?;
        let channel = bus.open(&offer)?;
        bus.say(&ModifyChannel {
            header: MessageHeader::new(MessageType::MODIFY_CHANNEL),
            channel: channel.id,
            target_vp: cx.index(other),
        })?;
        let moved: ModifyChannelResponse = bus.expect(MessageType::MODIFY_CHANNEL_RESPONSE)?;
        check_eq!(moved.status.0, 0);
        flags_other(&channel, &synic)?;
        channel.end()
    })
}

/// Runs something on a channel whose connection and flag the guest has chosen.
fn chosen(cx: &Cx<'_>, work: impl FnOnce(&Channel<'_, '_, '_>) -> Outcome) -> Outcome {
    const CONNECTION: u32 = 0x12_3456;
    const FLAG: u16 = 1999;
    let synic = cx.vmbus()?;
    let asked = FeatureFlags(0).with_guest_specified_signal(true);
    let contact = cx.contact(Version::V6_0)?;
    let contact = Contact { target: contact.target.with_features(asked), ..contact };
    let bus = Bus::connect(cx, synic, &contact)?;
    bus.ok_or(Stop::Skip("the host does not speak version 6.0"))?.run(|bus| {
        skip_if!(!bus.features.guest_specified_signal(), "the host does not grant chosen signals");
        let offer = bus.find(guid::SCSI, NO_SCSI)?;
        let opening = bus.opening();
        let rings = bus.rings(offer.channel, RINGS, opening.pages)?;
        let mut channel = bus.channel(&offer, RINGS, rings);
        (channel.connection, channel.flag) = (CONNECTION, FLAG);
        bus.say(&OpenChannelSignal {
            open: channel.request(opening.target_vp),
            connection: CONNECTION,
            event_flag: FLAG,
            flags: OpenChannelFlags(0),
        })?;
        check_eq!(bus.expect::<OpenResult>(MessageType::OPEN_RESULT)?.status.0, 0);
        work(&channel)?;
        channel.end()
    })
}

fn the_guest_may_choose_the_connection_in_version_6(cx: &Cx<'_>) -> Outcome {
    chosen(cx, |channel| {
        channel.put_in_band(1, true, &begin())?;
        channel.signalled()?;
        check!(channel.comes());
        Ok(())
    })
}

fn the_guest_may_choose_the_flag_in_version_6(cx: &Cx<'_>) -> Outcome {
    chosen(cx, |channel| {
        flagged(channel)?;
        cx.soon("the flag that was chosen is set", || channel.is_flagged())
    })
}
