//! The network card: Ethernet frames in and out.
//!
//! A [`Card`] is made of an open channel and two buffers, which [`open`] does as well, and initializes itself as it is
//! polled. A frame to be sent is copied into a section of the send buffer, and belongs to the host until it completes
//! the packet. A frame that arrives is copied out of the receive buffer, whose section goes back to the host. The
//! trait [`Frames`] is all that a network stack needs; the feature `smoltcp` has a device of that stack over it.
//!
//! By default the card asks for no offload: the stack computes the checksums, and cuts segments. [`Offloading`] is a
//! card that computes checksums. It uses one channel.
//!
//! Sources: Linux 6.12, drivers/net/hyperv/netvsc.c and rndis_filter.c; OpenVMM, netvsp.

mod close;
mod initialize;
mod message;
mod offload;
mod receive;
#[cfg(feature = "smoltcp")]
mod stack;

use core::fmt;

use hv_guest::conduit::Conduit;
use hv_tlfs::vmbus::nvsp::{
    DATA_CHANNEL, INVALID_INDEX, MessageHeader, MessageType, PACKET_SIZE_6_1, SendRndisPacket, Status,
    Version,
};
use hv_tlfs::vmbus::rndis::{self, ReceiveChecksum};
use hv_vmbus_client::{Channel, Client, Dma, Gpadl, Offer, Open, PageRun, Queue, Wake};
use zerocopy::{Immutable, IntoBytes};

pub use close::Closing;
pub use offload::{Checksums, Offloading, Verdict};
#[cfg(feature = "smoltcp")]
pub use stack::{Received, SmoltcpDevice, Transmit};

use crate::Wait;
use crate::aligned::Aligned;
use initialize::{State, Step};
use message::FRAME_AT;
use receive::Arrived;

/// Bytes of a frame's header.
pub const ETHERNET_HEADER: usize = 14;
/// Frames in flight to the host at most.
const SENDS: usize = 48;
/// Requests in flight at most: frames, and a control message.
const DEPTH: usize = SENDS + 4;
/// Bytes of each NVSP packet: Linux sends this many in all versions.
const PACKET: usize = PACKET_SIZE_6_1;

/// Reason why a card does not work, or a frame was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The channel failed.
    Client(hv_vmbus_client::Error),
    /// The card is not initialized yet.
    NotReady,
    /// The host speaks none of the versions 6.1 to 1.
    NoVersion,
    /// The host refused a step of the initialization.
    Refused(Status),
    /// The card refused a request of RNDIS.
    Rndis(rndis::Status),
    /// An answer of the host has a length or a value that it cannot have.
    Malformed,
    /// The card has an address that no station has: a group's, or all zeros.
    Address([u8; 6]),
    /// A section of the send buffer, of this size, holds no frame.
    Section(u32),
    /// A frame of this length, which is shorter than its header or longer than the network allows.
    Length(usize),
    /// All sections of the send buffer are in flight: the host has to complete one.
    Busy,
}

impl Error {
    /// Returns true if the same call may succeed a little later, with nothing changed.
    #[must_use]
    pub fn may_retry(self) -> bool {
        match self {
            Self::Client(error) => error.may_retry(),
            Self::Busy | Self::NotReady => true,
            _ => false,
        }
    }
}

channel_error!(Error);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(error) => error.fmt(f),
            Self::NotReady => f.write_str("card is not initialized; poll it"),
            Self::NoVersion => f.write_str("host speaks none of the network versions 6.1 to 1"),
            Self::Refused(status) => write!(f, "host refused the card's initialization: status {}", status.0),
            Self::Rndis(status) => write!(f, "card refused a request: RNDIS status {:#x}", status.0),
            Self::Malformed => f.write_str("malformed answer from the host"),
            Self::Address(mac) => {
                write!(
                    f,
                    "card has the address {mac:02x?}, expected that of one station; set another at the host"
                )
            }
            Self::Section(size) => {
                write!(f, "send buffer has sections of {size} bytes, too short for a frame; lower the MTU")
            }
            Self::Length(len) => write!(f, "frame of {len} bytes, expected 14 to the MTU and 14"),
            Self::Busy => f.write_str("all sections of the send buffer are in flight; poll the card"),
        }
    }
}

/// What a network stack needs of a card: frames with their Ethernet headers, without checksums after them.
pub trait Frames {
    /// Returns the address.
    fn mac(&self) -> [u8; 6];

