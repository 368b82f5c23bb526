//! The stock guests: Debian's kernels with their modules, and its static busybox, cached as files.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use super::apt::{Apt, Package};
use super::cache::{Cache, Lock, Manifest, sha256};
use super::system;
use crate::{input, interrupt, output, size, ui};

/// Maximum number of bytes extracted from a package: more than any has.
const LONGEST: u64 = 2 << 30;
/// Maximum size of a file with a SHA-256.
const LONGEST_SUM: u64 = 1 << 10;

/// A kernel that Debian builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Stock {
    /// Debian's 6.12 for clouds, 4K pages
    #[value(name = "6.12")]
    Cloud612,
    /// Debian's 6.1 for clouds, 4K pages
    #[value(name = "6.1")]
    Cloud61,
    /// Debian's 6.12 with 16K pages (needs a CPU with a 16K granule, such as cortex-a76)
    #[value(name = "16k")]
    Pages16k,
}

/// Part extracted from one package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A kernel with its modules.
    Kernel(Stock),
    /// More of its modules: the drivers of devices, with those that they need, and file systems.
    Drivers(Stock),
    /// Drivers of QEMU's virtio devices, of the 6.12 kernel: for a machine without this hypervisor.
    Virtio,
    /// The busybox for the stock initrd.
    Busybox,
    /// The C headers of Debian's 6.12.
    Headers(Headers),
    /// UEFI firmware for QEMU's `virt` machine.
    Uefi,
}

/// The two halves of a kernel's headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Headers {
    /// Those shared by all architectures and flavours.
    Common,
    /// Those specific to the arm64 cloud kernel.
    Arm64,
}

impl Headers {
    /// Returns prefix and suffix of its package name: everything between them is the version.
    const fn package(self) -> (&'static str, &'static str) {
        match self {
            Self::Common => ("linux-headers-6.12.", "-common"),
            Self::Arm64 => ("linux-headers-6.12.", "-cloud-arm64"),
        }
    }
}

/// A stock kernel in the cache.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// The kernel file, as packaged.
    pub image: PathBuf,
    /// The modules that talk to Hyper-V, as packaged: `.ko` or `.ko.xz`.
    pub modules: Vec<PathBuf>,
    /// Name of the package.
    pub package: String,
}

/// The system's Debian release does not have the package.
#[derive(Debug, thiserror::Error)]
#[error(
    "{what} is not among the arm64 packages of this system's Debian sources (Debian 12 has it); see \
     /etc/apt/sources.list.d, or give --kernel and --initrd"
)]
pub struct NotOffered {
    what: &'static str,
}

impl Stock {
    /// Returns prefix and suffix of its package name: everything between them is the version.
    const fn package(self) -> (&'static str, &'static str) {
        match self {
            Self::Cloud612 => ("linux-image-6.12.", "-cloud-arm64"),
            Self::Cloud61 => ("linux-image-6.1.", "-cloud-arm64"),
            Self::Pages16k => ("linux-image-6.12.", "-arm64-16k"),
        }
    }
}

impl Piece {
    /// Returns the version of the selection of its files; raise it when [`Piece::place`] changes.
    const fn recipe(self) -> u32 {
        match self {
            // Of the 6.12 kernels FUSE is a part, so they have no module of it.
            Self::Drivers(Stock::Cloud61) => 10,
            Self::Drivers(_) => 9,
            Self::Virtio => 2,
            Self::Kernel(_) | Self::Busybox | Self::Headers(_) | Self::Uefi => 1,
        }
    }

