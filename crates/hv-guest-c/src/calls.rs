//! Hypercalls.
#![expect(unsafe_code, reason = "symbols and pointers of C")]

use core::ffi::c_void;

use hv_guest::conduit::{Conduit, FAST_WORDS};
use hv_guest::hypercall::{RepError, repeat};
use hv_tlfs::hypercall::{HypercallCode, HypercallInput, HypercallOutput};

use crate::hv_get_vp_register_output;
use crate::os::{conduit, physical};

/// Issues a hypercall with up to seven words of input, passed unchanged: two addresses, or fast input. Returns the
/// result value.
///
/// C declares it `u64 hv_do_hvc(u64 control, ...)`: on AArch64, except on Apple's systems, the words of a variadic call
/// are in the same registers. Words that were not passed are undefined, and the hypervisor ignores them.
///
/// # Safety
///
/// The caller vouches for the effects of the hypercall: memory that the hypervisor writes, code that a VP runs.
/// cbindgen:ignore
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_do_hvc(
    control: u64,
    a: u64,
    b: u64,
    c: u64,
    d: u64,
    e: u64,
    f: u64,
    g: u64,
) -> u64 {
    let mut block = [0; FAST_WORDS];
    block[..7].copy_from_slice(&[a, b, c, d, e, f, g]);
    // SAFETY: the caller vouches for the effects of the hypercall, by this function's contract.
    unsafe { conduit().call(HypercallInput(control), &mut block) }.bits()
}

/// Issues a fast hypercall with three words of input and 16 bytes of output. Returns the result value.
///
/// # Safety
///
/// The same as for `hv_do_hvc`; `output` is valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_do_hvc_fast_get(
    control: u64,
    input1: u64,
    input2: u64,
    input3: u64,
    output: *mut hv_get_vp_register_output,
) -> u64 {
    // SAFETY: the caller vouches for the effects of the hypercall; input and output are in registers.
    let (result, [low, high]) =
        unsafe { conduit().call_3_2(HypercallInput(control), [input1, input2, input3]) };
    // SAFETY: `output` is valid for writes, by this function's contract.
    unsafe { output.write(hv_get_vp_register_output { registervaluelow: low, registervaluehigh: high }) };
    result.bits()
}

/// Issues a memory-based hypercall. Either address may be null. Returns the result value.
///
/// # Safety
///
/// The same as for `hv_do_hvc`; `outputaddr` is valid for the writes of the hypercall.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_do_hypercall(
    control: u64,
    inputaddr: *const c_void,
    outputaddr: *mut c_void,
) -> u64 {
    let addresses = [physical(inputaddr), physical(outputaddr)];
    // SAFETY: the caller vouches for the effects of the hypercall and for what it writes to the output address.
    unsafe { conduit().call_2(HypercallInput(control), addresses) }.bits()
}

/// Issues a rep hypercall and continues it until all elements are completed. Returns the result value: status, and
/// elements completed.
///
/// # Safety
///
/// The same as for `hv_do_hypercall`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_do_rep_hypercall(
    code: u16,
    rep_count: u16,
    varhead_size: u16,
    inputaddr: *const c_void,
    outputaddr: *mut c_void,
) -> u64 {
    let control = HypercallInput::from_code(HypercallCode(code))
        .with_rep_count(rep_count)
        .with_variable_header_size(varhead_size);
    // SAFETY: the caller vouches for the effects of the hypercall and for what it writes to the output address.
    let result = unsafe { repeat(&conduit(), control, [physical(inputaddr), physical(outputaddr)]) };
    let (status, done) = match result {
        Ok(()) => (hv_tlfs::status::HvStatus::SUCCESS, usize::from(rep_count)),
        Err(RepError::Status { error, completed }) => (error.status(), completed),
        Err(RepError::Stuck { completed }) => (hv_tlfs::status::HvStatus::TIME_OUT, completed),
        Err(RepError::Shape) => (hv_tlfs::status::HvStatus::INVALID_HYPERCALL_INPUT, 0),
        Err(_) => (hv_tlfs::status::HvStatus::OPERATION_FAILED, 0),
    };
    HypercallOutput::from_status(status).with_reps_completed(done as u16).bits()
}

/// Issues a fast hypercall with one word of input. Returns the result value.
///
/// # Safety
///
/// The same as for `hv_do_hvc`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_do_fast_hypercall8(control: u16, input8: u64) -> u64 {
    // SAFETY: the caller vouches for the effects of the hypercall; its input is in registers.
    unsafe { hv_do_fast_hypercall16(control, input8, 0) }
}

/// Issues a fast hypercall with two words of input. Returns the result value.
///
/// # Safety
///
/// The same as for `hv_do_hvc`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_do_fast_hypercall16(control: u16, input1: u64, input2: u64) -> u64 {
    let control = HypercallInput::from_code(HypercallCode(control)).with_fast(true);
    // SAFETY: the caller vouches for the effects of the hypercall; its input is in registers.
    unsafe { conduit().call_2(control, [input1, input2]) }.bits()
}
