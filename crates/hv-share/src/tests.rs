//! Guests, friendly and hostile, against a folder with a secret beside it.

mod bounds;
mod change;
mod locks;
mod mounts;
mod races;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use polyfuse_kernel::*;
use proptest::prelude::*;
use rustix::io::Errno;
use zerocopy::{FromBytes, FromZeros as _, Immutable, IntoBytes};

use crate::nodes::ROOT;
use crate::{Access, Invalid, Limits, MAX_READ, MAX_REPLY, MAX_REQUEST, Share, name};

const SECRET: &str = "SECRET of the host";

const LIMITS: Limits = Limits { handles: 16, memory: 1 << 20 };

/// A guest of a folder; beside the folder is `secret`.
struct Guest {
    dir: tempfile::TempDir,
    share: Share,
    unique: u64,
}

/// Builds a request.
fn request(opcode: u32, unique: u64, nodeid: u64, body: &[u8]) -> Vec<u8> {
    let len = (size_of::<fuse_in_header>() + body.len()) as u32;
    let head = fuse_in_header { len, opcode, unique, nodeid, ..Default::default() };
    [head.as_bytes(), body].concat()
}

impl Guest {
    fn new() -> Self {
        Self::with(Access::ReadOnly)
    }

    fn with(access: Access) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("folder/deep")).unwrap();
        fs::write(root.join("file"), "contents").unwrap();
        fs::write(root.join("folder/other"), "other contents").unwrap();
        fs::write(dir.path().join("secret"), SECRET).unwrap();
        symlink("../secret", root.join("link")).unwrap();
        symlink(dir.path(), root.join("up")).unwrap();
        let share = Share::open(&root, access, LIMITS).unwrap();
        Self { dir, share, unique: 0 }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join("root").join(path)
    }

    /// Sends a request that has a reply, and returns what that has.
    fn ask(&mut self, opcode: u32, node: u64, body: &[u8]) -> Result<Vec<u8>, Errno> {
        self.unique += 1;
        let reply = self.share.answer(&request(opcode, self.unique, node, body)).unwrap().expect("a reply");
        let (head, rest) = fuse_out_header::read_from_prefix(reply).unwrap();
        assert_eq!((head.len as usize, head.unique), (reply.len(), self.unique));
        match head.error {
            0 => Ok(rest.to_vec()),
            error => {
                assert!(rest.is_empty());
                Err(Errno::from_raw_os_error(-error))
            }
        }
    }

    /// Sends a request whose reply is one structure, and returns that.
    fn get<T: FromBytes>(&mut self, opcode: u32, node: u64, body: &[u8]) -> Result<T, Errno> {
        Ok(T::read_from_bytes(&self.ask(opcode, node, body)?).unwrap())
    }

    /// Sends a request that has none.
    fn tell(&mut self, opcode: u32, node: u64, body: &(impl IntoBytes + Immutable)) {
        let request = request(opcode, 0, node, body.as_bytes());
        assert_eq!(self.share.answer(&request), Ok(None));
    }

    fn look_up(&mut self, folder: u64, name: &str) -> Result<fuse_entry_out, Errno> {
        self.get(FUSE_LOOKUP, folder, &[name.as_bytes(), &[0]].concat())
    }

    /// Returns the number of the file at a path.
    fn walk(&mut self, path: &str) -> Result<u64, Errno> {
        path.split('/').try_fold(ROOT, |folder, name| Ok(self.look_up(folder, name)?.nodeid))
    }

    fn open(&mut self, opcode: u32, node: u64) -> Result<u64, Errno> {
        self.open_with(opcode, node, 0)
    }

    fn open_with(&mut self, opcode: u32, node: u64, flags: u32) -> Result<u64, Errno> {
        let opened: fuse_open_out = self.get(opcode, node, fuse_open_in { flags, unused: 0 }.as_bytes())?;
        Ok(opened.fh)
    }

    fn read(&mut self, opcode: u32, fh: u64, offset: u64, size: u32) -> Result<Vec<u8>, Errno> {
        let body = fuse_read_in { fh, offset, size, ..Default::default() };
        self.ask(opcode, 0, body.as_bytes())
    }

    fn close(&mut self, fh: u64) -> Result<(), Errno> {
        let body = fuse_release_in { fh, ..Default::default() };
        self.ask(FUSE_RELEASE, 0, body.as_bytes()).map(drop)
    }

    /// Opens, reads and closes a file.
    fn contents(&mut self, path: &str) -> Result<Vec<u8>, Errno> {
        let node = self.walk(path)?;
        let fh = self.open(FUSE_OPEN, node)?;
        let contents = self.read(FUSE_READ, fh, 0, MAX_READ);
        self.close(fh)?;
        contents
    }

    fn attributes(&mut self, node: u64) -> Result<fuse_attr, Errno> {
        let out: fuse_attr_out = self.get(FUSE_GETATTR, node, fuse_getattr_in::default().as_bytes())?;
        Ok(out.attr)
    }

    /// Lists a folder in parts of `size` bytes: each name's number (0 without one) and type.
    fn list(&mut self, node: u64, size: u32, plus: bool) -> BTreeMap<String, (u64, u32)> {
        let fh = self.open(FUSE_OPENDIR, node).unwrap();
        let (mut offset, mut all) = (0, BTreeMap::new());
        loop {
            let opcode = if plus { FUSE_READDIRPLUS } else { FUSE_READDIR };
            let part = self.read(opcode, fh, offset, size).unwrap();
            assert!(part.len() <= size as usize);
            let mut rest = &part[..];
            while !rest.is_empty() {
                let mut nodeid = 0;
                if plus {
                    let (entry, behind) = fuse_entry_out::read_from_prefix(rest).unwrap();
                    (nodeid, rest) = (entry.nodeid, behind);
                }
                let (entry, behind) = fuse_dirent::read_from_prefix(rest).unwrap();
                let (name, _) = behind.split_at(entry.namelen as usize);
                let name = String::from_utf8(name.to_vec()).unwrap();
                assert!(all.insert(name, (nodeid, entry.typ)).is_none(), "an entry twice");
                let length = size_of::<fuse_dirent>() + entry.namelen as usize;
                rest = &rest[length.next_multiple_of(8)..];
                offset = entry.off;
            }
            if part.is_empty() {
                self.close(fh).unwrap();
                return all;
            }
        }
    }
}

