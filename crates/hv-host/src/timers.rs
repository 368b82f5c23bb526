//! Synthetic timers of one VP.
//!
//! Source: TLFS, "Timers", "Synthetic Timers".

use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::FIRST_VALID_VECTOR;
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::timer::{STIMER_COUNT, StimerConfig};

use crate::deadline::Deadline;
use crate::event::{Cause, Event, TimerEvent};
use crate::host::Host;
use crate::image::invalid;
use crate::synic::{Context, Synic, interrupt};
use hv_memory::save::{Reader, RestoreError, Writer};

/// Number of missed periods that a periodic timer makes up for; older ones are skipped.
const CATCH_UP: u64 = 8;
/// Minimum time between two expirations of a late timer: whatever period the guest chose, it gets to run in between.
const LEAST_INTERVAL: ReferenceTime = ReferenceTime(200);

/// A timer. All zeros after reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Timer {
    config: StimerConfig,
    /// Its expiry, or its period.
    count: ReferenceTime,
    /// The configuration is in effect: `due` and `fire_at` are valid.
    armed: bool,
    /// Waits for its buffer, its slot or its SynIC; it has no deadline until one of them changes.
    blocked: bool,
    /// Reference time at which it is due.
    due: ReferenceTime,
    /// When it expires: at `due`, or later while a late periodic timer catches up. Never while it is not armed or is
    /// blocked.
    next: Deadline,
    /// When it was due: for the message in its buffer.
    expired: ReferenceTime,
}

/// The timers of a VP.
#[derive(Debug)]
pub(crate) struct Timers {
    timers: [Timer; STIMER_COUNT],
    /// The deadline last passed to the embedder.
    deadline: Deadline,
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
    fn arm(&mut self, now: ReferenceTime) {
        self.blocked = false;
        self.armed = self.config.enable() && self.count != ReferenceTime::ZERO;
        self.due = if self.config.periodic() { now.saturating_add(self.count) } else { self.count };
        self.next = if self.armed { Deadline::at(self.due) } else { Deadline::NEVER };
    }

    /// Records that there was no room for its message.
    fn block(&mut self) {
        self.blocked = true;
        self.next = Deadline::NEVER;
    }

    /// Records that there may be room again. Returns true if it was blocked.
    fn unblock(&mut self) -> bool {
        let was = core::mem::take(&mut self.blocked);
        if was {
            self.next = Deadline::at(self.due);
        }
        was
    }

