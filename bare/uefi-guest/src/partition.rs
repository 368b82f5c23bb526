//! The state of the partition that the suite writes: saved before it runs, and restored afterwards.
//!
//! Hyper-V's own firmware has a guest OS id, uses the SynIC for VMBus, and a synthetic timer for its clock.
#![expect(unsafe_code, reason = "pages of the firmware are lent again")]

use hv_guest::arch::Either;
use hv_guest::conduit::Conduit as _;
use hv_tlfs::hypercall::{HypercallCode, HypercallInput};
use hv_tlfs::register::RegisterName;
use hv_tlfs::smccc::HYPERCALL;
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::SINT_COUNT;
use hv_tlfs::timer::STIMER_COUNT;
use hv_tlfs::vp::{PARTITION_ID_SELF, VP_INDEX_SELF};
use spin::Mutex;

use crate::env::convention;
use crate::machine;
use crate::report::note;

/// Header of a call about the caller's own registers.
const OWN: [u64; 2] = [PARTITION_ID_SELF, VP_INDEX_SELF as u64];
/// A guest OS id to use while the firmware's own is 0, with which most registers cannot be read: open source, no known
/// system.
const SOME_ID: u64 = 1 << 63 | 0x7f << 56;

/// A register's saved value, if it could be read.
type Was = Option<u64>;

/// The saved registers.
struct Saved {
    conduit: Either,
    id: u64,
    reference_tsc: Was,
    message_page: Was,
    event_page: Was,
    control: Was,
    sints: [Was; SINT_COUNT],
    timers: [[Was; 2]; STIMER_COUNT],
}

static SAVED: Mutex<Option<Saved>> = Mutex::new(None);

/// A Get of one register.
const GET: HypercallInput =
    HypercallInput::from_code(HypercallCode::GET_VP_REGISTERS).with_rep_count(1).with_fast(true);

/// Returns whether a hypercall by this convention comes back. On a host that does not know it, the instruction is
/// undefined.
fn answers(conduit: Either) -> bool {
    let convention = convention(conduit);
    let at = convention.control();
    let mut x = [0; 31];
    x[0] = HYPERCALL.into();
    x[at..at + 4].copy_from_slice(&[GET.0, OWN[0], OWN[1], RegisterName::GUEST_OS_ID.0.into()]);
    // SAFETY: a fast Get of a register changes no memory.
    unsafe { machine::hvc(convention.immediate(), &mut x) }.is_ok()
}

fn get(conduit: Either, name: RegisterName) -> Was {
    // SAFETY: a fast Get of a register changes no memory.
    let (result, [low, _]) = unsafe { conduit.call_3_2(GET, [OWN[0], OWN[1], name.0.into()]) };
    (result.status() == HvStatus::SUCCESS).then_some(low)
}

/// Sets a register by hypercall, and returns true if it succeeded.
///
/// # Safety
///
/// The value enables no page but the one that the firmware had lent before.
unsafe fn set(conduit: Either, name: RegisterName, value: u64) -> bool {
    let control =
        HypercallInput::from_code(HypercallCode::SET_VP_REGISTERS).with_rep_count(1).with_fast(true);
    let input = [OWN[0], OWN[1], name.0.into(), 0, value, 0];
    // SAFETY: the caller promises that the value enables no page but one that the firmware lent.
    unsafe { conduit.call_6(control, input) }.status() == HvStatus::SUCCESS
}

/// Saves the registers, and returns the guest OS id: 0 if the partition is unused. `None` if the host does not answer
/// hypercalls by this convention.
pub(crate) fn save(conduit: Either) -> Option<u64> {
    let get = |name| get(conduit, name);
    let id = answers(conduit).then(|| get(RegisterName::GUEST_OS_ID)).flatten()?;
    if id == 0 {
        // SAFETY: the guest OS id's register enables no page.
        unsafe { set(conduit, RegisterName::GUEST_OS_ID, SOME_ID) };
    }
    let saved = Saved {
        conduit,
        id,
        reference_tsc: get(RegisterName::REFERENCE_TSC),
        message_page: get(RegisterName::SIMP),
        event_page: get(RegisterName::SIEFP),
        control: get(RegisterName::SCONTROL),
        sints: core::array::from_fn(|n| get(RegisterName::sint(n as u8))),
        timers: core::array::from_fn(|n| {
            let n = n as u8;
            [get(RegisterName::stimer_config(n)), get(RegisterName::stimer_count(n))]
        }),
    };
    // The suite checks the state that a guest finds at its start. SAFETY: the guest OS id's register enables no page.
    unsafe { set(conduit, RegisterName::GUEST_OS_ID, id) };
    *SAVED.lock() = Some(saved);
    Some(id)
}

/// Restores the registers, if they were saved.
pub(crate) fn restore() {
    let Some(saved) = SAVED.try_lock().and_then(|mut saved| saved.take()) else { return };
    let mut refused = 0;
    let mut put = |name, value: Was| {
        if let Some(value) = value {
            // SAFETY: the values are those that were saved, or disable.
            refused += u32::from(!unsafe { set(saved.conduit, name, value) });
        }
    };
    put(RegisterName::GUEST_OS_ID, Some(if saved.id == 0 { SOME_ID } else { saved.id }));
    // Nothing may arrive while one half is the suite's and the other the firmware's.
    for (n, [config, _]) in (0..).zip(saved.timers) {
        put(RegisterName::stimer_config(n), config.map(|_| 0));
    }
    put(RegisterName::SCONTROL, saved.control.map(|_| 0));
    put(RegisterName::SIMP, saved.message_page);
    put(RegisterName::SIEFP, saved.event_page);
    for (n, sint) in (0..).zip(saved.sints) {
        put(RegisterName::sint(n), sint);
    }
    put(RegisterName::SCONTROL, saved.control);
    put(RegisterName::REFERENCE_TSC, saved.reference_tsc);
    for (n, [config, count]) in (0..).zip(saved.timers) {
        put(RegisterName::stimer_count(n), count);
        put(RegisterName::stimer_config(n), config);
    }
    put(RegisterName::GUEST_OS_ID, Some(saved.id));
    if refused != 0 {
        note!("{refused} registers could not be put back as the firmware had them: reset the machine");
    }
}
