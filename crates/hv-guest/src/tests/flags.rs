//! Event flags.

use crate::page::Page;
use crate::sync::Ordering;

fn page_of_flags() -> &'static Page {
    static PAGE: Page = Page::new();
    PAGE.clear();
    &PAGE
}

#[test]
fn flags_are_taken_once_and_others_stay() {
    let flags = &page_of_flags().flags()[1];
    flags.head[0].store(1 << 5, Ordering::Relaxed);
    flags.head[1].store(1 << 31, Ordering::Relaxed);
    flags.rest[0].store(1, Ordering::Relaxed);
    flags.rest[30].store(1 << 63 | 1, Ordering::Relaxed);
    assert!(!flags.take(4));
    assert!(flags.take(5));
    assert!(!flags.take(5));
    assert!(!flags.take(62) && !flags.take(65));
    assert!(!flags.take(2048) && !flags.take(u16::MAX));
    let mut taken = [0; 4];
    let mut count = 0;
    flags.take_all(|flag| {
        taken[count] = flag;
        count += 1;
    });
    assert_eq!((count, taken), (4, [63, 64, 1984, 2047]));
    flags.take_all(|flag| panic!("flag {flag} twice"));
}
