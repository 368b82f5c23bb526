//! Offloads: the card computes the checksums of frames that are sent, and judges those of frames that arrive, if the
//! guest asks for it.
//!
//! Sources: Linux 6.12, drivers/net/hyperv: `rndis_netdev_set_hwcaps`, `netvsc_xmit`; RFC 791, 793, 768 and 8200 for
//! the headers.

use hv_guest::conduit::Conduit;
use hv_tlfs::vmbus::ndis::{
    CHECKSUM_IP4, CHECKSUM_IP4_OPTIONS, CHECKSUM_TCP4, CHECKSUM_TCP4_OPTIONS, CHECKSUM_TCP6,
    CHECKSUM_TCP6_OPTIONS, CHECKSUM_UDP4, CHECKSUM_UDP6, ENCAPSULATION_802_3, OBJECT_DEFAULT, OBJECT_OFFLOAD,
    OFFLOAD_BOTH, OFFLOAD_OFF, ObjectHeader, Offload, OffloadParameters,
};
use hv_tlfs::vmbus::nvsp::Version;
use hv_tlfs::vmbus::rndis::{INFO_CHECKSUM, PacketMessage, PerPacketInfo, ReceiveChecksum, TransmitChecksum};
use hv_vmbus_client::Dma;
use zerocopy::{FromZeros as _, IntoBytes};

use super::message::{self, HEADER, PACKET};
use super::{Card, Error, Frames};

/// Bytes of the information about a frame: a header and a word.
const INFO: usize = size_of::<PerPacketInfo>() + 4;
/// Where a frame with information begins in the guest's messages.
const FRAME_AT: usize = (PACKET + INFO).next_multiple_of(8);
/// Lengths of [`Offload`] in revisions 1 and 2.
const OFFLOAD_1: usize = 112;
const OFFLOAD_2: usize = 144;
/// Length of [`OffloadParameters`] in revision 2, for hosts before version 5 (Linux, `VERSION_4_OFFLOAD_SIZE`).
const PARAMETERS_2: usize = 22;

/// Ethernet types, protocols, and offsets of the checksums in their headers.
const VLAN: u16 = 0x8100;
const IPV4: u16 = 0x800;
const IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
const UDP: u8 = 17;
const TCP_SUM: usize = 16;
const UDP_SUM: usize = 6;

/// Kinds of checksums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checksums {
    /// Of IPv4 headers.
    pub ipv4: bool,
    /// Of TCP over IPv4.
    pub tcp4: bool,
    /// Of UDP over IPv4.
    pub udp4: bool,
    /// Of TCP over IPv6.
    pub tcp6: bool,
    /// Of UDP over IPv6.
    pub udp6: bool,
}

impl Checksums {
    /// None of them.
    pub const NONE: Self = Self { ipv4: false, tcp4: false, udp4: false, tcp6: false, udp6: false };
    /// All of them.
    pub const ALL: Self = Self { ipv4: true, tcp4: true, udp4: true, tcp6: true, udp6: true };

    /// Sets whether the headers of IPv4 are among them.
    #[must_use]
    pub const fn with_ipv4(mut self, ipv4: bool) -> Self {
        self.ipv4 = ipv4;
        self
    }

    /// Sets whether TCP over IPv4 is among them.
    #[must_use]
    pub const fn with_tcp4(mut self, tcp4: bool) -> Self {
        self.tcp4 = tcp4;
        self
    }

    /// Sets whether UDP over IPv4 is among them.
    #[must_use]
    pub const fn with_udp4(mut self, udp4: bool) -> Self {
        self.udp4 = udp4;
        self
    }

    /// Sets whether TCP over IPv6 is among them.
    #[must_use]
    pub const fn with_tcp6(mut self, tcp6: bool) -> Self {
        self.tcp6 = tcp6;
        self
    }

    /// Sets whether UDP over IPv6 is among them.
    #[must_use]
    pub const fn with_udp6(mut self, udp6: bool) -> Self {
        self.udp6 = udp6;
        self
    }

