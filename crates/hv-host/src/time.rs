//! Partition reference time: the counter register and the reference TSC page.
//!
//! Reference time counts 100 ns units from the partition's creation: `((counter * scale) >> 64) + offset`. The guest's
//! reference TSC page has the same scale and offset, so a guest that computes the time itself and one that reads the
//! register agree to the last bit.
//!
//! Source: TLFS, "Timers", "Reference Counter" and "Partition Reference Time Enlightenment".

use core::fmt;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use hv_tlfs::time::{CLOCK_HZ, ReferenceTime, ReferenceTscPage};
use lock_api::{Mutex, RawMutex};

use hv_memory::save::{Reader, RestoreError, Writer};
use hv_memory::{Deadline, GuestMemory};

use crate::overlay::{Overlay, Place};

const SEQUENCE: u64 = offset_of!(ReferenceTscPage, sequence) as u64;
const SCALE: u64 = offset_of!(ReferenceTscPage, scale) as u64;
const OFFSET: u64 = offset_of!(ReferenceTscPage, offset) as u64;

/// Scale and offset: a value of this type is always consistent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clock {
    /// Reference units per tick, in 1/2^64.
    pub(crate) scale: u64,
    /// Added to the scaled counter; two's complement.
    pub(crate) offset: u64,
    /// Ticks per reference unit: whole ticks and 1/2^64 of a tick. Never less than the inverse of `scale`.
    ticks: (u64, u64),
}

impl Clock {
    /// Creates the clock of a counter of `frequency` Hz that shows `now` at `counter`.
    fn new(frequency: u64, counter: u64, now: ReferenceTime) -> Self {
        // Below one tick per unit the scale does not fit its field. No ARM64 system has such a counter (since Armv8.6
        // it is 1 GHz, earlier ones have 19.2 MHz and more).
        let frequency = frequency.max(CLOCK_HZ + 1);
        let scale = (u128::from(CLOCK_HZ) << 64) / u128::from(frequency);
        // Rounded up where `scale` is rounded down: a deadline is never early.
        let ticks = u128::MAX / scale + 1;
        let mut clock = Self { scale: scale as u64, offset: 0, ticks: ((ticks >> 64) as u64, ticks as u64) };
        clock.offset = now.ticks().wrapping_sub(clock.at(counter).ticks());
        clock
    }

    /// Returns the reference time at this counter value.
    #[inline]
    pub(crate) fn at(&self, counter: u64) -> ReferenceTime {
        let scaled = (u128::from(counter) * u128::from(self.scale)) >> 64;
        ReferenceTime((scaled as u64).wrapping_add(self.offset))
    }

    /// Returns a counter value at which the reference time is `time` or a unit more, never less: the deadline of a
    /// timer.
    ///
    /// Returns `u64::MAX`, which no counter reaches, if there is none.
    #[inline]
    pub(crate) fn counter_at(&self, time: ReferenceTime) -> u64 {
        // Times beyond all counter values saturate.
        let units = match (self.offset as i64).is_negative() {
            true => time.ticks().saturating_add(self.offset.wrapping_neg()),
            false => time.ticks().saturating_sub(self.offset),
        };
        let (whole, fraction) = self.ticks;
        let part = (u128::from(units) * u128::from(fraction)) >> 64;
        u64::try_from(u128::from(units) * u128::from(whole) + part + 1).unwrap_or(u64::MAX)
    }
}

/// The partition's clock: read by every VP without a lock, changed under the page's lock.
pub(crate) struct SharedClock {
    /// Even: the fields below are consistent. Odd: they are being changed.
    version: AtomicU32,
    scale: AtomicU64,
    offset: AtomicU64,
    ticks: [AtomicU64; 2],
}

/// The partition's time.
pub(crate) struct PartitionTime<R> {
    clock: SharedClock,
    /// Location of the page.
    place: Place,
    page: Mutex<R, Page>,
}

/// The reference TSC page.
#[derive(Debug)]
struct Page {
    /// Frequency of the guest's counter in Hz.
    frequency: u64,
    /// The page, with its register.
    overlay: Overlay,
    /// The page's sequence number while it is valid; never 0.
    sequence: u32,
    /// False: the page says 0, and the guest must read the register.
    valid: bool,
}

impl<R: RawMutex> fmt::Debug for PartitionTime<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The version only counts changes: it is not part of the state.
        let mut fields = f.debug_struct("PartitionTime");
        fields.field("clock", &self.clock()).field("page", &self.page).finish()
    }
}

impl SharedClock {
    const fn new() -> Self {
        Self {
            version: AtomicU32::new(0),
            scale: AtomicU64::new(0),
            offset: AtomicU64::new(0),
            ticks: [const { AtomicU64::new(0) }; 2],
        }
    }

