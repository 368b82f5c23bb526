//! The boot information, validated: the tool and the image may be of different versions, or the image may run without
//! the tool.
#![expect(unsafe_code, reason = "declares a range of memory to be the guest's")]

use core::fmt::Write;
use core::ops::Range;
use core::sync::atomic::AtomicU64;

use hv_control::Table;
use hv_partition::Profile;
use hv_partition::faults::Plan;
use hv_partition::hv_host::Config;
use hv_partition::strict::Judge;
use hv_wire::control::Service;
use hv_wire::platform::{GUEST_RAM_BASE, MAX_VPS};
use hv_wire::{BootFlags, BootInfo, ExitKind, MAX_CONTROLLERS, MAX_LUNS};

use crate::arch::mrs;
use crate::disks::Disks;
use crate::lock::Mutex;
use crate::memory::{self, GuestRam, Room};
use crate::{log, power};

/// Largest address that the 39-bit maps cover.
const ADDRESS_END: u64 = 1 << 39;
const BLOCK: u64 = 2 << 20;
const PAGE: u64 = 4 << 10;
const SECTOR: u64 = 512;

/// Validates the boot information; the error is the reason for refusing it.
pub(crate) fn check(info: &BootInfo) -> Result<(), &'static str> {
    let ram_end = info.ram_base.checked_add(info.ram_size);
    let trace_end = info.trace_base.checked_add(info.trace_size);
    if info.magic != BootInfo::MAGIC {
        return Err("no boot information: start this image with `hv boot`");
    }
    if info.version != hv_wire::VERSION {
        return Err("boot information of another version: rebuild the hypervisor and the tool from one tree");
    }
    if info.vps == 0 || info.vps as usize > MAX_VPS {
        return Err("the number of VPs must be 1 to 120");
    }
    if Profile::by_number(info.profile).is_none() {
        return Err("the profile must be 0, 1 or 2");
    }
    if info.ram_base < GUEST_RAM_BASE
        || !info.ram_base.is_multiple_of(BLOCK)
        || !info.ram_size.is_multiple_of(BLOCK)
        || info.ram_size == 0
    {
        return Err(
            "guest RAM must start above the hypervisor, and be a multiple of 2 MiB at a multiple of 2 MiB",
        );
    }
    if ram_end.is_none_or(|end| end > ADDRESS_END) || trace_end.is_none_or(|end| end > ADDRESS_END) {
        return Err("guest RAM or the trace region ends beyond 512 GiB");
    }
    let trace_is_aligned = info.trace_base.is_multiple_of(BLOCK) && info.trace_size.is_multiple_of(BLOCK);
    if info.trace_size != 0 && (!trace_is_aligned || ram_end.is_some_and(|end| info.trace_base < end)) {
        return Err(
            "the trace region must lie after the guest's RAM, a multiple of 2 MiB at a multiple of 2 MiB",
        );
    }
    let tables_end = info.tables_base.checked_add(info.tables_size);
    let tables_are_aligned = info.tables_base.is_multiple_of(BLOCK) && info.tables_size.is_multiple_of(BLOCK);
    if !tables_are_aligned
        || ram_end.is_none_or(|end| info.tables_base < end)
        || info.tables_size < BootInfo::tables_size(info.ram_size, info.vps)
        || tables_end.is_none_or(|end| end > ADDRESS_END)
        || overlap(info.tables_base, info.tables_size, info.trace_base, info.trace_size)
    {
        return Err(
            "the page tables must lie after the guest's RAM, apart from the trace, and suffice for it",
        );
    }
    let vps_end = info.vps_base.checked_add(info.vps_size);
    if !info.vps_base.is_multiple_of(BLOCK)
        || ram_end.is_none_or(|end| info.vps_base < end)
        || info.vps_size < BootInfo::vps_size(info.vps)
        || vps_end.is_none_or(|end| end > ADDRESS_END)
        || overlap(info.vps_base, info.vps_size, info.trace_base, info.trace_size)
        || overlap(info.vps_base, info.vps_size, info.tables_base, info.tables_size)
    {
        return Err(
            "the VPs' memory must lie after the guest's RAM, apart from page tables and trace, and suffice for them",
        );
    }
    check_video(info)?;
    check_disks(info)?;
    plan(info).map(|_| ())
}

/// Returns whether two regions, given by base and end, overlap.
fn overlap(a: u64, a_size: u64, b: u64, b_size: u64) -> bool {
    a_size != 0 && b_size != 0 && a < b + b_size && b < a + a_size
}

/// Checks that there is video memory if there is a screen, apart from all else.
fn check_video(info: &BootInfo) -> Result<(), &'static str> {
    let (base, size) = (info.video_base, info.video_size());
    let has_screen = info.services & Service::Video.bit() != 0;
    let ends = base.checked_add(size).is_some_and(|end| end <= ADDRESS_END);
    if has_screen != (base != 0)
        || !base.is_multiple_of(BLOCK)
        || !ends
        || size != 0 && base < info.ram_base + info.ram_size
        || overlap(base, size, info.tables_base, info.tables_size)
        || overlap(base, size, info.trace_base, info.trace_size)
        || overlap(base, size, info.vps_base, info.vps_size)
    {
        return Err(
            "the video memory must lie after the guest's RAM, apart from page tables and trace, at a multiple of 2 MiB",
        );
    }
    Ok(())
}

