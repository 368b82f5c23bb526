//! Exceptions that the guest gets from us, as the architecture would take them (Arm ARM, AArch64.TakeException).

use super::class;
use crate::arch::{mrs, msr};

/// SPSR bits for EL1h with D, A, I and F masked.
const EL1H_MASKED: u64 = 0x3c5;
/// ESR_ELx.IL: the trapped instruction has 32 bits.
const IL: u64 = 1 << 25;
/// Exception classes.
const EC_UNKNOWN: u64 = 0;
/// Added to an abort's class where it comes from the same exception level.
const SAME_LEVEL: u64 = 1;
/// Fault status: synchronous external abort, not on a table walk.
const EXTERNAL_ABORT: u64 = 0x10;
/// ISS bits of a data abort that carry over: write-not-read and cache maintenance.
const WNR_AND_CM: u64 = 1 << 6 | 1 << 8;

/// Makes the guest take a synchronous exception to EL1 with this syndrome.
fn take(esr: u64) {
    let spsr = mrs!("spsr_el2");
    // Vector offsets: from EL1 on SP_EL0 0, on SP_EL1 0x200, from EL0 in AArch64 0x400, in AArch32 0x600.
    let offset = match spsr & 0x1f {
        0b00100 => 0x000,
        0b00101 => 0x200,
        0b00000 => 0x400,
        _ => 0x600,
    };
    msr!("esr_el1", esr);
    msr!("elr_el1", mrs!("elr_el2"));
    msr!("spsr_el1", spsr);
    msr!("elr_el2", mrs!("vbar_el1") + offset);
    msr!("spsr_el2", handler_state(spsr));
}

/// PSTATE in which a handler at EL1 begins after an exception from `spsr`. A kernel relies on PAN: while it is clear, a
/// stray access reaches the memory of user space.
fn handler_state(spsr: u64) -> u64 {
    /// N, Z, C, V and DIT, which an exception leaves as they are, and PAN.
    const KEPT: u64 = 0xf << 28 | 1 << 24 | PAN;
    const PAN: u64 = 1 << 22;
    const SSBS: u64 = 1 << 12;
    /// SCTLR_EL1: an exception leaves PAN as it is; SSBS is set by one.
    const SPAN: u64 = 1 << 23;
    const DSSBS: u64 = 1 << 44;
    let control = mrs!("sctlr_el1");
    let has_pan = mrs!("id_aa64mmfr1_el1") >> 20 & 0xf != 0;
    let pan = if has_pan && control & SPAN == 0 { PAN } else { 0 };
    let ssbs = if control & DSSBS != 0 { SSBS } else { 0 };
    EL1H_MASKED | spsr & KEPT | pan | ssbs
}

fn from_el0() -> bool {
    mrs!("spsr_el2") & 0xf == 0
}

/// An instruction that does not exist.
pub(crate) fn undefined() {
    take(EC_UNKNOWN << 26 | IL);
}

/// A synchronous external abort for the stage-2 fault with syndrome `esr`.
pub(crate) fn external_abort(esr: u64) {
    let fetch = class::of(esr) == class::INSTRUCTION_ABORT;
    let lower = if fetch { class::INSTRUCTION_ABORT } else { class::DATA_ABORT };
    let class = if from_el0() { lower } else { lower + SAME_LEVEL };
    let detail = if fetch { 0 } else { esr & WNR_AND_CM };
    msr!("far_el1", mrs!("far_el2"));
    take(class << 26 | esr & IL | detail | EXTERNAL_ABORT);
}

/// The guest's PC moves behind the trapped instruction.
pub(crate) fn skip_instruction() {
    msr!("elr_el2", mrs!("elr_el2").wrapping_add(4));
}
