//! The stock kernel to its first user process, with the hypervisor and without: the same kernel, initial file system,
//! firmware tables and QEMU.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hv_wire::{BootInfo, platform};
use zerocopy::FromZeros as _;

use super::programs::{self, PREFIX};
use super::{Figure, Setup};
use crate::boot::{CPU, STIMER_INTID, VMBUS_INTID};
use crate::guest::initrd::Archive;
use crate::guest::{self, Firmware, Image, RNG_SEED_LEN, Source, Spec};
use crate::machine::{DIRECT_START, Ram, Running, Settings, Sink};
use crate::setup::cache::Cache;
use crate::setup::stock::{self, Stock};
use crate::{interrupt, ui};

/// The kernel says nothing, and does not test its ciphers, which takes longer than all the rest.
const APPEND: &str = "console=ttyAMA0 quiet nokaslr cryptomgr.notests panic=-1";
const MEMORY: u64 = 512 << 20;
const LIMIT: Duration = Duration::from_secs(240);

/// A kernel and what it boots with.
struct Boot<'a> {
    setup: &'a Setup,
    kernel: &'a Path,
    /// An archive with our /init alone.
    initrd: Vec<u8>,
}

/// Boots in virtual time, and `wall` times by the host's clock.
pub(super) fn run(setup: &Setup, init: &Path, in_virtual: bool, wall: u32) -> anyhow::Result<Vec<Figure>> {
    let (kernel, _) = stock::kernel(&Cache::open()?, Stock::Cloud612)?;
    let init = std::fs::read(init).with_context(|| format!("cannot read {}", init.display()))?;
    let boot = Boot { setup, kernel: &kernel.image, initrd: archive(&init)? };
    let task = ui::Task::quiet("Booting Linux");
    let mut figures = Vec::new();
    let milliseconds = |nanoseconds: u64| nanoseconds as f64 / 1e6;
    if in_virtual {
        let (with, without) = (boot.run(true, true)?.counted, boot.run(false, true)?.counted);
        figures.push(("boot-virtual", with as f64 / without as f64));
        figures.push(("boot-virtual-ms", milliseconds(with)));
        figures.push(("boot-virtual-direct-ms", milliseconds(without)));
    }
    if wall == 0 {
        return Ok(figures);
    }
    let (mut with, mut without) = (Took::MAX, Took::MAX);
    for number in 1..=wall {
        task.say(format!("Booting Linux, {number} of {wall}"));
        with = with.min(boot.run(true, false)?);
        without = without.min(boot.run(false, false)?);
    }
    figures.push(("boot-wall", with.counted as f64 / without.counted as f64));
    figures.push(("boot-wall-ms", milliseconds(with.counted)));
    figures.push(("boot-wall-direct-ms", milliseconds(without.counted)));
    figures.push(("boot-processor", with.processor as f64 / without.processor as f64));
    figures.push(("boot-processor-ms", milliseconds(with.processor)));
    Ok(figures)
}

fn archive(init: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut archive = Archive::new();
    archive.dir("dev")?;
    archive.character_device("dev/console", 5, 1)?;
    archive.file("init", 0o755, init)?;
    Ok(archive.finish()?)
}

/// What a boot took, in nanoseconds.
struct Took {
    /// From the machine's start to /init, by the machine's counter.
    counted: u64,
    /// Of the host's processors, for the whole run.
    processor: u64,
}

impl Took {
    const MAX: Self = Self { counted: u64::MAX, processor: u64::MAX };

    /// The lesser of each.
    fn min(self, other: Self) -> Self {
        Self { counted: self.counted.min(other.counted), processor: self.processor.min(other.processor) }
    }
}

impl Boot<'_> {
    fn run(&self, hosted: bool, deterministic: bool) -> anyhow::Result<Took> {
        let mut image = guest::build(Spec {
            kernel: Source::File(self.kernel.into()),
            initrd: Some(Source::Bytes(self.initrd.clone())),
            append: APPEND.to_owned(),
            memory: MEMORY,
            vps: 1,
            firmware: Firmware::Acpi,
            vmbus_intid: VMBUS_INTID,
            stimer_intid: STIMER_INTID,
            rng_seed: [0x5a; RNG_SEED_LEN],
        })?;
        if !hosted {
            take_identity(&mut image)?;
        }
        let ram = Ram::new(platform::GUEST_RAM_BASE - platform::RAM_BASE + MEMORY)?;
        for (address, bytes) in &image.segments {
            ram.write(*address, bytes)?;
        }
        ram.put_boot_info(&orders(&image))?;
        ram.write(DIRECT_START, &trampoline(&image))?;
        let settings = Settings {
            qemu: self.setup.qemu.clone(),
            hypervisor: hosted.then(|| self.setup.hypervisor.clone()),
            cpu: CPU.to_owned(),
            vps: 1,
            deterministic,
            gdb: None,
            timeout: Some(LIMIT),
        };
        let before = children()?;
        let outcome = Running::start(&settings, ram, Sink::Nowhere, None)?.wait()?;
        let processor = children()?.saturating_sub(before);
        interrupt::check()?;
        let counted = programs::value(&outcome.console, "boot").with_context(|| {
            format!(
                "the kernel did not come to /init: no `{PREFIX}boot` from it; {}",
                outcome.complaints.trim()
            )
        })?;
        // The guest's counter starts with its partition; what the hypervisor did before counts, too.
        let report = &outcome.report;
        let before =
            u128::from(report.start_counter) * 1_000_000_000 / u128::from(report.counter_frequency.max(1));
        Ok(Took { counted: counted + u64::try_from(before)?, processor })
    }
}

