//! Boots of the stock kernel to its first user process, with and without the hypervisor: the same kernel, initramfs,
//! firmware tables and QEMU.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use hv_machine::Firmware;
use hv_machine::initrd::{Archive, Module};

use super::Figure;
use super::machine::{self, Guest, MEMORY, Setup};
use super::programs;
use crate::boot::modules::Modules;
use crate::setup::cache::Cache;
use crate::setup::stock::{self, Stock};
use crate::ui;

/// The kernel prints nothing, and does not test its ciphers, which would take longer than everything else.
const APPEND: &str = "console=ttyAMA0 quiet nokaslr cryptomgr.notests panic=-1";

/// The drivers of disk and network card; what they depend on comes with them.
const MODULES: [&str; 3] = ["hv_storvsc", "sd_mod", "hv_netvsc"];

/// RAM of the largest machine that is measured.
const LARGE: u64 = 64 << 30;

/// Boots in virtual time, and `wall` times in wall-clock time.
pub(super) fn run(setup: &Setup, init: &Path, in_virtual: bool, wall: u32) -> anyhow::Result<Vec<Figure>> {
    let (kernel, _) = stock::kernel(&Cache::open()?, Stock::Cloud612)?;
    let init = std::fs::read(init).with_context(|| format!("cannot read {}", init.display()))?;
    let guest = stock_guest(kernel.image, archive(&init, &[])?);
    let observed = Guest { observed: true, ..guest.clone() };
    let boot = |hosted, deterministic| boot(setup, &guest, hosted, deterministic);
    let task = ui::Task::quiet("Booting Linux");
    let mut figures = Vec::new();
    let milliseconds = |nanoseconds: u64| nanoseconds as f64 / 1e6;
    if in_virtual {
        let (with, without) = (boot(true, true)?.counted, boot(false, true)?.counted);
        figures.push(Figure::new("boot-virtual", with as f64 / without as f64));
        figures.push(Figure::new("boot-virtual-ms", milliseconds(with)));
        figures.push(Figure::new("boot-virtual-direct-ms", milliseconds(without)));
    }
    if wall == 0 {
        return Ok(figures);
    }
    let [mut with, mut without, mut watched] = [Took::MAX; 3];
    for number in 1..=wall {
        task.say(format!("Booting Linux, {number} of {wall}"));
        with = with.min(boot(true, false)?);
        without = without.min(boot(false, false)?);
        watched = watched.min(self::boot(setup, &observed, true, false)?);
    }
    figures.push(Figure::new("boot-wall", with.counted as f64 / without.counted as f64));
    figures.push(Figure::new("boot-wall-observed", watched.counted as f64 / with.counted as f64));
    figures.push(Figure::new("boot-wall-ms", milliseconds(with.counted)));
    figures.push(Figure::new("boot-wall-direct-ms", milliseconds(without.counted)));
    figures.push(Figure::new("boot-processor", with.processor as f64 / without.processor as f64));
    figures.push(Figure::new("boot-processor-ms", milliseconds(with.processor)));
    Ok(figures)
}

/// Boots a machine with 64 GiB of RAM, with and without the hypervisor, in wall-clock time.
pub(super) fn large(setup: &Setup, init: &Path, runs: u32) -> anyhow::Result<Vec<Figure>> {
    let (kernel, _) = stock::kernel(&Cache::open()?, Stock::Cloud612)?;
    let init = std::fs::read(init).with_context(|| format!("cannot read {}", init.display()))?;
    let guest = Guest { memory: LARGE, ..stock_guest(kernel.image, archive(&init, &[])?) };
    let task = ui::Task::quiet("Booting Linux with 64 GiB");
    let [mut with, mut without] = [Took::MAX; 2];
    for number in 1..=runs {
        task.say(format!("Booting Linux with 64 GiB, {number} of {runs}"));
        with = with.min(boot(setup, &guest, true, false)?);
        without = without.min(boot(setup, &guest, false, false)?);
    }
    Ok(vec![Figure::new("boot-large", with.counted as f64 / without.counted as f64)])
}

