//! Debian's newest QEMU, alongside the system's: unpacked with all its libraries, never installed.
//!
//! The archive comes from the system's sources; the suite is `sid`. apt checks signatures and hashes as always, with
//! its own lists and archives.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use super::apt::{installed_files, unpack_all};
use super::cache::Cache;
use crate::{process, system, ui};

const SUITE: &str = "sid";
const PACKAGE: &str = "qemu-system-arm";
const PROGRAM: &str = "qemu-system-aarch64";

/// Returns a program that starts the newest QEMU, fetching it if Debian has a newer one than last time.
pub fn prepare(cache: &Cache) -> anyhow::Result<PathBuf> {
    system::require_debian("the newest QEMU")?;
    let _lock = cache.lock()?;
    let dir = cache.entry("newest-qemu");
    fs::create_dir_all(&dir)?;
    cache.hold("newest-qemu");
    for folder in ["state/lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(dir.join(folder))?;
    }
    fs::write(dir.join("state/status"), "")?;
    let config = dir.join("apt.conf");
    fs::write(&config, configuration(&dir, &archive()?)?)?;
    let task = ui::Task::new(format!("Fetching the newest QEMU ({PACKAGE} of {SUITE})"));
    apt(&config, &["update"])?;
    let install = |option| apt(&config, &["install", option, "--no-install-recommends", PACKAGE]);
    // Files of the versions before stay in the folder.
    let files = installed_files(&install("--simulate")?);
    install("--download-only")?;
    drop(task);
    let root = dir.join("root");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    unpack_all(&dir.join("cache/archives"), &files, &root)?;
    let program = dir.join("qemu");
    fs::write(&program, script(&root)?)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    Ok(program)
}

/// Returns the address of Debian's archive, from the system's sources.
fn archive() -> anyhow::Result<String> {
    let done = process::run(
        Command::new("apt-get").args([
            "indextargets",
            "--format",
            "$(ORIGIN) $(REPO_URI)",
            "Created-By: Packages",
        ]),
        || {},
    )?;
    let archive = find_archive(&done.stdout);
    archive.map(str::to_owned).with_context(|| {
        format!(
            "none of this system's sources is Debian's main archive, which has {PACKAGE} of {SUITE}; add it"
        )
    })
}

/// Selects Debian's archive from lines of the form `ORIGIN URI`, skipping its security updates.
fn find_archive(lines: &str) -> Option<&str> {
    let mut addresses = lines.lines().filter_map(|line| line.strip_prefix("Debian "));
    addresses.find(|address| address.trim_end_matches('/').ends_with("/debian"))
}

/// Returns apt's configuration, which leaves the system's state unchanged.
fn configuration(dir: &Path, archive: &str) -> anyhow::Result<String> {
    let dir = dir.to_str().context("the cache's path is not UTF-8; set XDG_CACHE_HOME to another folder")?;
    ensure!(
        !dir.contains(['"', '\n', ';']),
        "the cache's path {dir:?} has characters that apt does not accept; set XDG_CACHE_HOME"
    );
    let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
    fs::write(format!("{dir}/sources.list"), format!("deb [signed-by={keys}] {archive} {SUITE} main\n"))?;
    Ok(format!(
        r#"Dir::State "{dir}/state";
Dir::State::lists "lists/";
Dir::State::status "{dir}/state/status";
Dir::Cache "{dir}/cache";
Dir::Cache::archives "archives/";
Dir::Etc::sourcelist "{dir}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Log "{dir}/log";
Debug::NoLocking "true";
APT::Sandbox::User "root";
APT::Keep-Downloaded-Packages "true";
Acquire::Languages "none";
Acquire::Retries "3";
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Install-Pkgs;
#clear DPkg::Post-Invoke;
"#
    ))
}

/// Runs apt-get; gives what it says.
fn apt(config: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new("apt-get");
    command.arg("-c").arg(config).args(["-q", "-y"]).args(arguments).env("LC_ALL", "C");
    let done = process::run(&mut command, || {})?;
    if done.status.success() {
        return Ok(done.stdout);
    }
    bail!("apt-get failed: {}", done.complaint("E:"))
}

/// Returns a script that starts the program with the loader and libraries from its own packages, since the system's may
/// be older.
fn script(root: &Path) -> anyhow::Result<String> {
    let entries = |folder: &str| fs::read_dir(root.join(folder)).into_iter().flatten().flatten();
    let is_loader =
        |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("ld-linux"));
    let loader = ["usr/lib64", "usr/lib", "lib64", "lib"]
        .into_iter()
        .flat_map(|folder| entries(folder).map(|entry| entry.path()))
        .find(is_loader)
        .context("the packages contain no program loader (ld-linux)")?;
    let libraries = entries("usr/lib").map(|entry| entry.path()).find(|path| path.join("libc.so.6").exists());
    let libraries = libraries.context("the packages contain no C library")?;
    let words = [
        loader.as_path(),
        Path::new("--library-path"),
        &libraries,
        &root.join("usr/bin").join(PROGRAM),
        Path::new("-L"),
        &root.join("usr/share/qemu"),
    ]
    .map(|word| format!("'{}'", word.display().to_string().replace('\'', r"'\''")));
    Ok(format!("#!/bin/sh\nexec {} \"$@\"\n", words.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_debians_own_without_security_updates() {
        let lines = "Google http://x/apt\nDebian http://x/debian-security/\nDebian http://x/debian/\n";
        assert_eq!(find_archive(lines), Some("http://x/debian/"));
        assert_eq!(find_archive("Ubuntu http://x/debian/\nDebian http://x/debian-security"), None);
    }
}
