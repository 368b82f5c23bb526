//! The counts of the report, from the partition's events.
//!
//! Each VP has a report of its own that only its CPU writes, so counting needs no lock and no atomic.
#![expect(unsafe_code, reason = "the reports are fixed addresses")]

use core::ptr::addr_of_mut;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use hv_partition::strict::{Finding, Judge};
use hv_partition::{BusEvent, Event};
use hv_tlfs::register::RegisterName;
use hv_tlfs::smccc::VENDOR_HYP_UID;
use hv_tlfs::status::HvStatus;
use hv_wire::platform::MAX_VPS;
use hv_wire::{
    CallCount, Counted, CrashReport, ExitKind, RegisterCount, Report, SmcccCount, SynicState, TraceKind,
    one_more,
};
use spin::Mutex;

use crate::arch::mrs;
use crate::backtrace;
use crate::memory;
use crate::mmu;
use crate::vcpu::Cpu;

/// Writes a field of the run's report.
macro_rules! report {
    ($($field:ident).+ = $value:expr) => {{
        let value = $value;
        // SAFETY: the report is ours and mapped; a field is written by one CPU at a time, or by any with the same value.
        unsafe { addr_of_mut!((*memory::report()).$($field).+).write_volatile(value) }
    }};
}

/// The run begins.
pub(crate) fn begin() {
    report!(version = hv_wire::VERSION);
    report!(exit = ExitKind::Running as u32);
    report!(counter_frequency = mrs!("cntfrq_el0"));
    report!(memory_used = mmu::memory_used());
    report!(counter_offset = mrs!("cntvoff_el2"));
    report!(start_counter = mrs!("cntpct_el0"));
    report!(magic = Report::MAGIC);
}

/// A VP goes on.
pub(crate) fn vp_started(cpu: &Cpu) {
    // SAFETY: this is the VP's CPU, and the reference ends with the function.
    let report = unsafe { cpu.report() };
    report.started = 1;
    report.online = 1;
    // SINTs are masked at reset.
    report.synic = SynicState { sints: [1 << 16; 16], ..SynicState::default() };
}

/// A VP goes off.
pub(crate) fn vp_stopped(cpu: &Cpu) {
    // SAFETY: this is the VP's CPU, and the reference ends with the statement.
    unsafe { cpu.report() }.online = 0;
}

/// Counts an event of the partition on the CPU where it happened.
#[inline(always)]
pub(crate) fn count(cpu: &Cpu, event: &Event<'_>) {
    match *event {
        Event::Hypercall { control, result, retry, .. } if !retry => {
            // SAFETY: this is the VP's CPU, and the reference ends with the block.
            let report = unsafe { cpu.report() };
            let status = result.status().0;
            match CallCount::slot(&mut report.calls, u32::from(control.code().0)) {
                Some(slot) => {
                    one_more(&mut slot.count);
                    if status != 0 {
                        one_more(&mut slot.failed);
                        slot.last_failure = u32::from(status);
                    }
                }
                None => one_more(&mut report.counts_lost),
            }
        }
        Event::RegisterGet { name, ref value, .. } => register(cpu, name.0, |slot| {
            one_more(&mut slot.gets);
            if value.is_err() {
                one_more(&mut slot.failed);
            }
        }),
        Event::RegisterSet { name, value, status, .. } => {
            register(cpu, name.0, |slot| {
                one_more(&mut slot.sets);
                if status.0 != 0 {
                    one_more(&mut slot.failed);
                }
            });
            // The numbers of the SynIC's registers, and the one other that is kept.
            let shown = (name.0 >> 5 == RegisterName::SINT0.0 >> 5 && name != RegisterName::EOM)
                || name == RegisterName::GUEST_OS_ID;
            if shown && status == HvStatus::SUCCESS {
                remember(cpu, name, value[0]);
            }
        }
        // Nobody counts these. It is said here, inline, where the compiler knows which event it is.
        Event::EventSignalled { .. } | Event::EventFlag { .. } | Event::Interrupt { .. } => {}
        Event::MessagePosted { .. } | Event::MessageQueued { .. } | Event::MessageDelivered { .. } => {}
        Event::EndOfMessage { .. } | Event::MessageDropped { .. } | Event::Timer { .. } => {}
        _ => count_rare(cpu, event),
    }
}

/// Counts an access to a VP register.
#[inline(always)]
fn register(cpu: &Cpu, name: u32, access: impl FnOnce(&mut RegisterCount)) {
    // SAFETY: this is the VP's CPU, and the reference ends with the function.
    let report = unsafe { cpu.report() };
    match RegisterCount::slot(&mut report.registers, name) {
        Some(slot) => access(slot),
        None => one_more(&mut report.counts_lost),
    }
}

