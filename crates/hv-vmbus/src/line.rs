//! A device's channels.

use crate::config::MESSAGE_SINT_SHIFTED;
use crate::gpadl::Pool;
use crate::image;
use crate::optional::Optional;
use crate::protocol::{ChannelId, ChannelOffer, GpadlId, MessageHeader, MessageType, OfferChannel};
use crate::ring::{Consumer, Producer, Ring, RingError};
use core::ops::Range;
use core::sync::atomic::AtomicU64;
use hv_memory::GuestMemory;
use zerocopy::FromZeros;

/// What the guest knows of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// There is none.
    Vacant,
    /// The guest was not told of it yet.
    Hidden,
    /// The guest was sent the offer.
    Known,
    /// The guest could not use the offer, and is not made another before its next contact.
    Declined,
    /// It ends; the guest is told so as soon as nothing is in flight.
    Leaving,
    /// The guest was told that it is gone, and has not released its number.
    Gone,
    /// The guest wants to be connected to a socket, and the device has not decided. Interface and instance of the offer are
    /// what the guest named.
    Connecting,
    /// The guest is to be told that the connection is refused.
    Refused,
}

/// A channel that a device has, or room for one. Its number is its place among all of them, so that no number is used
/// again before the guest has released it.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) offer: ChannelOffer,
    pub(crate) stage: Stage,
    /// Offered by the embedder: the offer outlives the connection.
    pub(crate) lasting: bool,
    pub(crate) open: Optional<Open>,
    /// Counts how often the channel was opened: requests of an earlier time have no answer.
    pub(crate) session: u32,
    /// Requests in flight, those of earlier times included.
    pub(crate) in_flight: u32,
}

/// Why a channel's packets wait in its ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stall {
    /// They do not.
    None,
    /// The run took all that one run may.
    Budget,
    /// An answer would find no room.
    Room,
    /// There is no request free, the back end is full, the device does not take them, or the bus is paused.
    Later,
}

/// An open channel.
#[derive(Clone, Debug)]
pub(crate) struct Open {
    /// GPADL of the rings.
    pub(crate) gpadl: GpadlId,
    /// The same as a place in the pool's table.
    pub(crate) entry: usize,
    /// Its page numbers in the pool.
    pub(crate) words: Range<usize>,
    /// Page at which the ring from host to guest begins.
    pub(crate) split: u32,
    /// VP to interrupt, or `TARGET_VP_NONE`.
    pub(crate) vp: u32,
    /// Event flag to set.
    pub(crate) flag: u16,
    /// Connection that the guest signals.
    pub(crate) connection: u32,
    /// Position in the ring from guest to host.
    pub(crate) consumer: Consumer,
    /// Position in the ring from host to guest.
    pub(crate) producer: Producer,
    /// The guest was told that the channel is open.
    pub(crate) live: bool,
    /// The guest has put nonsense into a ring: no packet is taken any more.
    pub(crate) corrupt: bool,
    /// Bytes of the ring from host to guest that are promised to requests in flight.
    pub(crate) reserved: u32,
    /// Bytes that the device lacked there.
    pub(crate) wanted: u32,
    pub(crate) stall: Stall,
    /// The guest is to be interrupted.
    pub(crate) signal: bool,
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

    /// A channel that is offered from the start.
    pub(crate) const fn offered(offer: ChannelOffer) -> Self {
        Self { offer: allowed(offer), stage: Stage::Hidden, lasting: true, ..Self::VACANT }
    }

    /// Takes an offer.
    pub(crate) fn fill(&mut self, offer: &ChannelOffer, lasting: bool) {
        self.offer = allowed(*offer);
        self.stage = Stage::Hidden;
        self.lasting = lasting;
    }

    /// Forgets the channel. What is in flight stays counted.
    pub(crate) fn vacate(&mut self) {
        self.offer.zero();
        self.stage = Stage::Vacant;
        self.lasting = false;
        self.open = Optional::None;
    }

    /// True if the guest may name the channel.
    pub(crate) fn is_known(&self) -> bool {
        matches!(self.stage, Stage::Known | Stage::Leaving | Stage::Gone)
    }

    pub(crate) fn is_rescinded(&self) -> bool {
        matches!(self.stage, Stage::Leaving | Stage::Gone)
    }

    /// The open channel, if the guest knows that it is open, and its rings are good.
    pub(crate) fn live(&mut self) -> Option<&mut Open> {
        let known = self.stage == Stage::Known;
        self.open.as_mut().filter(|open| known && open.live && !open.corrupt)
    }

    pub(crate) fn is_live(&self) -> bool {
        self.stage == Stage::Known && self.open.as_ref().is_some_and(|open| open.live && !open.corrupt)
    }

    /// True if the channel is open, whether or not the guest has heard of it.
    pub(crate) fn is_opened(&self) -> bool {
        self.stage == Stage::Known && self.open.is_some()
    }

    /// The OFFERCHANNEL message.
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

/// An offer without the confidential bits and the pinning bit: they say what this host does not do, and Linux 7 refuses
/// offers that have them (drivers/hv/channel_mgmt.c).
const fn allowed(mut offer: ChannelOffer) -> ChannelOffer {
    offer.flags = offer
        .flags
        .with_confidential_ring(false)
        .with_confidential_memory(false)
        .with_require_pinned_memory(false);
    offer
}

/// The connection for signals unless the guest chooses another. As in Hyper-V it names the SINT too, so that it differs
/// from all well-known connections.
pub(crate) const fn default_connection(id: ChannelId) -> u32 {
    id.0 | MESSAGE_SINT_SHIFTED
}

/// The rings from guest to host and from host to guest.
type Rings<'a, M> = (Ring<'a, M, AtomicU64>, Ring<'a, M, AtomicU64>);

impl Open {
    /// The rings from guest to host and from host to guest.
    pub(crate) fn rings<'a, M: GuestMemory>(
        &self,
        memory: &'a M,
        pool: Pool<'a>,
    ) -> Result<Rings<'a, M>, RingError> {
        rings(memory, pool, self.words.clone(), self.split)
    }
}

pub(crate) fn rings<'a, M: GuestMemory>(
    memory: &'a M,
    pool: Pool<'a>,
    words: Range<usize>,
    split: u32,
) -> Result<Rings<'a, M>, RingError> {
    let pages = pool.part(words);
    let parts = usize::try_from(split).ok().and_then(|split| pages.split_at_checked(split));
    let (incoming, outgoing) = parts.ok_or(RingError::Size { pages: pages.len() })?;
    Ok((Ring::new(memory, incoming)?, Ring::new(memory, outgoing)?))
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
image::variants!(Stall, "state of a ring" { 0 => None, 1 => Budget, 2 => Room, 3 => Later });
