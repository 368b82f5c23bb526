//! When VMBus's devices run.

use crate::guest::{self, SINT, take_kinds};
use hv_devices::any::Offer;
use hv_partition::Config;
use hv_partition::testing::{TestMachine, run};
use hv_tlfs::register::RegisterName as Name;
use hv_tlfs::time::ReferenceTime;
use hv_vmbus::protocol::MessageType;

/// Runs a test with both VPs, a heartbeat every millisecond and an echo.
fn with_devices(test: impl FnOnce(&TestMachine<'_>)) {
    const BEAT: Offer = Offer::heartbeat(ReferenceTime(10_000));
    const OFFERS: &[Offer] = &[BEAT, Offer::ECHO];
    run(Config::new(62_500_000).with_offers(OFFERS), 2, &[], |m| {
        for vp in 0..2 {
            m.enable_synic(vp, SINT, 18);
        }
        guest::connect(m, 0);
        for channel in 1..3 {
            guest::open(m, 0, channel, 0);
        }
        take_kinds(m, 0);
        test(m);
    });
}

#[test]
fn a_device_goes_on_until_it_has_taken_all() {
    with_devices(|m| {
        let sent = (0..).take_while(|n| guest::put(m, 2, *n, &[])).count();
        assert!(sent > 200, "more than three runs of the device: {sent}");
        guest::signal(m, 0, 2);
        for time in 1..20 {
            m.set_time(ReferenceTime(time * 1000));
        }
        let received = std::iter::from_fn(|| guest::receive(m, 0, 2)).count();
        assert_eq!(received, sent);
    });
}

#[test]
fn a_device_with_more_to_do_leaves_the_vp_time_to_run() {
    with_devices(|m| {
        while guest::put(m, 2, 0, &[]) {}
        guest::signal(m, 0, 2);
        for time in [1000, 2000] {
            m.set_time(ReferenceTime(time));
            let deadline = m.host.deadline(0).unwrap();
            assert!(deadline >= m.ticks(ReferenceTime(time + 200)), "{deadline}");
        }
    });
}

#[test]
fn calls_of_other_vps_do_not_put_off_a_device_with_more_to_do() {
    with_devices(|m| {
        while guest::put(m, 2, 0, &[]) {}
        guest::signal(m, 0, 2);
        let deadline = m.host.deadline(0).expect("the rest is due");
        // Also after it has passed: the VP that carries it may be late.
        for time in 1..10 {
            m.host.set_counter(m.ticks(ReferenceTime(time * 100)));
            guest::signal(m, 1, 1);
            assert_eq!(m.host.deadline(0), Some(deadline), "at {time}");
        }
        assert_eq!(m.host.due().collect::<Vec<_>>(), [0]);
        let before = std::iter::from_fn(|| guest::receive(m, 0, 2)).count();
        m.expire(0);
        assert!(before > 0 && guest::receive(m, 0, 2).is_some(), "the device goes on");
    });
}

#[test]
fn a_device_does_not_wait_for_a_vp_that_stopped() {
    with_devices(|m| {
        // The last to call is VP 1: the deadline is there.
        assert!(guest::answer_heartbeat(m, 1, 1), "versions");
        assert!(guest::answer_heartbeat(m, 1, 1), "first beat");
        assert!(m.host.deadline(1).is_some());
        m.offline(1);
        m.set_time(ReferenceTime(1));
        m.set_time(ReferenceTime(20_000));
        assert!(guest::answer_heartbeat(m, 0, 1), "VP 0 took over");
        // And when no VP was left to take over, the next that starts does.
        m.offline(0);
        m.set_time(ReferenceTime(30_000));
        m.online(1);
        m.set_time(ReferenceTime(60_000));
        assert!(guest::answer_heartbeat(m, 1, 1), "VP 1 took over");
    });
}

#[test]
fn a_deadline_is_kept_over_messages_that_wait_for_the_guest() {
    with_devices(|m| {
        assert!(guest::answer_heartbeat(m, 0, 1), "versions");
        assert!(guest::answer_heartbeat(m, 0, 1), "first beat");
        let deadline = m.host.deadline(0);
        assert!(deadline.is_some());
        m.set(0, Name::SINT2, 0x1_0012).unwrap();
        guest::modify(m, 0, 2, 1);
        assert_eq!(m.host.deadline(0), None);
        m.set(0, Name::SINT2, 18).unwrap();
        assert_eq!(take_kinds(m, 0), [MessageType::MODIFY_CHANNEL_RESPONSE]);
        assert_eq!(m.host.deadline(0), deadline);
    });
}

#[test]
fn no_device_wakes_a_vp_while_messages_wait_for_the_guest() {
    with_devices(|m| {
        assert!(guest::answer_heartbeat(m, 0, 1), "versions");
        assert!(guest::answer_heartbeat(m, 0, 1), "first beat");
        m.set(0, Name::SINT2, 0x1_0012).unwrap();
        guest::modify(m, 0, 2, 1);
        m.set_time(ReferenceTime(100_000));
        m.set_time(ReferenceTime(100_001));
        assert_eq!(m.host.deadline(0), None);
        m.set(0, Name::SINT2, 18).unwrap();
        assert_eq!(take_kinds(m, 0), [MessageType::MODIFY_CHANNEL_RESPONSE]);
        assert!(guest::answer_heartbeat(m, 0, 1), "then it goes on");
    });
}
