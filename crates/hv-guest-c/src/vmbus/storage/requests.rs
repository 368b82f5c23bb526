//! Requests in flight.
#![expect(unsafe_code, reason = "symbols and pointers of C")]

use core::ffi::{c_int, c_void};
use core::ptr::null_mut;

use hv_drivers::storage::{Completion, Extent, Refused};
use hv_vmbus_client::Buffer;

use super::*;

/// Converts the outcome of a submission to the C interface's terms.
fn submitted(outcome: Result<(), Refused<Tag, KernelDma>>) -> Result<c_int, Code> {
    // Dropping what comes back with the error gives lent memory back: there is nothing to free.
    outcome.map(|()| 0).map_err(|refused| refused.error.into())
}

/// Has `call` submit a request with the kernel's memory, which is lent to it.
///
/// # Safety
///
/// `storage` is null or points to a `struct hv_storage` that was zeros before its first use; `disk` is null or points
/// to a disk. If `memory` begins at a multiple of 4096, the pages of 4096 bytes that its `bytes` bytes lie in are valid
/// for reads and writes, and the kernel does not access them from this call on, if it returns 0, until the request is
/// polled, or the controller is closed.
unsafe fn submit(
    storage: *mut hv_storage,
    disk: *const hv_disk,
    memory: *mut c_void,
    bytes: u32,
    call: impl FnOnce(&mut Scsi, &Disk, Buffer<KernelDma>) -> Result<(), Refused<Tag, KernelDma>>,
) -> c_int {
    // SAFETY: `disk` is null or points to a disk, by this function's contract.
    let disk = unsafe { read_disk(disk) };
    let lend = |scsi: &mut Scsi, user: &User| {
        let disk = disk?;
        // SAFETY: the pages are valid, and the kernel does not access them until the request has ended, by this
        // function's contract; the buffer is dropped before that is told.
        let data = unsafe { KernelDma::lend(user.shared(), memory, bytes) }?;
        submitted(call(scsi, &disk, data))
    };
    // SAFETY: `storage` is null or points to a controller, by this function's contract.
    number(unsafe { enter(storage, lend) })
}

/// Submits a read of blocks into `memory`, without a copy. Does not wait. Returns 0, and `hv_storage_poll` reports the
/// end; or an error, and `memory` is still the kernel's: HV_E_AGAIN, HV_E_RANGE, HV_E_TOO_LONG, HV_E_GONE.
///
/// # Safety
///
/// `storage` is null or points to a `struct hv_storage` that was zeros before its first use; `disk` is null or points
/// to a disk. `memory` begins at a multiple of 4096, or an error is returned. The pages of 4096 bytes that its `bytes`
/// bytes lie in are valid for reads and writes, and the kernel does not access them from this call on, if it returns 0,
/// until `hv_storage_poll` returns the request, or `hv_storage_close` returns 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_storage_submit_read(
    storage: *mut hv_storage,
    disk: *const hv_disk,
    block: u64,
    memory: *mut c_void,
    bytes: u32,
    tag: *mut c_void,
) -> c_int {
    let read = |scsi: &mut Scsi, disk: &Disk, data| scsi.submit_read(Tag { tag, memory }, disk, block, data);
    // SAFETY: `storage` is null or points to a controller and `disk` to a disk, and the kernel leaves valid pages alone
    // until the request has ended, by this function's contract.
    unsafe { submit(storage, disk, memory, bytes, read) }
}

/// Submits a write of blocks from `memory`, without a copy. `durable` not 0: it ends when they are on stable storage.
/// Does not wait. Returns as `hv_storage_submit_read`.
///
/// # Safety
///
/// As for `hv_storage_submit_read`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_storage_submit_write(
    storage: *mut hv_storage,
    disk: *const hv_disk,
    block: u64,
    durable: c_int,
    memory: *mut c_void,
    bytes: u32,
    tag: *mut c_void,
) -> c_int {
    let write = |scsi: &mut Scsi, disk: &Disk, data| {
        scsi.submit_write(Tag { tag, memory }, disk, block, durable != 0, data)
    };
    // SAFETY: `storage` is null or points to a controller and `disk` to a disk, and the kernel leaves valid pages alone
    // until the request has ended, by this function's contract.
    unsafe { submit(storage, disk, memory, bytes, write) }
}

