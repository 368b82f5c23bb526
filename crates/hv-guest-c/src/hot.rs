//! The hot routines, each as a separate function, for `examples/cost` to count instructions and look for panics.
#![expect(unsafe_code, reason = "symbols to be found in the object")]

use hv_guest::arch::{Cntvct, Hvc1, Smccc};
use hv_guest::conduit::Conduit;
use hv_guest::page::{CallPage, Page};
use hv_guest::registers::{get_raw, set_raw};
use hv_guest::synic::{SintIndex, SynicPages};
use hv_guest::{clock, connection, hypercall};
use hv_tlfs::hypercall::HypercallInput;
use hv_tlfs::register::{RegisterName, RegisterValue};
use hv_tlfs::status::HvError;
use hv_tlfs::synic::{ConnectionId, MessageType};
use hv_tlfs::vp::VpIndex;

fn status(result: Result<(), HvError>) -> u64 {
    result.map_or_else(|error| u64::from(error.status().0), |()| 0)
}

#[unsafe(no_mangle)]
extern "C" fn hot_clock_read(page: &Page) -> u64 {
    clock::read_page(page, &Cntvct).map_or(u64::MAX, |(_, time)| time.ticks())
}

#[unsafe(no_mangle)]
extern "C" fn hot_end_of_message(messages: &Page, seen: u32) {
    // The status of the EOM is irrelevant here.
    let _ = SynicPages::end_seen(messages, &Smccc, SintIndex::VMBUS, MessageType(seen));
}

#[unsafe(no_mangle)]
extern "C" fn hot_get(name: u32) -> u64 {
    get_raw(&Smccc, VpIndex::SELF, RegisterName(name)).map_or(0, |value| value.low)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn hot_set(name: u32, value: u64) -> u64 {
    let (name, value) = (RegisterName(name), RegisterValue::from_u64(value));
    // SAFETY: the caller vouches for the effects of writing this register.
    status(unsafe { set_raw(&Smccc, VpIndex::SELF, name, value) })
}

#[unsafe(no_mangle)]
extern "C" fn hot_get_hvc1(name: u32) -> u64 {
    get_raw(&Hvc1, VpIndex::SELF, RegisterName(name)).map_or(0, |value| value.low)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn hot_set_hvc1(name: u32, value: u64) -> u64 {
    let (name, value) = (RegisterName(name), RegisterValue::from_u64(value));
    // SAFETY: the caller vouches for the effects of writing this register.
    status(unsafe { set_raw(&Hvc1, VpIndex::SELF, name, value) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn hot_hypercall(control: u64, input: u64, output: u64) -> u64 {
    // SAFETY: the caller vouches for the effects of the hypercall.
    unsafe { Smccc.call_2(HypercallInput(control), [input, output]) }.bits()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn hot_fast_hypercall8(code: u16, input: u64) -> u64 {
    let control = HypercallInput(u64::from(code)).with_fast(true);
    // SAFETY: the caller vouches for the effects of the hypercall; its input is in registers.
    unsafe { Smccc.call_2(control, [input, 0]) }.bits()
}

#[unsafe(no_mangle)]
extern "C" fn hot_signal_event(connection: u32) -> u64 {
    status(connection::signal_event(&Smccc, ConnectionId(connection), 0))
}

#[unsafe(no_mangle)]
extern "C" fn hot_read_message(messages: &'static Page, events: &'static Page) -> u64 {
    let pages = SynicPages::adopt(messages, events);
    let message = pages.take_over(SintIndex::VMBUS).and_then(|pending| pending.read().ok());
    message.map_or(0, |message| message.payload().iter().map(|byte| u64::from(*byte)).sum())
}

#[unsafe(no_mangle)]
unsafe extern "C" fn hot_rep_hypercall(control: u64, input: u64, output: u64) -> bool {
    // SAFETY: the caller vouches for the effects of the hypercall, in each of its parts.
    unsafe { hypercall::repeat(&Smccc, HypercallInput(control), [input, output]) }.is_ok()
}

#[unsafe(no_mangle)]
extern "C" fn hot_post_message(page: &mut CallPage<'_>, payload: &[u8; 16]) -> bool {
    connection::post_message(&Smccc, page, ConnectionId(4), MessageType(1), payload).is_ok()
}

/// Panics, to show that the search finds panics.
#[unsafe(no_mangle)]
extern "C" fn hot_that_panics(words: &[u64; 4], index: usize) -> u64 {
    words[index]
}
