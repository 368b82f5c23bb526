//! What the bus tells an observer.

use crate::protocol::{ChannelId, GpadlId, MessageType, Version};
use crate::ring::RingError;

/// Something that happened on the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The guest asked for a version.
    Contact {
        /// The version.
        version: Version,
        /// Whether the connection now stands.
        accepted: bool,
        /// VP to which the guest wants its messages.
        vp: u32,
    },
    /// The guest ended the connection.
    Unloaded,
    /// The guest was sent all offers.
    OffersDelivered {
        /// How many they were.
        count: u32,
    },
    /// The guest named pages.
    GpadlCreated {
        /// Channel.
        channel: ChannelId,
        /// The guest's name for them.
        gpadl: GpadlId,
        /// How many 4096-byte pages.
        pages: u32,
    },
    /// The guest has its pages back.
    GpadlTorndown {
        /// The guest's name for them.
        gpadl: GpadlId,
    },
    /// The guest opened a channel.
    Opened {
        /// Channel.
        channel: ChannelId,
        /// VP to be interrupted.
        vp: u32,
    },
    /// A channel was closed, by the guest or with the connection.
    Closed {
        /// Channel.
        channel: ChannelId,
    },
    /// The guest was told that a channel is gone; if it was open, it is closed.
    Rescinded {
        /// Channel.
        channel: ChannelId,
    },
    /// The guest released a channel's number.
    Released {
        /// Channel.
        channel: ChannelId,
    },
    /// A device has something to tell of itself: what, its own documentation says.
    Device {
        /// Channel.
        channel: ChannelId,
        /// What it is.
        note: u32,
        /// A number that belongs to it.
        value: u64,
    },
    /// The guest has put nonsense into a ring, or taken its memory away. The host does not serve the channel before it
    /// is opened anew.
    RingCorrupt {
        /// Channel.
        channel: ChannelId,
        /// What was wrong.
        error: RingError,
    },
    /// The guest has broken the device's protocol in a way that has no answer there. The host does not serve the channel before
    /// it is opened anew.
    Fault {
        /// Channel.
        channel: ChannelId,
    },
    /// A message that does what it should not. What has an answer was answered with a failure.
    Rejected {
        /// Kind of message; [`MessageType::INVALID`] if it was too short to have one.
        message: MessageType,
        /// What was wrong.
        reason: Reason,
    },
    /// A message to the guest was dropped, because its VP does not exist, or has its SynIC or message page off.
    Undeliverable {
        /// Kind of message.
        message: MessageType,
        /// The VP.
        vp: u32,
    },
}

/// What is wrong with a guest's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// Shorter than its kind is.
    TooShort,
    /// Of a kind that no guest sends, or that the agreed version does not have.
    Unknown,
    /// Of a kind that the host does not serve.
    Unsupported,
    /// No connection stands.
    NotConnected,
    /// INITIATE_CONTACT named a SINT other than 2.
    WrongSint,
    /// INITIATE_CONTACT named a VTL other than 0.
    WrongVtl,
    /// INITIATE_CONTACT gave one monitor page without the other.
    OneMonitorPage,
    /// REQUESTOFFERS a second time.
    OffersAlreadySent,
    /// There is no channel with that number.
    UnknownChannel,
    /// The channel is open already.
    AlreadyOpen,
    /// The channel is not open.
    NotOpen,
    /// The channel was rescinded.
    Rescinded,
    /// There is no GPADL with that name on that channel.
    UnknownGpadl,
    /// There is a GPADL with that name already.
    DuplicateGpadl,
    /// The GPADL is still being named, or being torn down.
    GpadlBusy,
    /// The ranges do not fit the counts and lengths given, or a page number has more than 40 bits.
    BadRange,
    /// The host has no room for so many GPADLs or pages.
    NoRoom,
    /// The rings do not lie in one range of whole pages, or have no page for data.
    BadRing,
    /// There is no such VP.
    UnknownVp,
    /// An event flag of 2048 or more.
    BadFlag,
    /// Connection 0, which no signal can have.
    BadConnection,
    /// The device does not take what the guest asks for.
    DeviceRefused,
    /// MODIFYCHANNEL of a channel without interrupts, or to switch them off.
    NoInterrupt,
}

impl Reason {
    /// Returns all of them, each once.
    pub fn all() -> impl Iterator<Item = Self> {
        core::iter::successors(Some(Self::TooShort), |reason| reason.next())
    }

    /// The one after this, if there is one: a chain through all of them, which the compiler wants complete.
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
