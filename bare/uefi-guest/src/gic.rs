//! Two private interrupts of this processor, borrowed from the interrupt controller.
//!
//! They get a priority above all others, and the processor's mask lets no other through. So the firmware's own
//! interrupts stay pending until it has the processor again, and none of its settings is changed.
//!
//! Source: Arm GIC Architecture Specification, GICv3, "Redistributor register map", "CPU interface registers".
#![expect(unsafe_code, reason = "the redistributor is an address, the CPU interface system registers")]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "a register is an address and an access, with one proof"
)]

use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering};

use arm_gic::gicv3::registers::{Gicr, GicrSgi, Sgi};
use spin::Mutex;

use crate::acpi;
use crate::machine::{self, isb, mrs, msr};
use crate::report::note;

/// Private interrupts to choose from: neither timers nor any that Hyper-V or the Arm Base System Architecture assigns
/// in a partition.
const CANDIDATES: [u32; 5] = [19, 20, 21, 22, 24];
/// A priority above any that firmware assigns.
const PRIORITY: u32 = 0x10;
/// Lets [`PRIORITY`] through, and nothing from here on.
const MASK: u64 = 0x20;
/// Lets nothing through.
const CLOSED: u64 = 0;

/// Bytes of a redistributor's two frames, and the offset of the second.
const STRIDE: u64 = size_of::<GicrSgi>() as u64;
const SGI: u64 = offset_of!(GicrSgi, sgi) as u64;
const TYPER: u64 = offset_of!(Gicr, typer) as u64;
const IGROUPR0: u64 = SGI + offset_of!(Sgi, igroupr) as u64;
const ISENABLER0: u64 = SGI + offset_of!(Sgi, isenabler) as u64;
const ICENABLER0: u64 = SGI + offset_of!(Sgi, icenabler) as u64;
const ICPENDR0: u64 = SGI + offset_of!(Sgi, icpendr) as u64;
const ICACTIVER0: u64 = SGI + offset_of!(Sgi, icactiver) as u64;
const IPRIORITYR: u64 = SGI + offset_of!(Sgi, ipriorityr) as u64;
const ICFGR1: u64 = SGI + offset_of!(Sgi, icfgr) as u64 + 4;
/// GICR_TYPER.VLPIS: the redistributor has two more frames.
const VLPIS: u32 = 1 << 1;
/// GICR_TYPER.Last.
const LAST: u32 = 1 << 4;

/// Address of this processor's redistributor.
static REDISTRIBUTOR: AtomicU64 = AtomicU64::new(0);
/// Interrupts taken.
static TAKEN: [AtomicU64; 32] = [const { AtomicU64::new(0) }; 32];
/// All interrupts taken.
static ALL: AtomicU64 = AtomicU64::new(0);
/// Interrupts taken that are not ours.
static STRANGERS: AtomicU64 = AtomicU64::new(0);

/// The saved state of the interrupt controller.
struct Saved {
    intids: [u32; 2],
    mask: u64,
    group1: u64,
    group: u32,
    trigger: u32,
    priorities: [u32; 2],
}

static SAVED: Mutex<Option<Saved>> = Mutex::new(None);

fn read_at(address: u64) -> u32 {
    // SAFETY: the MADT says that a redistributor is here, and the firmware, which uses it, has mapped it; reading these
    // registers has no effect.
    unsafe { (address as *const u32).read_volatile() }
}

fn read(register: u64) -> u32 {
    read_at(REDISTRIBUTOR.load(Ordering::Relaxed) + register)
}

fn write(register: u64, value: u32) {
    let address = REDISTRIBUTOR.load(Ordering::Relaxed) + register;
    // SAFETY: the MADT says that a redistributor is here, and the firmware, which uses it, has mapped it; the writes
    // concern interrupts that the firmware does not use.
    unsafe { (address as *mut u32).write_volatile(value) };
}

fn bit(intid: u32) -> u32 {
    1 << intid
}

/// Returns the word of IPRIORITYR and the shift of an interrupt's byte in it.
const fn priority(intid: u32) -> (u64, u32) {
    (IPRIORITYR + (intid & !3) as u64, (intid & 3) * 8)
}

/// Returns the affinity fields of MPIDR_EL1 as GICR_TYPER has them.
fn affinity() -> u32 {
    let mpidr = mrs!("mpidr_el1");
    (mpidr & 0xff_ffff | mpidr >> 8 & 0xff00_0000) as u32
}

