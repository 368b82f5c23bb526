//! Packages as one tar: their files where dpkg would put them, and dpkg's records that say "unpacked, not configured".
//!
//! A guest unpacks it as root into a root file system: owners, modes and links are the archives', and the host needs no
//! root. `dpkg --configure -a` then does what an installation does after unpacking. Records that are one file for all
//! packages are in [`RECORDS`], for the guest to append: a system may have packages already.
//!
//! Sources: dpkg's manual pages deb(5) and dpkg(1) ("--configure"), and its documentation of the info database.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::{Context as _, bail};
use tar::{Builder, EntryType, Header};

use super::archive::{Half, Member, members, relative};
use super::control::Control;

/// Folders that are links into /usr on a system whose /usr is merged, as Debian's are from bookworm on.
const MERGED: [&str; 3] = ["bin", "sbin", "lib"];
/// Folders that no package has.
const FOLDERS: [&str; 8] = [
    "usr",
    "usr/bin",
    "usr/sbin",
    "usr/lib",
    "var/lib/dpkg",
    "var/lib/dpkg/info",
    "var/lib/dpkg/updates",
    "var/lib/dpkg/triggers",
];
/// Folder of the records that are appended.
const RECORDS: &str = "var/lib/dpkg/hv";
/// Mode of a file and of a folder of our own.
const FILE: u32 = 0o644;
const FOLDER: u32 = 0o755;

/// Writes the bundle of these package files, with other files of a path and contents.
///
/// # Errors
/// A package is invalid or unreadable, or a write to the bundle fails.
pub(super) fn write(
    packages: &[impl AsRef<Path>],
    files: &[(String, String)],
    out: impl Write,
    mut progress: impl FnMut(usize),
) -> anyhow::Result<()> {
    let mut bundle = Bundle { out: Builder::new(out), status: String::new(), triggers: BTreeMap::new() };
    FOLDERS.iter().try_for_each(|name| bundle.add(name, EntryType::Directory, FOLDER, b""))?;
    for name in MERGED {
        bundle.link(name, EntryType::Symlink, &format!("usr/{name}"), own(EntryType::Symlink, 0o777, 0))?;
    }
    for (done, package) in packages.iter().enumerate() {
        let package = package.as_ref();
        bundle.package(package).with_context(|| format!("cannot unpack {}", package.display()))?;
        progress(done + 1);
    }
    for (path, contents) in files {
        bundle.add(path, EntryType::Regular, FILE, contents.as_bytes())?;
    }
    bundle.records()?;
    bundle.out.into_inner()?.flush()?;
    Ok(())
}

/// Returns the header of a member that is root's, without its name.
fn own(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

struct Bundle<W: Write> {
    out: Builder<W>,
    /// dpkg's status file so far.
    status: String,
    /// Its files of triggers.
    triggers: BTreeMap<String, String>,
}

impl<W: Write> Bundle<W> {
    /// Adds a member of root's.
    fn add(&mut self, path: &str, kind: EntryType, mode: u32, contents: &[u8]) -> io::Result<()> {
        let mut header = own(kind, mode, contents.len() as u64);
        self.out.append_data(&mut header, path, contents)
    }

    fn link(&mut self, path: &str, kind: EntryType, target: &str, mut header: Header) -> io::Result<()> {
        header.set_entry_type(kind);
        header.set_size(0);
        self.out.append_link(&mut header, path, target)
    }

    /// Adds a package.
    fn package(&mut self, file: &Path) -> anyhow::Result<()> {
        let control = Control::read(file)?;
        for (name, mode, contents) in &control.files {
            self.add(&control.place(name), EntryType::Regular, *mode & 0o777, contents)?;
        }
        let mut list = String::new();
        members(file, Half::Files, |member| {
            list.push_str(&format!("/{}\n", if member.path.is_empty() { "." } else { &member.path }));
            self.member(&control, member)
        })?;
        self.add(&control.place("list"), EntryType::Regular, FILE, list.as_bytes())?;
        self.status.push_str(&control.status());
        control.triggers(&mut self.triggers);
        Ok(())
    }

    /// Adds a package's file.
    fn member(&mut self, control: &Control, Member { entry, path }: &mut Member<'_>) -> anyhow::Result<()> {
        let place = |path: &str| {
            let is_conffile = control.conffiles.contains(&format!("/{path}"));
            merged(path).map(|place| place + if is_conffile { ".dpkg-new" } else { "" })
        };
        let Some(to) = place(path) else { return Ok(()) };
        let given = entry.header();
        let (kind, mut header) =
            (given.entry_type(), own(EntryType::Regular, given.mode()? & 0o7777, entry.size()));
        header.set_uid(given.uid()?);
        header.set_gid(given.gid()?);
        header.set_mtime(given.mtime()?);
        header.set_entry_type(kind);
        let target = entry.link_name_bytes().map(|target| target.into_owned());
        match (kind, target) {
            (EntryType::Directory, _) => {
                // Whatever size the archive gives it, no bytes follow.
                header.set_size(0);
                self.out.append_data(&mut header, &to, io::empty())?;
            }
            (EntryType::Regular | EntryType::Continuous, _) => {
                header.set_entry_type(EntryType::Regular);
                self.out.append_data(&mut header, &to, entry.by_ref())?;
            }
            // A hard link names a member, a symbolic one what it likes.
            (EntryType::Link, Some(target)) => {
                let target = relative(&target)?;
                let target =
                    place(&target).with_context(|| format!("it has a hard link to the folder {target}"))?;
                self.link(&to, kind, &target, header)?;
            }
            (EntryType::Symlink, Some(target)) => {
                let target = String::from_utf8(target).context("it has a link that is not UTF-8")?;
                self.link(&to, kind, &target, header)?;
            }
            _ => bail!("its member {path} is of the type {kind:?}, expected a file, a folder or a link"),
        }
        Ok(())
    }

    /// Adds the records of all packages.
    fn records(&mut self) -> io::Result<()> {
        // The form of the info database in which names may have an architecture.
        self.add("var/lib/dpkg/info/format", EntryType::Regular, FILE, b"1\n")?;
        for folder in [RECORDS.to_owned(), format!("{RECORDS}/triggers")] {
            self.add(&folder, EntryType::Directory, FOLDER, b"")?;
        }
        let status = std::mem::take(&mut self.status);
        self.add(&format!("{RECORDS}/status"), EntryType::Regular, FILE, status.as_bytes())?;
        for (name, lines) in std::mem::take(&mut self.triggers) {
            self.add(&format!("{RECORDS}/triggers/{name}"), EntryType::Regular, FILE, lines.as_bytes())?;
        }
        Ok(())
    }
}

/// Returns where a path is on a system whose /usr is merged; `None` for what is there already.
fn merged(path: &str) -> Option<String> {
    let first = path.split('/').next().unwrap_or_default();
    match MERGED.contains(&first) {
        _ if path.is_empty() => None,
        true if path == first => None,
        true => Some(format!("usr/{path}")),
        false => Some(path.to_owned()),
    }
}

#[cfg(test)]
mod tests;
