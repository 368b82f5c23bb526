//! Dynamic memory: the version, and what the guest is able to do.

use hv_tlfs::vmbus::balloon::{
    BalloonHeader, Capabilities, CapabilitiesReport, CapabilitiesResponse, MessageType, VERSION_0_3,
    VERSION_1_0, VERSION_2_0, VersionRequest, VersionResponse,
};
use hv_tlfs::vmbus::guid;
use zerocopy::{FromZeros, Immutable, IntoBytes};

use crate::cx::{Channel, Cx, Packet};
use crate::outcome::{Outcome, Stop, fail};

use super::super::on_device;

cases! {
    "vmbus_memory";
    "Linux 6.12, drivers/hv/hv_balloon.c", "balloon_connect_vsp":
        a_version_of_linux_is_accepted,
        the_answer_says_how_long_it_is,
        a_version_that_nobody_speaks_is_not_accepted,
        a_version_that_was_not_accepted_can_be_followed_by_another,
        what_the_guest_is_able_to_do_is_accepted,
        nothing_is_asked_of_a_guest_that_has_not_told_what_it_can;
}

fn on_memory(cx: &Cx<'_>, work: impl FnOnce(&Channel<'_, '_, '_>) -> Outcome) -> Outcome {
    on_device(cx, guid::DYNAMIC_MEMORY, "the host offers no dynamic memory", work)
}

fn exchange<T: IntoBytes + Immutable>(channel: &Channel<'_, '_, '_>, message: &T) -> Result<Packet, Stop> {
    channel.send(0, message)?;
    channel.receive()
}

/// Asks for a version.
fn ask(channel: &Channel<'_, '_, '_>, version: u32) -> Result<VersionResponse, Stop> {
    let mut request = VersionRequest::new_zeroed();
    request.header = BalloonHeader {
        message_type: MessageType::VERSION_REQUEST,
        size: size_of::<VersionRequest>() as u16,
        transaction: 1,
    };
    request.version = version;
    let response: VersionResponse = exchange(channel, &request)?.get(0)?;
    check_eq!(response.header.message_type.0, MessageType::VERSION_RESPONSE.0);
    Ok(response)
}

/// Agrees on a version, as Linux does.
fn agree(channel: &Channel<'_, '_, '_>) -> Outcome {
    for version in [VERSION_2_0, VERSION_1_0, VERSION_0_3] {
        if ask(channel, version)?.accepted & 1 == 1 {
            return Ok(());
        }
    }
    Err(fail("the host speaks 2.0, 1.0 or 0.3"))
}

fn a_version_of_linux_is_accepted(cx: &Cx<'_>) -> Outcome {
    on_memory(cx, agree)
}

fn the_answer_says_how_long_it_is(cx: &Cx<'_>) -> Outcome {
    on_memory(cx, |channel| {
        let size = ask(channel, VERSION_2_0)?.header.size;
        check_eq!(usize::from(size), size_of::<VersionResponse>());
        Ok(())
    })
}

fn a_version_that_nobody_speaks_is_not_accepted(cx: &Cx<'_>) -> Outcome {
    on_memory(cx, |channel| {
        check_eq!(ask(channel, 0x7fff_0000)?.accepted & 1, 0);
        Ok(())
    })
}

fn a_version_that_was_not_accepted_can_be_followed_by_another(cx: &Cx<'_>) -> Outcome {
    on_memory(cx, |channel| {
        check_eq!(ask(channel, 0x7fff_0000)?.accepted & 1, 0);
        agree(channel)
    })
}

fn what_the_guest_is_able_to_do_is_accepted(cx: &Cx<'_>) -> Outcome {
    on_memory(cx, |channel| {
        agree(channel)?;
        let mut report = CapabilitiesReport::new_zeroed();
        report.header = BalloonHeader {
            message_type: MessageType::CAPABILITIES_REPORT,
            size: size_of::<CapabilitiesReport>() as u16,
            transaction: 2,
        };
        report.capabilities = Capabilities(0).with_balloon(true);
        let response: CapabilitiesResponse = exchange(channel, &report)?.get(0)?;
        check_eq!(response.header.message_type.0, MessageType::CAPABILITIES_RESPONSE.0);
        check_eq!(response.accepted & 1, 1);
        Ok(())
    })
}

fn nothing_is_asked_of_a_guest_that_has_not_told_what_it_can(cx: &Cx<'_>) -> Outcome {
    on_memory(cx, |channel| {
        agree(channel)?;
        channel.silence()
    })
}