    /// Returns the name of its folder in the cache.
    pub const fn folder(self) -> &'static str {
        match self {
            Self::Drivers(Stock::Cloud612) => "linux-6.12-cloud-drivers",
            Self::Drivers(Stock::Cloud61) => "linux-6.1-cloud-drivers",
            Self::Drivers(Stock::Pages16k) => "linux-6.12-16k-drivers",
            Self::Kernel(Stock::Cloud612) => "linux-6.12-cloud",
            Self::Kernel(Stock::Cloud61) => "linux-6.1-cloud",
            Self::Kernel(Stock::Pages16k) => "linux-6.12-16k",
            Self::Busybox => "busybox",
            Self::Virtio => "linux-6.12-cloud-virtio",
            Self::Uefi => "uefi",
            Self::Headers(Headers::Common) => "linux-6.12-headers-common",
            Self::Headers(Headers::Arm64) => "linux-6.12-headers-arm64",
        }
    }

    /// Returns its name for users.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Kernel(Stock::Cloud612) | Self::Drivers(Stock::Cloud612) => "Debian's 6.12 cloud kernel",
            Self::Kernel(Stock::Cloud61) | Self::Drivers(Stock::Cloud61) => "Debian's 6.1 cloud kernel",
            Self::Kernel(Stock::Pages16k) | Self::Drivers(Stock::Pages16k) => {
                "Debian's 6.12 kernel with 16K pages"
            }
            Self::Busybox => "Debian's static busybox",
            Self::Virtio => "Debian's 6.12 cloud kernel's virtio drivers",
            Self::Uefi => "Debian's UEFI firmware for QEMU",
            Self::Headers(Headers::Common) => "Debian's 6.12 kernel headers",
            Self::Headers(Headers::Arm64) => "Debian's 6.12 kernel headers for arm64",
        }
    }

    /// Selects the package from a list of names.
    fn choose<'a>(self, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
        match self {
            Self::Kernel(stock) | Self::Drivers(stock) => newest(names, stock.package()),
            Self::Busybox => names.into_iter().find(|&name| name == "busybox-static"),
            Self::Headers(headers) => newest(names, headers.package()),
            Self::Virtio => newest(names, Stock::Cloud612.package()),
            Self::Uefi => names.into_iter().find(|&name| name == "qemu-efi-aarch64"),
        }
    }

    /// Returns the common prefix of all names that [`Piece::choose`] accepts.
    const fn prefix(self) -> &'static str {
        match self {
            Self::Kernel(stock) | Self::Drivers(stock) => stock.package().0,
            Self::Busybox => "busybox-static",
            Self::Headers(headers) => headers.package().0,
            Self::Virtio => Stock::Cloud612.package().0,
            Self::Uefi => "qemu-efi-aarch64",
        }
    }

    /// Returns the place of a package's file in the folder; `None` if the file is not needed.
    fn place(self, path: &Path) -> Option<String> {
        let parts: Vec<&str> = path
            .components()
            .filter(|part| !matches!(part, Component::CurDir))
            .map(|part| if let Component::Normal(name) = part { name.to_str() } else { None })
            .collect::<Option<_>>()?;
        let parts = parts.strip_prefix(&["usr"]).unwrap_or(&parts);
        match (self, parts) {
            (Self::Busybox, ["bin", "busybox"]) => Some("busybox".to_owned()),
            (Self::Uefi, ["share", "qemu-efi-aarch64", "QEMU_EFI.fd"]) => Some("QEMU_EFI.fd".to_owned()),
            (Self::Kernel(_), ["boot", name]) if name.starts_with("vmlinuz-") => Some("vmlinuz".to_owned()),
            (Self::Kernel(_), ["lib", "modules", _, "kernel", "drivers", "hv", name]) => {
                name.contains(".ko").then(|| format!("modules/{name}"))
            }
            (Self::Drivers(_), ["lib", "modules", _, "kernel", rest @ .., name]) => {
                (is_driver(rest, name) && name.contains(".ko")).then(|| format!("modules/{name}"))
            }
            (Self::Virtio, ["lib", "modules", _, "kernel", _, _, name]) => {
                is_virtio(name).then(|| format!("modules/{name}"))
            }
            (Self::Headers(_), ["src", _, "include", rest @ ..]) => {
                Some(format!("include/{}", rest.join("/")))
            }
            (Self::Headers(_), ["src", _, "arch", "arm64", "include", rest @ ..]) => {
                Some(format!("arch/arm64/include/{}", rest.join("/")))
            }
            _ => None,
        }
    }
}

/// Returns true if a module is among [`Piece::Virtio`]: the drivers of disks and network cards, and their
/// dependencies. The driver of serial ports is built in.
fn is_virtio(name: &str) -> bool {
    let modules = ["virtio_blk", "virtio_net", "net_failover", "failover"];
    let is = |module: &&str| name.strip_prefix(*module).is_some_and(|rest| rest.starts_with(".ko"));
    modules.iter().any(is)
}

