//! Guests that change a folder.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use polyfuse_kernel::*;
use proptest::prelude::*;
use rustix::io::Errno;
use zerocopy::{FromBytes as _, FromZeros as _, IntoBytes as _};

use super::{Guest, SECRET, hostile, send};
use crate::nodes::ROOT;
use crate::{Access, MAX_WRITE, O_APPEND, O_EXCL, O_TRUNC};

const WRITE_ONLY: u32 = 1;
const BOTH: u32 = 2;

impl Guest {
    fn writer() -> Self {
        Self::with(Access::ReadWrite)
    }

    pub(super) fn create(
        &mut self,
        folder: u64,
        name: &str,
        flags: u32,
        mode: u32,
    ) -> Result<(u64, u64), Errno> {
        let asked = fuse_create_in { flags, mode: 0o100_000 | mode, ..Default::default() };
        let reply = self.ask(FUSE_CREATE, folder, &[asked.as_bytes(), name.as_bytes(), &[0]].concat())?;
        let (entry, rest) = fuse_entry_out::read_from_prefix(&reply).unwrap();
        let opened = fuse_open_out::read_from_bytes(rest).unwrap();
        Ok((entry.nodeid, opened.fh))
    }

    pub(super) fn write(&mut self, fh: u64, offset: u64, data: &[u8]) -> Result<u32, Errno> {
        let asked = fuse_write_in { fh, offset, size: data.len() as u32, ..Default::default() };
        let out: fuse_write_out = self.get(FUSE_WRITE, 0, &[asked.as_bytes(), data].concat())?;
        Ok(out.size)
    }

    pub(super) fn set(
        &mut self,
        node: u64,
        valid: u32,
        fill: impl FnOnce(&mut fuse_setattr_in),
    ) -> Result<fuse_attr, Errno> {
        let mut asked = fuse_setattr_in::new_zeroed();
        asked.valid = valid;
        fill(&mut asked);
        self.get::<fuse_attr_out>(FUSE_SETATTR, node, asked.as_bytes()).map(|out| out.attr)
    }

    pub(super) fn rename(&mut self, from: (u64, &str), to: (u64, &str), flags: u32) -> Result<(), Errno> {
        let asked = fuse_rename2_in { newdir: to.0, flags, padding: 0 };
        let names = [from.1.as_bytes(), &[0], to.1.as_bytes(), &[0]].concat();
        self.ask(FUSE_RENAME2, from.0, &[asked.as_bytes(), &names].concat()).map(drop)
    }

    pub(super) fn make(
        &mut self,
        opcode: u32,
        folder: u64,
        head: &[u8],
        name: &str,
    ) -> Result<fuse_entry_out, Errno> {
        self.get(opcode, folder, &[head, name.as_bytes(), &[0]].concat())
    }
}

