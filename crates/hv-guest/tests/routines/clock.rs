//! The reference clock: page, register, fall-back, migration.

use crate::common::{FREQUENCY, everywhere, everywhere_on, often};
use hv_guest::registers::{self, Register};
use hv_testbed::{Config, Profile};
use hv_tlfs::time::{ReferenceTime, ReferenceTscRegister};

#[test]
fn page_and_register_tell_the_same_time() {
    for frequency in [19_200_000, 24_000_000, 62_500_000, 1_000_000_000] {
        everywhere_on(Config::new(frequency), |guest| {
            let clock = guest.partition.start_clock(guest.bed.page(), guest.bed.memory()).unwrap();
            assert_ne!(clock.sequence(), 0);
            for _ in 0..often(100) {
                guest.bed.advance(ReferenceTime(12_345_678_901));
                assert_eq!(clock.now(), clock.now_by_register());
                assert_eq!(clock.now(), Ok(guest.bed.reference_time()));
            }
        });
    }
}

#[test]
fn reading_the_page_takes_no_hypercall() {
    everywhere(|guest| {
        let clock = guest.partition.start_clock(guest.bed.page(), guest.bed.memory()).unwrap();
        let before = guest.bed.hypercalls();
        for _ in 0..often(1000) {
            clock.now().unwrap();
        }
        assert_eq!(guest.bed.hypercalls(), before);
    });
}

#[test]
fn a_page_that_is_not_valid_falls_back_to_the_register_and_comes_back() {
    everywhere(|guest| {
        let clock = guest.partition.start_clock(guest.bed.page(), guest.bed.memory()).unwrap();
        guest.bed.advance(ReferenceTime(1_000_000));
        let before = clock.now().unwrap();
        guest.bed.set_reference_tsc_valid(false);
        assert_eq!(clock.sequence(), 0);
        let calls = guest.bed.hypercalls();
        assert_eq!(clock.now(), Ok(before));
        assert_eq!(guest.bed.hypercalls() - calls, 1);
        guest.bed.set_reference_tsc_valid(true);
        assert_eq!(clock.now(), Ok(before));
        assert_eq!(guest.bed.hypercalls() - calls, 1);
    });
}

#[test]
fn time_goes_on_over_a_migration_to_another_counter() {
    everywhere(|guest| {
        let clock = guest.partition.start_clock(guest.bed.page(), guest.bed.memory()).unwrap();
        guest.bed.advance(ReferenceTime(50_000_000));
        let mut last = clock.now().unwrap();
        for (frequency, counter) in [(1_000_000_000, 5), (24_000_000, u64::MAX / 2), (62_500_000, 0)] {
            let sequence = clock.sequence();
            guest.bed.migrate(frequency, counter);
            assert_ne!(clock.sequence(), sequence);
            let now = clock.now().unwrap();
            assert!(now >= last && now.ticks() - last.ticks() <= 1, "{last:?} {now:?}");
            assert_eq!(clock.now_by_register(), Ok(now));
            guest.bed.set_counter(counter + frequency);
            let second = clock.now().unwrap();
            assert!(second.ticks() - now.ticks() >= 9_999_999 && second.ticks() - now.ticks() <= 10_000_001);
            last = second;
        }
    });
}

#[test]
fn a_host_without_the_page_has_a_clock_all_the_same() {
    everywhere_on(Config::new(FREQUENCY).with_profile(Profile::MINIMAL), |guest| {
        let clock = guest.partition.start_clock(guest.bed.page(), guest.bed.memory()).unwrap();
        guest.bed.advance(ReferenceTime(77_000_000));
        assert_eq!(clock.sequence(), 0);
        assert_eq!(clock.now(), Ok(guest.bed.reference_time()));
    });
}

#[test]
fn stopping_gives_the_page_back() {
    everywhere(|guest| {
        let clock = guest.partition.start_clock(guest.bed.page(), guest.bed.memory()).unwrap();
        let page = clock.stop().unwrap();
        assert_eq!(registers::get(guest.partition, Register::REFERENCE_TSC), Ok(ReferenceTscRegister(0)));
        guest.bed.migrate(1_000_000_000, 0);
        let mut bytes = [1; hv_tlfs::page::SIZE];
        page.read(0, &mut bytes);
        assert_eq!(bytes, [0; hv_tlfs::page::SIZE], "and says of itself that it is not valid");
    });
}

#[test]
fn time_does_not_go_backwards_between_vps() {
    let guest = crate::common::Guest::new(Config::new(FREQUENCY), hv_testbed::Convention::Smccc, 4);
    let clock = guest.partition.start_clock(guest.bed.page(), guest.bed.memory()).unwrap();
    guest.bed.set_counter_step(3);
    let latest = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..often(2000) {
                    let seen = latest.load(std::sync::atomic::Ordering::Acquire);
                    let now = clock.now().unwrap().ticks();
                    assert!(now >= seen, "{now} after {seen}");
                    latest.fetch_max(now, std::sync::atomic::Ordering::Release);
                }
            });
        }
        for sequence in 0..often(50) {
            guest.bed.set_reference_tsc_valid(sequence % 2 == 1);
            std::thread::yield_now();
        }
    });
}
