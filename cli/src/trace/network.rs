//! Decodes what goes through a network card: packets of NVSP, messages of RNDIS in their data, and frames. Each record
//! is decoded by itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hv_partition::record::network_part as part;
use hv_tlfs::vmbus::nvsp::{CONTROL_CHANNEL, INVALID_INDEX, MessageType as Nvsp};
use hv_tlfs::vmbus::rndis::{
    INFO_CHECKSUM, INFO_HASH, INFO_LARGE_SEND, INFO_VLAN, LargeSend, MessageType as Rndis, VlanInfo,
};
use hv_tlfs::vmbus::{ChannelId, PacketType};
use hv_trace::{CONTENTS_DATA, CONTENTS_START, CONTENTS_STEP, What};

use super::decode::{Parts, Value, hex, number, text};
use super::packets::{Bytes, class_name, is_network, is_screen};
use super::screen;
use crate::report::names;

/// Offset of the body of a message of RNDIS.
const BODY: usize = 8;
/// Offset of the information about a frame in its message, and the length of a piece of it.
const INFOS: usize = 44;
const INFO: usize = 16;
// Each piece that is shown lies whole in one record, and in one only.
const _: () = assert!((INFOS - CONTENTS_START).is_multiple_of(INFO) && CONTENTS_STEP.is_multiple_of(INFO));
const _: () = assert!(CONTENTS_DATA >= CONTENTS_STEP && CONTENTS_DATA - CONTENTS_STEP < INFO);

fn nvsp_status(status: u32) -> (&'static str, Value) {
    text("status", names::name("nvsp-status", status.into()))
}

