//! The suite for real machines: a UEFI application, alone and on a disk image, and the report that it writes to the
//! disk.

use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use gpt::GptConfig;
use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use hv_conformance::report::Report;

use crate::exit::Exit;
use crate::fat::{Fat, new};
use crate::input::Input;
use crate::output::Folder;
use crate::setup::programs;
use crate::ui;

/// Path where AArch64 firmware looks for an application (UEFI Specification, "Removable Media Boot Behavior").
const BOOT_PATH: &str = "EFI/BOOT/BOOTAA64.EFI";
/// File where the application writes its report.
const REPORT: &str = "hv-conformance.txt";
/// The image's name in the folder.
const IMAGE: &str = "hv-conformance.img";

const SECTOR: u64 = 512;
/// Size of the disk in bytes: a whole number of MiB, as virtual disks require.
const DISK: u64 = 64 << 20;
/// Start and size of its only partition: large enough for FAT32, which the UEFI Specification requires for the system
/// partition of a fixed disk.
const PARTITION: u64 = 1 << 20;
const PARTITION_BYTES: u64 = DISK - (2 << 20);

/// Creates the application and a disk image with it.
pub(super) fn make(folder: &Path) -> anyhow::Result<Exit> {
    let explain = || {
        format!("cannot write to {}; give --uefi a folder that exists or can be created", folder.display())
    };
    // Before the application is built.
    Folder::make(folder).with_context(explain)?;
    let application = programs::application()?;
    let application = fs::read(&application)?;
    let write = || {
        let root = Folder::make(folder)?;
        let (folders, name) = BOOT_PATH.rsplit_once('/').context("the application is in a folder")?;
        let inner = folders
            .split('/')
            .try_fold(None::<Folder>, |inner, name| inner.as_ref().unwrap_or(&root).inner(name).map(Some))?;
        inner.as_ref().unwrap_or(&root).write(name, &application)?;
        let image = root.begin(Path::new(IMAGE))?;
        fill_image(image.file.try_clone()?, &[(BOOT_PATH, &application)])?;
        anyhow::Ok(image.commit()?)
    };
    write().with_context(explain)?;
    ui::out(&format!("{}\n{}\n", folder.join(BOOT_PATH).display(), folder.join(IMAGE).display()));
    Ok(Exit::Success)
}

/// Writes a disk image into an empty file: a GPT, and one EFI system partition with these files.
fn fill_image(mut disk: File, files: &[(&str, &[u8])]) -> anyhow::Result<()> {
    disk.set_len(DISK)?;
    ProtectiveMBR::with_lb_size((DISK / SECTOR - 1) as u32).overwrite_lba0(&mut disk)?;
    let config = GptConfig::new().writable(true).logical_block_size(LogicalBlockSize::Lb512);
    let mut table = config.create_from_device(disk, None)?;
    let alignment = Some(PARTITION / SECTOR);
    table.add_partition("EFI", PARTITION_BYTES, gpt::partition_types::EFI, 0, alignment)?;
    let mut disk = table.write()?;
    disk.seek(SeekFrom::Start(PARTITION))?;
    disk.write_all(&volume(files)?)?;
    Ok(())
}

/// Returns the partition's bytes.
pub(crate) fn volume(files: &[(&str, &[u8])]) -> anyhow::Result<Vec<u8>> {
    new::volume(*b"HV-CONFORM ", PARTITION_BYTES as usize, files)
}

/// Returns the report on a disk image that [`fill_image`] wrote and a machine ran.
fn report_on(disk: &[u8]) -> anyhow::Result<Vec<u8>> {
    let partition = PARTITION as usize..(PARTITION + PARTITION_BYTES) as usize;
    let volume = disk.get(partition).context("the disk image is truncated")?;
    let volume = Fat::open(volume)
        .context("its file system is not FAT; give the disk image of --uefi after its run")?;
    let report = volume.read(REPORT, PARTITION_BYTES).context("its file system is corrupt")?;
    report.with_context(|| format!("there is no {REPORT}"))
}

