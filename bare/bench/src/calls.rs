//! Hypercalls. The fast ones are written out, so that the loop is known exactly: nine or ten instructions that load the
//! registers, the call, and two that count.
#![expect(unsafe_code, reason = "hypercalls in assembly")]

use core::arch::asm;

use hv_guest::arch::{Hvc1, Smccc};
use hv_guest::conduit::Conduit;
use hv_guest::flush::{self, GvaRange, Mask, Space};
use hv_guest::hypercall;
use hv_guest::page::CallPage;
use hv_guest::registers::{self, Register};
use hv_tlfs::hypercall::{HypercallCode, HypercallInput};
use hv_tlfs::register::{RegisterName, RegisterValue};

use crate::measure::Bench;
use crate::{MEMORY, PAGES};

const REPETITIONS: u64 = 10_000;

/// `hvc`, preceded by these instructions, which load X0 to X17.
macro_rules! call {
    ($immediate:literal, $($load:literal),*) => {
        // SAFETY: a fast hypercall without output in memory. The host changes no register but X0 to X17.
        unsafe {
            asm!($($load,)* concat!("hvc #", $immediate), clobber_abi("C"), options(nostack));
        }
    };
}

/// Measures HvCallGetVpRegisters of the VP index: the guest's own partition, the calling VP.
fn get_smccc() {
    call!(
        "0",
        "movz w0, #1",
        "movk w0, #0x4600, lsl #16",
        "movz x1, #0x50",
        "movk x1, #1, lsl #16",
        "movk x1, #1, lsl #32",
        "mov x2, #-1",
        "mov w3, #-2",
        "movz x4, #3",
        "movk x4, #9, lsl #16"
    );
}

fn get_hvc1() {
    call!(
        "1",
        "movz x0, #0x50",
        "movk x0, #1, lsl #16",
        "movk x0, #1, lsl #32",
        "mov x1, #-1",
        "mov w2, #-2",
        "movz x3, #3",
        "movk x3, #9, lsl #16"
    );
}

/// Measures HvCallSetVpRegisters of a crash parameter.
fn set_smccc() {
    call!(
        "0",
        "movz w0, #1",
        "movk w0, #0x4600, lsl #16",
        "movz x1, #0x51",
        "movk x1, #1, lsl #16",
        "movk x1, #1, lsl #32",
        "mov x2, #-1",
        "mov w3, #-2",
        "movz x4, #0x210",
        "mov x5, #0",
        "movz x6, #0x8100, lsl #48",
        "mov x7, #0"
    );
}

fn set_hvc1() {
    call!(
        "1",
        "movz x0, #0x51",
        "movk x0, #1, lsl #16",
        "movk x0, #1, lsl #32",
        "mov x1, #-1",
        "mov w2, #-2",
        "movz x3, #0x210",
        "mov x4, #0",
        "movz x5, #0x8100, lsl #48",
        "mov x6, #0"
    );
}

/// Measures PSCI_VERSION.
fn psci_version() {
    call!("0", "movz w0, #0x8400, lsl #16");
}

/// Measures SMCCC_VERSION: over KVM, which answers it itself, what a call costs that reaches no program.
fn smccc_version() {
    call!("0", "movz w0, #0x8000, lsl #16");
}

/// Measures HvCallSignalEvent to a connection that does not exist: a call that has a status alone.
fn signal_nothing() {
    call!(
        "0",
        "movz w0, #1",
        "movk w0, #0x4600, lsl #16",
        "movz x1, #0x5d",
        "movk x1, #1, lsl #16",
        "movz x2, #0xfffe",
        "mov x3, #0"
    );
}

pub(crate) fn run(bench: &Bench) {
    bench.each("fast-get-smccc", REPETITIONS, get_smccc);
    bench.each("fast-get-hvc1", REPETITIONS, get_hvc1);
    bench.each("fast-set-smccc", REPETITIONS, set_smccc);
    bench.each("fast-set-hvc1", REPETITIONS, set_hvc1);
    bench.each("psci-version", REPETITIONS, psci_version);
    bench.each("smccc-version", REPETITIONS, smccc_version);
    bench.each("signal-nothing", REPETITIONS, signal_nothing);
    by_routine(bench, "fast-get-routine-smccc", Smccc);
    by_routine(bench, "fast-get-routine-hvc1", Hvc1);
    in_memory(bench);
    many(bench);
    flushes(bench);
}

/// Flushes by lists: of few addresses, and of as many as a call takes.
fn flushes(bench: &Bench) {
    let mut page = CallPage::new(&PAGES[0], &MEMORY);
    let mut refused = 0;
    for (name, count) in [("flush-3", 3), ("flush-477", 477)] {
        // Every other page, so that they are not a range of pages.
        let ranges: [_; 477] =
            core::array::from_fn(|n| GvaRange::new(n as u64 * 0x2000, 1).expect("one page"));
        bench.each(name, 1000, || {
            let result = flush::address_list(&Smccc, &mut page, Mask::All, Space::All, &ranges[..count]);
            refused += u64::from(result.is_err());
        });
    }
    assert!(refused == 0, "the host refused {refused} of the calls");
}

/// Measures a Get through hv-guest, with its check of the status.
fn by_routine(bench: &Bench, name: &str, conduit: impl Conduit) {
    let mut refused = 0;
    bench.each(name, REPETITIONS, || {
        refused += u64::from(registers::get(&conduit, Register::VP_INDEX).is_err());
    });
    assert!(refused == 0, "the host refused {refused} of the calls");
}

/// Measures a hypercall with its input in memory, through hv-guest, which copies it to the page:
/// HvCallNotifyLongSpinWait, for which the host does no work.
fn in_memory(bench: &Bench) {
    let mut page = CallPage::new(&PAGES[0], &MEMORY);
    let control = HypercallInput::from_code(HypercallCode::NOTIFY_LONG_SPIN_WAIT);
    let mut refused = 0;
    bench.each("memory-call", REPETITIONS, || {
        // SAFETY: a hint, which writes nothing.
        let result: Result<(), _> = unsafe { hypercall::memory(&Smccc, &mut page, control, &0x1000u64) };
        refused += u64::from(result.is_err());
    });
    assert!(refused == 0, "the host refused {refused} of the calls");
}

/// Measures a Get of a hundred registers in one call.
fn many(bench: &Bench) {
    let mut page = CallPage::new(&PAGES[0], &MEMORY);
    let names = [RegisterName::VP_INDEX; 100];
    let mut values = [RegisterValue::from_u64(0); 100];
    let mut refused = 0;
    bench.each("get-100", 1000, || {
        refused += u64::from(registers::get_list(&Smccc, &mut page, &names, &mut values).is_err());
    });
    assert!(refused == 0, "the host refused {refused} of the calls");
}
