//! The screen: its version, where its memory is, what it shows, and what has changed.

use hv_tlfs::vmbus::guid;
use hv_tlfs::vmbus::video::{
    DEPTH, FeatureChange, MAX_RESOLUTIONS, MessageType, Rectangle, Resolution, ResolutionRequest,
    ResolutionResponse, Situation, SituationUpdate, SituationUpdateAck, VERSION_3_5, VersionRequest,
    VersionResponse, VideoHeader, VramLocation, VramLocationAck,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::cx::{Channel, Cx, Packet};
use crate::outcome::{Outcome, Stop, fail};

use super::super::on_device;

cases! {
    "vmbus_video";
    "Linux 6.12, drivers/video/fbdev/hyperv_fb.c", "synthvid_negotiate_ver":
        the_screen_accepts_version_3_5,
        the_answer_names_the_version_that_was_asked_for,
        the_screen_refuses_a_version_that_nobody_speaks,
        a_refused_version_of_the_screen_can_be_followed_by_another,
        the_host_has_a_screen;
    "Linux 6.12, drivers/video/fbdev/hyperv_fb.c", "synthvid_get_supported_resolution":
        there_are_resolutions,
        the_first_resolution_is_one_of_them,
        the_resolutions_are_whole,
        the_screen_describes_itself;
    "Linux 6.12, drivers/video/fbdev/hyperv_fb.c", "synthvid_connect_vsp":
        the_place_of_the_memory_is_acknowledged,
        a_place_without_memory_is_not_acknowledged,
        memory_that_is_taken_back_is_acknowledged;
    "OpenVMM, uidevices", "video/mod.rs: process_packet":
        what_is_shown_is_acknowledged,
        no_memory_is_placed_before_the_version,
        changes_are_not_answered,
        changes_that_are_missing_do_no_harm,
        an_unknown_message_of_the_screen_is_not_answered;
}

/// Bytes of a pipe's header.
const PIPE: usize = 8;
/// What an answer has to repeat.
const CONTEXT: u64 = 0x1234_5678_9abc_def0;

fn on(cx: &Cx<'_>, work: impl FnOnce(&Channel<'_, '_, '_>) -> Outcome) -> Outcome {
    on_device(cx, guid::VIDEO, "the host offers no screen", work)
}

/// Runs something on a channel whose version is agreed on.
fn ready(cx: &Cx<'_>, work: impl FnOnce(&Channel<'_, '_, '_>) -> Outcome) -> Outcome {
    on(cx, |channel| {
        check!(version(channel, VERSION_3_5)?.is_accepted != 0);
        work(channel)
    })
}

/// Sends a message.
fn say<T: IntoBytes + Immutable + ?Sized>(
    channel: &Channel<'_, '_, '_>,
    kind: MessageType,
    body: &T,
) -> Outcome {
    let len = size_of::<VideoHeader>() + size_of_val(body);
    let header = VideoHeader { message_type: kind.0.into(), size: (len as u32).into() };
    let mut bytes = [0; 64];
    bytes[..4].copy_from_slice(&1u32.to_le_bytes());
    bytes[4..PIPE].copy_from_slice(&(len as u32).to_le_bytes());
    bytes[PIPE..PIPE + 8].copy_from_slice(header.as_bytes());
    bytes[PIPE + 8..PIPE + len].copy_from_slice(body.as_bytes());
    channel.send(0, &bytes[..PIPE + len])
}

/// Takes the next message; the host may ask at any time for what it wants to be told.
fn hear(channel: &Channel<'_, '_, '_>, kind: MessageType) -> Result<Packet, Stop> {
    for _ in 0..4 {
        let packet = channel.receive()?;
        let header: VideoHeader = packet.get(PIPE)?;
        if header.message_type.get() != MessageType::FEATURE_CHANGE.0 {
            check_eq!(header.message_type.get(), kind.0);
            return Ok(packet);
        }
        packet.get::<FeatureChange>(PIPE + 8)?;
    }
    Err(fail("the host answers"))
}

