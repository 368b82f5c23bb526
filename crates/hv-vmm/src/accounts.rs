//! The report of a run, from the partition's events.
//!
//! Each VP's thread writes its own part. What has changed is copied to the memory that the tool reads now and then, and
//! at the end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hv_partition::{BusEvent, Event};
use hv_tlfs::register::RegisterName;
use hv_tlfs::smccc::VENDOR_HYP_UID;
use hv_tlfs::status::HvStatus;
use hv_tlfs::time::ReferenceTime;
use hv_vmbus::Traffic;
use hv_wire::{
    DeviceReport, ExitKind, Fault, Place, Report, SERVICE_BUCKETS, SynicState, VpReport, one_more,
};
use zerocopy::{FromZeros, IntoBytes as _};

/// The accounts of a run.
pub(crate) struct Accounts {
    run: Mutex<Box<Report>>,
    vps: Vec<Mutex<Box<VpReport>>>,
    /// Something has changed since the last copy.
    changed: AtomicBool,
    /// Held by the thread that copies.
    copying: Mutex<()>,
}

/// A part of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// That of the VP with this number.
    Vp(usize),
    /// That of the run.
    Run,
}

/// Locks what no code panics under.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Accounts {
    /// Begins those of a run with this many VPs, whose counter has this frequency and this value.
    pub(crate) fn begin(vps: usize, frequency: u64, now: u64) -> Self {
        let mut run = zeroed::<Report>();
        run.version = hv_wire::VERSION;
        run.exit = ExitKind::Running as u32;
        run.counter_frequency = frequency;
        // 0 is for a guest that has never run.
        run.start_counter = now.max(1);
        run.magic = Report::MAGIC;
        let vps = (0..vps).map(|_| Mutex::new(zeroed())).collect();
        Self { run: Mutex::new(run), vps, changed: AtomicBool::new(true), copying: Mutex::new(()) }
    }

    /// Ends them.
    pub(crate) fn end(&self, kind: ExitKind, now: u64) {
        self.run(|run| {
            run.exit = kind as u32;
            run.end_counter = now;
        });
    }

    /// Copies all parts, always or if one has changed since the last call: the report of each VP by its number, then
    /// that of the run. One thread copies at a time.
    pub(crate) fn publish(&self, always: bool, mut copy: impl FnMut(Part, &[u8])) {
        let _copying = lock(&self.copying);
        if !self.changed.swap(false, Ordering::AcqRel) && !always {
            return;
        }
        for (number, vp) in self.vps.iter().enumerate() {
            copy(Part::Vp(number), lock(vp).as_bytes());
        }
        // By it the tool sees the end of the run.
        copy(Part::Run, lock(&self.run).as_bytes());
    }

    fn run(&self, change: impl FnOnce(&mut Report)) {
        change(&mut lock(&self.run));
        self.changed.store(true, Ordering::Release);
    }

    fn vp(&self, vp: usize, change: impl FnOnce(&mut VpReport)) {
        if let Some(report) = self.vps.get(vp) {
            change(&mut lock(report));
            self.changed.store(true, Ordering::Release);
        }
    }

    /// Counts an event of the hypervisor.
    pub(crate) fn event(&self, event: &Event<'_>) {
        match *event {
            Event::Hypercall { vp, control, result, retry: false, .. } => {
                self.vp(vp, |report| report.hypercall(control.code().0, result.status().0));
            }
            Event::RegisterGet { vp, name, value, .. } => {
                self.vp(vp, |report| report.register_get(name.0, value.is_err()));
            }
            Event::RegisterSet { vp, name, value, status, .. } => {
                self.vp(vp, |report| {
                    report.register_set(name.0, status != HvStatus::SUCCESS);
                    if SynicState::shows(name) && status == HvStatus::SUCCESS {
                        report.synic.remember(name, value[0]);
                    }
                });
                if name == RegisterName::GUEST_OS_ID && status == HvStatus::SUCCESS && value[0] != 0 {
                    self.run(|run| run.guest_os_id = value[0]);
                }
            }
            Event::Smccc { vp, function, result, .. } => {
                if function == VENDOR_HYP_UID {
                    self.run(|run| one_more(&mut run.uid_calls));
                }
                self.vp(vp, |report| report.firmware(function, result));
            }
            Event::Crash { vp, control, parameters, text, .. } => {
                self.run(|run| run.crash.report(vp, control, parameters, text));
            }
            Event::VpOnline { vp } => self.vp(vp, VpReport::start),
            Event::VpOffline { vp } => self.vp(vp, |report| report.online = 0),
            _ => {}
        }
    }

    /// Counts an event of VMBus.
    pub(crate) fn bus_event(&self, event: &BusEvent<'_>) {
        if let BusEvent::Server(hv_vmbus::Event::Contact { version, accepted: true, .. }) = *event {
            self.run(|run| run.vmbus_version = version.0);
        }
    }

    /// Counts a rule that the guest broke this often, by its number, with the value and the place of the first time.
    pub(crate) fn finding(&self, vp: usize, rule: usize, (value, count): (u64, u32), place: Place) {
        self.vp(vp, |report| (0..count).for_each(|_| report.finding(rule, value, || place)));
    }

    /// Notes how often each rule of the fault plan has struck.
    pub(crate) fn rules_fired(&self, fired: impl Iterator<Item = u64>) {
        let mut run = lock(&self.run);
        for (noted, times) in run.rules_fired.iter_mut().zip(fired) {
            if *noted < times {
                *noted = times;
                self.changed.store(true, Ordering::Release);
            }
        }
    }

    /// Changes what is counted of a device, by its place on the bus.
    pub(crate) fn device(&self, place: usize, change: impl FnOnce(&mut DeviceReport)) {
        self.run(|run| {
            if let Some(device) = run.devices.get_mut(place) {
                change(device);
            }
        });
    }

    /// Counts the packets of a device, and the requests that it was done with.
    pub(crate) fn traffic(&self, place: usize, traffic: &Traffic) {
        self.device(place, |device| {
            device.packets_in += u64::from(traffic.packets_in);
            device.bytes_in += u64::from(traffic.bytes_in);
            device.packets_out += u64::from(traffic.packets_out);
            device.bytes_out += u64::from(traffic.bytes_out);
            device.requests += u64::from(traffic.requests);
            device.most_packets = device.most_packets.max(traffic.packets_in.into());
        });
    }

    /// Counts a request of a device by the time that it took.
    pub(crate) fn served(&self, place: usize, time: ReferenceTime) {
        let bucket = (u64::BITS - time.ticks().leading_zeros()).min(SERVICE_BUCKETS as u32 - 1);
        self.device(place, |device| device.service[bucket as usize] += 1);
    }

    /// Counts an action of the guest that has no meaning here.
    pub(crate) fn fault(&self, vp: usize, kind: Fault, value: u64, place: impl FnOnce() -> Place) {
        self.vp(vp, |report| report.fault(kind, value, place));
    }
}

