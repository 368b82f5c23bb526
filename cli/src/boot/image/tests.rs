//! Images of disks, good and hostile.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::process::Command;

use fatfs::{FileSystem, FormatVolumeOptions, FsOptions};
use gpt::GptConfig;
use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;

use super::*;

/// Bytes of a disk, of its partition, and where that begins.
const DISK: u64 = 8 << 20;
const PARTITION: u64 = 4 << 20;
const START: u64 = 1 << 20;
/// Bytes of a kernel at most.
const MOST: u64 = 1 << 20;

/// Builds a FAT file system with these files.
fn fat(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(vec![0; PARTITION as usize]);
    fatfs::format_volume(&mut bytes, FormatVolumeOptions::new()).unwrap();
    let volume = FileSystem::new(&mut bytes, FsOptions::new()).unwrap();
    for (path, contents) in files {
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
        let folders = folders.split('/').filter(|name| !name.is_empty());
        let folder = folders.fold(volume.root_dir(), |folder, name| folder.create_dir(name).unwrap());
        folder.create_file(name).unwrap().write_all(contents).unwrap();
    }
    volume.unmount().unwrap();
    bytes.into_inner()
}

/// Builds a disk with a GPT and this partition.
fn gpt(partition: &[u8]) -> File {
    let mut disk = tempfile::tempfile().unwrap();
    disk.set_len(DISK).unwrap();
    ProtectiveMBR::with_lb_size((DISK / 512 - 1) as u32).overwrite_lba0(&mut disk).unwrap();
    let config = GptConfig::new().writable(true).logical_block_size(LogicalBlockSize::Lb512);
    let mut table = config.create_from_device(disk, None).unwrap();
    table.add_partition("EFI", PARTITION, gpt::partition_types::EFI, 0, Some(START / 512)).unwrap();
    let mut disk = table.write().unwrap();
    disk.seek(SeekFrom::Start(START)).unwrap();
    disk.write_all(partition).unwrap();
    disk
}

/// Builds a disk with an MBR and this partition.
fn mbr(partition: &[u8]) -> File {
    let disk = tempfile::tempfile().unwrap();
    disk.set_len(DISK).unwrap();
    let mut entry = [0; 16];
    entry[4] = 0xc;
    entry[8..12].copy_from_slice(&((START / 512) as u32).to_le_bytes());
    entry[12..].copy_from_slice(&((PARTITION / 512) as u32).to_le_bytes());
    disk.write_all_at(&entry, 446).unwrap();
    disk.write_all_at(&[0x55, 0xaa], 510).unwrap();
    disk.write_all_at(partition, START).unwrap();
    disk
}

const OLD: &str = "title Old\nversion 6.1\nlinux /old/linux\noptions root=/dev/sda1\n";
const NEW: &str = "# what systemd's kernel-install writes\ntitle\tNew system\nversion    6.12\nlinux      /new/linux\n\
                   initrd     /new/initrd\ninitrd /new/more\noptions    root=/dev/sda2 ro\noptions quiet\n";

/// Builds a volume of systemd-boot with two entries.
fn systemd() -> Vec<u8> {
    fat(&[
        ("loader/entries/old.conf", OLD.as_bytes()),
        ("loader/entries/new.conf", NEW.as_bytes()),
        ("old/linux", b"old kernel"),
        ("new/linux", b"new kernel"),
        ("new/initrd", b"initrd"),
        ("new/more", b"+more"),
    ])
}

fn find_in(disk: File, wanted: Option<&str>) -> anyhow::Result<Option<System>> {
    find(disk, Path::new("x.img"), wanted, MOST)
}

