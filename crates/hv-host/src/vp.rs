//! Virtual processors: their state, start and stop.

use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use hv_tlfs::time::ReferenceTime;
use lock_api::{Mutex, MutexGuard, RawMutex};

use crate::host::Host;
use crate::overlay::Place;
use crate::port::Port;
use crate::power::Power;
use crate::synic::{Context, Synic};
use hv_memory::save::{Reader, RestoreError, Writer};

const OFF: u32 = 0;
const STARTING: u32 = 1;
const ON: u32 = 2;

/// State of one virtual processor.
///
/// A new one is all zeros, so that an array of them takes no room in an executable;
/// [`Partition::reset`](crate::Partition::reset) gives it its reset values.
///
/// `R` is the lock of the embedder's choice: a spin lock at EL2, a blocking lock where threads can be preempted.
#[repr(align(64))]
pub struct Vp<R> {
    power: AtomicU32,
    /// Reference time at which it came online.
    since: AtomicU64,
    /// The synthetic VBAR_EL1: stored, without effect, since this hypervisor raises no exceptions of its own at EL1.
    synthetic_vbar: AtomicU64,
    /// Locations of its overlays: message page, event flags page, assist page.
    places: [Place; 3],
    synic: Mutex<R, Synic>,
}

impl<R: RawMutex> fmt::Debug for Vp<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("Vp");
        fields.field("power", &self.power()).field("since", &self.since);
        fields.field("synthetic_vbar", &self.synthetic_vbar);
        fields.field("synic", &self.synic).finish()
    }
}

impl<R: RawMutex> Default for Vp<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: RawMutex> Vp<R> {
    /// Creates a VP that is off.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            power: AtomicU32::new(OFF),
            since: AtomicU64::new(0),
            synthetic_vbar: AtomicU64::new(0),
            places: [const { Place::new() }; 3],
            synic: Mutex::new(Synic::new()),
        }
    }

    /// Returns whether it is running.
    #[must_use]
    pub fn power(&self) -> Power {
        match self.power.load(Ordering::Acquire) {
            OFF => Power::Off,
            STARTING => Power::Starting,
            _ => Power::On,
        }
    }

    pub(crate) fn synic(&self) -> MutexGuard<'_, R, Synic> {
        self.synic.lock()
    }

    /// Returns the locations of its overlays. They are recorded wherever an overlay's register changes.
    pub(crate) const fn places(&self) -> &[Place; 3] {
        &self.places
    }

    fn note_places(&self, synic: &Synic) {
        for (place, page) in self.places.iter().zip(synic.pages()) {
            place.note(page);
        }
    }

    /// Resets the state as after creation or reset: off, all registers at their reset values.
    pub(crate) fn reset(&self, ports: &[Port]) {
        self.reset_registers(ports);
        self.since.store(0, Ordering::Relaxed);
        self.power.store(OFF, Ordering::Release);
    }

    /// Resets all registers.
    pub(crate) fn reset_registers(&self, ports: &[Port]) {
        let mut synic = self.synic();
        synic.reset(ports);
        self.note_places(&synic);
        drop(synic);
        self.synthetic_vbar.store(0, Ordering::Relaxed);
    }

    /// Begins a start. Exactly one of several callers succeeds; the others get the state that they found.
    pub(crate) fn begin_start(&self) -> Result<(), Power> {
        let started = self.power.compare_exchange(OFF, STARTING, Ordering::AcqRel, Ordering::Acquire);
        started.map(|_| ()).map_err(|_| self.power())
    }

    pub(crate) fn set_online(&self, now: ReferenceTime) {
        self.since.store(now.ticks(), Ordering::Relaxed);
        self.power.store(ON, Ordering::Release);
    }

    /// Stops it: its timers are stopped, and it keeps the state of a VP that is off.
    pub(crate) fn set_offline<H: Host>(&self, context: &Context<'_, H>) {
        self.synic().stop_timers(context);
        self.power.store(OFF, Ordering::Release);
    }

    pub(crate) fn save(&self, w: &mut Writer<'_>) {
        w.u8(self.power().into());
        w.u64(self.since.load(Ordering::Relaxed));
        w.u64(self.synthetic_vbar.load(Ordering::Relaxed));
        self.synic().save(w);
    }

    pub(crate) fn restore(&self, r: &mut Reader<'_>, ports: &[Port]) -> Result<(), RestoreError> {
        let powers = [Power::Off, Power::Starting, Power::On];
        let power = powers.get(usize::from(r.u8()?)).ok_or(RestoreError::Invalid("VP state"))?;
        self.since.store(r.u64()?, Ordering::Relaxed);
        self.synthetic_vbar.store(r.u64()?, Ordering::Relaxed);
        let mut synic = self.synic();
        synic.restore(r, ports)?;
        self.note_places(&synic);
        drop(synic);
        self.set_power(*power);
        Ok(())
    }

    fn set_power(&self, power: Power) {
        let value = match power {
            Power::Off => OFF,
            Power::Starting => STARTING,
            Power::On => ON,
        };
        self.power.store(value, Ordering::Release);
    }

    /// Returns the reference time since it came online: a substitute for its run time, since the partition is not told
    /// when the VP is descheduled.
    pub(crate) fn run_time(&self, now: ReferenceTime) -> ReferenceTime {
        now.saturating_sub(ReferenceTime(self.since.load(Ordering::Relaxed)))
    }

    pub(crate) fn synthetic_vbar(&self) -> &AtomicU64 {
        &self.synthetic_vbar
    }
}

#[cfg(feature = "testing")]
impl<R: RawMutex> Vp<R> {
    /// Returns the reference time at which the next of its synthetic timers expires, if one is armed and not blocked; 0
    /// for one that is no longer blocked.
    #[must_use]
    pub fn next_expiration(&self) -> Option<ReferenceTime> {
        self.synic().next_expiration()
    }
}