/// Keeps the registers that the report shows.
#[cold]
#[inline(never)]
fn remember(cpu: &Cpu, name: RegisterName, value: u64) {
    // SAFETY: this is the VP's CPU, and the reference ends with the function.
    let synic = &mut unsafe { cpu.report() }.synic;
    let sint = name.0.wrapping_sub(RegisterName::SINT0.0) as usize;
    match name {
        RegisterName::GUEST_OS_ID if value != 0 => report!(guest_os_id = value),
        RegisterName::SCONTROL => synic.control = value,
        RegisterName::SIMP => synic.message_page = value,
        RegisterName::SIEFP => synic.event_flags_page = value,
        _ if sint < synic.sints.len() => synic.sints[sint] = value,
        _ => {}
    }
}

/// Lets the judge of the strict mode look at an event, and counts what it finds.
#[cold]
#[inline(never)]
pub(crate) fn judge(cpu: &Cpu, judge: &mut Judge<MAX_VPS>, event: &Event<'_>) {
    judge.event(event, &mut |finding| found(cpu, finding));
}

/// As [`judge`], of what happens on VMBus.
#[cold]
#[inline(never)]
pub(crate) fn judge_bus(cpu: &Cpu, judge: &mut Judge<MAX_VPS>, event: &BusEvent<'_>) {
    judge.bus_event(event, &mut |finding| found(cpu, finding));
}

fn found(cpu: &Cpu, finding: Finding) {
    let number = finding.rule.number();
    // SAFETY: this is the VP's CPU, and the reference ends with the statement; `place` uses no report.
    unsafe { cpu.report() }.finding(number, finding.value, || backtrace::place(cpu));
    if let Some(ring) = &cpu.trace {
        ring.push_place(cpu, TraceKind::Finding, number as u64, finding.value);
    }
}

/// Counts an event of VMBus.
pub(crate) fn count_bus(event: &BusEvent<'_>) {
    if let BusEvent::Server(hv_vmbus::Event::Contact { version, accepted: true, .. }) = *event {
        report!(vmbus_version = version.0);
    }
}

/// Keeps how often a rule of the plan of faults has struck; true if that is more than was known. Any CPU may call it.
pub(crate) fn rule_fired(rule: usize, times: u64) -> bool {
    if rule >= hv_wire::PLAN_RULES {
        return false;
    }
    // SAFETY: the report is ours, mapped and aligned, the index is inside the array, and VPs reach it as atomics alone.
    let fired = unsafe { AtomicU64::from_ptr(addr_of_mut!((*memory::report()).rules_fired[rule])) };
    fired.fetch_max(times, Ordering::Relaxed) < times
}

/// What does not happen on a hot path.
fn count_rare(cpu: &Cpu, event: &Event<'_>) {
    match *event {
        Event::Smccc { function, result, .. } => smccc(cpu, function, result),
        Event::Crash { control, ref parameters, text, .. } => crash(cpu, control, parameters, text),
        _ => {}
    }
}

/// Functions that answer "not supported" about another function (Arm DEN0028 and DEN0022, "Function IDs").
const SMCCC_ARCH_FEATURES: u32 = 0x8000_0001;
const PSCI_FEATURES: u32 = 0x8400_000a;

fn smccc(cpu: &Cpu, function: u32, result: u64) {
    if function == VENDOR_HYP_UID {
        // SAFETY: the report is ours, mapped and aligned, and VPs reach this field as an atomic alone.
        let calls = unsafe { AtomicU32::from_ptr(addr_of_mut!((*memory::report()).uid_calls)) };
        let more = |count: u32| Some(count.saturating_add(1));
        // It always has a value to store.
        let _ = calls.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }
    // SAFETY: this is the VP's CPU, and the reference ends with the function.
    let report = unsafe { cpu.report() };
    match SmcccCount::slot(&mut report.smccc, function) {
        Some(slot) => {
            one_more(&mut slot.count);
            // From a function that asks for features, -1 is an answer.
            let asks = matches!(function, SMCCC_ARCH_FEATURES | PSCI_FEATURES);
            if result == u64::MAX && !asks {
                one_more(&mut slot.unknown);
            }
        }
        None => one_more(&mut report.counts_lost),
    }
}

fn crash(cpu: &Cpu, control: u64, parameters: &[u64; 5], text: &[u8]) {
    /// Two VPs may notify at once.
    static CRASHING: Mutex<()> = Mutex::new(());
    let _lock = CRASHING.lock();
    // SAFETY: the report is ours and mapped, and any bytes are valid; the lock makes this the only reference.
    let crash: &mut CrashReport = unsafe { &mut *addr_of_mut!((*memory::report()).crash) };
    crash.vp = cpu.index as u32;
    crash.control = control;
    crash.parameters = *parameters;
    let len = text.len().min(crash.text.len());
    crash.text[..len].copy_from_slice(&text[..len]);
    crash.text_len = len as u64;
    one_more(&mut crash.count);
}