#[test]
fn the_newest_entry_boots_and_another_one_by_its_name_or_title() {
    for disk in [gpt, mbr] {
        let system = find_in(disk(&systemd()), None).unwrap().unwrap();
        assert_eq!(system.kernel, b"new kernel");
        assert_eq!(system.initrd.as_deref(), Some(&b"initrd+more"[..]));
        assert_eq!(system.options, "root=/dev/sda2 ro quiet");
        assert_eq!((&*system.title, &*system.path), ("new: New system", "/new/linux"));
        for wanted in ["old", "Old"] {
            let system = find_in(disk(&systemd()), Some(wanted)).unwrap().unwrap();
            assert_eq!((&*system.kernel, system.initrd), (&b"old kernel"[..], None));
        }
        let error = format!("{:#}", find_in(disk(&systemd()), Some("none")).unwrap_err());
        assert!(error.contains("new: New system") && error.contains("old: Old"), "{error}");
    }
}

#[test]
fn the_default_of_the_boot_loader_comes_first() {
    let with = |loader: &str| {
        fat(&[
            ("loader/loader.conf", loader.as_bytes()),
            ("boot/loader/entries/old.conf", OLD.as_bytes()),
            ("boot/loader/entries/new.conf", NEW.replace("/new/", "/old/").as_bytes()),
            ("old/linux", b"old kernel"),
        ])
    };
    let title = |loader: &str| find_in(gpt(&with(loader)), Some("old")).unwrap().unwrap().title;
    assert_eq!(title("timeout 3\n"), "old: Old");
    let volumes = |loader: &str| {
        let parts = partitions::find(gpt(&with(loader))).unwrap();
        let volumes: Vec<_> = parts.into_iter().filter_map(|part| Volume::open(part).unwrap()).collect();
        let mut found = Found::default();
        found.find(&volumes);
        assert!(found.troubles.is_empty(), "{:?}", found.troubles);
        found.entries.into_iter().map(|entry| entry.id).collect::<Vec<_>>()
    };
    assert_eq!(volumes("timeout 3\n"), ["new", "old"]);
    assert_eq!(volumes("timeout 3\ndefault old.conf\n"), ["old", "new"]);
    assert_eq!(volumes("default ol*"), ["old", "new"]);
}

#[test]
fn grubs_menu_is_read_in_its_order() {
    let menu = "set default=\"0\"\nif [ x = y ]; then\n  set timeout=5\nfi\n\
        menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'gnulinux-simple' {\n\
        \tload_video\n\tsearch --no-floppy --fs-uuid --set=root 1234\n\
        \tlinux\t/boot/vmlinuz-6.12 root=UUID=12-34 ro  quiet $vt_handoff dyndbg=\"file x +p\"\n\
        \tinitrd\t/boot/initrd.img-6.12\n}\n\
        submenu 'Advanced options' {\n\tmenuentry 'Debian, with Linux 6.1' --id other {\n\
        \t\tlinux /boot/vmlinuz-6.1 root=UUID=12-34 ro single\n\t}\n\
        \tmenuentry 'UEFI settings' {\n\t\tfwsetup\n\t}\n}\n";
    let entries = config::grub(menu, 3);
    assert_eq!(entries.len(), 2);
    assert_eq!((&*entries[0].id, &*entries[0].title), ("gnulinux-simple", "Debian GNU/Linux"));
    assert_eq!(entries[0].options, "root=UUID=12-34 ro quiet \"dyndbg=file x +p\"");
    assert_eq!(
        (&*entries[0].kernel, &*entries[0].initrd),
        ("/boot/vmlinuz-6.12", &["/boot/initrd.img-6.12".to_owned()][..])
    );
    assert_eq!(
        (&*entries[1].id, &*entries[1].options, entries[1].volume),
        ("other", "root=UUID=12-34 ro single", 3)
    );
    let default = |line: &str| {
        let entries = config::grub(&menu.replace("set default=\"0\"", line), 0);
        entries.first().map(|entry| entry.id.clone()).unwrap_or_default()
    };
    for line in
        ["set default=\"1>0\"", "set default=other", "set default='Advanced options>Debian, with Linux 6.1'"]
    {
        assert_eq!(default(line), "other", "{line}");
    }
    for line in ["", "set default=\"${saved_entry}\"", "set default=7", "set default=0"] {
        assert_eq!(default(line), "gnulinux-simple", "{line}");
    }
    let disk = gpt(&fat(&[
        ("grub/grub.cfg", menu.as_bytes()),
        ("boot/vmlinuz-6.12", b"kernel"),
        ("boot/initrd.img-6.12", b"initrd"),
    ]));
    let system = find_in(disk, None).unwrap().unwrap();
    assert_eq!((&*system.kernel, system.initrd.as_deref()), (&b"kernel"[..], Some(&b"initrd"[..])));
}

