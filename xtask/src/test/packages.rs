//! Programs of Debian's arm64 packages in a stock guest: their view of the machine.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use elf::ElfBytes;
use elf::abi::{DT_NEEDED, PT_INTERP};
use elf::endian::LittleEndian;
use hv_machine::initrd::Archive;

use super::context::{Booted, Context, read};
use super::runner::Step;
use hv_setup::cache::Cache;
use hv_setup::exit::Exit;
use hv_setup::{guest, stock};

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    vec![
        Step::new("packages/systemd-detect-virt", detect_virt).slow(),
        Step::new("packages/perf", perf).slow(),
    ]
}

/// The loader's default folders for libraries.
const LIBRARIES: &str = "lib/aarch64-linux-gnu";

/// A program and its libraries, by path in a guest's file system.
struct Program<'a> {
    root: &'a Path,
    /// Files of the packages by name.
    names: BTreeMap<String, PathBuf>,
    files: BTreeMap<String, Vec<u8>>,
}

impl<'a> Program<'a> {
    /// Describes the program at a path below the root of unpacked packages.
    fn new(root: &'a Path, path: &str) -> anyhow::Result<Self> {
        let mut names = BTreeMap::new();
        for folder in ["lib", "usr/lib"] {
            index(&root.join(folder), &mut names)?;
        }
        let mut program = Self { root, names, files: BTreeMap::new() };
        let bytes = read(&root.join(path))?;
        let loader = interpreter(&bytes)?;
        program.add(path.to_owned(), bytes)?;
        let name = loader.rsplit('/').next().unwrap_or_default().to_owned();
        let bytes = program.library(&name)?;
        program.files.insert(loader.trim_start_matches('/').to_owned(), bytes);
        Ok(program)
    }

    fn library(&self, name: &str) -> anyhow::Result<Vec<u8>> {
        let file = self.names.get(name);
        read(file.with_context(|| format!("no package in {} has {name}", self.root.display()))?)
    }

    /// Adds a file, and its libraries.
    fn add(&mut self, path: String, bytes: Vec<u8>) -> anyhow::Result<()> {
        let wanted = needed(&bytes)?;
        self.files.insert(path, bytes);
        for name in wanted {
            let path = format!("{LIBRARIES}/{name}");
            if !self.files.contains_key(&path) {
                let bytes = self.library(&name)?;
                self.add(path, bytes)?;
            }
        }
        Ok(())
    }
}

/// Records every file and link below a folder by name.
fn index(folder: &Path, names: &mut BTreeMap<String, PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            index(&entry.path(), names)?;
        } else if entry.path().is_file() {
            names.entry(entry.file_name().to_string_lossy().into_owned()).or_insert(entry.path());
        }
    }
    Ok(())
}

/// Returns the loader that a program names.
fn interpreter(program: &[u8]) -> anyhow::Result<String> {
    let file = ElfBytes::<LittleEndian>::minimal_parse(program)?;
    let segment = file.segments().and_then(|table| table.iter().find(|segment| segment.p_type == PT_INTERP));
    let name = file.segment_data(&segment.context("the program names no loader")?)?;
    Ok(String::from_utf8_lossy(name).trim_end_matches('\0').to_owned())
}

/// Returns the names of the libraries that a program or library needs.
fn needed(object: &[u8]) -> anyhow::Result<Vec<String>> {
    let file = ElfBytes::<LittleEndian>::minimal_parse(object)?;
    let (Some(table), common) = (file.dynamic()?, file.find_common_data()?) else { return Ok(Vec::new()) };
    let strings = common.dynsyms_strs.context("an object without names")?;
    let wanted = table.iter().filter(|entry| entry.d_tag == DT_NEEDED);
    wanted.map(|entry| Ok(strings.get(entry.d_val() as usize)?.to_owned())).collect()
}

/// Boots a stock kernel with the program of a package, and has busybox's shell run `script`.
fn run(
    context: &Context,
    package: &str,
    program: &str,
    script: &str,
    options: &[&str],
) -> anyhow::Result<Booted> {
    let initrd = initrd(context, package, &[program], &[], script)?;
    let initrd = initrd.to_string_lossy();
    let booted = context.boot(&[&["--initrd", &*initrd], options].concat())?;
    booted.ended(Exit::Success, "power-off")?;
    Ok(booted)
}

/// Builds an initial file system with programs of a package, and with these files, in which busybox's shell runs
/// `script`.
pub(super) fn initrd(
    context: &Context,
    package: &str,
    programs: &[&str],
    files: &[(String, Vec<u8>)],
    script: &str,
) -> anyhow::Result<PathBuf> {
    initrd_of(context, &[package], programs, &[], files, script)
}

/// Builds the same of several packages, and with other files of theirs, or everything below a folder.
pub(crate) fn initrd_of(
    context: &Context,
    packages: &[&str],
    programs: &[&str],
    others: &[&str],
    files: &[(String, Vec<u8>)],
    script: &str,
) -> anyhow::Result<PathBuf> {
    let cache = Cache::open()?;
    let folder = context.folder()?;
    let root = folder.join("root");
    guest::unpack(&cache, packages, &root)?;
    let mut found: BTreeMap<String, Vec<u8>> = files.iter().cloned().collect();
    for program in programs {
        found.extend(Program::new(&root, program)?.files);
    }
    for other in others {
        add(&root, Path::new(other), &mut found)?;
    }
    fs::remove_dir_all(&root)?;
    archive(&folder, &found, script)
}