/// Returns true if a module is among [`Piece::Drivers`], by the folders that it is in.
fn is_driver(folders: &[&str], name: &str) -> bool {
    match folders {
        ["drivers", "hv" | "cdrom"]
        | ["drivers", "net", "hyperv"]
        | ["net", "vmw_vsock"]
        | ["fs", "ext4" | "jbd2" | "isofs" | "udf"] => true,
        ["drivers", "scsi"] => {
            let is = |driver: &&str| name.strip_prefix(*driver).is_some_and(|rest| rest.starts_with(".ko"));
            ["hv_storvsc", "scsi_common", "scsi_mod", "scsi_transport_fc", "sd_mod", "sg", "sr_mod"]
                .iter()
                .any(is)
        }
        ["drivers", "input", "serio"] => name.starts_with("hyperv-keyboard.ko"),
        ["drivers", "hid"] => name.starts_with("hid-hyperv.ko") || name.starts_with("hid.ko"),
        // The screen: one of the two drivers, with what the newer one needs.
        ["drivers", "video", "fbdev"] => name.starts_with("hyperv_fb.ko"),
        ["drivers", "gpu", "drm", "hyperv"] => true,
        ["drivers", "gpu", "drm"] => ["drm.ko", "drm_kms_helper.ko", "drm_shmem_helper.ko"]
            .iter()
            .any(|driver| name.starts_with(driver)),
        // Input devices as files, for programs that read events.
        ["drivers", "input"] => name.starts_with("evdev.ko"),
        // VLANs, and what they need.
        ["net", "8021q" | "802" | "llc"] => true,
        ["fs", "fuse"] => name.starts_with("fuse.ko"),
        ["fs"] => name.starts_with("mbcache.ko"),
        // What file systems sum with.
        ["lib"] => name.contains("crc"),
        ["crypto"] | ["arch", "arm64", "crypto"] => name.starts_with("crc"),
        _ => false,
    }
}

/// Returns the name with the highest version between `prefix` and `suffix`.
fn newest<'a>(names: impl Iterator<Item = &'a str>, (prefix, suffix): (&str, &str)) -> Option<&'a str> {
    let version = |name: &str| -> Option<Vec<u64>> {
        let middle = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
        let numbers = middle.split(|c: char| !c.is_ascii_digit()).filter(|run| !run.is_empty());
        middle
            .starts_with(|c: char| c.is_ascii_digit())
            .then(|| numbers.map_while(|n| n.parse().ok()).collect())
    };
    names.filter_map(|name| Some((version(name)?, name))).max().map(|(_, name)| name)
}

/// Makes sure that the pieces are in the cache, and returns their manifests in the same order.
pub fn prepare(cache: &Cache, pieces: &[Piece]) -> anyhow::Result<Vec<Manifest>> {
    let present = |piece: &Piece| cache.verified(piece.folder(), piece.recipe());
    if let Some(all) = pieces.iter().map(present).collect() {
        return Ok(all);
    }
    let lock = cache.lock()?;
    let mut apt = None;
    pieces
        .iter()
        .map(|&piece| {
            // Another run may have fetched it while this one waited for the lock.
            match cache.check(piece.folder(), piece.recipe()) {
                Ok(manifest) => return Ok(manifest),
                Err(Some(file)) => ui::note(&format!("{} is damaged and will be rebuilt", file.display())),
                Err(None) => {}
            }
            interrupt::check()?;
            fetch(cache, &lock, &mut apt, piece)
        })
        .collect()
}

/// Returns the manifest of a cached piece, without fetching anything.
pub fn cached(cache: &Cache, piece: Piece) -> Option<Manifest> {
    cache.verified(piece.folder(), piece.recipe())
}

/// Returns a stock kernel and the busybox for it, from the cache if possible.
pub fn kernel(cache: &Cache, stock: Stock) -> anyhow::Result<(Kernel, PathBuf)> {
    let piece = Piece::Kernel(stock);
    let manifests = prepare(cache, &[piece, Piece::Busybox])?;
    let dir = cache.entry(piece.folder());
    let files = || manifests[0].files.keys();
    let kernel = Kernel {
        image: dir.join("vmlinuz"),
        modules: files().filter(|name| name.starts_with("modules/")).map(|name| dir.join(name)).collect(),
        package: manifests[0].package.clone(),
    };
    Ok((kernel, cache.entry(Piece::Busybox.folder()).join("busybox")))
}

/// Returns the folder with a stock kernel's modules, those of devices among them.
pub fn drivers(cache: &Cache, stock: Stock) -> anyhow::Result<PathBuf> {
    let piece = Piece::Drivers(stock);
    prepare(cache, &[piece])?;
    Ok(cache.entry(piece.folder()).join("modules"))
}