#[test]
fn a_disk_without_a_system_has_none_and_says_so_where_one_is_asked_for() {
    for disk in [tempfile::tempfile().unwrap(), gpt(&fat(&[("data", b"data")])), gpt(&[]), mbr(&[])] {
        assert!(find_in(disk.try_clone().unwrap(), None).unwrap().is_none());
        let error = format!("{:#}", find_in(disk, Some("x")).unwrap_err());
        assert!(error.contains("--entry x") && error.contains("has no kernel"), "{error}");
    }
}

#[test]
fn what_an_entry_names_must_be_there_and_fit() {
    let missing = fat(&[("loader/entries/new.conf", NEW.as_bytes()), ("new/linux", b"kernel")]);
    let error = format!("{:#}", find_in(gpt(&missing), None).unwrap_err());
    assert!(error.contains("there is no /new/initrd of the entry new: New system"), "{error}");
    let large =
        fat(&[("loader/entries/old.conf", OLD.as_bytes()), ("old/linux", &vec![1; MOST as usize + 1])]);
    let error = format!("{:#}", find_in(gpt(&large), None).unwrap_err());
    assert!(error.contains("expected 1048576 at most"), "{error}");
}

#[test]
fn an_entry_of_another_architecture_is_none_and_variables_are_left_out() {
    let bls = |text: &str| config::bls("x.conf", text, 0);
    assert!(bls("linux /linux\narchitecture x64\n").is_none() && bls("efi /shell.efi\n").is_none());
    let entry =
        bls("linux /linux\narchitecture AA64\ninitrd /a $tuned /b\noptions ro $more quiet\n").unwrap();
    assert_eq!((entry.initrd.join(" "), &*entry.options), ("/a /b".to_owned(), "ro quiet"));
}

#[test]
fn the_second_table_serves_where_the_first_is_damaged_and_none_with_sizes_that_no_disk_has() {
    let titles = |disk: File| find_in(disk, None).unwrap().map(|system| system.title);
    for (at, value) in
        [(0, 0), (24, 7), (80, u32::MAX), (80, 1 << 20), (84, u32::MAX), (84, 0), (72, u32::MAX)]
    {
        let disk = gpt(&systemd());
        disk.write_all_at(&value.to_le_bytes(), 512 + at).unwrap();
        assert!(titles(disk.try_clone().unwrap()).is_some(), "{at} {value}: the second one");
        disk.write_all_at(&value.to_le_bytes(), DISK - 512 + at).unwrap();
        assert_eq!(titles(disk), None, "{at} {value}");
    }
}

/// Runs a program with this file in its folder, and returns the file.
fn made(words: &str, tree: &[(&str, &[u8])], links: &[(&str, &str)]) -> Option<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("tree");
    for (path, contents) in tree {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, contents).unwrap();
    }
    for (path, target) in links {
        std::os::unix::fs::symlink(target, root.join(path)).unwrap();
    }
    let program = crate::process::which_system("mke2fs")?;
    let image = folder.path().join("image");
    let words = words.split(' ').map(std::ffi::OsStr::new);
    let all =
        words.chain(["-q".as_ref(), "-d".as_ref(), root.as_os_str(), image.as_os_str(), "4096k".as_ref()]);
    assert!(Command::new(program).args(all).status().unwrap().success());
    Some(std::fs::read(image).unwrap())
}

