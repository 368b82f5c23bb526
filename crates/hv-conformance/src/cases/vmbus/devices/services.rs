//! The integration services: the host offers versions, the guest chooses, and the host asks.

use hv_tlfs::time::{CLOCK_HZ, ReferenceTime};
use hv_tlfs::vmbus::ic::{
    FLAG_REQUEST, FLAG_RESPONSE, FLAG_TRANSACTION, Header, Heartbeat, MAX_VERSIONS, MessageType, Negotiate,
    PIPE_PACKET_DATA, PipeHeader, Status, TIME_SYNC_SYNC, TimeSync, TimeSyncRef, Version,
};
use hv_tlfs::vmbus::{Guid, guid};
use zerocopy::IntoBytes;

use crate::cx::{Channel, Cx, Packet};
use crate::outcome::{Outcome, Stop, fail};

use super::super::on_device;

cases! {
    "vmbus_services";
    "Linux 6.12, drivers/hv/channel_mgmt.c", "vmbus_prep_negotiate_resp":
        a_service_speaks_first,
        a_service_offers_versions,
        a_service_wants_an_answer,
        a_message_has_the_length_that_it_says,
        a_service_asks_once_for_the_versions;
    "Linux 6.12, drivers/hv/hv_util.c", "hb_srv_version":
        the_heartbeat_offers_a_version_of_linux;
    "Linux 6.12, drivers/hv/hv_util.c", "sd_srv_version":
        the_shutdown_offers_a_version_of_linux;
    "Linux 6.12, drivers/hv/hv_util.c", "ts_srv_version":
        the_time_offers_a_version_of_linux;
    "Linux 6.12, drivers/hv/hv_kvp.c", "kvp_versions":
        the_key_values_offer_a_version_of_linux;
    "Linux 6.12, drivers/hv/hv_snapshot.c", "vss_versions":
        the_shadow_copies_offer_a_version_of_linux;
    "Linux 6.12, tools/hv/hv_fcopy_uio_daemon.c", "fcopy_versions":
        the_file_copies_offer_a_version_of_linux;
    "Linux 6.12, drivers/hv/hv_util.c", "heartbeat_onchannelcallback":
        a_heartbeat_comes_when_the_versions_are_agreed,
        a_heartbeat_has_the_versions_that_were_agreed,
        a_heartbeat_goes_on_from_the_answer,
        no_heartbeat_comes_without_a_version;
    "Linux 6.12, drivers/hv/hv_util.c", "timesync_onchannelcallback":
        the_time_comes_when_the_versions_are_agreed,
        the_first_time_is_to_be_set,
        the_time_has_its_reference_in_version_4,
        the_time_has_no_reference_before_version_4,
        no_time_comes_without_a_version;
}

const FRAMEWORK: Version = Version { major: 3, minor: 0 };

/// Body of a message: after the header of the pipe and that of the service.
const BODY: usize = size_of::<PipeHeader>() + size_of::<Header>();

