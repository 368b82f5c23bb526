//! The counts of the report, from the partition's events.
//!
//! Each VP has its own report, which only its CPU writes ([`VpCounts`]), so counting needs no lock and no atomic.
#![expect(unsafe_code, reason = "the reports are fixed addresses")]

use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use hv_partition::{BusEvent, Event};
use hv_tlfs::register::RegisterName;
use hv_tlfs::smccc::VENDOR_HYP_UID;
use hv_tlfs::status::HvStatus;
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::vmbus::{ChannelOffer, Guid};
use hv_vmbus::Traffic;
use hv_wire::{
    BootInfo, CrashReport, DEVICE_SLOTS, DeviceReport, ExitKind, Fault, Report, SERVICE_BUCKETS, SynicState,
    Trap, VpReport,
};
use zerocopy::IntoBytes as _;

use crate::arch::{self, mrs};
use crate::backtrace::{self, Left};
use crate::memory::{self, report_field};

/// Writes a field of the run's report.
macro_rules! report {
    ($field:ident$([$index:expr])?$(.$inner:ident)* = $value:expr) => {{
        let value = $value;
        let place = report_field!($field$([$index])?$(.$inner)*);
        // SAFETY: the field is mapped and aligned; one CPU at a time writes it, or several write the same value.
        unsafe { place.write_volatile(value) }
    }};
}

/// Records that the run begins, and how many bytes of memory the hypervisor uses.
pub(crate) fn begin(memory_used: u64) {
    report!(version = hv_wire::VERSION);
    report!(exit = ExitKind::Running as u32);
    report!(counter_frequency = mrs!("cntfrq_el0"));
    report!(memory_used = memory_used);
    report!(counter_offset = mrs!("cntvoff_el2"));
    report!(start_counter = mrs!("cntpct_el0"));
    report!(magic = Report::MAGIC);
}

/// Records that a CPU waits for a lock while this many others are served.
#[cold]
pub(crate) fn queued(ahead: u32) {
    let longest = report_field!(longest_queue);
    // SAFETY: the field is mapped and aligned, and every CPU accesses it as an atomic only.
    let longest = unsafe { AtomicU32::from_ptr(longest) };
    longest.fetch_max(ahead, Ordering::Relaxed);
}

/// The VP of the CPU that runs this code. Neither `Send` nor `Sync`, and there is one for each VP: it is a part of the
/// CPU's only `ThisCpu`.
pub(crate) struct OwnVp {
    index: usize,
    here: PhantomData<*mut ()>,
}

impl OwnVp {
    /// Makes the VP with this number.
    ///
    /// # Safety
    ///
    /// This code runs on the CPU with this number, and none was made for it before.
    pub(crate) unsafe fn new(index: usize) -> Self {
        Self { index, here: PhantomData }
    }

    /// Returns the number of the VP, and of its CPU.
    #[inline(always)]
    pub(crate) fn index(&self) -> usize {
        self.index
    }
}

/// The report of this CPU's VP, in the memory that the tool reads. It stays on the CPU.
///
/// Each method borrows the report for itself, and calls nothing meanwhile that could come back here.
pub(crate) struct VpCounts {
    vp: OwnVp,
    report: NonNull<VpReport>,
}

impl VpCounts {
    /// Takes the report of the CPU's own VP.
    pub(crate) fn new(info: &BootInfo, vp: OwnVp) -> Self {
        let report = memory::vp_report(info, vp.index());
        Self { vp, report }
    }

    /// Returns the VP.
    #[inline(always)]
    pub(crate) fn vp(&self) -> &OwnVp {
        &self.vp
    }

    /// Returns the report itself.
    ///
    /// # Safety
    ///
    /// No reference that this returned earlier is used once the new one is.
    #[expect(clippy::mut_from_ref, reason = "the report is not part of this value")]
    #[inline(always)]
    unsafe fn report(&self) -> &mut VpReport {
        // SAFETY: the region is ours, mapped, aligned, of this size (asserted in hv-wire), and any bytes are valid. No
        // other CPU reaches it: there is one `VpCounts` for it, since there is one `OwnVp`, and neither is `Send` nor
        // `Sync`. The caller promises
        // that no earlier reference is in use.
        unsafe { &mut *self.report.as_ptr() }
    }

    /// Counts an exit.
    #[inline(always)]
    pub(crate) fn exit(&self, trap: Trap) {
        // SAFETY: the reference ends with the statement, which calls nothing of this type.
        unsafe { self.report() }.traps[trap as usize] += 1;
    }

