//! The heartbeat service.

use hv_guest::conduit::Conduit;
use hv_tlfs::vmbus::ic::{MessageType, Version};
use hv_vmbus_client::{Dma, Error};

use super::Service;

/// Versions of the service, the newest first (Linux 6.12, `hb_versions`).
const VERSIONS: &[Version] = &[Version { major: 3, minor: 0 }, Version { major: 1, minor: 0 }];
/// Bytes of the longest message: a negotiation of a few versions.
const BUFFER: usize = 256;

/// The heartbeat: the host asks every few seconds whether the guest is alive, and the guest counts on.
#[derive(Debug)]
pub struct Heartbeat<'t, D: Dma, C> {
    service: Service<'t, D, C, BUFFER>,
}

service!(Heartbeat, VERSIONS, BUFFER);

impl<D: Dma, C: Conduit> Heartbeat<'_, D, C> {
    /// Answers what the host has asked, and returns the number of the last beat that was answered; `None` if there was
    /// none.
    ///
    /// # Errors
    ///
    /// As of [`Service::poll`].
    pub fn poll(&mut self) -> Result<Option<u64>, Error> {
        let mut last = None;
        self.service.answer(|request| {
            if request.message_type() != MessageType::HEARTBEAT {
                return None;
            }
            // Old hosts may send less than the whole structure.
            let sequence = request.body_mut().first_chunk_mut::<8>()?;
            let next = u64::from_le_bytes(*sequence).wrapping_add(1);
            *sequence = next.to_le_bytes();
            last = Some(next);
            Some(None::<()>)
        })?;
        Ok(last)
    }
}
