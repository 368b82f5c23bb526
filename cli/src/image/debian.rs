//! `hv image debian`: the steps.

use std::fs::File;
use std::io::BufWriter;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use clap::ValueEnum;

use super::guest::{self, Failed, Job};
use super::layer::{About, Layer, Ready, Work};
use super::table::{self, Table};
use super::{bundle, efi, keys, own};
use crate::disks::copy_data;
use crate::exit::Exit;
use crate::input::Input;
use crate::output::Folder;
use crate::setup::cache::Cache;
use crate::setup::debian::{Archive, Packages, Release, mirror, package_name};
use crate::setup::size::{exact, size};
use crate::setup::{system, value};
use crate::{TOOL, interrupt, output, process, ui};

/// Make a bootable image of Debian for ARM64
///
/// The image has the packages that Debian requires, a kernel, hyperv-daemons and an ssh server, all configured. It
/// boots with `hv boot --disk FILE`, and has what real Hyper-V boots from: a GPT, an EFI partition and systemd-boot.
/// The packages are downloaded with apt, which checks them, and configured in a guest on the image itself: that takes
/// neither root nor an ARM64 machine, and some minutes the first time. Then the image is in the cache. An interrupted
/// run leaves no FILE, and the next one continues where it was.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// Release of Debian
    #[arg(long, value_enum, value_name = "SUITE", default_value = "bookworm")]
    suite: Suite,
    /// Packages beside those of a minimal system, separated by commas
    #[arg(long, value_name = "PACKAGES", value_delimiter = ',', value_parser = package_name)]
    include: Vec<String>,
    /// Size of the image, in MiB or with a unit
    #[arg(long, value_name = "SIZE", default_value = "2G", value_parser = image_size)]
    size: u64,
    /// Mirror of Debian's packages, without security updates [default: the sources of this system]
    #[arg(long, value_name = "URL", value_parser = mirror)]
    mirror: Option<String>,
    /// File with public keys of ssh that may log in as root; repeatable
    #[arg(long, value_name = "FILE")]
    ssh_key: Vec<Input>,
    /// The image to make; it must not exist
    file: PathBuf,
}

const HELP: &str = "\
Examples:
  cargo hv image debian debian.img
  cargo hv image debian --suite trixie --include curl,git --size 4G debian.img
  cargo hv image debian --ssh-key ~/.ssh/id_ed25519.pub debian.img
  cargo hv boot --disk debian.img --net user,forward=tcp:2222:22

Exit codes:
  0    the image is made
  1    the guest could not configure the packages
  2    a bad option, something that is missing and could not be installed, or
       an image that could not be written
  130  interrupted: Ctrl-C, SIGTERM, or the terminal was closed";

/// A release of Debian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// Debian 12
    Bookworm,
    /// Debian 13
    Trixie,
}

/// Packages of every image: what Debian requires, and what makes it boot, and reachable, on Hyper-V. Patterns are apt's
/// (apt-patterns(7)). `usr-is-merged` instead of the program that merges: the bundle is merged.
const BASE: [&str; 18] = [
    "?essential",
    "?priority(required)",
    "apt",
    "ca-certificates",
    "dbus",
    "e2fsprogs",
    "hyperv-daemons",
    "initramfs-tools",
    "iproute2",
    "libpam-systemd",
    "linux-image-cloud-arm64",
    "openssh-server",
    "systemd-boot",
    "systemd-resolved",
    "systemd-sysv",
    "udev",
    "usr-is-merged",
    "zstd",
];
/// Sizes of an image: multiples of this, of this at least.
const UNIT: u64 = 1 << 20;
const LEAST: u64 = 1 << 30;
/// Bytes of the root beside the packages' files: the initrd, and what a system writes.
const SPARE: u64 = 256 << 20;
/// A disk that is read only must be a multiple of this.
const PAGE: u64 = 4096;

/// Parses the size of an image.
fn image_size(text: &str) -> Result<u64, String> {
    let size = value::size(text)?;
    if size < LEAST || !size.is_multiple_of(UNIT) {
        return Err("expected a multiple of 1 MiB, and 1G or more".to_owned());
    }
    Ok(size)
}

/// Runs the command.
///
/// # Errors
/// The file exists, a package does not, or a write to the image fails.
pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    output::check("image", "hv image debian", &args.file)?;
    absent(&args.file)?;
    match make(args) {
        Err(error) if error.is::<Failed>() => {
            ui::error(&error);
            Ok(Exit::Failed)
        }
        Err(error) => Err(error),
        Ok(()) => {
            ui::note(&format!("{} is made: {TOOL} boot --disk {0}", args.file.display()));
            Ok(Exit::Success)
        }
    }
}

/// Checks that nothing has the name of the image.
fn absent(file: &Path) -> anyhow::Result<()> {
    ensure!(file.symlink_metadata().is_err(), "{} exists: give another name, or remove it", file.display());
    Ok(())
}

/// Makes the image.
fn make(args: &Args) -> anyhow::Result<()> {
    let keys = keys::read(&args.ssh_key)?;
    let cache = Cache::open()?;
    let suite = args.suite.to_possible_value().map(|suite| suite.get_name().to_owned()).unwrap_or_default();
    let release = Release { name: &suite, mirror: args.mirror.as_deref() };
    let include: Vec<&str> = args.include.iter().map(String::as_str).collect();
    let groups: [&[&str]; 2] = [&BASE, &include];
    let groups = if include.is_empty() { &groups[..1] } else { &groups[..] };
    let packages = Archive::find(&cache, release)?.download(groups)?;
    let ready = match &packages[..] {
        [base] => Recipe { args, below: None, packages: base, files: &base.files }.layer(&cache)?,
        [base, all] => match above(&base.files, &all.files) {
            Some(files) => {
                let below = Recipe { args, below: None, packages: base, files: &base.files }.layer(&cache)?;
                Recipe { args, below: Some(&below), packages: all, files: &files }.layer(&cache)?
            }
            None => Recipe { args, below: None, packages: all, files: &all.files }.layer(&cache)?,
        },
        _ => bail!("apt has resolved no packages"),
    };
    copy(&ready.image, &args.file, |image| match &*keys {
        "" => Ok(()),
        keys => keys::authorize(image, keys, &e2fsprogs("debugfs")?),
    })
}