/// Returns the folder with the drivers of QEMU's virtio devices, for the stock 6.12 kernel.
///
/// # Errors
/// They are not in the cache, and cannot be fetched.
pub fn virtio(cache: &Cache) -> anyhow::Result<PathBuf> {
    prepare(cache, &[Piece::Virtio])?;
    Ok(cache.entry(Piece::Virtio.folder()).join("modules"))
}

/// Returns the busybox for the stock initramfs.
pub fn busybox(cache: &Cache) -> anyhow::Result<PathBuf> {
    prepare(cache, &[Piece::Busybox])?;
    Ok(cache.entry(Piece::Busybox.folder()).join("busybox"))
}

/// Returns the firmware image.
pub fn firmware(cache: &Cache) -> anyhow::Result<PathBuf> {
    prepare(cache, &[Piece::Uefi])?;
    Ok(cache.entry(Piece::Uefi.folder()).join("QEMU_EFI.fd"))
}

fn fetch<'a>(
    cache: &'a Cache,
    lock: &'a Lock,
    apt: &mut Option<Apt<'a>>,
    piece: Piece,
) -> anyhow::Result<Manifest> {
    let package = match kept(cache, piece) {
        Some(package) => package,
        None => {
            system::require_debian(piece.title())?;
            let apt = match apt {
                Some(apt) => apt,
                None => {
                    ui::note(&format!(
                        "Fetching Debian's arm64 packages into {}; they are not installed on this system",
                        cache.dir().display()
                    ));
                    apt.insert(Apt::update(cache, lock)?)
                }
            };
            let names = apt.names(piece.prefix())?;
            let name = piece.choose(names.iter().map(String::as_str));
            let name = name.ok_or(NotOffered { what: piece.title() })?;
            let package = apt.download(name)?;
            output::write("checksum", &sum_file(&package.file), sha256(&package.file)?.as_bytes())?;
            package
        }
    };
    let _task = ui::Task::new(format!("Unpacking {}", package.name));
    let scratch = cache.scratch(lock)?;
    let made = scratch.path().join("made");
    let files = unpack(&package.file, piece, &made)?;
    let manifest = Manifest {
        recipe: piece.recipe(),
        package: package.name,
        version: package.version,
        files: BTreeMap::new(),
    };
    cache.publish(lock, piece.folder(), &made, manifest, &files)
}

/// Returns the path of a package file's SHA-256.
fn sum_file(package: &Path) -> PathBuf {
    let mut name = package.as_os_str().to_owned();
    name.push(".sha256");
    PathBuf::from(name)
}

/// Returns a package file downloaded by an earlier run, if it is intact.
fn kept(cache: &Cache, piece: Piece) -> Option<Package> {
    let files: Vec<PathBuf> =
        fs::read_dir(cache.entry("debs")).ok()?.flatten().map(|entry| entry.path()).collect();
    let names = files.iter().filter_map(|file| file.file_name()?.to_str()?.split('_').next());
    let name = piece.choose(names)?;
    let file = files.iter().find(|file| {
        let text = file.file_name().and_then(|text| text.to_str()).unwrap_or_default();
        text.starts_with(&format!("{name}_")) && text.ends_with(".deb")
    })?;
    let sum = input::read(&sum_file(file), LONGEST_SUM).ok()?;
    (sha256(file).ok()?.as_bytes() == sum).then_some(())?;
    let version = super::apt::version_of(file.file_name()?.to_str()?)?;
    Some(Package { name: name.to_owned(), version, file: file.clone() })
}

/// Extracts the needed files from a package.
fn unpack(package: &Path, piece: Piece, into: &Path) -> anyhow::Result<Vec<String>> {
    let explain = || format!("cannot unpack {}", package.display());
    let mut child = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start dpkg-deb")?;
    let mut stdout = child.stdout.take().with_context(explain)?;
    let files = pick(&mut stdout, piece, into).with_context(explain);
    // After the last member there is only padding; unread, it would kill dpkg-deb with a closed pipe.
    let _ = std::io::copy(&mut stdout, &mut std::io::sink());
    let status = child.wait()?;
    let files = files?;
    if !status.success() {
        bail!("{}: dpkg-deb ended with {status}", explain());
    }
    Ok(files)
}