/// What the hypervisor is told. Nobody reads it where there is none.
fn orders(image: &Image) -> BootInfo {
    BootInfo {
        magic: BootInfo::MAGIC,
        version: hv_wire::VERSION,
        vps: 1,
        entry: image.entry,
        entry_x0: image.x0,
        ram_base: platform::GUEST_RAM_BASE,
        ram_size: MEMORY,
        vmbus_intid: VMBUS_INTID,
        stimer_intid: STIMER_INTID,
        ..BootInfo::new_zeroed()
    }
}

/// Processor time of the children that have ended, and of theirs, in nanoseconds.
fn children() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/self/stat").context("cannot read /proc/self/stat")?;
    // proc(5): cutime and cstime are fields 16 and 17; the second is a name, which may hold spaces.
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(13).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(ticks * (1_000_000_000 / rustix::param::clock_ticks_per_second()))
}

/// Code that enters the kernel: X0 is the device tree.
fn trampoline(image: &Image) -> Vec<u8> {
    // ldr x0, #16 · ldr x1, #20 · br x1 · nop; the two words follow.
    const CODE: [u32; 4] = [0x5800_0080, 0x5800_00a1, 0xd61f_0020, 0xd503_201f];
    let mut bytes: Vec<u8> = CODE.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.extend(image.x0.to_le_bytes());
    bytes.extend(image.entry.to_le_bytes());
    bytes
}

/// Takes Hyper-V's name out of the FADT: a kernel that finds it makes hypercalls, and nobody answers them here.
fn take_identity(image: &mut Image) -> anyhow::Result<()> {
    const NAME: &[u8; 8] = b"MsHyperV";
    /// Offsets in the FADT (ACPI specification, "Fixed ACPI Description Table").
    const IDENTITY: usize = 268;
    const CHECKSUM: usize = 9;
    for (_, bytes) in &mut image.segments {
        let Some(start) = bytes.windows(4).position(|word| word == b"FACP") else { continue };
        let Some(identity) = bytes.get_mut(start + IDENTITY..start + IDENTITY + NAME.len()) else { continue };
        if *identity == *NAME {
            identity.fill(0);
            let sum = NAME.iter().fold(0, |sum: u8, &byte| sum.wrapping_add(byte));
            bytes[start + CHECKSUM] = bytes[start + CHECKSUM].wrapping_add(sum);
            return Ok(());
        }
    }
    bail!("the firmware tables have no FADT with Hyper-V's identity")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Image {
        Image {
            segments: Vec::new(),
            entry: 0x1122,
            x0: 0x3344,
            page_size: None,
            command_line: String::new(),
        }
    }

    #[test]
    fn time_of_children_that_ended_counts() {
        let before = children().unwrap();
        let busy = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        let status = std::process::Command::new("sh").args(["-c", busy]).status();
        assert!(status.unwrap().success());
        assert!(children().unwrap() > before);
    }

    #[test]
    fn a_fadt_without_identity_has_a_right_checksum() {
        let mut table = vec![0; 276];
        table[..4].copy_from_slice(b"FACP");
        table[268..].copy_from_slice(b"MsHyperV");
        table[9] = table.iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte)).wrapping_neg();
        let mut image = Image {
            segments: vec![(0, table)],
            entry: 0,
            x0: 0,
            page_size: None,
            command_line: String::new(),
        };
        take_identity(&mut image).unwrap();
        let table = &image.segments[0].1;
        assert_eq!(table[268..], [0; 8]);
        assert_eq!(table.iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte)), 0);
        assert!(take_identity(&mut image).is_err());
    }

    #[test]
    fn the_trampoline_ends_with_what_it_loads() {
        let code = trampoline(&image());
        assert_eq!(code.len(), 32);
        assert_eq!(code[16..24], 0x3344u64.to_le_bytes());
        assert_eq!(code[24..], 0x1122u64.to_le_bytes());
    }
}
