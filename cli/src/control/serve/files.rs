//! Files that are copied into the guest.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::TryLockError;
use std::time::Duration;

use hv_tlfs::vmbus::fcopy::MAX_PATH_CHARS;
use hv_tlfs::vmbus::ic::Status;
use hv_wire::control::{MAX_PIECE, Service, ToHypervisor};

use super::super::lines::{CopiedLine, Failure, Given, Reason};
use super::super::pairs::wide;
use super::super::port::{Answer, ControlPort};
use super::{judge, no_answer};

/// How long the guest may take to give up a copy that has failed.
const CANCEL: Duration = Duration::from_secs(5);

/// A copy, as a client asks for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copy<'a> {
    pub(super) file: &'a str,
    /// The file in the guest, or with a slash at its end the folder.
    pub(super) to: &'a str,
    pub(super) overwrite: bool,
    pub(super) create_path: bool,
}

/// Copies a file into the guest: one at a time, since the protocol has no names for copies.
pub(super) fn copy(
    port: &ControlPort,
    copy: &Copy<'_>,
    left: impl Fn() -> Duration,
) -> Result<Given, Failure> {
    let invalid = |message: String| Failure::new(Reason::InvalidRequest, message);
    let (folder, name) = target(copy.to, Path::new(copy.file)).map_err(invalid)?;
    let (file, size) = open(Path::new(copy.file)).map_err(invalid)?;
    let mut unfinished = match port.copying.try_lock() {
        Ok(unfinished) => unfinished,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => {
            return Err(Failure::new(
                Reason::Busy,
                "another file is being copied into the guest; try again later",
            ));
        }
    };
    let ask = |request: &ToHypervisor<'_>, left: Duration| {
        port.ask(request, left).map_err(|why| no_answer(why, Service::Fcopy))
    };
    if *unfinished {
        // What the guest says to that is of no interest: it may have forgotten the copy.
        if let answer @ Answer::Refused(_) = ask(&ToHypervisor::CopyEnd { cancel: true }, left())? {
            judge(Service::Fcopy, answer)?;
        }
        *unfinished = false;
    }
    let (overwrite, create_path) = (copy.overwrite, copy.create_path);
    let start =
        ToHypervisor::CopyStart { file: &wide(&name), folder: &wide(&folder), overwrite, create_path, size };
    said(ask(&start, left())?, copy.to)?;
    // From here on there is something in the guest that has to be ended.
    *unfinished = true;
    let copied = pieces(file, size, |offset, data| {
        said(ask(&ToHypervisor::CopyWrite { offset, data }, left())?, copy.to)
    });
    let ended = copied.and_then(|()| said(ask(&ToHypervisor::CopyEnd { cancel: false }, left())?, copy.to));
    match ended {
        Ok(()) => {
            *unfinished = false;
            Ok(Given::Copied(CopiedLine { bytes: size }))
        }
        Err(failure) => {
            let cancelled = ask(&ToHypervisor::CopyEnd { cancel: true }, CANCEL);
            *unfinished = !matches!(cancelled, Ok(Answer::Outcome { .. }));
            let left = if *unfinished { "; a part of the file may be left in the guest" } else { "" };
            Err(Failure::new(failure.reason, format!("{}{left}", failure.message)))
        }
    }
}

/// Reads a file piece by piece.
fn pieces(
    mut file: File,
    size: u64,
    mut put: impl FnMut(u64, &[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut piece = vec![0; MAX_PIECE];
    let mut offset = 0;
    while offset < size {
        let wanted = usize::try_from(size - offset).unwrap_or(MAX_PIECE).min(MAX_PIECE);
        let piece = &mut piece[..wanted];
        file.read_exact(piece).map_err(|error| {
            let what = format!("cannot read byte {offset} of {size} of the file: {error}");
            Failure::new(Reason::InvalidRequest, what)
        })?;
        put(offset, piece)?;
        offset += wanted as u64;
    }
    Ok(())
}

/// Opens the host's file, which must be a regular one: others have no size. Returns it with its size.
fn open(path: &Path) -> Result<(File, u64), String> {
    let explain = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    // Before it is opened: that of a pipe waits for a writer.
    if !path.metadata().map_err(explain)?.is_file() {
        return Err(format!("{} is not a regular file", path.display()));
    }
    let file = File::open(path).map_err(explain)?;
    let size = file.metadata().map_err(explain)?.len();
    Ok((file, size))
}

/// Returns the guest's folder, with a slash at its end, and the name of the file there.
fn target(to: &str, file: &Path) -> Result<(String, String), String> {
    /// Bytes of a path that Linux's driver and daemon have room for, besides the closing zero.
    const LONGEST: usize = MAX_PATH_CHARS - 1;
    let bad = |why: &str| format!("the guest's path {to:?} {why}");
    if !to.starts_with('/') {
        return Err(bad("is not absolute: expected a slash at its beginning"));
    }
    if to.contains('\0') {
        return Err(bad("has a zero byte"));
    }
    let (folder, name) = to.rsplit_once('/').unwrap_or_default();
    let own = file.file_name().and_then(|name| name.to_str()).filter(|_| name.is_empty());
    let name = own.unwrap_or(name).to_owned();
    if matches!(&*name, "" | "." | "..") {
        return Err(bad("names no file"));
    }
    let folder = format!("{folder}/");
    // The daemon puts a slash between the two.
    let bytes = folder.len() + 1 + name.len();
    if bytes > LONGEST {
        return Err(bad(&format!("has {} bytes, expected at most {}", bytes - 1, LONGEST - 1)));
    }
    Ok((folder, name))
}

/// Tells an answer that is good from one that is none.
fn said(answer: Answer, to: &str) -> Result<(), Failure> {
    let status = match answer {
        Answer::Outcome { outcome, .. } => u32::try_from(outcome).ok().map(Status),
        _ => None,
    };
    let message = match status {
        Some(Status::ALREADY_EXISTS) => {
            format!("the guest has a file {to} already; --overwrite replaces it")
        }
        Some(Status::DISK_FULL) => format!("the guest's disk is full: {to} was not written"),
        // To other services this is the end of a list.
        Some(status @ Status::CONTINUE) => format!("the guest refused with status {:#010x}", status.0),
        _ => return judge(Service::Fcopy, answer).map(|_| ()),
    };
    Err(Failure::new(Reason::Refused, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_folder_and_a_name() {
        let target = |to: &str| target(to, Path::new("/host/file.bin"));
        let parts = |folder: &str, name: &str| Ok((folder.to_owned(), name.to_owned()));
        assert_eq!(target("/a"), parts("/", "a"));
        assert_eq!(target("/srv/b c/\u{fc}"), parts("/srv/b c/", "\u{fc}"));
        assert_eq!(target("/srv/"), parts("/srv/", "file.bin"));
        assert_eq!(target("/"), parts("/", "file.bin"));
        assert!(target(&format!("/{}", "a".repeat(257))).is_ok());
        assert!(
            target(&format!("/{}", "a".repeat(258)))
                .unwrap_err()
                .contains("has 259 bytes, expected at most 258")
        );
        for bad in ["", "a", "./a", "a/b", "C:\\a", "/a\0b", "/..", "/a/."] {
            assert!(target(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_no_file_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        assert!(open(folder.path()).unwrap_err().contains("is not a regular file"));
        assert!(open(&folder.path().join("none")).unwrap_err().contains("cannot read"));
        let pipe = folder.path().join("pipe");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(open(&pipe).unwrap_err().contains("is not a regular file"));
    }
}
