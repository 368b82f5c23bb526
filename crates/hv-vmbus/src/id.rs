//! Identifiers of devices, their channels and their requests.

/// Index of a device among the bus's devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(pub u16);

/// One of a device's channels, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel(pub(crate) u16);

impl Channel {
    /// The first one: for a device with sub-channels the one that was offered first.
    pub const PRIMARY: Self = Self(0);

    /// Returns the channel with this index.
    #[must_use]
    pub const fn new(index: u16) -> Self {
        Self(index)
    }

    /// Returns its index: 0 for the primary channel, n for sub-channel n.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Identifier of a request that a back end is working on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub(crate) u64);

impl Token {
    /// Returns the token as a number, for the back end to store.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// Returns the token with this number. The bus rejects one that it did not create.
    #[must_use]
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }
}