/// Sends a message, and returns the body of the answer.
fn ask<T: IntoBytes + Immutable, A: FromBytes>(
    channel: &Channel<'_, '_, '_>,
    (kind, body): (MessageType, &T),
    answer: MessageType,
) -> Result<A, Stop> {
    say(channel, kind, body)?;
    hear(channel, answer)?.get(PIPE + size_of::<VideoHeader>())
}

fn version(channel: &Channel<'_, '_, '_>, version: u32) -> Result<VersionResponse, Stop> {
    let request = VersionRequest { version: version.into() };
    ask(channel, (MessageType::VERSION_REQUEST, &request), MessageType::VERSION_RESPONSE)
}

fn the_screen_accepts_version_3_5(cx: &Cx<'_>) -> Outcome {
    ready(cx, |_| Ok(()))
}

fn the_answer_names_the_version_that_was_asked_for(cx: &Cx<'_>) -> Outcome {
    on(cx, |channel| {
        check_eq!(version(channel, VERSION_3_5)?.version.get(), VERSION_3_5);
        Ok(())
    })
}

/// A version of which no host knows anything.
const NOBODYS: u32 = 0x7fff;

fn the_screen_refuses_a_version_that_nobody_speaks(cx: &Cx<'_>) -> Outcome {
    on(cx, |channel| {
        check_eq!(version(channel, NOBODYS)?.is_accepted, 0);
        Ok(())
    })
}

fn a_refused_version_of_the_screen_can_be_followed_by_another(cx: &Cx<'_>) -> Outcome {
    on(cx, |channel| {
        check_eq!(version(channel, NOBODYS)?.is_accepted, 0);
        check!(version(channel, VERSION_3_5)?.is_accepted != 0);
        Ok(())
    })
}

fn the_host_has_a_screen(cx: &Cx<'_>) -> Outcome {
    on(cx, |channel| {
        check!(version(channel, VERSION_3_5)?.max_video_outputs >= 1);
        Ok(())
    })
}

/// Asks for the resolutions. Returns the packet, the answer's part before them, and their number.
fn resolutions(channel: &Channel<'_, '_, '_>) -> Result<(Packet, [u8; 131], usize), Stop> {
    let request = ResolutionRequest { maximum: MAX_RESOLUTIONS as u8 };
    say(channel, MessageType::RESOLUTION_REQUEST, &request)?;
    let packet = hear(channel, MessageType::RESOLUTION_RESPONSE)?;
    let front: [u8; 131] = packet.get(PIPE + size_of::<VideoHeader>())?;
    let count = front[core::mem::offset_of!(ResolutionResponse, count)];
    Ok((packet, front, count.into()))
}

fn there_are_resolutions(cx: &Cx<'_>) -> Outcome {
    ready(cx, |channel| {
        let (_, _, count) = resolutions(channel)?;
        check!((1..=MAX_RESOLUTIONS).contains(&count));
        Ok(())
    })
}

fn the_first_resolution_is_one_of_them(cx: &Cx<'_>) -> Outcome {
    ready(cx, |channel| {
        let (_, front, count) = resolutions(channel)?;
        check!(usize::from(front[core::mem::offset_of!(ResolutionResponse, default_index)]) < count);
        Ok(())
    })
}

fn the_resolutions_are_whole(cx: &Cx<'_>) -> Outcome {
    ready(cx, |channel| {
        let (packet, front, count) = resolutions(channel)?;
        let begin = PIPE + size_of::<VideoHeader>() + front.len();
        check!(packet.payload().len() >= begin + count * size_of::<Resolution>());
        for n in 0..count {
            let one: Resolution = packet.get(begin + n * size_of::<Resolution>())?;
            check!(one.width.get() != 0 && one.height.get() != 0);
        }
        Ok(())
    })
}

/// Checks the EDID by VESA E-EDID: the pattern at the beginning, and a sum of 0.
fn the_screen_describes_itself(cx: &Cx<'_>) -> Outcome {
    ready(cx, |channel| {
        let (_, front, _) = resolutions(channel)?;
        let edid = &front[..hv_tlfs::vmbus::video::EDID_BYTES];
        check!(edid[..8] == [0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]);
        check_eq!(edid.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)), 0);
        Ok(())
    })
}

