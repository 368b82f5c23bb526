//! The headers of a frame: Ethernet, IP, and where TCP or UDP begins.

use zerocopy::FromBytes as _;

/// Length of the header of a frame without a tag.
pub(super) const ETHERNET: usize = 14;
/// Length of a VLAN tag in a frame.
pub(super) const TAG: usize = 4;
/// Offset of a VLAN tag, after both addresses.
pub(super) const TAG_AT: usize = 12;
const TAGGED: u16 = 0x8100;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
/// Length of an IPv6 header.
pub(super) const IPV6_HEADER: usize = 40;
/// Maximum number of extension headers that are skipped.
const EXTENSIONS: usize = 8;

/// What is known of an IP packet in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ip {
    /// Offset of its header.
    pub(super) at: usize,
    pub(super) v6: bool,
    /// Length that the header tells: of the packet (IPv4), or of what follows the header (IPv6).
    pub(super) len: usize,
    /// Protocol, and the offset of its header; 0 in a fragment that is not the first, or for an unknown header.
    pub(super) protocol: u8,
    pub(super) next: usize,
    /// It is a fragment of a longer packet.
    pub(super) fragment: bool,
}

pub(super) fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at.checked_add(1)?)?]))
}

pub(super) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from(half(bytes, at)?) << 16 | u32::from(half(bytes, at.checked_add(2)?)?))
}

/// Returns the tag of a frame that has one.
pub(super) fn tag(frame: &[u8]) -> Option<u16> {
    if half(frame, TAG_AT)? == TAGGED { half(frame, TAG_AT + 2) } else { None }
}

/// Finds the IP packet in a frame of which these are the first bytes.
pub(super) fn ip(frame: &[u8]) -> Option<Ip> {
    let tagged = half(frame, TAG_AT)? == TAGGED;
    let at = if tagged { ETHERNET + TAG } else { ETHERNET };
    match half(frame, at - 2)? {
        IPV4 => ipv4(frame, at),
        IPV6 => ipv6(frame, at),
        _ => None,
    }
}

fn ipv4(frame: &[u8], at: usize) -> Option<Ip> {
    let first = *frame.get(at)?;
    let length = usize::from(first & 15) * 4;
    if first >> 4 != 4 || length < 20 {
        return None;
    }
    let fragment = half(frame, at + 6)? & 0x3fff;
    let (offset, protocol) = (fragment & 0x1fff, *frame.get(at + 9)?);
    let known = offset == 0;
    Some(Ip {
        at,
        v6: false,
        len: half(frame, at + 2)?.into(),
        protocol: if known { protocol } else { 0 },
        next: if known { at + length } else { 0 },
        fragment: fragment != 0,
    })
}

fn ipv6(frame: &[u8], at: usize) -> Option<Ip> {
    if frame.get(at)? >> 4 != 6 {
        return None;
    }
    let len = half(frame, at + 4)?.into();
    let (mut protocol, mut next, mut fragment) = (*frame.get(at + 6)?, at + IPV6_HEADER, false);
    for _ in 0..EXTENSIONS {
        match protocol {
            // Hop-by-hop options, routing, destination options.
            0 | 43 | 60 => {
                let bytes = (frame.get(next), frame.get(next + 1));
                let (Some(following), Some(length)) = bytes else { break };
                (protocol, next) = (*following, next + (usize::from(*length) + 1) * 8);
            }
            44 => {
                fragment = true;
                let (Some(following), Some(offset)) = (frame.get(next), half(frame, next + 2)) else { break };
                if offset >> 3 != 0 {
                    return Some(Ip { at, v6: true, len, protocol: 0, next: 0, fragment });
                }
                (protocol, next) = (*following, next + 8);
            }
            _ => return Some(Ip { at, v6: true, len, protocol, next, fragment }),
        }
    }
    Some(Ip { at, v6: true, len, protocol: 0, next: 0, fragment })
}

