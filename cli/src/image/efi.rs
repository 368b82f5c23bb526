//! The EFI partition's contents: systemd-boot, and the kernel with its entry of the Boot Loader Specification.

use std::fs::File;
use std::path::Path;

use anyhow::{Context as _, ensure};

use super::own::{TOKEN, command_line};
use super::table::{self, Table};
use crate::boot::image::Root;

/// Bytes of a file at most.
const LONGEST: u64 = 128 << 20;
/// The boot loader on the root: with Debian's signature since trixie (package systemd-boot-efi-arm64-signed), or
/// without (systemd-boot-efi, or systemd-boot).
const LOADERS: [&str; 2] = [
    "/usr/lib/systemd/boot/efi/systemd-bootaa64.efi.signed",
    "/usr/lib/systemd/boot/efi/systemd-bootaa64.efi",
];
/// Its places: its own, and the one where firmware looks by itself (UEFI, 3.5.1.1).
const PLACES: [&str; 2] = ["EFI/systemd/systemd-bootaa64.efi", "EFI/BOOT/BOOTAA64.EFI"];
/// The file with the system's name (os-release(5)).
const RELEASE: &str = "/etc/os-release";

/// Writes the EFI partition of an image, from what is on its root.
///
/// # Errors
/// The root has no kernel or no boot loader, or a write to the image fails.
pub(super) fn fill(image: &Path, table: &Table) -> anyhow::Result<()> {
    let read = || {
        let root = Root::find(File::open(image)?)?;
        let kernel = root.newest(LONGEST)?;
        let release = root.read(RELEASE, LONGEST)?;
        let loader = LOADERS.iter().find_map(|path| root.get(path, LONGEST).transpose()).transpose()?;
        let loader = loader.with_context(|| format!("there is no {} or {}", LOADERS[0], LOADERS[1]))?;
        let (version, title) = (kernel.version, title(&String::from_utf8_lossy(&release)));
        let is_word = version.chars().all(|c| c.is_ascii_alphanumeric() || "+-._~".contains(c));
        ensure!(is_word, "the kernel's version is {version:?}, expected a word");
        let folder = format!("{TOKEN}/{version}");
        let entry = entry(&title, &version, &folder, table);
        let mut files: Vec<(String, Vec<u8>)> = PLACES.map(|place| (place.into(), loader.clone())).into();
        files.push(("loader/loader.conf".into(), b"timeout 3\n".to_vec()));
        files.push(("loader/entries.srel".into(), b"type1\n".to_vec()));
        files.push((format!("loader/entries/{TOKEN}-{version}.conf"), entry.into_bytes()));
        files.push((format!("{folder}/linux"), kernel.kernel));
        files.push((format!("{folder}/initrd.img-{version}"), kernel.initrd));
        Ok::<_, anyhow::Error>(files)
    };
    let files = read().context("cannot read the root of the new image")?;
    table::write_efi(image, &files).context("cannot write the EFI partition")
}

/// Returns the name of a system for users.
fn title(release: &str) -> String {
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or(TOKEN, |name| name.trim().trim_matches('"')).to_owned()
}

/// Returns the entry of a kernel, as systemd's kernel-install would write it.
fn entry(title: &str, version: &str, folder: &str, table: &Table) -> String {
    format!(
        "title {title}\nversion {version}\nsort-key {TOKEN}\noptions {}\nlinux /{folder}/linux\ninitrd \
         /{folder}/initrd.img-{version}\n",
        command_line(table)
    )
}

#[cfg(test)]
mod tests;
