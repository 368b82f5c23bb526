//! Information that the hypervisor reports to the tool.

use hv_tlfs::psci;
use hv_tlfs::register::RegisterName;
use hv_tlfs::smccc::ARCH_FEATURES;
use hv_trace::{Fault, Trap};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::PLAN_RULES;

/// Maximum size of a crash message from the guest (one Hyper-V page, as the TLFS allows).
pub const CRASH_TEXT_BYTES: usize = 4096;
/// Size of the hypervisor's log.
pub const LOG_BYTES: usize = 8192;
/// Number of different hypercalls counted per VP.
pub const CALL_SLOTS: usize = 64;
/// Number of different VP registers counted per VP.
pub const REGISTER_SLOTS: usize = 128;
/// Number of different SMCCC functions counted per VP.
pub const SMCCC_SLOTS: usize = 64;
/// Number of different faults kept per VP.
pub const FAULT_SLOTS: usize = 64;

/// Number of different broken rules kept per VP: a slot for each rule.
pub const FINDING_SLOTS: usize = 256;

/// Outcome of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ExitKind {
    /// The guest is still running.
    Running = 0,
    /// PSCI SYSTEM_OFF.
    PowerOff = 1,
    /// PSCI SYSTEM_RESET.
    Reset = 2,
    /// The hypervisor panicked; its log tells where.
    Panic = 3,
    /// All VPs are off without a SYSTEM_OFF.
    AllVpsOff = 4,
    /// The [`BootInfo`](crate::BootInfo) was rejected; the log tells why.
    BadBootInfo = 5,
}

impl ExitKind {
    /// Returns the kind with a number read from a [`Report`]; `None` if it is unknown.
    #[must_use]
    pub const fn from_raw(raw: u32) -> Option<Self> {
        Some(match raw {
            0 => Self::Running,
            1 => Self::PowerOff,
            2 => Self::Reset,
            3 => Self::Panic,
            4 => Self::AllVpsOff,
            5 => Self::BadBootInfo,
            _ => return None,
        })
    }
}

/// The last crash that the guest reported through the guest crash registers.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CrashReport {
    /// Number of notifications; if 0, the rest is meaningless.
    pub count: u32,
    /// VP that notified.
    pub vp: u32,
    /// Value written to the crash control register.
    pub control: u64,
    /// Crash parameters P0 to P4.
    pub parameters: [u64; 5],
    /// Number of valid bytes in `text`.
    pub text_len: u64,
    /// The guest's crash message.
    pub text: [u8; CRASH_TEXT_BYTES],
}

/// State of the whole run.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Report {
    /// [`Report::MAGIC`], written once the hypervisor is up.
    pub magic: u64,
    /// [`VERSION`](crate::VERSION).
    pub version: u32,
    /// An [`ExitKind`].
    pub exit: u32,
    /// Counter frequency in Hz.
    pub counter_frequency: u64,
    /// Offset of the guest's virtual counter from the counter (CNTVOFF_EL2): it started at 0 with the partition.
    pub counter_offset: u64,
    /// Counter (CNTPCT_EL0) when VP 0 first entered the guest.
    pub start_counter: u64,
    /// Counter at the end; 0 while the guest runs.
    pub end_counter: u64,
    /// Last nonzero value of the guest OS id register.
    pub guest_os_id: u64,
    /// Number of vendor UID calls through SMCCC.
    pub uid_calls: u32,
    /// The negotiated VMBus version, major in the upper half; 0 for none.
    pub vmbus_version: u32,
    /// Hypervisor memory in use, in bytes: image, tables and stacks.
    pub memory_used: u64,
    /// Maximum number of other CPUs served at a lock of the hypervisor ahead of a later one: at most all but one.
    pub longest_queue: u32,
    /// Zero.
    pub reserved: u32,
    /// How often each rule of [`BootInfo::plan`](crate::BootInfo::plan) fired, in the order of the plan.
    pub rules_fired: [u64; PLAN_RULES],
    /// What the devices on VMBus did, by their places on the bus.
    pub devices: [DeviceReport; DEVICE_SLOTS],
    /// Number of valid bytes in `log`.
    pub log_len: u64,
    /// The hypervisor's log: its panic message, or why it did not start.
    pub log: [u8; LOG_BYTES],
    /// The guest's crash.
    pub crash: CrashReport,
}

