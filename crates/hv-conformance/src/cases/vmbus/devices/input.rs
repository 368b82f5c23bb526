//! The input devices: one version of a protocol, and what the mouse says of itself.

use hv_tlfs::vmbus::keyboard::{self, ACCEPTED, KeyboardHeader};
use hv_tlfs::vmbus::mouse::{self, DeviceInfo, HID, HidHeader, REPORT};
use hv_tlfs::vmbus::{Guid, guid};
use zerocopy::{Immutable, IntoBytes};

use crate::cx::{Channel, Cx, Packet};
use crate::outcome::{Outcome, Stop};

use super::super::on_device;

cases! {
    "vmbus_input";
    "Linux 6.12, drivers/input/serio/hyperv-keyboard.c", "hv_kbd_connect_to_vsp":
        the_keyboard_accepts_version_1,
        the_keyboard_refuses_a_version_that_nobody_speaks,
        a_refused_version_of_the_keyboard_can_be_followed_by_another;
    "Linux 6.12, drivers/hid/hid-hyperv.c", "mousevsc_connect_to_vsp":
        the_mouse_approves_version_2,
        the_mouse_repeats_the_version,
        the_mouse_refuses_a_version_that_nobody_speaks,
        the_mouse_describes_itself,
        the_description_of_the_mouse_is_whole;
}

const KEYBOARD: (Guid, &str) = (guid::KEYBOARD, "the host offers no keyboard");
const MOUSE: (Guid, &str) = (guid::MOUSE, "the host offers no mouse");

/// Bytes of a pipe's header.
const PIPE: usize = 8;

fn on(
    cx: &Cx<'_>,
    (interface, absent): (Guid, &'static str),
    work: impl FnOnce(&Channel<'_, '_, '_>) -> Outcome,
) -> Outcome {
    on_device(cx, interface, absent, work)
}

/// Sends a message in a pipe, and returns the first answer that is not a completion.
fn exchange<T: IntoBytes + Immutable>(
    channel: &Channel<'_, '_, '_>,
    piped: bool,
    message: &T,
) -> Result<Packet, Stop> {
    let mut bytes = [0; 32];
    let first = if piped { PIPE } else { 0 };
    let len = first + size_of::<T>();
    if piped {
        bytes[..4].copy_from_slice(&1u32.to_le_bytes());
        bytes[4..8].copy_from_slice(&(size_of::<T>() as u32).to_le_bytes());
    }
    bytes[first..len].copy_from_slice(message.as_bytes());
    channel.put_in_band(0x5678, true, &bytes[..len])?;
    channel.signalled()?;
    for _ in 0..2 {
        let packet = channel.receive()?;
        if packet.kind.0 != 11 {
            return Ok(packet);
        }
    }
    channel.receive()
}

/// Asks the keyboard for a version, and returns the status.
fn keyboard_version(channel: &Channel<'_, '_, '_>, version: u32) -> Result<u32, Stop> {
    let header = KeyboardHeader { message_type: keyboard::MessageType::PROTOCOL_REQUEST };
    let answer = exchange(channel, false, &keyboard::ProtocolRequest { header, version })?;
    let response: keyboard::ProtocolResponse = answer.get(0)?;
    check_eq!(response.header.message_type.0, keyboard::MessageType::PROTOCOL_RESPONSE.0);
    Ok(response.status & ACCEPTED)
}

fn the_keyboard_accepts_version_1(cx: &Cx<'_>) -> Outcome {
    on(cx, KEYBOARD, |channel| {
        check_eq!(keyboard_version(channel, keyboard::VERSION)?, ACCEPTED);
        Ok(())
    })
}

fn the_keyboard_refuses_a_version_that_nobody_speaks(cx: &Cx<'_>) -> Outcome {
    on(cx, KEYBOARD, |channel| {
        check_eq!(keyboard_version(channel, 0x7fff_0000)?, 0);
        Ok(())
    })
}

fn a_refused_version_of_the_keyboard_can_be_followed_by_another(cx: &Cx<'_>) -> Outcome {
    on(cx, KEYBOARD, |channel| {
        check_eq!(keyboard_version(channel, 0x7fff_0000)?, 0);
        check_eq!(keyboard_version(channel, keyboard::VERSION)?, ACCEPTED);
        Ok(())
    })
}

/// Asks the mouse for a version.
fn mouse_version(channel: &Channel<'_, '_, '_>, version: u32) -> Result<mouse::ProtocolResponse, Stop> {
    let header = HidHeader {
        message_type: mouse::MessageType::PROTOCOL_REQUEST.0.into(),
        size: (size_of::<u32>() as u32).into(),
    };
    let answer = exchange(channel, true, &mouse::ProtocolRequest { header, version: version.into() })?;
    let response: mouse::ProtocolResponse = answer.get(PIPE)?;
    check_eq!(response.header.message_type.get(), mouse::MessageType::PROTOCOL_RESPONSE.0);
    Ok(response)
}

fn the_mouse_approves_version_2(cx: &Cx<'_>) -> Outcome {
    on(cx, MOUSE, |channel| {
        check_eq!(mouse_version(channel, mouse::VERSION)?.approved, 1);
        Ok(())
    })
}

fn the_mouse_repeats_the_version(cx: &Cx<'_>) -> Outcome {
    on(cx, MOUSE, |channel| {
        check_eq!(mouse_version(channel, mouse::VERSION)?.version.get(), mouse::VERSION);
        Ok(())
    })
}

fn the_mouse_refuses_a_version_that_nobody_speaks(cx: &Cx<'_>) -> Outcome {
    on(cx, MOUSE, |channel| {
        check_eq!(mouse_version(channel, 0x7fff_0000)?.approved, 0);
        Ok(())
    })
}

/// Returns the packet in which the mouse describes itself.
fn description(channel: &Channel<'_, '_, '_>) -> Result<Packet, Stop> {
    check_eq!(mouse_version(channel, mouse::VERSION)?.approved, 1);
    channel.receive()
}

fn the_mouse_describes_itself(cx: &Cx<'_>) -> Outcome {
    on(cx, MOUSE, |channel| {
        let info: DeviceInfo = description(channel)?.get(PIPE)?;
        check_eq!(info.header.message_type.get(), mouse::MessageType::DEVICE_INFO.0);
        check_eq!(info.attributes.size.get() as usize, size_of_val(&info.attributes));
        Ok(())
    })
}

fn the_description_of_the_mouse_is_whole(cx: &Cx<'_>) -> Outcome {
    on(cx, MOUSE, |channel| {
        let packet = description(channel)?;
        let info: DeviceInfo = packet.get(PIPE)?;
        check_eq!(info.descriptor.descriptor_type, HID);
        check_eq!(info.descriptor.report_type, REPORT);
        check_eq!(usize::from(info.descriptor.length), size_of_val(&info.descriptor));
        let report = usize::from(info.descriptor.report_length.get());
        check!(report > 0);
        check!(packet.payload().len() >= PIPE + size_of::<DeviceInfo>() + report);
        Ok(())
    })
}