/// Says where the memory is, and returns the context of the answer.
fn place(channel: &Channel<'_, '_, '_>, address: Option<u64>) -> Result<u64, Stop> {
    let location = VramLocation {
        user_context: CONTEXT.into(),
        has_address: address.is_some().into(),
        address: address.unwrap_or(0).into(),
    };
    let ack: VramLocationAck =
        ask(channel, (MessageType::VRAM_LOCATION, &location), MessageType::VRAM_LOCATION_ACK)?;
    Ok(ack.user_context.get())
}

fn window(cx: &Cx<'_>) -> Result<u64, Stop> {
    cx.env.video_window().ok_or(Stop::Skip("the environment knows no address for video memory"))
}

fn the_place_of_the_memory_is_acknowledged(cx: &Cx<'_>) -> Outcome {
    let window = window(cx)?;
    ready(cx, |channel| {
        check_eq!(place(channel, Some(window))?, CONTEXT);
        Ok(())
    })
}

fn a_place_without_memory_is_not_acknowledged(cx: &Cx<'_>) -> Outcome {
    ready(cx, |channel| {
        check!(place(channel, Some(1 << 63))? != CONTEXT);
        Ok(())
    })
}

fn memory_that_is_taken_back_is_acknowledged(cx: &Cx<'_>) -> Outcome {
    ready(cx, |channel| {
        check_eq!(place(channel, None)?, CONTEXT);
        Ok(())
    })
}

/// Says that the screen shows this many columns and rows.
fn show(channel: &Channel<'_, '_, '_>, [width, height]: [u32; 2]) -> Result<u64, Stop> {
    let situation = Situation {
        active: 1,
        vram_offset: 0.into(),
        depth_bits: DEPTH,
        width: width.into(),
        height: height.into(),
        pitch: (width * 4).into(),
    };
    let update = SituationUpdate { user_context: CONTEXT.into(), video_output_count: 1, situation };
    let ack: SituationUpdateAck =
        ask(channel, (MessageType::SITUATION_UPDATE, &update), MessageType::SITUATION_UPDATE_ACK)?;
    Ok(ack.user_context.get())
}

fn what_is_shown_is_acknowledged(cx: &Cx<'_>) -> Outcome {
    let window = window(cx)?;
    ready(cx, |channel| {
        check_eq!(place(channel, Some(window))?, CONTEXT);
        check_eq!(show(channel, [640, 480])?, CONTEXT);
        Ok(())
    })
}

fn no_memory_is_placed_before_the_version(cx: &Cx<'_>) -> Outcome {
    on(cx, |channel| {
        let location = VramLocation { user_context: CONTEXT.into(), has_address: 0, address: 0.into() };
        say(channel, MessageType::VRAM_LOCATION, &location)?;
        channel.silence()
    })
}

/// Returns a report of changes that names as many as `count`, and has one.
fn changes(count: u8) -> [u8; 18] {
    let part = Rectangle { left: 0.into(), top: 0.into(), right: 16.into(), bottom: 16.into() };
    let mut bytes = [0; 18];
    bytes[1] = count;
    bytes[2..].copy_from_slice(part.as_bytes());
    bytes
}

/// Checks that the next answer is that to a question asked now.
fn goes_on(channel: &Channel<'_, '_, '_>) -> Outcome {
    resolutions(channel)?;
    Ok(())
}

fn changes_are_not_answered(cx: &Cx<'_>) -> Outcome {
    let window = window(cx)?;
    ready(cx, |channel| {
        check_eq!(place(channel, Some(window))?, CONTEXT);
        check_eq!(show(channel, [640, 480])?, CONTEXT);
        say(channel, MessageType::DIRT, &changes(1))?;
        goes_on(channel)
    })
}

fn changes_that_are_missing_do_no_harm(cx: &Cx<'_>) -> Outcome {
    ready(cx, |channel| {
        say(channel, MessageType::DIRT, &changes(255))?;
        goes_on(channel)
    })
}

fn an_unknown_message_of_the_screen_is_not_answered(cx: &Cx<'_>) -> Outcome {
    ready(cx, |channel| {
        say(channel, MessageType(0x7fff), &[0u8; 8])?;
        goes_on(channel)
    })
}