/// Returns the ones' complement sum of the halves of words, each half in the machine's order.
fn sum_words(words: &[u64]) -> u16 {
    let mut sum = 0_u64;
    for word in words {
        let (next, carry) = sum.overflowing_add(*word);
        sum = next + u64::from(carry);
    }
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// A sum for internet checksums (RFC 1071).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum(u64);

impl Sum {
    /// Adds bytes from an even offset on: by words where they are aligned, as EL2 cannot read others.
    pub(super) fn add(mut self, bytes: &[u8]) -> Self {
        let front = bytes.as_ptr().align_offset(align_of::<u64>()).min(bytes.len());
        let (front, rest) = bytes.split_at(front);
        let words = <[u64]>::ref_from_prefix_with_elems(rest, rest.len() / size_of::<u64>());
        let (words, last) = words.unwrap_or((&[], rest));
        let sum = sum_words(words);
        // A sum of halves in the order of the machine is the sum in the network's order, swapped; and swapped again if
        // each half of a word is in two halves of the network's.
        let odd = front.len() % 2 != 0;
        self.0 += u64::from(if odd { sum.to_be().swap_bytes() } else { sum.to_be() });
        self.few(front, false).few(last, odd)
    }

    /// Adds fewer than 8 bytes. `odd`: from an odd offset on.
    fn few(mut self, bytes: &[u8], mut odd: bool) -> Self {
        for byte in bytes {
            self.0 += u64::from(*byte) << if odd { 0 } else { 8 };
            odd = !odd;
        }
        self
    }

    pub(super) fn number(mut self, number: u32) -> Self {
        self.0 += u64::from(number);
        self
    }

    /// Returns the checksum: the complement of the sum.
    pub(super) fn finish(self) -> u16 {
        let mut sum = self.0;
        while sum >> 16 != 0 {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        !(sum as u16)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::vec;

    /// The checksum by its definition.
    fn plain(bytes: &[u8]) -> u16 {
        let mut sum = 0_u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    proptest! {
        #[test]
        fn a_sum_is_that_of_its_halves(bytes in proptest::collection::vec(any::<u8>(), 0..3000), from in 0..9_usize) {
            let bytes = bytes.get(from..).unwrap_or_default();
            prop_assert_eq!(Sum::default().add(bytes).finish(), plain(bytes));
        }

        #[test]
        fn any_bytes_are_a_frame_or_not(mut frame in proptest::collection::vec(any::<u8>(), 0..120), kind in 0..3_usize) {
            if frame.len() >= 15 {
                let kind = [IPV4, IPV6, TAGGED][kind];
                frame[12..14].copy_from_slice(&kind.to_be_bytes());
                frame[14] = frame[14] & 15 | if kind == IPV4 { 0x40 } else { 0x60 };
            }
            if let Some(found) = ip(&frame) {
                prop_assert!(found.next == 0 || found.next > found.at);
            }
        }
    }

    #[test]
    fn headers_are_found() {
        let mut frame = vec![0_u8; 60];
        frame[12..14].copy_from_slice(&[8, 0]);
        frame[14] = 0x46;
        frame[16..18].copy_from_slice(&[0, 46]);
        frame[23] = TCP;
        let found = ip(&frame).unwrap();
        let expected = Ip { at: 14, v6: false, len: 46, protocol: TCP, next: 38, fragment: false };
        assert_eq!(found, expected);
        frame[20] = 0x20;
        assert_eq!(ip(&frame), Some(Ip { fragment: true, ..expected }));
        frame[21] = 1;
        assert_eq!(ip(&frame), Some(Ip { fragment: true, next: 0, protocol: 0, ..expected }));
        frame[14] = 0x44;
        assert_eq!(ip(&frame), None, "a header of 16 bytes");
    }

    #[test]
    fn extension_headers_are_skipped() {
        let mut frame = vec![0_u8; 100];
        frame[12..18].copy_from_slice(&[0x81, 0, 0, 5, 0x86, 0xdd]);
        frame[18] = 0x60;
        frame[24] = 0;
        frame[58..60].copy_from_slice(&[60, 0]);
        frame[66..68].copy_from_slice(&[UDP, 1]);
        let found = ip(&frame).unwrap();
        assert_eq!((found.at, found.v6, found.protocol, found.next), (18, true, UDP, 82));
        assert_eq!(tag(&frame), Some(5));
        frame[66] = 60;
        assert_eq!(ip(&frame).map(|found| found.next), Some(0), "a chain that leaves the frame");
    }
}
