//! The objects of the card, which the guest queries and sets.

use super::{ETHERNET, LINK_SPEED, Network, receive};
use hv_memory::save::{Reader, RestoreError, Writer};
use hv_tlfs::vmbus::ndis::*;
use hv_tlfs::vmbus::nvsp::{SEND_SECTION_SIZE, Version};
use hv_tlfs::vmbus::rndis::{ConfigParameter, MEDIUM_802_3, Status};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// Length of an address.
const ADDRESS: usize = 6;
/// Maximum number of multicast addresses.
const MULTICAST: usize = 32;
/// Maximum length of the value of an object.
pub(super) const MAX_VALUE: usize = 256;
/// Version of NDIS that the card has: 6.30.
const NDIS_VERSION: u32 = 0x0006_001e;
/// Name of the card, with its closing zero.
const NAME: &[u8] = b"Microsoft Hyper-V Network Adapter\0";
/// Properties of the card.
const OPTIONS: u32 = MAC_OPTION_COPY_LOOKAHEAD_DATA
    | MAC_OPTION_TRANSFERS_NOT_PEND
    | MAC_OPTION_NO_LOOPBACK
    | MAC_OPTION_8021P_PRIORITY
    | MAC_OPTION_VLAN;
/// Lengths of [`Offload`] in revisions 1 and 2.
const OFFLOAD_1: usize = 112;
const OFFLOAD_2: usize = 144;
/// Length of [`RssCapabilities`] in revision 2.
const RSS_2: usize = 18;
/// Length of [`OffloadParameters`] up to the last field that the card knows: old guests send no more.
const PARAMETERS: usize = 13;

/// The objects that a query has an answer for.
const SUPPORTED: [Oid; 38] = [
    Oid::GEN_SUPPORTED_LIST,
    Oid::GEN_HARDWARE_STATUS,
    Oid::GEN_MEDIA_SUPPORTED,
    Oid::GEN_MEDIA_IN_USE,
    Oid::GEN_MAXIMUM_LOOKAHEAD,
    Oid::GEN_MAXIMUM_FRAME_SIZE,
    Oid::GEN_LINK_SPEED,
    Oid::GEN_TRANSMIT_BUFFER_SPACE,
    Oid::GEN_RECEIVE_BUFFER_SPACE,
    Oid::GEN_TRANSMIT_BLOCK_SIZE,
    Oid::GEN_RECEIVE_BLOCK_SIZE,
    Oid::GEN_VENDOR_ID,
    Oid::GEN_VENDOR_DESCRIPTION,
    Oid::GEN_VENDOR_DRIVER_VERSION,
    Oid::GEN_CURRENT_PACKET_FILTER,
    Oid::GEN_CURRENT_LOOKAHEAD,
    Oid::GEN_DRIVER_VERSION,
    Oid::GEN_MAXIMUM_TOTAL_SIZE,
    Oid::GEN_MAC_OPTIONS,
    Oid::GEN_MEDIA_CONNECT_STATUS,
    Oid::GEN_MAXIMUM_SEND_PACKETS,
    Oid::GEN_RECEIVE_SCALE_CAPABILITIES,
    Oid::GEN_XMIT_OK,
    Oid::GEN_RCV_OK,
    Oid::GEN_XMIT_ERROR,
    Oid::GEN_RCV_ERROR,
    Oid::GEN_RCV_NO_BUFFER,
    Oid::GEN_BYTES_XMIT,
    Oid::GEN_BYTES_RCV,
    Oid::GEN_XMIT_DISCARDS,
    Oid::GEN_RCV_DISCARDS,
    Oid::ETHERNET_PERMANENT_ADDRESS,
    Oid::ETHERNET_CURRENT_ADDRESS,
    Oid::ETHERNET_MULTICAST_LIST,
    Oid::ETHERNET_MAXIMUM_LIST_SIZE,
    Oid::ETHERNET_MAC_OPTIONS,
    Oid::TCP_OFFLOAD_CURRENT_CONFIG,
    Oid::TCP_OFFLOAD_HARDWARE_CAPABILITIES,
];

