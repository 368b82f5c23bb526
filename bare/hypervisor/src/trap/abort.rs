//! Stage-2 aborts: accesses to the interrupt controller, and to addresses where nothing is.

use hv_trace::{Fault, Trap, What};
use hv_vgic::{Access, RegisterFrame};
use hv_wire::platform::{GICD_BASE, GICD_SIZE, GICR_BASE, GICR_STRIDE};

use super::inject;
use crate::exit;
use crate::host::FaultyEmbedder;
use crate::syndrome::{DataAbort, class, class_of, fault_address};

/// Returns the part of the interrupt controller that an address falls into.
fn gic_access(address: u64, size: usize, vps: usize) -> Option<Access> {
    let access = |frame, offset| Access { frame, offset: offset as u32, size: size as u8 };
    if let Some(offset) = address.checked_sub(GICD_BASE).filter(|o| *o < GICD_SIZE) {
        return Some(access(RegisterFrame::Distributor, offset));
    }
    let offset = address.checked_sub(GICR_BASE)?;
    let vp = (offset / GICR_STRIDE) as usize;
    (vp < vps).then(|| access(RegisterFrame::Redistributor(vp), offset % GICR_STRIDE))
}

/// Handles a stage-2 abort.
pub(super) fn stage2(host: &FaultyEmbedder<'_>, x: &mut [u64; 31], esr: u64) {
    let syndrome = DataAbort(esr);
    let fetch = class_of(esr) == class::INSTRUCTION_ABORT;
    let address = fault_address(esr);
    let target = gic_access(address, syndrome.size(), host.cpu.hypervisor.vps());
    if fetch || syndrome.table_walk() || target.is_none() {
        exit::begin(host, Trap::Abort, esr);
        host.cpu.fault(if fetch { Fault::Fetch } else { Fault::Address }, address);
        return inject::external_abort(esr);
    }
    exit::begin(host, Trap::GicMmio, esr);
    match target.filter(|_| syndrome.valid()) {
        Some(target) if access(host, x, &syndrome, target, address).is_some() => {
            inject::complete(esr);
        }
        // An instruction without a valid syndrome (a pair, or writeback of the base), or a size or alignment that the
        // interrupt controller does not support.
        _ => {
            host.cpu.fault(Fault::GicAccess, address);
            inject::external_abort(esr);
        }
    }
}

/// Carries out one access to the interrupt controller; `None` where it does not support it.
fn access(
    host: &FaultyEmbedder<'_>,
    x: &mut [u64; 31],
    syndrome: &DataAbort,
    target: Access,
    address: u64,
) -> Option<()> {
    let gic = &host.cpu.hypervisor.gic;
    let (cpu, size, register) = (host.cpu, syndrome.size(), syndrome.register());
    if syndrome.write() {
        let value = if register == 31 { 0 } else { x[register] };
        host.trace(|| What::GicAccess { address, value, bytes: size as u8, write: true });
        return gic.write(cpu, target, value).ok();
    }
    let mut value = gic.read(cpu, target).ok()?;
    host.trace(|| What::GicAccess { address, value, bytes: size as u8, write: false });
    if syndrome.sign_extend() && size < 8 {
        let shift = 64 - 8 * size as u32;
        value = ((value << shift) as i64 >> shift) as u64;
    }
    if !syndrome.sixty_four() {
        value &= u64::from(u32::MAX);
    }
    if register != 31 {
        x[register] = value;
    }
    Some(())
}
