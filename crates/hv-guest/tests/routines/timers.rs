//! The synthetic timers.

use crate::common::{FREQUENCY, Guest, everywhere, everywhere_on, intid};
use hv_guest::registers::{self, Register};
use hv_guest::synic::{End, SintIndex};
use hv_guest::timer::{Schedule, Timer, TimerError, TimerIndex};
use hv_testbed::{Config, Profile};
use hv_tlfs::features::FeatureWordC;
use hv_tlfs::synic::MessageType;
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::timer::StimerConfig;

const INTID: u32 = 31;

fn each_timer(test: impl Fn(&Guest, usize, TimerIndex)) {
    everywhere(|guest| {
        for n in 0..guest.vps {
            for index in TimerIndex::ALL {
                if n == usize::from(index.number()) % guest.vps {
                    test(guest, n, index);
                }
            }
        }
    });
}

fn at(guest: &Guest, in_units: u64) -> Schedule {
    Schedule::Once(guest.bed.reference_time().saturating_add(ReferenceTime(in_units)))
}

#[test]
fn a_direct_one_shot_timer_interrupts_once_and_not_early() {
    each_timer(|guest, n, index| {
        let guest = &Guest::new(Config::new(FREQUENCY), guest.convention, guest.vps);
        let vp = guest.vp(n);
        let mut timer = Timer::direct(&vp, index, intid(INTID), &guest.bed.interrupts(n)).unwrap();
        for start in [Timer::start, Timer::start_by_enable] {
            start(&mut timer, &vp, at(guest, 1000)).unwrap();
            assert_eq!(timer.is_running(&vp), Ok(true));
            guest.bed.advance(ReferenceTime(990));
            assert_eq!(guest.bed.take_interrupt(n), None, "early");
            guest.bed.advance(ReferenceTime(20));
            assert_eq!(guest.bed.take_interrupt(n), Some(INTID as u8));
            assert_eq!(timer.is_running(&vp), Ok(false));
            guest.bed.advance(ReferenceTime(100_000));
            assert_eq!(guest.bed.take_interrupt(n), None, "once");
        }
    });
}

#[test]
fn a_one_shot_timer_in_the_past_expires_at_once() {
    everywhere(|guest| {
        let vp = guest.vp(0);
        let mut timer =
            Timer::direct(&vp, TimerIndex::ALL[0], intid(INTID), &guest.bed.interrupts(0)).unwrap();
        guest.bed.advance(ReferenceTime(1_000_000));
        for time in [0, 1, 999_999] {
            timer.start(&vp, Schedule::Once(ReferenceTime(time))).unwrap();
            guest.bed.advance(ReferenceTime(1));
            assert_eq!(guest.bed.take_interrupt(0), Some(INTID as u8), "{time}");
        }
    });
}

#[test]
fn starting_a_one_shot_timer_again_costs_one_hypercall() {
    everywhere(|guest| {
        let vp = guest.vp(0);
        let mut timer =
            Timer::direct(&vp, TimerIndex::ALL[1], intid(INTID), &guest.bed.interrupts(0)).unwrap();
        timer.start(&vp, at(guest, 10)).unwrap();
        guest.bed.advance(ReferenceTime(20));
        let before = guest.bed.hypercalls();
        timer.start(&vp, at(guest, 10)).unwrap();
        assert_eq!(guest.bed.hypercalls() - before, 1);
        guest.bed.advance(ReferenceTime(20));
        assert!(guest.bed.take_interrupt(0).is_some());
    });
}

#[test]
fn periodic_timers_go_on_until_they_are_stopped() {
    for schedule in [Schedule::Every(ReferenceTime(1000)), Schedule::EveryLazily(ReferenceTime(1000))] {
        everywhere(|guest| {
            let vp = guest.vp(guest.vps - 1);
            let n = guest.vps - 1;
            let index = TimerIndex::ALL[2];
            let mut timer = Timer::direct(&vp, index, intid(INTID), &guest.bed.interrupts(n)).unwrap();
            timer.start(&vp, schedule).unwrap();
            let config: StimerConfig = registers::get(&vp, Register::timer_config(index)).unwrap();
            assert_eq!(config.lazy(), matches!(schedule, Schedule::EveryLazily(_)));
            assert!(config.periodic() && config.enable());
            for _ in 0..5 {
                guest.bed.advance(ReferenceTime(1001));
                assert!(guest.bed.take_interrupt(n).is_some());
            }
            assert_eq!(timer.is_running(&vp), Ok(true));
            timer.stop(&vp).unwrap();
            guest.bed.advance(ReferenceTime(10_000));
            assert_eq!(guest.bed.take_interrupt(n), None);
            // From periodic to one-shot: the configuration changes, and the timer with it.
            timer.start(&vp, at(guest, 10)).unwrap();
            guest.bed.advance(ReferenceTime(11));
            assert!(guest.bed.take_interrupt(n).is_some());
            guest.bed.advance(ReferenceTime(10_000));
            assert_eq!(guest.bed.take_interrupt(n), None);
        });
    }
}

