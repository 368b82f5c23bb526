//! Physical interrupts: the guest's go on to it, the hypervisor's own are few.

use hv_wire::Trap;
use hv_wire::platform::{HYPERVISOR_TIMER_INTID, MAINTENANCE_INTID};

use crate::arch::msr;
use crate::gic::{self, Lists, Machine};
use crate::host::Embedder;
use crate::vcpu::{Cpu, Frame};

/// An interrupt took this CPU out of the guest.
#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "vectors.s calls it by name")]
extern "C" fn irq_exit(frame: &mut Frame) {
    let host = <Embedder>::new(frame.cpu);
    if frame.cpu.observed {
        frame.cpu.left(&frame.x);
    }
    host.exit(Trap::Interrupt, 0);
    handle(frame.cpu);
    host.enter();
}

/// Handles one pending interrupt, if there is one.
#[inline]
pub(crate) fn handle(cpu: &'static Cpu) {
    let intid = gic::acknowledge();
    match intid {
        _ if gic::FORWARDED.contains(&intid) => {
            <Embedder>::new(cpu).forwarded(intid);
            cpu.hypervisor.gic.physical(cpu.index, intid, &Lists, &Machine);
        }
        gic::SPECIAL.. => {}
        HYPERVISOR_TIMER_INTID => {
            <Embedder>::new(cpu).own_interrupt(intid);
            msr!("cnthp_ctl_el2", 0);
            gic::deactivate(intid);
            cpu.hypervisor.partition.timer_expired(&<Embedder>::new(cpu), cpu.index);
        }
        // A kick, or the maintenance interrupt: either way there may be interrupts to move into list registers.
        _ => {
            <Embedder>::new(cpu).own_interrupt(intid);
            cpu.hypervisor.gic.sync(cpu.index, &Lists, &Machine);
            debug_assert!(intid < 16 || intid == MAINTENANCE_INTID);
            gic::deactivate(intid);
            if cpu.take_timer_request() {
                cpu.program_timer();
            }
        }
    }
}