/// Makes a report of zeros.
fn zeroed<T: FromZeros>() -> Box<T> {
    T::new_box_zeroed().unwrap_or_else(|_| std::alloc::handle_alloc_error(std::alloc::Layout::new::<T>()))
}

#[cfg(test)]
mod tests {
    use hv_partition::Convention;
    use hv_tlfs::hypercall::{HypercallInput, HypercallOutput};
    use hv_tlfs::vmbus::Version;
    use zerocopy::FromBytes as _;

    use super::*;

    /// What the tool reads: the reports of the run and of two VPs.
    fn published(accounts: &Accounts, always: bool) -> Option<(Report, [VpReport; 2])> {
        let (mut run, mut vps) = (None, Vec::new());
        accounts.publish(always, |part, bytes| match part {
            Part::Run => run = Some(Report::read_from_bytes(bytes).unwrap()),
            Part::Vp(number) => {
                assert_eq!(number, vps.len());
                vps.push(VpReport::read_from_bytes(bytes).unwrap());
            }
        });
        Some((run?, vps.try_into().ok()?))
    }

    #[test]
    fn what_a_guest_does_is_counted_where_the_tool_reads_it() {
        let accounts = Accounts::begin(2, 1000, 0);
        accounts.event(&Event::VpOnline { vp: 1 });
        let call = |vp, retry, result| Event::Hypercall {
            vp,
            convention: Convention::Smccc,
            control: HypercallInput(0x5c),
            parameters: [0; 2],
            result: HypercallOutput(result),
            retry,
        };
        [call(1, true, 0), call(1, false, 0), call(1, false, 0x12), call(9, false, 0)]
            .iter()
            .for_each(|event| accounts.event(event));
        let set = |name, value, status| {
            accounts.event(&Event::RegisterSet { vp: 1, target: 1, name, value: [value, 0], status });
        };
        set(RegisterName::SIMP, 0x1001, HvStatus::SUCCESS);
        set(RegisterName::SIEFP, 0x2001, HvStatus::ACCESS_DENIED);
        set(RegisterName::GUEST_OS_ID, 7, HvStatus::SUCCESS);
        set(RegisterName::GUEST_OS_ID, 0, HvStatus::SUCCESS);
        let crash = Event::Crash { vp: 1, control: 3, parameters: [5; 5], text: b"text" };
        accounts.event(&crash);
        accounts.fault(0, Fault::Address, 0x10, || Place::at(4));
        accounts.finding(0, 3, (9, 2), Place::at(8));
        accounts.rules_fired([0, 5].into_iter());
        let contact = |version, accepted| {
            let event = hv_vmbus::Event::Contact { version: Version(version), accepted, vp: 0 };
            accounts.bus_event(&BusEvent::Server(event));
        };
        contact(0x5_0003, true);
        contact(0x6_0000, false);
        let mut traffic = Traffic::default();
        (traffic.packets_in, traffic.bytes_in, traffic.requests) = (2, 3, 1);
        accounts.traffic(1, &traffic);
        accounts.traffic(99, &Traffic::default());
        accounts.served(1, ReferenceTime(5));
        let (run, [first, second]) = published(&accounts, false).unwrap();
        assert_eq!((run.magic, run.exit, run.start_counter), (Report::MAGIC, ExitKind::Running as u32, 1));
        assert_eq!((run.guest_os_id, run.vmbus_version), (7, 0x5_0003));
        assert_eq!((run.crash.count, run.crash.vp), (1, 1));
        assert_eq!((first.started, first.faults[0].value, first.faults[0].place.pc), (0, 0x10, 4));
        let device = run.devices[1];
        assert_eq!(
            (device.packets_in, device.most_packets, device.requests, device.service[3]),
            (2, 2, 1, 1)
        );
        let finding = first.findings[3];
        assert_eq!((finding.rule, finding.count, finding.value, finding.place.pc), (4, 2, 9, 8));
        assert_eq!(run.rules_fired[..2], [0, 5]);
        let sends = second.calls.iter().find(|slot| slot.number() == Some(0x5c)).unwrap();
        assert_eq!((second.started, sends.count, sends.failed, sends.last_failure), (1, 2, 1, 0x12));
        assert_eq!((second.synic.message_page, second.synic.event_flags_page), (0x1001, 0));
    }

    #[test]
    fn nothing_is_copied_twice_and_the_end_is() {
        let accounts = Accounts::begin(2, 1000, 5);
        assert!(published(&accounts, false).is_some() && published(&accounts, false).is_none());
        accounts.event(&Event::VpOffline { vp: 0 });
        assert!(published(&accounts, false).is_some());
        accounts.end(ExitKind::Reset, 77);
        // Another thread may have taken note of the change, and not have copied it yet.
        assert!(accounts.changed.swap(false, Ordering::AcqRel));
        let (run, _) = published(&accounts, true).unwrap();
        assert_eq!((run.exit, run.start_counter, run.end_counter), (ExitKind::Reset as u32, 5, 77));
    }
}
