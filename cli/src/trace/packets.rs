//! Decodes packets of devices. A packet has one or two records; each is decoded by itself.

use hv_tlfs::vmbus::ic::PipeHeader;
use hv_tlfs::vmbus::storage::{AUTOSENSE_VALID, Operation};
use hv_tlfs::vmbus::{Guid, PacketType, guid, keyboard, mouse, scsi, socket, video};
use hv_trace::{PACKET_START, SOCKET_CLASS, What};

use super::decode::{Parts, Value, hex, number, text};
use super::services::{self, Message};
use super::{network, screen};
use crate::report::names;

/// Offset of a storage packet's body.
const BODY: usize = 12;
/// Offset of a command or of sense in a storage packet.
const CDB: usize = BODY + 16;
/// Bytes of the shortest message of a keyboard.
const KEYBOARD: usize = size_of::<keyboard::ProtocolRequest>();
/// Offset of the body of a mouse's message.
const MOUSE: usize = size_of::<PipeHeader>() + size_of::<mouse::HidHeader>();
/// Offset of the body of a message of video.
const VIDEO: usize = size_of::<PipeHeader>() + size_of::<video::VideoHeader>();

/// Names a kind of devices.
pub(super) fn class(interface: &Guid) -> String {
    if let Some(port) = socket::port(*interface) {
        return format!("socket of port {port}");
    }
    named(interface).map_or_else(|| interface.to_string(), str::to_owned)
}

fn named(interface: &Guid) -> Option<&'static str> {
    Some(match *interface {
        guid::SCSI => "storage",
        guid::HEARTBEAT => "heartbeat",
        guid::SHUTDOWN => "shutdown",
        guid::TIME_SYNC => "time",
        guid::KVP => "kvp",
        guid::VSS => "vss",
        guid::FILE_COPY => "fcopy",
        guid::NETWORK => "network",
        guid::KEYBOARD => "keyboard",
        guid::MOUSE => "mouse",
        guid::VIDEO => "video",
        guid::DYNAMIC_MEMORY => "balloon",
        guid::PCIE => "pci",
        _ => return None,
    })
}

/// Returns the interface that a record names by number.
pub(super) fn interface(class: u8) -> Option<&'static Guid> {
    usize::from(class).checked_sub(1).and_then(|at| guid::INTERFACES.get(at)).map(|(interface, ..)| interface)
}

/// Names the class of a record.
pub(super) fn class_name(number: u8) -> String {
    if number == SOCKET_CLASS {
        return "socket".to_owned();
    }
    interface(number).map_or_else(|| "other".to_owned(), class)
}

/// Returns true for the classes whose packets are messages of the framework of integration services.
pub(super) fn is_service(class: u8) -> bool {
    let services = [guid::HEARTBEAT, guid::SHUTDOWN, guid::TIME_SYNC, guid::KVP, guid::VSS, guid::FILE_COPY];
    interface(class).is_some_and(|interface| services.contains(interface))
}

fn is_balloon(class: u8) -> bool {
    interface(class) == Some(&guid::DYNAMIC_MEMORY)
}

fn is_keyboard(class: u8) -> bool {
    interface(class) == Some(&guid::KEYBOARD)
}

fn is_storage(class: u8) -> bool {
    interface(class) == Some(&guid::SCSI)
}

/// Returns true for network cards.
pub(super) fn is_network(class: u8) -> bool {
    interface(class) == Some(&guid::NETWORK)
}

/// Returns true for the screen.
pub(super) fn is_screen(class: u8) -> bool {
    interface(class) == Some(&guid::VIDEO)
}

/// The known bytes of a packet, or of its data.
pub(super) struct Bytes<'b> {
    pub(super) bytes: &'b [u8],
    /// Offset of the first of them.
    pub(super) from: usize,
}

impl Bytes<'_> {
    pub(super) fn u8(&self, at: usize) -> u8 {
        at.checked_sub(self.from).and_then(|at| self.bytes.get(at)).copied().unwrap_or_default()
    }

    pub(super) fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.u8(at), self.u8(at + 1)])
    }

    pub(super) fn u32(&self, at: usize) -> u32 {
        u32::from(self.u16(at)) | u32::from(self.u16(at + 2)) << 16
    }

    pub(super) fn u64(&self, at: usize) -> u64 {
        u64::from(self.u32(at)) | u64::from(self.u32(at + 4)) << 32
    }

    /// Reads a big-endian number of some bytes.
    fn big(&self, at: usize, bytes: usize) -> u64 {
        (at..at + bytes).fold(0, |value, at| value << 8 | u64::from(self.u8(at)))
    }

    pub(super) fn hex(&self, at: usize, bytes: usize) -> String {
        (at..at + bytes).map(|at| format!("{:02x}", self.u8(at))).collect()
    }
}

