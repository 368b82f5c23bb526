//! The time service.

use hv_guest::conduit::Conduit;
use hv_tlfs::time::{FileTime, ReferenceTime};
use hv_tlfs::vmbus::ic::{MessageType, TIME_SYNC_SYNC, TimeSync as Old, TimeSyncRef, Version};
use hv_vmbus_client::{Dma, Error};
use zerocopy::FromBytes;

use super::Service;

/// Versions of the service, the newest first (Linux 6.12, `ts_versions`).
const VERSIONS: &[Version] =
    &[Version { major: 4, minor: 0 }, Version { major: 3, minor: 0 }, Version { major: 1, minor: 0 }];
/// Bytes of the longest message: a negotiation of a few versions.
const BUFFER: usize = 256;

/// The host's time at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sample {
    /// The host's time of day.
    pub host_time: FileTime,
    /// The partition's reference time at that moment, from version 4.0 on; before, the moment of its arrival.
    pub reference_time: Option<ReferenceTime>,
    /// The guest's clock is to be set to it: at the start, and after the machine was stopped. Else it is a sample for a
    /// daemon that disciplines the clock.
    pub sets_clock: bool,
}

impl Sample {
    /// Returns the nanoseconds since the year 1970; `None` for a time before it.
    #[must_use]
    pub fn unix_nanos(&self) -> Option<u128> {
        self.host_time.since_unix().map(|since| since.as_nanos())
    }
}

/// The time service: the host tells the guest its time.
#[derive(Debug)]
pub struct TimeSync<'t, D: Dma, C> {
    service: Service<'t, D, C, BUFFER>,
}

service!(TimeSync, VERSIONS, BUFFER);

impl<D: Dma, C: Conduit> TimeSync<'_, D, C> {
    /// Answers the host, and returns its next time; `None` if there is none now. Call it until then.
    ///
    /// # Errors
    ///
    /// As of [`Service::poll`].
    pub fn poll(&mut self) -> Result<Option<Sample>, Error> {
        self.service.poll(|request| {
            let refers = request.version().is_some_and(|version| version.major >= 4);
            if request.message_type() == MessageType::TIME_SYNC { read(request.body(), refers) } else { None }
        })
    }
}

/// Reads a time, with the reference time if the version has it.
fn read(body: &[u8], refers: bool) -> Option<Sample> {
    let sample = |host_time, reference_time, flags: u8| Sample {
        host_time: FileTime(host_time),
        reference_time,
        sets_clock: flags & TIME_SYNC_SYNC != 0,
    };
    if refers {
        let (time, _) = TimeSyncRef::read_from_prefix(body).ok()?;
        let reference = ReferenceTime(time.reference_time.get());
        return Some(sample(time.parent_time.get(), Some(reference), time.flags));
    }
    let (time, _) = Old::read_from_prefix(body).ok()?;
    Some(sample(time.parent_time.get(), None, time.flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_messages_are_read_and_short_ones_are_none() {
        let mut body = [0; 25];
        body[..8].copy_from_slice(&(FileTime::UNIX_EPOCH.0 + 7).to_le_bytes());
        (body[8], body[16], body[24]) = (9, 1, 2);
        let new = read(&body, true).unwrap();
        assert_eq!((new.reference_time, new.sets_clock), (Some(ReferenceTime(9)), true));
        assert_eq!(new.unix_nanos(), Some(700));
        let old = read(&body, false).unwrap();
        assert_eq!(
            (old.host_time, old.reference_time, old.sets_clock),
            (FileTime(FileTime::UNIX_EPOCH.0 + 7), None, false)
        );
        assert_eq!((read(&body[..21], true), read(&body[..24], false)), (None, None));
        assert_eq!(Sample { host_time: FileTime(FileTime::UNIX_EPOCH.0 - 1), ..old }.unix_nanos(), None);
    }
}