#[test]
fn files_are_made_and_written() {
    let mut guest = Guest::writer();
    let (node, fh) = guest.create(ROOT, "new", BOTH, 0o640).unwrap();
    assert_eq!(guest.write(fh, 0, b"written by the guest").unwrap(), 20);
    assert_eq!(guest.write(fh, 8, b"BY").unwrap(), 2);
    assert_eq!(fs::read(guest.path("new")).unwrap(), b"written BY the guest");
    assert_eq!(fs::metadata(guest.path("new")).unwrap().mode(), 0o100_640);
    assert_eq!(guest.read(FUSE_READ, fh, 8, 2).unwrap(), b"BY");
    assert_eq!(guest.walk("new").unwrap(), node);
    // What is there is opened, unless it must not be there, and keeps its contents.
    assert_eq!(guest.create(ROOT, "new", BOTH | O_EXCL, 0o600), Err(Errno::EXIST));
    assert_eq!(guest.create(ROOT, "new", BOTH, 0o600).unwrap().0, node);
    assert_eq!(fs::metadata(guest.path("new")).unwrap().len(), 20);
    // One that the host has made meanwhile, to be emptied.
    assert_eq!(guest.create(ROOT, "new", WRITE_ONLY | O_TRUNC, 0o600).unwrap().0, node);
    assert_eq!(fs::metadata(guest.path("new")).unwrap().len(), 0);
    // Both append behind what the other has written.
    let end = guest.open_with(FUSE_OPEN, node, WRITE_ONLY | O_APPEND).unwrap();
    fs::write(guest.path("new"), "host;").unwrap();
    guest.write(end, 0, b"guest;").unwrap();
    assert_eq!(fs::read(guest.path("new")).unwrap(), b"host;guest;");
    // A descriptor to read does not write, and one to write does not read.
    let reader = guest.open(FUSE_OPEN, node).unwrap();
    assert_eq!(guest.write(reader, 0, b"x"), Err(Errno::BADF));
    assert_eq!(guest.read(FUSE_READ, end, 0, 1), Err(Errno::BADF));
    // More than a request has, or than is allowed.
    for size in [9, MAX_WRITE + 1, u32::MAX] {
        let asked = fuse_write_in { fh, size, ..Default::default() };
        let body = [asked.as_bytes(), b"8 bytes!"].concat();
        assert_eq!(guest.ask(FUSE_WRITE, 0, &body), Err(Errno::INVAL), "{size}");
    }
    assert_eq!(guest.write(fh, 0, &vec![7; MAX_WRITE as usize]).unwrap(), MAX_WRITE);
    assert!(guest.write(fh, u64::MAX, b"x").is_err());
    let synced = fuse_fsync_in { fh, ..Default::default() };
    guest.ask(FUSE_FSYNC, node, synced.as_bytes()).unwrap();
}

#[test]
fn attributes_are_set() {
    let mut guest = Guest::writer();
    let node = guest.walk("file").unwrap();
    assert_eq!(guest.set(node, FATTR_SIZE, |asked| asked.size = 4).unwrap().size, 4);
    assert_eq!(fs::read(guest.path("file")).unwrap(), b"cont");
    assert_eq!(guest.set(node, FATTR_SIZE, |asked| asked.size = u64::MAX).err(), Some(Errno::FBIG));
    assert_eq!(guest.set(node, FATTR_MODE, |asked| asked.mode = 0o100_751).unwrap().mode, 0o100_751);
    let times = FATTR_ATIME | FATTR_MTIME;
    let attr = guest
        .set(node, times, |asked| {
            (asked.atime, asked.mtime, asked.mtimensec) = (5, (-7_i64).cast_unsigned(), 9);
        })
        .unwrap();
    assert_eq!((attr.atime, attr.mtime.cast_signed(), attr.mtimensec), (5, -7, 9));
    assert_eq!(
        guest.set(node, FATTR_MTIME, |asked| asked.mtimensec = 1_000_000_000).err(),
        Some(Errno::INVAL)
    );
    let now = guest.set(node, FATTR_MTIME | FATTR_MTIME_NOW, |_| {}).unwrap();
    assert!(now.mtime > 1 << 30 && now.atime == 5);
    let owner = fs::metadata(guest.path("file")).unwrap().uid();
    assert_eq!(guest.set(node, FATTR_UID, |asked| asked.uid = owner).unwrap().uid, owner);
    // What is open is changed even without its name.
    let fh = guest.open_with(FUSE_OPEN, node, BOTH).unwrap();
    fs::remove_file(guest.path("file")).unwrap();
    let attr = guest
        .set(node, FATTR_SIZE | FATTR_FH | FATTR_MODE, |asked| (asked.fh, asked.mode) = (fh, 0o600))
        .unwrap();
    assert_eq!((attr.size, attr.mode, attr.nlink), (0, 0o100_600, 0));
    // Room for contents, and a hole.
    guest.write(fh, 0, &[1; 8192]).unwrap();
    let hole = fuse_fallocate_in { fh, offset: 0, length: 4096, mode: 3, padding: 0 };
    guest.ask(FUSE_FALLOCATE, node, hole.as_bytes()).unwrap();
    assert_eq!(guest.read(FUSE_READ, fh, 4095, 2).unwrap(), [0, 1]);
}