    /// Returns the maximum payload size of a frame.
    fn mtu(&self) -> usize;

    /// Returns true if the link is up.
    fn is_up(&self) -> bool;

    /// Returns true if [`send`](Self::send) has room for a frame.
    fn can_send(&self) -> bool;

    /// Copies the next frame that has arrived, and returns its length; `None` if there is none now. A frame that is
    /// longer than `into` is dropped. Call it until `None`: the room of frames goes back to the host then.
    ///
    /// # Errors
    ///
    /// [`Error`]: the card is dead.
    fn receive(&mut self, into: &mut [u8]) -> Result<Option<usize>, Error>;

    /// Sends a frame. Without a link the host drops it.
    ///
    /// # Errors
    ///
    /// [`Error`]: the frame was not sent. If it [may be retried](Error::may_retry), receive first: that is where the
    /// host's completions arrive.
    fn send(&mut self, frame: &[u8]) -> Result<(), Error>;

    /// Returns the checksums of frames that are sent which are computed behind [`send`](Self::send), whatever the frame
    /// has in their place: by default none. Those of TCP and UDP are computed where the header follows that of IPv4 or
    /// IPv6 at once and the packet is whole: not in fragments, and not behind extension headers of IPv6. There the
    /// stack computes them itself.
    fn checksums(&self) -> Checksums {
        Checksums::NONE
    }
}

/// What is told of a frame that was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Frames that were sent.
    pub sent: u64,
    /// Frames that were received.
    pub received: u64,
    /// Messages of the host that are not frames, or frames longer than the buffer for them.
    pub receive_drops: u64,
    /// Frames that the host has completed with an error.
    pub send_errors: u64,
}

/// Pages of a card's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sizes {
    /// Of each ring.
    pub ring: usize,
    /// Of the receive buffer.
    pub receive: usize,
    /// Of the send buffer.
    pub send: usize,
}

impl Default for Sizes {
    /// Returns rings of 64 KiB, a receive buffer for some 140 frames of 1500 bytes, a send buffer for 42.
    fn default() -> Self {
        Self { ring: 16, receive: 64, send: 64 }
    }
}

impl Sizes {
    /// Sets the size of each ring.
    #[must_use]
    pub const fn with_ring(mut self, ring: usize) -> Self {
        self.ring = ring;
        self
    }

    /// Sets the size of the receive buffer.
    #[must_use]
    pub const fn with_receive(mut self, receive: usize) -> Self {
        self.receive = receive;
        self
    }

    /// Sets the size of the send buffer.
    #[must_use]
    pub const fn with_send(mut self, send: usize) -> Self {
        self.send = send;
        self
    }
}

/// The two buffers of a card.
#[must_use = "pages that the host may access are leaked when this is dropped"]
#[derive(Debug)]
pub struct Buffers<'t, D: Dma> {
    /// Where frames arrive.
    pub receive: Gpadl<'t, D>,
    /// Where frames are put for the host.
    pub send: Gpadl<'t, D>,
}

/// Owner of a packet.
#[derive(Debug)]
enum Tag {
    /// A step of the initialization, below RNDIS.
    Step(Step),
    /// A control message of RNDIS.
    Control,
    /// A frame in this section.
    Frame(u8),
}

/// A network card.
///
/// Dropping it leaks its buffers: [`close`](Self::close) it.
#[must_use = "the memory of a card is leaked when it is dropped; close it"]
pub struct Card<'t, D: Dma, C> {
    queue: Queue<'t, D, C, Tag, DEPTH>,
    buffers: Buffers<'t, D>,
    state: State,
    version: Version,
    mtu: u16,
    mac: [u8; 6],
    up: bool,
    changed: bool,
    /// The host has the receive buffer.
    lent: bool,
    /// Bytes of a section of the send buffer, 0 until the host has it, and those that are not in flight: bit n is
    /// section n.
    section: u32,
    free: u64,
    /// Memory for a control message, unless it is in flight, and the number of the last request.
    control: Option<PageRun<D>>,
    request: u32,
    arrived: Arrived,
    counts: Counts,
    /// Checksums that the guest wants of the card, and then those that it computes.
    checksums: Checksums,
    /// What the card says of the checksums of the frame that was received last, if it computes some.
    verdict: ReceiveChecksum,
}

