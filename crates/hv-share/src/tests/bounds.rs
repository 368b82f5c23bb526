//! What a guest can take of the host's.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use polyfuse_kernel::*;
use rustix::io::Errno;
use zerocopy::IntoBytes as _;

use super::{Guest, LIMITS, request};
use crate::nodes::{NODE, ROOT};
use crate::{Access, Limits, Share};

#[test]
fn the_host_does_not_grow() {
    let mut guest = Guest::new();
    let node = guest.walk("file").unwrap();
    let mut open: Vec<u64> = (0..16).map(|_| guest.open(FUSE_OPEN, node).unwrap()).collect();
    assert_eq!(guest.open(FUSE_OPEN, node), Err(Errno::NFILE));
    guest.close(open[3]).unwrap();
    assert_eq!(guest.close(open[3]), Err(Errno::BADF));
    open[3] = guest.open(FUSE_OPEN, node).unwrap();
    open.into_iter().for_each(|fh| guest.close(fh).unwrap());
    // However often a file is looked up, it has one number.
    let known = guest.share.files.nodes.len();
    (0..100).for_each(|_| assert_eq!(guest.walk("file").unwrap(), node));
    assert_eq!(guest.share.files.nodes.len(), known);
    let forgotten = [
        fuse_forget_one { nodeid: node, nlookup: 100 },
        fuse_forget_one { nodeid: 7_777, nlookup: 1 },
        fuse_forget_one { nodeid: ROOT, nlookup: u64::MAX },
    ];
    let body = [[3_u32, 0].as_bytes(), forgotten.as_bytes()].concat();
    assert_eq!(guest.share.answer(&request(FUSE_BATCH_FORGET, 0, 0, &body)), Ok(None));
    assert_eq!(guest.share.files.nodes.len(), known);
    guest.tell(FUSE_FORGET, node, &fuse_forget_in { nlookup: u64::MAX });
    assert_eq!(guest.share.files.nodes.len(), known - 1);
    assert_eq!(guest.attributes(node).err(), Some(Errno::STALE));
    // The count may lie about the list.
    for count in [0, 4, u32::MAX] {
        let body = [[count, 0].as_bytes(), forgotten.as_bytes()].concat();
        assert_eq!(guest.share.answer(&request(FUSE_BATCH_FORGET, 0, 0, &body)), Ok(None));
    }
    // A folder that was forgotten leads nowhere, whatever is left in it.
    let other = guest.walk("folder/other").unwrap();
    let folder = guest.walk("folder").unwrap();
    guest.tell(FUSE_FORGET, folder, &fuse_forget_in { nlookup: 2 });
    assert_eq!(guest.attributes(other).err(), Some(Errno::STALE));
}

/// A kernel that knows many files with long names takes no more memory than the folder has.
#[test]
fn numbers_and_names_are_bounded() {
    const MOST: usize = 8;
    let mut guest = Guest::with(Access::ReadWrite);
    let memory = MOST * (NODE + 255);
    guest.share = Share::open(&guest.path(""), Access::ReadWrite, Limits { memory, ..LIMITS }).unwrap();
    let name = |n: usize| format!("{n:0255}");
    let mut known = Vec::new();
    for n in 0..MOST {
        let (node, fh) = guest.create(ROOT, &name(n), 2, 0o600).unwrap();
        guest.close(fh).unwrap();
        known.push(node);
    }
    fs::write(guest.path(&name(MOST)), "").unwrap();
    assert_eq!(guest.look_up(ROOT, &name(MOST)).err(), Some(Errno::NOMEM));
    // Nothing is made of which the guest does not know.
    assert_eq!(guest.create(ROOT, "new", 2, 0o600), Err(Errno::NOMEM));
    assert_eq!(guest.ask(FUSE_SYMLINK, ROOT, b"new\0x\0"), Err(Errno::NOMEM));
    assert!(fs::symlink_metadata(guest.path("new")).is_err());
    assert_eq!(guest.attributes(known[0]).unwrap().size, 0);
    // Short names leave room for others, until they become long ones.
    guest.tell(FUSE_FORGET, known[0], &fuse_forget_in { nlookup: 1 });
    let (short, _) = guest.create(ROOT, "s", 2, 0o600).unwrap();
    assert_eq!(guest.rename((ROOT, "s"), (ROOT, &name(99)), 0), Err(Errno::NOMEM));
    guest.tell(FUSE_FORGET, known[1], &fuse_forget_in { nlookup: 1 });
    guest.rename((ROOT, "s"), (ROOT, &name(99)), 0).unwrap();
    assert_eq!(guest.walk(&name(99)).unwrap(), short);
    assert_eq!(guest.create(ROOT, &name(MOST), 2, 0o600).unwrap().0, short + 1);
    assert_eq!(guest.share.files.nodes.len(), MOST);
    // A name that another file has now is kept once.
    fs::write(guest.path("next"), "").unwrap();
    fs::rename(guest.path("next"), guest.path(&name(2))).unwrap();
    guest.tell(FUSE_FORGET, known[3], &fuse_forget_in { nlookup: 1 });
    assert_ne!(guest.walk(&name(2)).unwrap(), known[2]);
    assert_eq!(guest.share.files.nodes.len(), MOST);
}

/// A file that is not opened for the guest has no number of which the guest does not know.
#[test]
fn what_is_not_opened_has_no_number() {
    let mut guest = Guest::with(Access::ReadWrite);
    fs::set_permissions(guest.path("file"), fs::Permissions::from_mode(0o4755)).unwrap();
    assert_eq!(guest.create(ROOT, "file", 2, 0o600), Err(Errno::PERM));
    assert_eq!(guest.share.files.nodes.len(), 0);
    let node = guest.walk("folder").unwrap();
    for _ in 0..LIMITS.handles {
        guest.open(FUSE_OPENDIR, node).unwrap();
    }
    assert_eq!(guest.create(ROOT, "new", 2, 0o600), Err(Errno::NFILE));
    assert!(!guest.path("new").exists());
    assert_eq!(guest.share.files.nodes.len(), 1);
}
