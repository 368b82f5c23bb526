//! A channel's state on the host.

use crate::config::Offer;
use crate::device::Device;
use crate::image;
use crate::protocol::connection::MESSAGE_SINT;
use crate::protocol::{ChannelId, GpadlId, MessageHeader, MessageType, OfferChannel};
use crate::ring::{Consumer, Producer};

/// A channel that the host offers.
#[derive(Clone, Debug)]
pub(crate) struct Channel {
    pub(crate) id: ChannelId,
    pub(crate) offer: Offer,
    /// The guest was sent the offer, and has not released the number.
    pub(crate) offered: bool,
    pub(crate) state: State,
}

#[derive(Clone, Debug)]
pub(crate) enum State {
    Closed,
    Open(Open),
    /// The guest was told that the channel is gone, and has not released its number.
    Rescinded,
}

/// What the guest chose when it opened the channel.
#[derive(Clone, Debug)]
pub(crate) struct Open {
    /// GPADL of the rings.
    pub(crate) gpadl: GpadlId,
    /// Page of it at which the ring from host to guest begins.
    pub(crate) split: u32,
    /// VP to interrupt, or `TARGET_VP_NONE`.
    pub(crate) vp: u32,
    /// Event flag to set.
    pub(crate) flag: u16,
    /// Connection that the guest signals.
    pub(crate) connection: u32,
    /// The host's positions in the rings.
    pub(crate) rings: Rings,
    pub(crate) device: Device,
    /// The guest has put nonsense into a ring: the device does not run any more.
    pub(crate) spoilt: bool,
    /// The device stopped with more to do.
    pub(crate) unfinished: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Rings {
    /// Guest to host.
    pub(crate) consumer: Consumer,
    /// Host to guest.
    pub(crate) producer: Producer,
}

impl Channel {
    pub(crate) const fn new(id: ChannelId, offer: Offer) -> Self {
        Self { id, offer, offered: false, state: State::Closed }
    }

    /// The connection for signals unless the guest chooses another. As in Hyper-V it names the SINT too, so that it
    /// differs from all well-known connections.
    pub(crate) fn default_connection(&self) -> u32 {
        self.id.0 | (MESSAGE_SINT << 12)
    }

    pub(crate) fn open(&self) -> Option<&Open> {
        match &self.state {
            State::Open(open) => Some(open),
            State::Closed | State::Rescinded => None,
        }
    }

    pub(crate) fn is_rescinded(&self) -> bool {
        matches!(self.state, State::Rescinded)
    }

    /// The OFFERCHANNEL message.
    pub(crate) fn message(&self) -> OfferChannel {
        OfferChannel {
            header: MessageHeader::new(MessageType::OFFER_CHANNEL),
            offer: self.offer.channel,
            channel: self.id,
            monitor_id: 0,
            monitor_allocated: 0,
            dedicated_interrupt: 1,
            connection: self.default_connection(),
        }
    }
}

image::fields!(Channel { id, offer, offered, state });
image::variants!(State, "state of a channel" { 0 => Closed, 1 => Open(open), 2 => Rescinded });
image::fields!(Open { gpadl, split, vp, flag, connection, rings, device, spoilt, unfinished });
image::fields!(Rings { consumer, producer });
