//! The measuring guest program, and the hypervisor's size.

use std::path::Path;

use anyhow::Context as _;
use elf::ElfBytes;
use elf::abi::PT_LOAD;
use elf::endian::LittleEndian;
use hv_machine::Firmware;

use super::lines::{self, Group};
use super::machine::{self, Guest, MEMORY, Setup};
use super::{Choice, Figure};
use crate::machine::Outcome;

/// Runs the program for a group of figures, and collects them.
pub(super) fn run(
    setup: &Setup,
    program: &Path,
    group: Group,
    choice: &Choice,
) -> anyhow::Result<Vec<Figure>> {
    let mut figures = figures(&boot(setup, program, group, &append(group, choice))?)?;
    figures.extend(without_copy(&figures));
    Ok(figures)
}

/// Returns the program's command line. It has a part of the names only, and measures what it finds devices for.
fn append(group: Group, choice: &Choice) -> String {
    let Choice { filter, exact, rounds, slower } = choice;
    let filter = filter.as_str();
    let (only, exact) = match group {
        _ if filter == BARE => ("disk-read", false),
        _ if *exact => (filter, true),
        Group::Network if FRAME.contains(filter) => (FRAME, false),
        _ if BARE.contains(filter) => (filter.trim_end_matches("-bare"), false),
        _ => (filter, false),
    };
    let mut line = format!("bench.rounds={rounds} bench.slower={slower}");
    if !only.is_empty() {
        line += &format!(" bench.only={only}");
    }
    line + if exact { " bench.exact=1" } else { "" }
}

/// Returns the figures that a program has printed.
pub(super) fn figures(outcome: &Outcome) -> anyhow::Result<Vec<Figure>> {
    let said = machine::said(outcome, "done")?;
    let figures = said.into_iter().filter(|line| *line != "done").map(|line| {
        let (name, value, repetitions) = machine::figure(line)?;
        let line = lines::find(name)
            .with_context(|| format!("the program reports the unknown figure {name}; build it again"))?;
        Ok(Figure { repetitions, ..Figure::new(line.name, value as f64) })
    });
    figures.collect()
}

/// What the names of all figures of frames have.
const FRAME: &str = "net-frame";
/// The read without the copy.
const BARE: &str = "disk-read-bare";

/// Returns the cost of a read without its copy: two reads of different lengths tell what a byte costs.
fn without_copy(figures: &[Figure]) -> Option<Figure> {
    let of = |name: &str| figures.iter().find(|had| had.name == name).map(|had| had.value);
    let (page, block) = (of("disk-read")?, of("disk-read-512")?);
    // 4096 bytes are eight times 512.
    Some(Figure::new(BARE, (block - (page - block) / 7.0).round()))
}

fn boot(setup: &Setup, program: &Path, group: Group, append: &str) -> anyhow::Result<Outcome> {
    let vps = if matches!(group, Group::OneVp | Group::Network | Group::Drivers) { 1 } else { 8 };
    boot_with(setup, program, group, append, vps)
}

/// Boots a program with this many VPs, and what a group needs.
fn boot_with(setup: &Setup, program: &Path, group: Group, append: &str, vps: u32) -> anyhow::Result<Outcome> {
    let guest = Guest {
        kernel: program.into(),
        initrd: None,
        append: append.to_owned(),
        vps,
        memory: MEMORY,
        firmware: Firmware::DeviceTree,
        disk: matches!(group, Group::OneVp | Group::Drivers),
        network: matches!(group, Group::Network | Group::Drivers),
        observed: false,
    };
    setup.boot(&guest, true, true)
}

/// Names of the figures of memory use, and their numbers of VPs.
const MEMORY_USE: [(&str, u32); 4] = [("memory-1", 1), ("memory", 8), ("memory-64", 64), ("memory-120", 120)];

/// Measures the hypervisor's size: the loaded bytes of its image, and its memory use.
pub(super) fn sizes(setup: &Setup, program: &Path, choice: &Choice) -> anyhow::Result<Vec<Figure>> {
    let explain = || format!("cannot read {}", setup.hypervisor.display());
    let file = std::fs::read(&setup.hypervisor).with_context(explain)?;
    let elf = ElfBytes::<LittleEndian>::minimal_parse(&file).with_context(explain)?;
    let segments = elf.segments().with_context(explain)?;
    let image: u64 = segments.iter().filter(|part| part.p_type == PT_LOAD).map(|part| part.p_filesz).sum();
    let kib = |bytes: u64| (bytes as f64 / 1024.0).ceil();
    let mut figures = vec![Figure::new("image", kib(image))];
    for (name, vps) in MEMORY_USE.into_iter().filter(|(name, _)| choice.wants(name)) {
        // No operation has this in its name, so the program ends at once.
        let outcome = boot_with(setup, program, Group::Memory, "bench.only=(none)", vps)?;
        machine::said(&outcome, "done")?;
        figures.push(Figure::new(name, kib(outcome.report.memory_used)));
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_is_taken_off_by_the_bytes() {
        // 1000 and a half for each byte.
        let (page, block) = (Figure::new("disk-read", 3048.0), Figure::new("disk-read-512", 1256.0));
        assert_eq!(without_copy(&[page, block]), Some(Figure::new(BARE, 1000.0)));
        assert_eq!(without_copy(&[page]), None);
    }
}
