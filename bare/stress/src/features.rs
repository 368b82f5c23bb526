//! ID registers: announced features work, and the host's own features are not announced.
//!
//! Source: Arm ARM, "D24.2 General system control registers", the fields of ID_AA64*_EL1.
#![expect(unsafe_code, reason = "generated instructions, and CPACR_EL1")]

use rt::{arch, mrs, msr, probe};

use crate::check::{Check, Checks};
use crate::registers::{Encoding, instruction};

/// A field of an ID register: CRm, Op2, lowest bit.
type Field = (u32, u32, u32);

/// What a feature brings: instructions that must not be undefined.
struct Feature {
    name: &'static str,
    field: Field,
    /// The lowest value that announces it.
    from: u64,
    registers: &'static [Encoding],
    instructions: &'static [u32],
}

const fn feature(
    name: &'static str,
    field: Field,
    from: u64,
    registers: &'static [Encoding],
    instructions: &'static [u32],
) -> Feature {
    Feature { name, field, from, registers, instructions }
}

#[rustfmt::skip]
const FEATURES: &[Feature] = &[
    feature("RAS", (4, 0, 28), 1, &[[3, 0, 5, 3, 0], [3, 0, 12, 1, 1]], &[]),
    // ZCR_EL1; rdvl x0, #1.
    feature("SVE", (4, 0, 32), 1, &[[3, 0, 1, 2, 0]], &[0x04bf_5020]),
    feature("SCXTNUM (CSV2)", (4, 0, 56), 2, &[[3, 3, 13, 0, 7], [3, 0, 13, 0, 7]], &[]),
    feature("SCXTNUM (CSV2_frac)", (4, 1, 32), 2, &[[3, 3, 13, 0, 7], [3, 0, 13, 0, 7]], &[]),
    feature("SSBS", (4, 1, 4), 2, &[[3, 3, 4, 2, 6]], &[]),
    // SMCR_EL1, SMPRI_EL1, SMIDR_EL1, TPIDR2_EL0, SVCR; rdsvl x0, #1.
    feature("SME", (4, 1, 24), 1,
        &[[3, 0, 1, 2, 6], [3, 0, 1, 2, 4], [3, 1, 0, 0, 6], [3, 3, 13, 0, 5], [3, 3, 4, 2, 2]], &[0x04bf_5820]),
    // smstart za; zero { zt0 }; smstop za.
    feature("SME2", (4, 1, 24), 2, &[], &[0xd503_457f, 0xc048_0001, 0xd503_447f]),
    // GCSCR_EL1, GCSPR_EL1, GCSCRE0_EL1, GCSPR_EL0.
    feature("GCS", (4, 1, 44), 1, &[[3, 0, 2, 5, 0], [3, 0, 2, 5, 1], [3, 0, 2, 5, 2], [3, 3, 2, 5, 1]], &[]),
    feature("FPMR", (4, 2, 32), 1, &[[3, 3, 4, 4, 2]], &[]),
    feature("PMU", (5, 0, 8), 1, &[[3, 3, 9, 12, 0], [3, 3, 9, 13, 0]], &[]),
    feature("RNDR", (6, 0, 60), 1, &[[3, 3, 2, 4, 0]], &[]),
    // APIAKeyLo_EL1; pacga x0, x1, x2.
    feature("pointer authentication (APA)", (6, 1, 4), 1, &[[3, 0, 2, 1, 0]], &[]),
    feature("pointer authentication (API)", (6, 1, 8), 1, &[[3, 0, 2, 1, 0]], &[]),
    feature("pointer authentication (APA3)", (6, 2, 12), 1, &[[3, 0, 2, 1, 0]], &[]),
    feature("generic authentication (GPA)", (6, 1, 24), 1, &[], &[0x9ac2_3020]),
    feature("generic authentication (GPI)", (6, 1, 28), 1, &[], &[0x9ac2_3020]),
    feature("generic authentication (GPA3)", (6, 2, 8), 1, &[], &[0x9ac2_3020]),
    feature("ACCDATA (LS64)", (6, 1, 60), 3, &[[3, 0, 13, 0, 5]], &[]),
    // setp, setm, sete [x0]!, x1!, x2, of no bytes.
    feature("MOPS", (6, 2, 16), 1, &[], &[0x19c2_0420, 0x19c2_4420, 0x19c2_8420]),
    feature("ECV", (7, 0, 60), 1, &[[3, 3, 14, 0, 6]], &[]),
    feature("LOR", (7, 1, 16), 1, &[[3, 0, 10, 4, 7]], &[]),
    feature("PAN", (7, 1, 20), 1, &[[3, 0, 4, 2, 3]], &[]),
    feature("TCR2", (7, 3, 0), 1, &[[3, 0, 2, 0, 3]], &[]),
    feature("SCTLR2", (7, 3, 4), 1, &[[3, 0, 1, 0, 3]], &[]),
    feature("S1PIE", (7, 3, 8), 1, &[[3, 0, 10, 2, 2], [3, 0, 10, 2, 3]], &[]),
    feature("S1POE", (7, 3, 16), 1, &[[3, 0, 10, 2, 4], [3, 3, 10, 2, 4]], &[]),
    feature("AIE", (7, 3, 24), 1, &[[3, 0, 10, 2, 1], [3, 0, 10, 3, 1]], &[]),
];

