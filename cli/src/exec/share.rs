//! `hv exec --dir`: folders of the host in the guest, read-only or to change. `hv_share` answers the requests of the
//! guest's FUSE, in a thread for each folder.

use std::io::{self, BufReader, ErrorKind, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hv_share::{Access, Limits, Share};
use hv_wire::control::{MAX_SHARE_READ, MAX_SHARE_REQUEST, MAX_SHARES};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const _: () = assert!(hv_share::MAX_REQUEST == MAX_SHARE_REQUEST && hv_share::MAX_READ == MAX_SHARE_READ);

/// Descriptors that the tool has for everything but the guest's open files.
const OWN_FILES: u64 = 512;
/// Descriptors that it asks for, with folders.
const WANTED_FILES: u64 = 4096;
/// Files of a folder that the guest may have open at once at most.
const HANDLES: u64 = 1024;
/// Bytes of memory for the files that the guest's kernel knows in all folders at most.
const MEMORY: usize = 128 << 20;
/// How long a request of the guest's for a lock that it waits for is left before the lock is tried again.
const LOCK_RETRY: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
/// How long a folder waits for a descriptor for its next connection.
const RETRY: Duration = Duration::from_millis(20);
/// Folders of the stock initramfs that the command and the agent need: nothing is mounted on them or in them.
const TAKEN: [&str; 4] = ["bin", "dev", "proc", "sys"];

/// A folder of the host's, and where the guest has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dir {
    folder: PathBuf,
    /// Where; at the folder's own path if it is not given.
    path: Option<PathBuf>,
    access: Access,
}

impl FromStr for Dir {
    type Err = String;

    /// Parses an option, in which the path in the guest begins after the last `:/`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (text, access) = match text.rsplit_once(',') {
            Some((text, "rw")) => (text, Access::ReadWrite),
            Some((text, "ro")) => (text, Access::ReadOnly),
            // A name that ends in such a word needs one more.
            Some((_, word)) if !word.contains('/') => {
                return Err(format!(
                    "'{word}' after the last comma: expected ro or rw (add ,ro to a name with a comma)"
                ));
            }
            _ => (text, Access::ReadOnly),
        };
        let (folder, path) = match text.rfind(":/") {
            Some(at) => (&text[..at], Some(PathBuf::from(&text[at + 1..]))),
            None => (text, None),
        };
        if folder.is_empty() {
            return Err("there is no folder: expected DIR[:/PATH][,rw]".to_owned());
        }
        if let Some(path) = &path {
            judge(path)?;
        }
        Ok(Self { folder: folder.into(), path, access })
    }
}

/// Judges a path in the guest.
fn judge(path: &Path) -> Result<(), String> {
    let mut parts = path.components().skip(1);
    let first = match parts.next() {
        Some(Component::Normal(first)) if parts.all(|part| matches!(part, Component::Normal(_))) => first,
        _ => {
            return Err(format!(
                "{} as the path in the guest: expected one below /, without ..",
                path.display()
            ));
        }
    };
    if path.as_os_str().len() > 4095 {
        return Err("the path in the guest has more than 4095 bytes, which Linux does not take".to_owned());
    }
    if TAKEN.iter().any(|taken| first == *taken) {
        return Err(format!(
            "{} as the path in the guest: the command needs what is in /{}; give another one: DIR:/PATH",
            path.display(),
            first.display()
        ));
    }
    Ok(())
}

/// A folder that is ready to be served.
#[derive(Debug)]
pub(super) struct Opened {
    share: Share,
    /// Where the guest has it.
    pub(super) path: PathBuf,
}

