//! Guests that use a folder while the host moves its parts.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use polyfuse_kernel::*;
use rustix::io::Errno;
use zerocopy::IntoBytes as _;

use super::{Guest, SECRET};
use crate::nodes::ROOT;
use crate::{Access, O_TRUNC};

/// What a guest does in the folder of a number.
type Act = fn(&mut Guest, u64) -> Result<(), Errno>;

/// Ends the exchange, also where an assertion about the guest fails.
struct Over<'o>(&'o AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Lets a guest act while the host exchanges the folder `real` for the link `bait`, which leads to the secret's folder.
fn race(guest: &mut Guest, act: impl FnOnce(&mut Guest)) {
    let root = guest.path("");
    fs::create_dir(root.join("real")).unwrap();
    fs::write(root.join("real/secret"), "mine").unwrap();
    symlink("..", root.join("bait")).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let exchange = rustix::fs::RenameFlags::EXCHANGE;
                let (from, to) = (root.join("real"), root.join("bait"));
                rustix::fs::renameat_with(rustix::fs::CWD, from, rustix::fs::CWD, to, exchange).unwrap();
            }
        });
        let _over = Over(&over);
        act(guest);
    });
}

#[test]
fn no_race_leads_out() {
    race(&mut Guest::new(), |guest| {
        let read: Vec<Vec<u8>> = (0..20_000).filter_map(|_| guest.contents("real/secret").ok()).collect();
        assert!(!read.is_empty() && read.iter().all(|contents| contents == b"mine"));
    });
}

/// The guest creates, writes, renames, links and removes what has the secret's name.
#[test]
fn no_race_changes_what_is_outside() {
    let mut guest = Guest::with(Access::ReadWrite);
    let secret = guest.dir.path().join("secret");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o640)).unwrap();
    let before = fs::metadata(&secret).unwrap();
    race(&mut guest, |guest| {
        let mut done = [0; 10];
        for _ in 0..3_000 {
            let acts: [Act; 10] = [
                |guest, real| {
                    let (_, fh) = guest.create(real, "secret", 2 | O_TRUNC, 0o600)?;
                    let written = guest.write(fh, 0, b"mine");
                    guest.close(fh).and(written.map(drop))
                },
                |guest, real| {
                    let node = guest.look_up(real, "secret")?.nodeid;
                    guest.set(node, FATTR_MODE, |asked| asked.mode = 0o666)?;
                    guest.set(node, FATTR_MTIME, |asked| asked.mtime = 7)?;
                    guest.set(node, FATTR_SIZE, |asked| asked.size = 1).map(drop)
                },
                |guest, real| {
                    let oldnodeid = guest.look_up(real, "secret")?.nodeid;
                    let head = fuse_link_in { oldnodeid };
                    guest.make(FUSE_LINK, real, head.as_bytes(), "linked").map(drop)
                },
                |guest, real| guest.rename((real, "secret"), (real, "moved"), 0),
                |guest, real| guest.rename((real, "moved"), (ROOT, "moved"), 0),
                |guest, real| guest.rename((ROOT, "moved"), (real, "secret"), 0),
                |guest, real| guest.ask(FUSE_UNLINK, real, b"linked\0").map(drop),
                |guest, real| guest.ask(FUSE_UNLINK, real, b"secret\0").map(drop),
                |guest, real| {
                    let head = fuse_mkdir_in { mode: 0o700, umask: 0 };
                    guest.make(FUSE_MKDIR, real, head.as_bytes(), "made").map(drop)
                },
                |guest, real| guest.ask(FUSE_RMDIR, real, b"made\0").map(drop),
            ];
            for (act, done) in acts.iter().zip(&mut done) {
                let acted = guest.walk("real").and_then(|real| act(guest, real));
                *done += usize::from(acted.is_ok());
            }
        }
        assert!(done.iter().all(|count| *count != 0), "{done:?}");
    });
    let after = fs::metadata(&secret).unwrap();
    let told = |stat: &fs::Metadata| (stat.ino(), stat.mode(), stat.mtime(), stat.ctime_nsec(), stat.nlink());
    assert_eq!(told(&before), told(&after));
    assert_eq!(fs::read(secret).unwrap(), SECRET.as_bytes());
    assert_eq!(fs::read_dir(guest.dir.path()).unwrap().count(), 2);
}