/// A handle is good for as much as it was opened for, wherever the host has moved its file.
#[test]
fn what_has_left_the_folder_keeps_its_attributes() {
    let mut guest = Guest::writer();
    for (name, opcode) in [("file", FUSE_OPEN), ("folder", FUSE_OPENDIR)] {
        let node = guest.walk(name).unwrap();
        let fh = guest.open_with(opcode, node, 0).unwrap();
        let away = guest.path(&format!("../{name}-away"));
        fs::rename(guest.path(name), &away).unwrap();
        let before = fs::metadata(&away).unwrap();
        for handle in [0, FATTR_FH] {
            let valid = FATTR_MODE | FATTR_MTIME | handle;
            let set = guest.set(node, valid, |asked| (asked.mode, asked.fh) = (0o777, fh));
            assert_eq!(set.err(), Some(Errno::STALE), "{name} {handle}");
        }
        let after = fs::metadata(&away).unwrap();
        assert_eq!((after.mode(), after.mtime()), (before.mode(), before.mtime()), "{name}");
        assert_eq!(guest.attributes(node).unwrap().mode, before.mode(), "{name}");
    }
}

/// Linux names no handle when a program asks for attributes of a file that it has open, or sets them.
#[test]
fn what_is_open_needs_no_name() {
    let mut guest = Guest::writer();
    for replaced in [false, true] {
        let (node, fh) = guest.create(ROOT, "open", BOTH, 0o640).unwrap();
        guest.write(fh, 0, b"open").unwrap();
        if replaced {
            fs::write(guest.path("other"), "other").unwrap();
            fs::rename(guest.path("other"), guest.path("open")).unwrap();
        } else {
            guest.ask(FUSE_UNLINK, ROOT, b"open\0").unwrap();
        }
        let attr = guest.attributes(node).unwrap();
        assert_eq!((attr.size, attr.mode, attr.nlink), (4, 0o100_640, 0));
        assert_eq!(guest.set(node, FATTR_MODE, |asked| asked.mode = 0o600).unwrap().mode, 0o100_600);
        let owner = attr.uid;
        assert_eq!(guest.set(node, FATTR_UID, |asked| asked.uid = owner).unwrap().uid, owner);
        assert_eq!(guest.set(node, FATTR_MTIME, |asked| asked.mtime = 9).unwrap().mtime, 9);
        assert_eq!(guest.set(node, FATTR_SIZE, |asked| asked.size = 2).unwrap().size, 2);
        let again = guest.open(FUSE_OPEN, node).unwrap();
        assert_eq!(guest.read(FUSE_READ, again, 0, 9).unwrap(), b"op");
        // One that is open to read is not opened to write: it may have left the folder.
        guest.close(fh).unwrap();
        assert_eq!(guest.open_with(FUSE_OPEN, node, BOTH), Err(Errno::STALE));
        assert_eq!(guest.set(node, FATTR_SIZE, |_| {}).err(), Some(Errno::STALE));
        assert_eq!(guest.attributes(node).unwrap().size, 2);
        guest.close(again).unwrap();
        assert_eq!(guest.attributes(node).err(), Some(Errno::STALE));
    }
    assert_eq!(fs::read(guest.path("open")).unwrap(), b"other");
    // A folder that is open, too.
    let node = guest.walk("folder/deep").unwrap();
    guest.open(FUSE_OPENDIR, node).unwrap();
    fs::remove_dir(guest.path("folder/deep")).unwrap();
    assert_eq!(guest.attributes(node).unwrap().mode & 0o170_000, 0o040_000);
}

