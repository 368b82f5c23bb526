//! The files of the folder, opened step by step from its root, without following links.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use polyfuse_kernel::{fuse_attr, fuse_entry_out};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat, StatVfs};
use rustix::io::Errno;

use crate::nodes::{FileId, Nodes};
use crate::{O_ACCMODE, O_APPEND, VALID};

/// Opens a name as what it is, without effects on it.
const PLACE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Opens a folder to read it.
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What a step does not pass: mounts, also of one file of the same file system, and links.
const RESOLVE: ResolveFlags = ResolveFlags::NO_XDEV
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::BENEATH);

/// File systems that show or set the kernel, its processes and the firmware, and have no files else (Linux,
/// include/uapi/linux/magic.h, where no other file is named).
const KERNELS_OWN: [u32; 20] = [
    0x0000_9fa0, // procfs
    0x6265_6572, // sysfs
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x0765_5821, // resctrl
    0x6265_6570, // configfs: fs/configfs/mount.c
    0x7363_6673, // securityfs
    0xf97c_ff8c, // selinuxfs
    0x4341_5d53, // smackfs
    0xde5e_81e4, // efivarfs
    0x6165_676c, // pstore
    0xcafe_4a11, // bpf
    0x4249_4e4d, // binfmt_misc
    0x6c6f_6f70, // binder
    0xabba_1974, // xenfs
    0x0000_1cd1, // devpts
    0x6573_5543, // fusectl: fs/fuse/control.c
    0x6e66_7364, // nfsd: fs/nfsd/nfsctl.c
];

/// The folder's files.
#[derive(Debug)]
pub(crate) struct Files {
    root: OwnedFd,
    /// Number of the folder's mount, on a host without openat2(2): before Linux 5.6, or where a filter forbids it.
    pub(crate) mount: Option<u64>,
    /// Seconds that the guest believes a file's attributes.
    pub(crate) valid: u64,
    pub(crate) nodes: Nodes,
}

impl Files {
    pub(crate) fn open(path: &Path, valid: u64, memory: usize) -> io::Result<Self> {
        // The user's own path may be a link.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())?;
        if KERNELS_OWN.contains(&(rustix::fs::fstatfs(&root)?.f_type as u32)) {
            return Err(io::Error::other("a file system of the kernel's own, with no files for a guest"));
        }
        let mount = match rustix::fs::openat2(&root, ".", PLACE, Mode::empty(), RESOLVE) {
            Err(Errno::NOSYS | Errno::PERM) => Some(mount(&root)?),
            place => place.map(|_| None)?,
        };
        Ok(Self { root, mount, valid, nodes: Nodes::new(memory) })
    }

    /// Opens a name in a folder as what it is. What is mounted there is not part of the folder: it may be procfs, in
    /// which a guest would find the memory of this process.
    ///
    /// # Errors
    /// `EXDEV`: something is mounted there; others as of open(2).
    fn step(&self, folder: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
        let Some(own) = self.mount else {
            return rustix::fs::openat2(folder, name, PLACE, Mode::empty(), RESOLVE);
        };
        let file = rustix::fs::openat(folder, name, PLACE, Mode::empty())?;
        if mount(&file)? == own { Ok(file) } else { Err(Errno::XDEV) }
    }

    /// Opens the place of a file: it can be looked at, and not read.
    ///
    /// # Errors
    /// `ESTALE`: the file is no longer where it was; others as of open(2).
    pub(crate) fn reach(&self, number: u64) -> Result<OwnedFd, Errno> {
        let mut place = again(self.root.as_fd())?;
        for (name, file) in self.nodes.way(number)? {
            let next = match self.step(&place, OsStr::from_bytes(name)) {
                Err(Errno::NOENT | Errno::NOTDIR) => return Err(Errno::STALE),
                next => next?,
            };
            if FileId::from(&rustix::fs::fstat(&next)?) != file {
                return Err(Errno::STALE);
            }
            place = next;
        }
        Ok(place)
    }

    /// Gives the file of a name its number, and returns what the guest is told of it.
    ///
    /// # Errors
    /// There is no such file, or there are too many numbers.
    pub(crate) fn enter(
        &mut self,
        folder: &OwnedFd,
        number: u64,
        name: &OsStr,
    ) -> Result<fuse_entry_out, Errno> {
        let stat = rustix::fs::fstat(self.step(folder, name)?)?;
        let number = self.nodes.enter(number, name.as_bytes(), FileId::from(&stat))?;
        let (attr_valid, attr) = (self.valid, attributes(&stat));
        Ok(fuse_entry_out { nodeid: number, entry_valid: VALID, attr_valid, attr, ..Default::default() })
    }