impl<D: Dma, C> fmt::Debug for Card<'_, D, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Card")
            .field("state", &self.state)
            .field("version", &self.version)
            .field("mac", &self.mac)
            .field("up", &self.up)
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}

/// Opens a card's channel, shares its buffers, and waits until it is initialized.
///
/// # Errors
///
/// [`Error`].
pub fn open<'t, D: Dma, C: Conduit + Clone, W: Wake>(
    client: &mut Client<'t, C, W>,
    (offer, open): (&Offer, Open),
    (mtu, sizes): (u16, Sizes),
    dma: &D,
    os: &mut impl hv_vmbus_client::Wait<C, W>,
) -> Result<Card<'t, D, C>, Error> {
    let (channel, buffers, control) = connect(client, (offer, open), sizes, dma, os)?;
    let mut card = Card::new(channel, buffers, mtu, control);
    match card.wait_ready(&mut || os.wait(client)) {
        Ok(()) => Ok(card),
        Err(error) => {
            give_up(card, client, os);
            Err(error)
        }
    }
}

/// Closes a card that did not initialize. In a frame of its own: a card is large for a stack.
#[cold]
#[inline(never)]
fn give_up<D: Dma, C: Conduit, W: Wake>(
    card: Card<'_, D, C>,
    client: &mut Client<'_, C, W>,
    os: &mut impl hv_vmbus_client::Wait<C, W>,
) {
    if let Ok(closing) = card.close(client) {
        let _ = client.block_on(closing, os);
    }
}

/// What a card is made of: an open channel, its buffers, and a page for control messages.
pub type Parts<'t, D, C> = (Channel<'t, D, C>, Buffers<'t, D>, PageRun<D>);

/// Opens a card's channel and shares its buffers: the first part of [`open`], for an OS that makes the card in its
/// place.
///
/// # Errors
///
/// [`Error`].
pub fn connect<'t, D: Dma, C: Conduit + Clone, W: Wake>(
    client: &mut Client<'t, C, W>,
    (offer, open): (&Offer, Open),
    sizes: Sizes,
    dma: &D,
    os: &mut impl hv_vmbus_client::Wait<C, W>,
) -> Result<Parts<'t, D, C>, Error> {
    let control = PageRun::new(dma, 1)?;
    let channel = client.open_channel(offer, sizes.ring, open, dma, os)?;
    match share(client, offer, sizes, dma, os) {
        Ok(buffers) => Ok((channel, buffers, control)),
        Err(error) => {
            // The first error is the one to report.
            let _ = client.close_channel(channel, os);
            Err(error.into())
        }
    }
}

/// Shares the buffers, for a channel.
fn share<'t, D: Dma, C: Conduit, W: Wake>(
    client: &mut Client<'t, C, W>,
    offer: &Offer,
    sizes: Sizes,
    dma: &D,
    os: &mut impl hv_vmbus_client::Wait<C, W>,
) -> Result<Buffers<'t, D>, hv_vmbus_client::Error> {
    let (receive, send) = (PageRun::new(dma, sizes.receive)?, PageRun::new(dma, sizes.send)?);
    let receive = client.share_pages(offer, receive, os)?;
    match client.share_pages(offer, send, os) {
        Ok(send) => Ok(Buffers { receive, send }),
        Err(error) => {
            let _ = client.unshare_pages(receive, os);
            Err(error)
        }
    }
}

impl<'t, D: Dma, C: Conduit> Card<'t, D, C> {
    /// Begins with a channel that was just opened, buffers that were shared for it, and a page for control messages.
    /// `mtu` is the number of bytes after a frame's header that the guest wants at most; the card may have fewer.
    pub const fn new(
        channel: Channel<'t, D, C>,
        buffers: Buffers<'t, D>,
        mtu: u16,
        control: PageRun<D>,
    ) -> Self {
        Self {
            queue: Queue::new(channel),
            buffers,
            state: State::FIRST,
            version: Version(0),
            mtu,
            mac: [0; 6],
            up: false,
            changed: false,
            lent: false,
            section: 0,
            free: 0,
            control: Some(control),
            request: 0,
            arrived: Arrived::new(),
            counts: Counts { sent: 0, received: 0, receive_drops: 0, send_errors: 0 },
            checksums: Checksums::NONE,
            verdict: ReceiveChecksum(0),
        }
    }

