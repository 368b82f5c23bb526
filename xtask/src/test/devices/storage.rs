//! Disks: a stock kernel runs from one, and bare/linux's `disk-init` tries out the others.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use super::super::context::{Booted, Context};
use super::super::runner::Step;
use super::super::services::Controlled;
use hv_setup::exit::Exit;
use hv_setup::{process, programs, system};

/// Bytes of a page of the pattern, and of the disk that has it.
const PAGE: u64 = 4096;
pub(super) const SIZE: u64 = 24 << 20;
/// The root file system's name, since Linux names disks in the order in which their probes end.
const UUID: &str = "6a1ba2f7-6d0e-4b5e-9d55-9a3a4a0a7c11";
pub(crate) const ROOT: &str = "root=UUID=6a1ba2f7-6d0e-4b5e-9d55-9a3a4a0a7c11 rw";
/// Bytes of what is read only.
pub(super) const LOCKED: u64 = 4 << 20;

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    let stock = [("6.12", "4"), ("6.1", "2"), ("16k", "1"), ("16k", "4"), ("6.12", "1")];
    let mut steps: Vec<Step> = stock
        .into_iter()
        .map(|(stock, vps)| {
            let step = Step::new(format!("devices/storage/{stock}/{vps}-vps"), move |context| {
                // One of them without a judge.
                let strict: &[&str] = if vps == "1" && stock == "6.12" { &[] } else { &["--strict=note"] };
                Disks::new(context)?.boot(context, &[&["--stock", stock, "--vps", vps], strict].concat())
            });
            if vps == "4" { step.slow() } else { step }
        })
        .collect();
    steps.push(Step::new("devices/storage/no-root", no_root));
    steps.push(Step::new("devices/storage/late-root", late_root));
    steps.push(Step::new("devices/storage/deterministic", deterministic).slow());
    steps.push(Step::new("devices/storage/qcow2", qcow2).slow());
    steps.push(Step::new("devices/storage/vhd-vhdx", vhd));
    steps
}

/// Checks that a missing root file system is a failure, as without an initramfs.
fn no_root(context: &Context) -> anyhow::Result<()> {
    let empty = context.folder()?.join("empty.img");
    File::create(&empty)?.set_len(SIZE)?;
    let booted = context.boot(&["--disk", &empty.to_string_lossy(), "--append", "root=/dev/sdb1"])?;
    booted.says("hv: FAILED to mount root=/dev/sdb1")?;
    booted.says("Attempted to kill init!")?;
    booted.ended(Exit::Crash, "crash")
}

/// Checks that the initramfs waits for the first disk of a controller that it has, longer than for one that follows
/// others.
fn late_root(context: &Context) -> anyhow::Result<()> {
    let disk = root(&context.folder()?)?.display().to_string();
    let options = ["--hotplug-room", "64M", "--append", "root=/dev/sda"];
    let machine = Controlled::start_until(context, &options, "registering driver hv_storvsc")?;
    // For one that follows others it waits ten seconds of its own.
    std::thread::sleep(Duration::from_secs(30));
    machine.reply(&["disk", "add", &disk])?;
    machine.until("the root is mounted", || Ok(machine.console().contains("hv: root /dev/sda")))
}

/// The files of a run.
pub(super) struct Disks {
    root: PathBuf,
    pub(super) data: PathBuf,
    locked: PathBuf,
    /// What is in the drive: the bytes of `locked`.
    dvd: PathBuf,
}

impl Disks {
    pub(super) fn new(context: &Context) -> anyhow::Result<Self> {
        let folder = context.folder()?;
        let locked = folder.join("locked.img");
        let disks = Self { root: root(&folder)?, data: folder.join("data.img"), dvd: locked.clone(), locked };
        File::create(&disks.data)?.set_len(SIZE)?;
        pattern(&disks.locked, LOCKED, |_| Some(3))?;
        Ok(disks)
    }

    /// Boots a stock kernel with all of them.
    pub(super) fn run(&self, context: &Context, options: &[&str]) -> anyhow::Result<Booted> {
        let (root, data) = (self.root.display().to_string(), format!("{},rw", self.data.display()));
        let (locked, dvd) = (format!("{},ro", self.locked.display()), self.dvd.display().to_string());
        let mut all = vec!["--disk", &root, "--disk", &data, "--disk", &locked, "--dvd", &dvd];
        all.extend(["--append", ROOT]);
        all.extend(options);
        context.boot(&all)
    }

