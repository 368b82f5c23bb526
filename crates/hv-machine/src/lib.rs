//! What firmware provides to an ARM64 guest of Hyper-V: kernel, initramfs, firmware tables and device tree, each at its
//! guest physical address.
//!
//! [`build`] turns a [`Spec`] into an [`Image`]: bytes for guest RAM and the initial state of the first VP. It does no
//! I/O, and cannot panic, whatever the kernel or initramfs contains. The hardware that the tables describe is a
//! [`Platform`], so any host can use it.
#![forbid(unsafe_code)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod acpi;
mod dsdt;
mod efi;
mod error;
mod fdt;
pub mod initrd;
mod kernel;
mod layout;
pub mod linux;
mod platform;
mod smbios;
mod spec;
mod unpack;
pub mod words;

use std::ops::Range;

pub use error::Error;
pub use kernel::{container as kernel_container, is_aarch64_elf, unpack as unpack_kernel};
pub use layout::ALIGN_2M;
use layout::{Layout, mib};
pub use platform::{Platform, Timers};
pub use smbios::Identity;
pub use spec::{Firmware, RNG_SEED_LEN, Spec};

/// Linux's COMMAND_LINE_SIZE on arm64, less the terminating NUL.
const MAX_COMMAND_LINE: usize = 2047;

/// Contents of guest memory at the start. RAM outside the segments must be zero.
///
/// Exhaustive on purpose: a host that stores or compares images has to name every field, so it notices a new one.
#[derive(Debug)]
pub struct Image {
    /// Guest physical address and contents of each piece; they do not overlap and all lie in guest RAM.
    pub segments: Vec<(u64, Vec<u8>)>,
    /// Entry point of VP 0, at EL1 with the MMU off.
    pub entry: u64,
    /// Initial X0 of VP 0: the device tree.
    pub x0: u64,
    /// The kernel's page size in bytes, if its header gives it: the CPU model must support that granule.
    pub page_size: Option<u32>,
    /// The command line, with the defaults.
    pub command_line: String,
}

impl Image {
    /// Returns the piece with the entry point: for an arm64 Image the whole Image, unpacked.
    #[must_use]
    pub fn kernel(&self) -> &[u8] {
        let entered = |(gpa, bytes): &&(u64, Vec<u8>)| {
            self.entry.checked_sub(*gpa).is_some_and(|offset| offset < bytes.len() as u64)
        };
        self.segments.iter().find(entered).map_or(&[], |(_, bytes)| bytes)
    }
}

/// Builds the guest's memory.
///
/// # Errors
/// [`Error`], with the value, what was expected, and what to do.
pub fn build(spec: Spec<'_>) -> Result<Image, Error> {
    check(&spec)?;
    let platform = spec.platform;
    let command_line = command_line(platform, &spec.append)?;
    let ram = platform.ram(spec.memory);
    let kernel = kernel::load(spec.kernel, ram.clone())?;
    let initrd = spec.initrd;

    let places = place(&ram, &kernel, initrd.as_ref().map(Vec::len))?;
    let initrd_range = initrd.as_ref().map(|bytes| places.initrd..places.initrd + bytes.len() as u64);
    let chosen = fdt::Chosen {
        platform,
        command_line: &command_line,
        initrd: initrd_range.as_ref(),
        rng_seed: &spec.rng_seed,
        vmbus_intid: spec.vmbus_intid,
        stimer_intid: spec.stimer_intid,
    };

    let mut segments = kernel.segments;
    let tree = match spec.firmware {
        Firmware::DeviceTree => fdt::full(&chosen, &ram, spec.vps, None)?,
        Firmware::Acpi | Firmware::Both => {
            let machine = acpi::AcpiMachine { platform, vps: spec.vps, vmbus_intid: spec.vmbus_intid };
            let acpi = acpi::build(machine, places.acpi.start);
            let machine = smbios::SmbiosMachine {
                identity: spec.identity,
                vps: spec.vps,
                ram_base: ram.start,
                memory: spec.memory,
            };
            let smbios_at = places.acpi.start + SMBIOS_OFFSET;
            let efi = efi::build(places.acpi.start + EFI_OFFSET, acpi.rsdp, smbios_at, &ram, &places.acpi);
            segments.push((smbios_at, smbios::build(&machine, smbios_at)));
            debug_assert!(acpi.bytes.len() as u64 <= EFI_OFFSET, "the ACPI tables overlap the EFI tables");
            segments.push((places.acpi.start, acpi.bytes));
            segments.push((places.acpi.start + EFI_OFFSET, efi.bytes));
            if spec.firmware == Firmware::Both {
                fdt::full(&chosen, &ram, spec.vps, Some(efi.system_table))?
            } else {
                fdt::for_acpi(&chosen, efi.system_table, efi.map)?
            }
        }
    };
    debug_assert!(tree.len() as u64 <= FDT_SIZE, "the device tree exceeds its region");
    segments.push((places.fdt, tree));
    if let Some(bytes) = initrd.filter(|bytes| !bytes.is_empty()) {
        segments.push((places.initrd, bytes));
    }
    segments.sort_by_key(|&(gpa, _)| gpa);
    Ok(Image { segments, entry: kernel.entry, x0: places.fdt, page_size: kernel.page_size, command_line })
}

