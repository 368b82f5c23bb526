//! The headers of a frame, for its record.
//!
//! Sources: IEEE 802.3 and 802.1Q, RFC 826 (ARP), 791 (IPv4), 8200 (IPv6), 9293 (TCP), 768 (UDP), 792 and 4443 (ICMP).

use hv_trace::What;
use hv_vmbus::Contents;

/// Values of the EtherType.
const TAGGED: u16 = 0x8100;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const ARP: u16 = 0x0806;
/// Protocols above IP.
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP6: u8 = 58;

/// The beginning of a frame. What it does not have is zero.
struct Bytes<'b>(&'b [u8]);

impl Bytes<'_> {
    fn byte(&self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or_default()
    }

    fn half(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.byte(at), self.byte(at + 1)])
    }

    /// Returns an address of this length.
    fn address(&self, at: usize, len: usize) -> [u8; 16] {
        core::array::from_fn(|n| if n < len { self.byte(at + n) } else { 0 })
    }
}

/// Returns the record of a frame.
pub(super) fn record(contents: &Contents<'_>) -> What {
    let bytes = Bytes(contents.bytes);
    let (ether_type, ip) = match bytes.half(12) {
        TAGGED => (bytes.half(16), 18),
        ether_type => (ether_type, 14),
    };
    // The protocol, the offset of its header, and the offsets of the addresses with their length.
    let (protocol, next, addresses) = match ether_type {
        IPV4 => {
            let next = ip + usize::from(bytes.byte(ip) & 15) * 4;
            // A fragment other than the first has no such header.
            let first = bytes.half(ip + 6) & 0x1fff == 0;
            (bytes.byte(ip + 9), first.then_some(next), (ip + 12, ip + 16, 4))
        }
        IPV6 => (bytes.byte(ip + 6), Some(ip + 40), (ip + 8, ip + 24, 16)),
        ARP => (bytes.byte(ip + 7), None, (ip + 14, ip + 24, 4)),
        _ => (0, None, (0, 0, 0)),
    };
    let (ports, flags) = match (protocol, next) {
        (TCP, Some(next)) => ([bytes.half(next), bytes.half(next + 2)], bytes.byte(next + 13)),
        (UDP, Some(next)) => ([bytes.half(next), bytes.half(next + 2)], 0),
        (ICMP | ICMP6, Some(next)) => ([0; 2], bytes.byte(next)),
        _ => ([0; 2], 0),
    };
    let (source, destination, len) = addresses;
    What::Frame {
        channel: contents.channel.0 as u16,
        from_guest: contents.from_guest,
        length: contents.len,
        ether_type,
        protocol,
        flags,
        ports,
        source: bytes.address(source, len),
        destination: bytes.address(destination, len),
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use hv_tlfs::vmbus::{ChannelId, guid};
    use std::vec::Vec;

    fn of(bytes: &[u8]) -> What {
        record(&Contents::new(ChannelId(5), guid::NETWORK, 2, bytes).with_transaction(7).with_len(1514))
    }

    fn frame(ether_type: u16, rest: &[u8]) -> Vec<u8> {
        [&[0; 12][..], &ether_type.to_be_bytes(), rest].concat()
    }

    fn ports(what: What) -> (u8, [u16; 2], u8, u8, u8) {
        let What::Frame { protocol, ports, flags, source, destination, .. } = what else {
            panic!("{what:?}")
        };
        (protocol, ports, flags, source[0], destination[0])
    }

    #[test]
    fn headers_of_each_kind_are_found() {
        let mut ip = [0; 40];
        (ip[0], ip[9], ip[12], ip[16]) = (0x46, TCP, 10, 20);
        // One option, then the TCP header.
        ip[24..28].copy_from_slice(&[1, 2, 3, 4]);
        ip[24 + 13] = 0x12;
        let plain = frame(IPV4, &ip);
        assert_eq!(ports(of(&plain)), (TCP, [0x102, 0x304], 0x12, 10, 20));
        let tagged = [&plain[..12], &[0x81, 0, 0, 7], &plain[12..]].concat();
        assert_eq!(of(&tagged), of(&plain));
        ip[7] = 1;
        assert_eq!(ports(of(&frame(IPV4, &ip))), (TCP, [0; 2], 0, 10, 20), "a later fragment");
        let mut ip6 = [0; 48];
        (ip6[6], ip6[8], ip6[24]) = (UDP, 0xfe, 0xff);
        ip6[40..44].copy_from_slice(&[0, 53, 0, 54]);
        assert_eq!(ports(of(&frame(IPV6, &ip6))), (UDP, [53, 54], 0, 0xfe, 0xff));
        let mut arp = [0; 28];
        (arp[7], arp[14], arp[24]) = (2, 10, 11);
        assert_eq!(ports(of(&frame(ARP, &arp))), (2, [0; 2], 0, 10, 11));
    }

    #[test]
    fn a_short_frame_has_zeros() {
        for len in 0..60 {
            let mut ip = [0; 46];
            (ip[0], ip[9]) = (0x4f, TCP);
            let What::Frame { length: 1514, channel: 5, .. } = of(&frame(IPV4, &ip)[..len]) else { panic!() };
        }
    }
}