/// Builds an initial file system with these files alone, in which busybox's shell runs `script`.
pub(super) fn script(
    context: &Context,
    files: &[(String, Vec<u8>)],
    script: &str,
) -> anyhow::Result<PathBuf> {
    archive(&context.folder()?, &files.iter().cloned().collect(), script)
}

fn archive(folder: &Path, found: &BTreeMap<String, Vec<u8>>, script: &str) -> anyhow::Result<PathBuf> {
    let mut archive = Archive::new();
    let mut folders = vec!["dev", "proc", "sys", "tmp", "usr", "etc"];
    for path in found.keys().map(Path::new).chain([Path::new("bin/busybox")]) {
        let above: Vec<_> = path.ancestors().skip(1).filter_map(Path::to_str).collect();
        folders.extend(above.into_iter().filter(|folder| !folder.is_empty()));
    }
    folders.sort_unstable();
    folders.dedup();
    folders.iter().try_for_each(|folder| archive.dir(folder))?;
    archive.character_device("dev/console", 5, 1)?;
    archive.file("bin/busybox", 0o755, &read(&stock::busybox(&Cache::open()?)?)?)?;
    for (path, bytes) in found {
        archive.file(path, 0o755, bytes)?;
    }
    let head = "#!/bin/busybox sh\n\
        export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/tmp\n\
        for name in $(busybox --list); do [ -e /bin/$name ] || busybox ln -s busybox /bin/$name; done\n\
        mount -t proc proc /proc\nmount -t sysfs sysfs /sys\nmount -t devtmpfs devtmpfs /dev\n";
    archive.file("init", 0o755, format!("{head}{script}\npoweroff -f\n").as_bytes())?;
    let initrd = folder.join("initrd");
    fs::write(&initrd, archive.finish()?)?;
    Ok(initrd)
}

/// Adds a file of the packages, or every file below a folder. Links in it are left out: they may lead out of the
/// packages.
fn add(root: &Path, path: &Path, found: &mut BTreeMap<String, Vec<u8>>) -> anyhow::Result<()> {
    let file = root.join(path);
    let kind = fs::symlink_metadata(&file).with_context(|| format!("no package has {}", path.display()))?;
    if kind.is_dir() {
        for entry in fs::read_dir(&file)? {
            add(root, &path.join(entry?.file_name()), found)?;
        }
    } else if kind.is_file() {
        found.insert(path.to_string_lossy().into_owned(), read(&file)?);
    }
    Ok(())
}

/// Returns programs of packages, and the libraries that they need, by path in a guest's file system.
pub(crate) fn unpacked(
    context: &Context,
    packages: &[&str],
    programs: &[&str],
) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let root = context.folder()?.join("root");
    guest::unpack(&Cache::open()?, packages, &root)?;
    let mut files = BTreeMap::new();
    for program in programs {
        files.extend(Program::new(&root, program)?.files);
    }
    fs::remove_dir_all(&root)?;
    Ok(files)
}

/// Checks that systemd takes the machine for Hyper-V, and so do the units and cloud images that ask it.
fn detect_virt(context: &Context) -> anyhow::Result<()> {
    let script = "echo \"virt: $(systemd-detect-virt)\"";
    let booted = run(context, "systemd", "usr/bin/systemd-detect-virt", script, &[])?;
    booted.says("virt: microsoft")
}

/// Checks that `perf stat` counts, and that `perf record` takes a sample for each period of cycles. Instructions are
/// time, so the numbers are always the same.
///
/// Of samples by instructions QEMU gives less than a tenth, with this hypervisor and without (7.2 and 11.1, `-M virt
/// -icount shift=0`: 3 samples in 8,000,000 instructions with one each 100,000, and 80 by cycles).
fn perf(context: &Context) -> anyhow::Result<()> {
    let script = "cd /tmp\n\
        perf stat -x , -e cycles:u,instructions:u busybox seq 20000 2>stat >/dev/null\n\
        sed 's/^/stat: /' stat\n\
        for event in cycles instructions; do\n\
        perf record -q -e $event:u -c 100000 -o $event busybox seq 20000 >/dev/null\n\
        echo \"samples: $(perf script -F ip -i $event 2>/dev/null | grep -c .) $event\"\n\
        done";
    let booted = run(context, "linux-perf", "usr/bin/perf", script, &["--deterministic", "--vps", "1"])?;
    let number = |start: &str, end: &str, cut: char| -> anyhow::Result<u64> {
        let line = booted.console.lines().find(|line| line.starts_with(start) && line.contains(end));
        let number = line.and_then(|line| line[start.len()..].split(cut).next()?.trim().parse().ok());
        number.with_context(|| format!("no number of {end} in {start:?}: {}", booted.console))
    };
    for event in ["cycles", "instructions"] {
        let counted = number("stat: ", event, ',')?;
        let samples = number("samples: ", event, ' ')?;
        ensure!(counted > 1_000_000, "{event}: only {counted} counted");
        let expected = counted / 100_000;
        let fits = if event == "cycles" { expected / 2..=expected * 2 } else { 1..=expected * 2 };
        ensure!(fits.contains(&samples), "{event}: {samples} samples of {counted}, one each 100000");
    }
    Ok(())
}
