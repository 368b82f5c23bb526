//! The guest's memory at the start: kernel, initrd, firmware tables and device tree, each at its guest physical
//! address.
//!
//! [`build`] turns what the user gave into an [`Image`]. It does no I/O besides reading the two files, and no
//! content of theirs makes it panic.

mod acpi;
mod dsdt;
mod efi;
mod error;
mod fdt;
pub(crate) mod initrd;
mod kernel;
pub(crate) mod layout;
mod unpack;

use std::ops::Range;
use std::path::PathBuf;

use hv_wire::platform;

pub(crate) use error::Error;
pub(crate) use kernel::is_aarch64_elf;
use layout::{ALIGN_2M, Layout, mib};

/// The MMIO window that VMBus hands out to devices: nothing is there until a device is. It is part of the range that
/// QEMU reserves for PCI, below RAM.
const MMIO_WINDOW_START: u64 = 0x1000_0000;
/// End of the window, exclusive.
const MMIO_WINDOW_END: u64 = 0x3000_0000;

/// Bytes of entropy that a guest gets.
pub(crate) const RNG_SEED_LEN: usize = 64;
/// Most guest memory: what QEMU's `virt` has below its second PCI window, less what is ours.
const MAX_MEMORY: u64 = 255 << 30;
/// Linux's COMMAND_LINE_SIZE on arm64, less the NUL at the end.
const MAX_COMMAND_LINE: usize = 2047;
/// Without these Linux is silent: neither ACPI without SPCR nor our device tree selects a console that early.
const CONSOLE: &str = "console=ttyAMA0 earlycon=pl011,0x9000000";
const _: () = assert!(platform::UART_BASE == 0x900_0000);

/// Most bytes of a file where the guest has less memory: a kernel may come with debug information.
pub(crate) const LONGEST: u64 = 1 << 30;

/// A file, or what would be in it.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// Content in memory.
    Bytes(Vec<u8>),
    /// Path of a file.
    File(PathBuf),
}

impl Source {
    /// The content; a file may have as many bytes as the guest has memory, or [`LONGEST`].
    fn read(self, what: &'static str, memory: u64) -> Result<Vec<u8>, Error> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::File(path) => crate::input::read(&path, memory.max(LONGEST))
                .map_err(|source| Error::Read { what, path, source }),
        }
    }
}

/// How the guest learns what machine it runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Firmware {
    /// ACPI tables behind an EFI system table, as Hyper-V's own firmware leaves them.
    Acpi,
    /// A device tree.
    DeviceTree,
    /// A device tree that also leads to the EFI system table and so to ACPI: for a program that is firmware to another.
    Both,
}

/// What to build.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    /// The kernel, in one of the known formats.
    pub(crate) kernel: Source,
    /// The initial file system, in any form that the kernel takes.
    pub(crate) initrd: Option<Source>,
    /// The user's part of the command line. Without a `console=` in it, the default console is put before it.
    pub(crate) append: String,
    /// Bytes of guest memory, from [`platform::GUEST_RAM_BASE`]; a multiple of 2 MiB.
    pub(crate) memory: u64,
    /// Virtual processors, 1 to [`platform::MAX_VPS`].
    pub(crate) vps: u32,
    /// What describes the machine.
    pub(crate) firmware: Firmware,
    /// INTID of the VMBus interrupt, a PPI.
    pub(crate) vmbus_intid: u32,
    /// INTID for direct-mode synthetic timers, a PPI.
    pub(crate) stimer_intid: u32,
    /// Entropy for the guest; the same seed gives the same bytes.
    pub(crate) rng_seed: [u8; RNG_SEED_LEN],
}

/// What goes into guest memory before the start. RAM that no segment covers must be zero.
#[derive(Debug)]
pub(crate) struct Image {
    /// Guest physical address and content of each piece; no two overlap, all lie in guest RAM.
    pub(crate) segments: Vec<(u64, Vec<u8>)>,
    /// Where VP 0 starts, at EL1 with the MMU off.
    pub(crate) entry: u64,
    /// X0 of VP 0 at the start: the device tree.
    pub(crate) x0: u64,
    /// The kernel's page size in bytes where its header says it: the CPU model must have that granule.
    pub(crate) page_size: Option<u32>,
    /// The command line, with the defaults.
    pub(crate) command_line: String,
}

