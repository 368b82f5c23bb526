//! The reference TSC page, read while a migration changes it.

use crate::conduit::Counter;
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};
use crate::tsc::TscPage;
use hv_tlfs::time::ReferenceTime;
use loom::{sync::Arc, thread};

fn page(sequence: u32, scale: u64, offset: u64) -> TscPage {
    TscPage {
        sequence: AtomicU32::new(sequence),
        reserved: AtomicU32::new(0),
        scale: AtomicU64::new(scale),
        offset: AtomicU64::new(offset),
    }
}

/// A counter that stands still: scale and offset are what could be torn.
struct Still;
impl Counter for Still {
    fn counter(&self) -> u64 {
        1 << 32
    }
}

/// Writes the page as the TLFS says: sequence 0, then scale and offset, then a new sequence.
fn migrate(page: &TscPage, sequence: u32, scale: u64, offset: u64) {
    page.sequence.store(0, Ordering::Relaxed);
    fence(Ordering::Release);
    page.scale.store(scale, Ordering::Relaxed);
    page.offset.store(offset, Ordering::Relaxed);
    page.sequence.store(sequence, Ordering::Release);
}

#[test]
fn no_reader_sees_the_scale_of_one_host_with_the_offset_of_another() {
    loom::model(|| {
        let page = Arc::new(page(1, 1 << 33, 100));
        let writer = {
            let page = page.clone();
            thread::spawn(move || migrate(&page, 2, 1 << 34, 200))
        };
        let seen = page.read(&Still);
        assert!(matches!(seen, None | Some(ReferenceTime(102)) | Some(ReferenceTime(204))), "torn: {seen:?}");
        writer.join().unwrap();
        assert_eq!(page.read(&Still), Some(ReferenceTime(204)));
    });
}

#[test]
fn two_readings_in_a_row_do_not_go_back_to_the_old_host() {
    loom::model(|| {
        let page = Arc::new(page(1, 1 << 33, 100));
        let writer = {
            let page = page.clone();
            thread::spawn(move || migrate(&page, 2, 1 << 34, 200))
        };
        let first = page.read(&Still);
        let second = page.read(&Still);
        if let (Some(first), Some(second)) = (first, second) {
            assert!(second >= first);
        }
        writer.join().unwrap();
    });
}
