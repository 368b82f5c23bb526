//! Timers' messages that wait: for a slot, for a buffer, for a SynIC.

use super::*;
use hv_tlfs::time::ReferenceTime;

#[test]
fn a_timer_whose_slot_is_taken_waits_in_its_own_buffer() {
    ready(|m| {
        arm(m, 0, ENABLE | TO_SINT, 2000);
        arm(m, 1, ENABLE | TO_SINT, 3000);
        m.set_time(ReferenceTime(2000));
        m.set_time(ReferenceTime(3000));
        assert_eq!(m.host.take_interrupts().len(), 1);
        assert!(m.slot(0, SINT).header.flags.message_pending());
        m.set_time(ReferenceTime(5000));
        assert_eq!(payload(m).unwrap().timer_index, 0);
        let second = payload(m).unwrap();
        assert_eq!((second.timer_index, second.expiration_time.0), (1, 3000));
        assert!((5000..=5001).contains(&second.delivery_time.0), "delivered now, not when it was queued");
        assert_eq!(config(m, 1) & ENABLE, 0);
        assert!(payload(m).is_none());
    });
}

#[test]
fn a_timer_that_is_stopped_or_set_anew_takes_its_waiting_message_back() {
    let config1 = Name(Name::STIMER0_CONFIG.0 + 2);
    let count1 = Name(Name::STIMER0_COUNT.0 + 2);
    for (register, value) in [(config1, 0), (count1, 0), (config1, TO_SINT), (count1, 50_000)] {
        ready(|m| {
            // Timer 0 in the slot, timers 1, 2 and 3 after it.
            for timer in 0..4 {
                arm(m, timer, ENABLE | TO_SINT, 2000 + u64::from(timer));
            }
            m.set_time(ReferenceTime(3000));
            m.set(0, register, value).unwrap();
            let timers: Vec<u32> = std::iter::from_fn(|| payload(m)).map(|p| p.timer_index).collect();
            assert_eq!(timers, [0, 2, 3], "{register:?}, {value}");
            // It can be used again, first and last in the queue.
            arm(m, 0, ENABLE | TO_SINT, 4000);
            arm(m, 1, ENABLE | TO_SINT, 4001);
            m.set_time(ReferenceTime(5000));
            m.set(0, config1, 0).unwrap();
            arm(m, 2, ENABLE | TO_SINT, 4002);
            let timers: Vec<u32> = std::iter::from_fn(|| payload(m)).map(|p| p.timer_index).collect();
            assert_eq!(timers, [0, 2]);
        });
    }
}

#[test]
fn a_vp_that_stops_takes_its_timers_waiting_messages_back() {
    ready(|m| {
        for timer in 0..3 {
            arm(m, timer, ENABLE | TO_SINT, 2000 + u64::from(timer));
        }
        m.set_time(ReferenceTime(3000));
        let posted = m.partition.post_message(&m.host, 0, SINT, MessageType(1), 0, &[7; 24]);
        assert_eq!(posted, Ok(()));
        m.offline(0);
        assert_eq!(payload(m).unwrap().timer_index, 0, "in the slot already");
        m.partition.rescan(&m.host, 0);
        let last = m.take_message(0, SINT).unwrap();
        assert_eq!((last.header.message_type, last.payload[0]), (MessageType(1), 7));
        assert!(m.take_message(0, SINT).is_none());
    });
}

#[test]
fn a_periodic_timer_goes_on_when_its_buffer_is_free_again() {
    ready(|m| {
        arm(m, 0, ENABLE | PERIODIC | TO_SINT, 1000);
        // One in the slot, one in the buffer, the third waits; the VP is not woken for it.
        for time in [2000, 3000, 4000, 5000] {
            m.set_time(ReferenceTime(time));
        }
        assert_eq!(m.host.deadline(0), None);
        let times: Vec<u64> = std::iter::from_fn(|| payload(m)).map(|p| p.expiration_time.0).collect();
        assert_eq!(times[..3], [2000, 3000, 4000]);
        assert!(m.host.deadline(0).is_some());
        m.set_time(ReferenceTime(8000));
        assert!(payload(m).is_some());
    });
}

#[test]
fn a_timers_message_freed_by_another_message_lets_the_timer_go_on() {
    // The buffer is freed by a post, not by the guest's end of message.
    ready(|m| {
        arm(m, 0, ENABLE | PERIODIC | TO_SINT, 1000);
        for time in [2000, 3000, 4000] {
            m.set_time(ReferenceTime(time));
        }
        assert_eq!(m.host.deadline(0), None);
        let slot = m.message_page(0) + u64::from(SINT) * 256;
        m.host.memory().store_release(slot, 0).unwrap();
        m.partition.post_message(&m.host, 0, SINT, MessageType(1), 0, b"x").unwrap();
        assert!(m.host.deadline(0).is_some());
    });
}

#[test]
fn a_timers_message_freed_by_a_rescan_lets_the_timer_go_on() {
    ready(|m| {
        arm(m, 0, ENABLE | PERIODIC | TO_SINT, 1000);
        for time in [2000, 3000, 4000] {
            m.set_time(ReferenceTime(time));
        }
        assert_eq!(m.host.deadline(0), None);
        let slot = m.message_page(0) + u64::from(SINT) * 256;
        m.host.memory().store_release(slot, 0).unwrap();
        m.partition.rescan(&m.host, 0);
        assert!(m.host.deadline(0).is_some());
    });
}

#[test]
fn a_disabled_synic_delays_the_message() {
    ready(|m| {
        for (name, on) in [(Name::SCONTROL, 1), (Name::SIMP, m.message_page(0) | 1)] {
            let now = m.partition.reference_time(&m.host).ticks();
            m.set(0, name, 0).unwrap();
            arm(m, 0, ENABLE | TO_SINT, now + 1000);
            m.set_time(ReferenceTime(now + 2000));
            assert_eq!(m.host.take_interrupts(), []);
            assert_eq!(m.host.deadline(0), None);
            m.set(0, name, on).unwrap();
            assert_eq!(m.host.take_interrupts(), [(0, u32::from(VECTOR))], "{name:?}");
            assert_eq!(payload(m).unwrap().expiration_time.0, now + 1000);
        }
    });
}

#[test]
fn a_masked_sint_gets_the_message_without_an_interrupt() {
    ready(|m| {
        m.set(0, Name::sint(SINT), 0x1_0000).unwrap();
        arm(m, 0, ENABLE | TO_SINT, 2000);
        m.set_time(ReferenceTime(2000));
        assert_eq!(m.host.take_interrupts(), []);
        assert!(payload(m).is_some());
    });
}
