//! The calls that wait for a request.
#![expect(unsafe_code, reason = "symbols and pointers of C")]

use core::ffi::{c_int, c_void};

use super::*;

/// Reads blocks of a disk: `bytes` bytes, which may be of any memory. They are copied. Waits. Returns 0 or an error:
/// HV_E_RANGE, HV_E_IO, HV_E_TIMED_OUT, HV_E_GONE, HV_E_AGAIN if HV_STORAGE_DEPTH requests are in flight.
///
/// # Safety
///
/// `storage` is null or points to a `struct hv_storage` that was zeros before its first use; `disk` is null or points
/// to a disk. `into` is null or valid for writes of `bytes` bytes, which nothing else accesses during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_storage_read(
    storage: *mut hv_storage,
    disk: *const hv_disk,
    block: u64,
    into: *mut c_void,
    bytes: usize,
) -> c_int {
    if into.is_null() || isize::try_from(bytes).is_err() {
        return HV_E_ARGUMENT;
    }
    // SAFETY: the pointer is not null, and valid for writes of `bytes` bytes, no more than objects have, which nothing
    // else accesses during the call, by this function's contract; what they hold is bytes, whatever they are.
    let into = unsafe { core::slice::from_raw_parts_mut(into.cast::<u8>(), bytes) };
    // SAFETY: `disk` is null or points to a disk, by this function's contract.
    let disk = unsafe { read_disk(disk) };
    let read = |scsi: &mut Scsi, user: &User| {
        let mut pause = Pause::new(user.shared());
        let outcome = scsi.read(&disk?, block, into, &mut || pause.device(user.bus()));
        outcome.map(|()| 0).map_err(|error| pause.code(error))
    };
    // SAFETY: `storage` is null or points to a controller, by this function's contract.
    number(unsafe { enter(storage, read) })
}

/// Writes blocks of a disk: `bytes` bytes, which may be of any memory. They are copied. Waits. Returns as
/// `hv_storage_read`.
///
/// # Safety
///
/// `storage` is null or points to a `struct hv_storage` that was zeros before its first use; `disk` is null or points
/// to a disk. `from` is null or valid for reads of `bytes` bytes, which nothing else writes during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_storage_write(
    storage: *mut hv_storage,
    disk: *const hv_disk,
    block: u64,
    from: *const c_void,
    bytes: usize,
) -> c_int {
    if from.is_null() || isize::try_from(bytes).is_err() {
        return HV_E_ARGUMENT;
    }
    // SAFETY: the pointer is not null, and valid for reads of `bytes` bytes, no more than objects have, which nothing
    // else writes during the call, by this function's contract.
    let from = unsafe { core::slice::from_raw_parts(from.cast::<u8>(), bytes) };
    // SAFETY: `disk` is null or points to a disk, by this function's contract.
    let disk = unsafe { read_disk(disk) };
    let write = |scsi: &mut Scsi, user: &User| {
        let mut pause = Pause::new(user.shared());
        let outcome = scsi.write(&disk?, block, from, &mut || pause.device(user.bus()));
        outcome.map(|()| 0).map_err(|error| pause.code(error))
    };
    // SAFETY: `storage` is null or points to a controller, by this function's contract.
    number(unsafe { enter(storage, write) })
}

/// Brings all that was written to stable storage. Waits. Returns as `hv_storage_read`.
///
/// # Safety
///
/// `storage` is null or points to a `struct hv_storage` that was zeros before its first use; `disk` is null or points
/// to a disk.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_storage_flush(storage: *mut hv_storage, disk: *const hv_disk) -> c_int {
    // SAFETY: `disk` is null or points to a disk, by this function's contract.
    let disk = unsafe { read_disk(disk) };
    let flush = |scsi: &mut Scsi, user: &User| {
        let mut pause = Pause::new(user.shared());
        let outcome = scsi.flush(&disk?, &mut || pause.device(user.bus()));
        outcome.map(|()| 0).map_err(|error| pause.code(error))
    };
    // SAFETY: `storage` is null or points to a controller, by this function's contract.
    number(unsafe { enter(storage, flush) })
}
