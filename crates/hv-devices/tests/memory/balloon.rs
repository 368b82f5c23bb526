//! What Linux's driver does, and what it may not.

use crate::guest::{FIRST, Guest, PAGES, range};
use hv_devices::balloon::{Pressure, RANGES, REFUSED};
use hv_devices::ic::{AGREED, IGNORED, Outcome, Refused, State};
use hv_tlfs::vmbus::balloon::{MessageType, VERSION_0_3, VERSION_1_0, VERSION_2_0};
use hv_tlfs::vmbus::ic::{Status, Version};

/// What Linux says with pages of 4 KiB.
const LINUX: u64 = 1;
const DONE: Option<Outcome> = Some(Outcome::Answered(Status::SUCCESS));

fn linux() -> Guest {
    Guest::new(VERSION_2_0, LINUX)
}

/// Returns the notes of ranges that were refused.
fn refusals(guest: &Guest) -> Vec<u64> {
    let notes = guest.host.notes.borrow();
    notes.iter().filter(|(note, _)| *note == REFUSED).map(|(_, value)| *value).collect()
}

/// Has the guest give up this many chunks of 2 MiB.
fn chunks(guest: &Guest, from: u64, count: u64) {
    assert_eq!(guest.resize(guest.taken() + count * 512), Ok(true));
    assert_eq!(guest.heard(), (MessageType::BALLOON_REQUEST, vec![count * 512]));
    let ranges: Vec<_> = (0..count).map(|n| (FIRST + (from + n) * 512, 512)).collect();
    guest.give_up(&ranges, false);
    assert_eq!(guest.outcome(), DONE);
}

#[test]
fn each_version_of_stock_guests_is_spoken_and_no_other() {
    for (version, major, minor) in [(VERSION_2_0, 2, 0), (VERSION_1_0, 1, 0), (VERSION_0_3, 0, 3)] {
        let guest = Guest::new(version, LINUX);
        let agreed = Version { major, minor };
        assert_eq!(
            guest.with(|device, _| device.state()),
            State::Ready { framework: agreed, version: agreed }
        );
        assert!(guest.host.notes.borrow().contains(&(AGREED, version.into())));
    }
    let guest = Guest::opened();
    for version in [0x3_0000, 0, 4, u64::from(u32::MAX)] {
        guest.say(MessageType::VERSION_REQUEST, &[version]);
        assert_eq!(guest.heard(), (MessageType::VERSION_RESPONSE, vec![0]));
    }
    assert_eq!(guest.with(|device, _| device.state()), State::Negotiating);
    assert_eq!(guest.resize(512), Err(Refused::Negotiating));
    // The last attempt.
    guest.say(MessageType::VERSION_REQUEST, &[1 << 32 | 4]);
    assert_eq!(guest.heard().1, [0]);
    assert_eq!(guest.resize(512), Err(Refused::Incompatible));
}

#[test]
fn a_refused_version_is_followed_by_an_older_one() {
    let guest = Guest::opened();
    guest.host.refuses.set(true);
    guest.say(MessageType::VERSION_REQUEST, &[VERSION_2_0.into()]);
    assert_eq!(guest.heard().1, [0]);
    guest.host.refuses.set(false);
    guest.negotiate(VERSION_1_0, LINUX);
    assert_eq!(guest.resize(512), Ok(true));
}

#[test]
fn what_answers_nothing_is_noted_and_ignored() {
    let guest = linux();
    guest.host.notes.take();
    // A status, which has no answer.
    guest.say(MessageType::STATUS_REPORT, &[0; 5]);
    assert_eq!(guest.host.notes.take(), []);
    // No message, pages that nothing asked for, the host's own, an unknown one, one of another length.
    guest.send(&[1, 2, 3]);
    guest.give_up(&[(FIRST, 512)], false);
    guest.say(MessageType::UNBALLOON_RESPONSE, &[]);
    guest.say(MessageType::BALLOON_REQUEST, &[512]);
    guest.say(MessageType(99), &[0]);
    guest.say(MessageType::STATUS_REPORT, &[0; 2]);
    let notes = guest.host.notes.take();
    assert_eq!(notes.len(), 6, "{notes:?}");
    assert!(notes.iter().all(|(note, _)| *note == IGNORED), "{notes:?}");
    chunks(&guest, 0, 1);
}

