//! Faults of devices: what becomes of their requests, packets, offers and versions.

use crate::back_end::{SAMPLE, Sampled, answers, complete, faulty, send, started};
use crate::guest::{self, SINT, contact, post, take_kinds};
use hv_partition::faults::Plan;
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::vmbus::{MessageType, Version};
use zerocopy::IntoBytes;

const MILLISECOND: u64 = 10_000;

fn plan(text: &str) -> Plan {
    Plan::parse(text, &|_, _| None).unwrap()
}

/// Runs a test with a guest that has the sample's channel open, and a plan.
fn opened(text: &str, test: impl FnOnce(&Sampled<'_>)) {
    faulty(plan(text), |m| {
        guest::connect(m, 0);
        guest::open(m, 0, SAMPLE, 1);
        take_kinds(m, 0);
        test(m);
    });
}

fn fired(m: &Sampled<'_>) -> Vec<u64> {
    m.host.plan().fired().collect()
}

#[test]
fn a_late_request_is_overtaken_and_done_when_its_time_has_come() {
    opened("late=20ms@1", |m| {
        send(m, SAMPLE, 1);
        assert_eq!(started(m), []);
        send(m, SAMPLE, 2);
        let second = started(m);
        assert_eq!(second.len(), 1);
        complete(m, second[0], 5).unwrap();
        assert_eq!(answers(m, SAMPLE), [(2, 5)]);
        m.set_time(ReferenceTime(19 * MILLISECOND));
        assert_eq!(started(m), []);
        m.set_time(ReferenceTime(21 * MILLISECOND));
        let first = started(m);
        assert_eq!(first.len(), 1);
        complete(m, first[0], 6).unwrap();
        assert_eq!(answers(m, SAMPLE), [(1, 6)]);
        assert_eq!(fired(m), [1]);
    });
}

#[test]
fn a_request_is_done_after_a_later_one_or_alone_after_a_while() {
    opened("reorder@/2", |m| {
        (1..4).for_each(|id| send(m, SAMPLE, id));
        let tokens = started(m);
        assert_eq!(tokens.len(), 2, "the second is held");
        complete(m, tokens[1], 3).unwrap();
        let held = started(m);
        assert_eq!(held.len(), 1);
        complete(m, held[0], 2).unwrap();
        complete(m, tokens[0], 1).unwrap();
        assert_eq!(answers(m, SAMPLE), [(3, 3), (2, 2), (1, 1)]);
        send(m, SAMPLE, 4);
        assert_eq!(started(m), []);
        m.set_time(ReferenceTime(hv_vmbus::OVERTAKEN.ticks() + MILLISECOND));
        assert_eq!(started(m).len(), 1);
    });
}

#[test]
fn a_stuck_request_ends_with_its_channel_and_gives_the_guests_pages_back() {
    opened("stuck@1", |m| {
        send(m, SAMPLE, 1);
        m.set_time(ReferenceTime(10_000 * MILLISECOND));
        assert_eq!((started(m), answers(m, SAMPLE)), (vec![], vec![]));
        guest::close(m, 0, SAMPLE);
        assert!(take_kinds(m, 0).contains(&MessageType::GPADL_TORNDOWN));
        guest::unload(m, 0);
        assert_eq!(take_kinds(m, 0), [MessageType::UNLOAD_RESPONSE]);
    });
}

#[test]
fn a_request_fails_without_being_carried_out() {
    opened("srb=0x12@2,media=0-10", |m| {
        (1..4).for_each(|id| send(m, SAMPLE, id));
        assert_eq!(started(m).len(), 2);
        assert_eq!(answers(m, SAMPLE), [(2, 0x12)]);
        assert_eq!(fired(m), [1, 0], "the sample's requests touch no medium");
    });
}

#[test]
fn a_device_is_taken_away_at_the_nth_packet() {
    // The first word of the sample's interface is 1.
    opened("rescind=1@2", |m| {
        send(m, SAMPLE, 1);
        assert_eq!(take_kinds(m, 0), []);
        send(m, SAMPLE, 2);
        assert_eq!(take_kinds(m, 0), [MessageType::RESCIND_OFFER], "the sub-channel; requests are in flight");
        for token in started(m) {
            complete(m, token, 0).unwrap();
        }
        assert_eq!(take_kinds(m, 0), [MessageType::RESCIND_OFFER]);
        send(m, SAMPLE, 3);
        assert_eq!(started(m), []);
        assert_eq!(fired(m), [1]);
    });
}

#[test]
fn a_device_is_taken_away_in_the_middle_of_an_open_which_is_answered() {
    faulty(plan("rescind-open=any"), |m| {
        guest::connect(m, 0);
        guest::open(m, 0, SAMPLE, 1);
        let kinds = take_kinds(m, 0);
        let after_gpadl = kinds.iter().skip_while(|kind| **kind != MessageType::OPEN_RESULT);
        assert_eq!(
            after_gpadl.copied().collect::<Vec<_>>(),
            [MessageType::OPEN_RESULT, MessageType::RESCIND_OFFER],
            "{kinds:?}"
        );
        send(m, SAMPLE, 1);
        assert_eq!(started(m), []);
    });
}

#[test]
fn a_mute_device_takes_the_packets_when_it_speaks_again() {
    opened("mute=50ms@100ms", |m| {
        send(m, SAMPLE, 1);
        assert_eq!(started(m), []);
        m.set_time(ReferenceTime(49 * MILLISECOND));
        assert_eq!(started(m), []);
        m.set_time(ReferenceTime(50 * MILLISECOND));
        assert_eq!(started(m).len(), 1);
        m.set_time(ReferenceTime(101 * MILLISECOND));
        send(m, SAMPLE, 2);
        assert_eq!(started(m), []);
        assert_eq!(fired(m), [2]);
    });
}

#[test]
fn a_newer_version_than_the_plan_allows_is_refused() {
    faulty(plan("newest=0:4.1"), |m| {
        for (version, accepted) in [(Version::V5_3, 0), (Version::V5_0, 0), (Version::V4_1, 1)] {
            let mut contact = contact(0);
            contact.version = version;
            post(m, 0, 4, contact.as_bytes());
            let answer = m.take_message(0, SINT).unwrap();
            assert_eq!(answer.payload[8], accepted, "{version:?}");
        }
        assert_eq!(fired(m), [2]);
    });
}