/// Frames that may follow one another in a packet from the guest.
pub(super) const MAX_PACKETS: u32 = 8;

/// The multicast addresses that the guest receives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Multicast {
    addresses: [[u8; ADDRESS]; MULTICAST],
    count: u8,
}

impl Multicast {
    pub(super) const fn new() -> Self {
        Self { addresses: [[0; ADDRESS]; MULTICAST], count: 0 }
    }

    fn list(&self) -> &[[u8; ADDRESS]] {
        &self.addresses[..usize::from(self.count)]
    }

    fn set(&mut self, info: &[u8]) -> Status {
        let (addresses, rest) = info.as_chunks::<ADDRESS>();
        if !rest.is_empty() {
            return Status::INVALID_LENGTH;
        }
        if addresses.len() > MULTICAST {
            return Status::MULTICAST_FULL;
        }
        *self = Self::new();
        self.addresses[..addresses.len()].copy_from_slice(addresses);
        self.count = addresses.len() as u8;
        Status::SUCCESS
    }

    /// Returns true if a filter lets a frame through to a guest with this address.
    pub(super) fn wants(&self, filter: u32, own: [u8; ADDRESS], frame: &[u8]) -> bool {
        let Some(to) = frame.first_chunk::<ADDRESS>() else { return false };
        if filter & FILTER_PROMISCUOUS != 0 {
            return true;
        }
        match to {
            [0xff, 0xff, 0xff, 0xff, 0xff, 0xff] => filter & FILTER_BROADCAST != 0,
            [first, ..] if first & 1 != 0 => {
                filter & FILTER_ALL_MULTICAST != 0
                    || (filter & FILTER_MULTICAST != 0 && self.list().contains(to))
            }
            _ => filter & FILTER_DIRECTED != 0 && *to == own,
        }
    }

    pub(super) fn save(&self, w: &mut Writer<'_>) {
        w.count(self.count.into());
        self.list().iter().for_each(|address| w.bytes(address));
    }

    pub(super) fn load(r: &mut Reader<'_>) -> Result<Self, RestoreError> {
        let count = r.count()?;
        let mut this = Self { count: count as u8, ..Self::new() };
        let places = this.addresses.get_mut(..count);
        for place in places.ok_or(RestoreError::Invalid("multicast addresses of a network card"))? {
            place.copy_from_slice(r.bytes(ADDRESS)?);
        }
        Ok(this)
    }
}

/// The offloads that the guest has turned on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offloads {
    /// Checksums of IPv4 headers, TCP and UDP over IPv4, TCP and UDP over IPv6; large sends over IPv4 and IPv6.
    on: [bool; 7],
}

impl Offloads {
    pub(super) const fn new() -> Self {
        Self { on: [false; 7] }
    }

    fn set(&mut self, info: &[u8]) -> Status {
        let mut request = OffloadParameters::new_zeroed();
        let len = info.len().min(size_of::<OffloadParameters>());
        if len < PARAMETERS {
            return Status::INVALID_LENGTH;
        }
        request.as_mut_bytes()[..len].copy_from_slice(&info[..len]);
        if request.header.object_type != OBJECT_DEFAULT {
            return Status::INVALID_DATA;
        }
        let checksums = [
            request.ipv4_checksum,
            request.tcp4_checksum,
            request.udp4_checksum,
            request.tcp6_checksum,
            request.udp6_checksum,
        ];
        let mut on = self.on;
        for (on, wanted) in on.iter_mut().zip(checksums) {
            *on = match wanted {
                OFFLOAD_NO_CHANGE => *on,
                OFFLOAD_OFF | OFFLOAD_RECEIVE => false,
                OFFLOAD_TRANSMIT | OFFLOAD_BOTH => true,
                _ => return Status::INVALID_DATA,
            };
        }
        for (on, wanted) in on[5..].iter_mut().zip([request.lso_ipv4, request.lso_ipv6]) {
            *on = match wanted {
                OFFLOAD_NO_CHANGE => *on,
                OFFLOAD_OFF => false,
                OFFLOAD_TRANSMIT => true,
                _ => return Status::INVALID_DATA,
            };
        }
        self.on = on;
        Status::SUCCESS
    }

