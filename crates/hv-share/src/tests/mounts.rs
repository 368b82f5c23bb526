//! Mounts in a folder: they are not part of it.

use std::fs;
use std::path::Path;
use std::process::Command;

use polyfuse_kernel::*;
use rustix::io::Errno;

use super::{Guest, LIMITS, SECRET};
use crate::files::mount;
use crate::nodes::ROOT;
use crate::{Access, O_TRUNC, Share};

/// Variable of a process whose mounts are its own.
const OWN: &str = "HV_SHARE_OWN_MOUNTS";

/// Runs `body` in a process whose mounts nothing else sees: this test, by its name, in a mount namespace. Where the
/// user can make none, says so.
fn with_own_mounts(test: &str, body: impl FnOnce()) {
    if std::env::var_os(OWN).is_some() {
        return body();
    }
    // A user other than root needs a user namespace, too.
    let ways: [&[&str]; 2] = [&["--mount"], &["--map-root-user", "--mount"]];
    let unshare = |way: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(way);
        command
    };
    let works = |way: &&&[&str]| unshare(way).arg("true").output().is_ok_and(|done| done.status.success());
    let Some(way) = ways.iter().find(works) else {
        eprintln!("skipped {test}: this user can make no mount namespace with unshare(1)");
        return;
    };
    let program = std::env::current_exe().unwrap();
    let name = format!("{}::{test}", module_path!().split_once("::").unwrap().1);
    let done = unshare(way).arg(program).args(["--exact", &name]).env(OWN, "").output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// A mount, which is taken away when this is dropped: a folder that has one cannot be removed.
struct Mounted<'p>(&'p Path);

impl<'p> Mounted<'p> {
    /// Mounts something; returns `None` if this machine has no such thing, or does not let its user have it.
    fn new(options: &[&str], from: &Path, to: &'p Path) -> Option<Self> {
        let done = Command::new("mount").args(options).arg(from).arg(to).output();
        done.is_ok_and(|done| done.status.success()).then(|| Self(to))
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let done = Command::new("umount").arg(self.0).status();
        assert!(std::thread::panicking() || done.unwrap().success(), "{} stays mounted", self.0.display());
    }
}

/// Calls `judge` with a guest's share as this host has it, and as on a host without openat2(2).
fn both_ways(guest: &mut Guest, judge: impl Fn(&mut Guest)) {
    judge(guest);
    let root = fs::File::open(guest.path("")).unwrap().into();
    let found = guest.share.files.mount.replace(mount(&root).unwrap());
    judge(guest);
    guest.share.files.mount = found;
}

/// Lends the whole tree of this machine, in which the kernel's own file systems are mounted.
#[test]
fn no_other_file_system_is_entered() {
    let mut guest = Guest::new();
    guest.share = Share::open(Path::new("/"), Access::ReadWrite, LIMITS).unwrap();
    for own in ["proc", "sys"] {
        assert_eq!(guest.look_up(ROOT, own).err(), Some(Errno::XDEV), "{own}");
    }
}

#[test]
fn what_is_mounted_in_the_folder_is_not_entered() {
    with_own_mounts("what_is_mounted_in_the_folder_is_not_entered", || {
        let mut guest = Guest::with(Access::ReadWrite);
        both_ways(&mut guest, |guest| drop(guest.contents("folder/other").unwrap()));
        let (file, folder) = (guest.walk("file").unwrap(), guest.walk("folder").unwrap());
        let other = guest.walk("folder/other").unwrap();
        // Of the same file system, so that no device tells them apart.
        let above = guest.dir.path().to_owned();
        let places = ["file", "folder"].map(|name| guest.path(name));
        let bind = |from: &Path, to| Mounted::new(&["--bind"], from, to).unwrap();
        let mounted = [bind(&above.join("secret"), &places[0]), bind(&above, &places[1])];
        assert_eq!(fs::read(guest.path("folder/secret")).unwrap(), SECRET.as_bytes());
        both_ways(&mut guest, |guest| {
            for (name, node) in [("file", file), ("folder", folder), ("folder", other)] {
                assert_eq!(guest.look_up(ROOT, name).err(), Some(Errno::XDEV), "{name}");
                assert_eq!(guest.attributes(node).err(), Some(Errno::XDEV), "{name}");
            }
            assert_eq!(guest.open_with(FUSE_OPEN, file, 2), Err(Errno::XDEV));
            assert_eq!(guest.open(FUSE_OPENDIR, folder), Err(Errno::XDEV));
            assert_eq!(guest.create(ROOT, "file", O_TRUNC, 0o600), Err(Errno::XDEV));
            assert_eq!(guest.ask(FUSE_UNLINK, folder, b"secret\0"), Err(Errno::XDEV));
            // It is listed, as what it hides is.
            let listed = guest.list(ROOT, 4096, true);
            assert_eq!((listed["file"].0, listed["folder"].0), (0, 0));
            assert_ne!(listed["link"].0, 0);
        });
        assert_eq!(fs::read(above.join("secret")).unwrap(), SECRET.as_bytes());
        drop(mounted);
        guest.dir.close().unwrap();
    });
}

/// As the folder itself, too, they are not given away.
#[test]
fn the_kernels_own_file_systems_are_refused() {
    let refuse = |path: &Path| {
        let refused = Share::open(path, Access::ReadOnly, LIMITS).unwrap_err();
        assert!(refused.to_string().contains("the kernel's own"), "{}: {refused}", path.display());
    };
    ["/proc", "/sys"].iter().for_each(|path| refuse(Path::new(path)));
    with_own_mounts("the_kernels_own_file_systems_are_refused", || {
        let place = tempfile::tempdir().unwrap();
        let kinds = [
            "proc",
            "sysfs",
            "debugfs",
            "tracefs",
            "cgroup2",
            "resctrl",
            "configfs",
            "securityfs",
            "selinuxfs",
            "smackfs",
            "efivarfs",
            "pstore",
            "bpf",
            "binfmt_misc",
            "binder",
            "xenfs",
            "devpts",
            "fusectl",
            "nfsd",
        ];
        let judged = kinds.iter().filter_map(|kind| {
            let mounted = Mounted::new(&["-t", kind], Path::new("none"), place.path());
            mounted.map(|_mounted| refuse(place.path()))
        });
        assert_ne!(judged.count(), 0);
    });
}