/// Returns true if the bytes are a disk with a GPT (UEFI Specification, "GPT Header").
fn is_disk(bytes: &[u8]) -> bool {
    bytes.get(SECTOR as usize..).is_some_and(|rest| rest.starts_with(b"EFI PART"))
}

/// Returns the output of a machine elsewhere: the text in a file, or on one of our disk images.
fn text(file: &Input) -> anyhow::Result<String> {
    let mut bytes = file.read("the report", DISK)?;
    if is_disk(&bytes) {
        bytes =
            report_on(&bytes).with_context(|| format!("cannot read the report on the disk image {file}"))?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Parses the runs in the output of machines elsewhere.
pub(super) fn read(files: &[Input]) -> anyhow::Result<Report> {
    let mut all = Report::default();
    for file in files {
        let text = text(file)?;
        let report = Report::from_console(&text);
        if report.runs.is_empty() {
            let end = text.lines().rev().find(|line| !line.trim().is_empty() && !line.starts_with("The end"));
            bail!(
                "the report {file} contains no run of the suite, expected the text that the suite wrote, or the disk image of \
                 --uefi after its run; it ends with: {}",
                end.unwrap_or("nothing")
            );
        }
        all.runs.extend(report.runs);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;

    fn write_image(path: &Path, files: &[(&str, &[u8])]) -> anyhow::Result<()> {
        let mut options = OpenOptions::new();
        fill_image(options.read(true).write(true).create(true).truncate(true).open(path)?, files)
    }

    #[test]
    fn a_report_that_was_written_to_the_image_is_read_from_it() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join(IMAGE);
        let case = hv_conformance::cases().next().unwrap();
        let text = format!(
            "@hv begin 2 cases=1 vps=1 conduit=smccc granule=4096 filter={case:?}\n@hv run {case:?}\n\
             @hv pass {case:?}\n@hv end passed=1 failed=0 skipped=0\n"
        );
        write_image(&image, &[(BOOT_PATH, b"MZ"), (REPORT, text.as_bytes())]).unwrap();
        assert!(read(&[image.as_path().into()]).unwrap().conforms());
        let disk = GptConfig::new().open(&image).unwrap();
        let partition = &disk.partitions()[&1];
        assert_eq!(partition.part_type_guid, gpt::partition_types::EFI);
        assert_eq!(partition.first_lba * SECTOR, PARTITION);
        assert!((partition.last_lba + 1) * SECTOR >= PARTITION + PARTITION_BYTES);
    }

    #[test]
    fn a_disk_of_nothing_and_a_file_without_an_end_are_errors() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(DISK).unwrap();
        for path in [file.path(), Path::new("/dev/zero"), Path::new("/")] {
            let error = read(&[path.into()]).unwrap_err();
            assert!(error.to_string().contains(&path.display().to_string()), "{error:#}");
        }
    }

    #[test]
    fn a_disk_that_is_damaged_or_cut_off_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join(IMAGE);
        // Bytes per sector, reserved sectors, sectors of a file allocation table, the root's cluster.
        for place in [11, 14, 36, 44] {
            write_image(&image, &[(REPORT, b"text")]).unwrap();
            let mut disk = OpenOptions::new().write(true).open(&image).unwrap();
            disk.seek(SeekFrom::Start(PARTITION + place)).unwrap();
            disk.write_all(&[0xff; 2]).unwrap();
            let error = read(&[image.as_path().into()]).unwrap_err();
            let text = format!("{error:#}");
            assert!(text.contains("its file system is") || text.contains("there is no"), "{place}: {text}");
        }
        OpenOptions::new().write(true).open(&image).unwrap().set_len(DISK / 2).unwrap();
        let error = read(&[image.as_path().into()]).unwrap_err();
        assert!(format!("{error:#}").contains("truncated"), "{error:#}");
    }

    #[test]
    fn a_text_without_a_run_is_an_error_with_its_last_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, "one\nThis machine is not a partition.\nThe end: status 0x3\n").unwrap();
        let error = read(&[file.path().into()]).unwrap_err().to_string();
        assert!(error.ends_with("it ends with: This machine is not a partition."), "{error}");
    }
}
