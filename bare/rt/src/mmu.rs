//! Page tables: addresses map to themselves, with pages of 4, 16 or 64 KiB.
//!
//! One set of tables serves all CPUs. It covers 36 bits of address, of which RAM, the UART and the GIC are mapped at
//! the start; programs map whatever else they access with [`map`]. Tables come from a fixed pool.
//!
//! Source: Arm ARM, "The VMSAv8-64 translation system".
#![expect(unsafe_code, reason = "symbols of the linker script")]

use core::ptr::addr_of;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arm_sysregs::el1::registers::{IdAa64mmfr0El1, MairEl1, SctlrEl1, TcrEl1};
use spin::Mutex;

use crate::granule::Granule;
use crate::hardware::{self, Hardware};
use crate::stacks;
use crate::{arch, mrs};

/// MAIR_EL1: attribute 0 is Device-nGnRE, 1 is Normal write-back.
pub(crate) const MAIR: u64 = MairEl1::empty().with_attr(0, 0x04).with_attr(1, 0xff).bits();
/// SCTLR_EL1 with the MMU off and the RES1 bits set (Arm ARM, "SCTLR_EL1").
pub const SCTLR_OFF: u64 = 0x30d0_0800;
/// SCTLR_EL1 with MMU, caches and stack alignment checks.
pub(crate) const SCTLR_ON: u64 = SCTLR_OFF
    | SctlrEl1::I.union(SctlrEl1::SA0).union(SctlrEl1::SA).union(SctlrEl1::C).union(SctlrEl1::M).bits();
const _: () = assert!(MAIR == 0xff04 && SCTLR_ON == 0x30d0_181d);

/// Memory types and permissions. No mapping is for EL0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Normal write-back memory: readable and executable.
    Text,
    /// Normal write-back memory: readable, writable and executable.
    Ram,
    /// Device-nGnRE: readable and writable.
    Device,
}

/// Bits of a block or page descriptor.
const VALID: u64 = 1 << 0;
const TABLE_OR_PAGE: u64 = 1 << 1;
const ATTRIBUTE_INDEX: u32 = 2;
const READ_ONLY: u64 = 1 << 7;
const INNER_SHAREABLE: u64 = 0b11 << 8;
const ACCESSED: u64 = 1 << 10;
const PXN: u64 = 1 << 53;
const UXN: u64 = 1 << 54;
const ADDRESS: u64 = 0xffff_ffff_f000;

impl Kind {
    /// Returns the attributes 0 and 1 of [`MAIR`].
    const fn attributes(self) -> u64 {
        let normal = 1 << ATTRIBUTE_INDEX | INNER_SHAREABLE;
        VALID
            | ACCESSED
            | UXN
            | match self {
                Self::Text => normal | READ_ONLY,
                Self::Ram => normal,
                Self::Device => PXN,
            }
    }
}

/// Bits of virtual and physical addresses that the tables cover.
pub const ADDRESS_BITS: u32 = 36;

const POOL_BYTES: usize = 640 << 10;
const POOL_WORDS: usize = POOL_BYTES / 8;

#[repr(align(65536))]
struct Pool([AtomicU64; POOL_WORDS]);

static POOL: Pool = Pool([const { AtomicU64::new(0) }; POOL_WORDS]);
/// Words of the pool in use. Plain loads and stores: exclusive ones need the MMU.
static USED: AtomicUsize = AtomicUsize::new(0);
static LOCK: Mutex<()> = Mutex::new(());

/// What start.s loads into TTBR0_EL1 and TCR_EL1.
pub(crate) static TRANSLATION: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// Reason why memory was not mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Address or size is not a multiple of the page size, or beyond [`ADDRESS_BITS`].
    Misplaced,
    /// An address in the range is mapped already.
    Mapped,
    /// The pool of tables is exhausted.
    Full,
}

/// A table: its first word in the pool.
#[derive(Clone, Copy)]
struct Table(usize);

impl Table {
    fn new(granule: Granule) -> Result<Self, Error> {
        let first = USED.load(Ordering::Relaxed);
        let end = first + granule.bytes() as usize / 8;
        if end > POOL_WORDS {
            return Err(Error::Full);
        }
        USED.store(end, Ordering::Relaxed);
        Ok(Self(first))
    }

    fn address(self) -> u64 {
        addr_of!(POOL) as u64 + self.0 as u64 * 8
    }

    /// Returns the table that a descriptor points to.
    fn of(descriptor: u64) -> Self {
        Self(((descriptor & ADDRESS) - addr_of!(POOL) as u64) as usize / 8)
    }

    /// Returns the entry for an address.
    fn entry(self, granule: Granule, level: u32, va: u64) -> &'static AtomicU64 {
        let index = va >> granule.shift(level) & ((1 << (granule.bits() - 3)) - 1);
        &POOL.0[self.0 + index as usize]
    }
}

