//! A device's channels.

use crate::config::MESSAGE_SINT_SHIFTED;
use crate::gpadl::Pool;
use crate::image;
use crate::optional::Optional;
use crate::pages::PAGE;
use crate::protocol::{ChannelId, ChannelOffer, GpadlId, MessageHeader, MessageType, OfferChannel};
use crate::ring::{Consumer, Producer, Ring, RingError};
use core::ops::Range;
use core::sync::atomic::AtomicU64;
use hv_memory::GuestMemory;
use zerocopy::FromZeros;

/// What the guest knows about a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// No channel.
    Vacant,
    /// The guest has not been notified yet.
    Hidden,
    /// The guest was sent the offer.
    Known,
    /// The guest could not use the offer, and gets no other one before its next contact.
    Declined,
    /// It is being rescinded; the guest is notified as soon as nothing is in flight.
    Leaving,
    /// The guest was told that it is rescinded, and has not released its number.
    Gone,
    /// The guest requests a connection to a socket, and the device has not decided yet. Interface and instance of the
    /// offer are those in the request.
    Connecting,
    /// The guest has yet to be told that the connection is refused.
    Refused,
}

/// A channel of a device, or room for one. Its number is its index among all of them, so no number is used again before
/// the guest has released it.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) offer: ChannelOffer,
    pub(crate) stage: Stage,
    /// Offered by the embedder: the offer outlives the connection.
    pub(crate) lasting: bool,
    pub(crate) open: Optional<Open>,
    /// Counts how often the channel was opened: requests from an earlier time are not answered.
    pub(crate) session: u32,
    /// Number of requests in flight, including those from earlier times.
    pub(crate) in_flight: u32,
}

/// Reason why a channel's packets wait in its ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stall {
    /// They do not wait.
    None,
    /// The run reached its work limit.
    Budget,
    /// There is no room for an answer.
    Room,
    /// No request is free, the back end is full, the device does not take them, or the bus is paused.
    Later,
    /// The device takes none of this channel's until it says so.
    Held,
}

/// An open channel.
#[derive(Clone, Debug)]
pub(crate) struct Open {
    /// GPADL of the rings.
    pub(crate) gpadl: GpadlId,
    /// The same as an index into the pool's table.
    pub(crate) entry: usize,
    /// Page where the host-to-guest ring begins.
    pub(crate) split: u32,
    /// The guest-to-host ring.
    pub(crate) incoming: Shape,
    /// The host-to-guest ring.
    pub(crate) outgoing: Shape,
    /// VP to interrupt, or `TARGET_VP_NONE`.
    pub(crate) vp: u32,
    /// Event flag to set.
    pub(crate) flag: u16,
    /// Connection that the guest signals.
    pub(crate) connection: u32,
    /// Position in the guest-to-host ring.
    pub(crate) consumer: Consumer,
    /// Position in the host-to-guest ring.
    pub(crate) producer: Producer,
    /// The guest was told that the channel is open.
    pub(crate) live: bool,
    /// A ring is corrupt: no more packets are taken.
    pub(crate) corrupt: bool,
    /// Bytes of the host-to-guest ring that are reserved for requests in flight.
    pub(crate) reserved: u32,
    /// Bytes that the device needed there and did not get.
    pub(crate) wanted: u32,
    pub(crate) stall: Stall,
    /// An interrupt is pending for the guest.
    pub(crate) signal: bool,
    /// The packet that was left in the ring was shown to the observer.
    pub(crate) shown: bool,
}

impl Line {
    pub(crate) const VACANT: Self = Self {
        offer: crate::config::NO_OFFER,
        stage: Stage::Vacant,
        lasting: false,
        open: Optional::None,
        session: 0,
        in_flight: 0,
    };

    /// Creates a channel that is offered from the start.
    pub(crate) const fn offered(offer: ChannelOffer) -> Self {
        Self { offer: allowed(offer), stage: Stage::Hidden, lasting: true, ..Self::VACANT }
    }

    /// Accepts an offer.
    pub(crate) fn fill(&mut self, offer: &ChannelOffer, lasting: bool) {
        self.offer = allowed(*offer);
        self.stage = Stage::Hidden;
        self.lasting = lasting;
    }

    /// Resets the channel. Requests in flight are still counted.
    pub(crate) fn vacate(&mut self) {
        self.offer.zero();
        self.stage = Stage::Vacant;
        self.lasting = false;
        self.open = Optional::None;
    }

    /// Returns true if the guest may refer to the channel.
    pub(crate) fn is_known(&self) -> bool {
        matches!(self.stage, Stage::Known | Stage::Leaving | Stage::Gone)
    }