    /// Reads a consistent scale and offset.
    #[inline]
    pub(crate) fn clock(&self) -> Clock {
        loop {
            let before = self.version.load(Ordering::Acquire);
            let clock = Clock {
                scale: self.scale.load(Ordering::Relaxed),
                offset: self.offset.load(Ordering::Relaxed),
                ticks: (self.ticks[0].load(Ordering::Relaxed), self.ticks[1].load(Ordering::Relaxed)),
            };
            fence(Ordering::Acquire);
            if before & 1 == 0 && self.version.load(Ordering::Relaxed) == before {
                return clock;
            }
            core::hint::spin_loop();
        }
    }

    /// Returns the reference time at this counter value.
    #[inline]
    pub(crate) fn at(&self, counter: impl FnOnce() -> u64) -> ReferenceTime {
        loop {
            let before = self.version.load(Ordering::Acquire);
            let scale = self.scale.load(Ordering::Relaxed);
            let offset = self.offset.load(Ordering::Relaxed);
            fence(Ordering::Acquire);
            if before & 1 == 0 && self.version.load(Ordering::Relaxed) == before {
                return Clock { scale, offset, ticks: (0, 0) }.at(counter());
            }
            core::hint::spin_loop();
        }
    }

    /// Returns the counter value at which a deadline expires, unless the counter never reaches it.
    pub(crate) fn counter_at(&self, deadline: Deadline) -> Option<u64> {
        let time = deadline.time()?;
        let counter = self.clock().counter_at(time);
        (counter != u64::MAX).then_some(counter)
    }

    /// Updates the clock. The caller holds the page's lock, so there is only one writer.
    fn store(&self, clock: Clock) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        self.scale.store(clock.scale, Ordering::Relaxed);
        self.offset.store(clock.offset, Ordering::Relaxed);
        self.ticks[0].store(clock.ticks.0, Ordering::Relaxed);
        self.ticks[1].store(clock.ticks.1, Ordering::Relaxed);
        self.version.store(version.wrapping_add(2), Ordering::Release);
    }
}

impl<R: RawMutex> PartitionTime<R> {
    pub(crate) const fn new() -> Self {
        Self {
            clock: SharedClock::new(),
            place: Place::new(),
            page: Mutex::new(Page { frequency: 0, overlay: Overlay::new(), sequence: 0, valid: false }),
        }
    }

    /// Returns the clock, as the VPs read it.
    pub(crate) const fn shared(&self) -> &SharedClock {
        &self.clock
    }

    fn clock(&self) -> Clock {
        self.clock.clock()
    }

    /// Returns the reference time at this counter value.
    #[inline(always)]
    pub(crate) fn at(&self, counter: impl FnOnce() -> u64) -> ReferenceTime {
        self.clock.at(counter)
    }

    /// Starts the time: `now` at `counter`; the page is off, as after creation.
    pub(crate) fn reset(&self, frequency: u64, counter: u64, now: ReferenceTime) {
        let mut page = self.page.lock();
        page.overlay.reset();
        self.place.note(&page.overlay);
        (page.frequency, page.sequence, page.valid) = (frequency, 1, true);
        self.clock.store(Clock::new(frequency, counter, now));
    }

    /// Returns the reference TSC register.
    pub(crate) fn page_register(&self) -> u64 {
        self.page.lock().overlay.register()
    }

    /// Returns the page's sequence number; 0 while it is invalid.
    pub(crate) fn page_sequence(&self) -> u32 {
        let page = self.page.lock();
        if page.valid { page.sequence } else { 0 }
    }

    /// Calls a function with the page as an overlay, and records its location.
    pub(crate) fn with_page_overlay<T>(&self, work: impl FnOnce(&mut Overlay) -> T) -> T {
        let overlay = &mut self.page.lock().overlay;
        let result = work(overlay);
        self.place.note(overlay);
        result
    }

    /// Returns the location of the page.
    pub(crate) const fn place(&self) -> &Place {
        &self.place
    }

    /// Writes the page after its register was written. All of it belongs to the hypervisor: what the guest left there
    /// while it was enabled before is overwritten.
    pub(crate) fn renew_page(&self, memory: &impl GuestMemory) {
        let mut page = self.page.lock();
        if !page.overlay.shown() {
            page.overlay.clear();
        }
        self.fill(&mut page, memory);
    }

    /// Changes scale and offset as a migration does: the reference time continues from `now`, while the guest's counter
    /// reads `counter` and runs at `frequency` from there. The page's sequence number changes.
    pub(crate) fn migrate(
        &self,
        memory: &impl GuestMemory,
        frequency: u64,
        counter: u64,
        now: ReferenceTime,
    ) -> u32 {
        let mut page = self.page.lock();
        invalidate(&mut page, memory);
        self.clock.store(Clock::new(frequency, counter, now));
        page.frequency = frequency;
        page.sequence = page.sequence.wrapping_add(1).max(1);
        self.fill(&mut page, memory);
        if page.valid { page.sequence } else { 0 }
    }

    pub(crate) fn save(&self, w: &mut Writer<'_>, counter: u64) {
        let page = self.page.lock();
        let clock = self.clock();
        w.u64(clock.at(counter).ticks());
        w.u64(clock.scale);
        w.u64(clock.offset);
        w.u64(page.frequency);
        w.u32(page.sequence);
        w.u8(u8::from(page.valid));
        page.overlay.save(w);
    }

