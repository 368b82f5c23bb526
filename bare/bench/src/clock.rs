//! Reads of the clock through hv-guest.

use core::hint::black_box;

use hv_guest::arch::Smccc;
use hv_guest::partition::Partition;

use crate::measure::Bench;
use crate::{MEMORY, PAGES};

// Not part of `main`, whose stack frame is beyond the reach of the loads and stores of pairs in the loop.
#[inline(never)]
pub(crate) fn run(bench: &Bench, hv: &Partition<Smccc>) {
    let clock = hv.start_clock(&PAGES[1], &MEMORY).expect("it has a clock");
    assert!(clock.sequence() != 0, "the page is valid");
    bench.each("clock-page", 10_000, || {
        let _ = black_box(clock.now());
    });
    bench.each("clock-register", 10_000, || {
        let _ = black_box(clock.now_by_register());
    });
    bench.each("clock-counter", 10_000, || {
        black_box(rt::time::counter());
    });
    assert!(clock.stop().is_ok(), "it gives the page back");
}
