//! The network card: frames behind one channel and its sub-channels.
//!
//! The guest's frames reach the back end as [`Request`]s, one for each frame on the wire: checksums are computed, tags
//! inserted and long segments cut when the back end has the frame written ([`Request::write`]). Frames for the guest
//! come by [`Network::receive`], and the link goes up and down by [`Network::set_link`].
//!
//! The protocol has two layers: NVSP negotiates a version and two buffers, and carries RNDIS, which has frames and the
//! objects of the card. All state is bounded: the receive buffer has [`MAX_SECTIONS`] sections at most, of which a few
//! are kept for answers, so a guest that receives too slowly still gets those.
//!
//! Sources: Linux 6.12, drivers/net/hyperv; OpenVMM, netvsp.

mod control;
mod device;
mod frame;
mod headers;
mod leave;
mod objects;
mod receive;
mod rss;
mod sections;
mod state;
mod transmit;

pub use frame::MAX_FRAME;
use hv_tlfs::vmbus::nvsp::{
    Capabilities, InitComplete, MessageHeader, MessageType, NdisConfig, PACKET_SIZE, PACKET_SIZE_6_1,
    ReceiveBufferSection, SEND_SECTION_SIZE, SendReceiveBuffer, SendReceiveBufferComplete, SendSendBuffer,
    SendSendBufferComplete, Status, Version,
};
use hv_tlfs::vmbus::{ChannelOffer, GpadlId, Guid, guid};
use hv_vmbus::{Answer, Backend, Io, Work, offer};
use leave::Leaving;
pub use receive::Received;
use rss::Rss;
pub use sections::MAX_SECTIONS;
use sections::{CONTROL_SECTIONS, Sections};
pub use transmit::Request;
use zerocopy::{FromZeros, Immutable, IntoBytes};

/// Maximum number of segments of a packet: Linux lists up to 62 KiB in 19 ranges, after a section of the
/// send buffer.
pub const SEGMENTS: usize = 72;

/// Length of a frame's header.
const ETHERNET: u32 = 14;
/// Maximum length of a frame, with its header, unless the guest configures another.
const DEFAULT_FRAME: u32 = 1500 + ETHERNET;
/// Largest maximum that it can configure.
const LARGEST_FRAME: u32 = 9000 + ETHERNET;
/// Smallest.
const SMALLEST_FRAME: u32 = 68 + ETHERNET;
/// Speed of the link in units of 100 bit/s: 10 Gbit/s.
const LINK_SPEED: u32 = 100_000_000;
/// Versions of the protocol.
const VERSIONS: [Version; 6] =
    [Version::V61, Version::V6, Version::V5, Version::V4, Version::V2, Version::V1];

/// Notes for the observer ([`Context::observe`](hv_vmbus::Context::observe)).
pub mod note {
    /// The guest has initialized the card: version of NVSP.
    pub const READY: u32 = 1;
    /// A message from the guest was rejected: its NVSP status, or the RNDIS status of the answer.
    pub const REFUSED: u32 = 2;
    /// There is room for frames again, after [`Received::Later`](super::Received::Later).
    pub const ROOM: u32 = 3;
}

/// Parts of a packet's data that an observer is shown ([`Contents::part`](hv_vmbus::Contents::part)).
pub mod part {
    /// A control message of RNDIS. Its size is that of the data in which the guest has put it.
    pub const CONTROL: u8 = 0;
    /// The message of a frame: its header, and the information about the frame if that follows. Its size is that of the
    /// data from it on.
    pub const MESSAGE: u8 = 1;
    /// The frame itself. One from the guest is shown as it was when its headers were judged, before the card has
    /// finished it.
    pub const FRAME: u8 = 2;
}

/// Bytes of a frame that an observer is shown: the headers of TCP over IPv6, with a tag and some options.
const SHOWN: usize = 80;

/// Returns the offer of a card. Its instance is derived from the address, in the form that Azure uses.
#[must_use]
pub const fn offer_of(mac: [u8; 6]) -> ChannelOffer {
    offer(guid::NETWORK, instance_of(mac))
}

/// Returns the instance of the card with this address.
#[must_use]
pub const fn instance_of(mac: [u8; 6]) -> Guid {
    let [a, b, c, d, e, f] = mac;
    let (first, second) = (u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, f]));
    Guid::new(first, second, u16::from_be_bytes([a, b]), [c, d, e, f, a, b, c, d])
}

/// Reason why a back end did not send a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost;

impl Work for Request {
    type Outcome = Result<(), Lost>;
}

/// State of the guest's driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
enum Rndis {
    /// It has not initialized the card, or halted it. All zeros, as required of a new card in a static.
    #[default]
    Halted = 0,
    Initialized,
}