/// Returns the files that are added to those of a base; `None` if the base has others than these.
fn above(base: &[String], all: &[String]) -> Option<Vec<String>> {
    let is_above = base.iter().all(|file| all.contains(file));
    is_above.then(|| all.iter().filter(|file| !base.contains(file)).cloned().collect())
}

/// What a layer is made of.
struct Recipe<'a> {
    args: &'a Args,
    /// The layer below.
    below: Option<&'a Ready>,
    packages: &'a Packages,
    /// The package files that are new in it.
    files: &'a [String],
}

impl Recipe<'_> {
    /// Returns the layer, from the cache or made.
    fn layer(&self, cache: &Cache) -> anyhow::Result<Ready> {
        let blank = Table { efi: String::new(), root: String::new() };
        let own = own::files(&blank, &self.packages.sources);
        let own = own.into_iter().flat_map(|(path, text)| [path, text]);
        let below = self.below.map(|below| below.about.root.clone()).unwrap_or_default();
        let more = [guest::SCRIPT.to_owned(), self.args.size.to_string(), below];
        let layer = Layer::of(cache, self.files.iter().cloned().chain(own).chain(more));
        if let Some(ready) = layer.find() {
            return Ok(ready);
        }
        let work = layer.begin()?;
        // Another process may have made it meanwhile.
        if let Some(ready) = layer.find() {
            layer.abandon(work);
            return Ok(ready);
        }
        self.work(&work)?;
        let about = work.about()?;
        layer.publish(work, "debian", &self.files.len().to_string(), about)
    }

    /// Does the work on a layer, or what is left of it.
    fn work(&self, work: &Work) -> anyhow::Result<()> {
        let (mut about, resume) = match work.unpacked()? {
            Some(about) => (about, true),
            None => (self.start(work)?, false),
        };
        let (image, bundle) = (work.image(), work.bundle());
        let job = Job { image: &image, bundle: &bundle, resume, packages: self.files.len() };
        guest::run(job, || {
            about.unpacked = true;
            work.keep(&about)
        })?;
        let _task = ui::Task::new("Writing the EFI partition");
        efi::fill(&image, &about.table())
    }

    /// Makes the image and the bundle.
    fn start(&self, work: &Work) -> anyhow::Result<About> {
        let image = work.image();
        let table = match self.below {
            Some(below) => {
                copy(&below.image, &image, |_| Ok(()))?;
                below.about.table()
            }
            None => table::make(&image, self.args.size, &e2fsprogs("mke2fs")?)?,
        };
        let own = match self.below {
            Some(_) => Vec::new(),
            None => own::files(&table, &self.packages.sources),
        };
        let task = ui::Task::new(format!("Unpacking {} packages", self.files.len()));
        let paths = self.packages.paths(self.files);
        let out = File::create_new(work.bundle())?;
        let all = paths.len();
        let said = |done: usize| task.say(format!("Unpacking {done} of {all} packages"));
        bundle::write(&paths, &own, BufWriter::with_capacity(1 << 20, &out), said)?;
        let bytes = out.metadata()?.len();
        out.set_len(bytes.next_multiple_of(PAGE))?;
        let below =
            self.below.map(|below| below.image.metadata()).transpose()?.map_or(0, |meta| meta.blocks() * 512);
        let least = table::around(below + bytes + bytes / 4 + SPARE);
        ensure!(
            least <= self.args.size,
            "--size {}: the packages have {} of files; give {} or more",
            exact(self.args.size),
            size(below + bytes),
            size(least)
        );
        Ok(About::new(table))
    }
}

/// Finds a program of e2fsprogs, or installs it.
fn e2fsprogs(name: &str) -> anyhow::Result<PathBuf> {
    if let Some(found) = process::which_system(name) {
        return Ok(found);
    }
    system::install(name, &["e2fsprogs"])?;
    process::which_system(name).with_context(|| format!("{name} is missing, though e2fsprogs was installed"))
}

/// Copies an image, without its holes, and changes the copy, which has its name when it is complete.
fn copy(from: &Path, to: &Path, change: impl FnOnce(&File) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let explain = || format!("cannot write the image {}", to.display());
    let _orderly = interrupt::orderly();
    let source = File::open(from).with_context(|| format!("cannot read the image {}", from.display()))?;
    let bytes = source.metadata()?.len();
    let name = to.file_name().with_context(explain)?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let new = Folder::make(folder)?.begin(Path::new(name)).with_context(explain)?;
    if rustix::fs::ioctl_ficlone(&new.file, &source).is_err() {
        let task = ui::Task::bytes(format!("Writing {}", to.display()), bytes);
        new.file.set_len(bytes).with_context(explain)?;
        let progress = |done| {
            task.position(done);
            Ok(())
        };
        copy_data(&source, (&new.file, 0), bytes, progress).with_context(explain)?;
    }
    change(&new.file).with_context(explain)?;
    // That took a while, too.
    absent(to)?;
    new.commit_new().with_context(explain)
}

#[cfg(test)]
mod tests;
