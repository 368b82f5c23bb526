//! A VP on its CPU: its start and its end.
#![expect(unsafe_code, reason = "entering the guest")]

use core::ffi::c_void;

use hv_wire::ExitKind;

use crate::arch::{isb, msr, wfi};
use crate::cpu::TrapFrame;
use crate::host::on;
use crate::{irq, power, reset, vgic};

unsafe extern "C" {
    /// Loads the guest's registers from a frame and enters the guest; its exits find the frame again (vectors.s).
    fn start_guest(frame: *mut c_void) -> !;
}

/// Waits, with the VP off, until it is to start, and enters it.
pub(crate) fn run(frame: &mut TrapFrame) -> ! {
    let TrapFrame { x, cpu } = &mut *frame;
    let context = loop {
        if let Some(context) = cpu.requests().take_start() {
            break context;
        }
        wfi();
        irq::handle(cpu);
    };
    let (hypervisor, vp) = (cpu.hypervisor, cpu.index());
    reset::el1(&context, &hypervisor.features);
    *x = [0; 31];
    x[0] = context.x0;
    x[18] = context.x18;
    cpu.left(x);
    // What became pending while the VP was off may be in list registers by now: it is moved out before they are
    // emptied, and back in afterwards.
    hypervisor.gic.reset_vp(cpu);
    vgic::reset(cpu);
    hypervisor.gic.start_vp(vp);
    hypervisor.gic.sync(cpu);
    hypervisor.partition.vp_online(&on::<true>(cpu), vp);
    cpu.counts.started();
    // SAFETY: the frame is this CPU's own: there is no other way to one than `TrapFrame::of` and the vectors. Nothing
    // on the stack below it is used from here on, since this function does not return.
    unsafe { start_guest(core::ptr::from_mut(frame).cast()) }
}

/// Takes the VP off: stops its timers and counters, moves its interrupts out of the list registers, and waits.
pub(crate) fn stop(frame: &mut TrapFrame) -> ! {
    let cpu = &frame.cpu;
    reset::quiesce();
    msr!("cnthp_ctl_el2", 0);
    isb();
    cpu.hypervisor.gic.reset_vp(cpu);
    cpu.counts.stopped();
    cpu.hypervisor.partition.vp_offline(&on::<true>(cpu), cpu.index());
    if cpu.hypervisor.last_went_off() {
        power::end_run(ExitKind::AllVpsOff);
    }
    run(frame)
}