#[test]
fn a_kernel_and_the_server_agree_on_a_version() {
    let mut guest = Guest::new();
    let asked = fuse_init_in { major: 7, minor: 41, max_readahead: 1 << 20, flags: u32::MAX };
    // A newer kernel's has more after it.
    let out: fuse_init_out = guest.get(FUSE_INIT, 0, &[asked.as_bytes(), &[0xff; 48]].concat()).unwrap();
    assert_eq!((out.major, out.minor, out.max_readahead), (7, 31, MAX_READ));
    let changing = FUSE_WRITEBACK_CACHE | FUSE_ATOMIC_O_TRUNC | FUSE_POSIX_LOCKS | FUSE_EXPORT_SUPPORT;
    assert_eq!(out.flags & changing, 0);
    assert!(out.flags & FUSE_MAX_PAGES != 0 && u32::from(out.max_pages) * 4096 == MAX_READ);
    for (major, minor) in [(6, 41), (8, 0), (7, 27)] {
        let asked = fuse_init_in { major, minor, ..asked };
        assert_eq!(guest.ask(FUSE_INIT, 0, asked.as_bytes()), Err(Errno::PROTO));
    }
    assert_eq!(guest.ask(FUSE_INIT, 0, &[1; 15]), Err(Errno::INVAL));
}

