//! Images of a partition.

mod common;

use common::{VPS, apply, config, ports, step};
use hv_host::{GuestMemory, Host, RestoreError};
use hv_partition::testing::{RAM, TestMachine, rehash, run, run_bare};
use hv_tlfs::register::RegisterName as Name;
use hv_tlfs::synic::MessageType;
use hv_tlfs::time::ReferenceTime;
use proptest::prelude::*;

/// A page for the reference TSC that random steps seldom hit.
const TSC_PAGE: u64 = RAM + 0x5000;

/// Brings a guest into the middle of things.
fn busy(m: &TestMachine<'_>) {
    for vp in 0..VPS {
        m.online(vp);
        m.set(vp, Name::GUEST_OS_ID, 1).unwrap();
        m.enable_synic(vp, 3, 18);
        for n in 0..5 {
            m.partition.post_message(&m.host, vp, 3, MessageType(1), n, b"waiting").unwrap();
        }
        m.set(vp, Name::STIMER0_COUNT, 1000).unwrap();
        m.set(vp, Name::STIMER0_CONFIG, 3 | 3 << 16).unwrap();
        m.set(vp, Name::STIMER1_COUNT, 1 << 40).unwrap();
        m.set(vp, Name::STIMER1_CONFIG, 1 | 1 << 12 | 17 << 4).unwrap();
    }
    m.set(0, Name::GUEST_CRASH_P3, 77).unwrap();
    m.set(0, Name::REFERENCE_TSC, TSC_PAGE | 1).unwrap();
    m.set_time(ReferenceTime(5000));
}

