//! Errors of the bus.

use core::fmt;

/// Reason why a message or signal was rejected. Exhaustive on purpose: each becomes a status of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The connection belongs to no port of VMBus: `HV_STATUS_INVALID_CONNECTION_ID`.
    NoConnection,
    /// Too many messages are pending for the guest, which does not take them: `HV_STATUS_INSUFFICIENT_BUFFERS`. Guests
    /// retry later.
    Busy,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoConnection => "no such connection",
            Self::Busy => "too many messages are pending for the guest",
        })
    }
}

impl core::error::Error for Refused {}

/// Reason why the bus rejected a call of the embedder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BusError {
    /// The bus has no such device or channel.
    UnknownDevice,
    /// The device is already offered.
    Offered,
    /// The device was rescinded, and the guest has not released its channel yet.
    Leaving,
    /// Another device has the same interface and instance.
    Duplicate,
    /// The device has no request with that token in flight.
    UnknownToken,
    /// Requests are in flight: [pause](crate::Bus::pause) the bus, and wait until it [is idle](crate::Bus::is_idle).
    InFlight,
}

impl fmt::Display for BusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownDevice => "the bus has no such device or channel",
            Self::Offered => "the device is already offered",
            Self::Leaving => "the guest has not released the channel of the rescinded device",
            Self::Duplicate => "another device has the same interface and instance",
            Self::UnknownToken => "the device has no request with that token in flight",
            Self::InFlight => "requests are in flight; pause the bus and wait until it is idle",
        })
    }
}

impl core::error::Error for BusError {}