/// Room for the ACPI tables in bytes; those of 120 VPs take less than half of it.
const EFI_OFFSET: u64 = 48 << 10;
/// Offset of SMBIOS in that region; its tables take less than 1 KiB.
const SMBIOS_OFFSET: u64 = 56 << 10;
/// Room for ACPI, EFI and SMBIOS tables together in bytes.
const FIRMWARE_SIZE: u64 = 64 << 10;
/// Room for the device tree in bytes; the longest command line and 120 VPs take less than half of it.
const FDT_SIZE: u64 = 64 << 10;

/// Guest physical addresses of everything except the kernel.
struct Places {
    acpi: Range<u64>,
    fdt: u64,
    initrd: u64,
}

fn place(ram: &Range<u64>, kernel: &kernel::Kernel, initrd: Option<usize>) -> Result<Places, Error> {
    let initrd = initrd.unwrap_or(0) as u64;
    let memory = (ram.end - ram.start) >> 20;
    let kernel_size =
        kernel.footprint.iter().map(|range| range.end - range.start).fold(0, u64::saturating_add);
    let kernel_end = kernel.footprint.iter().map(|range| range.end - ram.start).max().unwrap_or(0);
    // The initrd counts twice: Linux unpacks it.
    let need = |initrd: u64| {
        let beside = FDT_SIZE + FIRMWARE_SIZE + kernel.headroom;
        let bytes =
            kernel_size.saturating_add(beside).saturating_add(initrd.saturating_mul(2)).max(kernel_end);
        // What alignment may add.
        mib(bytes).saturating_add(2).next_multiple_of(2)
    };
    if need(0) > memory {
        return Err(Error::MemoryTooSmall { memory, need: need(initrd) });
    }
    let too_big = Error::InitrdTooBig { initrd, memory, need: need(initrd).max(memory + 2) };
    if need(initrd) > memory {
        return Err(too_big);
    }
    let mut layout = Layout::new(ram.clone(), &kernel.footprint);
    match (layout.place(FDT_SIZE), layout.place(FIRMWARE_SIZE), layout.place(initrd)) {
        (Some(fdt), Some(acpi), Some(initrd)) => Ok(Places { acpi, fdt: fdt.start, initrd: initrd.start }),
        // The holes between an ELF kernel's segments may only be large enough together.
        _ => Err(too_big),
    }
}

/// Rejects a spec that no guest can be built from.
fn check(spec: &Spec<'_>) -> Result<(), Error> {
    let platform = spec.platform;
    if spec.memory == 0 || !spec.memory.is_multiple_of(ALIGN_2M) || spec.memory > platform.max_memory {
        return Err(Error::MemorySize { memory: spec.memory, max: platform.max_memory >> 20 });
    }
    if !(1..=platform.max_vps).contains(&spec.vps) {
        return Err(Error::Vps { vps: spec.vps, max: platform.max_vps });
    }
    for (what, intid) in [("VMBus", spec.vmbus_intid), ("synthetic timers", spec.stimer_intid)] {
        if !platform.is_free_ppi(intid) {
            return Err(Error::Intid { what, intid });
        }
    }
    if spec.vmbus_intid == spec.stimer_intid {
        return Err(Error::Intid { what: "synthetic timers", intid: spec.stimer_intid });
    }
    Ok(())
}

/// Returns the parameters without which Linux is silent: neither ACPI without SPCR nor our device tree selects a
/// console that early.
fn console(platform: &Platform) -> String {
    format!("console=ttyAMA0 earlycon=pl011,{:#x}", platform.uart.start)
}

fn command_line(platform: &Platform, append: &str) -> Result<String, Error> {
    let has_console = words::is_given(append, "console=");
    let line = match (has_console, append.trim()) {
        (true, append) => append.to_owned(),
        (false, "") => console(platform),
        (false, append) => format!("{} {append}", console(platform)),
    };
    if line.contains('\0') {
        return Err(Error::CommandLineNul);
    }
    if line.len() > MAX_COMMAND_LINE {
        return Err(Error::CommandLineTooLong { len: line.len(), max: MAX_COMMAND_LINE });
    }
    Ok(line)
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
