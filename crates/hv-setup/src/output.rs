//! Result files and folders.
//!
//! A file is opened once and written through its descriptor; it appears under its name when it is complete. An existing
//! name is replaced, never followed: another user may have planted a link in a folder such as `/tmp`, or in one given
//! to `--keep`. Devices, pipes and descriptors of this process (`/dev/stdout`, `>(...)`) are written in place.

mod special;

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, bail};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::interrupt::{self, Undo};
use crate::ui;

pub use special::Special;

/// Mode of a new file, before the umask.
const FILE: Mode = Mode::from_raw_mode(0o666);
/// Flags for what is not a regular file: nothing is waited for, and no terminal becomes that of this process.
const SPECIAL: OFlags = OFlags::NONBLOCK.union(OFlags::CLOEXEC).union(OFlags::NOCTTY);
/// Mode of a new folder.
const FOLDER: Mode = Mode::from_raw_mode(0o777);

/// The name of stdout, where an option takes `FILE|-`.
const STDOUT: &str = "-";

/// Returns true if a result goes to stdout.
#[must_use]
pub fn is_stdout(file: &Path) -> bool {
    file.as_os_str() == STDOUT
}

/// Does the same as [`check`] for an option that takes `FILE|-`.
///
/// # Errors
/// The same.
pub fn check_unless_stdout(what: &str, option: &str, file: &Path) -> anyhow::Result<()> {
    if is_stdout(file) { Ok(()) } else { check(what, option, file) }
}

/// Checks early that a file can be written, since results are written at the end of a long run.
///
/// # Errors
/// It is a folder, a socket or `-`, or its folder does not exist.
pub fn check(what: &str, option: &str, file: &Path) -> anyhow::Result<()> {
    if is_stdout(file) {
        bail!("cannot write the {what} to stdout: {option} takes a file; a file called - is ./-");
    }
    let dir = parent(file);
    let is_socket = fs::symlink_metadata(file).is_ok_and(|meta| meta.file_type().is_socket());
    if file.is_dir() || is_socket || !dir.is_dir() {
        bail!(
            "cannot write the {what} to {}: give {option} the path of a file in a folder that exists",
            file.display()
        );
    }
    Ok(())
}

/// Writes a file, completely or not at all if it is a regular file.
pub fn write(what: &str, file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let put = || {
        let mut result = Pending::new(file)?;
        result.write_all(bytes)?;
        result.commit()
    };
    put().with_context(|| format!("cannot write the {what} to {}", file.display()))
}

/// Writes the text that a long run was for: to a file, or without one, or for `-`, to stdout. A text that the file does
/// not take is printed, so that it is not lost.
///
/// # Errors
/// The file cannot be written.
pub fn publish(what: &str, file: Option<&Path>, text: &str) -> anyhow::Result<()> {
    match file.filter(|file| !is_stdout(file)) {
        Some(file) => write(what, file, text.as_bytes()).inspect_err(|_| ui::out(text)),
        None => {
            ui::out(text);
            Ok(())
        }
    }
}

/// Returns the folder of a file.
fn parent(file: &Path) -> &Path {
    file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A file being written.
#[derive(Debug)]
pub enum Pending {
    /// A regular file, still under another name.
    File(NewFile),
    /// Anything but a regular file.
    Special(Special),
}

impl Pending {
    /// Starts writing the file at a path given by the user.
    pub fn new(file: &Path) -> io::Result<Self> {
        if let Some(descriptor) = own_descriptor(file) {
            if let Some(socket) = Special::own_socket(&descriptor)? {
                return Ok(Self::Special(socket));
            }
            // Appending keeps what was there before.
            let flags = OFlags::WRONLY | OFlags::APPEND | SPECIAL;
            return Ok(Self::Special(Special::open(|| rustix::fs::open(&descriptor, flags, FILE))?));
        }
        let name = file.file_name().ok_or(Errno::ISDIR)?;
        let folder = Folder::open(parent(file))?;
        let found = rustix::fs::statat(&folder.0, name, AtFlags::SYMLINK_NOFOLLOW);
        match found.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            Ok(FileType::CharacterDevice | FileType::BlockDevice | FileType::Fifo) => {
                // If it has become a regular file since then, it is neither created nor truncated.
                let flags = OFlags::WRONLY | OFlags::NOFOLLOW | SPECIAL;
                Ok(Self::Special(Special::open(|| rustix::fs::openat(&folder.0, name, flags, FILE))?))
            }
            Ok(FileType::Directory) => Err(Errno::ISDIR.into()),
            Ok(FileType::Socket) => Err(io::Error::other("it is a socket, where a program may listen")),
            _ => Ok(Self::File(folder.begin(Path::new(name))?)),
        }
    }

    /// Gives the file its name.
    pub fn commit(self) -> io::Result<()> {
        match self {
            Self::File(file) => file.commit(),
            Self::Special(_) => Ok(()),
        }
    }
}

