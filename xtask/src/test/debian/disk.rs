//! What other programs than ours say of an image: its partition table, its file systems, and what boots.

use std::fs::{self, File};
use std::io::{Cursor, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use fatfs::{FileSystem, FsOptions};
use hv_setup::process;

use crate::test::devices::storage::tool;

/// Places of the EFI partition and of the root.
const EFI: std::ops::Range<u64> = 1 << 20..257 << 20;
const ROOT: u64 = 257 << 20;
/// Where firmware for AArch64 looks (UEFI, 3.5.1.1), and the folder of entries (Boot Loader Specification).
const LOADER: &str = "EFI/BOOT/BOOTAA64.EFI";
const ENTRIES: &str = "loader/entries";

/// Checks that no program finds a fault in an image.
pub(super) fn sound(image: &Path) -> anyhow::Result<()> {
    let table = says(Command::new(tool("sgdisk", "gdisk")?).arg("-v").arg(image))?;
    ensure!(table.contains("No problems found"), "sgdisk says:\n{table}");
    let table = says(Command::new(tool("sgdisk", "gdisk")?).arg("-p").arg(image))?;
    ensure!(table.contains(" EF00 ") && table.contains(" 8305 "), "sgdisk says:\n{table}");
    says(
        Command::new(tool("e2fsck", "e2fsprogs")?)
            .arg("-fn")
            .arg(format!("{}?offset={ROOT}", image.display())),
    )?;
    let mut bytes = vec![0; usize::try_from(EFI.end - EFI.start)?];
    File::open(image)?.read_exact_at(&mut bytes, EFI.start)?;
    let part = image.with_extension("efi");
    fs::write(&part, &bytes)?;
    let fat = says(Command::new(tool("fsck.vfat", "dosfstools")?).arg("-n").arg("-v").arg(&part))?;
    fs::remove_file(&part)?;
    ensure!(fat.contains("32 bit entries"), "fsck.vfat says:\n{fat}");
    loader(&mut bytes)
}

/// Checks that an EFI partition has a boot loader for AArch64, and an entry whose files are there.
fn loader(bytes: &mut [u8]) -> anyhow::Result<()> {
    let system = FileSystem::new(Cursor::new(bytes), FsOptions::new())?;
    let root = system.root_dir();
    let read = |path: &str| {
        let mut bytes = Vec::new();
        root.open_file(path.trim_start_matches('/'))
            .with_context(|| path.to_owned())?
            .read_to_end(&mut bytes)?;
        Ok::<_, anyhow::Error>(bytes)
    };
    let loader = read(LOADER)?;
    // PE: the signature's place is at 0x3c, the machine follows it (0xaa64).
    let place = loader.get(0x3c..0x40).map(|at| u32::from_le_bytes([at[0], at[1], at[2], at[3]]) as usize);
    let machine = place.and_then(|at| loader.get(at..at + 6));
    ensure!(machine == Some(b"PE\0\0\x64\xaa"), "{LOADER} is no program for AArch64: {machine:02x?}");
    let entries = root.open_dir(ENTRIES)?.iter().map(|entry| Ok(entry?.file_name()));
    let entries: Vec<String> = entries.collect::<std::io::Result<_>>()?;
    let entries: Vec<_> = entries.iter().filter(|name| name.ends_with(".conf")).collect();
    let [entry] = entries[..] else { anyhow::bail!("expected one entry, found {entries:?}") };
    let text = String::from_utf8(read(&format!("{ENTRIES}/{entry}"))?)?;
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        line.with_context(|| format!("the entry has no {key}:\n{text}"))
    };
    ensure!(read(value("linux ")?)?.starts_with(b"MZ"), "the kernel is no EFI program");
    ensure!(!read(value("initrd ")?)?.is_empty(), "the initrd is empty");
    ensure!(value("options ")?.contains("root=PARTUUID="), "{text}");
    Ok(())
}

/// Runs a program that must succeed, and returns what it says.
fn says(command: &mut Command) -> anyhow::Result<String> {
    let done = process::run(command.env("LC_ALL", "C"), || {})?;
    let said = done.stdout + &done.stderr;
    ensure!(done.status.success(), "{command:?} ended with {}:\n{said}", done.status);
    Ok(said)
}
