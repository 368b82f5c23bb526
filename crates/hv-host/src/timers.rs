//! Synthetic timers of one VP: their registers, and when each expires. What an expiry does is in `expiry`.
//!
//! Source: TLFS, "Timers", "Synthetic Timers".

use hv_memory::Deadline;
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::FIRST_VALID_VECTOR;
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::timer::{STIMER_COUNT, StimerConfig};

use crate::image::invalid;
use hv_memory::save::{Reader, RestoreError, Writer};

/// Number of missed periods that a periodic timer makes up for; older ones are skipped.
const CATCH_UP: u64 = 8;
/// Minimum time between two expirations of a late timer: whatever period the guest chose, it gets to run in between.
const LEAST_INTERVAL: ReferenceTime = ReferenceTime(200);

/// A timer. All zeros after reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timer {
    pub(crate) config: StimerConfig,
    /// Its expiry, or its period.
    pub(crate) count: ReferenceTime,
    /// The configuration is in effect: `due` and `next` are valid.
    pub(crate) armed: bool,
    /// Waits for its buffer, its slot or its SynIC; it has no deadline until one of them changes.
    pub(crate) blocked: bool,
    /// Reference time at which it is due.
    pub(crate) due: ReferenceTime,
    /// When it expires: at `due`, or later while a late periodic timer catches up. Never while it is not armed or is
    /// blocked.
    pub(crate) next: Deadline,
    /// When it was due: for the message in its buffer.
    pub(crate) expired: ReferenceTime,
}

/// The timers of a VP.
#[derive(Debug)]
pub(crate) struct Timers {
    pub(crate) timers: [Timer; STIMER_COUNT],
    /// The deadline last passed to the embedder.
    pub(crate) deadline: Deadline,
}

impl Timer {
    const NEW: Self = Self {
        config: StimerConfig(0),
        count: ReferenceTime::ZERO,
        armed: false,
        blocked: false,
        due: ReferenceTime::ZERO,
        next: Deadline::NEVER,
        expired: ReferenceTime::ZERO,
    };

    /// Applies the registers. A period begins now.
    pub(crate) fn arm(&mut self, now: ReferenceTime) {
        self.blocked = false;
        self.armed = self.config.enable() && self.count != ReferenceTime::ZERO;
        self.due = if self.config.periodic() { now.saturating_add(self.count) } else { self.count };
        self.next = if self.armed { Deadline::at(self.due) } else { Deadline::NEVER };
    }

    /// Records that there was no room for its message.
    pub(crate) fn block(&mut self) {
        self.blocked = true;
        self.next = Deadline::NEVER;
    }

    /// Records that there may be room again. Returns true if it was blocked.
    pub(crate) fn unblock(&mut self) -> bool {
        let was = core::mem::take(&mut self.blocked);
        if was {
            self.next = Deadline::at(self.due);
        }
        was
    }

    /// Updates the timer after an expiration at `now`: a one-shot timer is disabled, a periodic one continues. Returns
    /// the number of skipped periods.
    #[inline]
    pub(crate) fn advance(&mut self, now: ReferenceTime) -> u64 {
        if !self.config.periodic() {
            self.armed = false;
            self.next = Deadline::NEVER;
            self.config = self.config.with_enable(false);
            return 0;
        }
        let period = self.period();
        self.due = self.due.saturating_add(period);
        if self.due > now {
            self.next = Deadline::at(self.due);
            return 0;
        }
        let missed = now.saturating_sub(self.due).ticks() / period.ticks() + 1;
        let skipped = if self.config.lazy() { missed } else { missed.saturating_sub(CATCH_UP) };
        self.skip(skipped);
        // Catches up with a shorter period, as described in the TLFS.
        let next = now.saturating_add(ReferenceTime(period.ticks() / 2).max(LEAST_INTERVAL));
        self.next = Deadline::at(if self.due > now { self.not_at_once(now) } else { next });
        skipped
    }

