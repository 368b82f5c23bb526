//! The shutdown service.

use hv_guest::conduit::Conduit;
use hv_tlfs::vmbus::ic::{
    MessageType, SHUTDOWN_FORCE, SHUTDOWN_HIBERNATE, SHUTDOWN_RESTART, Shutdown as Wire, Status, Version,
};
use hv_vmbus_client::{Dma, Error};

use super::{Request, Service};

/// Versions of the service, the newest first (Linux 6.12, `sd_versions`).
const VERSIONS: &[Version] = &[
    Version { major: 3, minor: 2 },
    Version { major: 3, minor: 1 },
    Version { major: 3, minor: 0 },
    Version { major: 1, minor: 0 },
];
/// Bytes of the longest message: the headers and a [`Wire`], rounded up.
const BUFFER: usize = 2304;

/// What the host wants the guest to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stop {
    /// Power off.
    PowerOff,
    /// Restart.
    Restart,
    /// Hibernate.
    Hibernate,
}

/// A request of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Order {
    /// What to do.
    pub stop: Stop,
    /// Without asking applications.
    pub by_force: bool,
    /// Seconds to wait.
    pub timeout: u32,
    /// Why: a number of Windows.
    pub reason: u32,
}

/// The shutdown service: the host asks the guest to power off, restart or hibernate.
#[derive(Debug)]
pub struct Shutdown<'t, D: Dma, C> {
    service: Service<'t, D, C, BUFFER>,
}

service!(Shutdown, VERSIONS, BUFFER);

impl<D: Dma, C: Conduit> Shutdown<'_, D, C> {
    /// Returns what the host has asked for, and tells it whether the guest will do it: `accepts` decides. `None` if
    /// nothing was asked, or the guest does not do it.
    ///
    /// # Errors
    ///
    /// As of [`Service::poll`].
    pub fn poll(&mut self, mut accepts: impl FnMut(&Order) -> bool) -> Result<Option<Order>, Error> {
        let order = self.service.answer(|request| {
            let accepted = read(request)?.filter(&mut accepts);
            request.set_status(if accepted.is_some() { Status::SUCCESS } else { Status::FAIL });
            Some(accepted)
        })?;
        if order.is_some() {
            // The order counts, whatever the channel: the next call returns the error.
            let _ = self.service.commit();
        }
        Ok(order)
    }
}

/// Reads a request; within `None`: unknown flags, which are refused. `None`: it is not a request of this service.
fn read(request: &Request<'_>) -> Option<Option<Order>> {
    if request.message_type() != MessageType::SHUTDOWN {
        return None;
    }
    // The text after it is not looked at, and may be missing.
    let body = request.body().first_chunk::<12>()?;
    let word = |n: usize| u32::from_le_bytes([body[n], body[n + 1], body[n + 2], body[n + 3]]);
    let flags = word(core::mem::offset_of!(Wire, flags));
    let stop = match flags & !SHUTDOWN_FORCE {
        0 => Stop::PowerOff,
        SHUTDOWN_RESTART => Stop::Restart,
        SHUTDOWN_HIBERNATE => Stop::Hibernate,
        _ => return Some(None),
    };
    Some(Some(Order {
        stop,
        by_force: flags & SHUTDOWN_FORCE != 0,
        timeout: word(core::mem::offset_of!(Wire, timeout_seconds)),
        reason: word(core::mem::offset_of!(Wire, reason_code)),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    #[test]
    fn orders_are_read_and_what_means_nothing_is_refused() {
        for (flags, stop) in [
            (0, Some(Stop::PowerOff)),
            (1, Some(Stop::PowerOff)),
            (2, Some(Stop::Restart)),
            (3, Some(Stop::Restart)),
            (5, Some(Stop::Hibernate)),
            (6, None),
            (8, None),
            (u32::MAX, None),
        ] {
            let mut message = vec![0; 28 + 12];
            (message[12], message[18]) = (3, 12);
            message[28] = 7;
            message[32] = 60;
            message[36..40].copy_from_slice(&flags.to_le_bytes());
            let request = Request::judge(&mut message).unwrap();
            let order = read(&request).unwrap();
            assert_eq!(order.map(|order| order.stop), stop);
            if let Some(order) = order {
                assert_eq!((order.by_force, order.timeout, order.reason), (flags & 1 != 0, 60, 7));
            }
        }
        let mut heartbeat = vec![0; 40];
        (heartbeat[12], heartbeat[18]) = (1, 12);
        assert!(read(&Request::judge(&mut heartbeat).unwrap()).is_none());
        let mut short = vec![0; 39];
        (short[12], short[18]) = (3, 11);
        assert!(read(&Request::judge(&mut short).unwrap()).is_none());
    }
}
