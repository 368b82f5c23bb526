//! VP registers, and what a reset leaves of them.

mutants! {
    "hv-host/src/registers.rs" {
        late_registers_open "Every register can be used without a guest OS id.":
            "self.guest_os_id().load(Ordering::Relaxed) != 0" => "true";
        unknown_register_reads "An unknown register can be read.":
            "needs(name).ok_or(HvStatus::UNKNOWN_REGISTER_NAME)?" => "needs(name).unwrap_or(Needs::Nothing)";
        early_registers_closed "No register can be read without a guest OS id.":
            "true" in "Needs::Nothing => true" => "name == Name::GUEST_OS_ID || identified()";
        crash_feature_ignored "Crash registers are there without their feature.":
            "features.c.guest_crash()" => "true";
        vp_indices_are_one "All VPs have one index.":
            "target as u64" => "0";
        clock_warps "The second VP lives in the past.":
            "Ok(value(self.reference_time(host).ticks()))"
            => "Ok(value(self.reference_time(host).ticks().saturating_sub(1000 * target as u64)))";
        crash_not_told_of "The crash control register tells of no notification.":
            "Crash::CAPABILITIES" => "0";
        crash_parameters_are_one "All crash parameters read as the first.":
            "self.crash().parameter((n - CRASH_FIRST) as usize).load(Ordering::Relaxed)"
            => "self.crash().parameter(0).load(Ordering::Relaxed)";
        synic_version_wrong "The SynIC is of another version.":
            "value(VERSION_1)" => "value(VERSION_1 + 1)";
        vp_limit_short "The limit of VPs is below their number.":
            "self.vp_count() as u32" => "1";
        no_frequency "The frequency registers are zero.":
            "self.config().counter_frequency / 1000" => "0";
        direct_mode_unoffered "Direct mode works where it is not offered.":
            "config.direct_mode() && !self.config().profile.features.c.direct_synthetic_timers()" => "false";
        high_bits_accepted "Bits beyond a register are ignored.":
            "low(new)?" in "let new = low(new)?;" => "new.low";
        sints_are_one "All SINTs are one register.":
            "state.synic().set_sint((n - SINT_FIRST) as usize, sint)"
            => "state.synic().set_sint((n & 1) as usize, sint)";
        guest_id_sticky "The guest OS id cannot be taken back.":
            "self.guest_os_id().swap(new, Ordering::AcqRel)"
            => "self.guest_os_id().swap(new | self.guest_os_id().load(Ordering::Acquire), \
                Ordering::AcqRel)";
        assist_page_lost "The VP assist page register does not keep its value.":
            "self.set_overlay(host, OverlayId::Assist(vp), new)"
            => "self.set_overlay(host, OverlayId::Assist(vp), new & 1)";
        read_only_accepted "Read-only registers take any value.":
            "return Err(HvStatus::INVALID_PARAMETER)" in "_ => return Err(HvStatus::INVALID_PARAMETER)"
            => "()";
        event_page_cut "SIEFP does not read as written.":
            "synic.event_page.register()" => "synic.event_page.register() & !1";
        message_page_cut "SIMP does not read as written.":
            "synic.message_page.register()" => "synic.message_page.register() & !1";
        counter_without_privilege "The reference counter can be read without its privilege.":
            "!self.config().profile.features.privileges.access_reference_counter()" => "false";
        privileges_of_registers_ignored "Registers can be used without their privilege.":
            "features.privileges.0 & wanted.0 == wanted.0 && identified()" => "identified()";
        eom_reads_as_one "EOM does not read as zero.":
            "value(0)" in "Name::EOM => value(0)" => "value(1)";
        crash_parameter_high_bits "Bits beyond a crash parameter are ignored.":
            "low(new)?" in "store(low(new)?, Ordering::Relaxed)" => "new.low";
        timer_high_bits "Bits beyond a timer register are ignored.":
            "low(new)?" in "n - TIMER_FIRST, low(new)?" => "new.low";
        polling_unoffered "Polling mode works where it is not offered.":
            "sint.polling() && !self.config().profile.features.c.sint_polling_mode()" => "false"
            survives "The TLFS does not say that a host refuses what it does not offer.";
        response_page_lost "SIRBP does not keep its value.":
            "state.synic().response_page = new" => "state.synic().response_page = 0"
            survives "The TLFS names the register and says nothing else of it.";
        counter_stands "The reference counter stands still.":
            "Ok(value(self.reference_time(host).ticks()))" => "Ok(value(1))";
        counter_goes_back "The reference counter goes back now and then.":
            "Ok(value(self.reference_time(host).ticks()))" => "Ok(value(self.reference_time(host).ticks() ^ 0x3f))";
        counter_needs_the_guest_id "The reference counter cannot be read without a guest OS id.":
            "!self.config().profile.features.privileges.access_reference_counter()"
            => "!self.config().profile.features.privileges.access_reference_counter() || \
                self.guest_os_id().load(Ordering::Acquire) == 0";
        counter_written "A refused write of the reference counter changes it.":
            "return Err(HvStatus::INVALID_PARAMETER)" in "_ => return Err(HvStatus::INVALID_PARAMETER)"
            => "return { self.time().migrate(host.memory(), self.config().counter_frequency, \
                host.counter(), ReferenceTime(new)); Err(HvStatus::INVALID_PARAMETER) }";
        index_changes "A VP index changes with the time.":
            "value(target as u64)" => "value(target as u64 ^ u64::from(host.counter() > 1_000))";
        index_is_special "VP indices are beyond the most VPs that a partition can have.":
            "value(target as u64)" => "value(target as u64 | 0x1_0000)";
        crash_needs_the_guest_id "Crash registers cannot be read without a guest OS id.":
            "features.c.guest_crash()" in "Needs::CrashFeature => features.c.guest_crash()"
            => "features.c.guest_crash() && identified()";
        guest_id_unreadable_early "The guest OS id cannot be read while it is zero.":
            "value(self.guest_os_id().load(Ordering::Acquire))"
            => "match self.guest_os_id().load(Ordering::Acquire) { 0 => return \
                Err(HvStatus::ACCESS_DENIED), id => value(id) }";
        discovery_by_vp "Features are told to the first VP only.":
            "self.discovery(name)" in "_ => self.discovery(name)"
            => "if target == 0 { self.discovery(name) } else { value(0) }";
        crash_capabilities_by_vp "The crash control register differs from VP to VP.":
            "value(Crash::CAPABILITIES)" => "value(Crash::CAPABILITIES >> target)";
        reset_recommended "A reset by register is recommended.":
            "profile.enlightenments.to_register()"
            => "{ let mut told = profile.enlightenments; told.hints.0 |= u32::MAX; told.to_register() }";
        unknown_register_sets "An unknown register can be set.":
            "self.set_rare_register(host, vp, name, new)"
            => "if needs(name).is_none() { Ok(()) } else { self.set_rare_register(host, vp, name, new) }";
        far_message_page_refused "SIMP has to lie in the guest's memory.":
            "self.set_overlay(host, OverlayId::Messages(vp), new)"
            => "if new >> 52 != 0 { return Err(HvStatus::INVALID_PARAMETER) } else { \
                self.set_overlay(host, OverlayId::Messages(vp), new) }";
        far_event_page_refused "SIEFP has to lie in the guest's memory.":
            "self.set_overlay(host, OverlayId::Events(vp), new)"
            => "if new >> 52 != 0 { return Err(HvStatus::INVALID_PARAMETER) } else { \
                self.set_overlay(host, OverlayId::Events(vp), new) }";
        far_tsc_page_refused "The reference TSC page has to lie in the guest's memory.":
            "self.set_overlay(host, OverlayId::Time, new)"
            => "if new >> 52 != 0 { return Err(HvStatus::INVALID_PARAMETER) } else { \
                self.set_overlay(host, OverlayId::Time, new) }";
        timers_of_vp_0 "All VPs write the timers of the first.":
            "self.vps().get(vp)"
            in "index: u32, new: u64) -> Result<(), HvStatus> { let state = self.vps().get(vp)"
            => "self.vps().first()";
        timers_are_two "Two timers each share their registers.":
            "index as usize / 2" => "index as usize / 4";
        control_reads_as_zero "SCONTROL does not read as written.":
            "synic.control.0" => "0";
        far_count_refused "A count beyond the next years is refused.":
            "state.synic().set_timer_count(context, timer, ReferenceTime(new))"
            => "if new >> 62 != 0 { return Err(HvStatus::INVALID_PARAMETER) } else { \
                state.synic().set_timer_count(context, timer, ReferenceTime(new)) }";
        synic_of_vp_0 "All VPs write the SynIC of the first.":
            "self.vps().get(vp)" in "let new = low(new)?; let state = self.vps().get(vp)" => "self.vps().first()";
        synic_read_of_vp_0 "All VPs read the SynIC of the first.":
            "get_synic(vp, name)" in "value(get_synic(vp, name))" => "get_synic(&self.vps()[0], name)";
        page_rewritten "The reference TSC page changes as the counter is read.":
            "Ok(value(self.reference_time(host).ticks()))"
            => "{ self.time().set_page_valid(host.memory(), false); \
                self.time().set_page_valid(host.memory(), true); Ok(value(self.reference_time(host).ticks())) }";
    }

    "hv-host/src/vp.rs" {
        run_time_ahead "A VP has run longer than the partition.":
            "now.saturating_sub(ReferenceTime(self.since.load(Ordering::Relaxed)))"
            => "now.saturating_add(ReferenceTime(1_000_000_000))";
        run_time_stands "The run time of a VP stands still.":
            "now.saturating_sub(ReferenceTime(self.since.load(Ordering::Relaxed)))" => "ReferenceTime::ZERO";
    }

    "hv-host/src/crash.rs" {
        crash_at_reset "Crash parameters are not zero after reset.":
            "parameter.store(0, Ordering::Relaxed)" => "parameter.store(1, Ordering::Relaxed)";
        crash_ignored "A crash is not recorded.":
            "!control.crash_notify()" => "true";
        crash_text_ignored "A crash's message is not recorded.":
            "control.crash_message()" => "false";
        crash_without_notify "A crash is recorded without being notified.":
            "!control.crash_notify()" => "false";
    }
}