fn busy_machine(test: impl FnOnce(&TestMachine<'_>)) {
    run_bare(config(0), VPS, &ports(), |m| {
        busy(m);
        test(m);
    });
}

#[test]
fn a_restored_partition_is_the_saved_one() {
    busy_machine(|m| {
        let image = m.image();
        run_bare(config(0), VPS, &ports(), |n| {
            n.host.memory().copy_from(m.host.memory());
            n.host.set_counter(m.host.counter());
            n.partition.restore(&n.host, &image).unwrap();
            for vp in 0..VPS {
                n.expire(vp);
                assert_eq!(n.host.deadline(vp), m.host.deadline(vp));
            }
            assert!(n.image() == image);
            assert_eq!(n.get(0, Name::REFERENCE_TSC_SEQUENCE), m.get(0, Name::REFERENCE_TSC_SEQUENCE));
            for vp in 0..VPS {
                for n_th in 0..6 {
                    let messages = [m, n].map(|machine| machine.take_message(vp, 3));
                    assert_eq!(messages[0], messages[1], "{vp} {n_th}");
                }
            }
        });
    });
}

#[test]
fn the_reference_time_stands_still_between_save_and_restore() {
    busy_machine(|m| {
        let image = m.image();
        let now = m.partition.reference_time(&m.host);
        run_bare(config(0), VPS, &ports(), |n| {
            n.host.memory().copy_from(m.host.memory());
            n.host.set_counter(987_654_321_000);
            n.partition.restore(&n.host, &image).unwrap();
            assert_eq!(n.partition.reference_time(&n.host), now);
            let sequences = [m, n].map(|machine| machine.get(0, Name::REFERENCE_TSC_SEQUENCE).unwrap());
            assert_ne!(sequences[0], sequences[1], "the page's contents have changed");
            assert_eq!(u64::from(n.host.memory().load_acquire(TSC_PAGE).unwrap()), sequences[1]);
        });
    });
}

#[test]
fn a_timer_that_another_vp_let_go_on_does_so_after_the_restore() {
    run(config(0), VPS, &ports(), |m| {
        m.enable_synic(0, 3, 18);
        m.partition.post_message(&m.host, 0, 3, MessageType(1), 9, b"first").unwrap();
        m.set(0, Name::STIMER0_COUNT, 1000).unwrap();
        m.set(0, Name::STIMER0_CONFIG, 3 | 3 << 16).unwrap();
        m.set_time(ReferenceTime(1100));
        m.set_time(ReferenceTime(2200));
        assert_eq!(m.host.deadline(0), None, "the timer waits for its buffer");
        let slot = m.message_page(0) + 3 * 256;
        m.host.memory().store_release(slot, 0).unwrap();
        m.partition.post_message(&m.host, 0, 3, MessageType(1), 9, b"second").unwrap();
        let image = m.image();
        run_bare(config(0), VPS, &ports(), |n| {
            n.host.memory().copy_from(m.host.memory());
            n.host.set_counter(m.host.counter());
            n.partition.restore(&n.host, &image).unwrap();
            (0..VPS).for_each(|vp| n.expire(vp));
            assert!(n.host.deadline(0).is_some());
        });
    });
}

#[test]
fn an_image_with_a_timer_that_waits_for_nothing_or_is_enabled_and_not_armed_is_refused() {
    run(config(0), 1, &ports(), |m| {
        m.enable_synic(0, 3, 18);
        m.set(0, Name::STIMER0_COUNT, 0x1234_5678_9abc).unwrap();
        m.set(0, Name::STIMER0_CONFIG, 1 | 3 << 16).unwrap();
        let mut image = m.image();
        // Count, due time, time of the call, the last expiration, and the flags "armed" and "blocked".
        let count = image.windows(8).position(|bytes| bytes == 0x1234_5678_9abcu64.to_le_bytes()).unwrap();
        assert_eq!(image[count + 32], 1);
        for flags in [3, 0] {
            image[count + 32] = flags;
            rehash(&mut image);
            assert_eq!(m.partition.restore(&m.host, &image), Err(RestoreError::Invalid("timer")), "{flags}");
        }
    });
}

#[test]
fn an_image_with_a_message_that_no_queue_can_hold_is_refused() {
    busy_machine(|m| {
        let image = m.image();
        let payload = image.windows(7).position(|bytes| bytes == b"waiting").unwrap();
        // Flags, a reserved byte, and the byte after the payload.
        for at in [payload - 11, payload - 10, payload + 7] {
            let mut image = image.clone();
            assert_eq!(image[at], 0);
            image[at] = 1;
            rehash(&mut image);
            let refused = Err(RestoreError::Invalid("message queue"));
            assert_eq!(m.partition.restore(&m.host, &image), refused, "{at}");
        }
    });
}

#[test]
fn every_damaged_byte_is_found() {
    busy_machine(|m| {
        let image = m.image();
        for at in (0..image.len()).step_by(7).chain(0..40) {
            let mut bad = image.clone();
            bad[at] ^= 0x40;
            let error = m.partition.restore(&m.host, &bad).unwrap_err();
            match at {
                0..8 => assert_eq!(error, RestoreError::NotAnImage),
                8..12 => assert!(matches!(error, RestoreError::Version(_))),
                _ => assert_eq!(error, RestoreError::Damaged, "{at}"),
            }
        }
    });
}

#[test]
fn a_cut_off_image_is_refused() {
    busy_machine(|m| {
        let image = m.image();
        for len in 0..image.len() {
            assert!(m.partition.restore(&m.host, &image[..len]).is_err(), "{len}");
        }
        let mut longer = image.clone();
        longer.splice(image.len() - 8..image.len() - 8, [0]);
        rehash(&mut longer);
        assert_eq!(m.partition.restore(&m.host, &longer), Err(RestoreError::Invalid("length")));
    });
}

#[test]
fn an_image_of_another_version_is_refused_by_its_version() {
    busy_machine(|m| {
        let own = m.image()[8];
        for version in (0..own).chain([own + 1, u8::MAX]) {
            let mut image = m.image();
            image[8] = version;
            rehash(&mut image);
            let error = m.partition.restore(&m.host, &image).unwrap_err();
            assert_eq!(error, RestoreError::Version(version.into()));
            assert_eq!(error.to_string(), format!("saved state of unknown version {version}"));
        }
    });
}

#[test]
fn an_image_of_another_partition_is_refused() {
    busy_machine(|m| {
        let image = m.image();
        run(config(0), VPS + 1, &ports(), |n| {
            assert_eq!(n.partition.restore(&n.host, &image), Err(RestoreError::OtherPartition));
        });
        run(config(2), VPS, &ports(), |n| {
            assert_eq!(n.partition.restore(&n.host, &image), Err(RestoreError::OtherPartition));
        });
        run(config(0), VPS, &[], |n| {
            assert_eq!(n.partition.restore(&n.host, &image), Err(RestoreError::OtherPartition));
        });
    });
}

#[test]
fn a_refused_image_leaves_the_partition_reset() {
    busy_machine(|m| {
        let mut image = m.image();
        let last = image.len() - 12;
        image[last] ^= 0xff;
        rehash(&mut image);
        let restored = m.partition.restore(&m.host, &image);
        m.host.set_counter(0);
        if restored.is_err() {
            run_bare(config(0), VPS, &ports(), |n| {
                m.partition.reset(&m.host);
                assert!(format!("{:?}", m.partition) == format!("{:?}", n.partition));
            });
        }
        assert_eq!(m.partition.restore(&m.host, b"nonsense"), Err(RestoreError::NotAnImage));
        assert_eq!(m.partition.power(0), Some(hv_host::Power::Off));
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_run_with_a_restore_in_it_ends_as_the_run_without(
        before in prop::collection::vec(step(), 0..60),
        after in prop::collection::vec(step(), 0..60),
    ) {
        run_bare(config(0), VPS, &ports(), |m| {
            busy(m);
            for step in &before {
                apply(m, step);
            }
            (0..VPS).for_each(|vp| m.expire(vp));
            let image = m.image();
                run_bare(config(0), VPS, &ports(), |n| {
                    n.host.memory().copy_from(m.host.memory());
                    n.host.set_counter(m.host.counter());
                    n.partition.restore(&n.host, &image).unwrap();
                    (0..VPS).for_each(|vp| n.expire(vp));
                    assert!(m.image() == n.image(), "right after the restore");
                    m.host.take_effects();
                    n.host.take_effects();
                    for step in &after {
                        apply(m, step);
                        apply(n, step);
                        assert_eq!(m.host.take_effects(), n.host.take_effects(), "{step:?}");
                    }
                    assert!(m.image() == n.image(), "at the end");
                });
        });
    }

    #[test]
    fn an_image_with_a_right_hash_and_wrong_contents_does_no_harm(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        steps in prop::collection::vec(step(), 0..60),
    ) {
        busy_machine(|m| {
            let mut image = m.image();
            for (at, byte) in damage {
                // After the version and the fingerprint.
                let at = 20 + at.index(image.len() - 28);
                image[at] = byte;
            }
            rehash(&mut image);
            let _ = m.partition.restore(&m.host, &image);
            for step in &steps {
                apply(m, step);
            }
        });
    }
}