/// Maps `size` bytes at `va` to `pa`, in a table of this level.
fn map_in(
    table: Table,
    granule: Granule,
    level: u32,
    va: u64,
    pa: u64,
    size: u64,
    kind: Kind,
) -> Result<(), Error> {
    let span = 1u64 << granule.shift(level);
    let mut done = 0;
    while done < size {
        let (at, to) = (va + done, pa + done);
        let part = (span - at % span).min(size - done);
        let entry = table.entry(granule, level, at);
        let old = entry.load(Ordering::Relaxed);
        // Blocks: level 2 with each granule, and level 1 with 4 KiB.
        let leaf = level == 3 || part == span && to % span == 0 && old & VALID == 0;
        if leaf {
            if old & VALID != 0 {
                return Err(Error::Mapped);
            }
            let page = if level == 3 { TABLE_OR_PAGE } else { 0 };
            entry.store(to | kind.attributes() | page, Ordering::Relaxed);
        } else {
            let next = match old & (VALID | TABLE_OR_PAGE) {
                0 => {
                    let next = Table::new(granule)?;
                    entry.store(next.address() | VALID | TABLE_OR_PAGE, Ordering::Release);
                    next
                }
                VALID => return Err(Error::Mapped),
                _ => Table::of(old),
            };
            map_in(next, granule, level + 1, at, to, part, kind)?;
        }
        done += part;
    }
    Ok(())
}

/// The root is the first table.
const ROOT: Table = Table(0);

fn map_checked(granule: Granule, va: u64, pa: u64, size: u64, kind: Kind) -> Result<(), Error> {
    let end = |start: u64| start.checked_add(size).is_none_or(|end| end > 1 << ADDRESS_BITS);
    if !(va | pa | size).is_multiple_of(granule.bytes()) || end(va) || end(pa) {
        return Err(Error::Misplaced);
    }
    map_in(ROOT, granule, granule.root_level(), va, pa, size, kind)
}

/// Maps `size` bytes at virtual address `va` to physical address `pa`, for all CPUs.
///
/// # Errors
///
/// See [`Error`]. Mappings made before the error remain.
pub fn map(va: u64, pa: u64, size: u64, kind: Kind) -> Result<(), Error> {
    let result = arch::without_interrupts(|| {
        let _lock = LOCK.lock();
        map_checked(hardware::get().granule, va, pa, size, kind)
    });
    // Failed translations are not cached; walks must see the new entries.
    arch::dsb();
    arch::isb();
    result
}

/// Makes the page at `va` map to another page, without any TLB maintenance, which is the caller's part. The page must
/// be mapped as a page, as [`map`] does for areas smaller than a block.
///
/// # Safety
///
/// Nothing that Rust code uses is in the page.
///
/// # Panics
///
/// If no page is mapped there, or the addresses are not those of pages.
pub unsafe fn redirect(va: u64, pa: u64, kind: Kind) {
    let granule = hardware::get().granule;
    assert!((va | pa).is_multiple_of(granule.bytes()), "not a page: {va:#x}, {pa:#x}");
    let mut table = ROOT;
    for level in granule.root_level()..3 {
        let descriptor = table.entry(granule, level, va).load(Ordering::Relaxed);
        assert!(
            descriptor & (VALID | TABLE_OR_PAGE) == VALID | TABLE_OR_PAGE,
            "no page is mapped at {va:#x}"
        );
        table = Table::of(descriptor);
    }
    let entry = table.entry(granule, 3, va);
    assert!(entry.load(Ordering::Relaxed) & VALID != 0, "no page is mapped at {va:#x}");
    entry.store(pa | kind.attributes() | TABLE_OR_PAGE, Ordering::Relaxed);
    arch::dsb();
    arch::isb();
}

unsafe extern "C" {
    static __text_start: u8;
    static __text_end: u8;
}

/// Size of a device's mapping: with 64 KiB pages it cannot be smaller.
const DEVICE_BYTES: u64 = 0x10000;
const UART: u64 = 0x900_0000;

/// Builds the tables. CPU 0 calls it before everything else, with the MMU off.
pub(crate) extern "C" fn build_tables(tree: *const u8) {
    let hardware = hardware::parse(tree);
    if let Err(error) = build(&hardware) {
        panic!("cannot build the page tables: {error:?}");
    }
}

fn build(hardware: &Hardware) -> Result<(), Error> {
    let granule = hardware.granule;
    let root = Table::new(granule)?;
    let identity = |start: u64, end: u64, kind| map_checked(granule, start, start, end - start, kind);
    let (text, text_end) = (addr_of!(__text_start) as u64, addr_of!(__text_end) as u64);
    let all_stacks = stacks::all();
    let ram_end = hardware.ram.end.min(1 << ADDRESS_BITS);
    identity(hardware.ram.start, text, Kind::Ram)?;
    identity(text, text_end, Kind::Text)?;
    identity(text_end, all_stacks.start, Kind::Ram)?;
    for stack in (0..hardware.vps()).map(stacks::mapped) {
        identity(stack.start, stack.end, Kind::Ram)?;
    }
    identity(all_stacks.end, ram_end, Kind::Ram)?;
    identity(hardware.gicd, hardware.gicd + DEVICE_BYTES, Kind::Device)?;
    identity(hardware.gicr, hardware.gicr + hardware.vps() as u64 * 2 * DEVICE_BYTES, Kind::Device)?;
    identity(UART, UART + DEVICE_BYTES.min(granule.bytes()), Kind::Device)?;

    /// TCR_EL1: inner shareable, write-back tables; TTBR1_EL1 is off.
    const TCR: TcrEl1 =
        TcrEl1::EPD1.with_sh0(0b11).with_orgn0(0b01).with_irgn0(0b01).with_t0sz(64 - ADDRESS_BITS as u8);
    let physical_size = IdAa64mmfr0El1::from_bits_retain(mrs!("id_aa64mmfr0_el1")).parange().min(5);
    TRANSLATION[0].store(root.address(), Ordering::Relaxed);
    TRANSLATION[1].store(TCR.with_tg0(granule.tg0()).with_ips(physical_size).bits(), Ordering::Relaxed);
    Ok(())
}