/// The guest's send buffer.
#[derive(Clone, Copy, Debug, Default)]
struct SendBuffer {
    present: bool,
    gpadl: u32,
    sections: u32,
}

/// Numbers of frames and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Frames that the back end took.
    pub sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Frames from the guest that were dropped: the link was down, or the back end lost them.
    pub send_discards: u64,
    /// Messages from the guest that were invalid.
    pub send_errors: u64,
    /// Frames that the guest got.
    pub received: u64,
    /// Their bytes.
    pub bytes_received: u64,
    /// Frames that were dropped: too long, not wanted by the guest, or lost with a corrupt ring or without a buffer.
    pub receive_discards: u64,
    /// Times that a frame had to wait for room.
    pub no_buffer: u64,
}

/// A network card.
#[derive(Clone, Copy, Debug)]
pub struct Network {
    /// Its permanent address.
    mac: [u8; 6],
    /// The address that the guest uses.
    address: [u8; 6],
    /// The link is down.
    down: bool,
    /// The negotiated version; 0 for none.
    version: Version,
    capabilities: Capabilities,
    /// Maximum length of a frame, with its header; 0 for the default.
    longest: u32,
    send: SendBuffer,
    receive: Sections,
    rndis: Rndis,
    filter: u32,
    multicast: objects::Multicast,
    rss: Rss,
    offloads: objects::Offloads,
    counts: Counts,
    /// The guest has yet to be told that the link has changed.
    announce: bool,
    /// A frame waits for room.
    hungry: bool,
    /// The card is being removed.
    leaving: Leaving,
}

impl Default for Network {
    fn default() -> Self {
        Self::new()
    }
}