/// Number of devices that have a place in the report.
pub const DEVICE_SLOTS: usize = 16;
/// Number of buckets of service times: requests of bucket n took less than 2 to the power of n, in 100 ns, and at least
/// half as long.
pub const SERVICE_BUCKETS: usize = 32;

/// What a device on VMBus did.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct DeviceReport {
    /// Its class; all zero if no device is offered at this place.
    pub class: [u8; 16],
    /// Its instance.
    pub instance: [u8; 16],
    /// The negotiated version of its protocol, major in the upper byte; 0 for none.
    pub version: u32,
    /// Number of times that the guest opened a channel of it.
    pub opened: u32,
    /// Packets taken.
    pub packets_in: u64,
    /// Bytes of payload taken.
    pub bytes_in: u64,
    /// Packets sent.
    pub packets_out: u64,
    /// Bytes of payload sent.
    pub bytes_out: u64,
    /// Requests completed by its back end.
    pub requests: u64,
    /// Commands that were refused or failed, packets without meaning, and channels that were left because of what the
    /// guest put into their rings.
    pub errors: u64,
    /// Most packets that one call took.
    pub most_packets: u64,
    /// Requests by service time.
    pub service: [u64; SERVICE_BUCKETS],
}

impl Report {
    /// "hv-rept\0", read as a little-endian number.
    pub const MAGIC: u64 = u64::from_le_bytes(*b"hv-rept\0");
}

/// Increments a counter, saturating: a guest cannot make it wrap around.
#[inline(always)]
pub const fn one_more(count: &mut u32) {
    *count = count.saturating_add(1);
}

/// A slot of a small table of counters, found by its key.
pub trait Counted: Copy {
    /// Returns the key's number with bit 32 set, or 0 if the slot is free.
    fn key(&self) -> u64;
    /// Creates a slot for `key`, the `order`-th of its table, counted from 1.
    fn fresh(key: u32, order: u32) -> Self;

    /// Returns the slot for `key`, taking a free one if necessary; `None` if the table is full. `N` is a power of two.
    #[inline(always)]
    fn slot<const N: usize>(table: &mut [Self; N], key: u32) -> Option<&mut Self> {
        const { assert!(N.is_power_of_two()) };
        let start = (key ^ (key >> 14)) as usize % N;
        if table[start].key() == TAKEN | u64::from(key) {
            return Some(&mut table[start]);
        }
        Self::search(table, key, start)
    }

    /// Searches the slot for `key` in a table whose slot `start` has another key.
    #[cold]
    #[inline(never)]
    fn search(table: &mut [Self], key: u32, start: usize) -> Option<&mut Self> {
        let wanted = TAKEN | u64::from(key);
        let place = |i: &usize| table[*i].key() == 0 || table[*i].key() == wanted;
        let index = (start..table.len()).chain(0..start).find(place)?;
        if table[index].key() == 0 {
            let order = table.iter().filter(|slot| slot.key() != 0).count() as u32 + 1;
            table[index] = Self::fresh(key, order);
        }
        Some(&mut table[index])
    }
}

/// Set in the key of a used slot.
const TAKEN: u64 = 1 << 32;

macro_rules! counted {
    ($name:ident, $($other:ident),*) => {
        impl $name {
            /// Returns the number that is counted; `None` if the slot is free.
            #[must_use]
            pub const fn number(&self) -> Option<u32> {
                if self.key == 0 { None } else { Some(self.key as u32) }
            }
        }

        impl Counted for $name {
            #[inline(always)]
            fn key(&self) -> u64 {
                self.key
            }
            fn fresh(key: u32, order: u32) -> Self {
                Self { key: TAKEN | u64::from(key), order, $($other: 0),* }
            }
        }
    };
}

/// Number of calls of a hypercall.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CallCount {
    /// 0 if the slot is free, else bit 32 and the hypercall code.
    pub key: u64,
    /// Calls. 64 bits wide, so the hot path need not check for overflow.
    pub count: u64,
    /// Calls with a status other than success.
    pub failed: u32,
    /// The last status other than success.
    pub last_failure: u32,
    /// Position of the first call among the different ones of this VP, from 1.
    pub order: u32,
    /// Zero.
    pub reserved: u32,
}
counted!(CallCount, count, failed, last_failure, reserved);

