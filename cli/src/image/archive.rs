//! The two archives in a package file, by dpkg-deb, which knows all their compressions.

use std::io::Read;
use std::path::{Component, Path};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use tar::{Archive, Entry};

use crate::{TOOL, interrupt};

/// One of the two archives.
#[derive(Clone, Copy, Debug)]
pub(super) enum Half {
    /// Control files.
    Control,
    /// The package's files.
    Files,
}

/// A member of an archive.
pub(super) struct Member<'a> {
    pub(super) entry: Entry<'a, &'a mut dyn Read>,
    /// Its path from the root, without a slash at either end; empty for the root.
    pub(super) path: String,
}

/// Calls `each` for the members, in their order.
///
/// # Errors
/// `each` fails, or the file is damaged, or a member's path leads out of the root.
pub(super) fn members(
    file: &Path,
    half: Half,
    mut each: impl FnMut(&mut Member<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let option = match half {
        Half::Control => "--ctrl-tarfile",
        Half::Files => "--fsys-tarfile",
    };
    let mut command = Command::new("dpkg-deb");
    command.arg(option).arg(file).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().context("cannot start dpkg-deb")?;
    let mut stdout = child.stdout.take().context("dpkg-deb has no output")?;
    let read = walk(&mut stdout, &mut each);
    // Padding follows; unread, it would end dpkg-deb by a closed pipe.
    let _ = std::io::copy(&mut stdout, &mut std::io::sink());
    let status = child.wait()?;
    read?;
    if !status.success() {
        bail!(
            "dpkg-deb ended with {status}: the file is damaged; remove it with `{TOOL} clean downloads`, and run this again"
        );
    }
    Ok(())
}

/// Calls `each` for the members of an archive.
pub(super) fn walk(
    mut archive: impl Read,
    each: &mut impl FnMut(&mut Member<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut reader = Archive::new(&mut archive as &mut dyn Read);
    for entry in reader.entries()? {
        interrupt::check()?;
        let entry = entry?;
        let path = relative(&entry.path_bytes())?;
        each(&mut Member { entry, path })?;
    }
    Ok(())
}

/// Returns a path from the root of an archive in its shortest form.
pub(super) fn relative(path: &[u8]) -> anyhow::Result<String> {
    let text = str::from_utf8(path).context("it has a path that is not UTF-8")?;
    let mut parts = Vec::new();
    for part in Path::new(text).components() {
        match part {
            Component::Normal(name) => parts.extend(name.to_str()),
            Component::CurDir | Component::RootDir => {}
            _ => bail!("its path {text:?} leads out of the root"),
        }
    }
    ensure!(!text.contains('\n'), "its path {text:?} has more than one line");
    Ok(parts.join("/"))
}
