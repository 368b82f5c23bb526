//! Where the guest was when it left: PC, vectors, and the return addresses on its stack.
//!
//! Nothing that comes from the guest is trusted. The address of a frame record goes through the guest's own translation
//! and must then lie in the guest's memory; each word is read once; the number of records is bounded, so a cycle of
//! them ends.

use arm_sysregs::el1::registers::TcrEl1;
use hv_cpu::pstate::from_el0;
use hv_partition::GuestMemory as _;
use hv_wire::Place;

use crate::arch::{mrs, translate};
use crate::memory::GuestRam;

/// What this CPU remembers of the guest at its last exit.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a> {
    /// The guest's memory.
    pub ram: &'a GuestRam,
    /// X29.
    pub frame_pointer: u64,
    /// X30.
    pub link: u64,
}

/// Locates the guest at this CPU's last exit. Runs before the guest resumes.
#[cold]
#[inline(never)]
pub(crate) fn place(guest: Left<'_>) -> Place {
    let Left { ram, frame_pointer: mut record, link } = guest;
    let mut place = Place { vbar: mrs!("vbar_el1"), ..Place::at(mrs!("elr_el2")) };
    let mut callers = place.callers.iter_mut();
    let first = code(link);
    if first != 0
        && let Some(caller) = callers.next()
    {
        *caller = first;
    }
    for (number, caller) in callers.enumerate() {
        let Some((next, link)) = frame_record(ram, record) else { break };
        let address = code(link);
        // A function that has set up its frame and called nothing yet has X30 in its record, too.
        if number == 0 && address == first {
            let Some((beyond, link)) = frame_record(ram, next) else { break };
            (record, *caller) = (beyond, code(link));
        } else {
            (record, *caller) = (next, address);
        }
        if *caller == 0 {
            break;
        }
    }
    place
}

/// Returns the two words of a frame record: the address of the caller's record, and the return address.
fn frame_record(ram: &GuestRam, address: u64) -> Option<(u64, u64)> {
    if address == 0 || !address.is_multiple_of(8) {
        return None;
    }
    Some((word(ram, address)?, word(ram, address.wrapping_add(8))?))
}

/// Reads a word at an aligned guest virtual address.
fn word(ram: &GuestRam, address: u64) -> Option<u64> {
    let physical = translate(address, from_el0(mrs!("spsr_el2")))?;
    let mut bytes = [0; 8];
    ram.read(physical, &mut bytes).ok()?;
    Some(u64::from_le_bytes(bytes))
}

/// Strips the pointer authentication code from a return address (Arm ARM, "Pointer authentication"): bit 55 selects the
/// half of the address space, TCR_EL1 says where the code begins.
fn code(address: u64) -> u64 {
    let tcr = TcrEl1::from_bits_retain(mrs!("tcr_el1"));
    let high = address >> 55 & 1 != 0;
    let unused = if high { tcr.t1sz() } else { tcr.t0sz() };
    // Bits above the virtual address; none while TCR_EL1 has never been set.
    let upper = if unused < 8 { 0 } else { !(u64::MAX >> unused) };
    if high { address | upper } else { address & !upper }
}