/// Returns the stock kernel with this initramfs, on one VP.
fn stock_guest(kernel: PathBuf, initrd: Vec<u8>) -> Guest {
    Guest {
        kernel,
        initrd: Some(initrd),
        append: APPEND.to_owned(),
        vps: 1,
        memory: MEMORY,
        firmware: Firmware::Acpi,
        disk: false,
        network: false,
        observed: false,
    }
}

/// Counts what requests take in the stock kernel, by the program `cost-init`.
pub(super) fn drivers(setup: &Setup, init: &Path) -> anyhow::Result<Vec<Figure>> {
    let cache = Cache::open()?;
    let (kernel, _) = stock::kernel(&cache, Stock::Cloud612)?;
    let modules = Modules::open(&stock::drivers(&cache, Stock::Cloud612)?, None)?;
    let modules = modules.load(&MODULES.map(str::to_owned))?;
    let init = std::fs::read(init).with_context(|| format!("cannot read {}", init.display()))?;
    let guest = Guest {
        kernel: kernel.image,
        initrd: Some(archive(&init, &modules)?),
        append: APPEND.to_owned(),
        vps: 1,
        memory: MEMORY,
        firmware: Firmware::Acpi,
        disk: true,
        network: true,
        observed: false,
    };
    let _task = ui::Task::quiet("Counting Linux's instructions");
    programs::figures(&setup.boot(&guest, true, true)?)
}

/// Makes an initramfs of a program, and of modules in the order in which it loads them.
fn archive(init: &[u8], modules: &[Module]) -> anyhow::Result<Vec<u8>> {
    let mut archive = Archive::new();
    archive.dir("dev")?;
    archive.character_device("dev/console", 5, 1)?;
    archive.file("init", 0o755, init)?;
    archive.dir("modules")?;
    for (number, module) in modules.iter().enumerate() {
        archive.file(&format!("modules/{number}"), 0o644, &module.bytes)?;
    }
    Ok(archive.finish()?)
}

/// Duration of a boot in nanoseconds.
#[derive(Clone, Copy)]
struct Took {
    /// From the machine's start to /init, by the machine's counter.
    counted: u64,
    /// Host CPU time for the whole run.
    processor: u64,
}

impl Took {
    const MAX: Self = Self { counted: u64::MAX, processor: u64::MAX };

    /// Returns the minimum of each.
    fn min(self, other: Self) -> Self {
        Self { counted: self.counted.min(other.counted), processor: self.processor.min(other.processor) }
    }
}

fn boot(setup: &Setup, guest: &Guest, hosted: bool, deterministic: bool) -> anyhow::Result<Took> {
    let before = children()?;
    let outcome = setup.boot(guest, hosted, deterministic)?;
    let processor = children()?.saturating_sub(before);
    let lines = machine::said(&outcome, "boot ")?;
    let counted = lines.into_iter().find(|line| line.starts_with("boot ")).unwrap_or_default();
    // The guest's counter starts with its partition; the hypervisor's start-up counts as well.
    let report = &outcome.report;
    let before =
        u128::from(report.start_counter) * 1_000_000_000 / u128::from(report.counter_frequency.max(1));
    Ok(Took { counted: machine::figure(counted)?.1 + u64::try_from(before)?, processor })
}

/// Returns the CPU time of finished children and their descendants in nanoseconds.
fn children() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/self/stat").context("cannot read /proc/self/stat")?;
    // proc(5): cutime and cstime are fields 16 and 17; the second field is a name that may contain spaces.
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(13).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(ticks * (1_000_000_000 / rustix::param::clock_ticks_per_second()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_of_children_that_ended_counts() {
        let before = children().unwrap();
        let busy = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        let status = std::process::Command::new("sh").args(["-c", busy]).status();
        assert!(status.unwrap().success());
        assert!(children().unwrap() > before);
    }
}
