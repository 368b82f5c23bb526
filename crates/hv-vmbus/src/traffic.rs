//! How much a device does.

/// What a device did during one call of the bus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Packets that it took.
    pub packets_in: u32,
    /// Bytes of their payloads.
    pub bytes_in: u32,
    /// Packets that it sent.
    pub packets_out: u32,
    /// Bytes of their payloads.
    pub bytes_out: u32,
    /// Requests that its back end was done with.
    pub requests: u32,
}

impl Traffic {
    pub(crate) const NONE: Self =
        Self { packets_in: 0, bytes_in: 0, packets_out: 0, bytes_out: 0, requests: 0 };

    pub(crate) fn is_none(&self) -> bool {
        // Bytes are those of packets.
        self.packets_in | self.packets_out | self.requests == 0
    }
}