#[test]
fn pages_are_given_up_discarded_and_given_back() {
    let guest = linux();
    guest.keeps();
    assert_eq!(guest.resize(1100), Ok(true));
    assert_eq!(guest.heard(), (MessageType::BALLOON_REQUEST, vec![1024]), "in chunks of 2 MiB");
    guest.give_up(&[(FIRST + 512, 512)], true);
    assert_eq!((guest.discarding(), guest.outcome()), (vec![(FIRST + 512, 512)], None));
    // The rest waits in the ring until the back end is done.
    guest.give_up(&[(FIRST + 2048, 511), (FIRST, 1)], false);
    assert_eq!(guest.taken(), 512);
    assert_eq!(guest.discarded(), 1);
    assert_eq!(guest.discarding(), [(FIRST + 2048, 511), (FIRST, 1)]);
    assert_eq!((guest.taken(), guest.outcome()), (1024, None));
    assert_eq!(guest.discarded(), 1);
    assert_eq!((guest.discarding(), guest.outcome()), (vec![], DONE));
    assert_eq!(guest.resize(1024), Ok(false), "nothing to do");

    assert_eq!(guest.resize(100), Ok(true));
    // Lowest first, and runs that follow one another are one.
    let (kind, words) = guest.heard();
    assert_eq!(kind, MessageType::UNBALLOON_REQUEST);
    assert_eq!(words, [3 << 32, range(FIRST, 1), range(FIRST + 512, 512), range(FIRST + 2048, 411)]);
    assert_eq!((guest.taken(), guest.outcome()), (100, None));
    guest.say(MessageType::UNBALLOON_RESPONSE, &[]);
    assert_eq!(guest.outcome(), DONE);
    assert_eq!(guest.resize(0), Ok(true));
    assert_eq!(guest.heard().1, [1 << 32, range(FIRST + 2459, 100)]);
    guest.say(MessageType::UNBALLOON_RESPONSE, &[]);
    assert_eq!((guest.taken(), guest.outcome()), (0, DONE));
}

#[test]
fn a_guest_keeps_what_it_needs() {
    let guest = linux();
    guest.resize(4096).unwrap();
    guest.heard();
    guest.give_up(&[(FIRST, 512)], false);
    assert_eq!((guest.taken(), guest.outcome()), (512, DONE));
    guest.resize(4096).unwrap();
    assert_eq!(guest.heard().1, [3584]);
    guest.give_up(&[], false);
    assert_eq!((guest.taken(), guest.outcome()), (512, DONE));
}

#[test]
fn single_pages_go_back_in_as_many_messages_as_it_takes() {
    let guest = linux();
    let count = RANGES as u64 * 2 + 100;
    guest.resize(count.next_multiple_of(512)).unwrap();
    guest.heard();
    let every: Vec<_> = (0..count).map(|n| (FIRST + n * 2, 1)).collect();
    for ranges in every.chunks(RANGES) {
        guest.give_up(ranges, ranges.len() == RANGES);
    }
    assert_eq!((guest.taken(), guest.outcome()), (count, DONE));
    guest.saved_and_restored();
    guest.resize(0).unwrap();
    for expected in [RANGES, RANGES, 100] {
        let (kind, words) = guest.heard();
        assert_eq!((kind, words.len() - 1), (MessageType::UNBALLOON_REQUEST, expected));
        assert_eq!(guest.outcome(), None);
        assert!(guest.receive().is_none(), "one at a time: Linux reads one packet per interrupt");
        guest.say(MessageType::UNBALLOON_RESPONSE, &[]);
    }
    assert_eq!((guest.taken(), guest.outcome()), (0, DONE));
}

#[test]
fn what_is_not_the_guests_to_give_is_refused() {
    let guest = linux();
    chunks(&guest, 4, 1);
    guest.resize(2048).unwrap();
    guest.heard();
    let bad = [
        (FIRST - 1, 2),
        (FIRST + PAGES - 1, 2),
        (0, 1),
        (FIRST, 0),
        ((1 << 40) - 1, 1),
        (FIRST + 5 * 512 - 1, 1),
        (FIRST + 4 * 512 - 1, 2),
        // More than it was asked for.
        (FIRST + 10 * 512, 1537),
    ];
    guest.give_up(&bad, true);
    let expected: Vec<u64> = bad.iter().map(|(start, count)| range(*start, *count)).collect();
    assert_eq!(refusals(&guest), expected);
    assert_eq!(guest.taken(), 512);
    // What it has claimed counts: there is nothing left of what was asked for.
    guest.give_up(&[(FIRST, 1)], false);
    assert_eq!((guest.taken(), guest.outcome()), (512, DONE));
    // The same page twice in one message.
    guest.resize(1024).unwrap();
    guest.heard();
    guest.give_up(&[(FIRST, 2), (FIRST + 1, 1)], false);
    assert_eq!(guest.taken(), 514);
    // A range that was not requested.
    guest.outcome();
    guest.give_up(&[(FIRST + 100, 1)], false);
    assert_eq!(guest.taken(), 514);
}