    /// Returns those of them that a card can compute for every frame: for headers with options as well, which the stack
    /// may send in any frame after it was told of a checksum. Linux asks for the options of TCP too
    /// (`NDIS_TXCSUM_ALL_TCP4`); IPv6 behind extension headers is left to the stack.
    fn granted(self, card: &Offload) -> Self {
        let all = |encapsulation: u32, can: u32, bits: u32| {
            encapsulation & ENCAPSULATION_802_3 != 0 && can & bits == bits
        };
        let can4 =
            |bits| all(card.ipv4_transmit_encapsulation, card.ipv4_transmit, bits | CHECKSUM_IP4_OPTIONS);
        let can6 = |bits| all(card.ipv6_transmit_encapsulation, card.ipv6_transmit, bits);
        Self {
            ipv4: self.ipv4 && can4(CHECKSUM_IP4),
            tcp4: self.tcp4 && can4(CHECKSUM_TCP4 | CHECKSUM_TCP4_OPTIONS),
            udp4: self.udp4 && can4(CHECKSUM_UDP4),
            tcp6: self.tcp6 && can6(CHECKSUM_TCP6 | CHECKSUM_TCP6_OPTIONS),
            udp6: self.udp6 && can6(CHECKSUM_UDP6),
        }
    }

    /// Returns the object with which a guest asks a card what it can, in the revision of a version of NVSP.
    pub(super) fn question(version: Version) -> (Offload, usize) {
        let (revision, size) = match version {
            version if version >= Version::V5 => (3, size_of::<Offload>()),
            version if version >= Version::V4 => (2, OFFLOAD_2),
            _ => (1, OFFLOAD_1),
        };
        let header = ObjectHeader { object_type: OBJECT_OFFLOAD, revision, size: size as u16 };
        (Offload { header, ..Offload::new_zeroed() }, size)
    }

    /// Judges the card's answer: an object that is too short grants nothing.
    pub(super) fn judge(self, answer: &[u8]) -> Self {
        let mut card = Offload::new_zeroed();
        let len = answer.len().min(size_of::<Offload>());
        let right = len >= OFFLOAD_1 && answer.first() == Some(&OBJECT_OFFLOAD);
        if let (Some(place), Some(answer), true) =
            (card.as_mut_bytes().get_mut(..len), answer.get(..len), right)
        {
            place.copy_from_slice(answer);
        }
        self.granted(&card)
    }

    /// Returns the object that turns these on and all others off.
    pub(super) fn parameters(self, version: Version) -> (OffloadParameters, usize) {
        let newer = version >= Version::V5;
        let (revision, size) = if newer { (3, size_of::<OffloadParameters>()) } else { (2, PARAMETERS_2) };
        let switch = |on: bool| if on { OFFLOAD_BOTH } else { OFFLOAD_OFF };
        let parameters = OffloadParameters {
            header: ObjectHeader { object_type: OBJECT_DEFAULT, revision, size: size as u16 },
            ipv4_checksum: switch(self.ipv4),
            tcp4_checksum: switch(self.tcp4),
            udp4_checksum: switch(self.udp4),
            tcp6_checksum: switch(self.tcp6),
            udp6_checksum: switch(self.udp6),
            lso_ipv4: OFFLOAD_OFF,
            lso_ipv6: OFFLOAD_OFF,
            ..OffloadParameters::new_zeroed()
        };
        (parameters, size)
    }

