//! Debian packages of another architecture, through apt with its own state.
//!
//! apt runs as the unprivileged user with lists and archives in our cache, for arm64 only, with the sources and keys of
//! the system. So apt checks signatures and hashes as always, but needs neither root nor `dpkg --add-architecture`, and
//! the system's own lists are unchanged.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::cache::{Cache, Lock};
use crate::output::Folder;
use crate::{process, ui};

/// Name of the file of a state's own sources.
const SOURCES: &str = "sources.list";

/// apt with lists of arm64 packages.
pub(crate) struct Apt<'a> {
    cache: &'a Cache,
    lock: &'a Lock,
    /// Name of its folder in the cache.
    name: String,
    config: PathBuf,
}

/// A downloaded package file.
pub(crate) struct Package {
    /// Name of the package.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The .deb file.
    pub file: PathBuf,
}

impl<'a> Apt<'a> {
    /// Sets up the private state and fetches the lists.
    pub(crate) fn update(cache: &'a Cache, lock: &'a Lock) -> anyhow::Result<Self> {
        let apt = Self::set_up(cache, lock, "apt", None)?;
        apt.fetch_lists("busybox-static")?;
        Ok(apt)
    }

    /// Sets up the private state in the cache's folder called `name`, with these sources instead of the system's.
    pub(crate) fn set_up(
        cache: &'a Cache,
        lock: &'a Lock,
        name: &str,
        sources: Option<&str>,
    ) -> anyhow::Result<Self> {
        let dir = cache.entry(name);
        let folder = Folder::make(cache.dir())?.inner(name)?;
        let state = folder.inner("state")?;
        state.inner("lists")?.inner("partial")?;
        folder.inner("cache")?.inner("archives")?.inner("partial")?;
        state.write("status", b"")?;
        let config = dir.join("apt.conf");
        let mut text = configuration(&dir)?;
        if let Some(sources) = sources {
            folder.write(SOURCES, sources.as_bytes())?;
            text.push_str(&own_sources(&dir));
        }
        folder.write("apt.conf", text.as_bytes())?;
        Ok(Self { cache, lock, name: name.to_owned(), config })
    }

    /// Fetches the lists, and returns true if every source responded. If one does not, a package of this name must
    /// still come from another one.
    pub(crate) fn fetch_lists(&self, needed: &str) -> anyhow::Result<bool> {
        let task = ui::Task::new("Fetching the package lists for Debian arm64 (apt)");
        let done = process::run(self.command("apt-get").arg("update"), || {})?;
        drop(task);
        if !done.status.success() && self.names(needed)?.is_empty() {
            bail!("cannot fetch the package lists for Debian arm64: {}", done.complaint("E:"));
        }
        // apt takes a source that does not respond now for no failure.
        Ok(done.status.success() && !done.stderr.contains("Failed to fetch"))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-c").arg(&self.config).args(["-q", "-y"]).env("LC_ALL", "C").env_remove("APT_CONFIG");
        command
    }

    /// Returns the names of all packages that start with `prefix`.
    pub(crate) fn names(&self, prefix: &str) -> anyhow::Result<Vec<String>> {
        let mut command = Command::new("apt-cache");
        command.arg("-c").arg(&self.config).args(["pkgnames", prefix]).env("LC_ALL", "C");
        let done = process::run(&mut command, || {})?;
        Ok(done.stdout.lines().map(str::to_owned).collect())
    }

    /// Returns the folder of downloaded package files.
    pub(crate) fn archives(&self) -> PathBuf {
        self.cache.entry(&self.name).join("cache/archives")
    }

    /// Has apt install packages with all that they depend on, as far as `option` says, and returns what it prints.
    fn install(&self, option: &str, packages: &[&str], tick: impl FnMut()) -> anyhow::Result<String> {
        let mut command = self.command("apt-get");
        command.args(["install", "--no-install-recommends", option]).args(packages);
        let done = process::run(&mut command, tick)?;
        if !done.status.success() {
            // Of many, apt names the one that is wrong.
            let names =
                if packages.len() > 4 { String::new() } else { format!(" of {}", packages.join(", ")) };
            bail!("cannot download Debian's arm64 packages{names}: {}", done.complaint("E:"));
        }
        Ok(done.stdout)
    }

