//! Stage-2 aborts: the interrupt controller's windows, and addresses with nothing behind them.

use hv_vgic::{Access, Frame as GicFrame};
use hv_wire::platform::{GICD_BASE, GICD_SIZE, GICR_BASE, GICR_STRIDE};
use hv_wire::{Fault, TraceKind, Trap};

use super::{class, inject};
use crate::arch::mrs;
use crate::gic::{Lists, Machine};
use crate::host::Embedder;
use crate::vcpu::Frame;

/// The ISS of a data abort (Arm ARM, "ISS encoding for an exception from a Data Abort").
struct Syndrome(u64);

impl Syndrome {
    /// The rest describes the access.
    fn valid(&self) -> bool {
        self.0 & 1 << 24 != 0
    }
    /// Bytes: 1, 2, 4 or 8.
    fn size(&self) -> usize {
        1 << (self.0 >> 22 & 0b11)
    }
    fn sign_extend(&self) -> bool {
        self.0 & 1 << 21 != 0
    }
    fn register(&self) -> usize {
        (self.0 >> 16 & 0x1f) as usize
    }
    fn sixty_four(&self) -> bool {
        self.0 & 1 << 15 != 0
    }
    fn table_walk(&self) -> bool {
        self.0 & 1 << 7 != 0
    }
    fn write(&self) -> bool {
        self.0 & 1 << 6 != 0
    }
    /// FAR_EL2 does not hold the address.
    fn far_not_valid(&self) -> bool {
        self.0 & 1 << 10 != 0
    }
}

/// Which part of the interrupt controller an address falls into.
fn gic_access(address: u64, size: usize, vps: usize) -> Option<Access> {
    let access = |frame, offset| Access { frame, offset: offset as u32, size: size as u8 };
    if let Some(offset) = address.checked_sub(GICD_BASE).filter(|o| *o < GICD_SIZE) {
        return Some(access(GicFrame::Distributor, offset));
    }
    let offset = address.checked_sub(GICR_BASE)?;
    let vp = (offset / GICR_STRIDE) as usize;
    (vp < vps).then(|| access(GicFrame::Redistributor(vp), offset % GICR_STRIDE))
}

/// The guest physical address of an abort at stage 2.
pub(crate) fn fault_address(esr: u64) -> u64 {
    // HPFAR_EL2 has bits 51:12 of the guest physical address from bit 4 on; the rest is that of the virtual one.
    let page = (mrs!("hpfar_el2") & !0xf) << 8;
    page | if Syndrome(esr).far_not_valid() { 0 } else { mrs!("far_el2") & 0xfff }
}

/// An abort at stage 2.
pub(super) fn stage2(host: &Embedder, frame: &mut Frame, esr: u64) {
    let syndrome = Syndrome(esr);
    let fetch = class::of(esr) == class::INSTRUCTION_ABORT;
    let address = fault_address(esr);
    let target = gic_access(address, syndrome.size(), host.cpu.hypervisor.vps());
    if fetch || syndrome.table_walk() || target.is_none() {
        host.exit(Trap::Abort, esr);
        host.fault(if fetch { Fault::Fetch } else { Fault::Address }, address);
        return inject::external_abort(esr);
    }
    host.exit(Trap::GicMmio, esr);
    match target.filter(|_| syndrome.valid()) {
        Some(target) if access(host, frame, &syndrome, target, address).is_some() => {
            inject::complete(esr);
        }
        // An instruction that does not tell what it does (a pair, an update of the base), a size or an alignment that the
        // interrupt controller does not take.
        _ => {
            host.fault(Fault::GicAccess, address);
            inject::external_abort(esr);
        }
    }
}

/// Carries out one access to the interrupt controller; `None` where it does not take it.
fn access(
    host: &Embedder,
    frame: &mut Frame,
    syndrome: &Syndrome,
    target: Access,
    address: u64,
) -> Option<()> {
    let gic = &host.cpu.hypervisor.gic;
    let (vp, size, register) = (host.cpu.index, syndrome.size(), syndrome.register());
    if syndrome.write() {
        let value = if register == 31 { 0 } else { frame.x[register] };
        host.trace(TraceKind::GicAccess, [address, value, size as u64, 1, 0, 0]);
        return gic.write(vp, target, value, &Lists, &Machine).ok();
    }
    let mut value = gic.read(vp, target, &Lists, &Machine).ok()?;
    host.trace(TraceKind::GicAccess, [address, value, size as u64, 0, 0, 0]);
    if syndrome.sign_extend() && size < 8 {
        let shift = 64 - 8 * size as u32;
        value = ((value << shift) as i64 >> shift) as u64;
    }
    if !syndrome.sixty_four() {
        value &= u64::from(u32::MAX);
    }
    if register != 31 {
        frame.x[register] = value;
    }
    Some(())
}
