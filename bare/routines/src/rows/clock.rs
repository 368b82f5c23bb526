//! The reference clock.

use core::sync::atomic::{AtomicU64, Ordering};

use hv_guest::clock;
use hv_guest::conduit::Counter;
use hv_guest::registers::{self, Register};
use hv_guest::tlfs::time::ReferenceTscRegister;

use super::{Cx, Os};

/// Checks that page and register tell one time, which does not go backwards from VP to VP, nor over migrations.
pub(crate) fn clock<O: Os>(cx: &Cx<'_, O>) {
    let latest = AtomicU64::new(0);
    assert_ne!(cx.clock.sequence(), 0, "the page is valid");
    let (mut rounds, mut migrations, mut sequence) = (0, 0, cx.clock.sequence());
    cx.until("the migrations", || {
        cx.on_each(|n| {
            let before = cx.clock.now_by_register().expect("the counter register");
            let now = cx.clock.now().expect("the page");
            let after = cx.clock.now_by_register().expect("the counter register");
            assert!(before <= now && now <= after, "on VP {n}: {before:?} {now:?} {after:?}");
            let seen = latest.swap(now.ticks(), Ordering::AcqRel);
            assert!(now.ticks() >= seen, "on VP {n}: {now:?} after {seen}");
            // None while the page changes.
            if let Some((counter, time)) = clock::read_page(&cx.os.pages()[0], &cx.os.conduit()) {
                assert!(time >= now && counter <= cx.os.conduit().counter());
            }
        });
        let new = cx.clock.sequence();
        migrations += u32::from(new != sequence);
        (rounds, sequence) = (rounds + 1, new);
        rounds >= 20 && migrations >= cx.os.migrations()
    });
    falls_back(cx);
}

/// Checks that a page that is not valid makes the clock read the counter register, until the page is valid again.
fn falls_back<O: Os>(cx: &Cx<'_, O>) {
    let page = &cx.os.pages()[0];
    let lent = registers::get(cx.hv, Register::REFERENCE_TSC).expect("the page's register");
    // SAFETY: no page is enabled.
    let back = unsafe { registers::lend(cx.hv, Register::REFERENCE_TSC, ReferenceTscRegister(0)) };
    back.expect("it gives the page back");
    page.clear();
    assert!(cx.clock.sequence() == 0 && clock::read_page(page, &cx.os.conduit()).is_none());
    let between = || {
        let before = cx.clock.now_by_register().expect("the counter register");
        let now = cx.clock.now().expect("by page or by register");
        let after = cx.clock.now_by_register().expect("the counter register");
        assert!(before <= now && now <= after, "{before:?} {now:?} {after:?}");
    };
    cx.on_each(|_| between());
    // SAFETY: it is the page of the clock, which is lent for as long as the clock lives.
    unsafe { registers::lend(cx.hv, Register::REFERENCE_TSC, lent) }.expect("it takes the page again");
    assert_ne!(cx.clock.sequence(), 0, "the page is valid again");
    cx.on_each(|_| between());
}
