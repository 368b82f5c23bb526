//! Faults of the devices behind the connections: what a driver has to live with.
//!
//! The hypervisor knows no devices. A device is a number here, by which the embedder and the plan agree; for VMBus it is the first
//! word of the interface's GUID, and 0 for the bus itself.

use core::sync::atomic::Ordering;

use hv_tlfs::time::ReferenceTime;

use super::{Injector, Rule, What, When};

/// When a device's request to its back end is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At once.
    Now,
    /// After this time.
    Late(ReferenceTime),
    /// After a later request of the device.
    After,
    /// Never.
    Never,
}

/// How a device's request ends instead of being carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failing {
    /// The medium cannot be read or written there.
    Medium,
    /// A SCSI command ends like this.
    Scsi {
        /// Status of the port driver, without flags.
        srb: u8,
        /// Status of the target.
        scsi: u8,
        /// Sense key, code and qualifier.
        sense: Option<[u8; 3]>,
    },
}

/// When a device is taken away from the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// While the guest opens a channel of it.
    Open,
    /// When a packet of the guest was taken.
    Packet,
}

/// A part of a medium in bytes: the first one, and the first behind the last.
pub type Extent = (u64, u64);

impl Injector {
    pub(super) fn start_of_request(&self) -> Start {
        self.rules().fold(Start::Now, |found, counted| match counted.rule.what {
            What::Start(start) if self.strikes(counted) && found == Start::Now => start,
            _ => found,
        })
    }

    pub(super) fn end_of_request(&self, begins: bool, extent: Option<Extent>) -> Option<Failing> {
        self.rules().fold(None, |found, counted| {
            let (meant, failing) = match counted.rule.what {
                What::Fail(failing) => (begins, failing),
                What::Medium(from, to) => {
                    (extent.is_some_and(|(first, end)| first < to && from < end), Failing::Medium)
                }
                _ => return found,
            };
            let strikes = meant && self.strikes(counted);
            found.or(strikes.then_some(failing))
        })
    }

    pub(super) fn takes_away(&self, device: u32, now: Moment) -> bool {
        self.rules().fold(false, |found, counted| match counted.rule.what {
            What::Rescind(meant, moment) if moment == now && meant.is_none_or(|meant| meant == device) => {
                self.strikes(counted) || found
            }
            _ => found,
        })
    }

    pub(super) fn refuses_version(&self, device: u32, version: u32) -> bool {
        self.rules().fold(false, |found, counted| match counted.rule.what {
            What::Newest(meant, newest) if meant == device && version > newest => {
                self.strikes(counted) || found
            }
            _ => found,
        })
    }

    /// Returns true during the times of a rule in each of its periods, and counts the period.
    pub(super) fn within(&self, wanted: impl Fn(What) -> Option<ReferenceTime>) -> bool {
        let now = self.now.load(Ordering::Relaxed);
        self.rules().fold(false, |found, counted| {
            let Rule { what, when: When::Period(period) } = *counted.rule else { return found };
            let Some(time) = wanted(what) else { return found };
            let within = now % period.ticks() < time.ticks();
            // Only the first time in a period counts.
            let turn = now / period.ticks() + 1;
            if within && counted.count.fetch_max(turn, Ordering::Relaxed) < turn {
                counted.fired.fetch_add(1, Ordering::Relaxed);
            }
            within || found
        })
    }
}
