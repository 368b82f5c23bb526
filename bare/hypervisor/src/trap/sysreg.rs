//! Trapped system registers.
//!
//! Few are trapped: with HCR_EL2.{IMO,FMO} set, a guest's writes to the registers that generate SGIs, and those to
//! ICC_DIR_EL1 while hv-vgic wants them; with HCR_EL2.TID3 set, its reads of ID registers, whose values hv-cpu's table
//! decides. Everything else that traps is a feature that the guest does not have: it gets an undefined instruction.

use hv_cpu::{id, pstate};
use hv_trace::{Fault, What};
use hv_vgic::SgiRegister;

use super::inject;
use crate::arch::mrs;
use crate::host::FaultyEmbedder;
use crate::syndrome::ISS;

/// Returns a register's encoding as the ISS carries it: Op0, Op2, Op1, CRn, CRm; without Rt and direction.
const fn encoding(op0: u64, op1: u64, crn: u64, crm: u64, op2: u64) -> u64 {
    op0 << 20 | op2 << 17 | op1 << 14 | crn << 10 | crm << 1
}

const ENCODING: u64 = 0x3f_fc1e;
const READ: u64 = 1;
const ICC_SGI1R_EL1: u64 = encoding(3, 0, 12, 11, 5);
const ICC_DIR_EL1: u64 = encoding(3, 0, 12, 11, 1);
const ICC_ASGI1R_EL1: u64 = encoding(3, 0, 12, 11, 6);
const ICC_SGI0R_EL1: u64 = encoding(3, 0, 12, 11, 7);

/// Emulates one access, or injects an undefined instruction.
pub(super) fn access(host: &FaultyEmbedder<'_>, x: &mut [u64; 31], esr: u64) {
    let rt = (esr >> 5 & 0x1f) as usize;
    let from_el0 = pstate::from_el0(mrs!("spsr_el2"));
    if let Some(register) = id::Register::of_read(esr & ISS).filter(|_| !from_el0) {
        let value = host.cpu.hypervisor.features.get(register);
        if rt != 31 {
            x[rt] = value;
        }
        host.trace(|| What::SystemRegister { iss: (esr & ISS) as u32, value });
        return inject::complete(esr);
    }
    let value = if rt == 31 { 0 } else { x[rt] };
    let (gic, cpu) = (&host.cpu.hypervisor.gic, host.cpu);
    let iss = esr & ISS;
    // Before its effects, which have records of their own.
    if esr & READ == 0 {
        host.trace(|| What::SystemRegister { iss: iss as u32, value });
    }
    match (esr & ENCODING, esr & READ) {
        (ICC_SGI1R_EL1, 0) => gic.sgi(cpu, SgiRegister::Sgi1, value),
        (ICC_ASGI1R_EL1, 0) => gic.sgi(cpu, SgiRegister::Asgi1, value),
        (ICC_SGI0R_EL1, 0) => gic.sgi(cpu, SgiRegister::Sgi0, value),
        (ICC_DIR_EL1, 0) => gic.deactivate(cpu, value as u32 & 0xff_ffff),
        _ => {
            cpu.fault(Fault::SystemRegister, iss);
            return inject::undefined();
        }
    }
    inject::complete(esr);
}