    /// Skips this expiration of a lazy timer whose VP did not run until shortly before the next. Returns the number of
    /// skipped periods.
    #[inline]
    pub(crate) fn lazy_skip(&mut self, now: ReferenceTime) -> u64 {
        let period = self.period().ticks();
        let late = now.saturating_sub(self.due).ticks();
        if !self.config.lazy() || !self.config.periodic() || late % period <= period - period / 4 {
            return 0;
        }
        let skipped = late / period + 1;
        self.skip(skipped);
        self.next = Deadline::at(self.not_at_once(now));
        skipped
    }

    /// Returns its period, never 0.
    fn period(&self) -> ReferenceTime {
        self.count.max(ReferenceTime(1))
    }

    /// Skips this many periods.
    fn skip(&mut self, periods: u64) {
        let time = periods.saturating_mul(self.period().ticks());
        self.due = self.due.saturating_add(ReferenceTime(time));
    }

    /// Returns the due time, or a later one if the period is so short that only the timer would run.
    fn not_at_once(&self, now: ReferenceTime) -> ReferenceTime {
        let short = self.count < LEAST_INTERVAL;
        let least = if short { now.saturating_add(LEAST_INTERVAL) } else { ReferenceTime::ZERO };
        self.due.max(least)
    }
}

/// Returns a configuration as it takes effect.
pub(crate) fn checked(config: StimerConfig) -> Result<StimerConfig, HvStatus> {
    let bad_vector = config.direct_mode() && config.enable() && config.vector() < FIRST_VALID_VECTOR;
    if config.reserved() != 0 || bad_vector {
        return Err(HvStatus::INVALID_PARAMETER);
    }
    let nowhere = config.sint() == 0 && !config.direct_mode();
    Ok(if nowhere { config.with_enable(false) } else { config })
}

impl Timers {
    pub(crate) const fn new() -> Self {
        Self { timers: [Timer::NEW; STIMER_COUNT], deadline: Deadline::NEVER }
    }

    pub(crate) fn save(&self, w: &mut Writer<'_>) {
        for timer in &self.timers {
            let fire_at = if timer.armed && !timer.blocked { timer.next.or_max() } else { timer.due };
            w.u64(timer.config.0);
            for time in [timer.count, timer.due, fire_at, timer.expired] {
                w.u64(time.ticks());
            }
            w.u8(u8::from(timer.armed) | u8::from(timer.blocked) << 1);
        }
    }

    pub(crate) fn restore(&mut self, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        for timer in &mut self.timers {
            let config = checked(StimerConfig(r.u64()?)).map_err(invalid("timer"))?;
            let [count, due, fire_at, expired] = [r.u64()?, r.u64()?, r.u64()?, r.u64()?].map(ReferenceTime);
            let flags = r.u8()?;
            let (armed, blocked) = (flags & 1 != 0, flags & 2 != 0);
            let runs = armed && !blocked;
            let fits = if runs { fire_at >= due } else { fire_at == due };
            if flags > 3
                || !fits
                || !armed && blocked
                || armed != (config.enable() && count != ReferenceTime::ZERO)
            {
                return Err(RestoreError::Invalid("timer"));
            }
            let next = if runs { Deadline::at(fire_at) } else { Deadline::NEVER };
            *timer = Timer { config, count, armed, blocked, due, next, expired };
        }
        Ok(())
    }

    pub(crate) fn config(&self, timer: usize) -> StimerConfig {
        self.timers[timer].config
    }

    pub(crate) fn count(&self, timer: usize) -> ReferenceTime {
        self.timers[timer].count
    }

    /// Returns when the first of them expires if nothing changes.
    #[inline]
    pub(crate) fn next(&self) -> Deadline {
        let first = self.timers.iter().map(|timer| timer.next.or_max()).min();
        first.map_or(Deadline::NEVER, Deadline::at)
    }

    /// Returns when the timer whose message is queued was due.
    pub(crate) fn expiration(&self, timer: usize) -> ReferenceTime {
        self.timers[timer].expired
    }
}
