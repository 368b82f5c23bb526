use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use hv_tlfs::time::ReferenceTime;

use crate::conduit::Counter;
use crate::tsc::TscPage;

fn tsc(sequence: u32, scale: u64, offset: u64) -> TscPage {
    TscPage {
        sequence: AtomicU32::new(sequence),
        reserved: AtomicU32::new(0),
        scale: AtomicU64::new(scale),
        offset: AtomicU64::new(offset),
    }
}

struct Fixed(u64);
impl Counter for Fixed {
    fn counter(&self) -> u64 {
        self.0
    }
}

#[test]
fn time_is_the_high_half_of_the_product_plus_the_offset() {
    let page = tsc(1, 1 << 63, 5);
    assert_eq!(page.read(&Fixed(200)), Some(ReferenceTime(105)));
    let page = tsc(u32::MAX, u64::MAX, (-3_i64) as u64);
    assert_eq!(page.read(&Fixed(u64::MAX)), Some(ReferenceTime(u64::MAX - 4)));
}

#[test]
fn sequence_0_gives_no_time() {
    assert_eq!(tsc(0, 1 << 63, 5).read(&Fixed(200)), None);
}

#[test]
fn a_change_during_the_reading_gives_no_time() {
    struct Changes<'a>(&'a TscPage);
    impl Counter for Changes<'_> {
        fn counter(&self) -> u64 {
            self.0.sequence.store(8, Ordering::Relaxed);
            1
        }
    }
    let page = tsc(7, 1, 1);
    assert_eq!(page.read(&Changes(&page)), None);
}
