//! The crash report: one, by whichever function is called first.
#![expect(unsafe_code, reason = "symbols and pointers of C")]

use hv_guest::crash::CrashError;
use hv_guest::registers::{self, Register};
use hv_tlfs::status::HvStatus;

use crate::os::{CRASH, conduit};
use crate::pt_regs;

/// Converts the result: 0, or a status: `HV_STATUS_OBJECT_IN_USE` after an earlier report,
/// `HV_STATUS_FEATURE_UNAVAILABLE` if the hypervisor does not support reports.
fn outcome<T>(result: Result<T, CrashError>) -> u64 {
    u64::from(match result {
        Ok(_) => 0,
        Err(CrashError::Already) => HvStatus::OBJECT_IN_USE.0,
        Err(CrashError::Unsupported) => HvStatus::FEATURE_UNAVAILABLE.0,
        Err(CrashError::Hypervisor(error)) => error.status().0,
        Err(_) => HvStatus::OPERATION_FAILED.0,
    })
}

/// Reports a crash with the error, the guest OS id, program counter and stack pointer. Returns 0 or a status.
///
/// # Safety
///
/// `regs` is null or valid for reads.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hyperv_report_panic(regs: *const pt_regs, err: i64) -> u64 {
    // SAFETY: `regs` is null or valid for reads, by this function's contract.
    let (pc, sp) = unsafe { regs.as_ref() }.map_or((0, 0), |regs| (regs.pc, regs.sp));
    let id = registers::get(&conduit(), Register::GUEST_OS_ID).map_or(0, |id| id.bits());
    outcome(CRASH.report(&conduit(), [err as u64, id, pc, sp, 0]))
}

/// Reports a crash with a text of `size` bytes, at most 4096, at guest physical address `pa`, in one page. If the text
/// is empty, the crash is reported without it. Returns 0 or a status.
///
/// # Safety
///
/// The host may read the text and show it to anyone with access to its log.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hyperv_report_panic_msg(pa: u64, size: usize) -> u64 {
    // SAFETY: the caller agrees that the host reads and shows this memory, by this function's contract.
    outcome(unsafe { CRASH.report_text_at(&conduit(), [0; 3], pa, size) })
}