/// Builds a root with two kernels, one of which a link leads to, and what has no end.
fn ext(words: &str) -> Option<Vec<u8>> {
    let long = "x/".repeat(60);
    let tree: &[(&str, &[u8])] = &[
        ("etc/fstab", b""),
        ("usr/lib/linux", b"new kernel"),
        ("boot/vmlinuz-6.1", b"old kernel"),
        ("boot/initrd.img-6.12", &[7; 100_000]),
    ];
    let links = [
        ("boot/vmlinuz-6.12", "../usr/./lib//linux"),
        ("boot/loop", "loop/x"),
        ("boot/vmlinuz-0", "/boot/loop"),
        ("boot/far", &*long),
        ("boot/vmlinuz-00", "far"),
    ];
    made(words, tree, &links)
}

#[test]
fn the_newest_kernel_of_a_root_boots_by_links_and_a_link_without_end_is_an_error() {
    for words in ["-t ext4", "-t ext2", "-t ext4 -O ^metadata_csum,^64bit", "-t ext3 -b 1024"] {
        let Some(volume) = ext(words) else { return };
        let system = find_in(gpt(&volume), None).unwrap().unwrap();
        assert_eq!((&*system.kernel, &*system.path), (&b"new kernel"[..], "/boot/vmlinuz-6.12"), "{words}");
        assert_eq!(system.initrd.unwrap(), [7; 100_000]);
        assert!(system.options.starts_with("root=PARTUUID=") && system.options.ends_with(" ro"));
        assert_eq!(find_in(gpt(&volume), Some("6.1")).unwrap().unwrap().kernel, b"new kernel");
        assert_eq!(find_in(gpt(&volume), Some("vmlinuz-6.1")).unwrap().unwrap().kernel, b"old kernel");
        let error = format!("{:#}", find_in(mbr(&volume), Some("vmlinuz-0")).unwrap_err());
        assert!(error.contains("partition 1 (ext4)") && error.contains("40 symbolic links"), "{error}");
        // Without a partition the file system itself has a name.
        let disk = tempfile::tempfile().unwrap();
        disk.write_all_at(&volume, 0).unwrap();
        assert!(find_in(disk, None).unwrap().unwrap().options.starts_with("root=UUID="));
    }
}