    /// Returns them as an object.
    fn object(&self) -> Offload {
        let [ip4, tcp4, udp4, tcp6, udp6, lso4, lso6] = self.on;
        let when = |on: bool, bits: u32| if on { bits } else { 0 };
        let ethernet = |bits: u32| when(bits != 0, ENCAPSULATION_802_3);
        let mut offload = Offload::new_zeroed();
        offload.ipv4_transmit = when(ip4, CHECKSUM_IP4 | CHECKSUM_IP4_OPTIONS)
            | when(tcp4, CHECKSUM_TCP4 | CHECKSUM_TCP4_OPTIONS | CHECKSUM_IP4_OPTIONS)
            | when(udp4, CHECKSUM_UDP4 | CHECKSUM_IP4_OPTIONS);
        offload.ipv4_transmit_encapsulation = ethernet(offload.ipv4_transmit);
        offload.ipv6_transmit = when(tcp6, CHECKSUM_TCP6 | CHECKSUM_TCP6_OPTIONS | CHECKSUM_IP6_EXTENSIONS)
            | when(udp6, CHECKSUM_UDP6 | CHECKSUM_IP6_EXTENSIONS);
        offload.ipv6_transmit_encapsulation = ethernet(offload.ipv6_transmit);
        offload.lso_ipv4_encapsulation = when(lso4, ENCAPSULATION_802_3);
        offload.lso_ipv4_max_size = when(lso4, LSO_MAX_SIZE);
        offload.lso_ipv4_min_segments = when(lso4, LSO_MIN_SEGMENTS);
        offload.lso_ipv6_encapsulation = when(lso6, ENCAPSULATION_802_3);
        offload.lso_ipv6_max_size = when(lso6, LSO_MAX_SIZE);
        offload.lso_ipv6_min_segments = when(lso6, LSO_MIN_SEGMENTS);
        offload.lso_ipv6_options = when(lso6, LSO_IP6_EXTENSIONS | LSO_TCP6_OPTIONS);
        offload
    }

    pub(super) fn save(&self, w: &mut Writer<'_>) {
        self.on.iter().for_each(|on| w.flag(*on));
    }

    pub(super) fn load(r: &mut Reader<'_>) -> Result<Self, RestoreError> {
        let mut this = Self::new();
        for on in &mut this.on {
            *on = r.flag("offload of a network card")?;
        }
        Ok(this)
    }
}

/// The value of an object.
pub(super) struct Value {
    bytes: [u8; MAX_VALUE],
    len: usize,
}

impl Value {
    fn of(parts: &[&[u8]]) -> Self {
        let mut this = Self { bytes: [0; MAX_VALUE], len: 0 };
        for part in parts {
            if let Some(place) = this.bytes.get_mut(this.len..this.len + part.len()) {
                place.copy_from_slice(part);
                this.len += part.len();
            }
        }
        this
    }

    fn plain<T: IntoBytes + Immutable>(value: T) -> Self {
        Self::of(&[value.as_bytes()])
    }