/// Opens the folders.
///
/// # Errors
/// One of them cannot be read, or the guest cannot have it.
pub(super) fn open(dirs: &[Dir]) -> anyhow::Result<Vec<Opened>> {
    ensure!(dirs.len() <= MAX_SHARES, "{} times --dir; expected up to {MAX_SHARES}", dirs.len());
    let handles = if dirs.is_empty() {
        0
    } else {
        // Locks take as many descriptors as open files, in folders that have them.
        handles(dirs.len() + dirs.iter().filter(|dir| dir.access == Access::ReadWrite).count())
    };
    let limits = Limits { handles, memory: MEMORY / dirs.len().max(1) };
    let mut all: Vec<Opened> = Vec::new();
    for Dir { folder, path, access } in dirs {
        let explain = || format!("--dir {}: cannot read the folder", folder.display());
        let share = Share::open(folder, *access, limits).with_context(explain)?;
        let path = match path {
            Some(path) => path.clone(),
            None => folder.canonicalize().with_context(explain)?,
        };
        judge(&path).map_err(|why| anyhow::anyhow!("--dir {}: {why}", folder.display()))?;
        ensure!(
            all.iter().all(|other| other.path != path),
            "--dir {}: another folder is at {} in the guest; give another path: DIR:/PATH",
            folder.display(),
            path.display()
        );
        all.push(Opened { share, path });
    }
    Ok(all)
}

/// Returns how many descriptors each of this many folders may take, so that enough remain for the tool.
fn handles(folders: usize) -> usize {
    let limits = getrlimit(Resource::Nofile);
    let wanted = limits.maximum.map_or(WANTED_FILES, |most| most.min(WANTED_FILES));
    let current = limits.current.unwrap_or(u64::MAX);
    // Without them, there is room for fewer files.
    let raised = current < wanted
        && setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limits.maximum }).is_ok();
    let files = if raised { wanted } else { current };
    let each = (files - OWN_FILES.min(files / 2)) / folders as u64;
    each.clamp(1, HANDLES) as usize
}

impl Opened {
    /// Returns what the guest's agent is told: what the guest may do with the folder, and where it is.
    pub(super) fn mounted(&self) -> (Access, PathBuf) {
        (self.share.access(), self.path.clone())
    }

    /// Serves the folder to whoever connects, in a thread that ends with the process. A guest that has to wait too long
    /// gives a connection up, and tries again.
    pub(super) fn serve(self, listener: UnixListener) {
        let mut share = self.share;
        std::thread::spawn(move || {
            loop {
                let Ok((socket, _)) = listener.accept() else {
                    // There may be descriptors again.
                    std::thread::sleep(RETRY);
                    continue;
                };
                share.restart();
                // At its end the guest is gone, or has sent what is not a request.
                let _ = serve(&socket, &mut share);
            }
        });
    }
}

/// Answers requests until the connection's end.
fn serve(socket: &UnixStream, share: &mut Share) -> io::Result<()> {
    let (mut reader, mut writer) = (BufReader::with_capacity(MAX_SHARE_REQUEST, socket), socket);
    let mut request = vec![0; MAX_SHARE_REQUEST];
    loop {
        while share.is_waiting() {
            while let Some(reply) = share.retry() {
                writer.write_all(reply)?;
            }
            if !reader.buffer().is_empty() || is_readable(socket)? {
                break;
            }
        }
        let (head, rest) = request.split_at_mut(4);
        reader.read_exact(head)?;
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let rest = length.checked_sub(4).and_then(|length| rest.get_mut(..length));
        reader.read_exact(rest.ok_or(ErrorKind::InvalidData)?)?;
        if let Some(reply) = share.answer(&request[..length]).map_err(|_| ErrorKind::InvalidData)? {
            writer.write_all(reply)?;
        }
    }
}