#[test]
fn names_are_made_moved_and_removed() {
    let mut guest = Guest::writer();
    let mode = fuse_mkdir_in { mode: 0o750, umask: 0 };
    let made = guest.make(FUSE_MKDIR, ROOT, mode.as_bytes(), "made").unwrap();
    assert_eq!(made.attr.mode, 0o040_750);
    let link: fuse_entry_out = guest.get(FUSE_SYMLINK, made.nodeid, b"link\0../file\0").unwrap();
    assert_eq!(guest.ask(FUSE_READLINK, link.nodeid, &[]).unwrap(), b"../file");
    let pipe = fuse_mknod_in { mode: 0o010_600, ..Default::default() };
    assert_eq!(guest.make(FUSE_MKNOD, made.nodeid, pipe.as_bytes(), "pipe").unwrap().attr.mode, 0o010_600);
    // The guest knows a file and what is in a folder by the same numbers after it has moved them.
    let (file, other) = (guest.walk("file").unwrap(), guest.walk("folder/other").unwrap());
    let folder = guest.walk("folder").unwrap();
    guest.rename((ROOT, "folder"), (made.nodeid, "moved"), 0).unwrap();
    assert_eq!(guest.attributes(other).unwrap().size, 14);
    assert_eq!(guest.walk("made/moved/other").unwrap(), other);
    guest.rename((ROOT, "file"), (folder, "other"), 0).unwrap();
    assert_eq!(guest.attributes(file).unwrap().size, 8);
    assert_eq!(guest.attributes(other).err(), Some(Errno::STALE), "the file that was replaced");
    assert_eq!(fs::read(guest.path("made/moved/other")).unwrap(), b"contents");
    // Not over what is there; and in exchange for it.
    let (apart, _) = guest.create(ROOT, "apart", BOTH, 0o600).unwrap();
    let (noreplace, exchange, whiteout) = (1, 2, 4);
    assert_eq!(guest.rename((ROOT, "apart"), (folder, "other"), noreplace), Err(Errno::EXIST));
    assert_eq!(guest.rename((ROOT, "apart"), (folder, "other"), whiteout), Err(Errno::INVAL));
    guest.rename((ROOT, "apart"), (folder, "other"), exchange).unwrap();
    assert_eq!((guest.walk("apart").unwrap(), guest.walk("made/moved/other").unwrap()), (file, apart));
    assert_eq!(guest.attributes(file).unwrap().size, 8);
    // For the guest a second name is a second file: it has to ask each time.
    let head = fuse_link_in { oldnodeid: file };
    let second = guest.make(FUSE_LINK, ROOT, head.as_bytes(), "second").unwrap();
    assert_eq!((second.attr.nlink, second.attr_valid), (2, 0));
    // A new file with a removed one's name, and perhaps with its inode, is another file.
    guest.ask(FUSE_UNLINK, ROOT, b"apart\0").unwrap();
    guest.ask(FUSE_UNLINK, ROOT, b"second\0").unwrap();
    assert_ne!(guest.create(ROOT, "apart", BOTH, 0o600).unwrap().0, file);
    assert_eq!(guest.ask(FUSE_RMDIR, ROOT, b"made\0"), Err(Errno::NOTEMPTY));
    assert_eq!(guest.ask(FUSE_UNLINK, ROOT, b"made\0"), Err(Errno::ISDIR));
    guest.ask(FUSE_RMDIR, folder, b"deep\0").unwrap();
    assert_eq!(guest.ask(FUSE_UNLINK, ROOT, b"made\0x"), Err(Errno::ISDIR), "the name ends with the zero");
}

