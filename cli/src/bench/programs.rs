//! The measuring guest program, and the hypervisor's size.

use std::path::Path;

use anyhow::Context as _;
use elf::ElfBytes;
use elf::abi::PT_LOAD;
use elf::endian::LittleEndian;
use hv_machine::Firmware;

use super::machine::{self, Guest, Setup};
use super::{Figure, lines};
use crate::machine::Outcome;

/// Runs the program and collects its figures.
pub(super) fn run(setup: &Setup, program: &Path, vps: u32, filter: &str) -> anyhow::Result<Vec<Figure>> {
    let outcome = boot(setup, program, vps, filter)?;
    let said = machine::said(&outcome, "done")?;
    let figures = said.into_iter().filter(|line| *line != "done").map(|line| {
        let (name, value) = machine::figure(line)?;
        let line = lines::find(name)
            .with_context(|| format!("the program reports the unknown figure {name}; build it again"))?;
        Ok((line.name, value as f64))
    });
    figures.collect()
}

fn boot(setup: &Setup, program: &Path, vps: u32, filter: &str) -> anyhow::Result<Outcome> {
    let append = if filter.is_empty() { String::new() } else { format!("bench.only={filter}") };
    let firmware = Firmware::DeviceTree;
    setup.boot(&Guest { kernel: program.into(), initrd: None, append, vps, firmware }, true, true)
}

/// Measures the hypervisor's size: the loaded bytes of its image, and its memory use with eight VPs.
pub(super) fn sizes(setup: &Setup, program: &Path) -> anyhow::Result<Vec<Figure>> {
    let explain = || format!("cannot read {}", setup.hypervisor.display());
    let file = std::fs::read(&setup.hypervisor).with_context(explain)?;
    let elf = ElfBytes::<LittleEndian>::minimal_parse(&file).with_context(explain)?;
    let segments = elf.segments().with_context(explain)?;
    let image: u64 = segments.iter().filter(|part| part.p_type == PT_LOAD).map(|part| part.p_filesz).sum();
    // No operation has this in its name, so the program ends at once.
    let outcome = boot(setup, program, 8, "(none)")?;
    machine::said(&outcome, "done")?;
    let kib = |bytes: u64| (bytes as f64 / 1024.0).ceil();
    Ok(vec![("image", kib(image)), ("memory", kib(outcome.report.memory_used))])
}