fn pick(tar: &mut impl Read, piece: Piece, into: &Path) -> anyhow::Result<Vec<String>> {
    let mut files = Vec::new();
    let mut left = LONGEST;
    let mut archive = tar::Archive::new(tar);
    for member in archive.entries()? {
        interrupt::check()?;
        let mut member = member?;
        if !member.header().entry_type().is_file() {
            continue;
        }
        let Some(name) = piece.place(&member.path()?) else { continue };
        let file = into.join(&name);
        if let Some(dir) = file.parent() {
            fs::create_dir_all(dir)?;
        }
        let copied = std::io::copy(&mut (&mut member).take(left + 1), &mut fs::File::create_new(&file)?)?;
        left = left
            .checked_sub(copied)
            .with_context(|| format!("it unpacks to more than {}, the maximum", size::exact(LONGEST)))?;
        files.push(name);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 9] = [
        "linux-image-6.12-cloud-arm64",
        "linux-image-6.12.100+deb12-cloud-arm64",
        "linux-image-6.12.9+bpo-cloud-arm64",
        "linux-image-6.12.117+deb12-cloud-arm64-dbg",
        "linux-image-6.12.117+deb12-cloud-arm64-unsigned",
        "linux-image-6.12.117+deb12-arm64-16k",
        "linux-image-6.1.0-9-cloud-arm64",
        "linux-image-6.1.0-56-cloud-arm64",
        "linux-image-6.1.0-56-arm64",
    ];

    fn choice(stock: Stock) -> Option<&'static str> {
        Piece::Kernel(stock).choose(NAMES.into_iter())
    }

    #[test]
    fn the_newest_kernel_is_chosen_by_number_not_by_letter() {
        assert_eq!(choice(Stock::Cloud612), Some("linux-image-6.12.100+deb12-cloud-arm64"));
        assert_eq!(choice(Stock::Cloud61), Some("linux-image-6.1.0-56-cloud-arm64"));
    }

    #[test]
    fn flavours_are_not_mixed_up() {
        assert_eq!(choice(Stock::Pages16k), Some("linux-image-6.12.117+deb12-arm64-16k"));
        assert_eq!(
            Piece::Kernel(Stock::Pages16k).choose(["linux-image-6.12.1+deb12-arm64"].into_iter()),
            None
        );
    }

    #[test]
    fn only_needed_files_are_taken() {
        let place = |piece: Piece, path: &str| piece.place(Path::new(path));
        let kernel = Piece::Kernel(Stock::Cloud612);
        assert_eq!(place(kernel, "./boot/vmlinuz-6.12").as_deref(), Some("vmlinuz"));
        let module = "./usr/lib/modules/6.12/kernel/drivers/hv/hv_vmbus.ko.xz";
        assert_eq!(place(kernel, module).as_deref(), Some("modules/hv_vmbus.ko.xz"));
        assert_eq!(place(kernel, "./boot/config-6.12"), None);
        assert_eq!(place(kernel, "../boot/vmlinuz-6.12"), None);
        assert_eq!(place(Piece::Busybox, "./bin/busybox").as_deref(), Some("busybox"));
        let driver = |path: &str| {
            let path = format!("./lib/modules/6.12/kernel/{path}");
            place(Piece::Drivers(Stock::Cloud612), &path).is_some()
        };
        assert!(driver("drivers/input/serio/hyperv-keyboard.ko.xz") && driver("drivers/input/evdev.ko.xz"));
        assert!(
            driver("drivers/video/fbdev/hyperv_fb.ko.xz") && driver("drivers/gpu/drm/hyperv/hyperv_drm.ko")
        );
        assert!(driver("drivers/gpu/drm/drm.ko.xz") && !driver("drivers/gpu/drm/drm_exec.ko.xz"));
        assert!(!driver("drivers/video/fbdev/arkfb.ko.xz"));
        assert!(!driver("drivers/input/serio/serio_raw.ko.xz") && !driver("drivers/input/mousedev.ko.xz"));
    }

    #[test]
    fn a_tar_is_taken_apart() {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        header.set_mode(0o755);
        header.set_cksum();
        tar.append_data(&mut header.clone(), "./bin/busybox", &b"abc"[..]).unwrap();
        tar.append_data(&mut header, "./bin/other", &b"def"[..]).unwrap();
        let bytes = tar.into_inner().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let files = pick(&mut bytes.as_slice(), Piece::Busybox, dir.path()).unwrap();
        assert_eq!(files, ["busybox"]);
        assert_eq!(fs::read(dir.path().join("busybox")).unwrap(), b"abc");
        assert!(!dir.path().join("other").exists());
    }
}