#[test]
fn what_is_no_answer_ends_the_request() {
    let shapes: [(u16, u64, usize); 6] = [
        (15, 0, 1),
        (24, 1 << 33, 1),
        (16, 1 << 33, 2),
        (24, 2 << 33, 2),
        (0xffff, 0x7fff_ffff << 33, 2),
        (8, 0, 0),
    ];
    for (size, head, words) in shapes {
        let guest = linux();
        guest.resize(512).unwrap();
        guest.heard();
        let mut message = [7_u16, size, 1, 0].map(u16::to_le_bytes).concat();
        message.extend([head, range(FIRST, 1)].iter().take(words).flat_map(|word| word.to_le_bytes()));
        guest.send(&message);
        assert_eq!(guest.outcome(), Some(Outcome::Malformed), "{size} {head:x} {words}");
        assert_eq!(guest.taken(), 0);
    }
}

#[test]
fn a_guest_that_does_not_balloon_is_not_asked() {
    let guest = Guest::new(VERSION_2_0, 0);
    assert_eq!(guest.resize(512), Err(Refused::Unsupported));
    let guest = linux();
    assert_eq!(guest.resize(PAGES + 1), Err(Refused::Invalid));
    assert_eq!(guest.resize(511), Ok(false), "less than a chunk");
    assert_eq!(guest.resize(512), Ok(true));
    assert_eq!(guest.resize(1024), Err(Refused::Busy));
    guest.give_up(&[], false);
    assert_eq!(guest.resize(1024), Err(Refused::Busy), "its outcome was not taken");
}

#[test]
fn pressure_is_what_was_reported_last() {
    let guest = linux();
    assert_eq!(guest.with(|device, _| device.pressure()), None);
    for (available, committed) in [(5, 6), (u64::MAX, 0)] {
        guest.say(MessageType::STATUS_REPORT, &[available, committed, 0, 0, 0]);
        assert_eq!(guest.with(|device, _| device.pressure()), Some(Pressure { available, committed }));
    }
    guest.say(MessageType::STATUS_REPORT, &[1, 2]);
    assert_ne!(guest.with(|device, _| device.pressure()), Some(Pressure { available: 1, committed: 2 }));
    guest.saved_and_restored();
    assert!(guest.with(|device, _| device.pressure()).is_some());
}

#[test]
fn a_driver_that_goes_has_all_pages_again() {
    let guest = linux();
    chunks(&guest, 0, 3);
    guest.keeps();
    guest.resize(2048).unwrap();
    guest.heard();
    guest.give_up(&[(FIRST + 2048, 512)], false);
    assert_eq!(guest.taken(), 2048);
    guest.close();
    assert_eq!((guest.taken(), guest.outcome()), (0, Some(Outcome::Closed)));
    assert!(guest.discarding().is_empty(), "the guest may use them");
    assert_eq!(guest.resize(512), Err(Refused::Closed));
    // The back end's word on the last request is not taken for the next driver's.
    guest.discarded();
    guest.open();
    guest.negotiate(VERSION_1_0, LINUX);
    guest.resize(512).unwrap();
    guest.heard();
    guest.give_up(&[(FIRST + 2048, 512)], false);
    assert_eq!((guest.taken(), guest.outcome()), (512, None));
    guest.discarded();
    assert_eq!(guest.outcome(), DONE);
}

#[test]
fn a_driver_that_comes_back_at_once_waits_for_what_is_in_flight() {
    let guest = linux();
    guest.keeps();
    guest.resize(512).unwrap();
    guest.heard();
    guest.give_up(&[(FIRST, 512)], false);
    guest.close();
    assert_eq!(guest.outcome(), Some(Outcome::Closed));
    guest.open();
    guest.say(MessageType::VERSION_REQUEST, &[VERSION_2_0.into()]);
    assert!(guest.receive().is_none(), "there is one request, and the last driver has it");
    assert_eq!(guest.discarded(), 1);
    assert_eq!(guest.heard(), (MessageType::VERSION_RESPONSE, vec![1]));
    assert_eq!((guest.taken(), guest.outcome()), (0, None));
}

#[test]
fn a_record_survives_save_and_restore_and_no_wrong_one_does() {
    let guest = linux();
    chunks(&guest, 1, 2);
    guest.resize(2048).unwrap();
    guest.heard();
    guest.saved_and_restored();
    guest.give_up(&[(FIRST + 4096, 7), (FIRST + 512, 1)], false);
    assert_eq!((guest.taken(), refusals(&guest).len()), (1031, 1), "a page is given up once");
    guest.saved_and_restored();
    assert_eq!(guest.outcome(), DONE);
    guest.resize(0).unwrap();
    guest.saved_and_restored();
    assert_eq!(guest.heard().1, [2 << 32, range(FIRST + 512, 1024), range(FIRST + 4096, 7)]);
    guest.say(MessageType::UNBALLOON_RESPONSE, &[]);
    assert_eq!(guest.outcome(), DONE);
    chunks(&guest, 1, 2);
    guest.hostile_images();
    assert_eq!(guest.taken(), 1024);
}