    /// Downloads packages with all that they depend on, and unpacks them below `root`, a folder that does not exist.
    pub(crate) fn unpack(&self, packages: &[&str], root: &Path) -> anyhow::Result<()> {
        let files = self.resolve(packages)?;
        let task = ui::Task::new(format!("Downloading Debian's arm64 packages of {}", packages.join(", ")));
        self.install("--download-only", packages, || {})?;
        drop(task);
        unpack_all(&self.archives(), &files, root)
    }

    /// Returns the names of the package files of packages, and of all that they depend on. Patterns are apt's.
    pub(crate) fn resolve(&self, packages: &[&str]) -> anyhow::Result<Vec<String>> {
        Ok(installed_files(&self.install("--simulate", packages, || {})?))
    }

    /// Downloads the package files of packages, and of all that they depend on, except those that are there.
    pub(crate) fn fetch(&self, packages: &[&str]) -> anyhow::Result<()> {
        let missing = self.install("--print-uris", packages, || {})?;
        let missing: Vec<(String, u64)> = missing.lines().filter_map(parse_uri).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let archives = self.archives();
        let bytes = missing.iter().map(|(_, size)| size).sum();
        let task =
            ui::Task::bytes(format!("Downloading {} of Debian's arm64 packages", missing.len()), bytes);
        let done = |(name, _): &(String, u64)| {
            let length = |path: PathBuf| fs::metadata(path).ok().map(|meta| meta.len());
            length(archives.join(name)).or_else(|| length(archives.join("partial").join(name))).unwrap_or(0)
        };
        self.install("--download-only", packages, || task.position(missing.iter().map(done).sum()))?;
        Ok(())
    }

    /// Downloads the newest version of a package into the cache.
    pub(crate) fn download(&self, name: &str) -> anyhow::Result<Package> {
        let explain = || format!("cannot download Debian's package {name}:arm64");
        let uris = process::run(self.command("apt-get").args(["download", "--print-uris", name]), || {})?;
        let Some((file, size)) = parse_uri(&uris.stdout) else {
            bail!("{}: {}", explain(), uris.complaint("E:"));
        };
        let version = version_of(&file).with_context(explain)?;
        let target = self.cache.entry("debs").join(&file);
        let scratch = self.cache.scratch(self.lock)?;
        let task = ui::Task::bytes(format!("Downloading Debian's package {name}:arm64"), size);
        let made = scratch.path().join(&file);
        let done = process::run(
            self.command("apt-get").args(["download", name]).current_dir(scratch.path()),
            || {
                task.position(largest_file(scratch.path()));
            },
        )?;
        drop(task);
        if !done.status.success() || !made.is_file() {
            bail!("{}: {}", explain(), done.complaint("E:"));
        }
        Folder::make(self.cache.dir())?.inner("debs")?;
        fs::rename(&made, &target).with_context(explain)?;
        Ok(Package { name: name.to_owned(), version, file: target })
    }

    /// Downloads the source of a package into a folder, and returns its upstream archive.
    pub(crate) fn source(&self, name: &str, folder: &Path) -> anyhow::Result<PathBuf> {
        let task = ui::Task::new(format!("Downloading Debian's source package {name}"));
        let mut command = self.command("apt-get");
        let done =
            process::run(command.args(["source", "--download-only", name]).current_dir(folder), || {})?;
        drop(task);
        let explain = || format!("cannot download Debian's source package {name}");
        if !done.status.success() {
            bail!("{}: {}", explain(), done.complaint("E:"));
        }
        upstream(folder)?.with_context(|| format!("{}: it has no upstream archive", explain()))
    }
}