/// Decodes the records of a packet and of its data. `message` is the service's message that the record continues.
pub(super) fn raw(what: &What, message: Option<Message>) -> Option<Parts> {
    match *what {
        What::Packet {
            channel,
            class,
            from_guest,
            packet_type,
            flags,
            transaction,
            length,
            ranges,
            bytes,
            error,
            ref start,
        } => {
            let start = &Bytes { bytes: start, from: 0 };
            let mut fields = vec![
                number("channel", channel.0),
                text("class", class_name(class)),
                text("from", if from_guest { "guest" } else { "host" }),
                text("type", names::name("vmbus-packet", packet_type.0.into())),
                hex("id", transaction),
                number("bytes", length),
            ];
            fields.extend((flags != 0).then(|| hex("flags", flags)));
            if packet_type == PacketType::DATA_USING_GPA_DIRECT {
                fields.extend([number("ranges", ranges), number("data", bytes)]);
                fields.extend((error != 0).then(|| number("error", error)));
            }
            Some((subject(what, start, &mut fields), fields))
        }
        What::PacketData { class, from_guest, ref bytes } => {
            let rest = &Bytes { bytes, from: PACKET_START };
            Some(match () {
                () if is_storage(class) => command(rest, from_guest),
                () if is_service(class) => services::rest(class, message, rest),
                () => (class_name(class), vec![text("payload", rest.hex(PACKET_START, bytes.len()))]),
            })
        }
        _ => network::contents(what),
    }
}

/// Names what a packet is about, and adds the fields of its beginning.
fn subject(what: &What, start: &Bytes<'_>, fields: &mut Vec<(&'static str, Value)>) -> String {
    let What::Packet { class, packet_type, length, .. } = *what else { return String::new() };
    if is_storage(class) && length as usize >= BODY {
        let (operation, status) = (start.u32(0), start.u32(8));
        if packet_type == PacketType::COMPLETION {
            fields.push(text("status", names::name("nt-status", status.into())));
            // A request's structure begins with its own length.
            if start.u16(BODY) == 52 {
                let srb = start.u8(BODY + 2);
                fields.push(text("srb-status", names::name("srb-status", u64::from(srb & 0x3f))));
                fields.push(text("scsi-status", names::name("scsi-status", start.u8(BODY + 3).into())));
                fields.extend((srb & AUTOSENSE_VALID != 0).then(|| number("sense", true)));
            }
        }
        return names::name("storage-operation", operation.into());
    }
    if let Some(Message { kind, .. }) = Message::of(what) {
        return names::name("ic-message", kind.0.into());
    }
    if is_keyboard(class) && length as usize >= KEYBOARD && packet_type == PacketType::DATA_IN_BAND {
        match keyboard::MessageType(start.u32(0)) {
            keyboard::MessageType::PROTOCOL_REQUEST => fields.push(hex("version", start.u32(4))),
            keyboard::MessageType::PROTOCOL_RESPONSE => {
                fields.push(number("accepted", start.u32(4) & keyboard::ACCEPTED));
            }
            keyboard::MessageType::EVENT => {
                fields.extend([hex("code", start.u16(4)), hex("key-flags", start.u32(8))]);
            }
            _ => {}
        }
        return names::name("keyboard-message", start.u32(0).into());
    }
    if interface(class) == Some(&guid::MOUSE)
        && length as usize >= MOUSE
        && packet_type == PacketType::DATA_IN_BAND
    {
        let kind = start.u32(size_of::<PipeHeader>());
        if mouse::MessageType(kind) == mouse::MessageType::INPUT_REPORT {
            fields.push(number("buttons", start.u8(MOUSE)));
        }
        return names::name("mouse-message", kind.into());
    }
    if is_screen(class) && length as usize >= VIDEO && packet_type == PacketType::DATA_IN_BAND {
        return screen::name(start.u32(size_of::<PipeHeader>()));
    }
    if is_balloon(class) && length >= 8 && packet_type == PacketType::DATA_IN_BAND {
        return balloon(start, fields);
    }
    if is_network(class) && length >= 4 {
        return network::subject(packet_type, start, fields);
    }
    if class == SOCKET_CLASS && packet_type == PacketType::DATA_IN_BAND {
        // The pipe's header has the number of bytes, which the packet rounds up.
        let bytes = start.u32(4);
        fields.push(number("stream-bytes", bytes));
        return if bytes == 0 { "stream end" } else { "stream data" }.to_owned();
    }
    names::name("vmbus-packet", packet_type.0.into())
}

