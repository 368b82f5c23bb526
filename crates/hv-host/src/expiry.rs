//! Synthetic timers at work: they are set and stopped, they expire, and they wait for room for their messages.
//!
//! Source: TLFS, "Timers", "Synthetic Timers".

use hv_memory::Deadline;
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::FIRST_VALID_VECTOR;
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::timer::{STIMER_COUNT, StimerConfig};
use lock_api::RawMutex;

use crate::event::{Cause, Event, TimerEvent};
use crate::host::Host;
use crate::partition::Partition;
use crate::synic::{Context, Synic, interrupt};
use crate::timers::{Timer, Timers, checked};

impl<R: RawMutex> Partition<'_, R> {
    /// Expires the timers of a VP that are due: its deadline ([`Host::set_deadline`]) has passed, or a spurious
    /// interrupt says so, or the clock was changed ([`migrate`](Self::migrate)). Any thread may call it.
    pub fn timer_expired(&self, host: &impl Host, vp: usize) {
        if let Some(state) = self.vps().get(vp) {
            state.synic().timers_woken(&self.context(host, vp));
        }
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

    /// Expires what is due: the embedder's timer has fired, or the clock was changed, so the last deadline no longer
    /// counts.
    pub(crate) fn timers_woken<H: Host>(&mut self, context: &Context<'_, H>) {
        self.expire_due(context, context.time.at(|| context.host.counter()));
        self.timers.deadline = self.timers.next();
        self.renew_deadline(context);
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