impl Write for Pending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.file.write(bytes),
            Self::Special(special) => special.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns the path that names a descriptor of this process, if `file` does.
fn own_descriptor(file: &Path) -> Option<PathBuf> {
    let own = Path::new("/proc/self/fd");
    match file.to_str()? {
        "/dev/stdout" => return Some(own.join("1")),
        "/dev/stderr" => return Some(own.join("2")),
        _ => {}
    }
    let number = file.strip_prefix("/dev/fd").or_else(|_| file.strip_prefix(own)).ok()?;
    number.to_str()?.parse::<u32>().ok().map(|number| own.join(number.to_string()))
}

/// A folder, held open: later changes to its path have no effect.
#[derive(Debug)]
pub struct Folder(OwnedFd);

impl Folder {
    /// Opens a folder given by the user.
    fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::openat(CWD, path, flags, Mode::empty())?))
    }

    /// Opens a folder given by the user, creating it if necessary.
    pub fn make(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        Self::open(path)
    }

    /// Opens a folder inside this one, creating it if necessary. Does not follow links.
    pub fn inner(&self, name: &str) -> io::Result<Self> {
        match rustix::fs::mkdirat(&self.0, name, FOLDER) {
            Err(error) if error != Errno::EXIST => return Err(error.into()),
            _ => {}
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::openat(&self.0, name, flags, Mode::empty())?))
    }

    /// Writes a file, completely or not at all.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.begin(Path::new(name))?;
        file.file.write_all(bytes)?;
        file.commit()
    }

    /// Creates an empty file in place of an existing one, to be written gradually while others read it.
    pub fn create(&self, name: &str) -> io::Result<File> {
        match rustix::fs::unlinkat(&self.0, name, AtFlags::empty()) {
            Err(error) if error != Errno::NOENT => Err(error.into()),
            _ => self.exclusive(Path::new(name)),
        }
    }

    /// Opens a file that persists, such as a lock file, creating it if necessary, without changing it. Does not follow
    /// links.
    pub fn lasting(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.0, name, flags, FILE)?.into())
    }

    fn exclusive(&self, name: &Path) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.0, name, flags, FILE)?.into())
    }

    /// Starts writing a file, which has another name until it is complete.
    pub fn begin(&self, name: &Path) -> io::Result<NewFile> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if name.components().any(|part| !matches!(part, Component::Normal(_)))
            || name.components().count() != 1
        {
            return Err(io::Error::new(io::ErrorKind::InvalidFilename, "expected the name of a file"));
        }
        let _orderly = interrupt::orderly();
        let folder = self.0.try_clone()?;
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let temporary = PathBuf::from(format!(".hv-{}-{number}.tmp", std::process::id()));
            match self.exclusive(&temporary) {
                // A file left by an earlier process with the same id.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
                Ok(file) => {
                    let name = name.to_owned();
                    let (place, file_name) = (folder.try_clone()?, temporary.clone());
                    let undo = interrupt::on_second_signal(move || {
                        let _ = rustix::fs::unlinkat(&place, &file_name, AtFlags::empty());
                    });
                    return Ok(NewFile { folder, temporary: Some(temporary), name, file, _undo: undo });
                }
            }
        }
    }
}

