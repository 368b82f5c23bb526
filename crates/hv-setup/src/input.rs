//! Input files named by the user: each is opened once and read once, whatever its type.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Read, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::interrupt::{self, Undo};
use crate::{size, ui};

/// Maximum size of an input file in bytes, unless the guest has more memory: a kernel may contain debug information.
pub const LONGEST: u64 = 1 << 30;

/// Other names of standard input. Opening it a second time would continue where the first reader stopped.
const STDIN: [&str; 4] = ["-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"];

/// The value of an option that takes a file: its path, or `-` for standard input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A file, a device or a pipe.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

impl From<OsString> for Input {
    fn from(word: OsString) -> Self {
        if STDIN.iter().any(|name| word == *name) { Self::Stdin } else { Self::File(word.into()) }
    }
}

impl From<&Path> for Input {
    fn from(path: &Path) -> Self {
        Self::from(path.as_os_str().to_owned())
    }
}

impl Input {
    /// Returns what the user named: a path, or `-`.
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Stdin => "-".to_owned(),
        }
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Stdin => f.write_str("- (standard input)"),
        }
    }
}

impl Input {
    /// Opens it. Standard input can be opened only once: what one option has read is not available to others.
    pub fn open(&self) -> io::Result<Box<dyn Read>> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        match self {
            Self::File(path) => Ok(Box::new(open(path)?.0)),
            Self::Stdin if io::stdin().is_terminal() => {
                Err(io::Error::other("standard input is a terminal: redirect it from a file or a pipe"))
            }
            Self::Stdin if TAKEN.swap(true, Ordering::Relaxed) => {
                Err(io::Error::other("standard input is already read by another option: give - only once"))
            }
            Self::Stdin => {
                let file = File::from(io::stdin().as_fd().try_clone_to_owned()?);
                Ok(Box::new(Patient { file, name: self.to_string() }))
            }
        }
    }

    /// Reads all of it, at most `most` bytes. An endless device or pipe is an error and does not exhaust the host's
    /// memory. `what` names the input in errors.
    pub fn read(&self, what: &str, most: u64) -> anyhow::Result<Vec<u8>> {
        let bytes = match self {
            Self::File(path) => read(path, most),
            Self::Stdin => self.open().and_then(|reader| read_to_end(reader, most)),
        };
        bytes.with_context(|| format!("cannot read {what} {self}; give the path of a readable file, or -"))
    }

    /// Returns a file for a program that opens it by path, with the `bytes` that were read: the file itself if it can
    /// be opened again, else a copy.
    pub fn named(&self, bytes: &[u8]) -> anyhow::Result<Named> {
        match self {
            Self::File(path) if path.is_file() => Ok(Named { path: path.clone(), _copy: None }),
            _ => {
                let mut copy = tempfile::Builder::new()
                    .prefix("hv-")
                    .tempfile()
                    .context("cannot create a temporary file")?;
                copy.write_all(bytes).with_context(|| format!("cannot write {}", copy.path().display()))?;
                let path = copy.path().to_owned();
                let left = path.clone();
                let undo = interrupt::on_second_signal(move || drop(std::fs::remove_file(&left)));
                Ok(Named { path, _copy: Some((copy.into_temp_path(), undo)) })
            }
        }
    }
}

/// Path of a file that exists at least as long as this value.
#[derive(Debug)]
pub struct Named {
    path: PathBuf,
    _copy: Option<(tempfile::TempPath, Undo)>,
}

impl Named {
    /// Returns the path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl From<PathBuf> for Named {
    fn from(path: PathBuf) -> Self {
        Self { path, _copy: None }
    }
}

/// Reads a file of at most `most` bytes.
pub fn read(file: &Path, most: u64) -> io::Result<Vec<u8>> {
    let (file, limit) = open(file)?;
    read_to_end(file, limit.min(most)).map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge if limit < most => {
            io::Error::new(error.kind(), format!("it is a device with more than {}", size::size(limit)))
        }
        _ => error,
    })
}

/// Returns the first of these paths that leads to a regular file, or `None` if there is nothing at any of them.
///
/// # Errors
/// There is no regular file, but something else with such a name: what it is.
pub fn first_file(paths: impl IntoIterator<Item = PathBuf>) -> anyhow::Result<Option<PathBuf>> {
    let mut other = None;
    for path in paths {
        match what_else(&path) {
            None if path.is_file() => return Ok(Some(path)),
            None => {}
            Some(what) => other = other.or(Some((path, what))),
        }
    }
    match other {
        Some((path, what)) => anyhow::bail!("{} is {what}; expected a regular file", path.display()),
        None => Ok(None),
    }
}

