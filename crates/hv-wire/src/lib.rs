//! The bytes that the `hv` tool and its EL2 program exchange.
//!
//! The tool backs the machine's RAM with a file that it can read and write while QEMU runs. Before the start it
//! writes a [`BootInfo`] and the guest's payload there; while the guest runs, the hypervisor keeps a [`Report`] and
//! one [`VpReport`] per VP up to date, and the tool reads them at any time: at a power-off, a crash, a time-out, or
//! after a panic of the hypervisor. No device is involved, so nothing here costs an exit, and no guest can reach it:
//! the region is absent from stage 2.
//!
//! Everything is `#[repr(C)]`, little-endian, free of padding, and read without `unsafe` through `zerocopy`.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(target_endian = "big")]
compile_error!("the wire structures are little-endian");

mod boot;
pub mod platform;
mod report;
mod trace;

pub use boot::{
    BootDisk, BootFlags, BootInfo, DiskFlags, MAX_CONTROLLERS, MAX_DISKS, MAX_LUNS, PLAN_BYTES, PLAN_RULES,
};
pub use hv_trace::{Fault, Trap};
pub use report::{
    CALL_SLOTS, CALLERS, CRASH_TEXT_BYTES, CallCount, Counted, CrashReport, ExitKind, FAULT_SLOTS,
    FINDING_SLOTS, FaultCount, FindingCount, LOG_BYTES, Place, REGISTER_SLOTS, RegisterCount, Report,
    SMCCC_SLOTS, SmcccCount, SynicState, VpReport, one_more,
};
pub use trace::TraceRing;

/// Version of every structure of this crate; the hypervisor refuses a [`BootInfo`] with another one.
pub const VERSION: u32 = 7;