/// Number of reads and writes of a VP register by hypercall.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct RegisterCount {
    /// 0 if the slot is free, else bit 32 and the register's name.
    pub key: u64,
    /// Reads. 64 bits wide, so the hot path need not check for overflow.
    pub gets: u64,
    /// Writes.
    pub sets: u64,
    /// Accesses that failed.
    pub failed: u32,
    /// Position of the first access among the different registers of this VP, from 1.
    pub order: u32,
}
counted!(RegisterCount, gets, sets, failed);

/// Number of calls of an SMCCC function, PSCI included.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SmcccCount {
    /// 0 if the slot is free, else bit 32 and the function id.
    pub key: u64,
    /// Calls.
    pub count: u32,
    /// Calls answered with NOT_SUPPORTED.
    pub unknown: u32,
    /// Position of the first call among the different ones of this VP, from 1.
    pub order: u32,
    /// Zero.
    pub reserved: u32,
}
counted!(SmcccCount, count, unknown, reserved);

/// Number of callers in a [`Place`].
pub const CALLERS: usize = 8;

/// Place of the guest, according to its registers and its stack. A guest's stack may be wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Place {
    /// Guest PC.
    pub pc: u64,
    /// VBAR_EL1, from which the tool derives the address of a kernel.
    pub vbar: u64,
    /// Return addresses, the innermost first: X30, then those in the chain of frame records at X29 (Procedure Call
    /// Standard for the Arm 64-bit Architecture, "The Frame Pointer"); 0 after the last.
    pub callers: [u64; CALLERS],
}

impl Place {
    /// Creates a place of which only the PC is known.
    #[must_use]
    pub const fn at(pc: u64) -> Self {
        Self { pc, vbar: 0, callers: [0; CALLERS] }
    }
}

/// A fault, and how often it occurred.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct FaultCount {
    /// A [`Fault`]; 0 if the slot is free.
    pub kind: u32,
    /// Number of occurrences.
    pub count: u32,
    /// Value, as defined by `kind`.
    pub value: u64,
    /// Where the guest was at the first occurrence.
    pub place: Place,
}

/// A rule of the strict mode that the guest broke, with a count and the first value.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct FindingCount {
    /// Index of the rule in `hv_tlfs::rules::RULES`, from 1; 0 if the slot is free.
    pub rule: u32,
    /// Number of occurrences.
    pub count: u32,
    /// The rule's value at the first occurrence.
    pub value: u64,
    /// Where the guest was at the first occurrence.
    pub place: Place,
}

/// Final values of a VP's SynIC registers.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SynicState {
    /// SCONTROL.
    pub control: u64,
    /// SIMP.
    pub message_page: u64,
    /// SIEFP.
    pub event_flags_page: u64,
    /// SINT0 to SINT15.
    pub sints: [u64; 16],
}

/// The activity of one VP. Written only by its own CPU.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct VpReport {
    /// 1 once the VP has run.
    pub started: u32,
    /// 1 while the VP is online.
    pub online: u32,
    /// Exits by [`Trap`].
    pub traps: [u64; Trap::COUNT],
    /// SynIC registers.
    pub synic: SynicState,
    /// Guest PC of the last counted exit.
    pub last_pc: u64,
    /// Faults for which there was no slot.
    pub faults_lost: u32,
    /// Counts for which there was no slot.
    pub counts_lost: u32,
    /// Hypercalls.
    pub calls: [CallCount; CALL_SLOTS],
    /// VP registers.
    pub registers: [RegisterCount; REGISTER_SLOTS],
    /// SMCCC functions.
    pub smccc: [SmcccCount; SMCCC_SLOTS],
    /// Faults.
    pub faults: [FaultCount; FAULT_SLOTS],
    /// Broken rules, each once.
    pub findings: [FindingCount; FINDING_SLOTS],
}

const _: () = {
    use crate::platform::{HYPERVISOR_BASE, REPORT, VP_REPORT_STRIDE};
    assert!(size_of::<VpReport>() as u64 <= VP_REPORT_STRIDE);
    assert!(REPORT + size_of::<Report>() as u64 <= HYPERVISOR_BASE);
};

impl VpReport {
    /// Counts a fault. `place` is called for the first one with this kind and value.
    pub fn fault(&mut self, kind: Fault, value: u64, place: impl FnOnce() -> Place) {
        let kind = kind as u32;
        match self.faults.iter_mut().find(|f| f.kind == 0 || (f.kind == kind && f.value == value)) {
            Some(slot) if slot.kind == 0 => *slot = FaultCount { kind, count: 1, value, place: place() },
            Some(slot) => one_more(&mut slot.count),
            None => one_more(&mut self.faults_lost),
        }
    }
}

