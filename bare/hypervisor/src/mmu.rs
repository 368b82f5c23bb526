//! The two maps: the hypervisor's own (EL2, stage 1) and the guest's physical memory (stage 2).
//!
//! Both are built once, by CPU 0 with its MMU off, and never changed. Both map addresses to themselves, except that the
//! guest has its video memory in VMBus's window; the hypervisor does not map that memory. The tables come from a region
//! after the guest's RAM ([`BootInfo::tables_base`]), which nothing maps: there is no allocator. At its end is dynamic
//! memory's record, which is mapped.
//!
//! start.s turns on the first with the values defined here.
#![expect(unsafe_code, reason = "page tables are raw memory that hardware walks")]

use core::cell::UnsafeCell;
use core::ptr::{NonNull, addr_of};

use aarch64_paging::descriptor::{El23Attributes, PagingAttributes, PhysicalAddress, Stage2Attributes};
use aarch64_paging::paging::{
    Constraints, El2, MemoryRegion, PageTable, RootTable, Stage2, Translation, TranslationRegime,
};
use arm_sysregs::el1::registers::IdAa64mmfr0El1;
use arm_sysregs::el2::registers::{MairEl2, SctlrEl2, TcrEl2, VtcrEl2, VttbrEl2};
use hv_wire::platform::{
    BOOT_INFO, GICD_BASE, GICD_SIZE, GICR_BASE, GICR_STRIDE, HYPERVISOR_BASE, UART_BASE, UART_SIZE,
    VIDEO_WINDOW, VIRTIO_BASE, VIRTIO_SLOTS, VIRTIO_STRIDE,
};
use hv_wire::{BootFlags, BootInfo};

use crate::arch::{self, isb, mrs};
use crate::{config, stacks};

/// The pool of page tables: a region of the machine's memory that the tool sets aside.
struct Pool {
    /// Address of the next table, and end of the region.
    region: UnsafeCell<(u64, u64)>,
}

// SAFETY: CPU 0 writes the pool before any other CPU runs; from then on it is only read.
unsafe impl Sync for Pool {}

static POOL: Pool = Pool { region: UnsafeCell::new((0, 0)) };

/// Bytes of a table.
const TABLE: u64 = 4096;

/// Allocator that hands out the pool's tables in order, and never takes one back.
struct FromPool;

impl<A: PagingAttributes> Translation<A> for FromPool {
    fn allocate_table(&mut self) -> (NonNull<PageTable<A>>, PhysicalAddress) {
        // SAFETY: CPU 0 is the only CPU running, and no other reference to the pool is alive.
        let (next, end) = unsafe { &mut *POOL.region.get() };
        assert!(*end - *next >= TABLE, "out of page tables: the region up to {end:#x} does not suffice");
        let table = *next;
        *next += TABLE;
        // The region is the machine's RAM, zero at first, validated by `config::check`, and each table is handed out
        // once.
        let pointer = NonNull::new(table as *mut PageTable<A>).expect("no table is at address 0");
        (pointer, PhysicalAddress(table as usize))
    }

    unsafe fn deallocate_table(&mut self, _: NonNull<PageTable<A>>) {}

    fn physical_to_virtual(&self, pa: PhysicalAddress) -> NonNull<PageTable<A>> {
        NonNull::new(pa.0 as *mut PageTable<A>).expect("no table is at address 0")
    }
}

type Table<R> = RootTable<R, FromPool>;

/// Maps `size` bytes at `base` to themselves, in blocks where possible.
fn map<R: TranslationRegime>(table: &mut Table<R>, base: u64, size: u64, attributes: R::Attributes) {
    map_to(table, base, (base, size), attributes, Constraints::empty());
}

/// Maps addresses from `address` on to a physical base and size.
fn map_to<R: TranslationRegime>(
    table: &mut Table<R>,
    address: u64,
    (base, size): (u64, u64),
    attributes: R::Attributes,
    constraints: Constraints,
) {
    let region = MemoryRegion::new(address as usize, (address + size) as usize);
    if let Err(error) = table.map_range(&region, PhysicalAddress(base as usize), attributes, constraints) {
        panic!("cannot map {region}: {error}");
    }
}

