//! The bytes that the `hv` tool and its EL2 program exchange.
//!
//! The machine's RAM is a file that the tool can read and write while QEMU runs. Before the start it writes a
//! [`BootInfo`] and the guest's payload there; while the guest runs, the hypervisor keeps a [`Report`] and one
//! [`VpReport`] per VP up to date, and the tool can read them at any time: at a power-off, a crash or a timeout, or
//! after a panic of the hypervisor. No device is involved, so this costs no exits, and the guest has no access: the
//! region is absent from stage 2.
//!
//! Everything is `#[repr(C)]`, little-endian, without padding, and accessed without `unsafe` through `zerocopy`.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(target_endian = "big")]
compile_error!("the wire structures are little-endian");

mod boot;
pub mod control;
pub mod platform;
mod report;
mod trace;

pub use boot::{
    BootDisk, BootFlags, BootInfo, DiskFlags, MAX_CONTROLLERS, MAX_DISKS, MAX_LUNS, PLAN_RULES, PLAN_WORDS,
};
pub use hv_trace::{Fault, Trap};
pub use report::{
    CALL_SLOTS, CALLERS, CRASH_TEXT_BYTES, CallCount, Counted, CrashReport, DEVICE_SLOTS, DeviceReport,
    ExitKind, FAULT_SLOTS, FINDING_SLOTS, FaultCount, FindingCount, LOG_BYTES, Place, REGISTER_SLOTS,
    RegisterCount, Report, SERVICE_BUCKETS, SMCCC_SLOTS, SmcccCount, SynicState, VpReport, one_more,
};
pub use trace::TraceRing;

/// Version of all structures of this crate; the hypervisor rejects a [`BootInfo`] with another one.
pub const VERSION: u32 = 15;
