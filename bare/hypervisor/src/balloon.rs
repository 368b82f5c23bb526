//! Memory that the guest gives up: the tool takes it from the machine.
//!
//! The pages stay mapped at stage 2. The tool makes a hole of them in the machine's RAM, so that they read as zeros,
//! and says so; until then the device's request is in flight, and the bus tells no guest that its connection has ended.
//!
//! A request is noted with the device's lock held, so its lock here comes after that, and is never held for more.

use hv_devices::Balloon;
use hv_vmbus::{Started, Token};
use hv_wire::control::{FromHypervisor, Refusal};
use zerocopy::IntoBytes as _;

use crate::devices::BUS;
use crate::host::FaultyEmbedder;
use crate::lock::Mutex;
use crate::outcomes;

/// The request that is under way.
#[derive(Clone, Copy)]
struct Discarding {
    token: Option<Token>,
    /// The tool knows of it.
    told: bool,
}

static DISCARDING: Mutex<Discarding> = Mutex::new(Discarding { token: None, told: false });

/// Notes a request to discard pages. Locks are held.
pub(crate) fn start(token: Token) -> Started<()> {
    if !outcomes::CONTROL.is_there() {
        return Started::Done(());
    }
    *DISCARDING.lock() = Discarding { token: Some(token), told: false };
    outcomes::ready();
    Started::Pending
}

/// Returns true if there is a request that the tool does not know of.
pub(crate) fn has_news() -> bool {
    let discarding = DISCARDING.lock();
    discarding.token.is_some() && !discarding.told
}

/// Tells the tool of the request. Returns false if it is over for the device, which has closed its channel since.
pub(crate) fn tell(host: &FaultyEmbedder<'_>, send: &mut dyn FnMut(&FromHypervisor<'_>)) -> bool {
    DISCARDING.lock().told = true;
    let told = with(host, |device| {
        let ranges = device.discarding();
        if !ranges.is_empty() {
            send(&FromHypervisor::Discard { ranges: ranges.as_bytes() });
        }
        !ranges.is_empty()
    });
    told == Some(true)
}

/// Handles the completion of a request.
pub(crate) fn done(host: &FaultyEmbedder<'_>) {
    let token = DISCARDING.lock().token.take();
    if let Some(token) = token {
        let partition = &host.cpu.hypervisor.partition;
        // It is the one request that the device has in flight.
        let _ = partition.completed(host, &BUS.devices().services.balloon, token, ());
    }
}

/// Returns what is known of the guest's memory.
pub(crate) fn state(host: &FaultyEmbedder<'_>) -> FromHypervisor<'static> {
    let state = with(host, |device| {
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
fn with<T>(host: &FaultyEmbedder<'_>, work: impl FnOnce(&mut Balloon) -> T) -> Option<T> {
    let partition = &host.cpu.hypervisor.partition;
    partition
        .with_vmbus(host, |vmbus| vmbus.with(&BUS.devices().services.balloon, |device, _| work(device)))
        .ok()
}
