//! A frame from the guest on its way to the wire: with the tag, the checksums and the lengths that the guest left to
//! the card.
//!
//! Headers that are to be changed are copied once, and judged as copied: the guest can write to its own at any time.
//! The rest is copied when the back end has the frame written, and sums are over what was copied.

use super::headers::{self, ETHERNET, IPV6_HEADER, Ip, Sum, TAG, TAG_AT, TCP, UDP};
use hv_memory::{BadAddress, GuestMemory};
use hv_tlfs::vmbus::rndis::{LargeSend, TransmitChecksum, VlanInfo};
use hv_vmbus::Pages;

/// Maximum length of a frame on the wire, with header and tag.
pub const MAX_FRAME: usize = super::LARGEST_FRAME as usize + TAG;
/// Maximum length of the headers that are changed.
pub(super) const MAX_HEADER: usize = 256;
/// Minimum length of a TCP header, and of UDP's.
const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
/// Offsets of the checksum in both.
const TCP_SUM: usize = 16;
const UDP_SUM: usize = 6;
/// Flags of TCP: no more data, and the receiver is to hand it on, which belong to the last segment; and the congestion
/// window was reduced, which belongs to the first (RFC 3168).
const FIN_PSH: u8 = 0x09;
const CWR: u8 = 0x80;

/// What the guest asks of the card for a frame.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    pub(super) checksum: Option<TransmitChecksum>,
    pub(super) large_send: Option<LargeSend>,
    pub(super) vlan: Option<VlanInfo>,
}

impl Wanted {
    /// Returns the number of bytes of the frame that are needed to judge it.
    pub(super) const fn header_len(&self) -> usize {
        if self.checksum.is_some() || self.large_send.is_some() {
            MAX_HEADER
        } else if self.vlan.is_some() {
            ETHERNET
        } else {
            0
        }
    }
}

/// What is to be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sums {
    None,
    /// The checksum of the IPv4 header, the one of TCP or UDP, or both.
    Of {
        ip_header: bool,
        transport: bool,
    },
    /// All, and the lengths, for segments of this much payload.
    Segments {
        mss: u32,
    },
}

/// A frame, or a long TCP segment that becomes several.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    header: [u8; MAX_HEADER],
    header_len: u16,
    /// Bytes after the header, in all segments together.
    payload: u32,
    tag: Option<u16>,
    sums: Sums,
    ip: Ip,
}

impl Frame {
    pub(super) const EMPTY: Self = Self {
        header: [0; MAX_HEADER],
        header_len: 0,
        payload: 0,
        tag: None,
        sums: Sums::None,
        ip: Ip { at: 0, v6: false, len: 0, protocol: 0, next: 0, fragment: false },
    };

    /// Judges a frame of `len` bytes that begins with these. `longest`: what the wire takes, with the header and
    /// without a tag. Returns `None` if it is invalid.
    pub(super) fn set(&mut self, first: &[u8], len: u32, wanted: &Wanted, longest: u32) -> Option<()> {
        let tag = wanted.vlan.map(|vlan| vlan.priority_bits() | vlan.vlan_id());
        (self.header_len, self.payload, self.tag, self.sums) = (0, len, tag, Sums::None);
        self.ip = Self::EMPTY.ip;
        if len < ETHERNET as u32 {
            return None;
        }
        let header_len = match (wanted.large_send, wanted.checksum) {
            (Some(large), _) => self.cut(first, len, large)?,
            (None, Some(checksum)) => self.check(first, len, checksum)?,
            (None, None) if tag.is_some() => TAG_AT,
            (None, None) => 0,
        };
        self.header.get_mut(..header_len)?.copy_from_slice(first.get(..header_len)?);
        self.header_len = header_len as u16;
        self.payload = len.checked_sub(header_len as u32)?;
        (self.longest_segment() <= longest).then_some(())
    }

    /// Judges a long segment. Returns the length of its headers.
    fn cut(&mut self, first: &[u8], len: u32, large: LargeSend) -> Option<usize> {
        let ip = headers::ip(first)?;
        let next = usize::from(large.tcp_header_offset());
        let offset = *first.get(next + 12)? >> 4;
        let header_len = next + usize::from(offset) * 4;
        let tcp =
            ip.protocol == TCP && ip.next == next && !ip.fragment && usize::from(offset) * 4 >= TCP_HEADER;
        if !tcp || ip.v6 != large.ipv6() || large.mss() == 0 || header_len as u32 > len {
            return None;
        }
        self.ip = ip;
        self.sums = Sums::Segments { mss: large.mss() };
        Some(header_len)
    }

    /// Judges a frame whose checksums are to be computed. Returns how much of it is a header.
    fn check(&mut self, first: &[u8], len: u32, checksum: TransmitChecksum) -> Option<usize> {
        let ip = headers::ip(first)?;
        let transport = checksum.tcp_checksum() || checksum.udp_checksum();
        let ip_header = checksum.ip_header_checksum() && !ip.v6;
        let whole = if ip.v6 { ip.at + IPV6_HEADER + ip.len } else { ip.at + ip.len };
        let wrong = checksum.is_ipv4() == ip.v6 && (checksum.is_ipv4() || checksum.is_ipv6());
        if wrong || whole > len as usize {
            return None;
        }
        self.ip = ip;
        self.sums = Sums::Of { ip_header, transport };
        let options = if ip.v6 { IPV6_HEADER } else { usize::from(*first.get(ip.at)? & 15) * 4 };
        let mut header_len = ip.at + options;
        if transport {
            let (protocol, header) =
                if checksum.tcp_checksum() { (TCP, TCP_HEADER) } else { (UDP, UDP_HEADER) };
            if ip.protocol != protocol || ip.fragment || ip.next + header > whole {
                return None;
            }
            header_len = ip.next + header;
        }
        (header_len <= whole).then_some(header_len)
    }

