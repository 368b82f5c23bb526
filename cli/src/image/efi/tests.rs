//! Images that `hv boot` reads back: the table, the root before it has a boot loader, and the EFI partition.

use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::process::Command;

use super::*;
use crate::boot::image;
use crate::fat::Fat;
use crate::process::which_system;

const SIZE: u64 = 400 << 20;
/// Place of the root.
const ROOT: u64 = 257 << 20;

/// A file: its path and contents.
type Given = (&'static str, &'static [u8]);

/// Makes an image with a root that has these files.
fn made(folder: &Path, files: &[Given]) -> Option<(std::path::PathBuf, Table)> {
    let (image, tree) = (folder.join("image"), folder.join("tree"));
    let table = table::make(&image, SIZE, &which_system("mke2fs")?).unwrap();
    for (path, contents) in files {
        let path = tree.join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }
    fs::create_dir_all(&tree).unwrap();
    let offset = format!("offset={ROOT}");
    let mut command = Command::new(which_system("mke2fs")?);
    command.args(["-q", "-F", "-t", "ext4", "-E", &offset, "-d"]).args([&tree, &image]).arg("131072k");
    assert!(command.status().unwrap().success());
    Some((image, table))
}

const SYSTEM: [Given; 6] = [
    ("/etc/os-release", b"ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
    ("/boot/vmlinuz-6.1.0-9", b"old kernel"),
    ("/boot/vmlinuz-6.1.0-10", b"new kernel"),
    ("/boot/initrd.img-6.1.0-9", b"old initrd"),
    ("/boot/initrd.img-6.1.0-10", b"new initrd"),
    (LOADERS[1], b"MZ"),
];

#[test]
fn a_new_image_boots_the_newest_kernel_by_its_entry() {
    let folder = tempfile::tempdir().unwrap();
    let Some((path, table)) = made(folder.path(), &SYSTEM) else { return };
    let find = || image::find(File::open(&path).unwrap(), &path, None, 1 << 20).unwrap().unwrap();
    // The table alone: a root with the partition's own identity.
    assert_eq!(find().path, "/boot/vmlinuz-6.1.0-10");
    assert!(find().options.starts_with(&format!("root=PARTUUID={}", table.root)), "{}", find().options);
    for _ in 0..2 {
        fill(&path, &table).unwrap();
        let system = find();
        assert_eq!(system.title, "debian-6.1.0-10: Debian GNU/Linux 12 (bookworm)");
        assert_eq!(system.path, "/debian/6.1.0-10/linux");
        assert_eq!(
            (&*system.kernel, system.initrd.as_deref()),
            (&b"new kernel"[..], Some(&b"new initrd"[..]))
        );
        assert_eq!(system.options, command_line(&table));
    }
    assert!(fs::metadata(&path).unwrap().blocks() * 512 < 64 << 20, "most of it is holes");
    // UEFI, table 5.1, and 5.3.3: a protective MBR, and the type of an EFI partition in the first entry.
    let disk = File::open(&path).unwrap();
    let read = |at: u64, count: usize| {
        let mut bytes = vec![0; count];
        disk.read_exact_at(&mut bytes, at).unwrap();
        bytes
    };
    assert_eq!(
        (read(450, 1), read(510, 2), read(512, 8)),
        (vec![0xee], vec![0x55, 0xaa], b"EFI PART".to_vec())
    );
    let kind = uuid::Uuid::from_slice_le(&read(1024, 16)).unwrap().to_string();
    assert_eq!(kind, "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
    assert_eq!(read((1 << 20) + 82, 5), b"FAT32");
}

#[test]
fn a_loader_with_a_signature_comes_first() {
    for (more, expected) in [(None, &b"MZ"[..]), (Some((LOADERS[0], &b"MZ signed"[..])), b"MZ signed")] {
        let folder = tempfile::tempdir().unwrap();
        let files: Vec<Given> = SYSTEM.into_iter().chain(more).collect();
        let Some((path, table)) = made(folder.path(), &files) else { return };
        fill(&path, &table).unwrap();
        let mut efi = vec![0; 256 << 20];
        File::open(&path).unwrap().read_exact_at(&mut efi, 1 << 20).unwrap();
        let volume = Fat::open(&*efi).unwrap();
        for place in PLACES {
            assert_eq!(volume.read(place, 100).unwrap().as_deref(), Some(expected), "{place}");
        }
    }
}

#[test]
fn a_root_that_cannot_boot_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let wrong: [(&[Given], &str); 4] = [
        (&[], "no root file system"),
        (&[SYSTEM[0], ("/boot/x", b"")], "no kernel in /boot"),
        (&[SYSTEM[0], SYSTEM[1]], "there is no /boot/initrd.img-6.1.0-9"),
        (&SYSTEM[..5], "there is no /usr/lib/systemd/boot/efi/systemd-bootaa64.efi"),
    ];
    for (number, (files, text)) in wrong.iter().enumerate() {
        let folder = folder.path().join(number.to_string());
        fs::create_dir(&folder).unwrap();
        let Some((path, table)) = made(&folder, files) else { return };
        let error = format!("{:#}", fill(&path, &table).unwrap_err());
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn an_image_too_small_for_its_partitions_is_refused_and_none_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    let error = table::make(&path, 256 << 20, Path::new("mke2fs")).unwrap_err().to_string();
    assert!(error.contains("256 MiB") && error.contains("322 MiB"), "{error}");
    assert!(!path.exists());
    fs::write(&path, "mine").unwrap();
    assert!(table::make(&path, SIZE, Path::new("mke2fs")).is_err());
    assert_eq!(fs::read(&path).unwrap(), b"mine");
}

#[test]
fn blocks_that_were_never_written_are_given_back() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(64 << 20).unwrap();
    if rustix::fs::fallocate(file.as_file(), rustix::fs::FallocateFlags::empty(), 0, 64 << 20).is_err() {
        return;
    }
    // Some are zeros all the same.
    file.as_file().write_all_at(&vec![0; 8 << 20], 8 << 20).unwrap();
    file.as_file().write_all_at(&[7; 8192], 32 << 20).unwrap();
    file.as_file().sync_all().unwrap();
    table::dig(file.path()).unwrap();
    let meta = file.path().metadata().unwrap();
    assert!(meta.blocks() * 512 < 1 << 20 && meta.len() == 64 << 20, "{}", meta.blocks());
    let mut bytes = [0; 8192];
    file.as_file().read_exact_at(&mut bytes, 32 << 20).unwrap();
    assert_eq!(bytes, [7; 8192]);
}