/// Names a packet, and adds the fields of its beginning.
pub(super) fn subject(
    packet_type: PacketType,
    start: &Bytes<'_>,
    fields: &mut Vec<(&'static str, Value)>,
) -> String {
    let message = start.u32(0);
    match Nvsp(message) {
        Nvsp::INIT => fields.push(text("version", names::name("nvsp-version", start.u32(4).into()))),
        Nvsp::INIT_COMPLETE => fields.push(nvsp_status(start.u32(12))),
        Nvsp::SEND_NDIS_CONFIG => fields.push(number("longest-frame", start.u32(4))),
        Nvsp::SEND_NDIS_VERSION => {
            fields.push(text("version", format!("{}.{}", start.u32(4), start.u32(8))));
        }
        Nvsp::SEND_RECEIVE_BUFFER | Nvsp::SEND_SEND_BUFFER => {
            fields.extend([hex("gpadl", start.u32(4)), hex("buffer", start.u16(8))]);
        }
        Nvsp::SEND_RECEIVE_BUFFER_COMPLETE | Nvsp::SEND_RNDIS_PACKET_COMPLETE => {
            fields.push(nvsp_status(start.u32(4)));
        }
        Nvsp::SEND_SEND_BUFFER_COMPLETE => {
            fields.extend([nvsp_status(start.u32(4)), number("section-bytes", start.u32(8))]);
        }
        Nvsp::REVOKE_RECEIVE_BUFFER | Nvsp::REVOKE_SEND_BUFFER => {
            fields.push(hex("buffer", start.u16(4)));
        }
        Nvsp::SEND_RNDIS_PACKET => {
            let control = start.u32(4) == CONTROL_CHANNEL;
            fields.push(text("carries", if control { "control" } else { "frames" }));
            let section = start.u32(8);
            if section != INVALID_INDEX {
                fields.extend([number("section", section), number("section-bytes", start.u32(12))]);
            }
        }
        Nvsp::SUBCHANNEL => {
            let answers = packet_type == PacketType::COMPLETION;
            fields.extend(answers.then(|| nvsp_status(start.u32(4))));
            fields.push(number("count", start.u32(8)));
        }
        Nvsp::SWITCH_DATA_PATH => {
            fields.push(text("path", names::name("nvsp-data-path", start.u32(4).into())));
        }
        _ => {}
    }
    names::name("nvsp-message", message.into())
}

/// Decodes a part of a packet's data, and a frame.
pub(super) fn contents(what: &What) -> Option<Parts> {
    match *what {
        What::Contents { channel, class, from_guest, part, shown, transaction, length, ref start } => {
            let mut fields = vec![
                number("channel", channel.0),
                text("class", class_name(class)),
                text("from", if from_guest { "guest" } else { "host" }),
            ];
            fields.extend((transaction != 0).then(|| hex("id", transaction)));
            fields.push(number("bytes", length));
            let start = Bytes { bytes: start, from: 0 };
            if is_network(class) && usize::from(shown) >= BODY {
                return Some((message(part, &start, &mut fields), fields));
            }
            if is_screen(class) {
                return Some((screen::message(part, &start, &mut fields), fields));
            }
            fields.push(text("payload", start.hex(0, CONTENTS_START.min(shown.into()))));
            Some((class_name(class), fields))
        }
        What::ContentsData { class, part, at, ref bytes, .. } => {
            let (rest, at) = (Bytes { bytes, from: at.into() }, usize::from(at));
            let infos =
                if is_network(class) && part == part::MESSAGE { infos(&rest, at) } else { Vec::new() };
            if infos.is_empty() {
                return Some((class_name(class), vec![text("payload", rest.hex(at, bytes.len()))]));
            }
            Some(("frame information".to_owned(), infos))
        }
        What::Frame {
            channel,
            from_guest,
            length,
            ether_type,
            protocol,
            flags,
            ports,
            ref source,
            ref destination,
        } => {
            let from = if from_guest { "guest" } else { "host" };
            let mut fields = vec![number("channel", channel), text("from", from), number("bytes", length)];
            let [from_port, to_port] = ports;
            if let (Some(source), Some(destination)) =
                (address(ether_type, source), address(ether_type, destination))
            {
                fields.extend([
                    text("source", place(source, from_port)),
                    text("destination", place(destination, to_port)),
                ]);
            }
            match protocol {
                TCP if ether_type != ARP => fields.push(text("flags", tcp_flags(flags))),
                ICMP | ICMP6 if ether_type != ARP => fields.push(number("type", flags)),
                _ => {}
            }
            Some((frame_name(ether_type, protocol), fields))
        }
        _ => None,
    }
}

/// Names a message of RNDIS, and adds its fields.
fn message(part: u8, start: &Bytes<'_>, fields: &mut Vec<(&'static str, Value)>) -> String {
    let kind = start.u32(0);
    let field = |n: usize| start.u32(BODY + n * 4);
    let request = number("request", field(0));
    let status = |status: u32| text("status", names::name("rndis-status", status.into()));
    let object = text("object", names::name("oid", field(1).into()));
    fields.push(number("length", start.u32(4)));
    match Rndis(kind) {
        Rndis::PACKET if part == part::MESSAGE => {
            fields.extend([number("offset", field(0)), number("frame-bytes", field(1))]);
        }
        Rndis::INITIALIZE => {
            let version = format!("{}.{}", field(1), field(2));
            fields.extend([request, text("version", version), number("most", field(3))]);
        }
        Rndis::QUERY | Rndis::SET => {
            fields.extend([request, object, number("information-bytes", field(2))]);
        }
        Rndis::QUERY_COMPLETE => {
            fields.extend([request, status(field(1)), number("information-bytes", field(2))]);
        }
        Rndis::INITIALIZE_COMPLETE | Rndis::SET_COMPLETE | Rndis::KEEPALIVE_COMPLETE => {
            fields.extend([request, status(field(1))]);
        }
        Rndis::HALT | Rndis::KEEPALIVE => fields.push(request),
        Rndis::RESET_COMPLETE | Rndis::INDICATE_STATUS => fields.push(status(field(0))),
        _ => {}
    }
    names::name("rndis-message", kind.into())
}