/// Checks that the disks follow one another, after everything else, each at a place of its own on a controller.
fn check_disks(info: &BootInfo) -> Result<(), &'static str> {
    let disks = info.disks.get(..info.disk_count as usize).ok_or("more disks than there is room for")?;
    let ends = [
        info.ram_base + info.ram_size,
        info.tables_base + info.tables_size,
        info.vps_base + info.vps_size,
        info.trace_base + info.trace_size,
        info.video_base + info.video_size(),
    ];
    let mut free = ends.into_iter().max().unwrap_or(ADDRESS_END);
    for (n, disk) in disks.iter().enumerate() {
        if disk.base < free
            || !disk.base.is_multiple_of(PAGE)
            || !disk.size.is_multiple_of(SECTOR)
            || disk.size == 0
        {
            return Err(
                "a disk must be a multiple of 512 bytes at a multiple of 4 KiB, after all that lies before it",
            );
        }
        free = disk.base.saturating_add(disk.size).saturating_add(PAGE - 1) / PAGE * PAGE;
        if free > ADDRESS_END {
            return Err("the disks end beyond 512 GiB");
        }
        if usize::from(disk.controller) >= MAX_CONTROLLERS || usize::from(disk.lun) >= MAX_LUNS {
            return Err("a disk must be on controller 0 to 3, at logical unit 0 to 63");
        }
        if disks[..n].iter().any(|other| (other.controller, other.lun) == (disk.controller, disk.lun)) {
            return Err("two disks are at one place of a controller");
        }
    }
    let window_end = info.window_base.checked_add(info.window_size);
    if info.window_size != 0
        && (info.window_base < free
            || !info.window_base.is_multiple_of(PAGE)
            || !info.window_size.is_multiple_of(PAGE)
            || window_end.is_none_or(|end| end > ADDRESS_END))
    {
        return Err("the window for more disks must be a multiple of 4 KiB after all disks, below 512 GiB");
    }
    Ok(())
}

/// Returns the disks as memory, by number.
///
/// # Safety
///
/// [`check`] has accepted `info`, mmu.rs has mapped what it describes, and this is called once.
pub(crate) unsafe fn disk_ram(info: &BootInfo) -> Disks {
    // SAFETY: `check` has placed the region after everything that belongs to the hypervisor or the guest, it is
    // mapped, and no other value reaches it: this is called once.
    unsafe { Disks::new(hv_control::region(info), Table::new(info)) }
}

/// Returns the region of dynamic memory's record; empty without dynamic memory.
pub(crate) fn record_region(info: &BootInfo) -> Range<u64> {
    let has_record = info.services & Service::Balloon.bit() != 0;
    let size = if has_record { BootInfo::record_size(info.ram_size) } else { 0 };
    info.record_base()..info.record_base() + size
}

/// Returns dynamic memory's record.
///
/// # Safety
///
/// [`check`] has accepted `info`, mmu.rs has mapped what it describes, and this is called once.
pub(crate) unsafe fn record(info: &BootInfo) -> &'static [AtomicU64] {
    // SAFETY: `check` has placed the region behind everything that belongs to the hypervisor or the guest, page tables
    // end before it, it is mapped, and no other value reaches it: this is called once.
    unsafe { memory::words(record_region(info)) }
}

const _: () = assert!(hv_wire::PLAN_RULES == hv_partition::faults::MAX_RULES);
const _: () = assert!(hv_wire::PLAN_WORDS == Plan::WORDS);

/// Reads the fault plan; `Ok(None)` if there is none.
pub(crate) fn plan(info: &BootInfo) -> Result<Option<Plan>, &'static str> {
    if info.plan_rules == 0 {
        return Ok(None);
    }
    Plan::from_words(&info.plan).map(Some).ok_or("no plan of faults has these words")
}

/// Ends the run before it begins. The MMU is off.
pub(crate) fn refuse(why: &str) -> ! {
    // Writing to the log never fails.
    let _ = writeln!(log::Log, "boot information refused: {why}");
    power::end_run(ExitKind::BadBootInfo)
}

/// Returns the guest's memory.
///
/// # Safety
///
/// [`check`] has accepted `info`, and mmu.rs has mapped what it describes.
pub(crate) unsafe fn guest_ram(info: &BootInfo) -> GuestRam {
    // SAFETY: `check` has placed it after everything that belongs to the hypervisor, and it is mapped.
    unsafe { GuestRam::new(info.ram_base, info.ram_size) }
}

/// Makes the strict mode's judge, in a strict run.
pub(crate) fn judge(info: &BootInfo, room: &mut Room) -> Option<&'static Mutex<Judge<MAX_VPS>>> {
    if info.flags & BootFlags::STRICT == 0 {
        return None;
    }
    // All zeros at first, since it is too large for a stack.
    let judge = room.make(1, || const { Mutex::new(Judge::new(0, 0)) }).first()?;
    judge.lock().set_memory(info.ram_base, info.ram_size);
    Some(judge)
}

/// Returns the memory for the VPs' state.
pub(crate) fn vp_state(info: &BootInfo) -> Range<u64> {
    info.vp_state()..info.vps_base + info.vps_size
}

/// Returns what the partition offers.
pub(crate) fn partition(info: &BootInfo) -> Config {
    let mut config = Config::new(mrs!("cntfrq_el0"));
    if let Some(profile) = Profile::by_number(info.profile) {
        config.profile = profile;
    }
    config
}
