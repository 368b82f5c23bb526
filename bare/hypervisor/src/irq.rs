//! Physical interrupts: the guest's are forwarded to it, the hypervisor's own are few.

use hv_trace::{Trap, What};
use hv_wire::platform::{HYPERVISOR_TIMER_INTID, MAINTENANCE_INTID};

use crate::arch::msr;
use crate::cpu::{ThisCpu, TrapFrame};
use crate::host::on;
use crate::{control, exit, gic, network, outcomes};

/// Handles an exit for an interrupt.
pub(crate) extern "C" fn irq_exit(frame: &mut TrapFrame) {
    let TrapFrame { x, cpu } = frame;
    let host = on::<true>(cpu);
    if cpu.observed() {
        cpu.left(x);
    }
    exit::begin(&host, Trap::Interrupt, 0);
    handle(cpu);
    exit::end(&host);
}

/// Handles one pending interrupt, if there is one.
// Always inlined: every interrupt of the guest comes here.
#[inline(always)]
pub(crate) fn handle(cpu: &ThisCpu) {
    let host = on::<true>(cpu);
    let intid = gic::acknowledge();
    match intid {
        _ if gic::FORWARDED.contains(&intid) => {
            host.trace(|| What::Forwarded { intid });
            cpu.hypervisor.gic.physical(cpu, intid);
        }
        gic::SPECIAL.. => {}
        HYPERVISOR_TIMER_INTID => {
            host.trace(|| What::OwnInterrupt { intid });
            msr!("cnthp_ctl_el2", 0);
            gic::deactivate(intid);
            cpu.hypervisor.partition.timer_expired(&host, cpu.index());
            if cpu.observed() {
                cpu.look_again();
            }
        }
        _ if outcomes::CONTROL.owns(intid) => {
            host.trace(|| What::OwnInterrupt { intid });
            gic::deactivate(intid);
            control::interrupt(&host);
        }
        _ if outcomes::SOCKETS.owns(intid) => {
            host.trace(|| What::OwnInterrupt { intid });
            gic::deactivate(intid);
            control::sockets_interrupt(&host);
        }
        _ if outcomes::NETWORK.owns(intid) => {
            host.trace(|| What::OwnInterrupt { intid });
            gic::deactivate(intid);
            network::interrupt(&host);
        }
        // A kick, or the maintenance interrupt: in both cases, interrupts may have to move into list registers.
        _ => {
            host.trace(|| What::OwnInterrupt { intid });
            cpu.hypervisor.gic.sync(cpu);
            debug_assert!(intid < 16 || intid == MAINTENANCE_INTID);
            gic::deactivate(intid);
            if cpu.requests().take_timer() {
                cpu.program_timer();
            }
        }
    }
}
