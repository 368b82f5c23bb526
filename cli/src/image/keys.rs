//! Public keys of ssh in a new image. They are no part of a layer: a file is written into the copy's file system, so
//! that images with other keys share what is in the cache.
//!
//! Sources: sshd(8), "AUTHORIZED_KEYS FILE FORMAT"; RFC 4253, 6.6, and RFC 4251, 5, for the bytes of a key.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::table;
use crate::boot::image::Root;
use crate::input::Input;
use crate::{interrupt, process};

/// Types of keys that OpenSSH's servers of bookworm and trixie accept as they are set up.
const TYPES: [&str; 7] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];
/// Bytes of a file of keys at most.
const LONGEST: u64 = 64 << 10;
/// Where the server looks for the keys of root.
const FOLDER: &str = "/root/.ssh";
const NAME: &str = "authorized_keys";

/// Reads files of public keys, and returns their lines.
///
/// # Errors
/// A file is unreadable, has no key, or has a line that is not one.
pub(super) fn read(files: &[Input]) -> anyhow::Result<String> {
    let mut all = String::new();
    for file in files {
        let bytes = file.read("the public key", LONGEST)?;
        let text = String::from_utf8_lossy(&bytes);
        all += &judge(&text).with_context(|| format!("{file} is not a public key of ssh"))?;
    }
    Ok(all)
}

/// Returns the lines of a text that are keys, if all are but blank ones and comments.
fn judge(text: &str) -> anyhow::Result<String> {
    ensure!(
        !text.contains("PRIVATE KEY-----"),
        "it is a private key: give the file whose name ends with .pub"
    );
    let mut keys = String::new();
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        ensure!(
            is_key(line) && !line.contains(|c: char| c.is_control() && c != '\t'),
            "line {number}: expected a type ({}), the key in base64, and a comment, without control characters",
            TYPES.join(", ")
        );
        keys += line;
        keys.push('\n');
    }
    ensure!(!keys.is_empty(), "it is empty: expected a line such as ssh-ed25519 AAAA... name");
    Ok(keys)
}

/// Returns true if a line is a key's type and the key, whose bytes begin with the type.
fn is_key(line: &str) -> bool {
    let mut words = line.split_ascii_whitespace();
    let (Some(kind), Some(key)) = (words.next(), words.next()) else { return false };
    let Ok(bytes) = STANDARD.decode(key) else { return false };
    let length = u32::try_from(kind.len()).unwrap_or_default().to_be_bytes();
    let rest = bytes.strip_prefix(&length).and_then(|rest| rest.strip_prefix(kind.as_bytes()));
    TYPES.contains(&kind) && rest.is_some_and(|rest| !rest.is_empty())
}

/// Writes keys into the root of an image, as those of the user root. `debugfs` is that of e2fsprogs.
///
/// # Errors
/// A write to the image fails.
pub(super) fn authorize(image: &File, keys: &str, debugfs: &Path) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("hv-").tempdir()?;
    let left = folder.path().to_owned();
    let _undo = interrupt::on_second_signal(move || drop(fs::remove_dir_all(&left)));
    let (from, commands) = (folder.path().join(NAME), folder.path().join("commands"));
    fs::write(from, keys)?;
    // debugfs(8); modes of inodes have the type of the file.
    let mut text = format!("mkdir {FOLDER}\ncd {FOLDER}\nrm {NAME}\nwrite {NAME} {NAME}\n");
    for (path, mode) in [(FOLDER, "040700"), (NAME, "0100600")] {
        text += &format!("sif {path} mode {mode}\nsif {path} uid 0\nsif {path} gid 0\n");
    }
    fs::write(commands, text)?;
    // The image may have no name yet.
    let path = format!("/proc/{}/fd/{}?offset={}", std::process::id(), image.as_raw_fd(), table::ROOT);
    let mut command = Command::new(debugfs);
    command.current_dir(folder.path()).args(["-w", "-f", "commands", &path]);
    let done = process::run(&mut command, || {})?;
    // It succeeds whatever its commands do.
    let written =
        Root::find(image.try_clone()?).and_then(|root| root.read(&format!("{FOLDER}/{NAME}"), u64::MAX));
    let is_written = written.is_ok_and(|written| written == keys.as_bytes());
    ensure!(is_written, "cannot write {FOLDER}/{NAME} to the image: {}", done.complaint("debugfs:"));
    Ok(())
}

#[cfg(test)]
mod tests;
