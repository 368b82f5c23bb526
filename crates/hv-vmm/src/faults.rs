//! Injected faults that have a time: a thread beside the VPs' looks at the plan each millisecond.

use std::thread;
use std::time::Duration;

use hv_kvm::{Embedder, KvmVm};
use hv_partition::faults::{Injector, Timed};
use hv_partition::{Faulty, Host as _};
use hv_wire::Place;

use crate::devices::Ports;
use crate::hearer::Hearer;

/// How often the plan is looked at: as often as at EL2.
const PERIOD: Duration = Duration::from_millis(1);

/// The embedder of a run with injected faults.
pub(crate) type Host = Faulty<&'static Embedder<KvmVm, Hearer>, &'static Injector>;

/// Injects the faults that are due, until the process ends.
pub(crate) fn inject(machine: &Ports<Host>, (hearer, frequency): (&'static Hearer, u64)) {
    let (partition, host) = (machine.partition, machine.host);
    let vps = partition.vp_count();
    loop {
        host.plan().tick(partition.reference_time(host), &mut |due| match due {
            // It is no interrupt of the partition's that the plan could change.
            Timed::Spurious(intid) => (**host).assert_interrupt(0, intid),
            Timed::Migrate => {
                partition.migrate(host, frequency, partition.reference_time(host));
                (0..vps).for_each(|vp| partition.timer_expired(host, vp));
            }
            Timed::Disturb(what, random) => partition.disturb(host, 0, what, random),
            Timed::Rescan => (0..vps).for_each(|vp| partition.rescan(host, vp)),
            Timed::Resume => partition.resume_devices(host),
            Timed::Link(up) => {
                machine.set_link(up);
            }
        });
        hearer.settle(|| Place::at(0));
        thread::sleep(PERIOD);
    }
}