/// Returns the upstream archive of a source package in its folder: `NAME_VERSION.orig.tar.COMPRESSION`.
fn upstream(folder: &Path) -> anyhow::Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.contains(".orig.tar.") && !name.ends_with(".asc") {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Returns the names of the package files that apt would install, from its simulation: lines
/// `Inst NAME [...] (VERSION SOURCE... [ARCHITECTURE])`.
pub(super) fn installed_files(simulated: &str) -> Vec<String> {
    let file = |line: &str| {
        let (name, rest) = line.strip_prefix("Inst ")?.split_once(' ')?;
        let (inside, _) = rest.split_once('(')?.1.split_once(')')?;
        let (version, _) = inside.split_once(' ')?;
        let architecture = inside.rsplit_once('[')?.1.trim_end_matches(']');
        Some(format!("{name}_{}_{architecture}.deb", version.replace(':', "%3a")))
    };
    simulated.lines().filter_map(file).collect()
}

/// Unpacks package files of a folder below `root`, which it makes.
pub(super) fn unpack_all(archives: &Path, files: &[String], root: &Path) -> anyhow::Result<()> {
    fs::create_dir(root).with_context(|| format!("cannot make the folder {}", root.display()))?;
    for file in files {
        let file = archives.join(file);
        let done = process::run(Command::new("dpkg-deb").arg("-x").arg(&file).arg(root), || {})?;
        if !done.status.success() {
            bail!("cannot unpack {}: {}", file.display(), done.complaint("dpkg-deb:"));
        }
    }
    Ok(())
}

/// Returns the configuration, which is read after the system's own and overrides it.
fn configuration(dir: &Path) -> anyhow::Result<String> {
    let dir = dir.to_str().context("the cache's path is not UTF-8; set XDG_CACHE_HOME to another folder")?;
    if dir.contains(['"', '\n', ';']) {
        bail!(
            "the cache's path {dir:?} has characters that apt does not accept; set XDG_CACHE_HOME to another folder"
        );
    }
    Ok(format!(
        r#"APT::Architecture "arm64";
#clear APT::Architectures;
APT::Architectures {{ "arm64"; }};
APT::Get::AllowUnauthenticated "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11-icons::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11-icons-small::DefaultEnabled "false";
Acquire::IndexTargets::deb::CNF::DefaultEnabled "false";
Dir::State "{dir}/state";
Dir::State::lists "lists/";
Dir::State::status "{dir}/state/status";
Dir::Cache "{dir}/cache";
Dir::Cache::archives "archives/";
Dir::Log "{dir}/log";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
"#
    ))
}

/// Returns what is added to the configuration for a state with sources of its own: the system's do not count, nor what
/// it prefers.
fn own_sources(dir: &Path) -> String {
    format!(
        r#"Dir::Etc::sourcelist "{}/{SOURCES}";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
"#,
        dir.display()
    )
}

/// Parses file name and size from the output of `apt-get download --print-uris`: `'URI' NAME SIZE HASH`.
fn parse_uri(output: &str) -> Option<(String, u64)> {
    let line = output.lines().find(|line| line.starts_with('\''))?;
    let mut words = line.rsplit('\'').next()?.split_whitespace();
    let name = words.next().filter(|name| !name.contains('/'))?.to_owned();
    Some((name, words.next()?.parse().ok()?))
}

/// Returns the version in a package file's name: `NAME_VERSION_ARCH.deb`, with `%3a` for a colon.
pub(super) fn version_of(file: &str) -> Option<String> {
    Some(file.split('_').nth(1)?.replace("%3a", ":"))
}

fn largest_file(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_give_name_and_size() {
        let line = "'mirror+file:/etc/mirrors/pool/b/busybox-static_1%3a1.35.0-4_arm64.deb' \
                    busybox-static_1%3a1.35.0-4_arm64.deb 822236 SHA256:00ff\n";
        let (name, size) = parse_uri(line).unwrap();
        assert_eq!(name, "busybox-static_1%3a1.35.0-4_arm64.deb");
        assert_eq!(size, 822_236);
        assert_eq!(version_of(&name).as_deref(), Some("1:1.35.0-4"));
    }

    #[test]
    fn what_would_be_installed_names_its_files() {
        let simulated = "Reading package lists...\n\
            Inst gcc-12-base (12.2.0-14+deb12u1 Debian:12.12/oldstable [arm64])\n\
            Inst tzdata (2025b-0+deb12u2 Debian:12.12/oldstable, Debian:12-updates/oldstable [all])\n\
            Inst libudev1 [252.38-1] (1:252.39-1~deb12u1 Debian:12.12/oldstable [arm64]) []\n\
            Conf gcc-12-base (12.2.0-14+deb12u1 Debian:12.12/oldstable [arm64])\n";
        let files = [
            "gcc-12-base_12.2.0-14+deb12u1_arm64.deb",
            "tzdata_2025b-0+deb12u2_all.deb",
            "libudev1_1%3a252.39-1~deb12u1_arm64.deb",
        ];
        assert_eq!(installed_files(simulated), files);
    }

    #[test]
    fn no_uri_is_no_package() {
        assert_eq!(parse_uri("E: Unable to locate package nothing\n"), None);
    }

    #[test]
    fn a_path_that_would_break_the_configuration_is_refused() {
        assert!(configuration(Path::new("/a\"; evil \"b")).is_err());
    }
}