/// Builds the guest's memory.
pub(crate) fn build(spec: Spec) -> Result<Image, Error> {
    check(&spec)?;
    let command_line = command_line(&spec.append)?;
    let ram = platform::GUEST_RAM_BASE..platform::GUEST_RAM_BASE + spec.memory;
    let kernel = kernel::load(spec.kernel.read("kernel", spec.memory)?, ram.clone())?;
    let initrd = spec.initrd.map(|initrd| initrd.read("initrd", spec.memory)).transpose()?;

    let places = place(&ram, &kernel, initrd.as_ref().map(Vec::len))?;
    let initrd_range = initrd.as_ref().map(|bytes| places.initrd..places.initrd + bytes.len() as u64);
    let chosen = fdt::Chosen {
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
            let machine = acpi::Machine { vps: spec.vps, vmbus_intid: spec.vmbus_intid };
            let acpi = acpi::build(machine, places.acpi.start);
            let efi = efi::build(places.acpi.start + EFI_OFFSET, acpi.rsdp, &ram, &places.acpi);
            debug_assert!(acpi.bytes.len() as u64 <= EFI_OFFSET, "ACPI tables grew into the EFI tables");
            segments.push((places.acpi.start, acpi.bytes));
            segments.push((places.acpi.start + EFI_OFFSET, efi.bytes));
            if spec.firmware == Firmware::Both {
                fdt::full(&chosen, &ram, spec.vps, Some(efi.system_table))?
            } else {
                fdt::for_acpi(&chosen, efi.system_table, efi.map)?
            }
        }
    };
    debug_assert!(tree.len() as u64 <= FDT_SIZE, "the device tree outgrew its place");
    segments.push((places.fdt, tree));
    if let Some(bytes) = initrd.filter(|bytes| !bytes.is_empty()) {
        segments.push((places.initrd, bytes));
    }
    segments.sort_by_key(|&(gpa, _)| gpa);
    Ok(Image { segments, entry: kernel.entry, x0: places.fdt, page_size: kernel.page_size, command_line })
}

/// Bytes for the ACPI tables; eight VPs take less than 3 KiB.
const EFI_OFFSET: u64 = 48 << 10;
/// Bytes for ACPI and EFI tables together.
const FIRMWARE_SIZE: u64 = 64 << 10;
/// Bytes for the device tree; the longest command line and eight VPs take less than 6 KiB.
const FDT_SIZE: u64 = 64 << 10;

/// Guest physical addresses of all that is not the kernel.
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
        // What alignment may cost on top.
        mib(bytes).saturating_add(2).next_multiple_of(2)
    };
    if need(0) > memory {
        return Err(Error::MemoryTooSmall { memory, need: need(initrd) });
    }
    let too_big = Error::InitrdTooBig { initrd: mib(initrd), memory, need: need(initrd).max(memory + 2) };
    if need(initrd) > memory {
        return Err(too_big);
    }
    let mut layout = Layout::new(ram.clone(), &kernel.footprint);
    match (layout.place(FDT_SIZE), layout.place(FIRMWARE_SIZE), layout.place(initrd)) {
        (Some(fdt), Some(acpi), Some(initrd)) => Ok(Places { acpi, fdt: fdt.start, initrd: initrd.start }),
        // An ELF kernel's segments may leave holes that are big enough only together.
        _ => Err(too_big),
    }
}

/// Refuses what no guest can be built from.
fn check(spec: &Spec) -> Result<(), Error> {
    if spec.memory == 0 || !spec.memory.is_multiple_of(ALIGN_2M) || spec.memory > MAX_MEMORY {
        return Err(Error::MemorySize { memory: spec.memory, max: MAX_MEMORY >> 20 });
    }
    if !(1..=platform::MAX_VPS).contains(&(spec.vps as usize)) {
        return Err(Error::Vps { vps: spec.vps, max: platform::MAX_VPS });
    }
    let taken = [
        platform::VIRTUAL_TIMER_INTID,
        platform::PHYSICAL_TIMER_INTID,
        platform::HYPERVISOR_TIMER_INTID,
        platform::MAINTENANCE_INTID,
    ];
    for (what, intid) in [("VMBus", spec.vmbus_intid), ("synthetic timers", spec.stimer_intid)] {
        if !(16..32).contains(&intid) || taken.contains(&intid) {
            return Err(Error::Intid { what, intid });
        }
    }
    if spec.vmbus_intid == spec.stimer_intid {
        return Err(Error::Intid { what: "synthetic timers", intid: spec.stimer_intid });
    }
    Ok(())
}

fn command_line(append: &str) -> Result<String, Error> {
    let has_console = append.split_whitespace().any(|word| word.starts_with("console="));
    let line = match (has_console, append.trim()) {
        (true, append) => append.to_owned(),
        (false, "") => CONSOLE.to_owned(),
        (false, append) => format!("{CONSOLE} {append}"),
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
mod test;