#[test]
fn a_writer_gains_no_rights() {
    let mut guest = Guest::writer();
    let node = guest.walk("file").unwrap();
    for mode in [0o104_755, 0o102_755, 0o106_000] {
        assert_eq!(guest.create(ROOT, "rights", BOTH, mode), Err(Errno::PERM), "{mode:o}");
        assert_eq!(
            guest.set(node, FATTR_MODE, |asked| asked.mode = mode).err(),
            Some(Errno::PERM),
            "{mode:o}"
        );
        let asked = fuse_mknod_in { mode, ..Default::default() };
        assert_eq!(guest.make(FUSE_MKNOD, ROOT, asked.as_bytes(), "rights").err(), Some(Errno::PERM));
    }
    // Nor by saying that what it makes is a folder.
    let asked = fuse_create_in { flags: BOTH, mode: 0o044_755, ..Default::default() };
    assert_eq!(guest.ask(FUSE_CREATE, ROOT, &[asked.as_bytes(), b"rights\0"].concat()), Err(Errno::PERM));
    for device in [0o020_600, 0o060_600] {
        let asked = fuse_mknod_in { mode: device, rdev: 0x103, ..Default::default() };
        assert_eq!(guest.make(FUSE_MKNOD, ROOT, asked.as_bytes(), "null").err(), Some(Errno::PERM));
    }
    // A program that has rights already is read, and not written; nor is one that gets them while it is open.
    let fh = guest.open_with(FUSE_OPEN, node, BOTH).unwrap();
    fs::set_permissions(guest.path("file"), fs::Permissions::from_mode(0o4755)).unwrap();
    assert_eq!(guest.write(fh, 0, b"x"), Err(Errno::PERM));
    assert_eq!(guest.set(node, FATTR_SIZE | FATTR_FH, |asked| asked.fh = fh).err(), Some(Errno::PERM));
    let longer = fuse_fallocate_in { fh, offset: 0, length: 4096, mode: 0, padding: 0 };
    assert_eq!(guest.ask(FUSE_FALLOCATE, node, longer.as_bytes()), Err(Errno::PERM));
    assert_eq!(guest.contents("file").unwrap(), b"contents");
    assert_eq!(guest.open_with(FUSE_OPEN, node, BOTH), Err(Errno::PERM));
    for flags in [BOTH, O_TRUNC] {
        assert_eq!(guest.create(ROOT, "file", flags, 0o600), Err(Errno::PERM));
    }
    assert_eq!(guest.set(node, FATTR_SIZE, |_| {}).err(), Some(Errno::PERM));
    assert!(!guest.path("rights").exists() && !guest.path("null").exists());
}

#[test]
fn no_change_leads_out() {
    let mut guest = Guest::writer();
    let (up, link) = (guest.walk("up").unwrap(), guest.walk("link").unwrap());
    let mode = fuse_mkdir_in { mode: 0o700, umask: 0 };
    for name in ["..", ".", "", "a/b", "../out"] {
        assert!(guest.make(FUSE_MKDIR, ROOT, mode.as_bytes(), name).is_err(), "{name}");
        assert!(guest.rename((ROOT, "file"), (ROOT, name), 0).is_err(), "{name}");
        assert!(guest.create(ROOT, name, BOTH, 0o600).is_err(), "{name}");
    }
    // Links that lead out are what they are.
    assert_eq!(guest.create(up, "out", BOTH, 0o600), Err(Errno::NOTDIR));
    assert_eq!(guest.rename((ROOT, "file"), (up, "out"), 0), Err(Errno::NOTDIR));
    assert!(guest.create(ROOT, "link", BOTH, 0o600).is_err());
    assert_eq!(guest.set(link, FATTR_SIZE, |_| {}).err(), Some(Errno::LOOP));
    let before = fs::metadata(guest.dir.path().join("secret")).unwrap();
    let _ = guest.set(link, FATTR_MODE, |asked| asked.mode = 0o777);
    let _ = guest.set(link, FATTR_MTIME, |asked| asked.mtime = 1);
    let head = fuse_link_in { oldnodeid: link };
    guest.make(FUSE_LINK, ROOT, head.as_bytes(), "again").unwrap();
    assert!(fs::symlink_metadata(guest.path("again")).unwrap().is_symlink());
    let after = fs::metadata(guest.dir.path().join("secret")).unwrap();
    assert_eq!((before.mode(), before.mtime(), 1), (after.mode(), after.mtime(), after.nlink()));
    assert_eq!(fs::read_dir(guest.dir.path()).unwrap().count(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever a guest sends that may change the folder: replies are in order, and nothing beside the folder changes.
    #[test]
    fn nothing_beside_the_folder_changes(requests in proptest::collection::vec(hostile(), 1..60)) {
        let mut guest = Guest::writer();
        send(&mut guest, &requests);
        prop_assert!(guest.share.files.nodes.len() <= 8 * requests.len());
        prop_assert_eq!(fs::read(guest.dir.path().join("secret")).unwrap(), SECRET.as_bytes());
        prop_assert_eq!(fs::read_dir(guest.dir.path()).unwrap().count(), 2);
        let modes = fs::read_dir(guest.path("")).unwrap().map(|entry| entry.unwrap().metadata().unwrap().mode());
        prop_assert!(modes.into_iter().all(|mode| mode & 0o6000 == 0 || mode & 0o170_000 == 0o040_000));
    }
}