#[test]
fn files_folders_and_links_are_read() {
    let mut guest = Guest::new();
    assert_eq!(guest.contents("file").unwrap(), b"contents");
    assert_eq!(guest.contents("folder/other").unwrap(), b"other contents");
    let node = guest.walk("file").unwrap();
    fs::set_permissions(guest.path("file"), fs::Permissions::from_mode(0o754)).unwrap();
    let attr = guest.attributes(node).unwrap();
    assert_eq!((attr.size, attr.mode, attr.nlink), (8, 0o100_754, 1));
    let link = guest.walk("link").unwrap();
    assert_eq!(guest.ask(FUSE_READLINK, link, &[]).unwrap(), b"../secret");
    assert_eq!(guest.ask(FUSE_READLINK, node, &[]), Err(Errno::INVAL));
    // From the middle, and after the end.
    let fh = guest.open(FUSE_OPEN, node).unwrap();
    assert_eq!(guest.read(FUSE_READ, fh, 3, 4).unwrap(), b"tent");
    assert_eq!(guest.read(FUSE_READ, fh, 100, 4).unwrap(), b"");
    // One that is open is read even without its name.
    fs::remove_file(guest.path("file")).unwrap();
    assert_eq!(guest.read(FUSE_READ, fh, 0, 4).unwrap(), b"cont");
    let asked = fuse_getattr_in { getattr_flags: FUSE_GETATTR_FH, dummy: 0, fh };
    let out: fuse_attr_out = guest.get(FUSE_GETATTR, node, asked.as_bytes()).unwrap();
    assert_eq!((out.attr.size, out.attr.nlink), (8, 0));
    let statistics: fuse_statfs_out = guest.get(FUSE_STATFS, ROOT, &[]).unwrap();
    assert!(statistics.st.blocks != 0 && statistics.st.namelen != 0);
}