const NORMAL: El23Attributes = El23Attributes::VALID
    .union(El23Attributes::ACCESSED)
    .union(El23Attributes::USER_RES1)
    .union(El23Attributes::INNER_SHAREABLE)
    .union(El23Attributes::ATTRIBUTE_INDEX_1);
const DATA: El23Attributes = NORMAL.union(El23Attributes::XN);
const DEVICE: El23Attributes = El23Attributes::VALID
    .union(El23Attributes::ACCESSED)
    .union(El23Attributes::USER_RES1)
    .union(El23Attributes::ATTRIBUTE_INDEX_0)
    .union(El23Attributes::XN);

const GUEST_RAM: Stage2Attributes = Stage2Attributes::VALID
    .union(Stage2Attributes::ACCESS_FLAG)
    .union(Stage2Attributes::SH_INNER)
    .union(Stage2Attributes::S2AP_ACCESS_RW)
    .union(Stage2Attributes::MEMATTR_NORMAL_OUTER_WB)
    .union(Stage2Attributes::MEMATTR_NORMAL_INNER_WB);
const GUEST_DEVICE: Stage2Attributes = Stage2Attributes::VALID
    .union(Stage2Attributes::ACCESS_FLAG)
    .union(Stage2Attributes::S2AP_ACCESS_RW)
    .union(Stage2Attributes::MEMATTR_DEVICE_nGnRE)
    .union(Stage2Attributes::XN);

unsafe extern "C" {
    static __image_start: u8;
    static __text_end: u8;
    static __rodata_end: u8;
    static __data_end: u8;
    static __image_end: u8;
}

/// Address of a symbol of the linker script.
macro_rules! symbol {
    ($name:ident) => {
        addr_of!($name) as u64
    };
}

/// MAIR_EL2: attribute 0 is Device-nGnRE, 1 is Normal write-back.
pub(crate) const MAIR: u64 = MairEl2::empty().with_attr(0, 0x04).with_attr(1, 0xff).bits();
/// TCR_EL2 without the physical address size: T0SZ = 25 (39 bits, root at level 1), 4 KiB granule, inner shareable,
/// write-back tables, RES1.
pub(crate) const TCR: u64 =
    TcrEl2::RES1.with_t0sz(25).with_sh0(0b11).with_orgn0(0b01).with_irgn0(0b01).bits();
/// SCTLR_EL2: MMU, caches, alignment checks, WXN, RES1.
pub(crate) const SCTLR: u64 = SctlrEl2::M
    .union(SctlrEl2::C)
    .union(SctlrEl2::I)
    .union(SctlrEl2::A)
    .union(SctlrEl2::SA)
    .union(SctlrEl2::WXN)
    .bits()
    | SCTLR_RES1;
/// Bits that are RES1 without VHE; arm-sysregs has names for what they are with it.
const SCTLR_RES1: u64 = 0x30c5_0830;
const _: () = assert!(MAIR == 0xff04 && TCR == 0x8080_3519 && SCTLR == 0x30cd_183f);

/// TTBR0_EL2, for the CPUs that start later.
pub(crate) static mut STAGE1_ROOT: u64 = 0;
/// VTTBR_EL2 without the VMID.
static mut STAGE2_ROOT: u64 = 0;

/// Returns the number of bytes that the hypervisor occupies: image and page tables, without that for the VPs.
pub(crate) fn memory_used(info: &BootInfo) -> u64 {
    // SAFETY: the pool does not change after `build`, and this reads a copy.
    let (next, _) = unsafe { *POOL.region.get() };
    symbol!(__image_end) - symbol!(__image_start) + (next - info.tables_base)
}

