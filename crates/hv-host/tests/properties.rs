//! Properties that hold whatever a guest does.

mod common;

use common::{VPS, apply, config, ports, step};
use hv_host::Config;
use hv_partition::testing::{Effect, run_bare};
use hv_tlfs::register::RegisterName as Name;
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::MessageType;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn nothing_that_a_guest_does_panics_or_hangs(
        profile in 0..3u32,
        identified in any::<bool>(),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        run_bare(config(profile), VPS, &ports(), |m| {
            for vp in 0..VPS {
                m.online(vp);
                if identified {
                    m.set(vp, Name::GUEST_OS_ID, 1).unwrap();
                    m.enable_synic(vp, 3, 18);
                }
            }
            for step in &steps {
                apply(m, step);
            }
            for effect in m.host.take_effects() {
                if let Effect::Interrupt { vp, intid } = effect {
                    assert!(vp < VPS);
                    assert!((16..=255).contains(&intid), "{intid}");
                }
            }
        });
    }

    #[test]
    fn reset_after_anything_gives_the_state_after_creation(steps in prop::collection::vec(step(), 1..60)) {
        run_bare(config(0), VPS, &ports(), |m| {
            m.host.set_counter(1000);
            m.partition.reset(&m.host);
            let created = format!("{:?}", m.partition);
            for vp in 0..VPS {
                m.online(vp);
                m.set(vp, Name::GUEST_OS_ID, 1).unwrap();
                m.enable_synic(vp, 3, 18);
            }
            for step in &steps {
                apply(m, step);
            }
            m.host.set_counter(1000);
            m.partition.reset(&m.host);
            assert!(format!("{:?}", m.partition) == created);
        });
    }

    #[test]
    fn the_same_steps_give_the_same_effects(steps in prop::collection::vec(step(), 1..60)) {
        let effects = || run_bare(config(0), VPS, &ports(), |m| {
            for vp in 0..VPS {
                m.online(vp);
                m.set(vp, Name::GUEST_OS_ID, 1).unwrap();
                m.enable_synic(vp, 3, 18);
            }
            for step in &steps {
                apply(m, step);
            }
            (m.host.take_effects(), m.host.take_events(), format!("{:?}", m.partition))
        });
        let (first, second) = (effects(), effects());
        assert_eq!(first.0, second.0);
        assert_eq!(first.1, second.1);
        assert!(first.2 == second.2);
    }

    #[test]
    fn every_message_is_delivered_once_and_in_order(
        actions in prop::collection::vec((any::<bool>(), 0..3u8), 1..200),
    ) {
        run_bare(config(0), VPS, &ports(), |m| {
            m.online(1);
            m.set(1, Name::GUEST_OS_ID, 1).unwrap();
            m.enable_synic(1, 3, 18);
            let (mut posted, mut taken) = ([0u8; 3], [0u8; 3]);
            let post = |sint: u8, n: u8| {
                m.partition.post_message(&m.host, 1, 3 + sint, MessageType(1), 0, &[n])
            };
            let take = |sint: u8, taken: &mut [u8; 3]| {
                if let Some(message) = m.take_message(1, 3 + sint) {
                    assert_eq!(message.payload[0], taken[sint as usize]);
                    taken[sint as usize] += 1;
                }
            };
            for (is_post, sint) in actions {
                if is_post {
                    match post(sint, posted[sint as usize]) {
                        Ok(()) => posted[sint as usize] += 1,
                        Err(status) => assert_eq!(status, HvStatus::INSUFFICIENT_BUFFERS),
                    }
                } else {
                    take(sint, &mut taken);
                }
            }
            for sint in 0..3 {
                for _ in 0..20 {
                    take(sint, &mut taken);
                }
            }
            assert_eq!(posted, taken);
        });
    }

    #[test]
    fn a_timer_never_expires_early_and_always_when_due(
        frequency in 10_000_001..2_000_000_000u64,
        start in 0..1u64 << 50,
        delay in 1..1u64 << 36,
    ) {
        run_bare(Config::new(frequency), 1, &[], |m| {
            m.host.set_counter(start);
            m.partition.reset(&m.host);
            m.online(0);
            m.set(0, Name::GUEST_OS_ID, 1).unwrap();
            m.set(0, Name::STIMER0_COUNT, delay).unwrap();
            m.set(0, Name::STIMER0_CONFIG, 1 | 1 << 12 | 17 << 4).unwrap();
            m.host.take_effects();
            let deadline = m.host.deadline(0).unwrap();
            m.host.set_counter(deadline - 1);
            let early = m.partition.reference_time(&m.host).ticks();
            m.host.set_counter(deadline);
            let due = m.partition.reference_time(&m.host).ticks();
            assert!(due >= delay);
            assert!(early < delay || due == early, "at the first tick at which it is due: {early} {due} {delay}");
            m.expire(0);
            assert_eq!(m.host.take_interrupts(), [(0, 17)]);
        });
    }
}