/// A regular file under a temporary name, removed unless it is finished.
#[derive(Debug)]
pub struct NewFile {
    folder: OwnedFd,
    temporary: Option<PathBuf>,
    name: PathBuf,
    /// The open file, still under the temporary name.
    pub file: File,
    /// Keeps signals from leaving half a file behind.
    _undo: Undo,
}

impl NewFile {
    /// Gives the file its name, replacing what had it.
    pub fn commit(mut self) -> io::Result<()> {
        if let Some(temporary) = &self.temporary {
            rustix::fs::renameat(&self.folder, temporary, &self.folder, &self.name)?;
        }
        self.temporary = None;
        Ok(())
    }

    /// Gives the file its name, unless something has it.
    ///
    /// # Errors
    /// `AlreadyExists`: it stays as it is.
    pub fn commit_new(mut self) -> io::Result<()> {
        if let Some(temporary) = &self.temporary {
            let (folder, flags) = (&self.folder, RenameFlags::NOREPLACE);
            match rustix::fs::renameat_with(folder, temporary, folder, &self.name, flags) {
                // Some file systems, such as NFS, have no such rename.
                Err(Errno::INVAL | Errno::NOSYS) => {
                    rustix::fs::linkat(folder, temporary, folder, &self.name, AtFlags::empty())?;
                    rustix::fs::unlinkat(folder, temporary, AtFlags::empty())?;
                }
                renamed => renamed?,
            }
        }
        self.temporary = None;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = rustix::fs::unlinkat(&self.folder, temporary, AtFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_result_that_cannot_be_written_is_known_before_the_run() {
        for bad in ["/nonexistent/report.json", "/"] {
            let error = check("report", "--json", Path::new(bad)).unwrap_err().to_string();
            assert!(error.contains(bad) && error.contains("--json"), "{error}");
        }
        assert!(check("report", "--trace", Path::new("-")).unwrap_err().to_string().contains("./-"));
        assert!(check_unless_stdout("report", "--json", Path::new("-")).is_ok());
        assert!(check_unless_stdout("report", "--json", Path::new("/")).is_err());
        assert!(check("report", "--json", Path::new("report.json")).is_ok());
    }

    #[test]
    fn a_file_is_replaced_whole_and_a_full_device_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("report.json");
        for text in ["a longer text", "short"] {
            write("report", &file, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
        }
        drop(Pending::new(&file).unwrap());
        assert_eq!(fs::read_to_string(&file).unwrap(), "short");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a temporary file is left");
        assert!(write("report", Path::new("/dev/full"), b"text").is_err());
        assert!(write("report", dir.path(), b"text").is_err());
    }

    #[test]
    fn a_new_file_takes_no_others_place() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, file) = (Folder::open(dir.path()).unwrap(), dir.path().join("image"));
        let new = || folder.begin(Path::new("image")).unwrap();
        new().commit_new().unwrap();
        fs::write(&file, "of another").unwrap();
        assert_eq!(new().commit_new().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&file).unwrap(), "of another");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a temporary file is left");
    }

    /// Creates a victim, and a folder with every kind of link to it.
    fn planted() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        let folder = dir.path().join("folder");
        fs::create_dir(&folder).unwrap();
        symlink(&victim, folder.join("link")).unwrap();
        symlink(dir.path().join("absent"), folder.join("dangling")).unwrap();
        fs::hard_link(&victim, folder.join("hard")).unwrap();
        (dir, folder)
    }

    #[test]
    fn planted_links_are_replaced_and_not_followed() {
        for name in ["link", "dangling", "hard"] {
            for way in 0..3 {
                let (dir, path) = planted();
                let folder = Folder::make(&path).unwrap();
                match way {
                    0 => folder.write(name, b"new").unwrap(),
                    1 => folder.create(name).unwrap().write_all(b"new").unwrap(),
                    _ => write("report", &path.join(name), b"new").unwrap(),
                }
                assert_eq!(fs::read_to_string(dir.path().join("victim")).unwrap(), "precious", "{name}");
                assert!(!dir.path().join("absent").exists(), "{name}");
                assert!(!path.join(name).is_symlink());
                assert_eq!(fs::read_to_string(path.join(name)).unwrap(), "new");
            }
        }
    }

    #[test]
    fn a_planted_folder_or_lock_is_an_error() {
        let (dir, path) = planted();
        symlink(dir.path(), path.join("inner")).unwrap();
        let folder = Folder::make(&path).unwrap();
        assert!(folder.inner("inner").is_err());
        assert!(folder.inner("other").is_ok());
        assert!(folder.lasting("link").is_err());
        assert!(folder.lasting("dangling").is_err());
        folder.lasting("lock").unwrap();
        assert!(folder.write("../escaped", b"").is_err());
        assert!(folder.write("..", b"").is_err());
    }

    #[test]
    fn a_socket_of_another_program_is_no_place_for_a_result() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let error = write("report", &path, b"text").unwrap_err();
        assert!(format!("{error:#}").contains("it is a socket"), "{error:#}");
        assert!(check("report", "--json", &path).is_err());
        assert!(std::os::unix::net::UnixStream::connect(&path).is_ok());
        drop(listener);
    }

    #[test]
    fn a_result_drives_no_terminal() {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&screen).unwrap();
        unlockpt(&screen).unwrap();
        let name = ptsname(&screen, Vec::new()).unwrap();
        write("report", Path::new(name.to_str().unwrap()), "a\u{1b}[8mb\u{9b}2Jc\u{202e}\n".as_bytes())
            .unwrap();
        let mut shown = [0; 256];
        let length = File::from(screen).read(&mut shown).unwrap();
        assert_eq!(String::from_utf8_lossy(&shown[..length]), "a\\u001b[8mb\\u009b2Jc\\u202e\r\n");
    }

    #[test]
    fn what_happens_to_a_folders_path_changes_nothing() {
        let (dir, path) = planted();
        let folder = Folder::make(&path).unwrap();
        fs::rename(&path, dir.path().join("moved")).unwrap();
        symlink("/nonexistent", &path).unwrap();
        folder.write("report", b"text").unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("moved/report")).unwrap(), "text");
    }

    #[test]
    fn a_pipe_that_nobody_reads_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, FILE, 0).unwrap();
        let error = write("report", &fifo, b"text").unwrap_err();
        assert!(format!("{error:#}").contains("no program has opened for reading for 5 s"), "{error:#}");
        // Opened for both, it has a reader, which never reads.
        let _reader = File::options().read(true).write(true).open(&fifo).unwrap();
        let error = write("report", &fifo, &[0; 200_000]).unwrap_err();
        assert!(format!("{error:#}").contains("its reader does not read for 5 s"), "{error:#}");
    }

    #[test]
    fn pipes_and_descriptors_of_ours_are_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, FILE, 0).unwrap();
        let reader = {
            let fifo = fifo.clone();
            std::thread::spawn(move || {
                let mut text = String::new();
                File::open(fifo).unwrap().read_to_string(&mut text).unwrap();
                text
            })
        };
        let long = "x".repeat(200_000);
        write("report", &fifo, long.as_bytes()).unwrap();
        assert_eq!(reader.join().unwrap(), long);
        assert!(!fs::symlink_metadata(&fifo).unwrap().is_file());

        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"before ").unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&file);
        write("report", Path::new(&format!("/dev/fd/{number}")), b"after").unwrap();
        let mut text = String::new();
        io::Seek::rewind(&mut file).unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "before after");
        assert_eq!(own_descriptor(Path::new("/dev/stdout")), Some("/proc/self/fd/1".into()));
        assert_eq!(own_descriptor(Path::new("/dev/full")), None);
        assert_eq!(own_descriptor(Path::new("/dev/fd/../mem")), None);
    }
}
