//! `hv image debian`: images whose own system boots to its end, on this machine and by UEFI firmware, and what
//! [`interrupted`] runs leave.

mod disk;
mod interrupted;
mod system;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use hv_setup::exit::Exit;

use self::system::{Image, Key};
use super::context::Context;
use super::runner::Step;

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    vec![
        Step::new("image/debian/bookworm", bookworm).slow(),
        Step::new("image/debian/trixie", trixie).slow(),
        Step::new("image/debian/grub", grub).slow(),
        Step::new("image/debian/interrupted", interrupted::interrupted).slow(),
    ]
}

/// What `hv boot` says of an entry of systemd-boot.
const OF_SYSTEMD: &str = "boots debian-";
/// GiB of an image without `--size`.
const GIBS: u64 = 2;

/// Makes an image of this size, and says how long it took.
fn make(mut command: Command, file: &Path, gibs: u64) -> anyhow::Result<()> {
    let started = Instant::now();
    let done = hv_setup::process::run(&mut command, || {})?;
    ensure!(done.status.code() == Some(Exit::Success as i32), "{}: {}", done.status, done.stderr);
    ensure!(!done.stderr.contains('\r'), "a progress line though it is no terminal: {}", done.stderr);
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    eprintln!("  {name} after {:.1} s", started.elapsed().as_secs_f64());
    let meta = fs::metadata(file)?;
    ensure!(meta.len() == gibs << 30 && meta.blocks() * 512 < 3 << 29, "{} blocks", meta.blocks());
    Ok(())
}

/// Checks an image with the cache that there is: a minimal one, and one with another package above it.
fn bookworm(context: &Context) -> anyhow::Result<()> {
    let folder = context.folder()?;
    let (first, second) = (folder.join("minimal"), folder.join("with-file"));
    let key = Key::make(&folder)?;
    let line = |file: &Path, more: &[&str]| {
        let file = file.to_string_lossy();
        let words = [&["image", "debian"], more, &[&*file]].concat();
        context.command(&words)
    };
    make(line(&first, &[])?, &first, GIBS)?;
    // A file that is there stays as it is.
    context.hv(&["image", "debian", &first.to_string_lossy()])?.refused("exists")?;
    let private = key.private.to_string_lossy();
    context
        .hv(&["image", "debian", "--ssh-key", &private, "/nonexistent/x"])?
        .refused("a folder that exists")?;
    let third = folder.join("third").to_string_lossy().into_owned();
    context.hv(&["image", "debian", "--ssh-key", &private, &third])?.refused("it is a private key")?;
    disk::sound(&first)?;
    fs::remove_file(&first)?;
    // Above the layer that the first one has left in the cache.
    make(line(&second, &["--include", "file", "--ssh-key", &key.public()])?, &second, GIBS)?;
    disk::sound(&second)?;
    let image = Image { file: &second, key: &key, program: "file", gibs: GIBS, mirror: None };
    system::on_hyper_v(context, &image, OF_SYSTEMD)?;
    system::by_firmware(&image)?;
    disk::sound(&second)
}

/// Returns the mirror that this system's packages come from.
fn mirror() -> anyhow::Result<String> {
    let mut apt = Command::new("apt-get");
    apt.args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Component: main"]);
    apt.arg("Origin: Debian");
    let sites = hv_setup::process::run(&mut apt, || {})?.stdout;
    let site = sites.lines().find(|site| !site.contains("security"));
    Ok(site.context("apt has no source of packages")?.to_owned())
}

/// Checks an image of the other release, larger and from a mirror that is named, with the cache that there is.
fn trixie(context: &Context) -> anyhow::Result<()> {
    let folder = context.folder()?;
    let (file, key) = (folder.join("trixie"), Key::make(&folder)?);
    let (gibs, mirror) = (GIBS + 1, mirror()?);
    let (size, public) = (format!("{gibs}G"), key.public());
    let words = ["image", "debian", "--suite", "trixie", "--size", &size, "--mirror", &mirror];
    let more = ["--ssh-key", &public, &file.to_string_lossy()];
    make(context.command(&[&words[..], &more].concat())?, &file, gibs)?;
    disk::sound(&file)?;
    let image = Image { file: &file, key: &key, program: "dpkg", gibs, mirror: Some(&mirror) };
    system::on_hyper_v(context, &image, OF_SYSTEMD)?;
    system::by_firmware(&image)?;
    disk::sound(&file)
}

/// Has grub write its menu, which then is all that names a kernel.
const MENU: &str = "mkdir -p /boot/grub && grub-mkconfig -o /boot/grub/grub.cfg 2>&1 && rm -r /boot/efi/*";

/// Boots an image by the menu that its own grub has made.
fn grub(context: &Context) -> anyhow::Result<()> {
    let folder = context.folder()?;
    let (file, key) = (folder.join("with-grub"), Key::make(&folder)?);
    let path = file.to_string_lossy();
    let line = ["image", "debian", "--include", "grub-efi-arm64", "--ssh-key", &key.public(), &path];
    make(context.command(&line)?, &file, GIBS)?;
    let image = Image { file: &file, key: &key, program: "grub-editenv", gibs: GIBS, mirror: None };
    system::changed(context, &image, MENU, OF_SYSTEMD)?;
    system::on_hyper_v(context, &image, "gnulinux")
}
