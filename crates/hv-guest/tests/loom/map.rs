//! The VP map, filled by each CPU and read by any.

use crate::sync::{AtomicU32, Ordering};
use crate::vp_map::{Entry, VpMap};
use hv_tlfs::vp::{VP_INDEX_UNKNOWN, VpIndex};
use loom::{sync::Arc, sync::atomic::AtomicBool, thread};

fn map() -> VpMap<2> {
    VpMap { entries: core::array::from_fn(|_| Entry(AtomicU32::new(VP_INDEX_UNKNOWN))) }
}

#[test]
fn who_sees_a_cpu_sees_what_it_did_before() {
    loom::model(|| {
        let shared = Arc::new((map(), AtomicBool::new(false)));
        let cpu = {
            let shared = shared.clone();
            thread::spawn(move || {
                shared.1.store(true, Ordering::Relaxed);
                shared.0.enter(1, VpIndex(5)).unwrap();
            })
        };
        if let Some(index) = shared.0.vp(1) {
            assert_eq!(index, VpIndex(5));
            assert!(shared.1.load(Ordering::Relaxed), "the CPU is in the map before it was ready");
        }
        cpu.join().unwrap();
        assert_eq!(shared.0.highest(), Some(VpIndex(5)));
    });
}

#[test]
fn two_that_claim_one_cpu_do_not_both_get_it() {
    loom::model(|| {
        let shared = Arc::new(map());
        let other = {
            let shared = shared.clone();
            thread::spawn(move || shared.enter(0, VpIndex(1)).is_ok())
        };
        let here = shared.enter(0, VpIndex(2)).is_ok();
        let there = other.join().unwrap();
        assert_ne!(here, there);
        assert_eq!(shared.vp(0), Some(VpIndex(if here { 2 } else { 1 })));
    });
}