/// A service.
type Service = (Guid, &'static str);

const HEARTBEAT: Service = (guid::HEARTBEAT, "the host offers no heartbeat");
const SHUTDOWN: Service = (guid::SHUTDOWN, "the host offers no shutdown service");
const TIME: Service = (guid::TIME_SYNC, "the host offers no time synchronization");
const KEY_VALUES: Service = (guid::KVP, "the host offers no exchange of key-value pairs");
const SHADOW_COPIES: Service = (guid::VSS, "the host offers no shadow copies");
const FILE_COPIES: Service = (guid::FILE_COPY, "the host offers no file copies");

/// Runs something on the channel of a service, with its first message.
fn on_service(
    cx: &Cx<'_>,
    (interface, absent): Service,
    work: impl FnOnce(&Channel<'_, '_, '_>, &Packet) -> Outcome,
) -> Outcome {
    on_device(cx, interface, absent, |channel| {
        let first = channel.receive()?;
        work(channel, &first)
    })
}

fn header(packet: &Packet) -> Result<Header, Stop> {
    packet.get(size_of::<PipeHeader>())
}

/// Returns the versions that a message offers: those of the framework are before those of the service.
fn offered(packet: &Packet, n: usize) -> Result<Version, Stop> {
    packet.get(BODY + size_of::<Negotiate>() + n * size_of::<Version>())
}

/// Checks that a service offers one of these versions of its own, and the framework's 3.0.
fn offers(cx: &Cx<'_>, service: Service, known: &[(u16, u16)]) -> Outcome {
    on_service(cx, service, |_, packet| {
        let counts: Negotiate = packet.get(BODY)?;
        let (frameworks, versions) = (counts.framework_versions, counts.message_versions);
        let (mut framework, mut version) = (false, false);
        for n in 0..frameworks + versions {
            let offered = offered(packet, n.into())?;
            if n < frameworks {
                framework |= offered == FRAMEWORK;
            } else {
                version |= known.contains(&(offered.major, offered.minor));
            }
        }
        check!(framework);
        check!(version);
        Ok(())
    })
}

fn the_heartbeat_offers_a_version_of_linux(cx: &Cx<'_>) -> Outcome {
    offers(cx, HEARTBEAT, &[(3, 0), (1, 0)])
}

fn the_shutdown_offers_a_version_of_linux(cx: &Cx<'_>) -> Outcome {
    offers(cx, SHUTDOWN, &[(3, 2), (3, 1), (3, 0), (1, 0)])
}

fn the_time_offers_a_version_of_linux(cx: &Cx<'_>) -> Outcome {
    offers(cx, TIME, &[(4, 0), (3, 0), (1, 0)])
}

fn the_key_values_offer_a_version_of_linux(cx: &Cx<'_>) -> Outcome {
    offers(cx, KEY_VALUES, &[(5, 0), (4, 0), (3, 0)])
}

fn the_shadow_copies_offer_a_version_of_linux(cx: &Cx<'_>) -> Outcome {
    offers(cx, SHADOW_COPIES, &[(5, 0)])
}

fn the_file_copies_offer_a_version_of_linux(cx: &Cx<'_>) -> Outcome {
    offers(cx, FILE_COPIES, &[(1, 1)])
}

/// Checks the first message of each service present.
fn each(cx: &Cx<'_>, check: impl Fn(&Channel<'_, '_, '_>, &Packet) -> Outcome) -> Outcome {
    let mut skipped = 0;
    let all = [HEARTBEAT, SHUTDOWN, TIME, KEY_VALUES, SHADOW_COPIES, FILE_COPIES];
    for service in all {
        // The pages of one case suffice for some of them.
        match on_service(&cx.fresh_pages(), service, &check) {
            Err(Stop::Skip(_)) => skipped += 1,
            other => other?,
        }
    }
    skip_if!(skipped == all.len(), "the host offers no integration services");
    Ok(())
}

fn a_service_speaks_first(cx: &Cx<'_>) -> Outcome {
    each(cx, |_, packet| {
        check_eq!(packet.kind.0, 6);
        check_eq!(packet.get::<PipeHeader>(0)?.packet_type, PIPE_PACKET_DATA);
        check_eq!(header(packet)?.message_type.0, MessageType::NEGOTIATE.0);
        Ok(())
    })
}

fn a_service_offers_versions(cx: &Cx<'_>) -> Outcome {
    each(cx, |_, packet| {
        let counts: Negotiate = packet.get(BODY)?;
        let (frameworks, versions) = (counts.framework_versions, counts.message_versions);
        check!(frameworks >= 1 && versions >= 1);
        check!(u32::from(frameworks) + u32::from(versions) < MAX_VERSIONS);
        Ok(())
    })
}

fn a_service_wants_an_answer(cx: &Cx<'_>) -> Outcome {
    each(cx, |_, packet| {
        let header = header(packet)?;
        check_eq!(header.flags & (FLAG_TRANSACTION | FLAG_REQUEST), FLAG_TRANSACTION | FLAG_REQUEST);
        check_eq!(header.flags & FLAG_RESPONSE, 0);
        check_eq!(header.status.0, 0);
        Ok(())
    })
}

fn a_message_has_the_length_that_it_says(cx: &Cx<'_>) -> Outcome {
    each(cx, |_, packet| {
        let pipe: PipeHeader = packet.get(0)?;
        let (counts, header): (Negotiate, _) = (packet.get(BODY)?, header(packet)?);
        let versions = usize::from(counts.framework_versions) + usize::from(counts.message_versions);
        let body = size_of::<Negotiate>() + versions * size_of::<Version>();
        check_eq!(usize::from(header.message_size), body);
        check_eq!(pipe.message_size as usize, size_of::<Header>() + body);
        check_eq!(packet.len - packet.data_offset, ((BODY + body) as u32).next_multiple_of(8));
        Ok(())
    })
}

fn a_service_asks_once_for_the_versions(cx: &Cx<'_>) -> Outcome {
    each(cx, |channel, _| channel.silence())
}

/// Sends an answer with this body.
fn answer(channel: &Channel<'_, '_, '_>, to: &Packet, body: &[u8]) -> Outcome {
    let mut message = [0; 128];
    let mut header = header(to)?;
    header.flags = FLAG_TRANSACTION | FLAG_RESPONSE;
    header.status = Status::SUCCESS;
    header.message_size = body.len() as u16;
    let len = BODY + body.len();
    let pipe =
        PipeHeader { packet_type: PIPE_PACKET_DATA, message_size: (len - size_of::<PipeHeader>()) as u32 };
    message[..8].copy_from_slice(pipe.as_bytes());
    message[8..BODY].copy_from_slice(header.as_bytes());
    message[BODY..len].copy_from_slice(body);
    channel.send(to.transaction, &message[..len])
}

/// Answers the first message with this version of the service.
fn choose(channel: &Channel<'_, '_, '_>, first: &Packet, version: Version) -> Outcome {
    let counts = Negotiate { framework_versions: 1, message_versions: 1, reserved: 0 };
    let mut body = [0; 16];
    body[..8].copy_from_slice(counts.as_bytes());
    body[8..12].copy_from_slice(FRAMEWORK.as_bytes());
    body[12..].copy_from_slice(version.as_bytes());
    answer(channel, first, &body)
}

/// Answers the first message with no version at all, as Linux does if it speaks none of them.
fn choose_nothing(channel: &Channel<'_, '_, '_>, first: &Packet) -> Outcome {
    answer(channel, first, &[0; 16])
}

/// Runs something with the first heartbeat.
fn on_heartbeat(cx: &Cx<'_>, work: impl FnOnce(&Channel<'_, '_, '_>, &Packet) -> Outcome) -> Outcome {
    on_service(cx, HEARTBEAT, |channel, first| {
        choose(channel, first, Version { major: 3, minor: 0 })?;
        let beat = channel.receive()?;
        check_eq!(header(&beat)?.message_type.0, MessageType::HEARTBEAT.0);
        work(channel, &beat)
    })
}