    /// Counts the VP's start.
    pub(crate) fn started(&self) {
        // SAFETY: the reference ends with the statement, which calls nothing of this type.
        unsafe { self.report() }.start();
    }

    /// Counts the VP's stop.
    pub(crate) fn stopped(&self) {
        // SAFETY: the reference ends with the statement, which calls nothing of this type.
        unsafe { self.report() }.online = 0;
    }

    /// Counts a guest action that has no meaning here.
    pub(crate) fn fault(&self, kind: Fault, value: u64, guest: Left<'_>) {
        // SAFETY: the reference ends with the statement; `place` only reads registers and guest memory.
        unsafe { self.report() }.fault(kind, value, || backtrace::place(guest));
    }

    /// Counts a rule that the guest broke, by its number.
    pub(crate) fn finding(&self, rule: usize, value: u64, guest: Left<'_>) {
        // SAFETY: the reference ends with the statement; `place` only reads registers and guest memory.
        unsafe { self.report() }.finding(rule, value, || backtrace::place(guest));
    }

    /// Counts an event of the partition on the CPU where it happened. The event itself is passed to nothing from here,
    /// so that it stays in registers.
    #[inline(always)]
    pub(crate) fn event(&self, event: &Event<'_>) {
        match *event {
            Event::Hypercall { retry: true, .. } => {}
            Event::Hypercall { control, result, .. } => {
                // SAFETY: the reference ends with the statement, which calls nothing of this type.
                unsafe { self.report() }.hypercall(control.code().0, result.status().0);
            }
            Event::RegisterGet { name, ref value, .. } => {
                // SAFETY: the reference ends with the statement, which calls nothing of this type.
                unsafe { self.report() }.register_get(name.0, value.is_err());
            }
            Event::RegisterSet { name, value, status, .. } => {
                // SAFETY: the reference ends with the statement, which calls nothing of this type.
                unsafe { self.report() }.register_set(name.0, status.0 != 0);
                if SynicState::shows(name) && status == HvStatus::SUCCESS {
                    self.remember(name, value[0]);
                }
            }
            Event::Smccc { function, result, .. } => self.smccc(function, result),
            Event::Crash { control, ref parameters, text, .. } => {
                crash(self.vp.index(), control, parameters, text);
            }
            _ => {}
        }
    }

    /// Saves the registers that the report shows.
    #[cold]
    #[inline(never)]
    fn remember(&self, name: RegisterName, value: u64) {
        if name == RegisterName::GUEST_OS_ID && value != 0 {
            report!(guest_os_id = value);
        }
        // SAFETY: the reference ends with the statement, which calls nothing of this type.
        unsafe { self.report() }.synic.remember(name, value);
    }

    /// Counts a call of the firmware's.
    #[inline(never)]
    fn smccc(&self, function: u32, result: u64) {
        if function == VENDOR_HYP_UID {
            let calls = report_field!(uid_calls);
            // SAFETY: the field is mapped and aligned, and VPs access it as an atomic only.
            let calls = unsafe { AtomicU32::from_ptr(calls) };
            let more = |count: u32| Some(count.saturating_add(1));
            // There is always a value to store.
            let _ = calls.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        }
        // SAFETY: the reference ends with the statement, which calls nothing of this type.
        unsafe { self.report() }.firmware(function, result);
    }
}

/// Counts an event of VMBus.
pub(crate) fn count_bus(event: &BusEvent<'_>) {
    if let BusEvent::Server(hv_vmbus::Event::Contact { version, accepted: true, .. }) = *event {
        report!(vmbus_version = version.0);
    }
}

/// Returns a counter of a device; `None` for a device without a place in the report.
fn device_counter(device: usize, field: fn(*mut DeviceReport) -> *mut u64) -> Option<&'static AtomicU64> {
    if device >= DEVICE_SLOTS {
        return None;
    }
    let place = field(report_field!(devices[device]));
    // SAFETY: each of the callers gives a field of the device's report, which is mapped and aligned, and which CPUs
    // reach as an atomic alone.
    Some(unsafe { AtomicU64::from_ptr(place) })
}

/// Adds to a counter of a device, whose lock the caller holds: so no other CPU adds to it meanwhile.
#[inline(always)]
fn add(device: usize, field: fn(*mut DeviceReport) -> *mut u64, count: u64) {
    if let Some(counter) = device_counter(device, field) {
        more(counter, count);
    }
}

