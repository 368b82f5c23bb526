//! Events for an observer of the bus.

use crate::protocol::{ChannelId, GpadlId, Guid, MessageType, OfferFlags, Version};
use crate::ring::RingError;

/// An event on the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The guest requested a version.
    Contact {
        /// The version.
        version: Version,
        /// Whether the connection is established.
        accepted: bool,
        /// VP that the guest chose for its messages.
        vp: u32,
    },
    /// The guest ended the connection.
    Unloaded,
    /// The guest was sent all offers.
    OffersDelivered {
        /// Number of offers.
        count: u32,
    },
    /// The guest was sent an offer.
    Offered {
        /// Channel.
        channel: ChannelId,
        /// First channel of its device: itself, unless it is a sub-channel.
        first: ChannelId,
        /// Index of a sub-channel; 0 for a device's first channel, and for sockets.
        index: u16,
        /// Flags of the offer.
        flags: OfferFlags,
        /// Kind of the device.
        interface: Guid,
        /// The device.
        instance: Guid,
    },
    /// The guest established a GPADL.
    GpadlCreated {
        /// Channel.
        channel: ChannelId,
        /// Id of the GPADL.
        gpadl: GpadlId,
        /// Number of 4096-byte pages.
        pages: u32,
    },
    /// A GPADL that the guest established is accepted, but suspicious. Reported only to observers of packets
    /// ([`BusPort::sees_packets`](crate::BusPort::sees_packets)).
    GpadlFlaw {
        /// Channel.
        channel: ChannelId,
        /// Id of the GPADL.
        gpadl: GpadlId,
        /// The flaw.
        flaw: Flaw,
    },
    /// A GPADL was torn down; its pages are the guest's again.
    GpadlTorndown {
        /// Id of the GPADL.
        gpadl: GpadlId,
    },
    /// The guest opened a channel.
    Opened {
        /// Channel.
        channel: ChannelId,
        /// VP that gets its interrupts.
        vp: u32,
    },
    /// A channel was closed, by the guest or with the connection.
    Closed {
        /// Channel.
        channel: ChannelId,
    },
    /// A channel was rescinded; if it was open, it is closed.
    Rescinded {
        /// Channel.
        channel: ChannelId,
    },
    /// The guest released a channel's number.
    Released {
        /// Channel.
        channel: ChannelId,
    },
    /// A device reported something, as defined by its documentation.
    Device {
        /// Channel.
        channel: ChannelId,
        /// Kind of report.
        note: u32,
        /// Value of the report.
        value: u64,
    },
    /// A ring is corrupt, or the guest has taken its memory away. The host does not serve the channel until it is
    /// opened again.
    RingCorrupt {
        /// Channel.
        channel: ChannelId,
        /// The error.
        error: RingError,
    },
    /// The guest violated the device's protocol in a way that the protocol has no answer for. The host does not serve
    /// the channel until it is opened again.
    Fault {
        /// Channel.
        channel: ChannelId,
    },
    /// A message was rejected. If it has an answer, that reports a failure.
    Rejected {
        /// Kind of message; [`MessageType::INVALID`] if it was too short to have one.
        message: MessageType,
        /// The reason.
        reason: Reason,
    },
    /// A message to the guest was dropped, because its VP does not exist or has its SynIC or message page disabled.
    Undeliverable {
        /// Kind of message.
        message: MessageType,
        /// The VP.
        vp: u32,
    },
}

/// What is suspicious about a GPADL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flaw {
    /// A page is not guest memory.
    Outside,
    /// A page is listed twice in a row.
    Repeated,
}

/// Reason why a guest's message was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// Shorter than required for its type.
    TooShort,
    /// A type that no guest sends, or that the negotiated version does not have.
    Unknown,
    /// A type that the host does not support.
    Unsupported,
    /// There is no connection.
    NotConnected,
    /// INITIATE_CONTACT named a SINT other than 2.
    WrongSint,
    /// INITIATE_CONTACT named a VTL other than 0.
    WrongVtl,
    /// INITIATE_CONTACT gave one monitor page without the other.
    OneMonitorPage,
    /// A second REQUESTOFFERS.
    OffersAlreadySent,
    /// There is no channel with that number.
    UnknownChannel,
    /// The channel is already open.
    AlreadyOpen,
    /// The channel is not open.
    NotOpen,
    /// The channel was rescinded.
    Rescinded,
    /// There is no GPADL with that id on that channel.
    UnknownGpadl,
    /// A GPADL with that id already exists.
    DuplicateGpadl,
    /// The GPADL is still being established, or being torn down.
    GpadlBusy,
    /// The ranges do not match the counts and lengths given, or a page number has more than 40 bits.
    BadRange,
    /// The host has no room for this many GPADLs or pages.
    NoRoom,
    /// The rings do not lie in one range of whole pages, or have no page for data.
    BadRing,
    /// There is no such VP.
    UnknownVp,
    /// An event flag of 2048 or more.
    BadFlag,
    /// Connection 0, which cannot be signalled.
    BadConnection,
    /// The device rejects the request.
    DeviceRefused,
    /// MODIFYCHANNEL of a channel without interrupts, or to disable them.
    NoInterrupt,
}

impl Reason {
    /// Returns all of them, each once.
    pub fn all() -> impl Iterator<Item = Self> {
        core::iter::successors(Some(Self::TooShort), |reason| reason.next())
    }

    /// Returns the next one, if there is one: a chain through all of them, which the compiler checks for completeness.
    const fn next(self) -> Option<Self> {
        Some(match self {
            Self::TooShort => Self::Unknown,
            Self::Unknown => Self::Unsupported,
            Self::Unsupported => Self::NotConnected,
            Self::NotConnected => Self::WrongSint,
            Self::WrongSint => Self::WrongVtl,
            Self::WrongVtl => Self::OneMonitorPage,
            Self::OneMonitorPage => Self::OffersAlreadySent,
            Self::OffersAlreadySent => Self::UnknownChannel,
            Self::UnknownChannel => Self::AlreadyOpen,
            Self::AlreadyOpen => Self::NotOpen,
            Self::NotOpen => Self::Rescinded,
            Self::Rescinded => Self::UnknownGpadl,
            Self::UnknownGpadl => Self::DuplicateGpadl,
            Self::DuplicateGpadl => Self::GpadlBusy,
            Self::GpadlBusy => Self::BadRange,
            Self::BadRange => Self::NoRoom,
            Self::NoRoom => Self::BadRing,
            Self::BadRing => Self::UnknownVp,
            Self::UnknownVp => Self::BadFlag,
            Self::BadFlag => Self::BadConnection,
            Self::BadConnection => Self::DeviceRefused,
            Self::DeviceRefused => Self::NoInterrupt,
            Self::NoInterrupt => return None,
        })
    }
}
