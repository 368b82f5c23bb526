//! The guest program that counts, and the hypervisor's own size.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context as _, bail};
use elf::ElfBytes;
use elf::abi::PT_LOAD;
use elf::endian::LittleEndian;
use hv_wire::Report;
use zerocopy::FromBytes as _;

use super::lines;
use super::{Figure, Setup};
use crate::machine::child;
use crate::process;

/// How the lines of a program start that measures.
pub(super) const PREFIX: &str = "bench: ";

/// What a run left.
struct Left {
    console: String,
    report: Box<Report>,
}

/// Boots something with `hv boot` to its end.
fn boot(setup: &Setup, options: &[OsString]) -> anyhow::Result<Left> {
    let dir = tempfile::Builder::new().prefix("hv-bench-").tempdir()?;
    let mut line: Vec<OsString> = ["boot", "--quiet", "--timeout", "240", "--keep"].map(Into::into).into();
    line.push(dir.path().into());
    line.extend(["--qemu".into(), setup.qemu.clone().into()]);
    line.extend(["--hypervisor".into(), setup.hypervisor.clone().into()]);
    line.extend_from_slice(options);
    let mut command = child::tied(Path::new(child::SELF), &line);
    let done = process::run(&mut command, || {})?;
    let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap_or_default();
    let console = String::from_utf8_lossy(&read("console.txt")).into_owned();
    if !done.status.success() {
        let last = console.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("(nothing)");
        bail!("{}; the console's last line: {last}", done.complaint("hv boot: "));
    }
    let (report, _) = Report::read_from_prefix(&read("report.bin"))
        .map_err(|_| anyhow::anyhow!("hv boot left a report that is too short"))?;
    Ok(Left { console, report: Box::new(report) })
}

/// Runs the program and collects what it counted.
pub(super) fn run(setup: &Setup, program: &Path, vps: u32, filter: &str) -> anyhow::Result<Vec<Figure>> {
    let left = boot(setup, &options(program, vps, filter))?;
    figures(&left.console)
}

fn options(program: &Path, vps: u32, filter: &str) -> Vec<OsString> {
    let mut options: Vec<OsString> = ["--deterministic", "--firmware", "dt", "--vps"].map(Into::into).into();
    options.extend([vps.to_string().into(), "--kernel".into(), program.into()]);
    if !filter.is_empty() {
        options.extend(["--append".into(), format!("bench.only={filter}").into()]);
    }
    options
}

/// The figures that a console shows.
fn figures(console: &str) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for text in console.lines().filter_map(|line| line.trim_end().strip_prefix(PREFIX)) {
        if text == "done" {
            return Ok(figures);
        }
        let figure = text
            .split_once(' ')
            .and_then(|(name, value)| Some((lines::find(name)?.name, value.parse::<u64>().ok()? as f64)));
        figures.push(figure.with_context(|| format!("the program says {text:?}, which is no figure"))?);
    }
    bail!("the program ended before it was done")
}

/// The value that one line has.
pub(super) fn value(console: &str, name: &str) -> Option<u64> {
    let mut lines = console.lines().filter_map(|line| line.trim_end().strip_prefix(PREFIX));
    lines.find_map(|text| text.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// What the hypervisor takes: the bytes of its image that are loaded, and what it uses of memory with eight VPs.
pub(super) fn sizes(setup: &Setup, program: &Path) -> anyhow::Result<Vec<Figure>> {
    let explain = || format!("cannot read {}", setup.hypervisor.display());
    let file = std::fs::read(&setup.hypervisor).with_context(explain)?;
    let elf = ElfBytes::<LittleEndian>::minimal_parse(&file).with_context(explain)?;
    let segments = elf.segments().with_context(explain)?;
    let image: u64 = segments.iter().filter(|part| part.p_type == PT_LOAD).map(|part| part.p_filesz).sum();
    // No operation has this in its name, so the program ends at once.
    let left = boot(setup, &options(program, 8, "(none)"))?;
    let kib = |bytes: u64| (bytes as f64 / 1024.0).ceil();
    Ok(vec![("image", kib(image)), ("memory", kib(left.report.memory_used))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_among_other_lines() {
        let console = "boot\r\nbench: fast-get-smccc 130\r\nnoise\nbench: eom 221\nbench: done\nbench: x\n";
        assert_eq!(figures(console).unwrap(), [("fast-get-smccc", 130.0), ("eom", 221.0)]);
    }

    #[test]
    fn a_program_that_is_not_done_or_says_nonsense_has_no_figures() {
        for console in
            ["", "bench: eom 1\n", "bench: eom x\nbench: done\n", "bench: nothing 1\nbench: done\n"]
        {
            assert!(figures(console).is_err(), "{console}");
        }
    }
}
