//! Timers and the clock.

mutants! {
    "hv-host/src/timers.rs" {
        disabled_timer_runs "A disabled timer runs.":
            "self.config.enable()" => "true";
        count_zero_runs "A timer with count 0 runs.":
            "self.count != ReferenceTime::ZERO" => "true";
        period_absolute "A period is a time.":
            "now.saturating_add(self.count)" => "self.count";
        one_shot_relative "A one-shot count is a span.":
            "self.count" in "else { self.count };" => "now.saturating_add(ReferenceTime(self.count.ticks() / 2))";
        periodic_once "A periodic timer expires once.":
            "!self.config.periodic()" in "if !self.config.periodic() { self.armed = false" => "true";
        one_shot_stays_enabled "A one-shot timer stays enabled.":
            "self.config = self.config.with_enable(false)" => "self.config = self.config.with_enable(true)";
        sint_zero_refused "No timer may have SINT 0.":
            "config.direct_mode() && config.enable() && config.vector() < FIRST_VALID_VECTOR"
            => "config.sint() == 0 && config.0 != 0";
        timer_reserved_accepted "Reserved bits of a configuration stay.":
            "config.reserved() != 0" => "false";
        sint_zero_allowed "An enabled timer may have SINT 0.":
            "config.sint() == 0 && !config.direct_mode()" => "false";
        timer_config_cut "A timer configuration does not read as written.":
            "self.timers[timer].config" => "self.timers[timer].config.with_lazy(false)";
        timer_count_cut "A timer count does not read as written.":
            "self.timers[timer].count" => "ReferenceTime(self.timers[timer].count.ticks() as u32 as u64)";
        direct_low_vector "A direct timer takes any vector.":
            "config.direct_mode() && config.enable() && config.vector() < FIRST_VALID_VECTOR" => "false"
            survives "The TLFS does not say which vectors a direct timer has.";
        missed_periods_lost "Periods that were missed are never made up for.":
            "missed.saturating_sub(CATCH_UP)" => "missed"
            survives "The TLFS lets a host leave out expirations that were missed.";
        timer_lazy_at_first "A timer is lazy after reset.":
            "self.timers[timer].config"
            => "if self.timers[timer].count == ReferenceTime::ZERO { StimerConfig(4) } else { self.timers[timer].config }";
        period_drifts "Periods after the first are twice as long.":
            "self.due.saturating_add(period)" => "self.due.saturating_add(period.saturating_add(period))";
        timer_early "Timers expire 50 microseconds early.":
            "if self.armed { Deadline::at(self.due) } else { Deadline::NEVER }"
            => "if self.armed { Deadline::at(self.due.saturating_sub(ReferenceTime(500))) } else { Deadline::NEVER }";
        timers_late "Timers expire three seconds late.":
            "if self.armed { Deadline::at(self.due) } else { Deadline::NEVER }"
            => "if self.armed { Deadline::at(self.due.saturating_add(ReferenceTime(30_000_000))) } else { Deadline::NEVER }";
    }

    "hv-host/src/expiry.rs" {
        zero_count_keeps_enable "Count 0 leaves the timer enabled.":
            "count == ReferenceTime::ZERO" => "false";
        auto_enable_ignored "Auto-enable enables nothing.":
            "config.auto_enable()" => "false";
        auto_enable_nowhere "Auto-enable enables a timer with SINT 0.":
            "may_run" in "config.auto_enable() && may_run" => "true";
        direct_sends_message "A direct timer sends a message.":
            "config.direct_mode()" in "= self.timers.timers[timer]; if config.direct_mode() {" => "false";
        direct_is_silent "A direct timer raises no interrupt.":
            "interrupt(context.host, context.vp, u32::from(config.vector()), Cause::Timer(timer as u8))"
            => "()";
        count_enables "A count enables its timer without auto-enable.":
            "config.auto_enable()" => "true";
        timers_never_settle "A timer that is due never lets its VP go on.":
            "!self.queues.take_timer_freed()" => "false";
        blocked_timer_forgotten "A timer without a buffer does not go on when it has one again.":
            "self.run_blocked_timers(context)" in "take_timer_freed() { self.run_blocked_timers(context)"
            => "()";
        timer_sint_wrong "A timer sends to another SINT.":
            "usize::from(state.config.sint())" => "usize::from(state.config.sint()) ^ 1";
    }

    "hv-host/src/time.rs" {
        clock_fast "Register and page run too fast.":
            "(u128::from(CLOCK_HZ) << 64) / u128::from(frequency)"
            => "(u128::from(CLOCK_HZ) << 64) / u128::from(frequency - (frequency >> 8))";
        clock_slow "The register runs slower than the page.":
            "u128::from(self.scale)" => "u128::from(self.scale - (self.scale >> 10))";
        tsc_register_cut "The reference TSC register does not read as written.":
            "self.page.lock().overlay.register()" => "self.page.lock().overlay.register() & !1";
        migration_forgets_clock "A migration leaves the clock as it was.":
            "Clock::new(frequency, counter, now)"
            in "self.clock.store(Clock::new(frequency, counter, now)); page.frequency" => "self.clock()";
        sequence_stands "A migration leaves the page's sequence.":
            "page.sequence.wrapping_add(1).max(1)"
            in "page.frequency = frequency; page.sequence = page.sequence.wrapping_add(1).max(1)"
            => "page.sequence";
        clock_page_reserved "The reserved bytes of the reference TSC page are not zero.":
            "page.overlay.clear()" => "{ let _ = page.overlay.store(memory, 100, 7); }";
        page_not_filled "The reference TSC page is not written.":
            "page.valid" in "if page.valid { memory.fence" => "false";
        sequence_register_wrong "The sequence register is not the page's.":
            "if page.valid { page.sequence } else { 0 }"
            in "self.page.lock(); if page.valid { page.sequence } else { 0 }" => "page.sequence + 1";
        invalid_page_stays "A page that is not valid says that it is.":
            "page.overlay.enabled()"
            in "fn invalidate(page: &mut Page, memory: &impl GuestMemory) { if page.overlay.enabled()"
            => "false";
        offset_missing "The page's offset is zero.":
            "clock.offset.to_le_bytes()" => "0u64.to_le_bytes()";
        offset_lost "The reference time is the scaled counter, whatever came before.":
            "self.offset.store(clock.offset, Ordering::Relaxed)" => "()";
    }
}