/// Waits for a request, or until locks are to be tried again.
fn is_readable(socket: &UnixStream) -> io::Result<bool> {
    match poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&LOCK_RETRY)) {
        Err(Errno::INTR) => Ok(false),
        ready => Ok(ready? != 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_in_the_guest_is_behind_the_last_colon() {
        let dir = |text: &str| text.parse::<Dir>();
        let expected = |folder: &str, path: Option<&str>| {
            Ok(Dir { folder: folder.into(), path: path.map(PathBuf::from), access: Access::ReadOnly })
        };
        assert_eq!(dir("."), expected(".", None));
        assert_eq!(dir("src:/mnt/src"), expected("src", Some("/mnt/src")));
        assert_eq!(dir("a:b:/c,ro"), expected("a:b", Some("/c")));
        assert_eq!(dir("a:/b:/c"), expected("a:/b", Some("/c")));
        assert_eq!(dir("a:b"), expected("a:b", None));
        let written = dir("a:b:/c,rw").unwrap();
        assert_eq!(written, Dir { access: Access::ReadWrite, ..dir("a:b:/c").unwrap() });
        assert_eq!(dir("a,rw").unwrap(), Dir { access: Access::ReadWrite, ..dir("a").unwrap() });
        assert_eq!(dir("a,b/c").unwrap().folder, Path::new("a,b/c"));
        assert_eq!(dir("a,b,ro").unwrap().folder, Path::new("a,b"));
        for bad in ["a:/c,rx", "a,b", "a:/c,", "a:/c,rw,x"] {
            assert!(dir(bad).unwrap_err().contains("expected ro or rw"), "{bad}");
        }
        for (text, why) in [
            ("", "no folder"),
            (":/x", "no folder"),
            ("x:/", "expected one below /"),
            ("x:/..", "expected one below /"),
            ("x:/a/../../b", "expected one below /"),
            ("x:/proc", "DIR:/PATH"),
            ("x:/dev/x", "DIR:/PATH"),
        ] {
            let error = dir(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(dir(&format!("x:/{}", "a/".repeat(2048))).unwrap_err().contains("4095 bytes"));
    }

    #[test]
    fn folders_are_judged_before_anything_starts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let open = |texts: &[&str]| {
            let dirs: Vec<Dir> = texts.iter().map(|text| text.parse().unwrap()).collect();
            super::open(&dirs).map(|all| all.into_iter().map(|one| one.path).collect::<Vec<_>>())
        };
        assert_eq!(open(&[path]).unwrap(), [folder.path().canonicalize().unwrap()]);
        let missing = format!("{path}/missing");
        std::fs::write(folder.path().join("file"), "").unwrap();
        let file = format!("{path}/file:/x");
        let there = format!("{path}:/x");
        let many = vec![path; MAX_SHARES + 1];
        for (texts, why) in [
            (&[&*missing][..], "No such file"),
            (&[&*file], "Not a directory"),
            (&[&*there, &*there], "another folder is at /x"),
            (&["/dev"], "give another one"),
            (&["/proc:/x"], "the kernel's own"),
            (&["/"], "expected one below /"),
            (&many, "expected up to"),
        ] {
            let error = format!("{:#}", open(texts).unwrap_err());
            assert!(error.starts_with("--dir") || error.contains("times --dir"), "{error}");
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_connection_begins_anew_and_ends_with_noise() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        let socket = folder.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let limits = Limits { handles: 8, memory: 1 << 20 };
        let share = Share::open(folder.path(), Access::ReadOnly, limits).unwrap();
        Opened { share, path: "/x".into() }.serve(listener);
        // struct fuse_in_header, and a name.
        let mut look_up = [0; 45];
        for (at, byte) in [(0, 45), (4, 1), (8, 9), (16, 1)] {
            look_up[at] = byte;
        }
        look_up[40..].copy_from_slice(b"file\0");
        for _ in 0..2 {
            let mut guest = UnixStream::connect(&socket).unwrap();
            guest.write_all(&look_up).unwrap();
            let mut reply = [0; 16 + 128];
            guest.read_exact(&mut reply).unwrap();
            // The length, no error, the same id, and the first number that is given.
            assert_eq!((reply[0], &reply[4..8], reply[8], reply[16]), (144, &[0; 4][..], 9, 2));
            guest.write_all(&[1, 0, 0, 0]).unwrap();
            assert_eq!(guest.read(&mut reply).unwrap(), 0);
        }
    }
}
