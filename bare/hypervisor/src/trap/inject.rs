//! Where the guest resumes: behind an instruction that was emulated, or in its handler of an exception that the
//! hypervisor injects. What that means for PSTATE is hv-cpu's part.

use arm_sysregs::el1::registers::{IdAa64mmfr1El1, IdAa64pfr1El1};
use hv_cpu::pstate::{Debug, Entry, Resume, from_el0, vector};

use crate::arch::{self, mrs, msr};
use crate::syndrome::{CLASS_SHIFT, IL, class, class_of, iss};

/// Added to an abort's class if it comes from the same exception level.
const SAME_LEVEL: u64 = 1;

fn trapped() -> Resume {
    Resume { elr: mrs!("elr_el2"), spsr: mrs!("spsr_el2") }
}

fn resume(at: Resume) {
    msr!("elr_el2", at.elr);
    arch::set_guest_pstate(at.spsr);
}

/// Completes the instruction that trapped with syndrome `esr`: the guest resumes after it. Every emulation of an
/// instruction ends with this.
pub(super) fn complete(esr: u64) {
    resume(trapped().completed(esr));
}

/// Takes the guest back to the `hvc` that it exited with, as if it had not been executed.
pub(super) fn before_hvc() {
    let debug = Debug { mdscr: mrs!("mdscr_el1"), oslsr: mrs!("oslsr_el1"), osdlr: mrs!("osdlr_el1") };
    resume(trapped().before_hvc(debug));
}

/// Injects a synchronous exception to EL1 with this syndrome (Arm ARM, AArch64.TakeException).
fn take(esr: u64) {
    let Resume { elr, spsr } = trapped();
    msr!("esr_el1", esr);
    msr!("elr_el1", elr);
    msr!("spsr_el1", spsr);
    resume(Resume { elr: mrs!("vbar_el1").wrapping_add(vector(spsr)), spsr: entry().handler(spsr) });
}

/// Returns the features that decide the state in which the guest's handler begins: those of the CPU itself, not those
/// the guest sees.
fn entry() -> Entry {
    /// ID_AA64DFR0_EL1.SEBEP, which arm-sysregs lacks.
    const SEBEP: u64 = 0xf << 24;
    let pfr1 = IdAa64pfr1El1::from_bits_retain(mrs!("id_aa64pfr1_el1"));
    Entry {
        sctlr: mrs!("sctlr_el1"),
        // GCSCR_EL1.
        gcscr: if pfr1.gcs() != 0 { mrs!("s3_0_c2_c5_0") } else { 0 },
        pan: IdAa64mmfr1El1::from_bits_retain(mrs!("id_aa64mmfr1_el1")).pan() != 0,
        mte: pfr1.mte() >= 2,
        nmi: pfr1.nmi() != 0,
        ebep: mrs!("id_aa64dfr0_el1") & SEBEP != 0,
    }
}

/// Injects the exception of an undefined instruction.
pub(super) fn undefined() {
    take(class::UNKNOWN << CLASS_SHIFT | IL);
}

/// Injects a synchronous external abort for the stage-2 fault with syndrome `esr`.
pub(super) fn external_abort(esr: u64) {
    let fetch = class_of(esr) == class::INSTRUCTION_ABORT;
    let lower = if fetch { class::INSTRUCTION_ABORT } else { class::DATA_ABORT };
    let class = if from_el0(mrs!("spsr_el2")) { lower } else { lower + SAME_LEVEL };
    let detail = if fetch { 0 } else { esr & (iss::WNR | iss::CM) };
    msr!("far_el1", mrs!("far_el2"));
    take(class << CLASS_SHIFT | esr & IL | detail | iss::EXTERNAL_ABORT);
}
