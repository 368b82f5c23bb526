//! Configuration and offers of a host.

use crate::protocol::connection::{self, MESSAGE_SINT};
use crate::protocol::{ChannelOffer, FeatureFlags, Guid, OfferFlags, PipeMode, Version};

/// The SINT's number in the connection ids of channels.
pub(crate) const MESSAGE_SINT_SHIFTED: u32 = MESSAGE_SINT << 12;

/// Configuration of the host side of VMBus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Oldest supported version.
    pub min_version: Version,
    /// Newest supported version.
    pub max_version: Version,
    /// Features of version 6.0 that the host grants, of those that the bus supports: `client_id` and
    /// `guest_specified_signal`.
    pub features: FeatureFlags,
    /// Connection to which guests of version 5.0 and later post their messages after contact.
    pub message_connection: u32,
}

impl Config {
    /// Versions 3.0 to 6.0: UEFI firmware requests 6.0 and then 3.0 (mu_msvm), Linux 7 first 6.0, older versions from
    /// 5.3 down. Paravisor features of 6.0 are not included.
    pub const DEFAULT: Self = Self {
        min_version: Version::V3_0,
        max_version: Version::V6_0,
        features: FeatureFlags(0).with_client_id(true).with_guest_specified_signal(true),
        message_connection: connection::MESSAGE_CONNECTION_ID_4,
    };

    pub(crate) const fn is_default(&self) -> bool {
        let Self { min_version, max_version, features, message_connection } = *self;
        let default = Self::DEFAULT;
        min_version.0 == default.min_version.0
            && max_version.0 == default.max_version.0
            && features.0 == default.features.0
            && message_connection == default.message_connection
    }

    /// Returns the same with another oldest version.
    #[must_use]
    pub const fn with_min_version(mut self, version: Version) -> Self {
        self.min_version = version;
        self
    }

    /// Returns the same with another newest version.
    #[must_use]
    pub const fn with_max_version(mut self, version: Version) -> Self {
        self.max_version = version;
        self
    }

    /// Returns true if the guest may post messages to this connection.
    #[must_use]
    pub fn has_connection(&self, connection: u32) -> bool {
        let known =
            matches!(connection, connection::MESSAGE_CONNECTION_ID | connection::MESSAGE_CONNECTION_ID_4);
        known || connection == self.message_connection
    }

    /// Returns true if the host supports this version.
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

/// An empty offer.
pub(crate) const NO_OFFER: ChannelOffer = offer(Guid::new(0, 0, 0, [0; 8]), Guid::new(0, 0, 0, [0; 8]));

/// Creates an offer of a device without further properties.
#[must_use]
pub const fn offer(interface: Guid, instance: Guid) -> ChannelOffer {
    ChannelOffer {
        interface,
        instance,
        reserved1: [0; 2],
        reserved2: [0; 2],
        flags: OfferFlags(0),
        mmio_megabytes: 0,
        user_defined: [0; 120],
        subchannel_index: 0,
        mmio_megabytes_optional: 0,
    }
}

/// Makes it a pipe: in-band packets begin with a pipe header, which the bus adds and removes.
#[must_use]
pub const fn pipe(mut offer: ChannelOffer, mode: PipeMode) -> ChannelOffer {
    offer.flags = offer.flags.with_named_pipe(true);
    let mode = mode.0.to_le_bytes();
    let mut i = 0;
    while i < mode.len() {
        offer.user_defined[i] = mode[i];
        i += 1;
    }
    offer
}
