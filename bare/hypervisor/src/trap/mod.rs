//! The reasons of exits, and how each is handled.
//!
//! `vectors.s` calls one of five functions: [`hvc_exit`] for the hot path, [`sync_exit`] for every other synchronous
//! exit, [`irq::irq_exit`], [`serror_exit`], and [`panic::hypervisor_fault`] for what no guest can cause. Whatever has
//! no meaning is counted, and the guest gets the exception that the architecture prescribes: nothing here may stop the
//! hypervisor.
#![expect(unsafe_code, reason = "the vectors are assembly")]

mod abort;
mod inject;
mod sysreg;

use core::mem::offset_of;

use hv_partition::{Action, Split};
use hv_wire::{ExitKind, Fault, Trap};

use crate::arch::mrs;
use crate::cpu::TrapFrame;
use crate::host::on;
use crate::syndrome::{self, class, class_of};
use crate::{arch, el2, exit, irq, panic, power, vcpu};

core::arch::global_asm!(
    include_str!("vectors.s"),
    x = const offset_of!(TrapFrame, x),
    class_shift = const syndrome::CLASS_SHIFT,
    hvc64 = const class::HVC64,
    hvc_exit = sym hvc_exit,
    sync_exit = sym sync_exit,
    irq_exit = sym irq::irq_exit,
    serror_exit = sym serror_exit,
    hypervisor_fault = sym panic::hypervisor_fault,
);

/// Handles `hvc` from EL1.
extern "C" fn hvc_exit(frame: &mut TrapFrame, esr: u64) {
    if !frame.cpu.observed() {
        hvc(frame, esr);
    } else {
        observed_hvc(frame, esr);
    }
}

/// Handles `hvc` in a run that is traced or judged.
#[cold]
#[inline(never)]
fn observed_hvc(frame: &mut TrapFrame, esr: u64) {
    frame.cpu.left(&frame.x);
    let TrapFrame { x, cpu } = frame;
    // The form that every other exit uses, so that nothing is compiled for this one alone.
    let host = on::<true>(cpu);
    let (partition, vp) = (&cpu.hypervisor.partition, cpu.index());
    let immediate = esr as u16;
    exit::begin(&host, if immediate == 0 { Trap::Smccc } else { Trap::Hvc }, esr);
    let action = partition.hvc(&host, vp, immediate, x);
    if !matches!(action, Action::Resume) {
        after_hvc(frame, action);
    }
    exit::end(&on::<true>(&frame.cpu));
}

#[inline(always)]
fn hvc(frame: &mut TrapFrame, esr: u64) {
    let TrapFrame { x, cpu } = frame;
    // All but the most frequent calls is compiled once, for every run.
    let hosts = Split { fast: on::<false>(cpu), full: on::<true>(cpu) };
    let host = hosts.fast;
    let (partition, vp) = (&cpu.hypervisor.partition, cpu.index());
    let immediate = esr as u16;
    let action = if immediate == 0 {
        exit::begin(&host, Trap::Smccc, esr);
        partition.hvc(&hosts, vp, 0, x)
    } else {
        exit::begin(&host, Trap::Hvc, esr);
        partition.hvc(&hosts, vp, immediate, x)
    };
    if !matches!(action, Action::Resume) {
        after_hvc(frame, action);
    }
    exit::end(&on::<false>(&frame.cpu));
}

/// Handles all of an `hvc` but the plain return from it.
#[cold]
fn after_hvc(frame: &mut TrapFrame, action: Action) {
    if matches!(action, Action::Undefined) {
        // Read again, so that the hot path need not keep it: no exception is taken at EL2 in between.
        let immediate = mrs!("esr_el2") as u16;
        // For HVC, ELR is the address after it; for UNDEFINED, that of the instruction.
        inject::before_hvc();
        frame.cpu.left(&frame.x);
        frame.cpu.fault(Fault::HvcImmediate, u64::from(immediate));
    }
    apply(frame, action);
}

/// Handles every other synchronous exit.
extern "C" fn sync_exit(frame: &mut TrapFrame, esr: u64) {
    let TrapFrame { x, cpu } = frame;
    let host = on::<true>(cpu);
    cpu.left(x);
    match class_of(esr) {
        class::SMC64 => {
            exit::begin(&host, Trap::Smc, esr);
            let action = cpu.hypervisor.partition.smc(&host, cpu.index(), esr as u16, x);
            if matches!(action, Action::Undefined) {
                cpu.fault(Fault::SmcImmediate, esr & 0xffff);
            } else {
                inject::complete(esr);
            }
            apply(frame, action);
        }
        class::SYSTEM_REGISTER => {
            exit::begin(&host, Trap::SystemRegister, esr);
            sysreg::access(&host, x, esr);
        }
        class::DATA_ABORT | class::INSTRUCTION_ABORT => abort::stage2(&host, x, esr),
        _ => {
            exit::begin(&host, Trap::Other, esr);
            cpu.fault(Fault::Exception, esr);
            inject::undefined();
        }
    }
    exit::end(&on::<true>(&frame.cpu));
}

/// Handles an SError taken while the guest ran: an access of it failed in the machine. The guest gets it as a virtual
/// SError.
extern "C" fn serror_exit(frame: &mut TrapFrame) {
    let TrapFrame { x, cpu } = frame;
    let host = on::<true>(cpu);
    cpu.left(x);
    let esr = mrs!("esr_el2");
    exit::begin(&host, Trap::Other, esr);
    cpu.fault(Fault::SError, esr);
    arch::set_hypervisor_configuration(mrs!("hcr_el2") | el2::VSE);
    exit::end(&host);
}

/// Carries out what the partition decided.
fn apply(frame: &mut TrapFrame, action: Action) {
    match action {
        Action::Resume => {}
        Action::Undefined => inject::undefined(),
        Action::Retry => inject::before_hvc(),
        Action::Suspend => suspend(frame),
        Action::VpOff => vcpu::stop(frame),
        Action::SystemOff => power::end_run(ExitKind::PowerOff),
        Action::SystemReset => power::end_run(ExitKind::Reset),
    }
}

/// Handles PSCI CPU_SUSPEND to a standby state: waits until an interrupt is pending for this CPU. A pending one takes
/// it out of the guest again at once, so nothing is handled here.
fn suspend(frame: &TrapFrame) {
    if !frame.cpu.hypervisor.gic.has_pending(&frame.cpu) {
        arch::wfi();
    }
}