    /// Returns what the card is to compute for a frame, and the sum that its TCP or UDP header begins with, with the
    /// place of that. `None`: nothing, or it is not a frame whose headers can be parsed.
    fn of(self, frame: &[u8]) -> Option<(TransmitChecksum, Option<(usize, u16)>)> {
        let word = |at: usize| Some(u16::from_be_bytes(*frame.get(at..)?.first_chunk()?));
        let at = if word(12)? == VLAN { 18 } else { 14 };
        let (info, protocol, addresses, next, end) = match word(at - 2)? {
            IPV4 => {
                let next = at + usize::from(frame.get(at)? & 15) * 4;
                let end = at + usize::from(word(at + 2)?);
                // A fragment has no whole checksum.
                let whole = word(at + 6)? & 0x3fff == 0 && next >= at + 20 && end >= next;
                let info = TransmitChecksum(0).with_is_ipv4(true).with_ip_header_checksum(self.ipv4);
                let protocol = if whole { *frame.get(at + 9)? } else { 0 };
                (info, protocol, at + 12..at + 20, next, end)
            }
            IPV6 => {
                let (next, protocol) = (at + 40, *frame.get(at + 6)?);
                let end = next + usize::from(word(at + 4)?);
                (TransmitChecksum(0).with_is_ipv6(true), protocol, at + 8..at + 40, next, end)
            }
            _ => return None,
        };
        let (tcp, udp) = if info.is_ipv4() { (self.tcp4, self.udp4) } else { (self.tcp6, self.udp6) };
        let (info, place) = match protocol {
            TCP if tcp => (info.with_tcp_checksum(true), next + TCP_SUM),
            UDP if udp => (info.with_udp_checksum(true), next + UDP_SUM),
            _ => return (info.ip_header_checksum() && end <= frame.len()).then_some((info, None)),
        };
        // Of UDP as well: Linux says it for either.
        let info = info.with_tcp_header_offset(next as u16);
        // The rest of the sum is the card's.
        let (pairs, _) = frame.get(addresses)?.as_chunks::<2>();
        let addresses: u32 = pairs.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum();
        let sum = addresses + u32::from(protocol) + (end - next) as u32;
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = ((sum & 0xffff) + (sum >> 16)) as u16;
        (end <= frame.len() && place + 2 <= end).then_some((info, Some((place, sum))))
    }
}

/// What the card says of a frame's checksum of TCP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: the guest has to judge it.
    Unknown,
    /// It is right.
    Right,
    /// It is wrong: drop the frame.
    Wrong,
}

impl Verdict {
    fn of(said: ReceiveChecksum) -> Self {
        match (said.tcp_failed() || said.udp_failed(), said.tcp_succeeded() || said.udp_succeeded()) {
            (true, _) => Self::Wrong,
            (false, true) => Self::Right,
            _ => Self::Unknown,
        }
    }
}

/// A card that computes the checksums which were [asked for](Card::with_checksums) and granted, in frames that are
/// sent. What a frame has in the place of one is not looked at.
///
/// It computes that of each header of IPv4, and that of TCP or UDP where their header follows that of IPv4 or IPv6 at
/// once. These go as the stack made them: TCP and UDP in a fragment, or behind an extension header of IPv6; frames with
/// more than one VLAN tag, or with a tag of another type than 0x8100; frames whose headers name more bytes than they
/// have.
#[derive(Debug)]
pub struct Offloading<'t, D: Dma, C>(Card<'t, D, C>);

impl<'t, D: Dma, C: Conduit> Offloading<'t, D, C> {
    /// Wraps a card that is initialized.
    pub const fn new(card: Card<'t, D, C>) -> Self {
        Self(card)
    }

    /// Returns the card.
    pub const fn card(&mut self) -> &mut Card<'t, D, C> {
        &mut self.0
    }

    /// Returns the card, to be closed.
    pub fn into_card(self) -> Card<'t, D, C> {
        self.0
    }

    /// Does what [`Frames::receive`] does, and returns what the card says of the frame's checksum. The card is trusted
    /// with that: it delivers the frames.
    ///
    /// # Errors
    ///
    /// As [`Frames::receive`].
    pub fn receive_judged(&mut self, into: &mut [u8]) -> Result<Option<(usize, Verdict)>, Error> {
        self.0.verdict = ReceiveChecksum(0);
        let len = self.0.next_frame(into)?;
        Ok(len.map(|len| (len, Verdict::of(self.0.verdict))))
    }
}