    fn cut(mut self, len: usize) -> Self {
        self.len = self.len.min(len);
        self
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Network {
    /// Returns the value of an object. `room`: bytes that the guest has for it, as some drivers tell; `channels`:
    /// number of the device's channels.
    pub(super) fn query(&self, oid: Oid, room: usize, channels: usize) -> Option<Value> {
        let word = |value: u32| Some(Value::plain(value));
        // A guest that has room for 8 bytes gets them.
        let count = |value: u64| Some(Value::plain(value).cut(if room >= 8 { 8 } else { 4 }));
        let longest = self.longest();
        match oid {
            Oid::GEN_SUPPORTED_LIST => Some(Value::plain(SUPPORTED)),
            Oid::GEN_HARDWARE_STATUS | Oid::GEN_RCV_ERROR | Oid::ETHERNET_MAC_OPTIONS => word(0),
            Oid::GEN_MEDIA_SUPPORTED | Oid::GEN_MEDIA_IN_USE => word(MEDIUM_802_3),
            Oid::GEN_MAXIMUM_LOOKAHEAD | Oid::GEN_CURRENT_LOOKAHEAD | Oid::GEN_MAXIMUM_FRAME_SIZE => {
                word(longest - ETHERNET)
            }
            Oid::GEN_MAXIMUM_TOTAL_SIZE => word(longest),
            Oid::GEN_TRANSMIT_BLOCK_SIZE | Oid::GEN_RECEIVE_BLOCK_SIZE => word(longest),
            Oid::GEN_LINK_SPEED => word(LINK_SPEED),
            Oid::GEN_TRANSMIT_BUFFER_SPACE => word(self.send.sections.saturating_mul(SEND_SECTION_SIZE)),
            Oid::GEN_RECEIVE_BUFFER_SPACE => word(self.receive.bytes()),
            Oid::GEN_VENDOR_ID => {
                let [a, b, c, ..] = self.mac;
                word(u32::from_be_bytes([0, a, b, c]))
            }
            Oid::GEN_VENDOR_DESCRIPTION => Some(Value::of(&[NAME])),
            Oid::GEN_VENDOR_DRIVER_VERSION => word(NDIS_VERSION),
            Oid::GEN_DRIVER_VERSION => Some(Value::plain(0x061e_u16)),
            Oid::GEN_CURRENT_PACKET_FILTER => word(self.filter),
            Oid::GEN_MAC_OPTIONS => word(OPTIONS),
            Oid::GEN_MEDIA_CONNECT_STATUS => word(self.shows_down().into()),
            Oid::GEN_MAXIMUM_SEND_PACKETS => word(MAX_PACKETS),
            Oid::GEN_RECEIVE_SCALE_CAPABILITIES if self.version >= Version::V5 => {
                Some(Value::plain(scaling(channels)).cut(RSS_2))
            }
            Oid::GEN_XMIT_OK => count(self.counts.sent),
            Oid::GEN_RCV_OK => count(self.counts.received),
            Oid::GEN_XMIT_ERROR => count(self.counts.send_errors),
            Oid::GEN_RCV_NO_BUFFER => count(self.counts.no_buffer),
            Oid::GEN_BYTES_XMIT => count(self.counts.bytes_sent),
            Oid::GEN_BYTES_RCV => count(self.counts.bytes_received),
            Oid::GEN_XMIT_DISCARDS => count(self.counts.send_discards),
            Oid::GEN_RCV_DISCARDS => count(self.counts.receive_discards),
            Oid::ETHERNET_PERMANENT_ADDRESS => Some(Value::of(&[&self.mac])),
            Oid::ETHERNET_CURRENT_ADDRESS => Some(Value::of(&[&self.address])),
            Oid::ETHERNET_MULTICAST_LIST => Some(Value::of(&[self.multicast.list().as_flattened()])),
            Oid::ETHERNET_MAXIMUM_LIST_SIZE => word(MULTICAST as u32),
            Oid::TCP_OFFLOAD_CURRENT_CONFIG => Some(self.offload(&self.offloads)),
            Oid::TCP_OFFLOAD_HARDWARE_CAPABILITIES => Some(self.offload(&Offloads { on: [true; 7] })),
            _ => None,
        }
    }

    /// Returns offloads in the revision that belongs to the version of the protocol, as Linux expects it.
    fn offload(&self, offloads: &Offloads) -> Value {
        let (revision, size) = match self.version {
            version if version >= Version::V5 => (3, size_of::<Offload>()),
            version if version >= Version::V4 => (2, OFFLOAD_2),
            _ => (1, OFFLOAD_1),
        };
        let header = ObjectHeader { object_type: OBJECT_OFFLOAD, revision, size: size as u16 };
        Value::plain(Offload { header, ..offloads.object() }).cut(size)
    }

    /// Sets an object.
    pub(super) fn set(&mut self, oid: Oid, info: &[u8], channels: usize) -> Status {
        match oid {
            Oid::GEN_CURRENT_PACKET_FILTER => match u32::read_from_prefix(info) {
                Ok((filter, _)) => {
                    self.filter = filter;
                    Status::SUCCESS
                }
                Err(_) => Status::INVALID_LENGTH,
            },
            // What it names is told by the frames' own lengths.
            Oid::GEN_CURRENT_LOOKAHEAD
            | Oid::GEN_PROTOCOL_OPTIONS
            | Oid::GEN_NETWORK_LAYER_ADDRESSES
            | Oid::GEN_LINK_PARAMETERS
            | Oid::GEN_INTERRUPT_MODERATION
            | Oid::GEN_MACHINE_NAME
            | Oid::OFFLOAD_ENCAPSULATION => Status::SUCCESS,
            Oid::ETHERNET_MULTICAST_LIST => self.multicast.set(info),
            Oid::GEN_RECEIVE_SCALE_PARAMETERS if self.version >= Version::V5 => self.rss.set(info, channels),
            Oid::TCP_OFFLOAD_PARAMETERS => self.offloads.set(info),
            Oid::GEN_RNDIS_CONFIG_PARAMETER => self.parameter(info),
            _ => Status::NOT_SUPPORTED,
        }
    }

    /// Sets a parameter by its name. The address is the only one.
    fn parameter(&mut self, info: &[u8]) -> Status {
        let Ok((request, _)) = ConfigParameter::read_from_prefix(info) else { return Status::INVALID_LENGTH };
        let part = |offset: u32, len: u32| {
            let (offset, len) = (usize::try_from(offset).ok()?, usize::try_from(len).ok()?);
            info.get(offset..offset.checked_add(len)?)
        };
        let name = part(request.name_offset, request.name_length);
        let value = part(request.value_offset, request.value_length);
        let (Some(name), Some(value)) = (name, value) else { return Status::INVALID_LENGTH };
        if !utf16(name).eq(b"NetworkAddress".iter().copied().map(Some)) {
            return Status::NOT_SUPPORTED;
        }
        let mut address = [0; ADDRESS];
        let mut digits = utf16(value).map(|digit| digit.and_then(|digit| char::from(digit).to_digit(16)));
        for byte in &mut address {
            let (Some(Some(high)), Some(Some(low))) = (digits.next(), digits.next()) else {
                return Status::INVALID_DATA;
            };
            *byte = (high << 4 | low) as u8;
        }
        // A group's address belongs to no card.
        if digits.next().is_some() || address[0] & 1 != 0 || address == [0; ADDRESS] {
            return Status::INVALID_DATA;
        }
        self.address = address;
        Status::SUCCESS
    }
}

/// Returns the capabilities of receive side scaling.
fn scaling(channels: usize) -> RssCapabilities {
    RssCapabilities {
        header: ObjectHeader { object_type: OBJECT_RSS_CAPABILITIES, revision: 2, size: RSS_2 as u16 },
        flags: RSS_CAPABLE_TCP_IPV4 | RSS_CAPABLE_TCP_IPV6 | HASH_TOEPLITZ,
        interrupts: channels as u32,
        queues: channels as u32,
        table_entries: RSS_TABLE_ENTRIES as u16,
        padding: 0,
    }
}

/// Iterates over the ASCII characters of a text in UTF-16; `None` for other ones.
fn utf16(text: &[u8]) -> impl Iterator<Item = Option<u8>> {
    let (halves, rest) = text.as_chunks::<2>();
    halves
        .iter()
        .map(|[low, high]| (*high == 0 && low.is_ascii()).then_some(*low))
        .chain((!rest.is_empty()).then_some(None))
}

const _: () = assert!(MAX_VALUE >= SUPPORTED.len() * 4 && MAX_VALUE >= MULTICAST * ADDRESS);
const _: () = assert!(
    receive::MIN_SECTION as usize >= MAX_VALUE + 24,
    "the longest answer to a query fits into a section"
);