    /// Returns the number of segments: 1 for a frame that is not cut.
    pub(super) fn segments(&self) -> u32 {
        match self.sums {
            Sums::Segments { mss } => self.payload.div_ceil(mss).max(1),
            _ => 1,
        }
    }

    /// Returns where the payload of a segment is: offset in the frame, and length.
    pub(super) fn part(&self, segment: u32) -> (u32, u32) {
        let header = u32::from(self.header_len);
        match self.sums {
            Sums::Segments { mss } => {
                let at = segment.saturating_mul(mss).min(self.payload);
                (header + at, mss.min(self.payload - at))
            }
            _ => (header, self.payload),
        }
    }

    fn longest_segment(&self) -> u32 {
        u32::from(self.header_len).saturating_add(self.part(0).1)
    }

    /// Returns the length of a segment on the wire.
    pub(super) fn len(&self, segment: u32) -> usize {
        self.payload_at() + self.part(segment).1 as usize
    }

    /// Returns where a segment's payload is on the wire.
    pub(super) fn payload_at(&self) -> usize {
        usize::from(self.header_len) + if self.tag.is_some() { TAG } else { 0 }
    }

    /// Writes a segment whose payload is `data`. Returns its length.
    pub(super) fn write<M: GuestMemory>(
        &self,
        segment: u32,
        memory: &M,
        data: Pages<'_>,
        into: &mut [u8],
    ) -> Result<usize, BadAddress> {
        let len = self.len(segment);
        let into = into.get_mut(..len).ok_or(BadAddress)?;
        let header = self.header.get(..usize::from(self.header_len)).ok_or(BadAddress)?;
        let tagged = if self.tag.is_some() { TAG } else { 0 };
        let (front, payload) = into.split_at_mut(header.len() + tagged);
        match self.tag {
            Some(tag) => {
                front[..TAG_AT].copy_from_slice(&header[..TAG_AT]);
                front[TAG_AT..TAG_AT + 2].copy_from_slice(&[0x81, 0]);
                front[TAG_AT + 2..TAG_AT + TAG].copy_from_slice(&tag.to_be_bytes());
                front[TAG_AT + TAG..].copy_from_slice(&header[TAG_AT..]);
            }
            None => front.copy_from_slice(header),
        }
        data.read(memory, 0, payload)?;
        // From here on without the tag, which the sums do not cover.
        let ip = Ip { at: self.ip.at + tagged, next: self.ip.next + tagged, ..self.ip };
        match self.sums {
            Sums::None => {}
            Sums::Of { ip_header, transport } => {
                if ip_header {
                    sum_header(into, &ip);
                }
                if transport {
                    let end = if ip.v6 { ip.at + IPV6_HEADER + ip.len } else { ip.at + ip.len };
                    sum_transport(into.get_mut(..end).ok_or(BadAddress)?, &ip);
                }
            }
            Sums::Segments { mss } => {
                self.number(into, &ip, segment, segment.saturating_mul(mss));
                if !ip.v6 {
                    sum_header(into, &ip);
                }
                sum_transport(into, &ip);
            }
        }
        Ok(len)
    }

    /// Sets the lengths and numbers of a segment.
    fn number(&self, into: &mut [u8], ip: &Ip, segment: u32, at: u32) {
        let set =
            |into: &mut [u8], at: usize, value: u16| into[at..at + 2].copy_from_slice(&value.to_be_bytes());
        let after = into.len() - ip.at;
        if ip.v6 {
            set(into, ip.at + 4, (after - IPV6_HEADER) as u16);
        } else {
            set(into, ip.at + 2, after as u16);
            let id = headers::half(into, ip.at + 4).unwrap_or(0);
            set(into, ip.at + 4, id.wrapping_add(segment as u16));
        }
        let sequence = headers::word(into, ip.next + 4).unwrap_or(0).wrapping_add(at);
        into[ip.next + 4..ip.next + 8].copy_from_slice(&sequence.to_be_bytes());
        if segment > 0 {
            into[ip.next + 13] &= !CWR;
        }
        if segment + 1 < self.segments() {
            into[ip.next + 13] &= !FIN_PSH;
        }
    }
}

/// Computes the checksum of the IPv4 header.
fn sum_header(frame: &mut [u8], ip: &Ip) {
    let len = usize::from(frame[ip.at] & 15) * 4;
    let header = &mut frame[ip.at..ip.at + len];
    header[10..12].fill(0);
    let sum = Sum::default().add(header).finish();
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Computes the checksum of TCP or UDP. The frame ends where the IP packet does.
fn sum_transport(frame: &mut [u8], ip: &Ip) {
    let addresses = if ip.v6 { ip.at + 8..ip.at + 40 } else { ip.at + 12..ip.at + 20 };
    let at = ip.next + if ip.protocol == TCP { TCP_SUM } else { UDP_SUM };
    frame[at..at + 2].fill(0);
    let len = (frame.len() - ip.next) as u32;
    let sum = Sum::default().add(&frame[addresses]).number(ip.protocol.into()).number(len);
    let sum = sum.add(&frame[ip.next..]).finish();
    // 0 would mean that a UDP packet has no checksum (RFC 768).
    let sum = if ip.protocol == UDP && sum == 0 { 0xffff } else { sum };
    frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// The tag as it is in a frame (IEEE 802.1Q, "Tag Control Information format").
trait TagBits {
    fn priority_bits(self) -> u16;
}

impl TagBits for VlanInfo {
    fn priority_bits(self) -> u16 {
        u16::from(self.priority()) << 13 | u16::from(self.drop_eligible()) << 12
    }
}