/// Adds to a counter that no other CPU writes meanwhile.
#[inline(always)]
fn more(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
}

/// Where a field of a device's report is.
macro_rules! device_field {
    ($($field:tt)+) => {
        // SAFETY: `device_counter` gives a report of a device, which is mapped; no reference is made.
        |device| unsafe { &raw mut (*device).$($field)+ }
    };
}

/// Notes what is offered at a place of the bus.
pub(crate) fn offered(device: usize, offer: &ChannelOffer) {
    if device < DEVICE_SLOTS {
        let bytes = |guid: Guid| {
            let mut bytes = [0; 16];
            bytes.copy_from_slice(guid.as_bytes());
            bytes
        };
        report!(devices[device].class = bytes(offer.interface));
        report!(devices[device].instance = bytes(offer.instance));
    }
}

/// Counts a channel of a device that the guest opened.
pub(crate) fn opened(device: usize) {
    if device < DEVICE_SLOTS {
        let opened = report_field!(devices[device].opened);
        // SAFETY: the field is mapped and aligned, and CPUs reach it as an atomic alone.
        unsafe { AtomicU32::from_ptr(opened) }.fetch_add(1, Ordering::Relaxed);
    }
}

/// Notes the version that a device and the guest have agreed on.
pub(crate) fn agreed(device: usize, version: u32) {
    if device < DEVICE_SLOTS {
        report!(devices[device].version = version);
    }
}

/// Counts a command that a device has refused, or that failed; a packet that meant nothing to it; a channel that is not
/// served any more because of what the guest has put into it. The device's lock is held.
pub(crate) fn failed(device: usize) {
    add(device, device_field!(errors), 1);
}

/// Counts the packets of a device, and the requests that it was done with. The device's lock is held.
pub(crate) fn traffic(device: usize, traffic: &Traffic) {
    add(device, device_field!(packets_in), traffic.packets_in.into());
    add(device, device_field!(bytes_in), traffic.bytes_in.into());
    add(device, device_field!(packets_out), traffic.packets_out.into());
    add(device, device_field!(bytes_out), traffic.bytes_out.into());
    add(device, device_field!(requests), traffic.requests.into());
    let taken = u64::from(traffic.packets_in);
    let most = device_counter(device, device_field!(most_packets));
    if let Some(most) = most.filter(|most| most.load(Ordering::Relaxed) < taken) {
        most.store(taken, Ordering::Relaxed);
    }
}

/// Counts a request by the time that it took. The device's lock is held.
pub(crate) fn served(device: usize, time: ReferenceTime) {
    let bucket = (u64::BITS - time.ticks().leading_zeros()).min(SERVICE_BUCKETS as u32 - 1) as usize;
    if device < DEVICE_SLOTS {
        let place = report_field!(devices[device].service[bucket]);
        // SAFETY: the field is mapped and aligned, and CPUs reach it as an atomic alone.
        more(unsafe { AtomicU64::from_ptr(place) }, 1);
    }
}

/// Records how often a rule of the fault plan has struck; returns true if that is more than was recorded. Any CPU may
/// call it.
pub(crate) fn rule_fired(rule: usize, times: u64) -> bool {
    if rule >= hv_wire::PLAN_RULES {
        return false;
    }
    let fired = report_field!(rules_fired[rule]);
    // SAFETY: the field is mapped and aligned, and VPs access it as atomics only.
    let fired = unsafe { AtomicU64::from_ptr(fired) };
    fired.fetch_max(times, Ordering::Relaxed) < times
}

/// Relaxation of a CPU that waits for the report itself: uncounted, since the count is a part of it.
struct Uncounted;

impl hv_lock::Wait for Uncounted {
    fn relax() {
        arch::yield_cpu();
    }
}

fn crash(vp: usize, control: u64, parameters: &[u64; 5], text: &[u8]) {
    /// Two VPs may notify at once.
    static CRASHING: hv_lock::Mutex<Uncounted, ()> = hv_lock::Mutex::new(());
    let _lock = CRASHING.lock();
    let crash = report_field!(crash);
    // SAFETY: the field is mapped and aligned, and any bytes are valid; the lock makes this the only reference.
    let crash: &mut CrashReport = unsafe { &mut *crash };
    crash.report(vp, control, *parameters, text);
}
