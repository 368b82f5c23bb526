//! The state of a VP that starts: the one in which firmware leaves a machine, even where the VP was on before.
//!
//! Source: the book, "The machine", "Entry"; Arm ARM, reset values of system registers; Arm IHI 0069.
#![expect(unsafe_code, reason = "registers that a VP leaves behind")]

use rt::cpu::{self, AffinityState};
use rt::{arch, found, msr, time};

use crate::check::{Check, Checks};
use crate::psci::PATIENCE;

/// The registers, and their values.
const EXPECTED: &[(&str, u64)] = &[
    // Affinity routing, one security state; no group is enabled.
    ("GICD_CTLR", 0x50),
    ("GICD_IGROUPR1", 0xffff_ffff),
    ("GICD_ISENABLER1", 0),
    ("GICR_WAKER", 0),
    ("GICR_IGROUPR0", 0xffff_ffff),
    ("GICR_ISENABLER0", 0),
    ("GICR_ISPENDR0", 0),
    ("GICR_ISACTIVER0", 0),
    ("ICC_SRE_EL1", 0b111),
    ("ICC_PMR_EL1", 0),
    ("ICC_IGRPEN0_EL1", 0),
    ("ICC_IGRPEN1_EL1", 0),
    ("CNTV_CTL_EL0", 0),
    ("CNTP_CTL_EL0", 0),
    ("CNTKCTL_EL1", 0),
    ("MDSCR_EL1", 0),
    ("MDCCINT_EL1", 0),
    ("OSDLR_EL1", 0),
    ("OSLSR_EL1.OSLK", 1),
    ("PMCR_EL0.E", 0),
    ("PMCNTENSET_EL0", 0),
    ("PMINTENSET_EL1", 0),
    ("PMOVSSET_EL0", 0),
    ("PMUSERENR_EL0", 0),
    ("CONTEXTIDR_EL1", 0),
    ("TPIDR_EL0", 0),
    ("DAIF", 0b1111 << 6),
];
/// What this program has set up by the time another VP starts.
const SET_UP: [&str; 4] = ["GICD_CTLR", "GICD_ISENABLER1", "GICR_ISENABLER0", "GICR_ISPENDR0"];

pub(crate) fn run(checks: &mut Checks) {
    checks.check("the first VP finds what firmware leaves", |check| {
        // VPs that start over (`restart`) would find more.
        found_by(check, 0, |_| true);
    });
    if rt::hardware::get().vps() < 2 {
        checks.skip("a VP that starts finds the same", "there is one VP");
        return;
    }
    checks.check("a VP that starts finds the same", |check| {
        started(check, || ());
        found_by(check, 1, |name| !SET_UP.contains(&name));
    });
    checks.check("a VP that starts again finds nothing of what it left", |check| {
        started(check, leave);
        started(check, || ());
        found_by(check, 1, |name| !SET_UP.contains(&name));
    });
    checks.check("the redistributor of a VP that is off is asleep", |check| {
        let waker = rt::hardware::get().gicr + 0x2_0000 + 0x14;
        check.equal("GICR_WAKER", crate::probes::read(waker, rt::probe::Size::Word), Ok(6));
    });
}

fn found_by(check: &mut Check, vp: usize, counts: impl Fn(&str) -> bool) {
    let Some(found) = found::by(vp) else { return check.wrong(vp, "has not started") };
    check.equal("registers", found.len(), EXPECTED.len());
    for ((name, value), (expected_name, expected)) in found.into_iter().zip(EXPECTED) {
        check.equal("the same register", name, *expected_name);
        if counts(name) {
            check.equal((vp, name), value, *expected);
        }
    }
}

/// Starts VP 1, and waits until it is off again.
fn started(check: &mut Check, work: fn()) {
    check.equal("CPU_ON", cpu::start(1, work), Ok(()));
    check.holds("it goes off", time::wait_until(PATIENCE, || cpu::state(1) == Ok(AffinityState::Off)));
}

/// Leaves as much behind as possible.
fn leave() {
    macro_rules! leave {
        ($($register:literal = $value:expr),* $(,)?) => {
            $(
                // SAFETY: the VP powers off right after it, with interrupts masked, and none of these concerns memory.
                unsafe { msr!($register, $value) };
            )*
        };
    }
    leave!(
        "cntkctl_el1" = 0x3,
        "cntv_ctl_el0" = 0b11,
        "cntp_ctl_el0" = 0b11,
        "oslar_el1" = 0,
        "mdccint_el1" = 1 << 29,
        "mdscr_el1" = 1 << 15,
        "contextidr_el1" = 0x55,
        "tpidr_el0" = 0x55,
        "icc_pmr_el1" = 0xf0,
        "icc_igrpen1_el1" = 1,
    );
    if found::has_pmu() {
        leave!(
            "pmcr_el0" = 1,
            "pmcntenset_el0" = 1 << 31,
            "pmintenset_el1" = 1 << 31,
            "pmovsset_el0" = 1 << 31,
            "pmuserenr_el0" = 1,
        );
    }
    // The double lock comes last: with it set, debug registers may be inaccessible.
    leave!("osdlr_el1" = 1);
    arch::isb();
}