#[test]
fn a_timer_in_message_mode_says_which_it_is_and_when_it_was_due() {
    each_timer(|guest, n, index| {
        let guest = &Guest::new(Config::new(FREQUENCY), guest.convention, guest.vps);
        let synic = guest.synic(n);
        let mut timer = Timer::message(&synic, index, SintIndex::VMBUS).unwrap();
        let due = guest.bed.reference_time().ticks() + 5000;
        timer.start(synic.vp(), Schedule::Once(ReferenceTime(due))).unwrap();
        guest.bed.advance(ReferenceTime(6000));
        assert_eq!(guest.bed.take_interrupt(n), Some(18));
        let pending = synic.pending(SintIndex::VMBUS).unwrap();
        let message = pending.read().unwrap();
        assert_eq!(message.message_type(), MessageType::TIMER_EXPIRED);
        let expired = message.timer().unwrap();
        assert_eq!(expired.timer_index, u32::from(index.number()));
        assert_eq!(expired.expiration_time, ReferenceTime(due));
        assert!(expired.delivery_time >= expired.expiration_time);
        assert_eq!(synic.end(pending), Ok(End::Quiet));
        timer.release(synic.vp(), &guest.bed.interrupts(n)).unwrap();
        assert!(guest.bed.is_enabled(n, 18), "the source's interrupt is not the timer's");
    });
}

#[test]
fn a_timer_has_one_handle_and_release_makes_it_free() {
    everywhere(|guest| {
        let vp = guest.vp(0);
        let interrupts = guest.bed.interrupts(0);
        let index = TimerIndex::ALL[3];
        let mut timer = Timer::direct(&vp, index, intid(INTID), &interrupts).unwrap();
        assert_eq!(Timer::direct(&vp, index, intid(INTID), &interrupts).err(), Some(TimerError::InUse));
        timer.start(&vp, Schedule::Every(ReferenceTime(100))).unwrap();
        assert!(guest.bed.is_enabled(0, INTID as u8));
        timer.release(&vp, &interrupts).unwrap();
        assert!(!guest.bed.is_enabled(0, INTID as u8));
        assert_eq!(registers::get(&vp, Register::timer_config(index)), Ok(StimerConfig(0)));
        assert_eq!(registers::get(&vp, Register::timer_count(index)), Ok(0));
        assert!(Timer::direct(&vp, index, intid(INTID), &interrupts).is_ok());
    });
}

#[test]
fn what_cannot_be_a_timer_is_refused_here() {
    everywhere(|guest| {
        let synic = guest.synic(0);
        let index = TimerIndex::ALL[0];
        let zero = SintIndex::new(0).unwrap();
        assert_eq!(Timer::message(&synic, index, zero).err(), Some(TimerError::SourceZero));
        let mut timer = Timer::message(&synic, index, SintIndex::VMBUS).unwrap();
        assert_eq!(timer.start(synic.vp(), Schedule::Every(ReferenceTime(0))), Err(TimerError::NoPeriod));
    });
}

#[test]
fn a_host_without_timers_or_without_direct_mode_is_found_out_first() {
    let config = Config::new(FREQUENCY);
    everywhere_on(config.with_profile(Profile::MINIMAL), |guest| {
        let synic = guest.synic(0);
        let result = Timer::message(&synic, TimerIndex::ALL[0], SintIndex::VMBUS);
        assert_eq!(result.err(), Some(TimerError::Unavailable));
    });
    let mut profile = Profile::AZURE;
    profile.features.c = FeatureWordC(profile.features.c.0 & !FeatureWordC::DIRECT_SYNTHETIC_TIMERS.0);
    everywhere_on(config.with_profile(profile), |guest| {
        let vp = guest.vp(0);
        let interrupts = guest.bed.interrupts(0);
        let result = Timer::direct(&vp, TimerIndex::ALL[0], intid(INTID), &interrupts);
        assert_eq!(result.err(), Some(TimerError::NoDirectMode));
        assert!(!guest.bed.is_enabled(0, INTID as u8));
    });
}
