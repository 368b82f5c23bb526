use hv_tlfs::vp::{VP_INDEX_UNKNOWN, VpIndex};

use crate::vp_map::{MapError, VpMap};

#[test]
fn cpus_are_unknown_until_they_enter_themselves() {
    let map = VpMap::<4>::new();
    assert_eq!((map.vp(0), map.online(), map.highest()), (None, 0, None));
    map.enter(3, VpIndex(7)).unwrap();
    map.enter(0, VpIndex(0)).unwrap();
    assert_eq!((map.vp(3), map.vp(0), map.vp(1)), (Some(VpIndex(7)), Some(VpIndex(0)), None));
    assert_eq!((map.online(), map.highest()), (2, Some(VpIndex(7))));
}

#[test]
fn a_cpu_enters_once_until_it_leaves() {
    let map = VpMap::<1>::new();
    let entry = map.enter(0, VpIndex(0)).unwrap();
    assert_eq!(map.enter(0, VpIndex(1)).err(), Some(MapError::AlreadyOnline));
    entry.release();
    assert_eq!(map.vp(0), None);
    assert!(map.enter(0, VpIndex(1)).is_ok());
}

#[test]
fn what_is_no_cpu_and_what_is_no_index_are_refused() {
    let map = VpMap::<2>::new();
    assert_eq!(map.enter(2, VpIndex(0)).err(), Some(MapError::NoSuchCpu));
    assert_eq!(map.enter(0, VpIndex(VP_INDEX_UNKNOWN)).err(), Some(MapError::InvalidIndex));
    assert_eq!(map.vp(usize::MAX), None);
}
