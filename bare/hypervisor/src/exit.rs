//! The beginning and the end of every exit, whatever its reason: it is counted and recorded, and injected faults that
//! are due happen.

use hv_partition::faults::{Injector, Timed};
use hv_trace::{Trap, What};

use crate::arch::mrs;
use crate::host::{FaultyEmbedder, on};
use crate::{faults, machine};

/// Begins an exit. This CPU holds no lock.
#[inline(always)]
pub(crate) fn begin<const OBSERVED: bool>(host: &FaultyEmbedder<'_, OBSERVED>, trap: Trap, esr: u64) {
    host.cpu.counts.exit(trap);
    if OBSERVED && host.cpu.observed() {
        observed(&on(host.cpu), trap, esr);
    }
}

/// Records an exit, and injects the faults that are due.
#[cold]
#[inline(never)]
fn observed(host: &FaultyEmbedder<'_>, trap: Trap, esr: u64) {
    if let Some(ring) = host.ring() {
        ring.exit(trap, esr);
    }
    if let Some(injector) = host.plan().injector() {
        tick(host, injector);
    }
}

/// Ends an exit: the guest resumes.
#[inline(always)]
pub(crate) fn end<const OBSERVED: bool>(host: &FaultyEmbedder<'_, OBSERVED>) {
    host.trace(|| What::Enter {});
}

/// Injects the faults that have become due.
fn tick(host: &FaultyEmbedder<'_>, injector: &Injector) {
    let (hypervisor, vp) = (host.cpu.hypervisor, host.cpu.index());
    let partition = &hypervisor.partition;
    injector.tick(faults::now(), &mut |due| match due {
        Timed::Spurious(intid) => hypervisor.gic.assert(host.cpu, vp, intid),
        Timed::Migrate => {
            partition.migrate(host, mrs!("cntfrq_el0"), partition.reference_time(host));
            partition.timer_expired(host, vp);
        }
        Timed::Disturb(what, random) => partition.disturb(host, vp, what, random),
        Timed::Rescan => partition.rescan(host, vp),
        Timed::Resume => partition.resume_devices(host),
        Timed::Link(up) => {
            machine::of(host).set_link(up);
        }
    });
    faults::note(host.cpu, injector);
    host.cpu.look_again();
}
