//! Why the guest came here, and what it gets.
//!
//! `vectors.s` calls one of four functions: [`hvc_exit`] for the hot path, [`sync_exit`] for every other synchronous exit,
//! `irq_exit` (irq.rs) and [`serror_exit`]. Whatever has no meaning is counted, and the guest gets what the architecture
//! says: nothing here may stop the hypervisor.

pub(crate) mod abort;
mod inject;
mod sysreg;

use hv_partition::Action;
use hv_wire::{ExitKind, Fault, Trap};

use crate::arch::{mrs, msr};
use crate::gic::Lists;
use crate::host::Embedder;
use crate::vcpu::{self, Frame};
use crate::{arch, el2, power};

/// Exception classes of ESR_EL2 (Arm ARM, "ESR_EL2, Exception Syndrome Register").
mod class {
    /// The class of a syndrome, above which newer CPUs have a second part of the ISS.
    pub(super) const fn of(esr: u64) -> u64 {
        esr >> 26 & 0x3f
    }

    pub(super) const SMC64: u64 = 0x17;
    pub(super) const SYSTEM_REGISTER: u64 = 0x18;
    pub(super) const INSTRUCTION_ABORT: u64 = 0x20;
    pub(super) const DATA_ABORT: u64 = 0x24;
}

/// `hvc` from EL1.
#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "vectors.s calls it by name")]
extern "C" fn hvc_exit(frame: &mut Frame, esr: u64) {
    let cpu = frame.cpu;
    if !cpu.observed {
        hvc(Embedder::<false>::new(cpu), frame, esr);
    } else {
        observed_hvc(frame, esr);
    }
}

/// `hvc` in a run that is traced or judged.
#[cold]
#[inline(never)]
fn observed_hvc(frame: &mut Frame, esr: u64) {
    frame.cpu.left(&frame.x);
    hvc(Embedder::<true>::new(frame.cpu), frame, esr);
}

#[inline(always)]
fn hvc<const OBSERVED: bool>(host: Embedder<OBSERVED>, frame: &mut Frame, esr: u64) {
    let (partition, vp) = (&host.cpu.hypervisor.partition, host.cpu.index);
    let immediate = esr as u16;
    let action = if immediate == 0 {
        host.exit(Trap::Smccc, esr);
        partition.hvc(&host, vp, 0, &mut frame.x)
    } else {
        host.exit(Trap::Hvc, esr);
        partition.hvc(&host, vp, immediate, &mut frame.x)
    };
    if !matches!(action, Action::Resume) {
        after_hvc(frame, action);
    }
    host.enter();
}

/// What is not a plain return from an `hvc`.
#[cold]
fn after_hvc(frame: &Frame, action: Action) {
    let host = <Embedder>::new(frame.cpu);
    if matches!(action, Action::Undefined) {
        // Read again, so that the hot path need not keep it: no exception is taken at EL2 in between.
        let immediate = mrs!("esr_el2") as u16;
        // HVC is taken with the address behind it; UNDEFINED is taken at the instruction.
        inject::before_hvc();
        frame.cpu.left(&frame.x);
        host.fault(Fault::HvcImmediate, u64::from(immediate));
    }
    apply(&host, action);
}

/// Every other synchronous exit.
#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "vectors.s calls it by name")]
extern "C" fn sync_exit(frame: &mut Frame, esr: u64) {
    let host = <Embedder>::new(frame.cpu);
    frame.cpu.left(&frame.x);
    match class::of(esr) {
        class::SMC64 => {
            host.exit(Trap::Smc, esr);
            let action = frame.cpu.hypervisor.partition.smc(&host, frame.cpu.index, esr as u16, &mut frame.x);
            if matches!(action, Action::Undefined) {
                host.fault(Fault::SmcImmediate, esr & 0xffff);
            } else {
                inject::complete(esr);
            }
            apply(&host, action);
        }
        class::SYSTEM_REGISTER => {
            host.exit(Trap::SystemRegister, esr);
            sysreg::access(&host, frame, esr);
        }
        class::DATA_ABORT | class::INSTRUCTION_ABORT => abort::stage2(&host, frame, esr),
        _ => {
            host.exit(Trap::Other, esr);
            host.fault(Fault::Exception, esr);
            inject::undefined();
        }
    }
    host.enter();
}

/// An SError while the guest ran: some access of it went wrong in the machine. It gets it as a virtual SError.
#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "vectors.s calls it by name")]
extern "C" fn serror_exit(frame: &mut Frame) {
    let host = <Embedder>::new(frame.cpu);
    frame.cpu.left(&frame.x);
    let esr = mrs!("esr_el2");
    host.exit(Trap::Other, esr);
    host.fault(Fault::SError, esr);
    msr!("hcr_el2", mrs!("hcr_el2") | el2::VSE);
    host.enter();
}

/// Does what the partition decided.
fn apply(host: &Embedder, action: Action) {
    match action {
        Action::Resume => {}
        Action::Undefined => inject::undefined(),
        Action::Retry => inject::before_hvc(),
        Action::Suspend => suspend(host),
        Action::VpOff => vcpu::stop(host.cpu),
        Action::SystemOff => host.end_run(ExitKind::PowerOff),
        Action::SystemReset => host.end_run(ExitKind::Reset),
    }
}

/// PSCI CPU_SUSPEND to a standby state: until an interrupt is pending for this CPU. What is pending takes it out of the
/// guest again at once, so nothing has to be handled here.
fn suspend(host: &Embedder) {
    if !host.cpu.hypervisor.gic.has_pending(host.cpu.index, &Lists) {
        arch::wfi();
    }
}

/// Reports a VP whose stop nobody can observe any more.
pub(crate) fn all_vps_off() -> ! {
    power::end_run(ExitKind::AllVpsOff)
}
