//! TLFS, "Timers", "Synthetic Timers".

mod messages;

use hv_host::{Config, GuestMemory, Host, Profile};
use hv_partition::testing::{TestMachine, run};
use hv_tlfs::register::RegisterName as Name;
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::{MessageType, TimerMessagePayload};
use hv_tlfs::time::ReferenceTime;
use zerocopy::FromBytes;

const SINT: u8 = 4;
const VECTOR: u8 = 22;
const DIRECT: u64 = 1 << 12 | 17 << 4;
const ENABLE: u64 = 1;
const PERIODIC: u64 = 2;
const LAZY: u64 = 4;
const AUTO: u64 = 8;
const TO_SINT: u64 = (SINT as u64) << 16;

fn ready(test: impl FnOnce(&TestMachine<'_>)) {
    run(Config::new(62_500_000), 2, &[], |m| {
        m.set_time(ReferenceTime(1000));
        m.enable_synic(0, SINT, VECTOR);
        m.host.take_effects();
        test(m);
    });
}

fn arm(m: &TestMachine<'_>, timer: u8, config: u64, count: u64) {
    m.set(0, Name::stimer_count(timer), count).unwrap();
    m.set(0, Name::stimer_config(timer), config).unwrap();
}

fn config(m: &TestMachine<'_>, timer: u8) -> u64 {
    m.get(0, Name::stimer_config(timer)).unwrap()
}

fn payload(m: &TestMachine<'_>) -> Option<TimerMessagePayload> {
    let message = m.take_message(0, SINT)?;
    assert_eq!(message.header.message_type, MessageType::TIMER_EXPIRED);
    assert_eq!((message.header.payload_size, message.header.sender), (24, 0));
    Some(TimerMessagePayload::read_from_prefix(&message.payload).unwrap().0)
}

#[test]
fn a_one_shot_timer_expires_at_its_absolute_time_and_never_early() {
    ready(|m| {
        arm(m, 0, ENABLE | DIRECT, 5000);
        assert_eq!(m.host.take_interrupts(), []);
        let deadline = m.host.deadline(0).unwrap();
        m.host.set_counter(deadline);
        assert!(m.partition.reference_time(&m.host).ticks() >= 5000);
        m.host.set_counter(m.ticks(ReferenceTime(4999)) - 10);
        m.expire(0);
        assert_eq!(m.host.take_interrupts(), [], "an early wake-up is not an expiration");
        assert_eq!(m.host.deadline(0), Some(deadline), "and asks again");
        m.set_time(ReferenceTime(5000));
        assert_eq!(m.host.take_interrupts(), [(0, 17)]);
    });
}

#[test]
fn a_one_shot_timer_that_expired_is_disabled() {
    ready(|m| {
        arm(m, 0, ENABLE | DIRECT, 5000);
        m.set_time(ReferenceTime(6000));
        assert_eq!(config(m, 0), DIRECT);
        assert_eq!(m.host.deadline(0), None);
        m.host.take_effects();
        m.set_time(ReferenceTime(100_000));
        m.expire(0);
        assert_eq!(m.host.take_interrupts(), []);
    });
}

#[test]
fn a_one_shot_in_the_past_expires_at_once() {
    ready(|m| {
        for count in [1, 999, 1000] {
            arm(m, 0, ENABLE | DIRECT, count);
            assert_eq!(m.host.take_interrupts(), [(0, 17)], "{count}");
            assert_eq!(config(m, 0) & ENABLE, 0);
        }
    });
}

#[test]
fn a_message_says_which_timer_when_due_and_when_delivered() {
    ready(|m| {
        arm(m, 3, ENABLE | TO_SINT, 5000);
        m.set_time(ReferenceTime(7000));
        assert_eq!(m.host.take_interrupts(), [(0, u32::from(VECTOR))]);
        let payload = payload(m).unwrap();
        assert_eq!((payload.timer_index, payload.reserved, payload.expiration_time.0), (3, 0, 5000));
        assert!((7000..=7001).contains(&payload.delivery_time.0));
    });
}

#[test]
fn a_count_of_zero_stops_the_timer_whatever_auto_enable_says() {
    ready(|m| {
        for auto in [0, AUTO] {
            arm(m, 0, ENABLE | DIRECT | auto, 5000);
            m.set(0, Name::STIMER0_COUNT, 0).unwrap();
            assert_eq!(config(m, 0), DIRECT | auto);
            assert_eq!(m.host.deadline(0), None);
        }
        m.set_time(ReferenceTime(9000));
        assert_eq!(m.host.take_interrupts(), []);
    });
}

#[test]
fn auto_enable_starts_the_timer_by_its_count() {
    ready(|m| {
        m.set(0, Name::STIMER0_CONFIG, AUTO | DIRECT).unwrap();
        assert_eq!(m.host.deadline(0), None);
        m.set(0, Name::STIMER0_COUNT, 5000).unwrap();
        assert_eq!(config(m, 0), ENABLE | AUTO | DIRECT);
        m.set_time(ReferenceTime(5000));
        assert_eq!(m.host.take_interrupts(), [(0, 17)]);
        assert_eq!(config(m, 0), AUTO | DIRECT, "disabled by the expiration");
        m.set(0, Name::STIMER0_COUNT, 6000).unwrap();
        m.set_time(ReferenceTime(6000));
        assert_eq!(m.host.take_interrupts(), [(0, 17)], "and started again");
    });
}

#[test]
fn without_auto_enable_a_count_does_not_start_the_timer() {
    ready(|m| {
        m.set(0, Name::STIMER0_CONFIG, DIRECT).unwrap();
        m.set(0, Name::STIMER0_COUNT, 5000).unwrap();
        assert_eq!((config(m, 0), m.host.deadline(0)), (DIRECT, None));
    });
}

#[test]
fn sint_0_disables_a_timer_that_is_not_direct() {
    ready(|m| {
        arm(m, 0, ENABLE, 5000);
        assert_eq!((config(m, 0), m.host.deadline(0)), (0, None));
        arm(m, 0, ENABLE | DIRECT, 5000);
        assert_ne!(config(m, 0) & ENABLE, 0, "a direct one needs no SINT");
        m.set(0, Name::STIMER1_CONFIG, AUTO).unwrap();
        m.set(0, Name::STIMER1_COUNT, 5000).unwrap();
        assert_eq!(config(m, 1), AUTO, "auto-enable does not get round it");
    });
}

#[test]
fn reserved_bits_are_zero() {
    ready(|m| {
        for bit in [13, 14, 15, 20, 21, 40, 63] {
            let bad = ENABLE | DIRECT | 1 << bit;
            assert_eq!(m.set(0, Name::STIMER0_CONFIG, bad), Err(HvStatus::INVALID_PARAMETER), "{bit}");
        }
        assert_eq!(config(m, 0), 0);
    });
}

#[test]
fn direct_timers_raise_ppis_and_spis_only() {
    ready(|m| {
        let bad = ENABLE | 1 << 12 | 15 << 4;
        assert_eq!(m.set(0, Name::STIMER0_CONFIG, bad), Err(HvStatus::INVALID_PARAMETER));
        let mut profile = Profile::AZURE;
        profile.features.c = profile.features.c.with_direct_synthetic_timers(false);
        run(Config::new(62_500_000).with_profile(profile), 1, &[], |m| {
            assert_eq!(m.set(0, Name::STIMER0_CONFIG, DIRECT), Err(HvStatus::INVALID_PARAMETER));
        });
    });
}

#[test]
fn the_four_timers_share_one_deadline_the_earliest() {
    ready(|m| {
        for (timer, count) in [(0, 9000), (1, 5000), (2, 7000), (3, 8000)] {
            arm(m, timer, ENABLE | 1 << 12 | (17 + u64::from(timer)) << 4, count);
        }
        for (time, intid) in [(5000, 18), (7000, 19), (8000, 20), (9000, 17)] {
            assert!(m.host.deadline(0).unwrap() >= m.ticks(ReferenceTime(time)) - 7);
            m.set_time(ReferenceTime(time));
            assert_eq!(m.host.take_interrupts(), [(0, intid)]);
        }
        assert_eq!(m.host.deadline(0), None);
    });
}

#[test]
fn each_vp_has_its_own_timers() {
    ready(|m| {
        m.set(1, Name::STIMER0_COUNT, 5000).unwrap();
        m.set(1, Name::STIMER0_CONFIG, ENABLE | DIRECT).unwrap();
        assert_eq!((m.host.deadline(0), config(m, 0)), (None, 0));
        m.set_time(ReferenceTime(5000));
        assert_eq!(m.host.take_interrupts(), [(1, 17)]);
    });
}

#[test]
fn a_periodic_timer_begins_its_first_period_when_it_is_enabled() {
    ready(|m| {
        m.set(0, Name::STIMER0_COUNT, 1000).unwrap();
        m.set_time(ReferenceTime(2500));
        m.set(0, Name::STIMER0_CONFIG, ENABLE | PERIODIC | DIRECT).unwrap();
        m.set_time(ReferenceTime(3400));
        assert_eq!(m.host.take_interrupts(), []);
        m.set_time(ReferenceTime(3501));
        assert_eq!(m.host.take_interrupts(), [(0, 17)]);
    });
}

#[test]
fn a_periodic_timer_stays_enabled_and_keeps_its_rhythm() {
    ready(|m| {
        arm(m, 0, ENABLE | PERIODIC | DIRECT, 1000);
        for n in 2..10 {
            // A little late each time, which must not add up.
            m.set_time(ReferenceTime(n * 1000 - 20));
            assert_eq!(m.host.take_interrupts(), [], "{n}");
            m.set_time(ReferenceTime(n * 1000 + 50));
            assert_eq!(m.host.take_interrupts(), [(0, 17)], "{n}");
            assert_ne!(config(m, 0) & ENABLE, 0);
        }
        m.set(0, Name::STIMER0_CONFIG, PERIODIC | DIRECT).unwrap();
        assert_eq!(m.host.deadline(0), None);
    });
}

/// Lets time pass in small steps and counts the interrupts.
fn interrupts_until(m: &TestMachine<'_>, from: u64, to: u64) -> usize {
    (from..=to)
        .step_by(10)
        .map(|time| {
            m.set_time(ReferenceTime(time));
            m.host.take_interrupts().len()
        })
        .sum()
}

#[test]
fn a_late_periodic_timer_catches_up_with_shorter_periods() {
    ready(|m| {
        arm(m, 0, ENABLE | PERIODIC | DIRECT, 1000);
        // Away from 1000 until 4500: expirations of 2000, 3000 and 4000 are due.
        m.set_time(ReferenceTime(4500));
        assert_eq!(m.host.take_interrupts().len(), 1, "one at once, the others not in a burst");
        let caught_up = interrupts_until(m, 4510, 11_500);
        assert_eq!(1 + caught_up, 10, "2000 to 11000: none is lost");
        assert_eq!(interrupts_until(m, 11_510, 12_100), 1, "and then the old rhythm");
    });
}

#[test]
fn a_very_late_periodic_timer_skips_what_is_too_old() {
    ready(|m| {
        arm(m, 0, ENABLE | PERIODIC | DIRECT, 1000);
        m.set_time(ReferenceTime(1_000_500));
        m.host.take_events();
        let caught_up = m.host.take_interrupts().len() + interrupts_until(m, 1_000_510, 1_020_500);
        assert!(
            (20..=30).contains(&caught_up),
            "{caught_up}: 20 periods and a few to catch up, not a thousand"
        );
        assert_eq!(interrupts_until(m, 1_020_510, 1_030_500), 10);
    });
}

#[test]
fn a_lazy_timer_signals_once_for_all_it_missed() {
    ready(|m| {
        arm(m, 0, ENABLE | PERIODIC | LAZY | DIRECT, 1000);
        m.set_time(ReferenceTime(5100));
        assert_eq!(m.host.take_interrupts().len(), 1);
        assert_eq!(interrupts_until(m, 5110, 5990), 0);
        assert_eq!(interrupts_until(m, 6000, 6100), 1, "the rhythm stays");
    });
}

#[test]
fn a_lazy_timer_shortly_before_its_next_expiration_is_skipped() {
    ready(|m| {
        arm(m, 0, ENABLE | PERIODIC | LAZY | DIRECT, 1000);
        m.set_time(ReferenceTime(2900));
        assert_eq!(m.host.take_interrupts(), [], "2000 is left out");
        m.set_time(ReferenceTime(3001));
        assert_eq!(m.host.take_interrupts().len(), 1);
    });
}

#[test]
fn a_period_shorter_than_the_guest_can_serve_leaves_it_time_to_run() {
    for lazy in [0, LAZY] {
        ready(|m| {
            arm(m, 0, ENABLE | PERIODIC | DIRECT | lazy, 1);
            m.set_time(ReferenceTime(2000));
            m.host.take_effects();
            let deadline = m.host.deadline(0).unwrap();
            assert!(deadline > m.ticks(ReferenceTime(2100)), "{deadline}: the next one is not at once");
            let count = interrupts_until(m, 2010, 10_000);
            assert!(count <= 50, "{count}");
        });
    }
}

#[test]
fn counts_near_the_end_of_time_never_expire_and_never_storm() {
    ready(|m| {
        for count in [u64::MAX, u64::MAX - 1, 1 << 63, i64::MAX as u64] {
            for config in [ENABLE | DIRECT, ENABLE | PERIODIC | DIRECT, ENABLE | PERIODIC | LAZY | DIRECT] {
                m.set(0, Name::STIMER0_CONFIG, 0).unwrap();
                arm(m, 0, config, count);
                m.set_time(ReferenceTime(1 << 40));
                m.expire(0);
                assert_eq!(m.host.take_interrupts(), [], "{count:#x} {config:#x}");
                let now = m.ticks(ReferenceTime(1 << 40));
                assert!(m.host.deadline(0).is_none_or(|deadline| deadline > now));
            }
        }
    });
}

#[test]
fn writing_the_configuration_again_restarts_the_period() {
    ready(|m| {
        arm(m, 0, ENABLE | PERIODIC | DIRECT, 1000);
        m.set_time(ReferenceTime(1900));
        m.set(0, Name::STIMER0_CONFIG, ENABLE | PERIODIC | DIRECT).unwrap();
        m.set_time(ReferenceTime(2100));
        assert_eq!(m.host.take_interrupts(), []);
        m.set_time(ReferenceTime(2901));
        assert_eq!(m.host.take_interrupts().len(), 1);
    });
}

#[test]
fn a_migration_keeps_timers_in_reference_time() {
    ready(|m| {
        arm(m, 0, ENABLE | DIRECT, 50_000);
        m.set_time(ReferenceTime(10_000));
        let now = m.partition.reference_time(&m.host);
        // The new host counts at 1 GHz from 0.
        m.host.set_counter(0);
        m.partition.migrate(&m.host, 1_000_000_000, now);
        m.expire(0);
        let left = (50_000 - now.ticks()) * 100;
        assert!(m.host.deadline(0).unwrap().abs_diff(left) <= 100);
        m.host.set_counter(left - 1000);
        m.expire(0);
        assert_eq!(m.host.take_interrupts(), []);
        m.host.set_counter(left + 100);
        m.expire(0);
        assert_eq!(m.host.take_interrupts(), [(0, 17)]);
    });
}

#[test]
fn a_message_from_another_vp_leaves_each_vp_its_own_deadline() {
    ready(|m| {
        // VP 0's timer waits for its buffer, behind a message that fills the slot.
        m.partition.post_message(&m.host, 0, SINT, MessageType(1), 9, b"first").unwrap();
        arm(m, 0, ENABLE | PERIODIC | TO_SINT, 1000);
        m.set_time(ReferenceTime(2100));
        m.set_time(ReferenceTime(3200));
        assert_eq!(m.host.deadline(0), None, "the timer waits for its buffer");
        m.set(1, Name::STIMER0_COUNT, 1_000_000).unwrap();
        m.set(1, Name::STIMER0_CONFIG, ENABLE | DIRECT).unwrap();
        let other = m.host.deadline(1);
        // VP 0 empties the slot, and before it writes EOM, VP 1 makes the queue continue twice.
        let slot = m.message_page(0) + u64::from(SINT) * 256;
        for _ in 0..2 {
            m.host.memory().store_release(slot, 0).unwrap();
            m.get(1, Name::VP_INDEX).unwrap();
            m.partition.post_message(&m.host, 0, SINT, MessageType(1), 9, b"more").unwrap();
        }
        assert_eq!(m.host.deadline(1), other, "VP 1's deadline is its own");
        assert!(m.host.deadline(0).is_some() || !m.host.take_interrupts().is_empty());
    });
}
