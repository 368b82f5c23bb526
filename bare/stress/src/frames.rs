//! Frame pointers that lead nowhere: the hypervisor follows them where it reports something, and must return.
#![expect(unsafe_code, reason = "a translation table that is a device")]

use core::sync::atomic::{AtomicU64, Ordering};

use rt::exception::Exception;
use rt::probe::Size;
use rt::{arch, mrs, msr};

use crate::absent;
use crate::check::{Check, Checks};
use crate::hv::{self, Call};

/// Immediate of the first call: each call has its own, so that each is reported with its place.
const FIRST: u16 = 0x1000;
/// Immediate of the call from a valid stack, which the caller of this program looks for in the report.
const ORDERLY: u16 = 0x1100;
/// Return addresses on that stack.
const CALLERS: [u64; 3] = [0x1111_1000, 0x2222_2000, 0x3333_3000];

/// Frame records: the caller's record, and the return address.
#[repr(align(4096))]
struct Stack([[AtomicU64; 2]; 256]);
static STACK: Stack = Stack([const { [const { AtomicU64::new(0) }; 2] }; 256]);

fn record(number: usize) -> u64 {
    STACK.0[number].as_ptr() as u64
}

fn set(number: usize, next: u64, link: u64) {
    STACK.0[number][0].store(next, Ordering::Relaxed);
    STACK.0[number][1].store(link, Ordering::Relaxed);
}

pub(crate) fn run(checks: &mut Checks) {
    checks.check("a frame pointer may have any value", |check| {
        let ends = absent::windows().flat_map(|window| [window.range.start, window.range.end - 8]);
        let odd = [0, 1, 7, 8, u64::MAX, u64::MAX - 7, 1 << 55, 1 << 63, 1 << 47, 0x0900_0000, record(0) + 4];
        for (value, immediate) in odd.into_iter().chain(ends).zip(FIRST..) {
            undefined(check, immediate, value);
        }
    });
    checks.check("frame records may be a circle, or lead away", |check| {
        set(0, record(0), 0x1000);
        undefined(check, FIRST + 0x80, record(0));
        set(1, record(2), u64::MAX);
        set(2, record(1), 1 << 55);
        undefined(check, FIRST + 0x81, record(1));
        set(3, absent::HYPERVISOR.range.start, 0x1000);
        undefined(check, FIRST + 0x82, record(3));
        // The record's second half is in the next page, or after the table.
        set(255, u64::MAX - 7, 0x1000);
        undefined(check, FIRST + 0x83, record(255) + 8);
    });
    checks.check("a stack in order is followed to its end", |check| {
        for (number, link) in CALLERS.into_iter().enumerate() {
            let next = if number + 1 < CALLERS.len() { record(number + 1) } else { 0 };
            set(number, next, link);
        }
        undefined(check, ORDERLY, record(0));
    });
    checks.check("a translation table may be a device", table_in_a_device);
}

/// Checks that an unknown `hvc`, made with this frame pointer, has the same effect as with any other.
fn undefined(check: &mut Check, immediate: u16, frame_pointer: u64) {
    // F, and a pattern in the bits that are not part of the address.
    const PAR: u64 = 0xff00_0000_0000_0b81;
    // SAFETY: nothing else in this program uses the register.
    unsafe { msr!("par_el1", PAR) };
    let before = mrs!("par_el1");
    let mut x = [0; 31];
    x[29] = frame_pointer;
    let got = hv::call(Call::Hvc(immediate), &mut x);
    check.meets((immediate, frame_pointer), got, Exception::is_undefined);
    check.equal((immediate, "X29"), x[29], frame_pointer);
    check.equal((immediate, "PAR_EL1"), mrs!("par_el1"), before);
}

/// Puts the tables of the upper half of the address space into the UART's registers, which this program does not use;
/// only a frame pointer leads there.
fn table_in_a_device(check: &mut Check) {
    // TCR_EL1: T1SZ 25, 4 KiB granule, EPD1 clear.
    const T1: u64 = 0xffff << 16;
    const TABLES: u64 = 25 << 16 | 0b10 << 30;
    let (tcr, ttbr1) = (mrs!("tcr_el1"), mrs!("ttbr1_el1"));
    arch::without_interrupts(|| {
        // SAFETY: this program lives in the lower half, whose controls stay as they are.
        unsafe { msr!("ttbr1_el1", 0x0900_0000) };
        // SAFETY: this program lives in the lower half, whose controls stay as they are.
        unsafe { msr!("tcr_el1", tcr & !T1 | TABLES) };
        arch::isb();
        undefined(check, FIRST + 0x90, 0xffff_ff80_0000_0000);
        undefined(check, FIRST + 0x91, 0xffff_ffff_ffff_f000);
        // No walk reaches a device, so it reveals nothing of what is there.
        let load = crate::probes::read(0xffff_ff80_0000_0000, Size::Double);
        check.meets("a load by such a table", load.err(), Exception::is_external_abort);
        // SAFETY: restores the value from before.
        unsafe { msr!("tcr_el1", tcr) };
        // SAFETY: restores the value from before.
        unsafe { msr!("ttbr1_el1", ttbr1) };
        arch::isb();
    });
}