/// Returns what is at a path; `None` for a regular file, or nothing.
fn what_else(path: &Path) -> Option<String> {
    let kind = match fs::metadata(path) {
        Ok(meta) => meta.file_type(),
        Err(_) if fs::symlink_metadata(path).is_ok() => return Some("a symbolic link to nothing".to_owned()),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return None;
        }
        Err(error) => return Some(format!("not accessible ({error})")),
    };
    let what = match kind {
        _ if kind.is_file() => return None,
        _ if kind.is_dir() => "a folder",
        _ if kind.is_fifo() => "a named pipe",
        _ if kind.is_socket() => "a socket",
        _ => "a device",
    };
    Some(what.to_owned())
}

/// Maximum number of bytes read from a character device: some are endless, and none contains a kernel.
const LONGEST_DEVICE: u64 = 1 << 16;

/// How long data may take to come before the user is told what is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// Interval between two looks for a signal while data is waited for.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Opens a file, and returns how much of it may be read: devices have a limit of their own.
fn open(path: &Path) -> io::Result<(Patient, u64)> {
    // Opening a pipe would wait for its writer. For other files the flag changes nothing.
    let flags = OFlags::NONBLOCK.bits() as i32;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder"));
    }
    let limit = if kind.is_char_device() { LONGEST_DEVICE } else { u64::MAX };
    Ok((Patient { file, name: path.display().to_string() }, limit))
}

/// An input whose data may take long to come, or never come: a pipe without a writer, a device. Says so when it waits,
/// and a signal ends it.
struct Patient {
    file: File,
    name: String,
}

impl Patient {
    /// Waits for data, or the end of the file.
    fn wait(&self) -> io::Result<()> {
        let begun = Instant::now();
        let mut said = None;
        loop {
            interrupt::check().map_err(io::Error::other)?;
            match rustix::event::poll(&mut [PollFd::new(&self.file, PollFlags::IN)], Some(&LOOK)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            if begun.elapsed() >= PATIENCE {
                said.get_or_insert_with(|| ui::Task::new(format!("Waiting for data on {}", self.name)));
            }
        }
    }
}

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.wait()?;
            match self.file.read(buffer) {
                // Another reader was faster.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
    }
}

fn read_to_end(reader: impl Read, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it has more than {}, the maximum here", size::exact(most)),
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_an_end_is_refused() {
        let error = read(Path::new("/dev/zero"), 1 << 20).unwrap_err();
        assert_eq!(error.to_string(), "it is a device with more than 64 KiB");
        assert_eq!(read(Path::new("/dev/null"), 1).unwrap(), b"");
        let error = read_to_end(io::repeat(0), 1 << 20).unwrap_err();
        assert!(error.to_string().contains("more than 1 MiB"), "{error}");
        assert!(read(Path::new("/"), 1).unwrap_err().to_string().contains("folder"));
        assert!(read(Path::new("/nonexistent"), 1).is_err());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "four").unwrap();
        assert_eq!(read(file.path(), 4).unwrap(), b"four");
        assert!(read(file.path(), 3).is_err());
    }

    #[test]
    fn what_is_no_regular_file_is_named_as_what_it_is() {
        let root = tempfile::tempdir().unwrap();
        let paths = ["gone", "folder", "link", "file"].map(|name| root.path().join(name));
        let [gone, folder, link, file] = paths.clone();
        std::os::unix::fs::symlink(&gone, &link).unwrap();
        fs::create_dir(&folder).unwrap();
        let said = |path: &PathBuf| first_file([path.clone()]).unwrap_err().to_string();
        assert_eq!(said(&folder), format!("{} is a folder; expected a regular file", folder.display()));
        assert!(said(&link).contains("is a symbolic link to nothing;"));
        assert!(said(&"/dev/null".into()).contains("is a device;"));
        assert_eq!(first_file([gone, "/dev/null/below".into()]).unwrap(), None);
        fs::write(&file, "").unwrap();
        assert_eq!(first_file(paths).unwrap(), Some(file));
    }

    #[test]
    fn a_dash_is_standard_input_and_a_file_called_so_has_a_path() {
        for name in STDIN {
            assert_eq!(Input::from(OsString::from(name)), Input::Stdin, "{name}");
        }
        assert_eq!(Input::from(Path::new("./-")), Input::File("./-".into()));
        let error = Input::from(Path::new("no/such/file")).read("kernel", 1).unwrap_err();
        assert!(format!("{error:#}").starts_with("cannot read kernel no/such/file; give"), "{error:#}");
        let error = Input::from(Path::new("/")).read("initrd", 1).unwrap_err();
        assert!(format!("{error:#}").contains("initrd /"), "{error:#}");
    }

    #[test]
    fn what_cannot_be_opened_again_is_copied_for_others() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let input = Input::from(file.path());
        assert_eq!(input.named(b"text").unwrap().path(), file.path());
        let copy = Input::Stdin.named(b"text").unwrap();
        assert_eq!(std::fs::read(copy.path()).unwrap(), b"text");
        let path = copy.path().to_owned();
        drop(copy);
        assert!(!path.exists());
    }
}