/// Features that are not the guest's: EL2, EL3, GICv4; MPAM, AMU; memory tags beyond instructions, NMI; trace,
/// statistical profiling, trace buffers, branch records; virtualization's own features.
#[rustfmt::skip]
const HIDDEN: &[(&str, Field, u64)] = &[
    ("EL2", (4, 0, 8), 0), ("EL3", (4, 0, 12), 0), ("GIC", (4, 0, 24), 1), ("MPAM", (4, 0, 40), 0), ("AMU", (4, 0, 44), 0),
    ("MTE", (4, 1, 8), 1), ("NMI", (4, 1, 36), 0), ("THE", (4, 1, 48), 0),
    ("TraceVer", (5, 0, 4), 0), ("PMSVer", (5, 0, 32), 0), ("TraceFilt", (5, 0, 40), 0),
    ("TraceBuffer", (5, 0, 44), 0), ("BRBE", (5, 0, 52), 0),
    ("FGT", (7, 0, 56), 0), ("VH", (7, 1, 8), 0), ("HCX", (7, 1, 40), 0), ("NV", (7, 2, 24), 0), ("EVT", (7, 2, 56), 0),
    ("S2PIE", (7, 3, 12), 0), ("MEC", (7, 3, 28), 0), ("D128", (7, 3, 32), 0),
];

/// Reads a field of an ID register.
fn value(check: &mut Check, (crm, op2, shift): Field) -> u64 {
    let mut x = [0; 31];
    // SAFETY: the instruction reads an ID register into X0.
    let exception = unsafe { probe::instruction(instruction([3, 0, 0, crm, op2], false), &mut x) };
    check.equal(("ID register", crm, op2), exception, None);
    x[0] >> shift & 0xf
}

pub(crate) fn run(checks: &mut Checks) {
    checks.check("every ID register can be read, and none written", |check| {
        for (crm, op2) in (1..8).flat_map(|crm| (0..8).map(move |op2| (crm, op2))) {
            value(check, (crm, op2, 0));
            // SAFETY: ID registers are read-only.
            let write = unsafe { probe::instruction(instruction([3, 0, 0, crm, op2], true), &mut [0; 31]) };
            check.meets((crm, op2, "write"), write, |e| e.is_undefined());
        }
    });
    checks.check("what is not the guest's is not announced", |check| {
        for &(name, field, most) in HIDDEN {
            let value = value(check, field);
            check.holds((name, value), value <= most);
        }
    });
    let before = mrs!("cpacr_el1");
    // SAFETY: FPEN, ZEN, SMEN and TTA's neighbours: no trap to EL1 remains that is not needed.
    unsafe { msr!("cpacr_el1", before | 0b11 << 24 | 0b11 << 20 | 0b11 << 16) };
    arch::isb();
    for feature in FEATURES {
        checks.check(feature.name, |check| has(check, feature));
    }
    // SAFETY: restores the value from before.
    unsafe { msr!("cpacr_el1", before) };
    arch::isb();
}

/// Checks that announced features work.
fn has(check: &mut Check, feature: &Feature) {
    if value(check, feature.field) < feature.from {
        return;
    }
    if feature.name == "SME2" {
        // SMCR_EL1: EZT0, as a kernel sets it.
        let mut x = [1 << 30; 31];
        // SAFETY: it lets ZT0 be used, which nothing else here uses.
        check.equal("EZT0", unsafe { probe::instruction(instruction([3, 0, 1, 2, 6], true), &mut x) }, None);
    }
    let reads = feature.registers.iter().map(|&register| instruction(register, false));
    for code in reads.chain(feature.instructions.iter().copied()) {
        // SAFETY: reads of registers, and instructions on X0 to X2 that touch no memory: lengths are zero.
        let exception = unsafe { probe::instruction(code, &mut [0; 31]) };
        check.equal(code, exception, None);
    }
}
