//! What a host is and offers.

use crate::image;
use crate::protocol::{ChannelOffer, FeatureFlags, Guid, OfferFlags, PipeMode, Version, connection, guid};

/// What the host's end of VMBus is able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Oldest version that the host speaks.
    pub min_version: Version,
    /// Newest version that the host speaks.
    pub max_version: Version,
    /// Features of version 6.0 that the host grants, of those that the server knows: `client_id` and
    /// `guest_specified_signal`.
    pub features: FeatureFlags,
    /// Connection to which guests of version 5.0 and later post their messages after the contact.
    pub message_connection: u32,
    /// Channels that the host offers from the start.
    pub offers: &'static [Offer],
}

impl Config {
    /// Versions 4.0 to 5.3, as Windows Server 2022 has them, and no channel.
    pub const DEFAULT: Self = Self {
        min_version: Version::V4_0,
        max_version: Version::V5_3,
        features: FeatureFlags(0).with_client_id(true).with_guest_specified_signal(true),
        message_connection: connection::MESSAGE_CONNECTION_ID_4,
        offers: &[],
    };

    /// The same with another newest version.
    #[must_use]
    pub const fn with_max_version(mut self, version: Version) -> Self {
        self.max_version = version;
        self
    }

    /// The same with these channels from the start.
    #[must_use]
    pub const fn with_offers(mut self, offers: &'static [Offer]) -> Self {
        self.offers = offers;
        self
    }

    /// Returns whether the guest may post messages to this connection.
    #[must_use]
    pub const fn has_connection(&self, connection: u32) -> bool {
        let known =
            matches!(connection, connection::MESSAGE_CONNECTION_ID | connection::MESSAGE_CONNECTION_ID_4);
        known || connection == self.message_connection
    }

    /// Whether the host speaks this version.
    #[must_use]
    pub fn speaks(&self, version: Version) -> bool {
        (self.min_version..=self.max_version).contains(&version) && Version::ALL.contains(&version)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What stands behind a channel on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Device {
    /// Nothing: the channel opens, and what the guest sends stays in the ring.
    Silent,
    /// Packets come back: in-band ones with their payload, as completions where one was requested.
    Echo,
    /// The heartbeat service.
    Heartbeat {
        /// Time between two beats, in 100 ns.
        interval: u64,
    },
}

/// A channel that the host offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// What the guest is told.
    pub channel: ChannelOffer,
    /// What stands behind it.
    pub device: Device,
}

impl Offer {
    /// An offer of a device with nothing more to say of itself.
    #[must_use]
    pub const fn new(interface: Guid, instance: Guid, device: Device) -> Self {
        Self {
            channel: ChannelOffer {
                interface,
                instance,
                reserved1: [0; 2],
                reserved2: [0; 2],
                flags: OfferFlags(0),
                mmio_megabytes: 0,
                user_defined: [0; 120],
                subchannel_index: 0,
                mmio_megabytes_optional: 0,
            },
            device,
        }
    }

    /// The same as a pipe.
    #[must_use]
    pub const fn pipe(mut self, mode: PipeMode) -> Self {
        self.channel.flags = self.channel.flags.with_named_pipe(true);
        let mode = mode.0.to_le_bytes();
        let mut i = 0;
        while i < mode.len() {
            self.channel.user_defined[i] = mode[i];
            i += 1;
        }
        self
    }

    /// The heartbeat service, with a beat every two seconds as in Hyper-V.
    pub const HEARTBEAT: Self = Self::new(
        guid::HEARTBEAT,
        Guid::new(0xfd14_9e91, 0x82e0, 0x4a7d, [0xaf, 0xa6, 0x2a, 0x41, 0x66, 0xcb, 0xd7, 0xc0]),
        Device::Heartbeat { interval: 20_000_000 },
    )
    .pipe(PipeMode::MESSAGE);

    /// A device of this project for tests of rings: [`Device::Echo`]. No stock guest has a driver for it.
    pub const ECHO: Self = Self::new(ECHO_INTERFACE, ECHO_INTERFACE, Device::Echo);
}

/// Interface GUID of [`Offer::ECHO`]; its last bytes spell "hvecho".
pub const ECHO_INTERFACE: Guid =
    Guid::new(0x7b1f_3c52, 0x9d0e, 0x4c66, [0xa4, 0x11, 0x68, 0x76, 0x65, 0x63, 0x68, 0x6f]);

image::variants!(Device, "kind of a device" { 0 => Silent, 1 => Echo, 2 => Heartbeat { interval } });
image::fields!(Offer { channel, device });
