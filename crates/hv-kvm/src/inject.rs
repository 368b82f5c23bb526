//! Where a VP resumes: at its call again, or in its handler of an exception.
//!
//! KVM's interface has no way to inject an undefined instruction, so the registers are set as the CPU would.

use std::io;

use hv_cpu::pstate::{Debug, Entry, Resume, vector};

use crate::kvm::Vcpu;
use crate::register::Register;

/// ESR_EL1 of an undefined instruction: class 0, 32 bits long (Arm ARM, "ESR_EL1").
const UNDEFINED: u64 = 1 << 25;

/// Takes a VP back to the call that it exited with, as if it had not been executed.
pub(crate) fn before_call(vcpu: &impl Vcpu) -> io::Result<Resume> {
    // KVM has no OSDLR_EL1.
    let debug =
        Debug { mdscr: vcpu.get(Register::MDSCR_EL1)?, oslsr: vcpu.get(Register::OSLSR_EL1)?, osdlr: 0 };
    let exited = Resume { elr: vcpu.get(Register::PC)?, spsr: vcpu.get(Register::PSTATE)? };
    let before = exited.before_hvc(debug);
    vcpu.set(Register::PC, before.elr)?;
    if before.spsr != exited.spsr {
        vcpu.set(Register::PSTATE, before.spsr)?;
    }
    Ok(before)
}

/// Makes the call that a VP exited with an undefined instruction.
pub(crate) fn undefined_call(vcpu: &impl Vcpu) -> io::Result<()> {
    let Resume { elr, spsr } = before_call(vcpu)?;
    vcpu.set(Register::ESR_EL1, UNDEFINED)?;
    vcpu.set(Register::ELR_EL1, elr)?;
    vcpu.set(Register::SPSR_EL1, spsr)?;
    vcpu.set(Register::PSTATE, entry(vcpu)?.handler(spsr))?;
    vcpu.set(Register::PC, vcpu.get(Register::VBAR_EL1)?.wrapping_add(vector(spsr)))
}

/// Returns what decides the state in which a handler begins.
fn entry(vcpu: &impl Vcpu) -> io::Result<Entry> {
    let field = |register: u64, shift: u32| register >> shift & 0xf;
    let pfr1 = vcpu.get(Register::ID_AA64PFR1_EL1)?;
    let dfr0 = vcpu.get(Register::ID_AA64DFR0_EL1)?;
    Ok(Entry {
        sctlr: vcpu.get(Register::SCTLR_EL1)?,
        gcscr: if field(pfr1, 44) != 0 { vcpu.get(Register::GCSCR_EL1)? } else { 0 },
        pan: field(vcpu.get(Register::ID_AA64MMFR1_EL1)?, 20) != 0,
        mte: field(pfr1, 8) >= 2,
        nmi: field(pfr1, 36) != 0,
        ebep: field(dfr0, 24) != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::{before_call, undefined_call};
    use crate::fake::FakeVcpu;
    use crate::register::Register;

    #[test]
    fn a_call_is_executed_again_with_its_step() {
        let vcpu = FakeVcpu::detached();
        vcpu.put(Register::PC, 0x1004);
        vcpu.put(Register::PSTATE, 0x5);
        before_call(&vcpu).unwrap();
        assert_eq!((vcpu.peek(Register::PC), vcpu.peek(Register::PSTATE)), (0x1000, 0x5));
        vcpu.put(Register::MDSCR_EL1, 1 << 13 | 1);
        before_call(&vcpu).unwrap();
        assert_eq!((vcpu.peek(Register::PC), vcpu.peek(Register::PSTATE)), (0xffc, 1 << 21 | 0x5));
    }

    #[test]
    fn an_undefined_call_is_taken_at_the_vector_with_the_address_of_the_call() {
        let vcpu = FakeVcpu::detached();
        vcpu.put(Register::PC, 0x1004);
        vcpu.put(Register::PSTATE, 1 << 31 | 0x5);
        vcpu.put(Register::VBAR_EL1, 0x8000);
        vcpu.put(Register::SCTLR_EL1, 0);
        vcpu.put(Register::ID_AA64MMFR1_EL1, 1 << 20);
        undefined_call(&vcpu).unwrap();
        assert_eq!(vcpu.peek(Register::PC), 0x8200);
        assert_eq!(vcpu.peek(Register::ELR_EL1), 0x1000);
        assert_eq!(vcpu.peek(Register::SPSR_EL1), 1 << 31 | 0x5);
        assert_eq!(vcpu.peek(Register::ESR_EL1), 0x0200_0000);
        // PAN, since SCTLR_EL1.SPAN is clear.
        assert_eq!(vcpu.peek(Register::PSTATE), 1 << 31 | 1 << 22 | 0x3c5);
    }
}