#[test]
fn a_large_folder_is_listed_whole_in_parts_of_any_size() {
    let mut guest = Guest::new();
    for n in 0..1000 {
        fs::write(guest.path(&format!("folder/deep/{n:0width$}", width = 1 + n % 50)), "").unwrap();
    }
    let mut expected: Vec<String> = fs::read_dir(guest.path("folder/deep"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .chain([".".to_owned(), "..".to_owned()])
        .collect();
    expected.sort();
    let node = guest.walk("folder/deep").unwrap();
    for (size, plus) in [(4096, false), (512, true), (MAX_READ, true), (301, false)] {
        let listed = guest.list(node, size, plus);
        assert_eq!(listed.keys().cloned().collect::<Vec<_>>(), expected);
        for (name, (number, _)) in &listed {
            assert_eq!(*number != 0, plus && !name.starts_with('.'), "{name}");
        }
    }
    let root = guest.list(ROOT, 4096, true);
    assert_eq!((root["file"].1, root["folder"].1, root["link"].1), (8, 4, 10));
    let known = root["file"].0;
    assert_eq!(guest.walk("file").unwrap(), known, "a listing and a look-up give different numbers");
    assert_eq!(guest.read(FUSE_READDIR, 99, 0, 4096), Err(Errno::BADF));
    let fh = guest.open(FUSE_OPENDIR, ROOT).unwrap();
    for (offset, size) in [(u64::MAX, 4096), (0, MAX_READ + 1), (0, u32::MAX)] {
        assert_eq!(guest.read(FUSE_READDIR, fh, offset, size), Err(Errno::INVAL));
    }
    // There is room for no entry.
    assert_eq!(guest.read(FUSE_READDIRPLUS, fh, 0, 8).unwrap(), b"");
}

#[test]
fn what_changes_on_the_host_is_seen() {
    let mut guest = Guest::new();
    let old = guest.walk("file").unwrap();
    fs::write(guest.path("new"), "new contents").unwrap();
    fs::rename(guest.path("new"), guest.path("file")).unwrap();
    assert_eq!(guest.open(FUSE_OPEN, old), Err(Errno::STALE), "the old number leads to the new file");
    assert_eq!(guest.contents("file").unwrap(), b"new contents");
    assert_ne!(guest.walk("file").unwrap(), old);
    // Forgetting the old number does not take the new one away.
    let new = guest.walk("file").unwrap();
    guest.tell(FUSE_FORGET, old, &fuse_forget_in { nlookup: 1 });
    assert_eq!(guest.walk("file").unwrap(), new);
    // A folder that was moved takes its files along, and its old name leads nowhere.
    let other = guest.walk("folder/other").unwrap();
    fs::rename(guest.path("folder"), guest.path("moved")).unwrap();
    assert_eq!(guest.attributes(other).err(), Some(Errno::STALE));
    assert_eq!(guest.contents("moved/other").unwrap(), b"other contents");
    fs::remove_dir_all(guest.path("moved")).unwrap();
    assert_eq!(guest.walk("moved"), Err(Errno::NOENT));
}

#[test]
fn no_name_leads_out() {
    for bad in [&b""[..], b".", b"..", b"a/b", b"/", b"../secret", b"folder/../../secret"] {
        assert_eq!(name(&[bad, &[0]].concat()), Err(Errno::INVAL));
    }
    assert_eq!(name(b"no end"), Err(Errno::INVAL));
    assert_eq!(name(&[&[b'a'; 256][..], &[0]].concat()), Err(Errno::NAMETOOLONG));
    assert_eq!(name(b"...\0rest").unwrap(), "...");
    let mut guest = Guest::new();
    for path in ["..", "../secret", "folder/../file", "up/secret", "link/x", "file/x"] {
        assert!(guest.contents(path).is_err(), "{path}");
    }
    // A link is what it is, and never what it leads to.
    assert_eq!(guest.contents("link"), Err(Errno::LOOP));
    let up = guest.walk("up").unwrap();
    assert_eq!(guest.open(FUSE_OPENDIR, up), Err(Errno::NOTDIR));
    assert_eq!(guest.look_up(up, "secret").err(), Some(Errno::NOTDIR));
}

#[test]
fn what_is_no_file_is_not_opened() {
    let mut guest = Guest::new();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, guest.path("pipe"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    // Opening it would wait for a writer.
    assert_eq!(guest.contents("pipe"), Err(Errno::ACCESS));
    let _socket = std::os::unix::net::UnixListener::bind(guest.path("socket")).unwrap();
    assert_eq!(guest.contents("socket"), Err(Errno::ACCESS));
    assert_eq!(guest.contents("folder"), Err(Errno::ISDIR));
    let fh = guest.open(FUSE_OPENDIR, ROOT).unwrap();
    assert_eq!(guest.read(FUSE_READ, fh, 0, 10), Err(Errno::ISDIR));
    let node = guest.walk("file").unwrap();
    let fh = guest.open(FUSE_OPEN, node).unwrap();
    assert_eq!(guest.read(FUSE_READDIR, fh, 0, 10), Err(Errno::NOTDIR));
    assert_eq!(guest.read(FUSE_READ, fh, 0, MAX_READ + 1), Err(Errno::INVAL));
    assert!(guest.read(FUSE_READ, fh, u64::MAX, 10).is_err());
}

#[test]
fn nothing_is_changed() {
    let mut guest = Guest::new();
    let node = guest.walk("file").unwrap();
    for flags in [1, 2, 0o1000] {
        let asked = fuse_open_in { flags, unused: 0 };
        assert_eq!(guest.ask(FUSE_OPEN, node, asked.as_bytes()), Err(Errno::ROFS));
    }
    let changing = [
        FUSE_SETATTR,
        FUSE_SYMLINK,
        FUSE_MKNOD,
        FUSE_MKDIR,
        FUSE_UNLINK,
        FUSE_RMDIR,
        FUSE_RENAME,
        FUSE_RENAME2,
        FUSE_LINK,
        FUSE_WRITE,
        FUSE_SETXATTR,
        FUSE_REMOVEXATTR,
        FUSE_CREATE,
        FUSE_FALLOCATE,
        FUSE_COPY_FILE_RANGE,
    ];
    for opcode in changing {
        assert_eq!(guest.ask(opcode, ROOT, b"file\0file\0"), Err(Errno::ROFS), "{opcode}");
    }
    assert_eq!(guest.contents("file").unwrap(), b"contents");
}

#[test]
fn a_request_of_another_length_is_none() {
    let mut share = Guest::new().share;
    let whole = request(FUSE_GETATTR, 1, ROOT, &[0; 16]);
    assert!(share.answer(&whole).is_ok());
    for bytes in [&[][..], &whole[..39], &whole[..whole.len() - 1], &[&whole[..], &[0]].concat()] {
        assert_eq!(share.answer(bytes), Err(Invalid));
    }
    assert_eq!(share.answer(&request(FUSE_GETATTR, 1, ROOT, &vec![0; MAX_REQUEST])), Err(Invalid));
}

/// Generates a request of a hostile guest: an opcode, a number, a handle, and values that matter, in any order.
fn hostile() -> impl Strategy<Value = (u32, u64, Vec<u8>)> {
    let opcode = prop_oneof![8 => 0_u32..50, 1 => any::<u32>()];
    let node = prop_oneof![4 => 0_u64..12, 1 => any::<u64>()];
    let word = prop_oneof![
        4 => (0_u64..12).prop_map(|word| word.to_ne_bytes().to_vec()),
        1 => any::<u64>().prop_map(|word| word.to_ne_bytes().to_vec()),
        1 => (0_u32..1 << 18, 0_u32..4).prop_map(|words| [words.0.to_ne_bytes(), words.1.to_ne_bytes()].concat()),
        2 => proptest::sample::select(vec![
            &b"file\0"[..], b"folder\0", b"other\0", b"deep\0", b"link\0", b"up\0", b"secret\0", b"..\0", b".\0", b"../secret\0", b"x",
        ])
        .prop_map(<[u8]>::to_vec),
    ];
    (opcode, node, proptest::collection::vec(word, 0..6).prop_map(|words| words.concat()))
}

/// Sends a hostile guest's requests, and judges the replies.
fn send(guest: &mut Guest, requests: &[(u32, u64, Vec<u8>)]) {
    for (n, (opcode, node, body)) in requests.iter().enumerate() {
        let sent = request(*opcode, n as u64, *node, body);
        if let Some(reply) = guest.share.answer(&sent).unwrap() {
            let (head, rest) = fuse_out_header::read_from_prefix(reply).unwrap();
            assert_eq!((head.len as usize, head.unique), (reply.len(), n as u64));
            assert!(reply.len() <= MAX_REPLY && head.error <= 0 && head.error > -4096);
            assert!(!rest.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever a guest sends: each reply is whole, bounded and to that request, no data of the host is in it, and
    /// nothing changes.
    #[test]
    fn no_guest_hurts_the_host(requests in proptest::collection::vec(hostile(), 1..60)) {
        let mut guest = Guest::new();
        send(&mut guest, &requests);
        prop_assert!(guest.share.files.nodes.len() <= 6 * requests.len());
        prop_assert_eq!(fs::read(guest.path("file")).unwrap(), b"contents");
        prop_assert_eq!(fs::read_dir(guest.path("")).unwrap().count(), 4);
    }

    /// Bytes that are not a request are refused, and never more than that.
    #[test]
    fn noise_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut guest = Guest::new();
        let mut head = fuse_in_header::new_zeroed();
        let answered = guest.share.answer(&bytes).is_ok();
        let fits = bytes.len() >= size_of::<fuse_in_header>() && {
            head.as_mut_bytes().copy_from_slice(&bytes[..size_of::<fuse_in_header>()]);
            head.len as usize == bytes.len()
        };
        prop_assert_eq!(answered, fits);
    }
}
