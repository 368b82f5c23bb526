//! Guests that say anything, in any order, with a back end that answers when it likes: the record is what was judged,
//! each request has one outcome at most, and a machine that is saved and restored in between ends as one that is not.

use std::collections::BTreeSet;

use crate::guest::{FIRST, Guest, PAGES};
use crate::single::Left;
use hv_devices::ic::READY;
use hv_tlfs::vmbus::balloon::{MessageType, PageRange, VERSION_2_0};
use proptest::prelude::*;

/// Step of a guest or its host.
#[derive(Clone, Debug)]
enum Step {
    /// The host wants this many pages.
    Resize(u64),
    /// The host takes the outcome.
    Take,
    /// The guest gives up these.
    GiveUp(Vec<(u64, u32)>, bool),
    /// The guest answers what it was given.
    Answer,
    /// The guest sends a message of this type and size, with these bytes.
    Raw(u16, u16, Vec<u8>),
    /// The back end is done.
    Discarded,
    Close,
    Open,
    /// The machine is saved and restored.
    Restore,
}

fn step() -> impl Strategy<Value = Step> {
    let start = prop_oneof![8 => FIRST - 2..FIRST + 2000, 1 => any::<u64>().prop_map(|start| start >> 24)];
    let count = prop_oneof![4 => 0_u32..100, 4 => Just(512_u32), 1 => 0_u32..1 << 24];
    let ranges = prop::collection::vec((start, count), 0..8);
    let size = prop_oneof![4 => Just(u16::MAX), 1 => any::<u16>()];
    prop_oneof![
        4 => (0..=PAGES).prop_map(Step::Resize),
        2 => (0_u64..3000).prop_map(Step::Resize),
        4 => Just(Step::Take),
        8 => (ranges, any::<bool>()).prop_map(|(ranges, more)| Step::GiveUp(ranges, more)),
        4 => Just(Step::Answer),
        2 => (0_u16..14, size, prop::collection::vec(any::<u8>(), 0..64))
            .prop_map(|(kind, size, bytes)| Step::Raw(kind, size, bytes)),
        3 => Just(Step::Discarded),
        1 => Just(Step::Close),
        1 => Just(Step::Open),
        1 => Just(Step::Restore),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn the_record_is_what_was_judged(steps in prop::collection::vec(step(), 0..80)) {
        let (restored, plain) = (run(&steps, true)?, run(&steps, false)?);
        prop_assert!(restored.0 == plain.0, "the states differ");
        prop_assert!(restored.1 == plain.1, "the guests' memories differ");
    }
}

/// Plays the steps, with or without the restores.
fn run(steps: &[Step], restores: bool) -> Result<Left, TestCaseError> {
    let guest = Guest::new(VERSION_2_0, 1);
    guest.keeps();
    // What was judged to be given up, and was not given back.
    let mut pages: BTreeSet<u64> = BTreeSet::new();
    let (mut open, mut asked, mut taken) = (true, 0_usize, 0_usize);
    for step in steps {
        match step {
            Step::Resize(wanted) => asked += usize::from(guest.resize(*wanted) == Ok(true)),
            Step::Take => taken += usize::from(guest.outcome().is_some()),
            Step::GiveUp(ranges, more) if open => guest.give_up(ranges, *more),
            Step::Answer if open => guest.say(MessageType::UNBALLOON_RESPONSE, &[]),
            Step::Raw(kind, size, bytes) if open => {
                let size = if *size == u16::MAX { bytes.len() as u16 + 8 } else { *size };
                let message = [&kind.to_le_bytes()[..], &size.to_le_bytes(), &[0; 4], bytes].concat();
                guest.send(&message);
            }
            Step::Discarded => settle(&guest, &mut pages),
            Step::Close if open => {
                guest.close();
                open = false;
                prop_assert!(guest.taken() == 0 && guest.discarding().is_empty());
                pages.clear();
            }
            Step::Open if !open => {
                settle(&guest, &mut pages);
                guest.open();
                open = true;
                guest.negotiate(VERSION_2_0, 1);
            }
            Step::Restore => {
                settle(&guest, &mut pages);
                if !restores {
                    continue;
                }
                let told = guest.host.notes.borrow().len();
                guest.saved_and_restored();
                guest.host.notes.borrow_mut().truncate(told);
            }
            _ => {}
        }
        see(&guest, &mut pages);
        while let Some(bytes) = open.then(|| guest.receive()).flatten() {
            if bytes[0] != MessageType::UNBALLOON_REQUEST.0 as u8 {
                continue;
            }
            for word in bytes[16..].chunks_exact(8) {
                let range = PageRange(u64::from_le_bytes(word.try_into().unwrap()));
                for page in range.start()..range.start() + u64::from(range.count()) {
                    prop_assert!(pages.remove(&page), "{page:#x} was not given up");
                }
            }
            see(&guest, &mut pages);
        }
        prop_assert_eq!(guest.taken(), pages.len() as u64);
        prop_assert!(taken <= asked);
    }
    let told = guest.host.notes.borrow().iter().filter(|(note, _)| *note == READY).count();
    prop_assert!(taken <= told && told <= asked, "{taken} taken, {told} told, {asked} asked");
    settle(&guest, &mut pages);
    Ok(guest.left())
}

/// Takes note of what the back end is to discard: pages of the guest's memory.
fn see(guest: &Guest, pages: &mut BTreeSet<u64>) {
    for (start, count) in guest.discarding() {
        let range = start..start + u64::from(count);
        assert!(FIRST <= range.start && range.end <= FIRST + PAGES, "{range:x?}");
        pages.extend(range);
    }
}

/// Completes all requests of the back end.
fn settle(guest: &Guest, pages: &mut BTreeSet<u64>) {
    see(guest, pages);
    while guest.discarded() > 0 {
        see(guest, pages);
    }
}
