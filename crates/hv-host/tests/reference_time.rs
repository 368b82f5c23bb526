//! TLFS, "Timers", "Reference Counter" and "Partition Reference Time Enlightenment".

use hv_host::{Config, GuestMemory, Host, Profile};
use hv_partition::testing::{RAM, RAM_SIZE, TestMachine, run, run_bare};
use hv_tlfs::register::RegisterName as Name;
use hv_tlfs::status::HvStatus;
use hv_tlfs::time::ReferenceTime;

const PAGE: u64 = RAM + 0x5000;
const FREQUENCIES: [u64; 6] = [19_200_000, 24_000_000, 25_000_000, 50_000_000, 62_500_000, 1_000_000_000];

fn with(frequency: u64, test: impl FnOnce(&TestMachine<'_>)) {
    run(Config::new(frequency), 2, &[], test);
}

fn read(m: &TestMachine<'_>, offset: u64) -> u64 {
    let mut bytes = [0; 8];
    m.host.memory().read(PAGE + offset, &mut bytes).unwrap();
    u64::from_le_bytes(bytes)
}

/// Computes the time from the page as a guest does; `None` if the page sends it to the register.
fn page_time(m: &TestMachine<'_>) -> Option<u64> {
    let sequence = read(m, 0) as u32;
    (sequence != 0).then(|| {
        let scaled = (u128::from(m.host.counter()) * u128::from(read(m, 8))) >> 64;
        (scaled as u64).wrapping_add(read(m, 16))
    })
}

#[test]
fn the_counter_starts_at_zero_with_the_partition() {
    run_bare(Config::new(62_500_000), 1, &[], |m| {
        m.host.set_counter(123_456_789_012);
        m.partition.reset(&m.host);
        m.online(0);
        assert_eq!(m.get(0, Name::TIME_REF_COUNT), Ok(0));
        m.host.set_counter(123_456_789_012 + 62_500_000);
        let second = m.get(0, Name::TIME_REF_COUNT).unwrap();
        assert!((9_999_999..=10_000_000).contains(&second), "{second}");
    });
}

#[test]
fn the_counter_has_100_ns_units_at_any_frequency() {
    for frequency in FREQUENCIES {
        with(frequency, |m| {
            for seconds in [1, 60, 86_400, 86_400 * 365 * 5] {
                m.host.set_counter(seconds * frequency);
                let time = m.get(1, Name::TIME_REF_COUNT).unwrap();
                // The scale is rounded to 1/2^64: less than a unit in five years.
                assert!(time.abs_diff(seconds * 10_000_000) <= 1, "{frequency} {seconds}: {time}");
            }
        });
    }
}

#[test]
fn the_counter_never_goes_back() {
    with(24_000_000, |m| {
        let mut last = ReferenceTime::ZERO;
        for counter in (0..100_000).chain((1 << 56)..(1 << 56) + 1000) {
            m.host.set_counter(counter);
            let time = m.partition.reference_time(&m.host);
            assert!(time >= last);
            last = time;
        }
    });
}

#[test]
fn the_counter_cannot_be_written() {
    with(62_500_000, |m| assert_eq!(m.set(0, Name::TIME_REF_COUNT, 0), Err(HvStatus::INVALID_PARAMETER)));
}

#[test]
fn the_page_is_off_at_first() {
    with(62_500_000, |m| {
        assert_eq!(m.get(0, Name::REFERENCE_TSC), Ok(0));
        assert_eq!(m.set(0, Name::REFERENCE_TSC, PAGE), Ok(()), "without the enable bit");
        assert_eq!(read(m, 0), 0);
    });
}

#[test]
fn page_and_register_agree_to_the_last_unit() {
    for frequency in FREQUENCIES {
        run_bare(Config::new(frequency), 1, &[], |m| {
            m.host.set_counter(987_654_321);
            m.partition.reset(&m.host);
            m.online(0);
            m.set(0, Name::GUEST_OS_ID, 1).unwrap();
            m.set(0, Name::REFERENCE_TSC, PAGE | 1).unwrap();
            for counter in [987_654_321, 987_654_322, 1 << 40, (1 << 60) + 12_345] {
                m.host.set_counter(counter);
                assert_eq!(page_time(m), m.get(0, Name::TIME_REF_COUNT).ok(), "{frequency} {counter}");
            }
        });
    }
}

#[test]
fn the_page_is_the_partitions() {
    with(62_500_000, |m| {
        m.set(0, Name::REFERENCE_TSC, PAGE | 1).unwrap();
        assert_eq!(m.get(1, Name::REFERENCE_TSC), Ok(PAGE | 1));
        assert_eq!(m.get(1, Name::REFERENCE_TSC_SEQUENCE), Ok(read(m, 0) & 0xffff_ffff));
    });
}

#[test]
fn a_page_beyond_the_guests_memory_is_accepted_and_not_accessible() {
    with(62_500_000, |m| {
        for bad in [0, RAM + RAM_SIZE, 1 << 60, !0xfff] {
            assert_eq!(m.set(0, Name::REFERENCE_TSC, bad | 1), Ok(()));
            assert_eq!(m.get(0, Name::REFERENCE_TSC), Ok(bad | 1));
            m.partition.migrate(&m.host, 62_500_000, ReferenceTime(5));
        }
    });
}

#[test]
fn the_page_needs_the_privilege() {
    let config = Config::new(62_500_000).with_profile(Profile::MINIMAL);
    run(config, 1, &[], |m| {
        assert_eq!(m.set(0, Name::REFERENCE_TSC, PAGE | 1), Err(HvStatus::ACCESS_DENIED));
    });
}

#[test]
fn a_migration_changes_the_sequence_and_the_time_goes_on() {
    with(62_500_000, |m| {
        m.set(0, Name::REFERENCE_TSC, PAGE | 1).unwrap();
        let mut sequences = vec![read(m, 0) as u32];
        let mut now = 0;
        for (frequency, counter) in
            [(1_000_000_000, 0), (24_000_000, 1 << 50), (62_500_000, 77), (62_500_000, 1 << 40)]
        {
            m.host.set_counter(counter);
            m.partition.migrate(&m.host, frequency, ReferenceTime(now));
            assert_eq!(page_time(m), Some(now));
            assert_eq!(m.get(0, Name::TIME_REF_COUNT), Ok(now));
            m.host.set_counter(counter + frequency);
            let later = m.get(1, Name::TIME_REF_COUNT).unwrap();
            assert!((now + 9_999_999..=now + 10_000_000).contains(&later), "{later}");
            assert_eq!(page_time(m), Some(later));
            now = later;
            sequences.push(read(m, 0) as u32);
        }
        assert!(sequences.is_sorted_by(|a, b| a < b), "{sequences:?}");
    });
}

#[test]
fn sequence_0_sends_the_guest_to_the_register() {
    with(62_500_000, |m| {
        m.set(0, Name::REFERENCE_TSC, PAGE | 1).unwrap();
        let before = read(m, 0) as u32;
        m.partition.set_reference_tsc_valid(&m.host, false);
        assert_eq!(page_time(m), None);
        assert_eq!(m.get(0, Name::REFERENCE_TSC_SEQUENCE), Ok(0));
        m.host.set_counter(62_500_000);
        assert!(m.get(0, Name::TIME_REF_COUNT).unwrap() >= 9_999_999, "the register goes on");
        m.set(0, Name::REFERENCE_TSC, 0).unwrap();
        m.set(0, Name::REFERENCE_TSC, PAGE | 1).unwrap();
        assert_eq!(page_time(m), None, "switching the page on does not make it valid");
        m.partition.set_reference_tsc_valid(&m.host, true);
        assert_eq!(page_time(m), m.get(0, Name::TIME_REF_COUNT).ok());
        assert_ne!(read(m, 0) as u32, before);
    });
}

#[test]
fn a_reader_that_checks_the_sequence_never_sees_a_mixture() {
    with(1_000_000_000, |m| {
        m.set(0, Name::REFERENCE_TSC, PAGE | 1).unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..2000 {
                    // The counter stands still, so that the time that a guest computes is the one given here.
                    m.partition.migrate(
                        &m.host,
                        [1_000_000_000, 24_000_000][n % 2],
                        ReferenceTime(1_000_000),
                    );
                }
                done.store(true, std::sync::atomic::Ordering::Release);
            });
            m.host.set_counter(123_456_789);
            m.partition.migrate(&m.host, 1_000_000_000, ReferenceTime(1_000_000));
            while !done.load(std::sync::atomic::Ordering::Acquire) {
                let memory = m.host.memory();
                let sequence = memory.load_acquire(PAGE).unwrap();
                let time = page_time(m);
                std::sync::atomic::fence(std::sync::atomic::Ordering::Acquire);
                if sequence != 0 && memory.load_acquire(PAGE).unwrap() == sequence {
                    assert_eq!(time, Some(1_000_000));
                }
                let register = m.partition.reference_time(&m.host);
                assert_eq!(register, ReferenceTime(1_000_000));
            }
        });
    });
}