    /// Returns true once the card is initialized.
    ///
    /// # Errors
    ///
    /// The initialization has failed permanently.
    pub fn is_ready(&self) -> Result<bool, Error> {
        match self.state {
            State::Ready => Ok(true),
            State::Failed(error) => Err(error),
            _ => Ok(false),
        }
    }

    /// Waits until the card is initialized. Frames that arrive meanwhile are dropped.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn wait_ready(&mut self, wait: &mut impl Wait) -> Result<(), Error> {
        loop {
            // No frame fits: this returns when nothing is left to be taken.
            self.receive(&mut [])?;
            if self.is_ready()? {
                return Ok(());
            }
            if self.is_over() {
                return Err(hv_vmbus_client::Error::Rescinded.into());
            }
            wait()?;
        }
    }

    /// Returns the version of NVSP agreed on.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns what became of frames.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Returns true if the host has rescinded the card.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.queue.is_over()
    }

    /// Returns true, once, if the link has gone up or down, or leads to another network, since the last call: ask for
    /// an address again.
    pub fn take_link_change(&mut self) -> bool {
        core::mem::take(&mut self.changed)
    }

    /// Returns the maximum length of a frame, including its header.
    fn longest(&self) -> usize {
        usize::from(self.mtu) + ETHERNET_HEADER
    }

    /// Returns a section of the send buffer for a frame, and where it begins.
    #[inline]
    fn section_for(&self, frame: &[u8]) -> Result<(u32, usize), Error> {
        if !self.is_ready()? {
            return Err(Error::NotReady);
        }
        if !(ETHERNET_HEADER..=self.longest()).contains(&frame.len()) {
            return Err(Error::Length(frame.len()));
        }
        let section = self.free.trailing_zeros();
        if section >= u64::BITS {
            return Err(Error::Busy);
        }
        Ok((section, section as usize * self.section as usize))
    }

    /// Puts a frame's message into a section, and sends it.
    fn transmit(&mut self, frame: &[u8]) -> Result<(), Error> {
        let (section, at) = self.section_for(frame)?;
        self.buffers.send.write(at, &message::header(frame.len() as u32).0);
        self.buffers.send.write(at + FRAME_AT, frame);
        self.submit_section(section, FRAME_AT + frame.len())
    }

    /// Sends the message in a section.
    #[inline]
    fn submit_section(&mut self, section: u32, len: usize) -> Result<(), Error> {
        let message =
            SendRndisPacket { channel_type: DATA_CHANNEL, section_index: section, section_size: len as u32 };
        let packet = packet(MessageType::SEND_RNDIS_PACKET, &message);
        match self.queue.submit(Tag::Frame(section as u8), &packet.0, None) {
            Ok(()) => {
                self.free &= !(1 << section);
                self.counts.sent += 1;
                Ok(())
            }
            Err(returned) => Err(returned.error.into()),
        }
    }
}

impl<D: Dma, C: Conduit> Frames for Card<'_, D, C> {
    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn mtu(&self) -> usize {
        self.mtu.into()
    }

    fn is_up(&self) -> bool {
        self.up
    }

    fn can_send(&self) -> bool {
        self.free != 0 && self.state == State::Ready
    }

    fn receive(&mut self, into: &mut [u8]) -> Result<Option<usize>, Error> {
        self.next_frame(into)
    }

    fn send(&mut self, frame: &[u8]) -> Result<(), Error> {
        self.transmit(frame)
    }
}

/// Builds an NVSP packet, padded as all are.
fn packet(message_type: MessageType, body: &(impl IntoBytes + Immutable)) -> Aligned<[u8; PACKET]> {
    let mut packet = Aligned([0; PACKET]);
    let (header, rest) = packet.0.split_at_mut(size_of::<MessageHeader>());
    header.copy_from_slice(MessageHeader { message_type }.as_bytes());
    if let Some(place) = rest.get_mut(..size_of_val(body)) {
        place.copy_from_slice(body.as_bytes());
    }
    packet
}

/// Builds a packet whose data are not in the send buffer.
fn control_packet() -> Aligned<[u8; PACKET]> {
    let message = SendRndisPacket {
        channel_type: hv_tlfs::vmbus::nvsp::CONTROL_CHANNEL,
        section_index: INVALID_INDEX,
        section_size: 0,
    };
    packet(MessageType::SEND_RNDIS_PACKET, &message)
}