fn a_heartbeat_comes_when_the_versions_are_agreed(cx: &Cx<'_>) -> Outcome {
    on_heartbeat(cx, |_, beat| {
        check!(usize::from(header(beat)?.message_size) >= size_of::<u64>());
        beat.get::<Heartbeat>(BODY)?;
        Ok(())
    })
}

fn a_heartbeat_has_the_versions_that_were_agreed(cx: &Cx<'_>) -> Outcome {
    on_heartbeat(cx, |_, beat| {
        let header = header(beat)?;
        check!(header.framework_version == FRAMEWORK);
        check!(header.message_version == Version { major: 3, minor: 0 });
        Ok(())
    })
}

fn a_heartbeat_goes_on_from_the_answer(cx: &Cx<'_>) -> Outcome {
    on_heartbeat(cx, |channel, beat| {
        let sequence: u64 = beat.get(BODY)?;
        let mut body = [0; 40];
        body[..8].copy_from_slice(&(sequence + 1).to_le_bytes());
        answer(channel, beat, &body)?;
        let next = channel.receive()?;
        check!(next.get::<u64>(BODY)? > sequence);
        Ok(())
    })
}

/// Checks that a service says nothing to a guest with which it has no version in common.
fn quiet_without_version(cx: &Cx<'_>, service: Service) -> Outcome {
    on_service(cx, service, |channel, first| {
        choose_nothing(channel, first)?;
        // As long as a heartbeat would take: 100 ms.
        if channel.wait(Some(ReferenceTime(CLOCK_HZ / 10))) {
            Err(fail("the service says nothing more"))
        } else {
            Ok(())
        }
    })
}

fn no_heartbeat_comes_without_a_version(cx: &Cx<'_>) -> Outcome {
    quiet_without_version(cx, HEARTBEAT)
}

fn no_time_comes_without_a_version(cx: &Cx<'_>) -> Outcome {
    quiet_without_version(cx, TIME)
}

/// Runs something with the first time.
fn on_time(cx: &Cx<'_>, major: u16, work: impl FnOnce(&Packet) -> Outcome) -> Outcome {
    on_service(cx, TIME, |channel, first| {
        choose(channel, first, Version { major, minor: 0 })?;
        let time = channel.receive()?;
        check_eq!(header(&time)?.message_type.0, MessageType::TIME_SYNC.0);
        work(&time)
    })
}

/// 2020-01-01 in 100 ns since 1601.
const YEAR_2020: u64 = 132_223_104_000_000_000;

fn the_time_comes_when_the_versions_are_agreed(cx: &Cx<'_>) -> Outcome {
    on_time(cx, 4, |time| {
        check!(time.get::<TimeSyncRef>(BODY)?.parent_time.get() > YEAR_2020);
        Ok(())
    })
}

fn the_first_time_is_to_be_set(cx: &Cx<'_>) -> Outcome {
    on_time(cx, 4, |time| {
        check_eq!(time.get::<TimeSyncRef>(BODY)?.flags & TIME_SYNC_SYNC, TIME_SYNC_SYNC);
        Ok(())
    })
}

fn the_time_has_its_reference_in_version_4(cx: &Cx<'_>) -> Outcome {
    cx.need_counter()?;
    let before = cx.now()?;
    on_time(cx, 4, |time| {
        let reference = time.get::<TimeSyncRef>(BODY)?.reference_time.get();
        check!(reference >= before);
        check!(reference <= cx.now()?);
        Ok(())
    })
}

fn the_time_has_no_reference_before_version_4(cx: &Cx<'_>) -> Outcome {
    on_time(cx, 3, |time| {
        check_eq!(usize::from(header(time)?.message_size), size_of::<TimeSync>());
        let body: TimeSync = time.get(BODY)?;
        check!(body.parent_time.get() > YEAR_2020);
        check_eq!(body.child_time.get(), 0);
        Ok(())
    })
}
