//! Page tables: addresses map to themselves, with pages of 4, 16 or 64 KiB.
//!
//! One table set serves all CPUs. It covers 36 bits of address, of which RAM, the UART and the GIC are mapped at the
//! start; programs map what else they want to touch with [`map`]. Tables come from a fixed pool.
//!
//! Source: Arm ARM, "The VMSAv8-64 translation system".
#![expect(unsafe_code, reason = "the start code reads a static, and calls Rust, by name")]

use core::ptr::addr_of;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use spin::Mutex;

use crate::{MAX_CPUS, Machine, arch, machine, mrs};

/// The size of a page, and with it the shape of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granule {
    /// 4 KiB.
    K4,
    /// 16 KiB.
    K16,
    /// 64 KiB.
    K64,
}

impl Granule {
    /// All three.
    pub const ALL: [Self; 3] = [Self::K4, Self::K16, Self::K64];

    /// Log2 of the page size.
    pub const fn bits(self) -> u32 {
        match self {
            Self::K4 => 12,
            Self::K16 => 14,
            Self::K64 => 16,
        }
    }

    /// Bytes per page.
    pub const fn bytes(self) -> u64 {
        1 << self.bits()
    }

    /// This CPU has it: ID_AA64MMFR0_EL1.TGran4, TGran16, TGran64.
    pub fn supported(self) -> bool {
        let mmfr0 = mrs!("id_aa64mmfr0_el1");
        match self {
            Self::K4 => mmfr0 >> 28 & 0xf != 0xf,
            Self::K16 => mmfr0 >> 20 & 0xf != 0,
            Self::K64 => mmfr0 >> 24 & 0xf != 0xf,
        }
    }

    /// TCR_EL1.TG0.
    const fn tg0(self) -> u64 {
        match self {
            Self::K4 => 0b00,
            Self::K16 => 0b10,
            Self::K64 => 0b01,
        }
    }

    /// The level at which a walk of [`ADDRESS_BITS`] starts.
    const fn root_level(self) -> u32 {
        match self {
            Self::K4 => 1,
            Self::K16 | Self::K64 => 2,
        }
    }

    /// Log2 of what one entry of a level covers; a table has 2^(bits - 3) entries.
    const fn shift(self, level: u32) -> u32 {
        self.bits() + (3 - level) * (self.bits() - 3)
    }
}

/// What memory is mapped as. No mapping is for EL0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Normal write-back memory, read and executed.
    Text,
    /// Normal write-back memory, read, written and executed.
    Ram,
    /// Device-nGnRE, read and written.
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
    /// Attributes 0 and 1 of MAIR_EL1 (start.s): Device-nGnRE, and normal write-back.
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
/// Words of the pool that are in use. Plain loads and stores: exclusive ones need the MMU.
static USED: AtomicUsize = AtomicUsize::new(0);
static LOCK: Mutex<()> = Mutex::new(());

/// What start.s loads into TTBR0_EL1 and TCR_EL1.
#[unsafe(no_mangle)]
static RT_TRANSLATION: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// Why memory was not mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Address or size is not a multiple of the page size, or beyond [`ADDRESS_BITS`].
    Misplaced,
    /// Something is mapped there.
    Mapped,
    /// The pool of tables is used up.
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

    /// The table that a descriptor points to.
    fn of(descriptor: u64) -> Self {
        Self(((descriptor & ADDRESS) - addr_of!(POOL) as u64) as usize / 8)
    }

    /// The entry for an address.
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
/// See [`Error`]. What was mapped before it stays mapped.
pub fn map(va: u64, pa: u64, size: u64, kind: Kind) -> Result<(), Error> {
    let result = arch::without_interrupts(|| {
        let _lock = LOCK.lock();
        map_checked(machine::get().granule, va, pa, size, kind)
    });
    // Translations that failed are not cached; walks must see the new entries.
    arch::dsb();
    arch::isb();
    result
}

/// Lets the page at `va` point elsewhere, without any maintenance of the TLB: that is the caller's. The page must be mapped
/// as a page, which [`map`] does for areas smaller than a block.
///
/// # Safety
///
/// Nothing of Rust's is at the page.
///
/// # Panics
///
/// If no page is mapped there, or the addresses are not those of pages.
pub unsafe fn redirect(va: u64, pa: u64, kind: Kind) {
    let granule = machine::get().granule;
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

/// The granule that the command line asks for, or 4 KiB.
pub(crate) fn choose(argument: Option<&str>) -> Granule {
    let granule = match argument {
        None | Some("4k") => Granule::K4,
        Some("16k") => Granule::K16,
        Some("64k") => Granule::K64,
        Some(other) => panic!("rt.granule={other}: it is 4k, 16k or 64k"),
    };
    assert!(granule.supported(), "this CPU has no {} KiB granule", granule.bytes() >> 10);
    granule
}

unsafe extern "C" {
    static __text_start: u8;
    static __text_end: u8;
    static __stacks: u8;
    static __stacks_end: u8;
}

/// Bytes from one stack's end to the next, of which the lower half is a guard (rt.ld).
const STACK_STRIDE: u64 = 0x20000;
/// Bytes that a device gets: with 64 KiB pages it can't be less.
const DEVICE_BYTES: u64 = 0x10000;
const UART: u64 = 0x900_0000;

/// Builds the tables. CPU 0 calls it first of all, with the MMU off.
#[unsafe(no_mangle)]
extern "C" fn rt_build_tables(tree: *const u8) {
    let machine = machine::parse(tree);
    if let Err(error) = build(&machine) {
        panic!("cannot build the page tables: {error:?}");
    }
}

fn build(machine: &Machine) -> Result<(), Error> {
    let granule = machine.granule;
    let root = Table::new(granule)?;
    let identity = |start: u64, end: u64, kind| map_checked(granule, start, start, end - start, kind);
    let (text, text_end) = (addr_of!(__text_start) as u64, addr_of!(__text_end) as u64);
    let (stacks, stacks_end) = (addr_of!(__stacks) as u64, addr_of!(__stacks_end) as u64);
    let ram_end = machine.ram.end.min(1 << ADDRESS_BITS);
    identity(machine.ram.start, text, Kind::Ram)?;
    identity(text, text_end, Kind::Text)?;
    identity(text_end, stacks, Kind::Ram)?;
    for cpu in 0..MAX_CPUS as u64 {
        let end = stacks + (cpu + 1) * STACK_STRIDE;
        identity(end - STACK_STRIDE / 2, end, Kind::Ram)?;
    }
    identity(stacks_end, ram_end, Kind::Ram)?;
    identity(machine.gicd, machine.gicd + DEVICE_BYTES, Kind::Device)?;
    identity(machine.gicr, machine.gicr + machine.vps() as u64 * 2 * DEVICE_BYTES, Kind::Device)?;
    identity(UART, UART + DEVICE_BYTES.min(granule.bytes()), Kind::Device)?;

    /// TCR_EL1: inner shareable, write-back tables; TTBR1_EL1 is off.
    const TCR: u64 = 1 << 23 | 0b11 << 12 | 1 << 10 | 1 << 8 | (64 - ADDRESS_BITS as u64);
    let physical_size = (mrs!("id_aa64mmfr0_el1") & 0xf).min(5);
    RT_TRANSLATION[0].store(root.address(), Ordering::Relaxed);
    RT_TRANSLATION[1].store(TCR | granule.tg0() << 14 | physical_size << 32, Ordering::Relaxed);
    Ok(())
}