    /// Opens a folder to read it.
    pub(crate) fn folder(&self, number: u64) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(self.reach(number)?, ".", FOLDER, Mode::empty())
    }

    /// Returns the text of a link.
    pub(crate) fn link(&self, number: u64) -> Result<CString, Errno> {
        let place = self.reach(number)?;
        if kind(&place)? != FileType::Symlink {
            return Err(Errno::INVAL);
        }
        rustix::fs::readlinkat(place, "", Vec::new())
    }

    /// Returns what the file system of the folder is like.
    pub(crate) fn statistics(&self) -> Result<StatVfs, Errno> {
        rustix::fs::fstatvfs(self.root.as_fd())
    }
}

/// Opens the file at a place: one with contents, since opening another may have effects, or wait.
///
/// # Errors
/// It is not a regular file, or a program with set-id bits that is to be written: its new contents would have the
/// rights of the old; others as of open(2).
pub(crate) fn open(place: &OwnedFd, flags: OFlags) -> Result<OwnedFd, Errno> {
    let stat = rustix::fs::fstat(place)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        FileType::Directory => return Err(Errno::ISDIR),
        FileType::Symlink => return Err(Errno::LOOP),
        _ => return Err(Errno::ACCESS),
    }
    if flags.intersects(OFlags::RWMODE | OFlags::TRUNC) && has_set_id(stat.st_mode) {
        return Err(Errno::PERM);
    }
    // The very file that was looked at, whatever its name is by now.
    rustix::fs::openat(CWD, itself(place), flags, Mode::empty())
}

/// Returns the number of the mount through which a file was opened (proc(5), `/proc/pid/fdinfo/`).
pub(crate) fn mount(file: &OwnedFd) -> Result<u64, Errno> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd()));
    let text = text.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let number = text.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
    number.ok_or(Errno::NOTSUP)
}

/// Opens an open file's place once more.
pub(crate) fn again(file: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    rustix::io::fcntl_dupfd_cloexec(file, 0)
}

/// Returns the name of an open file that leads to this very file, though it was opened as a place.
pub(crate) fn itself(file: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// Returns the flags that a file is opened with, of those that the guest gives. It is not waited for: another process
/// may have a lease of it.
pub(crate) fn flags(asked: u32) -> OFlags {
    OFlags::from_bits_retain(asked & (O_ACCMODE | O_APPEND))
        | OFlags::NONBLOCK
        | OFlags::NOCTTY
        | OFlags::CLOEXEC
}

/// Returns true for the mode of a file that gives its rights to who runs it.
pub(crate) fn has_set_id(mode: u32) -> bool {
    const SET_ID: u32 = 0o6000;
    FileType::from_raw_mode(mode) != FileType::Directory && mode & SET_ID != 0
}

fn kind(file: &OwnedFd) -> Result<FileType, Errno> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(file)?.st_mode))
}

/// Returns the attributes of a file as the protocol has them.
pub(crate) fn attributes(stat: &Stat) -> fuse_attr {
    // The kernel gives no number that does not fit: sizes are positive, and times are taken as they are.
    #[allow(clippy::unnecessary_cast, reason = "the count of links has other bits on other processors")]
    fuse_attr {
        ino: stat.st_ino,
        size: stat.st_size as u64,
        blocks: stat.st_blocks as u64,
        atime: stat.st_atime as u64,
        mtime: stat.st_mtime as u64,
        ctime: stat.st_ctime as u64,
        atimensec: stat.st_atime_nsec as u32,
        mtimensec: stat.st_mtime_nsec as u32,
        ctimensec: stat.st_ctime_nsec as u32,
        mode: stat.st_mode,
        nlink: stat.st_nlink as u32,
        uid: stat.st_uid,
        gid: stat.st_gid,
        rdev: device(rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)),
        blksize: stat.st_blksize as u32,
        padding: 0,
    }
}

/// Returns a device's number as the protocol has it (Linux, include/linux/kdev_t.h, `new_encode_dev`).
fn device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}
