//! The seam to the host half of VMBus: posted messages go in, messages and events for the guest come out.

use hv_tlfs::status::HvStatus;

use crate::host::Host;
use crate::partition::Partition;

/// The host half of VMBus.
#[derive(Debug)]
pub(crate) struct Vmbus;

impl Vmbus {
    pub(crate) const fn new() -> Self {
        Self
    }

    pub(crate) fn reset(&self) {}

    /// Whether posted messages to this connection are VMBus's.
    pub(crate) const fn has_connection(connection: u32) -> bool {
        matches!(connection, 1 | 4)
    }
}

impl Partition<'_> {
    /// A message that the guest posted to one of VMBus's connections.
    pub(crate) fn vmbus_message(
        &self,
        host: &impl Host,
        vp: usize,
        connection: u32,
        payload: &[u8],
    ) -> Result<(), HvStatus> {
        let _ = (host, vp, connection, payload);
        Ok(())
    }

    /// An event that the guest signalled; `None` if the connection is not VMBus's.
    pub(crate) fn vmbus_signal(&self, host: &impl Host, connection: u32) -> Option<Result<(), HvStatus>> {
        let _ = (host, connection);
        None
    }

    /// A message buffer may have become free: what VMBus still owes the guest is sent.
    pub(crate) fn vmbus_progress(&self, host: &impl Host) {
        let _ = host;
    }
}
