//! The kernel of `bare/hello` without a machine: the same tour, against the host model in this process. This is how an
//! OS author tests a driver on a laptop.

#[path = "../../../bare/hello/src/tour.rs"]
mod tour;

use hv_tlfs::time::ReferenceTime;
use std::cell::RefCell;

use hv_guest::crash::{CrashReporter, Reported};
use hv_guest::interrupts::{Interrupts, Intid};
use hv_guest::page::Page;
use hv_testbed::{Config, Convention, Effect, Testbed, VpInterrupts};

/// An OS of the test's: interrupts come from the testbed, time passes while it waits, lines are kept.
struct Laptop {
    bed: &'static Testbed,
    interrupts: VpInterrupts,
    lines: RefCell<Vec<String>>,
}

impl Interrupts for Laptop {
    fn enable(&self, intid: Intid) {
        self.interrupts.enable(intid);
    }

    fn disable(&self, intid: Intid) {
        self.interrupts.disable(intid);
    }
}

impl tour::Os for Laptop {
    fn print(&self, line: std::fmt::Arguments<'_>) {
        self.lines.borrow_mut().push(line.to_string());
    }

    fn wait(&self, intid: Intid) {
        for _ in 0..1000 {
            if let Some(arrived) = self.bed.take_interrupt(0) {
                assert_eq!(arrived, intid.number());
                return;
            }
            self.bed.advance(ReferenceTime(1000));
        }
        panic!("INTID {} does not come", intid.number());
    }
}

#[test]
fn the_kernel_is_shorter_than_150_lines() {
    let (main, tour) =
        (include_str!("../../../bare/hello/src/main.rs"), include_str!("../../../bare/hello/src/tour.rs"));
    assert!(main.lines().count() + tour.lines().count() < 150, "it is an example, not a kernel");
}

#[test]
fn the_tour_of_the_bare_kernel_runs_in_a_test() {
    for convention in [Convention::Smccc, Convention::Hvc1] {
        let bed = Testbed::new(Config::new(62_500_000), 1);
        bed.advance(ReferenceTime(123_457));
        let laptop = Laptop { bed, interrupts: bed.interrupts(0), lines: RefCell::default() };
        let pages: &'static [Page] = bed.pages(4);
        let intids = [18, 17].map(|number| Intid::new(number).unwrap());
        tour::tour(bed.wire(0, convention), &laptop, bed.memory(), pages, intids);
        let expected = [
            "the time is 0.0123457s, by page: true",
            "VP 0 of Hyper-V 26100",
            "the timer came after 0.0223457s",
            "a message came: VMBus 5.3 supported: 1",
        ];
        assert_eq!(*laptop.lines.borrow(), expected);

        // The deliberate panic.
        let wire = bed.wire(0, convention);
        let reported =
            CrashReporter::new().report_text(&wire, [0; 3], b"deliberate", bed.page(), bed.memory());
        assert_eq!(reported, Ok(Reported::Everything));
        let effects = bed.take_effects();
        assert!(matches!(&effects[..], [Effect::Crash { text, .. }] if text == b"deliberate"), "{effects:?}");
    }
}
