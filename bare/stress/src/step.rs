//! Single steps over instructions that the host emulates: each must stop right after the instruction, once.
//!
//! Source: Arm ARM, "Software Step exceptions": an instruction that completes clears PSTATE.SS, one that takes an
//! exception leaves it unchanged; PSTATE.BTYPE is clear after any instruction that is not a branch.
#![expect(unsafe_code, reason = "generated instructions")]

use rt::exception::Exception;
use rt::gic::{gicd, gicr};
use rt::mrs;
use rt::probe::{self, Stepped};

use crate::check::{Check, Checks};
use crate::psci::VERSION;
use crate::registers;

const SPSR_SS: u64 = 1 << 21;
const SPSR_BTYPE: u64 = 0b11 << 10;

/// Loads and stores through X1.
const LDR_W0_X1: u32 = 0xb940_0020;
const LDR_XZR_X1: u32 = 0xf940_003f;
const STR_W0_X1: u32 = 0xb900_0020;
const NOP: u32 = 0xd503_201f;
const fn hvc(immediate: u32) -> u32 {
    0xd400_0002 | immediate << 5
}
const fn smc(immediate: u32) -> u32 {
    0xd400_0003 | immediate << 5
}

pub(crate) fn run(checks: &mut Checks) {
    let hardware = rt::hardware::get();
    let sysreg = |op2| registers::instruction([3, 0, 12, 11, op2], true);
    // Instruction, X0, X1.
    let completed = [
        ("nop", NOP, 0, 0),
        ("hvc #0", hvc(0), VERSION, 0),
        ("smc #0", smc(0), VERSION, 0),
        // SGIs for a VP that does not exist.
        ("msr icc_sgi1r_el1, x0", sysreg(5), 1 << 15 | 0xff << 16, 0),
        ("msr icc_asgi1r_el1, x0", sysreg(6), 1 << 15 | 0xff << 16, 0),
        ("msr icc_sgi0r_el1, x0", sysreg(7), 1 << 15 | 0xff << 16, 0),
        ("mrs x0, id_aa64pfr0_el1", registers::instruction([3, 0, 0, 4, 0], false), 0, 0),
        ("ldr w0, [GICD_TYPER]", LDR_W0_X1, 0, hardware.gicd + gicd::TYPER),
        ("ldr xzr, [GICR_TYPER]", LDR_XZR_X1, 0, hardware.gicr + gicr::TYPER),
        ("str w0, [GICD_ISENABLER]", STR_W0_X1, 0, hardware.gicd + gicd::ISENABLER + 4),
        ("str w0, [GICR_ISENABLER0]", STR_W0_X1, 0, hardware.gicr + gicr::ISENABLER),
    ];
    // BTI: ID_AA64PFR1_EL1.BT.
    let branch_types = if mrs!("id_aa64pfr1_el1") & 0xf != 0 { 4 } else { 1 };
    for (name, instruction, x0, x1) in completed {
        checks.check(name, |check| {
            for btype in 0..branch_types {
                let stepped = step(instruction, x0, x1, btype);
                check.holds((btype, stepped), is_behind(&stepped, btype == 0 || x0 != VERSION));
            }
        });
    }
    let unmapped = hardware.gicd + 2;
    let undefined = [
        ("hvc #7 is undefined, not stepped over", hvc(7), 0),
        ("smc #1 is undefined, not stepped over", smc(1), 0),
        ("a bad access to the interrupt controller aborts, and is not stepped over", LDR_XZR_X1, unmapped),
    ];
    for (name, instruction, x1) in undefined {
        checks.check(name, |check| failed(check, instruction, x1));
    }
}

fn step(instruction: u32, x0: u64, x1: u64, btype: u64) -> Stepped {
    let mut x = [0; 31];
    (x[0], x[1]) = (x0, x1);
    // SAFETY: calls and registers that change nothing, and registers of the interrupt controller where zeros have no
    // effect; X2 to X30 are not used.
    unsafe { probe::step(instruction, &mut x, btype) }
}

/// Checks that the step stopped after the instruction. The effect of `hvc` and `smc` on BTYPE is the CPU's choice.
fn is_behind(stepped: &Stepped, btype_is_known: bool) -> bool {
    stepped.exception.is_some_and(|exception| {
        exception.class() == Exception::SOFTWARE_STEP
            && exception.elr == stepped.address + 4
            && exception.spsr & SPSR_SS == 0
            && (!btype_is_known || exception.spsr & SPSR_BTYPE == 0)
    })
}

/// Checks that the instruction fails, with the step still to come.
fn failed(check: &mut Check, instruction: u32, x1: u64) {
    let stepped = step(instruction, 0, x1, 0);
    let right = stepped.exception.is_some_and(|exception| {
        exception.class() != Exception::SOFTWARE_STEP
            && exception.elr == stepped.address
            && exception.spsr & SPSR_SS != 0
    });
    check.holds(stepped, right);
}