    /// Boots with a disk, and judges what the guest left on it.
    fn boot(&self, context: &Context, options: &[&str]) -> anyhow::Result<()> {
        let before = (fs::read(&self.root)?, fs::read(&self.locked)?);
        let booted = self.run(context, options)?;
        booted.ended(Exit::Success, "power-off")?;
        let vps = options.iter().skip_while(|word| **word != "--vps").nth(1).copied().unwrap_or("2");
        booted.says(&format!("disk: data has {SIZE} bytes, read-only 0"))?;
        booted.says(&format!("disk: locked has {LOCKED} bytes, read-only 1"))?;
        booted.says(&format!("disk: sr0 has {LOCKED} bytes"))?;
        booted.says(&format!("disk: all good on {vps} processors"))?;
        for word in ["FAILED", "I/O error", "Buffer I/O", "hv_storvsc f8b3781"] {
            booted.never_says(word)?;
        }
        booted.is("/findings", serde_json::json!([]))?;
        booted.is("/devices/0/version", "6.2")?;
        booted.is("/devices/0/opened", vps.parse::<u64>()?)?;
        booted.is("/devices/1/instance", "f8b3781d-1e82-4818-a1c3-63d806ec15bb")?;
        let requests = booted.json.pointer("/devices/0/requests").and_then(serde_json::Value::as_u64);
        booted.check(requests.is_some_and(|requests| requests > 500), "the disks had requests")?;
        ensure!(
            before == (fs::read(&self.root)?, fs::read(&self.locked)?),
            "a file that is not rw has changed"
        );
        self.check()
    }

    /// Checks that the guest's writes are in the file.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let bytes = fs::read(&self.data)?;
        ensure!(bytes.len() as u64 == SIZE, "the file has {} bytes", bytes.len());
        let pages = SIZE / PAGE;
        for (page, found) in (0..).zip(bytes.chunks_exact(PAGE as usize)) {
            let generation = if page >= pages - pages / 8 { None } else { Some(generation(page)) };
            ensure!(
                found == self::page(page, generation),
                "page {page} of the file is not what the guest wrote"
            );
        }
        Ok(())
    }
}

/// Checks that two runs with disks and utilities are the same: console, report, trace, and what is on the disk.
fn deterministic(context: &Context) -> anyhow::Result<()> {
    // The report names it.
    let trace = context.folder()?.join("trace");
    let run = || -> anyhow::Result<(Booted, Vec<u8>, Vec<u8>)> {
        let disks = Disks::new(context)?;
        let (root, data) = (disks.root.display().to_string(), format!("{},rw", disks.data.display()));
        let file = trace.display().to_string();
        let mut options = vec!["--disk", &root, "--disk", &data, "--append", ROOT, "--deterministic"];
        options.extend(["--devices", "shutdown,time,heartbeat,kvp,vss,fcopy", "--trace", &file]);
        let booted = context.boot(&options)?;
        booted.ended(Exit::Success, "power-off")?;
        booted.says("disk: all good on 2 processors")?;
        booted.says("TimeSync IC version 4.0")?;
        disks.check()?;
        Ok((booted, fs::read(&disks.data)?, fs::read(&trace)?))
    };
    let (one, two) = (run()?, run()?);
    let difference = one.0.console.lines().zip(two.0.console.lines()).find(|(one, two)| one != two);
    ensure!(one.0.console == two.0.console, "the consoles differ, first at {difference:?}");
    let difference = one.0.json_text.lines().zip(two.0.json_text.lines()).find(|(one, two)| one != two);
    ensure!(one.0.json_text == two.0.json_text, "the reports differ, first at {difference:?}");
    ensure!(one.1 == two.1, "the disks differ");
    let difference = one.2.iter().zip(&two.2).position(|(one, two)| one != two);
    ensure!(
        one.2 == two.2,
        "the traces of {} and {} bytes differ at {difference:?}",
        one.2.len(),
        two.2.len()
    );
    Ok(())
}

/// Makes an image of another format, and checks that it cannot be written.
fn packed(context: &Context, raw: &Path, name: &str, format: &[&str]) -> anyhow::Result<PathBuf> {
    let packed = raw.with_extension(name);
    let mut convert = Command::new(tool("qemu-img", "qemu-utils")?);
    convert.args(["convert", "-f", "raw", "-O"]).args(format).args([raw, &packed]);
    run(&mut convert)?;
    let option = format!("{},rw", packed.display());
    let format = name.split('.').next_back().unwrap_or(name);
    let refusal = format!("is a {format} image, and only a raw image can be written");
    context.hv(&["boot", "--disk", &option])?.refused(&refusal)?;
    Ok(packed)
}

