//! Memory that the guest gives up: the tool takes it from the machine.
//!
//! The pages stay mapped. The tool makes a hole of them in the machine's RAM, so that they read as zeros, and says so;
//! until then the device's request is in flight, and the bus tells no guest that its connection has ended.

use hv_devices::Balloon;
use hv_partition::RawMutex;
use hv_vmbus::{Started, Token};
use hv_wire::control::{FromHypervisor, Refusal};
use zerocopy::IntoBytes as _;

use crate::machine::{Machine, Serves, State};

/// The request that is under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Discarding {
    token: Option<Token>,
    /// The tool knows of it.
    told: bool,
}

impl Discarding {
    pub(crate) const NONE: Self = Self { token: None, told: false };

    /// Returns true if there is one.
    #[cfg(test)]
    pub(crate) const fn is_under_way(&self) -> bool {
        self.token.is_some()
    }
}

impl<R: RawMutex> State<R> {
    /// Notes a request to discard pages, of which the control port tells the tool: it has an outcome then. Locks are
    /// held.
    pub fn start_discard(&self, token: Token) -> Started<()> {
        *self.discarding.lock() = Discarding { token: Some(token), told: false };
        self.note_outcome();
        Started::Pending
    }

    /// Returns true if there is a request that the tool does not know of.
    pub(crate) fn has_discard(&self) -> bool {
        let discarding = self.discarding.lock();
        discarding.token.is_some() && !discarding.told
    }
}

impl<R: RawMutex, H: Serves, const REQUESTS: usize> Machine<'_, R, H, REQUESTS> {
    /// Tells the tool of the request. Returns false if it is over for the device, which has closed its channel since.
    pub(crate) fn tell_discard(&self, send: &mut dyn FnMut(&FromHypervisor<'_>)) -> bool {
        self.state.discarding.lock().told = true;
        let told = self.with_balloon(|device| {
            let ranges = device.discarding();
            if !ranges.is_empty() {
                send(&FromHypervisor::Discard { ranges: ranges.as_bytes() });
            }
            !ranges.is_empty()
        });
        told == Some(true)
    }

    /// Handles the completion of a request.
    pub(crate) fn discarded(&self) {
        let token = self.state.discarding.lock().token.take();
        if let Some(token) = token {
            // It is the one request that the device has in flight.
            let slot = &self.partition.devices().services.balloon;
            let _ = self.partition.completed(self.host, slot, token, ());
        }
    }

    /// Returns what is known of the guest's memory.
    pub(crate) fn memory(&self) -> FromHypervisor<'static> {
        let state = self.with_balloon(|device| {
            let pressure = device.pressure();
            FromHypervisor::Memory {
                taken: device.taken(),
                reported: pressure.is_some(),
                available: pressure.unwrap_or_default().available,
                committed: pressure.unwrap_or_default().committed,
            }
        });
        state.unwrap_or(FromHypervisor::Refused { why: Refusal::Absent })
    }

    /// Calls a function with the device.
    fn with_balloon<T>(&self, work: impl FnOnce(&mut Balloon) -> T) -> Option<T> {
        let slot = &self.partition.devices().services.balloon;
        self.partition.with_vmbus(self.host, |vmbus| vmbus.with(slot, |device, _| work(device))).ok()
    }
}