    /// Updates the timer after an expiration at `now`: a one-shot timer is disabled, a periodic one continues. Returns
    /// the number of skipped periods.
    fn advance(&mut self, now: ReferenceTime) -> u64 {
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

    /// A lazy timer whose VP did not run until shortly before the next expiration skips this one.
    fn lazy_skip(&mut self, now: ReferenceTime) -> u64 {
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

/// A configuration as it takes effect.
fn checked(config: StimerConfig) -> Result<StimerConfig, HvStatus> {
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
                || armed && !(config.enable() && count != ReferenceTime::ZERO)
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
    fn next(&self) -> Deadline {
        let first = self.timers.iter().map(|timer| timer.next.or_max()).min();
        first.map_or(Deadline::NEVER, Deadline::at)
    }

    /// Returns when the timer whose message is queued was due.
    pub(crate) fn expiration(&self, timer: usize) -> ReferenceTime {
        self.timers[timer].expired
    }
}

impl Synic {
    /// Writes a timer's configuration register.
    pub(crate) fn set_timer_config<H: Host>(
        &mut self,
        context: &Context<'_, H>,
        timer: usize,
        mut config: StimerConfig,
    ) -> Result<(), HvStatus> {
        config = checked(config)?;
        self.timers.timers[timer].config = config;
        self.start_timer(context, timer);
        Ok(())
    }

    /// Writes a timer's count register.
    pub(crate) fn set_timer_count<H: Host>(
        &mut self,
        context: &Context<'_, H>,
        timer: usize,
        count: ReferenceTime,
    ) {
        let state = &mut self.timers.timers[timer];
        state.count = count;
        let config = state.config;
        let may_run = config.direct_mode() && config.vector() >= FIRST_VALID_VECTOR
            || !config.direct_mode() && config.sint() != 0;
        if count == ReferenceTime::ZERO {
            state.config = config.with_enable(false);
        } else if config.auto_enable() && may_run {
            state.config = config.with_enable(true);
        }
        self.start_timer(context, timer);
    }

    /// Applies a timer's registers. A queued message of its last expiration is dropped, as in KVM and openvmm; the TLFS
    /// does not specify this.
    #[inline(always)]
    fn start_timer<H: Host>(&mut self, context: &Context<'_, H>, timer: usize) {
        if self.queues.timer_waits(timer) {
            self.drop_timer_message(context, timer);
        }
        let state = &mut self.timers.timers[timer];
        let was_armed = state.armed;
        let now = context.time.at(|| context.host.counter());
        state.arm(now);
        let what = match state.armed {
            true => TimerEvent::Armed(state.due),
            false if was_armed => TimerEvent::Stopped,
            false => return,
        };
        let due = state.next.is_due(now);
        context.host.observe(&Event::Timer { vp: context.vp, timer: timer as u8, what });
        self.run_timers(context, now, due);
    }

    /// Expires what is due and sets the next deadline. `due`: something is due, or may be.
    #[inline(always)]
    fn run_timers<H: Host>(&mut self, context: &Context<'_, H>, now: ReferenceTime, due: bool) {
        let mut next = if due { Deadline::NEVER } else { self.timers.next() };
        if due || next.is_due(now) || self.queues.timer_freed() {
            self.expire_due(context, now);
            next = self.timers.next();
        }
        if self.timers.deadline != next {
            self.timers.deadline = next;
            self.renew_deadline(context);
        }
    }

    /// Sets the current deadline again.
    #[inline(never)]
    pub(crate) fn renew_deadline<H: Host>(&self, context: &Context<'_, H>) {
        context.host.set_deadline(context.vp, context.time.counter_at(self.timers.deadline));
    }

    #[inline(never)]
    fn expire_due<H: Host>(&mut self, context: &Context<'_, H>, now: ReferenceTime) {
        loop {
            // An expiration is later than `now` afterwards, so both loops end after as many rounds as there are timers.
            while let Some(timer) = self.timers.timers.iter().position(|timer| timer.next.is_due(now)) {
                self.expire(context, timer, now);
            }
            if !self.queues.take_timer_freed() {
                break;
            }
            self.unblock_timers();
        }
    }

    /// Expires what is due: the embedder's timer has fired, or the clock was changed, so the last deadline no longer counts.
    pub(crate) fn timers_woken<H: Host>(&mut self, context: &Context<'_, H>) {
        let before = self.timers.deadline;
        self.run_timers(context, context.time.at(|| context.host.counter()), true);
        if self.timers.deadline == before {
            self.renew_deadline(context);
        }
    }

    /// Stops all timers of a VP that stops; their undelivered messages are dropped.
    pub(crate) fn stop_timers<H: Host>(&mut self, context: &Context<'_, H>) {
        self.timers = Timers::new();
        for timer in 0..STIMER_COUNT {
            self.drop_timer_message(context, timer);
        }
        self.renew_deadline(context);
    }

    fn unblock_timers(&mut self) -> bool {
        let mut any = false;
        for state in &mut self.timers.timers {
            any |= state.unblock();
        }
        any
    }

    /// Resumes timers: the SynIC was enabled, or a buffer became free.
    #[inline(never)]
    pub(crate) fn run_blocked_timers<H: Host>(&mut self, context: &Context<'_, H>) {
        if self.unblock_timers() {
            let now = context.time.at(|| context.host.counter());
            self.run_timers(context, now, true);
        }
    }

    /// Resumes a timer whose buffer was freed by a delivery.
    #[inline]
    pub(crate) fn settle_timers<H: Host>(&mut self, context: &Context<'_, H>) {
        if self.queues.take_timer_freed() {
            self.run_blocked_timers(context);
        }
    }

    /// Returns true if a timer waits for nothing and would do so forever: only damaged saved state can say that.
    pub(crate) fn has_stuck_timer(&self) -> bool {
        let ready = self.control.enable() && self.message_page.enabled() && !self.queues.timer_freed();
        let mut timers = self.timers.timers.iter().enumerate();
        ready
            && timers.any(|(number, state)| state.armed && state.blocked && !self.queues.timer_waits(number))
    }

    #[inline]
    fn expire<H: Host>(&mut self, context: &Context<'_, H>, timer: usize, now: ReferenceTime) {
        let tell = |what| context.host.observe(&Event::Timer { vp: context.vp, timer: timer as u8, what });
        let skipped = self.timers.timers[timer].lazy_skip(now);
        if skipped != 0 {
            return tell(TimerEvent::Skipped(skipped));
        }
        let Timer { config, due, .. } = self.timers.timers[timer];
        if config.direct_mode() {
            interrupt(context.host, context.vp, u32::from(config.vector()), Cause::Timer(timer as u8));
        } else if !self.send_expiration(context, timer, now) {
            self.timers.timers[timer].block();
            return tell(TimerEvent::Blocked);
        }
        tell(TimerEvent::Expired(due, now));
        let skipped = self.timers.timers[timer].advance(now);
        if skipped != 0 {
            tell(TimerEvent::Skipped(skipped));
        }
    }

    /// Sends the message of a timer that is due. Returns false if its buffer is in use, or the SynIC is off.
    #[inline(never)]
    fn send_expiration<H: Host>(
        &mut self,
        context: &Context<'_, H>,
        timer: usize,
        now: ReferenceTime,
    ) -> bool {
        if self.queues.timer_waits(timer) {
            return false;
        }
        let state = &mut self.timers.timers[timer];
        state.expired = state.due;
        let sint = usize::from(state.config.sint());
        self.post_timer(context, timer, sint, now)
    }
}

#[cfg(feature = "testing")]
impl Synic {
    /// Returns the reference time at which the next armed timer expires; 0 if one was blocked and no longer is.
    pub(crate) fn next_expiration(&self) -> Option<ReferenceTime> {
        let ready = self.control.enable() && self.message_page.enabled();
        let times = self.timers.timers.iter().enumerate().filter(|(_, timer)| timer.armed);
        let times = times.filter_map(|(number, timer)| match timer.blocked {
            false => Some(timer.next.or_max()),
            true => (ready && !self.queues.timer_waits(number)).then_some(ReferenceTime::ZERO),
        });
        times.min()
    }
}