/// Submits a flush: it ends when all that was written before is on stable storage. Does not wait. Returns as
/// `hv_storage_submit_read`.
///
/// # Safety
///
/// `storage` is null or points to a `struct hv_storage` that was zeros before its first use; `disk` is null or points
/// to a disk.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_storage_submit_flush(
    storage: *mut hv_storage,
    disk: *const hv_disk,
    tag: *mut c_void,
) -> c_int {
    // SAFETY: `disk` is null or points to a disk, by this function's contract.
    let disk = unsafe { read_disk(disk) };
    let submit =
        |scsi: &mut Scsi, _: &User| submitted(scsi.submit_flush(Tag { tag, memory: null_mut() }, &disk?));
    // SAFETY: `storage` is null or points to a controller, by this function's contract.
    number(unsafe { enter(storage, submit) })
}

/// Submits a discard of up to `max_discard` blocks: they need not be kept. Its list takes a page of the kernel's
/// allocator. Does not wait. Returns as `hv_storage_submit_read`, or HV_E_UNSUPPORTED.
///
/// # Safety
///
/// `storage` is null or points to a `struct hv_storage` that was zeros before its first use; `disk` is null or points
/// to a disk.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_storage_submit_discard(
    storage: *mut hv_storage,
    disk: *const hv_disk,
    block: u64,
    count: u32,
    tag: *mut c_void,
) -> c_int {
    // SAFETY: `disk` is null or points to a disk, by this function's contract.
    let disk = unsafe { read_disk(disk) };
    let submit = |scsi: &mut Scsi, _: &User| {
        submitted(scsi.submit_discard(Tag { tag, memory: null_mut() }, &disk?, Extent { block, count }))
    };
    // SAFETY: `storage` is null or points to a controller, by this function's contract.
    number(unsafe { enter(storage, submit) })
}

/// Stores the next request that has ended, in the order in which the host ends them. Does not wait. Returns 1; 0 if
/// there is none now: call it until then; or an error, such as HV_E_DEAD or HV_E_GONE, after which the requests in
/// flight come back with `hv_storage_close` alone.
///
/// # Safety
///
/// `storage` is null or points to a `struct hv_storage` that was zeros before its first use. `completion` is null or
/// valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_storage_poll(
    storage: *mut hv_storage,
    completion: *mut hv_storage_completion,
) -> c_int {
    if completion.is_null() || !completion.is_aligned() {
        return HV_E_ARGUMENT;
    }
    let poll = |scsi: &mut Scsi, _: &User| match scsi.poll()? {
        // The host reports a removal by a message, which the ring says nothing of.
        None if scsi.is_over() => Err(HV_E_GONE.into()),
        None => Ok(0),
        Some(done) => {
            // SAFETY: `completion` is not null and aligned, as was just seen, and valid for writes, by this function's
            // contract.
            unsafe { completion.write(ended(done)) };
            Ok(1)
        }
    };
    // SAFETY: `storage` is null or points to a controller, by this function's contract.
    number(unsafe { enter(storage, poll) })
}

/// Describes a request that has ended for C, and gives its memory back.
fn ended(done: Completion<Tag, KernelDma>) -> hv_storage_completion {
    let Tag { tag, memory } = done.tag;
    let (code, bytes) = match done.outcome {
        Ok(bytes) => (Code { error: 0, status: 0 }, bytes),
        Err(failure) => (failure.into(), 0),
    };
    hv_storage_completion { tag, memory, error: code.error, status: code.status, bytes }
}
