//! Unload: the end of a connection.

use hv_tlfs::vmbus::{GpadlId, MessageType, Version};

use crate::cx::Cx;
use crate::outcome::Outcome;

cases! {
    "vmbus_unload";
    "Linux 6.12, drivers/hv/channel_mgmt.c", "vmbus_initiate_unload":
        unloading_is_answered,
        the_answer_comes_once,
        an_open_channel_does_not_prevent_it;
    "OpenVMM, vmbus_server", "channels.rs: handle_unload":
        nothing_is_answered_after_it,
        a_channel_is_closed_by_it,
        memory_is_free_after_it,
        a_contact_after_it_is_a_new_connection,
        another_version_may_follow_it,
        offers_that_were_not_taken_are_dropped;
}

fn unloading_is_answered(cx: &Cx<'_>) -> Outcome {
    cx.connected(|bus| bus.unload_in_silence())
}

fn the_answer_comes_once(cx: &Cx<'_>) -> Outcome {
    cx.connected(|bus| {
        bus.unload_in_silence()?;
        bus.silence()
    })
}

fn an_open_channel_does_not_prevent_it(cx: &Cx<'_>) -> Outcome {
    cx.connected(|bus| {
        let offer = bus.any()?;
        bus.open(&offer)?;
        bus.unload()?;
        bus.silence()
    })
}

fn nothing_is_answered_after_it(cx: &Cx<'_>) -> Outcome {
    cx.connected(|bus| {
        let offer = bus.any()?;
        let words = [4096, cx.page()? / 4096];
        bus.unload()?;
        bus.gpadl_header(offer.channel, GpadlId(9), [16, 1], &words)?;
        bus.say_plain(MessageType::REQUEST_OFFERS)?;
        bus.silence()?;
        // The next contact is answered after what came before it.
        bus.reconnect()
    })
}

fn a_channel_is_closed_by_it(cx: &Cx<'_>) -> Outcome {
    cx.connected(|bus| {
        let offer = bus.any()?;
        bus.open(&offer)?;
        bus.unload()?;
        bus.reconnect()?;
        let offer = bus.any()?;
        bus.open(&offer)?.end()
    })
}

fn memory_is_free_after_it(cx: &Cx<'_>) -> Outcome {
    cx.connected(|bus| {
        let offer = bus.any()?;
        let words = [4096, cx.page()? / 4096];
        check_eq!(bus.create(offer.channel, GpadlId(9), 1, &words)?.0, 0);
        bus.unload()?;
        bus.reconnect()?;
        let offer = bus.any()?;
        check_eq!(bus.create(offer.channel, GpadlId(9), 1, &words)?.0, 0);
        Ok(())
    })
}

fn a_contact_after_it_is_a_new_connection(cx: &Cx<'_>) -> Outcome {
    cx.connected(|bus| {
        let count = bus.offers(|_| Ok(()))?;
        bus.unload()?;
        bus.reconnect()?;
        bus.silence()?;
        check_eq!(bus.offers(|_| Ok(()))?, count);
        Ok(())
    })
}

fn another_version_may_follow_it(cx: &Cx<'_>) -> Outcome {
    cx.connected_by(Version::V5_2, |bus| {
        bus.offers(|_| Ok(()))?;
        bus.unload()
    })?;
    cx.connected_by(Version::V4_0, |bus| {
        bus.offers(|_| Ok(()))?;
        bus.unload_in_silence()
    })
}

fn offers_that_were_not_taken_are_dropped(cx: &Cx<'_>) -> Outcome {
    cx.connected(|bus| {
        bus.say_plain(MessageType::REQUEST_OFFERS)?;
        bus.unload()?;
        bus.silence()
    })
}