    pub(crate) fn is_rescinded(&self) -> bool {
        matches!(self.stage, Stage::Leaving | Stage::Gone)
    }

    /// Returns the open channel, if the guest knows that it is open, and its rings are intact.
    pub(crate) fn live(&mut self) -> Option<&mut Open> {
        let known = self.stage == Stage::Known;
        self.open.as_mut().filter(|open| known && open.live && !open.corrupt)
    }

    pub(crate) fn is_live(&self) -> bool {
        self.stage == Stage::Known && self.open.as_ref().is_some_and(|open| open.live && !open.corrupt)
    }

    /// Returns true if the channel is open, whether or not the guest has been notified.
    pub(crate) fn is_opened(&self) -> bool {
        self.stage == Stage::Known && self.open.is_some()
    }

    /// Creates the OFFERCHANNEL message.
    pub(crate) fn message(&self, id: ChannelId) -> OfferChannel {
        OfferChannel {
            header: MessageHeader::new(MessageType::OFFER_CHANNEL),
            offer: self.offer,
            channel: id,
            monitor_id: 0,
            monitor_allocated: 0,
            dedicated_interrupt: 1,
            connection: default_connection(id),
        }
    }
}

/// Clears the confidential bits and the pinning bit of an offer: they describe what this host does not do, and Linux 7
/// rejects offers that have them (drivers/hv/channel_mgmt.c).
const fn allowed(mut offer: ChannelOffer) -> ChannelOffer {
    offer.flags = offer
        .flags
        .with_confidential_ring(false)
        .with_confidential_memory(false)
        .with_require_pinned_memory(false);
    offer
}

/// Returns the connection for signals unless the guest chooses another. As in Hyper-V it contains the SINT, so it
/// differs from all well-known connections.
pub(crate) const fn default_connection(id: ChannelId) -> u32 {
    id.0 | MESSAGE_SINT_SHIFTED
}

/// The guest-to-host and the host-to-guest ring.
type Rings<'a, M> = (Ring<'a, M, AtomicU64>, Ring<'a, M, AtomicU64>);

impl Open {
    /// Returns the guest-to-host and the host-to-guest ring.
    pub(crate) fn rings<'a, M: GuestMemory>(&self, memory: &'a M, pool: Pool<'a>) -> Rings<'a, M> {
        (self.incoming.ring(memory, pool), self.outgoing(memory, pool))
    }

    /// Returns the host-to-guest ring.
    pub(crate) fn outgoing<'a, M: GuestMemory>(
        &self,
        memory: &'a M,
        pool: Pool<'a>,
    ) -> Ring<'a, M, AtomicU64> {
        self.outgoing.ring(memory, pool)
    }
}

/// A ring of an open channel, judged when the channel was opened: its pages stay the same until it is closed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Address of the header.
    header: u64,
    /// Position of the page numbers of its data in the pool.
    data: u32,
    pages: u32,
}

impl Shape {
    /// Judges the rings in these words of the pool, of which the second begins at page `split`.
    pub(crate) fn both<M: GuestMemory>(
        memory: &M,
        pool: Pool<'_>,
        words: Range<usize>,
        split: u32,
    ) -> Result<(Self, Self), RingError> {
        let error = RingError::Size { pages: words.len() };
        let middle = usize::try_from(split).ok().filter(|split| *split <= words.len()).ok_or(error)?;
        let middle = words.start + middle;
        Ok((Self::new(memory, pool, words.start..middle)?, Self::new(memory, pool, middle..words.end)?))
    }

    fn new<M: GuestMemory>(memory: &M, pool: Pool<'_>, words: Range<usize>) -> Result<Self, RingError> {
        let ring = Ring::new(memory, pool.part(words.clone()))?;
        let error = RingError::Size { pages: words.len() };
        let data = u32::try_from(words.start + 1).map_err(|_| error)?;
        Ok(Self { header: ring.header(), data, pages: ring.size() / PAGE as u32 })
    }

    /// Returns the ring.
    #[inline]
    pub(crate) fn ring<'a, M: GuestMemory>(&self, memory: &'a M, pool: Pool<'a>) -> Ring<'a, M, AtomicU64> {
        let start = self.data as usize;
        Ring::judged(memory, self.header, pool.part(start..start + self.pages as usize))
    }
}

image::variants!(Stage, "state of a channel" {
    0 => Vacant,
    1 => Hidden,
    2 => Known,
    3 => Declined,
    4 => Leaving,
    5 => Gone,
    6 => Connecting,
    7 => Refused,
});
image::variants!(Stall, "state of a ring" { 0 => None, 1 => Budget, 2 => Room, 3 => Later, 4 => Held });