impl Network {
    /// Creates a card without an address.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            mac: [0; 6],
            address: [0; 6],
            down: false,
            version: Version(0),
            capabilities: Capabilities(0),
            longest: 0,
            send: SendBuffer { present: false, gpadl: 0, sections: 0 },
            receive: Sections::new(),
            rndis: Rndis::Halted,
            filter: 0,
            multicast: objects::Multicast::new(),
            rss: Rss::new(),
            offloads: objects::Offloads::new(),
            counts: Counts {
                sent: 0,
                bytes_sent: 0,
                send_discards: 0,
                send_errors: 0,
                received: 0,
                bytes_received: 0,
                receive_discards: 0,
                no_buffer: 0,
            },
            announce: false,
            hungry: false,
            leaving: Leaving::NONE,
        }
    }

    /// Sets the permanent address, before the guest runs.
    pub fn set_mac(&mut self, mac: [u8; 6]) {
        (self.mac, self.address) = (mac, mac);
    }

    /// Returns the permanent address.
    #[must_use]
    pub const fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Returns the numbers of frames and bytes since the start or the last reset.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Returns the negotiated version, once the guest has initialized the card.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        (self.rndis == Rndis::Initialized).then_some(self.version)
    }

    /// Returns true if the link is up.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        !self.down
    }

    /// Returns true if the guest sees a link that is down.
    fn shows_down(&self) -> bool {
        self.down || self.leaving.is_under_way()
    }

    /// Returns true if the guest gets no frames.
    fn is_deaf(&self) -> bool {
        self.down || self.leaving.has_stopped()
    }

    /// Takes the link up or down, and tells a guest that has initialized the card. Returns false for a card that is
    /// gone or leaves.
    pub fn set_link<P: Backend<Request>>(&mut self, up: bool, io: &mut Io<'_, P, Request>) -> bool {
        if !io.is_offered(hv_vmbus::Channel::PRIMARY) || self.leaving.is_under_way() {
            return false;
        }
        if self.down != up {
            return true;
        }
        self.down = !up;
        if self.rndis == Rndis::Initialized {
            self.announce = true;
            self.attend(io);
        }
        true
    }

    /// Returns the maximum length of a frame, with its header and without a tag.
    const fn longest(&self) -> u32 {
        if self.longest == 0 { DEFAULT_FRAME } else { self.longest }
    }

    /// Returns the maximum length of a frame for the guest. A guest with a smaller MTU still receives full Ethernet
    /// frames, as with any card: QEMU's user network sends long segments of TCP whatever the guest's are.
    const fn longest_received(&self) -> u32 {
        if self.longest() < DEFAULT_FRAME { DEFAULT_FRAME } else { self.longest() }
    }

    /// Returns the length of every packet.
    fn packet_size(&self) -> usize {
        if self.version == Version::V61 { PACKET_SIZE_6_1 } else { PACKET_SIZE }
    }

    /// Completes a packet with a message.
    fn reply<P: Backend<Request>>(
        &self,
        io: &mut Io<'_, P, Request>,
        to: &mut impl Answer,
        message_type: MessageType,
        body: &(impl IntoBytes + Immutable),
    ) {
        let mut bytes = [0; PACKET_SIZE_6_1];
        let (header, rest) = bytes.split_at_mut(size_of::<MessageHeader>());
        header.copy_from_slice(MessageHeader { message_type }.as_bytes());
        let body = body.as_bytes();
        rest[..body.len()].copy_from_slice(body);
        // A guest that requests no completion gets none.
        let _ = io.complete(to, &bytes[..self.packet_size()]);
    }

    /// Handles [`MessageType::INIT`].
    fn init<P: Backend<Request>>(&mut self, version: Version, io: &Io<'_, P, Request>) -> InitComplete {
        let known = VERSIONS.contains(&version) && self.version == Version(0) && !io.refuses(version.0);
        if known {
            self.version = version;
        }
        InitComplete {
            deprecated: 2,
            max_mdl_chain_len: 0x22,
            status: if known { Status::SUCCESS } else { Status::FAIL },
        }
    }

    /// Handles [`MessageType::SEND_NDIS_CONFIG`]. The sections of the receive buffer depend on it.
    fn configure(&mut self, config: &NdisConfig) {
        if self.receive.is_none() {
            self.longest = config.mtu.clamp(SMALLEST_FRAME, LARGEST_FRAME);
            self.capabilities = config.capabilities;
        }
    }

    /// Handles [`MessageType::SEND_RECEIVE_BUFFER`].
    fn take_receive_buffer<P: Backend<Request>>(
        &mut self,
        request: &SendReceiveBuffer,
        io: &Io<'_, P, Request>,
    ) -> SendReceiveBufferComplete {
        let size = receive::section_size(self.longest_received());
        let len = io.buffer(request.gpadl).map_or(0, |buffer| buffer.len());
        let count = (len / u64::from(size)).min(MAX_SECTIONS as u64) as u32;
        let refused = self.version == Version(0) || !self.receive.is_none();
        if refused || count as usize <= CONTROL_SECTIONS {
            return SendReceiveBufferComplete {
                status: Status::FAIL,
                ..SendReceiveBufferComplete::new_zeroed()
            };
        }
        self.receive.begin(request.gpadl, request.id, size, count);
        let section = ReceiveBufferSection {
            offset: 0,
            sub_alloc_size: size,
            num_sub_allocs: count,
            end_offset: size * count,
        };
        SendReceiveBufferComplete { status: Status::SUCCESS, num_sections: 1, section }
    }

    /// Handles [`MessageType::SEND_SEND_BUFFER`].
    fn take_send_buffer<P: Backend<Request>>(
        &mut self,
        request: &SendSendBuffer,
        io: &Io<'_, P, Request>,
    ) -> SendSendBufferComplete {
        let len = io.buffer(request.gpadl).map_or(0, |buffer| buffer.len());
        let sections = u32::try_from(len / u64::from(SEND_SECTION_SIZE)).unwrap_or(0);
        if self.version == Version(0) || self.send.present || sections == 0 {
            return SendSendBufferComplete { status: Status::FAIL, section_size: 0 };
        }
        self.send = SendBuffer { present: true, gpadl: request.gpadl.0, sections };
        SendSendBufferComplete { status: Status::SUCCESS, section_size: SEND_SECTION_SIZE }
    }

    /// Returns where a section of the send buffer is: the buffer, and the offset in it.
    fn section(&self, index: u32, len: u32) -> Option<(GpadlId, u64)> {
        let known = self.send.present && index < self.send.sections && len <= SEND_SECTION_SIZE;
        known.then(|| (GpadlId(self.send.gpadl), u64::from(index) * u64::from(SEND_SECTION_SIZE)))
    }

    /// Ends the guest's use of the card: its channel is closed. Who calls it has a waiting frame judged again.
    fn disconnect(&mut self) {
        self.version = Version(0);
        self.capabilities = Capabilities(0);
        self.longest = 0;
        self.send = SendBuffer::default();
        self.receive.end();
        self.halt();
    }

    /// Halts the card: it no longer receives anything.
    fn halt(&mut self) {
        self.rndis = Rndis::Halted;
        self.forget_addresses();
        self.rss = Rss::new();
        self.offloads = objects::Offloads::new();
        self.announce = false;
    }

    /// Resets which frames the guest receives: none.
    fn forget_addresses(&mut self) {
        self.filter = 0;
        self.multicast = objects::Multicast::new();
    }
}