/// Checks that a packed image is converted, once, and cannot be written.
fn qcow2(context: &Context) -> anyhow::Result<()> {
    let disks = Disks::new(context)?;
    let root = packed(context, &disks.root, "qcow2", &["qcow2"])?;
    Disks { root, ..disks }.boot(context, &["--vps", "2"])
}

/// Checks the same of Hyper-V's own formats: a guest runs from a VHDX, and has a VHD of each kind as a disk and in its
/// drive.
fn vhd(context: &Context) -> anyhow::Result<()> {
    let disks = Disks::new(context)?;
    let root = packed(context, &disks.root, "vhdx", &["vhdx"])?;
    let grows = packed(context, &disks.locked, "grows.vhd", &["vpc", "-o", "force_size=on"])?;
    let fixed = packed(context, &disks.locked, "fixed.vhd", &["vpc", "-o", "subformat=fixed,force_size=on"])?;
    ensure!(fs::read(&grows)?.starts_with(b"conectix") && !fs::read(&fixed)?.starts_with(b"conectix"));
    Disks { root, locked: grows, dvd: fixed, ..disks }.boot(context, &["--vps", "2"])
}

/// Builds an ext4 file system with the program that a kernel runs there.
fn root(folder: &Path) -> anyhow::Result<PathBuf> {
    let tree = folder.join("root");
    for dir in ["sbin", "dev", "proc", "sys"] {
        fs::create_dir_all(tree.join(dir))?;
    }
    fs::copy(programs::output("disk-init")?, tree.join("sbin/init")).context("bare/linux's disk-init")?;
    let mut permissions = fs::metadata(tree.join("sbin/init"))?.permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
    fs::set_permissions(tree.join("sbin/init"), permissions)?;
    let image = folder.join("root.img");
    file_system(&tree, &image, 16 << 20)?;
    Ok(image)
}

/// Makes an image of an ext4 file system of `size` bytes with what is in a folder.
pub(crate) fn file_system(tree: &Path, image: &Path, size: u64) -> anyhow::Result<()> {
    File::create(image)?.set_len(size)?;
    let mut make = Command::new(tool("mke2fs", "e2fsprogs")?);
    // Everything that would differ from run to run is given.
    make.args(["-q", "-t", "ext4", "-U", UUID]);
    make.args(["-E", &format!("hash_seed={UUID}"), "-d"]).args([tree, image]);
    make.env("E2FSPROGS_FAKE_TIME", "1767225600");
    run(&mut make)
}

pub(super) fn run(command: &mut Command) -> anyhow::Result<()> {
    let done = process::run(command, || {})?;
    ensure!(done.status.success(), "{command:?}: {}", done.complaint(""));
    Ok(())
}

/// Returns a program of the host's, whose package is installed if it is missing.
pub(crate) fn tool(program: &str, package: &str) -> anyhow::Result<PathBuf> {
    if let Some(found) = process::which_system(program) {
        return Ok(found);
    }
    system::install(program, &[package])?;
    match process::which_system(program) {
        Some(found) => Ok(found),
        None => bail!("{program} is not there, though {package} was installed"),
    }
}

/// Creates a file of pages of the pattern.
fn pattern(path: &Path, size: u64, generation: impl Fn(u64) -> Option<u64>) -> anyhow::Result<()> {
    let mut file = File::create(path)?;
    for number in 0..size / PAGE {
        file.write_all(&page(number, generation(number)))?;
    }
    Ok(())
}

/// Returns a page of the pattern; zeros without a generation. bare/linux's `disk-init` says what it is.
fn page(number: u64, generation: Option<u64>) -> Vec<u8> {
    let word = |place: u64| generation.map_or(0, |generation| mixed(number << 20 ^ place << 8 ^ generation));
    (0..PAGE / 8).flat_map(|place| word(place).to_le_bytes()).collect()
}

fn generation(page: u64) -> u64 {
    if mixed(page).is_multiple_of(8) { 2 } else { 1 }
}

/// Computes SplitMix64's finalizer.
fn mixed(seed: u64) -> u64 {
    let a = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let b = (a ^ a >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let c = (b ^ b >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    c ^ c >> 31
}