    /// Restores the clock, whose time continues. Unless the counter does as well, the page's contents change, and its
    /// sequence number with them.
    pub(crate) fn restore(
        &self,
        r: &mut Reader<'_>,
        memory: &impl GuestMemory,
        counter: u64,
    ) -> Result<(), RestoreError> {
        let [now, scale, offset, frequency] = [r.u64()?, r.u64()?, r.u64()?, r.u64()?];
        let (sequence, valid) = (r.u32()?, r.flag("reference time")?);
        if sequence == 0 {
            return Err(RestoreError::Invalid("reference time"));
        }
        let clock = Clock::new(frequency, counter, ReferenceTime(now));
        let same = clock.scale == scale && clock.offset == offset;
        let sequence = if same { sequence } else { sequence.wrapping_add(1).max(1) };
        let mut page = self.page.lock();
        (page.frequency, page.sequence, page.valid) = (frequency, sequence, valid);
        page.overlay.restore(r)?;
        self.place.note(&page.overlay);
        self.clock.store(clock);
        self.fill(&mut page, memory);
        Ok(())
    }

    /// Makes the page valid or invalid; an invalid page sends the guest to the register.
    pub(crate) fn set_page_valid(&self, memory: &impl GuestMemory, valid: bool) -> u32 {
        let mut page = self.page.lock();
        if valid && !page.valid {
            page.sequence = page.sequence.wrapping_add(1).max(1);
        }
        page.valid = valid;
        self.fill(&mut page, memory);
        if valid { page.sequence } else { 0 }
    }

    /// Writes a sequence number that differs from the page's.
    pub(crate) fn disturb(&self, memory: &impl GuestMemory, sequence: u32) {
        let page = &mut self.page.lock().overlay;
        if page.enabled() {
            let _ = page.store(memory, SEQUENCE, sequence);
        }
    }

    /// Writes the page's contents.
    fn fill(&self, page: &mut Page, memory: &impl GuestMemory) {
        if !page.overlay.enabled() {
            return;
        }
        invalidate(page, memory);
        if page.valid {
            memory.fence();
            let clock = self.clock();
            let overlay = &mut page.overlay;
            let written = overlay
                .write(memory, SCALE, &clock.scale.to_le_bytes())
                .and_then(|()| overlay.write(memory, OFFSET, &clock.offset.to_le_bytes()))
                .and_then(|()| overlay.store(memory, SEQUENCE, page.sequence));
            // A visible page is in guest memory.
            let _ = written;
        }
    }
}

/// Writes sequence 0 first: a guest that reads while scale and offset change falls back to the register or sees the
/// sequence change.
fn invalidate(page: &mut Page, memory: &impl GuestMemory) {
    if page.overlay.enabled() {
        let _ = page.overlay.store(memory, SEQUENCE, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_at_zero_and_counts_in_100_ns() {
        for frequency in [19_200_000, 24_000_000, 25_000_000, 62_500_000, 1_000_000_000] {
            let clock = Clock::new(frequency, 123_456_789, ReferenceTime::ZERO);
            assert_eq!(clock.at(123_456_789), ReferenceTime::ZERO);
            let hour = clock.at(123_456_789 + 3600 * frequency).ticks();
            assert!(hour.abs_diff(3600 * CLOCK_HZ) <= 1, "{frequency}: {hour}");
        }
    }

    #[test]
    fn a_deadline_is_never_early_and_at_most_a_unit_late() {
        for frequency in
            [10_000_001, 19_200_000, 24_000_000, 62_500_000, 100_000_000, 1_000_000_000, 3_700_000_001]
        {
            // Counters that started before the time and after it.
            for (counter, now) in [(0, 0), (987_654_321, 0), (5, 1 << 50)] {
                let clock = Clock::new(frequency, counter, ReferenceTime(now));
                for time in [0, 1, 2, 9, 10, 1_000_003, 86_400 * CLOCK_HZ, 1 << 48, 1 << 54] {
                    let time = now + time;
                    let at = clock.at(clock.counter_at(ReferenceTime(time))).ticks();
                    assert!(at >= time, "{frequency} {time}: {at}");
                    assert!(at <= time + 1, "{frequency} {time}: {at}");
                }
            }
        }
        // Deadlines in the past need no wait.
        assert!(Clock::new(62_500_000, 5, ReferenceTime(1 << 50)).counter_at(ReferenceTime(1 << 49)) <= 1);
    }

    #[test]
    fn a_deadline_beyond_all_counters_is_never() {
        for counter in [0, 5_000_000_000] {
            let clock = Clock::new(1_000_000_000, counter, ReferenceTime::ZERO);
            assert_eq!(clock.counter_at(ReferenceTime::MAX), u64::MAX);
            assert_eq!(clock.counter_at(ReferenceTime(u64::MAX - 500_000_000)), u64::MAX);
        }
    }
}
