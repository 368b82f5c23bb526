//! Tests what a malicious program without unsafe code can do with pages and handles.
#![forbid(unsafe_code)]

use hv_tlfs::time::ReferenceTime;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use hv_guest::detect;
use hv_guest::partition::Vp;
use hv_guest::per_cpu::PerCpu;
use hv_guest::tlfs::guest_id::GuestOsId;
use hv_guest::tlfs::vp::VpIndex;
use hv_guest::vp_map::VpMap;
use hv_testbed::{Config, Convention, Testbed, Wire};

#[test]
fn no_page_is_given_twice_whatever_was_asked_for_in_between() {
    let bed = Testbed::new(Config::new(24_000_000), 1);
    let mut given = HashSet::new();
    for count in [usize::MAX, usize::MAX - 1, 1 << 40] {
        assert!(given.insert(std::ptr::from_ref(bed.page())));
        assert!(catch_unwind(AssertUnwindSafe(|| bed.pages(count).len())).is_err());
    }
    assert!(given.insert(std::ptr::from_ref(bed.page())));
}

#[test]
fn time_can_pass_without_end() {
    let bed = Testbed::new(Config::new(24_000_000), 1);
    bed.set_counter(u64::MAX - 3);
    bed.advance(ReferenceTime::MAX);
}

#[test]
fn handles_that_are_swapped_forgotten_or_left_by_a_panic_stay_one_at_a_time() {
    let bed = Testbed::new(Config::new(24_000_000), 2);
    let partitions = [0, 1].map(|vp| {
        let hv = detect::vendor_uid(bed.wire(vp, Convention::Smccc)).unwrap();
        hv.identify(GuestOsId::linux(0x06_0c_00)).unwrap()
    });
    let map = VpMap::<2>::new();
    let places = PerCpu::<Vp<'_, Wire>, 2>::new();
    for (cpu, partition) in partitions.iter().enumerate() {
        places.put(cpu, partition.vp(&map, cpu).unwrap()).unwrap();
    }
    places.with(0, |a| places.with(1, |b| std::mem::swap(a, b)));
    assert_eq!(places.with(0, |vp| vp.index()), Some(VpIndex(1)));
    let left = catch_unwind(AssertUnwindSafe(|| places.with(0, |_| panic!("in the middle"))));
    assert!(left.is_err());
    assert_eq!(places.with(0, |vp| vp.index()), Some(VpIndex(1)), "the place was left");
    let _ = Box::leak(Box::new(places.take(0)));
    assert_eq!((places.with(0, |vp| vp.index()), map.online()), (None, 2));
}