impl VpReport {
    /// Counts the VP's start.
    pub fn start(&mut self) {
        self.started = 1;
        self.online = 1;
        // SINTs are masked at reset.
        self.synic = SynicState { sints: [1 << 16; 16], ..SynicState::default() };
    }

    /// Counts a hypercall with this status.
    #[inline(always)]
    pub fn hypercall(&mut self, code: u16, status: u16) {
        match CallCount::slot(&mut self.calls, u32::from(code)) {
            Some(slot) => {
                slot.count += 1;
                if status != 0 {
                    one_more(&mut slot.failed);
                    slot.last_failure = u32::from(status);
                }
            }
            None => one_more(&mut self.counts_lost),
        }
    }

    /// Counts a read of a VP register.
    #[inline(always)]
    pub fn register_get(&mut self, name: u32, failed: bool) {
        self.register(name, failed, |slot| slot.gets += 1);
    }

    /// Counts a write of a VP register.
    #[inline(always)]
    pub fn register_set(&mut self, name: u32, failed: bool) {
        self.register(name, failed, |slot| slot.sets += 1);
    }

    /// Counts an access to a VP register; `access` is given only the slot.
    #[inline(always)]
    fn register(&mut self, name: u32, failed: bool, access: impl FnOnce(&mut RegisterCount)) {
        match RegisterCount::slot(&mut self.registers, name) {
            Some(slot) => {
                access(slot);
                if failed {
                    one_more(&mut slot.failed);
                }
            }
            None => one_more(&mut self.counts_lost),
        }
    }

    /// Counts a call of the firmware's.
    pub fn firmware(&mut self, function: u32, result: u64) {
        match SmcccCount::slot(&mut self.smccc, function) {
            Some(slot) => {
                one_more(&mut slot.count);
                // To a caller that asks for features, -1 is an answer.
                let asks = matches!(function, ARCH_FEATURES | psci::FEATURES);
                if result == u64::MAX && !asks {
                    one_more(&mut slot.unknown);
                }
            }
            None => one_more(&mut self.counts_lost),
        }
    }
}

impl SynicState {
    /// Returns true if the report shows a register: one of the SynIC's, or the guest OS id. The numbers of timers,
    /// which are written most, are above all of them.
    #[inline(always)]
    #[must_use]
    pub fn shows(name: RegisterName) -> bool {
        name.0 < RegisterName::STIMER0_CONFIG.0
            && ((name.0 >> 5 == RegisterName::SINT0.0 >> 5 && name != RegisterName::EOM)
                || name == RegisterName::GUEST_OS_ID)
    }

    /// Keeps a value that was written to a register of the SynIC.
    pub fn remember(&mut self, name: RegisterName, value: u64) {
        let sint = name.0.wrapping_sub(RegisterName::SINT0.0) as usize;
        match name {
            RegisterName::SCONTROL => self.control = value,
            RegisterName::SIMP => self.message_page = value,
            RegisterName::SIEFP => self.event_flags_page = value,
            _ if sint < self.sints.len() => self.sints[sint] = value,
            _ => {}
        }
    }
}

impl CrashReport {
    /// Keeps a crash that the guest reported.
    pub fn report(&mut self, vp: usize, control: u64, parameters: [u64; 5], text: &[u8]) {
        self.vp = vp as u32;
        self.control = control;
        self.parameters = parameters;
        let length = text.len().min(self.text.len());
        self.text[..length].copy_from_slice(&text[..length]);
        self.text_len = length as u64;
        // Last, and after the rest: who reads while the guest runs finds the whole of the first crash.
        core::sync::atomic::fence(core::sync::atomic::Ordering::Release);
        one_more(&mut self.count);
    }
}

impl VpReport {
    /// Counts a broken rule; `number` is its index among the rules. `place` is called for the first occurrence.
    pub fn finding(&mut self, number: usize, value: u64, place: impl FnOnce() -> Place) {
        let Some(slot) = self.findings.get_mut(number) else {
            one_more(&mut self.faults_lost);
            return;
        };
        if slot.count == 0 {
            *slot = FindingCount { rule: number as u32 + 1, count: 0, value, place: place() };
        }
        one_more(&mut slot.count);
    }
}

#[cfg(test)]
mod tests;