/// Decodes the information about a frame that lies whole in a record. Pieces of another length than usual are left as
/// bytes.
fn infos(rest: &Bytes<'_>, at: usize) -> Vec<(&'static str, Value)> {
    let mut fields = Vec::new();
    let end = at + rest.bytes.len();
    for piece in
        (INFOS..).step_by(INFO).skip_while(|piece| *piece < at).take_while(|piece| piece + INFO <= end)
    {
        if (rest.u32(piece), rest.u32(piece + 8)) != (INFO as u32, 12) {
            break;
        }
        let value = rest.u32(piece + 12);
        match rest.u32(piece + 4) {
            INFO_CHECKSUM => fields.push(hex("checksums", value)),
            INFO_LARGE_SEND => fields.push(number("segment-bytes", LargeSend(value).mss())),
            INFO_VLAN => fields.push(number("vlan", VlanInfo(value).vlan_id())),
            INFO_HASH => fields.push(hex("hash", value)),
            kind => fields.extend([hex("kind", kind), hex("value", value)]),
        }
    }
    fields
}

/// EtherTypes, and protocols above IP.
const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP6: u8 = 58;

/// Names a frame by its protocol.
fn frame_name(ether_type: u16, protocol: u8) -> String {
    match (ether_type, protocol) {
        (ARP, 1) => "ARP request".to_owned(),
        (ARP, 2) => "ARP reply".to_owned(),
        (ARP, operation) => format!("ARP operation {operation}"),
        (IPV4, ICMP) => "ICMP".to_owned(),
        (IPV4 | IPV6, TCP) => "TCP".to_owned(),
        (IPV4 | IPV6, UDP) => "UDP".to_owned(),
        (IPV6, ICMP6) => "ICMPv6".to_owned(),
        (IPV4 | IPV6, protocol) => format!("IP protocol {protocol}"),
        (other, _) => format!("EtherType {other:#06x}"),
    }
}

/// Returns an address of a frame's, if its protocol has any.
fn address(ether_type: u16, bytes: &[u8; 16]) -> Option<IpAddr> {
    match ether_type {
        IPV4 | ARP => Some(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into()),
        IPV6 => Some(Ipv6Addr::from(*bytes).into()),
        _ => None,
    }
}

/// Formats an address, with its port if there is one.
fn place(address: IpAddr, port: u16) -> String {
    match port {
        0 => address.to_string(),
        _ => SocketAddr::new(address, port).to_string(),
    }
}

/// Names the flags of a TCP header.
fn tcp_flags(flags: u8) -> String {
    let names = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
    let set = names.into_iter().enumerate().filter(|(bit, _)| flags >> bit & 1 != 0);
    set.map(|(_, name)| name).collect::<Vec<_>>().join("+")
}

/// Returns the channel and the number of a control message that is a request or its answer, and which of the two it is.
pub(super) fn exchange(what: &What) -> Option<(ChannelId, u32, bool)> {
    let What::Contents { channel, class, from_guest, part, ref start, .. } = *what else { return None };
    if !is_network(class) || part != part::CONTROL {
        return None;
    }
    let start = Bytes { bytes: start, from: 0 };
    let (kind, id) = (start.u32(0), start.u32(BODY));
    match (Rndis(kind), from_guest) {
        (Rndis::INITIALIZE | Rndis::QUERY | Rndis::SET | Rndis::KEEPALIVE, true) => Some((channel, id, true)),
        (
            Rndis::INITIALIZE_COMPLETE
            | Rndis::QUERY_COMPLETE
            | Rndis::SET_COMPLETE
            | Rndis::KEEPALIVE_COMPLETE,
            false,
        ) => Some((channel, id, false)),
        _ => None,
    }
}

/// Names a control message that is a request: with its object, if it has one.
pub(super) fn request_name(what: &What) -> Option<String> {
    let What::Contents { ref start, .. } = *what else { return None };
    let start = Bytes { bytes: start, from: 0 };
    let name = names::name("rndis-message", start.u32(0).into());
    Some(match Rndis(start.u32(0)) {
        Rndis::QUERY | Rndis::SET => {
            format!("{name} {}", names::name("oid", start.u32(BODY + 4).into()))
        }
        _ => name,
    })
}

#[cfg(test)]
#[path = "network_tests.rs"]
mod tests;