#[test]
fn a_file_system_that_cannot_be_read_is_said_and_the_stock_kernel_boots() {
    let Some(volume) = ext("-t ext4 -O ^metadata_csum") else { return };
    // Offsets in the superblock: blocks, their size, blocks of a group, bytes of an inode.
    for (at, value, text) in [
        (4, u32::MAX, "more than the"),
        (0x18, 30, "2^40"),
        (0x20, 1, "a group has 1 blocks"),
        (0x58, 0xffff, "an inode has 65535 bytes"),
        (0x60, u32::MAX, "incompatible"),
    ] {
        let mut volume = volume.clone();
        volume[1024 + at..1024 + at + 4].copy_from_slice(&value.to_le_bytes());
        let (system, troubles) = search(gpt(&volume), None, MOST).unwrap();
        let troubles = troubles.join("\n");
        assert!(system.is_none() && troubles.contains(text), "{troubles}");
        assert!(troubles.contains("partition 1 (ext4)"), "{troubles}");
        let error = format!("{:#}", find_in(gpt(&volume), Some("6.1")).unwrap_err());
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn a_link_of_a_size_that_no_link_has_is_refused_before_it_is_read() {
    /// Offsets in an inode of the size's halves (Linux, Documentation/filesystems/ext4/inodes.rst); a link's mode.
    const SIZE: [usize; 2] = [4, 0x6c];
    const LINK: [u8; 2] = [0xff, 0xa1];
    let Some(mut volume) = ext("-t ext4 -O ^metadata_csum") else { return };
    let is_it = |inode: &&mut [u8]| inode[..2] == LINK && inode[SIZE[0]] == 120;
    let inode = volume.chunks_exact_mut(128).find(is_it).unwrap();
    let error = |volume: &[u8]| format!("{:#}", find_in(gpt(volume), Some("vmlinuz-00")).unwrap_err());
    inode[SIZE[1] + 1] = 1;
    let error_of_size = error(&volume);
    assert!(error_of_size.contains("the symbolic link /boot/far has 1099511627896 bytes"), "{error_of_size}");
    let error = error(&ext("-t ext4 -O ^metadata_csum").unwrap());
    assert!(error.contains("there is no /boot/vmlinuz-00"), "{error}");
}

/// Changes bytes of an image in use, as often as `times`, and boots it each time.
fn damage(volume: &[u8], times: usize) {
    let whole = gpt(volume);
    let mut seed = 1_u64;
    let mut next = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    // Bytes in use: the tables, and the file system but for the kernel's and the initrd's contents.
    let is_used = |at: &usize| !matches!(volume[*at], 0 | 7);
    let used: Vec<u64> = (0..volume.len()).filter(is_used).map(|at| START + at as u64).collect();
    const EDGES: [u8; 8] = [0, 1, 2, 0x7f, 0x80, 0xf0, 0xfe, 0xff];
    for _ in 0..times {
        let at = if next(8) == 0 { next(2048) } else { used[next(used.len() as u64) as usize] };
        let bytes = 1 + next(4) as usize;
        let mut old = vec![0; bytes];
        whole.read_exact_at(&mut old, at).unwrap();
        let new: Vec<u8> = old.iter().map(|_| EDGES[next(8) as usize] ^ u8::from(next(4) == 0)).collect();
        whole.write_all_at(&new, at).unwrap();
        // Not on its thread: a panic is this test's.
        drop(search(whole.try_clone().unwrap(), None, MOST));
        drop(search(whole.try_clone().unwrap(), Some("vmlinuz-0"), MOST));
        whole.write_all_at(&old, at).unwrap();
    }
    assert!(find_in(whole, None).unwrap().is_some());
}

#[test]
fn a_damaged_image_is_an_error_or_another_image_and_no_panic() {
    damage(&systemd(), 300);
    for words in ["-t ext4", "-t ext4 -O ^metadata_csum", "-t ext2 -b 1024"] {
        if let Some(volume) = ext(words) {
            damage(&volume, 300);
        }
    }
}

#[test]
fn a_unified_kernel_image_is_an_entry_of_its_own() {
    let image = |kernel: &'static [u8], version: &'static [u8]| {
        let release = b"PRETTY_NAME=\"Unified\"";
        let parts = [
            (".osrel", &release[..]),
            (".uname", version),
            (".cmdline", b"root=/dev/sda2 unified"),
            (".linux", kernel),
            (".initrd", b"its initrd"),
        ];
        unified::program(0xaa64, &parts)
    };
    let (newest, older) = (image(b"newest kernel", b"6.18"), image(b"older kernel", b"5.9"));
    let volume = |loader: &str| {
        fat(&[
            ("loader/loader.conf", loader.as_bytes()),
            ("EFI/Linux/newest.efi", &newest),
            ("EFI/Linux/older.efi", &older),
            ("EFI/Linux/other.efi", b"MZ"),
            ("boot/loader/entries/new.conf", NEW.as_bytes()),
            ("new/linux", b"new kernel"),
            ("new/initrd", b"initrd"),
            ("new/more", b"+more"),
        ])
    };
    let system = find_in(gpt(&volume("")), None).unwrap().unwrap();
    assert_eq!((&*system.title, &*system.path), ("newest: Unified", "EFI/Linux/newest.efi"));
    assert_eq!(
        (&*system.kernel, system.initrd.as_deref()),
        (&b"newest kernel"[..], Some(&b"its initrd"[..]))
    );
    assert_eq!(system.options, "root=/dev/sda2 unified");
    let kernel = |loader: &str, wanted| find_in(gpt(&volume(loader)), wanted).unwrap().unwrap().kernel;
    assert_eq!(kernel("default older.efi\n", None), b"older kernel");
    assert_eq!(kernel("", Some("older")), b"older kernel");
    assert_eq!(kernel("", Some("new")), b"new kernel");
}

/// Builds a disk whose extended partition has a logical one, or more, with these links from one table to the next, in
/// blocks from the extended partition on.
fn logical(partition: &[u8], links: &[u32]) -> File {
    let disk = tempfile::tempfile().unwrap();
    disk.set_len(DISK).unwrap();
    let entry = |kind: u8, start: u32, size: u32| {
        let mut entry = [0; 16];
        entry[4] = kind;
        entry[8..12].copy_from_slice(&start.to_le_bytes());
        entry[12..].copy_from_slice(&size.to_le_bytes());
        entry
    };
    let table = |at: u64, entries: [[u8; 16]; 2]| {
        disk.write_all_at(&entries.concat(), at + 446).unwrap();
        disk.write_all_at(&[0x55, 0xaa], at + 510).unwrap();
    };
    let extended = 128;
    table(0, [entry(0x0f, extended, (DISK / 512) as u32 - extended), [0; 16]]);
    let mut place = 0;
    for (number, next) in links.iter().copied().chain([0]).enumerate() {
        // All but the last one are Linux's, of one block without a file system.
        let is_last = number == links.len();
        let size = if is_last { PARTITION / 512 } else { 1 };
        let link = if next == 0 { [0; 16] } else { entry(5, next, 64) };
        table((u64::from(extended) + u64::from(place)) * 512, [entry(0x83, 8, size as u32), link]);
        if is_last {
            disk.write_all_at(partition, (u64::from(extended) + u64::from(place) + 8) * 512).unwrap();
        }
        place = next;
    }
    disk
}

#[test]
fn logical_partitions_are_partitions() {
    for (links, number) in [(&[][..], 5), (&[64], 6), (&[64, 128, 192], 8)] {
        let parts = partitions::find(logical(&systemd(), links)).unwrap();
        let last = parts.last().unwrap();
        assert_eq!((parts.len(), &*last.name), (links.len() + 1, &*format!("partition {number}")));
        assert_eq!(last.guid.as_deref(), Some(&*format!("00000000-{number:02x}")));
        assert_eq!(find_in(logical(&systemd(), links), None).unwrap().unwrap().kernel, b"new kernel");
    }
    // Tables without an end, and one outside of the extended partition.
    let parts = |disk: File| partitions::find(disk).unwrap().len();
    let disk = logical(&systemd(), &[64, 128]);
    let link = (128 + 128) * 512 + 446 + 16;
    disk.write_all_at(&[0, 0, 0, 0, 5, 0, 0, 0, 64, 0, 0, 0, 64, 0, 0, 0], link).unwrap();
    assert!((3..=200).contains(&parts(disk.try_clone().unwrap())));
    disk.write_all_at(&[0, 0, 0, 0, 5, 0, 0, 0, 255, 255, 255, 255, 64, 0, 0, 0], link).unwrap();
    assert_eq!(parts(disk), 3);
    // A second extended partition, whose own are counted on, also behind one that leaves the extended partition.
    let disk = logical(&systemd(), &[64]);
    disk.write_all_at(&[0, 0, 0, 0, 0x85, 0, 0, 0, 96, 0, 0, 0, 32, 0, 0, 0], 446 + 16).unwrap();
    disk.write_all_at(&[0, 0, 0, 0, 0x83, 0, 0, 0, 8, 0, 0, 0, 200, 0, 0, 0], 96 * 512 + 446).unwrap();
    disk.write_all_at(&[0, 0, 0, 0, 0x83, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0], 96 * 512 + 446 + 16).unwrap();
    disk.write_all_at(&[0x55, 0xaa], 96 * 512 + 510).unwrap();
    let names: Vec<_> = partitions::find(disk).unwrap().into_iter().map(|part| part.name).collect();
    assert_eq!(names, ["partition 5", "partition 6", "partition 7", "partition 8"]);
}
