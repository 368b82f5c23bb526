//! Tests of pages.

use zerocopy::IntoBytes as _;

use super::*;

#[test]
fn bytes_go_in_and_come_out_at_any_place_and_their_neighbours_stay() {
    let page = Page::new();
    let data: std::vec::Vec<u8> = (1..=40).collect();
    // Miri takes a second to write and read a page.
    let offsets = if cfg!(miri) { 3..4 } else { 0..24 };
    for offset in offsets.chain([249, SIZE - 40]) {
        for len in [0, 1, 3, 4, 5, 8, 9, 12, 17, 40].into_iter().step_by(if cfg!(miri) { 4 } else { 1 }) {
            page.write(0, &[0xee; SIZE]);
            page.write(offset, &data[..len]);
            let mut all = [0; SIZE];
            page.read(0, &mut all);
            assert_eq!(&all[offset..offset + len], &data[..len], "{len} bytes at {offset}");
            assert!(all[..offset].iter().chain(&all[offset + len..]).all(|byte| *byte == 0xee));
            let mut part = [0; 40];
            page.read(offset, &mut part[..len]);
            assert_eq!(part[..len], data[..len]);
        }
    }
}

/// Tests words aligned on both sides, including across the 32-bit cells; the other test has mostly odd offsets.
#[test]
fn words_go_where_their_bytes_go() {
    let words: [u64; 65] = core::array::from_fn(|n| (n as u64 + 1).wrapping_mul(0x0807_0605_0403_0201));
    let page = Page::new();
    for offset in [0, 8, 248, 256, 512, SIZE - 8 * 65] {
        page.clear();
        page.write(offset, words.as_bytes());
        let mut all = [0_u8; SIZE + 1];
        // At an odd address.
        page.read(0, &mut all[1..]);
        assert_eq!(&all[1 + offset..][..8 * 65], words.as_bytes(), "{offset}");
        let set = words.as_bytes().iter().filter(|byte| **byte != 0).count();
        assert_eq!(all.iter().filter(|byte| **byte != 0).count(), set);
        let mut again = [0_u64; 65];
        page.read(offset, again.as_mut_bytes());
        assert_eq!(again, words);
    }
}

/// One of two neighbouring addresses at least is not aligned.
#[test]
fn words_are_not_aligned_where_they_come_from_and_go_to() {
    let bytes: [u8; 8 * 33 + 2] = core::array::from_fn(|n| (n % 255) as u8 + 1);
    for (first, offset) in [(1, 0), (2, 0), (1, 248), (2, 248)] {
        for len in [8, 64, 72, 8 * 33] {
            let (page, from) = (Page::new(), &bytes[first..][..len]);
            page.write(offset, from);
            let mut all = [0; SIZE + 2];
            page.read(0, &mut all[first..][..SIZE]);
            let (before, rest) = all[first..].split_at(offset);
            assert_eq!(&rest[..len], from, "{len} bytes at {offset}");
            assert!(before.iter().chain(&rest[len..]).all(|byte| *byte == 0));
        }
    }
}

#[test]
fn what_does_not_fit_is_not_written() {
    let page = Page::new();
    page.write(SIZE - 8, &[1; 9]);
    page.write(SIZE, &[1; 1]);
    page.write(usize::MAX - 7, &[1; 1]);
    let mut all = [7; SIZE];
    page.read(0, &mut all);
    assert_eq!(all, [0; SIZE]);
    let mut bytes = [7; 16];
    page.read(SIZE - 8, &mut bytes);
    assert_eq!(bytes, [0, 0, 0, 0, 0, 0, 0, 0, 7, 7, 7, 7, 7, 7, 7, 7]);
}