/// Builds both maps and returns the root of the first. Runs on CPU 0 with the MMU off, before everything else.
pub(crate) fn build(info: &BootInfo) -> u64 {
    // SAFETY: CPU 0 is the only CPU running, and no other reference to the pool is alive.
    unsafe { *POOL.region.get() = (info.tables_base, info.record_base()) };
    let mut own = Table::<El2>::new(FromPool, 1, El2);
    let (start, text_end) = (symbol!(__image_start), symbol!(__text_end));
    let (rodata_end, data_end) = (symbol!(__rodata_end), symbol!(__data_end));
    map(&mut own, start, text_end - start, NORMAL | El23Attributes::READ_ONLY);
    map(&mut own, text_end, rodata_end - text_end, DATA | El23Attributes::READ_ONLY);
    map(&mut own, rodata_end, data_end - rodata_end, DATA);
    map(&mut own, info.vps_base, info.stacks() - info.vps_base, DATA);
    for stack in (0..info.vps as usize).map(|cpu| stacks::mapped(info, cpu)) {
        map(&mut own, stack.start, stack.end - stack.start, DATA);
    }
    let state = config::vp_state(info);
    map(&mut own, state.start, state.end - state.start, DATA);
    map(&mut own, BOOT_INFO, HYPERVISOR_BASE - BOOT_INFO, DATA);
    map(&mut own, info.ram_base, info.ram_size, DATA);
    if info.trace_size != 0 {
        map(&mut own, info.trace_base, info.trace_size, DATA);
    }
    let disks = hv_control::region(info);
    if !disks.is_empty() {
        map(&mut own, disks.start, disks.end - disks.start, DATA);
    }
    let record = config::record_region(info);
    if !record.is_empty() {
        map(&mut own, record.start, record.end - record.start, DATA);
    }
    map(&mut own, GICD_BASE, GICD_SIZE, DEVICE);
    map(&mut own, GICR_BASE, u64::from(info.vps) * GICR_STRIDE, DEVICE);
    map(&mut own, UART_BASE, UART_SIZE, DEVICE);
    if info.flags & (BootFlags::CONTROL | BootFlags::SOCKETS | BootFlags::NETWORK) != 0 {
        map(&mut own, VIRTIO_BASE, u64::from(VIRTIO_SLOTS) * VIRTIO_STRIDE, DEVICE);
    }

    let mut guest = Table::<Stage2>::new(FromPool, 1, Stage2);
    // QEMU gives a TLB entry the larger size of the two stages (target/arm, `get_phys_addr_twostage`), and flushes the
    // whole TLB when the guest invalidates an address inside a large page. With 2 MiB blocks at stage 2, every TLBI by
    // address of Linux does that, and a boot takes 1.3 times as long as without a hypervisor; with pages, 1.02 times.
    let ram = (info.ram_base, info.ram_size);
    map_to(&mut guest, info.ram_base, ram, GUEST_RAM, Constraints::NO_BLOCK_MAPPINGS);
    map(&mut guest, UART_BASE, UART_SIZE, GUEST_DEVICE);
    if info.video_base != 0 {
        // Linux maps it as cacheable, as hosts do.
        let pixels = (info.video_base, info.video_size());
        map_to(
            &mut guest,
            VIDEO_WINDOW,
            pixels,
            GUEST_RAM | Stage2Attributes::XN,
            Constraints::NO_BLOCK_MAPPINGS,
        );
    }

    let roots = (own.to_physical().0 as u64, guest.to_physical().0 as u64);
    // The tables live as long as the machine: dropping a root would free them.
    core::mem::forget((own, guest));
    // SAFETY: CPU 0 is the only CPU running; the others start later, and read this then.
    unsafe { STAGE1_ROOT = roots.0 };
    // SAFETY: CPU 0 is the only CPU running; the others start later, and read this then.
    unsafe { STAGE2_ROOT = roots.1 };
    roots.0
}

/// Installs stage 2 as the guest's view of memory on this CPU.
pub(crate) fn activate_stage2() {
    /// RES1, SL0 = 1 (root at level 1), T0SZ = 25, inner shareable, write-back tables.
    const VTCR: VtcrEl2 =
        VtcrEl2::RES1.with_sl0(0b01).with_t0sz(25).with_sh0(0b11).with_orgn0(0b01).with_irgn0(0b01);
    const VMID: u64 = VttbrEl2::empty().with_vmid(1).bits();
    let physical_size = IdAa64mmfr0El1::from_bits_retain(mrs!("id_aa64mmfr0_el1")).parange().min(5);
    // SAFETY: written once, before this CPU was started or by this CPU itself.
    let root = unsafe { STAGE2_ROOT };
    // SAFETY: the root is of tables that are never freed, made with this T0SZ; they map the guest's RAM, video memory
    // and UART alone.
    unsafe { arch::set_stage2(VTCR.with_ps(physical_size).bits(), root | VMID) };
    isb();
    arch::flush_guest_tlb();
}