/// Finds this processor's redistributor and two private interrupts that the firmware does not use.
pub(crate) fn find() -> Option<[u32; 2]> {
    // ID_AA64PFR0_EL1.GIC: the system registers are there; ICC_SRE_EL1.SRE: they are in use.
    if mrs!("id_aa64pfr0_el1") >> 24 & 0xf == 0 || mrs!("icc_sre_el1") & 1 == 0 {
        return None;
    }
    let own = acpi::redistributors().find_map(|frames| {
        if frames.length == 0 {
            let fields = 0xff_00ff_ffff;
            return (frames.affinity & fields == mrs!("mpidr_el1") & fields).then_some(frames.base);
        }
        let mut at = frames.base;
        loop {
            let (kind, place) = (read_at(at + TYPER), read_at(at + TYPER + 4));
            if place == affinity() {
                return Some(at);
            }
            at += if kind & VLPIS == 0 { STRIDE } else { 2 * STRIDE };
            if kind & LAST != 0 || at + STRIDE > frames.base + frames.length {
                return None;
            }
        }
    })?;
    REDISTRIBUTOR.store(own, Ordering::Relaxed);
    let used = read(ISENABLER0);
    let mut free = CANDIDATES.into_iter().filter(|&intid| used & bit(intid) == 0);
    Some([free.next()?, free.next()?])
}

/// Borrows two interrupts. The processor is frozen.
pub(crate) fn take(intids: [u32; 2]) {
    let saved = Saved {
        intids,
        mask: mrs!("icc_pmr_el1"),
        group1: mrs!("icc_igrpen1_el1"),
        group: read(IGROUPR0),
        trigger: read(ICFGR1),
        priorities: intids.map(|intid| read(priority(intid).0)),
    };
    for intid in intids {
        write(ICENABLER0, bit(intid));
        write(ICPENDR0, bit(intid));
        write(IGROUPR0, read(IGROUPR0) | bit(intid));
        // Two bits for each from INTID 16 on; the upper one says edge.
        write(ICFGR1, read(ICFGR1) | 2 << (2 * (intid - 16)));
        let (register, shift) = priority(intid);
        write(register, read(register) & !(0xff << shift) | PRIORITY << shift);
    }
    // SAFETY: interrupts are masked and the vectors are ours.
    unsafe {
        msr!("icc_pmr_el1", MASK);
        msr!("icc_igrpen1_el1", 1);
    }
    isb();
    *SAVED.lock() = Some(saved);
}

/// Returns the interrupts, if they were borrowed.
pub(crate) fn give_back() {
    let Some(saved) = SAVED.try_lock().and_then(|mut saved| saved.take()) else { return };
    for (n, intid) in saved.intids.into_iter().enumerate() {
        write(ICENABLER0, bit(intid));
        write(ICPENDR0, bit(intid));
        write(ICACTIVER0, bit(intid));
        let (register, shift) = priority(intid);
        write(register, read(register) & !(0xff << shift) | saved.priorities[n] & 0xff << shift);
    }
    write(ICFGR1, saved.trigger);
    write(IGROUPR0, saved.group);
    // SAFETY: restores the firmware's values.
    unsafe {
        msr!("icc_pmr_el1", saved.mask);
        msr!("icc_igrpen1_el1", saved.group1);
    }
    isb();
    let strangers = STRANGERS.swap(0, Ordering::Relaxed);
    if strangers != 0 {
        note!(
            "{strangers} interrupts of the firmware's came through, and closed the door: do not trust this run"
        );
    }
}

/// Enables one of the interrupts.
pub(crate) fn listen(intid: u32) {
    write(ICENABLER0, bit(intid));
    write(ICPENDR0, bit(intid));
    write(ISENABLER0, bit(intid));
}

/// Returns how often an interrupt was taken.
pub(crate) fn taken(intid: u32) -> u64 {
    machine::take_interrupts();
    TAKEN.get(intid as usize).map_or(0, |count| count.load(Ordering::Relaxed))
}

/// Returns how often any was taken.
pub(crate) fn taken_in_all() -> u64 {
    ALL.load(Ordering::Relaxed)
}

/// Handles one interrupt, if it has not gone away.
pub(crate) fn handle() {
    let intid = mrs!("icc_iar1_el1");
    // 1020 to 1023: no interrupt is pending.
    if intid & 0xff_fffc == 1020 {
        return;
    }
    let ours = TAKEN.get(intid as usize).filter(|_| CANDIDATES.contains(&(intid as u32)));
    match ours {
        Some(count) => {
            count.fetch_add(1, Ordering::Relaxed);
            ALL.fetch_add(1, Ordering::Relaxed);
        }
        None => {
            STRANGERS.fetch_add(1, Ordering::Relaxed);
            // SAFETY: masks all priorities; a level-triggered interrupt that no handler clears would come forever.
            unsafe { msr!("icc_pmr_el1", CLOSED) };
        }
    }
    // ICC_CTLR_EL1.EOImode: the end takes two steps.
    let two_steps = mrs!("icc_ctlr_el1") & 2 != 0;
    // SAFETY: ends the interrupt that was acknowledged.
    unsafe {
        msr!("icc_eoir1_el1", intid);
        if two_steps {
            msr!("icc_dir_el1", intid);
        }
    }
    isb();
}