#[test]
fn single_words_are_where_their_bytes_are() {
    let page = Page::new();
    for offset in [0, 8, 16, 248, 256, SIZE - 8] {
        page.clear();
        page.store_word(offset + 7, 0x0807_0605_0403_0201);
        let mut all = [0; SIZE];
        page.read(0, &mut all);
        assert_eq!(u64::from_ne_bytes(all[offset..][..8].try_into().unwrap()), 0x0807_0605_0403_0201);
        assert!(all[..offset].iter().chain(&all[offset + 8..]).all(|byte| *byte == 0));
        assert_eq!(page.load_word(offset + 3), 0x0807_0605_0403_0201, "{offset}");
    }
    page.clear();
    for beyond in [SIZE, SIZE + 8, usize::MAX] {
        page.store_word(beyond, u64::MAX);
        assert_eq!(page.load_word(beyond), 0);
    }
    let mut all = [7; SIZE];
    page.read(0, &mut all);
    assert_eq!(all, [0; SIZE]);
}

#[test]
fn halves_are_where_their_bytes_are() {
    let page = Page::new();
    for offset in [0, 4, 8, 12, 252, 256, 260, SIZE - 4] {
        page.clear();
        assert_eq!(page.store_u32(offset, 0x0102_0304), Some(()));
        assert_eq!(page.fetch_or_u32(offset, 0xf000_0000), Some(0x0102_0304));
        assert_eq!(page.swap_u32(offset, 0x0506_0708), Some(0xf102_0304));
        assert_eq!(page.swap_u32(offset, 0xf102_0304), Some(0x0506_0708));
        assert_eq!(page.load_u32(offset), Some(0xf102_0304));
        let mut all = [0; SIZE];
        page.read(0, &mut all);
        assert_eq!(all[offset..offset + 4], 0xf102_0304_u32.to_ne_bytes());
        assert_eq!(all.iter().filter(|byte| **byte != 0).count(), 4);
    }
    for offset in [1, 2, SIZE, usize::MAX - 3] {
        assert_eq!((page.load_u32(offset), page.store_u32(offset, 1)), (None, None));
        assert_eq!((page.fetch_or_u32(offset, 1), page.swap_u32(offset, 1)), (None, None));
    }
}

#[test]
fn the_views_are_where_the_tlfs_has_them() {
    let page = Page::new();
    let base = &raw const page as usize;
    assert_eq!(&raw const page.slots()[2] as usize - base, 512);
    assert_eq!(&raw const page.flags()[15] as usize - base, 15 * 256);
    assert_eq!(page.tsc() as *const TscPage as usize, base);
}

/// Tests what Miri reports as undefined behaviour if a byte has two access widths: every use of a page at once,
/// from safe code alone.
#[test]
fn uses_of_one_page_at_a_time_never_access_a_byte_with_two_widths() {
    struct Ticks;
    impl crate::conduit::Counter for Ticks {
        fn counter(&self) -> u64 {
            1
        }
    }
    static PAGE: Page = Page::new();
    let rounds = if cfg!(miri) { 3 } else { 100 };
    let uses: [&(dyn Fn() + Sync); 8] = [
        &|| PAGE.clear(),
        &|| PAGE.write(3, &[0x11; 300]),
        &|| PAGE.read(0, &mut [0; 300]),
        &|| {
            for offset in [0, 4, 8, 256] {
                PAGE.store_u32(offset, 1);
                PAGE.fetch_or_u32(offset, 2);
                PAGE.swap_u32(offset, 3);
                assert!(PAGE.load_u32(offset).is_some());
            }
        },
        &|| {
            for slot in PAGE.slots() {
                if let Some(pending) = slot.pending() {
                    let (seen, _) = (pending.message_type(), pending.read());
                    slot.free(seen);
                }
            }
        },
        &|| PAGE.flags().iter().for_each(|flags| flags.take_all(|_| ())),
        &|| assert!(!PAGE.flags()[0].take(5) || PAGE.flags()[0].take(5) || PAGE.load_u32(0).is_some()),
        &|| {
            let _ = PAGE.tsc().read(&Ticks);
        },
    ];
    std::thread::scope(|scope| {
        for each in uses {
            scope.spawn(move || (0..rounds).for_each(|_| each()));
        }
    });
}