/// Names a message of dynamic memory, and adds the fields of its beginning.
fn balloon(start: &Bytes<'_>, fields: &mut Vec<(&'static str, Value)>) -> String {
    use hv_tlfs::vmbus::balloon::MessageType;
    let kind = MessageType(start.u16(0));
    match kind {
        MessageType::VERSION_REQUEST => {
            fields.push(text("version", names::name("balloon-version", start.u32(8).into())));
        }
        MessageType::VERSION_RESPONSE | MessageType::CAPABILITIES_RESPONSE => {
            fields.push(number("accepted", start.u32(8) & 1));
        }
        MessageType::CAPABILITIES_REPORT => fields.push(hex("capabilities", start.u64(8))),
        MessageType::STATUS_REPORT => fields.push(number("available", start.u64(8))),
        MessageType::BALLOON_REQUEST | MessageType::HOT_ADD_RESPONSE => {
            fields.push(number("pages", start.u32(8)));
        }
        MessageType::BALLOON_RESPONSE => {
            fields.extend([number("more", start.u32(12) & 1), number("ranges", start.u32(12) >> 1)]);
        }
        MessageType::UNBALLOON_REQUEST => {
            fields.extend([number("more", start.u32(8) & 1), number("ranges", start.u32(12))]);
        }
        _ => {}
    }
    names::name("balloon-message", kind.0.into())
}

/// Returns the name of a SCSI command in the second record of a storage packet; `None` if there is none.
pub(super) fn scsi_name(bytes: &[u8]) -> Option<String> {
    let rest = Bytes { bytes, from: PACKET_START };
    // Other packets have zeros or properties there: a command has the length of its group.
    let length = rest.u8(BODY + 8);
    matches!(length, 6 | 10 | 12 | 16).then(|| names::name("scsi-command", rest.u8(CDB).into()))
}

/// Decodes the second part of a storage packet.
fn command(rest: &Bytes<'_>, from_guest: bool) -> Parts {
    let Some(name) = scsi_name(rest.bytes) else {
        return ("storage".into(), vec![text("payload", rest.hex(PACKET_START, rest.bytes.len()))]);
    };
    let mut fields = vec![
        number("path", rest.u8(BODY + 5)),
        number("target", rest.u8(BODY + 6)),
        number("lun", rest.u8(BODY + 7)),
        number("transfer", rest.u32(BODY + 12)),
    ];
    if !from_guest {
        // The command's place has sense, if it failed.
        let key = rest.u8(CDB + 2) & 0xf;
        let key = names::name("sense-key", key.into());
        let sense = format!("{key} {:02x}/{:02x}", rest.u8(CDB + 12), rest.u8(CDB + 13));
        let failed = matches!(rest.u8(CDB) & 0x7f, 0x70..=0x73);
        fields.extend(failed.then(|| text("sense", sense)));
        return ("answer".into(), fields);
    }
    let direction = names::name("storage-direction", rest.u8(BODY + 10).into());
    fields.push(text("direction", direction));
    let blocks = match rest.u8(CDB) {
        scsi::OP_READ_6 | scsi::OP_WRITE_6 => Some((rest.big(CDB + 1, 3) & 0x1f_ffff, rest.big(CDB + 4, 1))),
        scsi::OP_READ_10
        | scsi::OP_WRITE_10
        | scsi::OP_VERIFY
        | scsi::OP_SYNCHRONIZE_CACHE
        | scsi::OP_WRITE_SAME => Some((rest.big(CDB + 2, 4), rest.big(CDB + 7, 2))),
        scsi::OP_READ_12 | scsi::OP_WRITE_12 => Some((rest.big(CDB + 2, 4), rest.big(CDB + 6, 4))),
        scsi::OP_READ_16
        | scsi::OP_WRITE_16
        | scsi::OP_VERIFY_16
        | scsi::OP_SYNCHRONIZE_CACHE_16
        | scsi::OP_WRITE_SAME_16 => Some((rest.big(CDB + 2, 8), rest.big(CDB + 10, 4))),
        _ => None,
    };
    if let Some((first, count)) = blocks {
        fields.extend([number("lba", first), number("blocks", count)]);
    }
    let length = usize::from(rest.u8(BODY + 8));
    fields.push(text("cdb", rest.hex(CDB, length)));
    fields.extend([
        number("sense-room", rest.u8(BODY + 9)),
        number("queue-tag", rest.u8(BODY + 38)),
        number("queue-action", rest.u8(BODY + 39)),
        hex("srb-flags", rest.u32(BODY + 40)),
        number("timeout", rest.u32(BODY + 44)),
    ]);
    (name, fields)
}

/// Returns the operation of a packet, for the name of a request: that of its beginning.
pub(super) fn operation(what: &What) -> String {
    let What::Packet { ref start, .. } = *what else {
        return network::request_name(what).unwrap_or_default();
    };
    subject(what, &Bytes { bytes: start, from: 0 }, &mut Vec::new())
}

/// Returns true for a request whose name is in its second record.
pub(super) fn is_command(what: &What) -> bool {
    let What::Packet { class, ref start, .. } = *what else { return false };
    is_storage(class) && Bytes { bytes: start, from: 0 }.u32(0) == Operation::EXECUTE_SRB.0
}

#[cfg(test)]
#[path = "packets_tests.rs"]
mod tests;