impl<D: Dma, C: Conduit> Frames for Offloading<'_, D, C> {
    fn mac(&self) -> [u8; 6] {
        self.0.mac()
    }

    fn mtu(&self) -> usize {
        self.0.mtu()
    }

    fn is_up(&self) -> bool {
        self.0.is_up()
    }

    fn can_send(&self) -> bool {
        self.0.can_send()
    }

    fn receive(&mut self, into: &mut [u8]) -> Result<Option<usize>, Error> {
        self.0.receive(into)
    }

    fn send(&mut self, frame: &[u8]) -> Result<(), Error> {
        self.0.send_with_checksums(frame)
    }

    fn checksums(&self) -> Checksums {
        self.0.checksums()
    }
}

impl<D: Dma, C: Conduit> Card<'_, D, C> {
    /// Asks the card for checksums: before its first poll. By default no offload is asked for. What the card grants,
    /// [`checksums`](Self::checksums) tells once it is initialized; [`Offloading`] uses them.
    pub const fn with_checksums(mut self, wanted: Checksums) -> Self {
        self.checksums = wanted;
        self
    }

    /// Returns the checksums that the card computes; before it is initialized those that were asked for.
    #[must_use]
    pub const fn checksums(&self) -> Checksums {
        self.checksums
    }

    /// Takes the card's answer to what it can.
    pub(super) fn capabilities_answered(&mut self, answer: &[u8]) {
        // Without room for the information it cannot be used.
        let room = self.section as usize >= FRAME_AT + self.longest();
        self.checksums = if room { self.checksums.judge(answer) } else { Checksums::NONE };
    }

    fn send_with_checksums(&mut self, frame: &[u8]) -> Result<(), Error> {
        let Some((info, sum)) = self.checksums.of(frame) else { return self.send(frame) };
        let (section, at) = self.section_for(frame)?;
        let mut head = [0; FRAME_AT];
        let packet = PacketMessage {
            data_offset: (FRAME_AT - HEADER) as u32,
            data_length: frame.len() as u32,
            info_offset: (PACKET - HEADER) as u32,
            info_length: INFO as u32,
            ..PacketMessage::new_zeroed()
        };
        let item = PerPacketInfo {
            size: INFO as u32,
            info_type: INFO_CHECKSUM,
            value_offset: size_of::<PerPacketInfo>() as u32,
        };
        let header = message::head(FRAME_AT as u32 + frame.len() as u32);
        let parts = [header.as_bytes(), packet.as_bytes(), item.as_bytes(), info.0.as_bytes()];
        head.iter_mut().zip(parts.into_iter().flatten()).for_each(|(place, byte)| *place = *byte);
        self.buffers.send.write(at, &head);
        self.buffers.send.write(at + FRAME_AT, frame);
        if let Some((place, sum)) = sum {
            self.buffers.send.write(at + FRAME_AT + place, &sum.to_be_bytes());
        }
        self.submit_section(section, FRAME_AT + frame.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    #[test]
    fn a_card_grants_what_it_can_over_ethernet() {
        let mut card = Offload::new_zeroed();
        card.header.object_type = OBJECT_OFFLOAD;
        let tcp4 = CHECKSUM_TCP4 | CHECKSUM_TCP4_OPTIONS | CHECKSUM_IP4_OPTIONS;
        (card.ipv4_transmit, card.ipv6_transmit) = (tcp4 | CHECKSUM_IP4, CHECKSUM_UDP6);
        assert_eq!(Checksums::ALL.judge(card.as_bytes()), Checksums::NONE);
        card.ipv4_transmit_encapsulation = ENCAPSULATION_802_3;
        let some = Checksums { ipv4: true, tcp4: true, ..Checksums::NONE };
        assert_eq!(Checksums::ALL.judge(card.as_bytes()), some);
        card.ipv6_transmit_encapsulation = u32::MAX;
        assert_eq!(Checksums::ALL.judge(card.as_bytes()), Checksums { udp6: true, ..some });
        assert!(!Checksums { tcp4: true, ..Checksums::NONE }.judge(card.as_bytes()).ipv4);
        // The first revision is enough; anything shorter is none, and so is another object.
        assert_eq!(Checksums::ALL.judge(&card.as_bytes()[..112]), Checksums { udp6: true, ..some });
        assert_eq!(Checksums::ALL.judge(&card.as_bytes()[..111]), Checksums::NONE);
        assert_eq!(Checksums::ALL.judge(&[]), Checksums::NONE);
        card.header.object_type = OBJECT_DEFAULT;
        assert_eq!(Checksums::ALL.judge(card.as_bytes()), Checksums::NONE);
    }

    #[test]
    fn a_card_without_options_does_not_grant_what_may_have_them() {
        let mut card = Offload::new_zeroed();
        card.header.object_type = OBJECT_OFFLOAD;
        (card.ipv4_transmit_encapsulation, card.ipv6_transmit_encapsulation) = (2, 2);
        let mut granted = |ipv4, ipv6| {
            (card.ipv4_transmit, card.ipv6_transmit) = (ipv4, ipv6);
            Checksums::ALL.judge(card.as_bytes())
        };
        let (all4, all6) = (0x155, 0x54);
        assert_eq!(granted(all4, all6), Checksums::ALL);
        // Without options of IPv4, of TCP over either.
        assert_eq!(granted(all4 & !1, 0), Checksums::NONE);
        let but_tcp = Checksums { tcp4: false, tcp6: false, ..Checksums::ALL };
        assert_eq!(granted(all4 & !4, all6 & !4), but_tcp);
        assert_eq!(granted(all4 & !0x10, all6 & !0x10), but_tcp);
    }

    #[test]
    fn frames_whose_headers_lie_are_sent_as_they_are() {
        let mut good = vec![0; 14 + 20 + 20];
        good[12..14].copy_from_slice(&[8, 0]);
        (good[14], good[17], good[23]) = (0x45, 40, TCP);
        let (info, sum) = Checksums::ALL.of(&good).unwrap();
        assert!(info.tcp_checksum() && info.ip_header_checksum() && info.tcp_header_offset() == 34);
        assert_eq!(sum, Some((50, 26)));
        let changed = |changes: &[(usize, u8)]| -> Vec<u8> {
            let mut frame = good.clone();
            changes.iter().for_each(|(at, byte)| frame[*at] = *byte);
            frame
        };
        for frame in [
            changed(&[(12, 0)]),
            changed(&[(17, 41)]),
            changed(&[(16, 255)]),
            changed(&[(17, 37)]),
            changed(&[(12, 0x81), (13, 0)]),
            changed(&[(12, 0x86), (13, 0xdd), (20, TCP)]),
            good[..53].to_vec(),
            good[..14].to_vec(),
            Vec::new(),
        ] {
            assert_eq!(Checksums::ALL.of(&frame), None, "{frame:02x?}");
        }
        for len in 0..good.len() {
            assert_eq!(Checksums::ALL.of(&good[..len]), None);
        }
        let (info, sum) = Checksums::ALL.of(&changed(&[(23, UDP)])).unwrap();
        assert!(info.udp_checksum() && !info.tcp_checksum() && info.tcp_header_offset() == 34);
        assert_eq!(sum, Some((40, 37)));
        // The header alone: other protocols, fragments, lengths that lie.
        for frame in
            [changed(&[(23, 1)]), changed(&[(20, 0x20)]), changed(&[(21, 1)]), changed(&[(14, 0x41)])]
        {
            let (info, sum) = Checksums::ALL.of(&frame).unwrap();
            assert!(info.ip_header_checksum() && !info.tcp_checksum() && sum.is_none());
        }
        assert_eq!(Checksums { udp4: true, ..Checksums::NONE }.of(&good), None);
        // TCP over IPv6; after a header for each hop, routing, fragment or destination options.
        let v6 = changed(&[(12, 0x86), (13, 0xdd), (17, 0), (20, TCP)]);
        let v6 = [&v6[..18], &[0, 20], &v6[20..], &[0; 20]].concat();
        assert_eq!(Checksums::ALL.of(&v6).unwrap().1.map(|(place, _)| place), Some(70));
        for kind in [0, 43, 44, 60] {
            assert_eq!(Checksums::ALL.of(&[&v6[..20], &[kind], &v6[21..]].concat()), None);
        }
    }
}
