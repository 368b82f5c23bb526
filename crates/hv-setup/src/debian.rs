//! The packages of a whole system of Debian for arm64: resolved and downloaded by apt, with a state of its own for each
//! release.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::ensure;
use sha2::{Digest as _, Sha256};

use super::apt::Apt;
use super::cache::{Cache, Lock};
use crate::output::Folder;
use crate::{process, system};

/// Keys of Debian's archive (package debian-archive-keyring): those of every release that Debian supports.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// What the names of a release's archives end with: itself, its updates, its security updates.
const PARTS: [&str; 3] = ["", "-updates", "-security"];
/// Component of the archive.
const MAIN: &str = "main";
/// Name of the file whose age is that of the lists.
const FETCHED: &str = "fetched";
/// How long the lists are used.
const FRESH: Duration = Duration::from_secs(24 * 60 * 60);

/// A release of Debian, and where its packages come from.
#[derive(Clone, Copy, Debug)]
pub struct Release<'a> {
    /// Its code name.
    pub name: &'a str,
    /// Address of a mirror; without one, the sources of this system.
    pub mirror: Option<&'a str>,
}

/// Package files, in the cache.
#[derive(Debug)]
pub struct Packages {
    /// Their folder.
    folder: PathBuf,
    /// Their names, which have the versions.
    pub files: Vec<String>,
    /// The release's sources, as a file `sources.list` of the new system.
    pub sources: String,
}

impl Packages {
    /// Returns the paths of these files.
    #[must_use]
    pub fn paths(&self, files: &[String]) -> Vec<PathBuf> {
        files.iter().map(|file| self.folder.join(file)).collect()
    }
}

/// Packages of a release, which apt knows.
pub struct Archive<'a> {
    cache: &'a Cache,
    release: Release<'a>,
    lines: Vec<(String, String)>,
}

impl<'a> Archive<'a> {
    /// Finds the sources of a release.
    ///
    /// # Errors
    /// This system is not Debian, or has none of them.
    pub fn find(cache: &'a Cache, release: Release<'a>) -> anyhow::Result<Self> {
        system::require_debian("an image of Debian")?;
        let lines = match release.mirror {
            Some(url) => {
                PARTS[..2].iter().map(|part| (url.to_owned(), format!("{}{part}", release.name))).collect()
            }
            None => {
                let format = "$(CREATED_BY)|$(REPO_URI)|$(CODENAME)|$(COMPONENT)";
                let done =
                    process::run(Command::new("apt-get").args(["indextargets", "--format", format]), || {})?;
                let own = system::code_name().unwrap_or_default();
                of_system(&done.stdout, &own, release.name)
            }
        };
        ensure!(
            !lines.is_empty(),
            "this system has no sources of Debian's packages that could serve {}: give a mirror with --mirror URL",
            release.name
        );
        Ok(Self { cache, release, lines })
    }

    /// Downloads packages with all that they depend on. `groups`: names, or apt's patterns; each group is resolved with
    /// those before it. Returns the files of each group with those before it.
    ///
    /// # Errors
    /// Debian has no such package, or the download fails.
    pub fn download(&self, groups: &[&[&str]]) -> anyhow::Result<Vec<Packages>> {
        let lock = self.cache.lock()?;
        let apt = self.apt(&lock, self.folder(), "deb", "base-files")?;
        let mut all = Vec::new();
        let mut resolved = Vec::new();
        for group in groups {
            all.extend_from_slice(group);
            let files = apt.resolve(&all)?;
            resolved.push(Packages {
                folder: apt.archives(),
                files,
                sources: sources("deb", &self.lines, ""),
            });
        }
        apt.fetch(&all)?;
        // Those of a group may not be those of the next: apt resolves them together.
        for (packages, count) in resolved.iter().zip(1..) {
            if let Some(missing) = packages.paths(&packages.files).iter().find(|file| !file.is_file()) {
                let names: Vec<&str> = groups[..count].concat();
                apt.fetch(&names)?;
                ensure!(missing.is_file(), "apt has not downloaded {}", missing.display());
            }
        }
        Ok(resolved)
    }

    /// Downloads the source of a package into `folder`, and returns its upstream archive.
    ///
    /// # Errors
    /// Debian has no such package, or the download fails.
    pub fn source(&self, package: &str, folder: &Path) -> anyhow::Result<PathBuf> {
        let lock = self.cache.lock()?;
        self.apt(&lock, format!("{}-source", self.folder()), "deb-src", package)?.source(package, folder)
    }

    /// Returns apt with lists of today, for packages of a kind, in the cache's folder called `name`. If a source does
    /// not respond, the package `needed` must still come from another one.
    fn apt<'b>(&'b self, lock: &'b Lock, name: String, kind: &str, needed: &str) -> anyhow::Result<Apt<'b>> {
        let apt = Apt::set_up(self.cache, lock, &name, Some(&sources(kind, &self.lines, &keys())))?;
        self.cache.hold(&name);
        let folder = self.cache.entry(&name);
        // Without the lists of a source they are not those of today.
        if !is_fresh(&folder.join(FETCHED)) && apt.fetch_lists(needed)? {
            Folder::make(&folder)?.write(FETCHED, b"")?;
        }
        Ok(apt)
    }

    /// Returns the name of its folder in the cache: one for each release and mirror.
    fn folder(&self) -> String {
        let sum = Sha256::digest(sources("deb", &self.lines, "").as_bytes());
        let sum: String = sum[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("apt-{}-{sum}", self.release.name)
    }
}

/// Returns true if the lists were fetched a short while ago.
fn is_fresh(stamp: &Path) -> bool {
    let fetched = std::fs::metadata(stamp).and_then(|meta| meta.modified());
    let age = fetched.ok().and_then(|fetched| SystemTime::now().duration_since(fetched).ok());
    age.is_some_and(|age| age < FRESH)
}

/// Returns lines of a `sources.list` (sources.list(5)) for `deb` or `deb-src`, each with these options.
fn sources(kind: &str, lines: &[(String, String)], options: &str) -> String {
    lines.iter().map(|(url, suite)| format!("{kind} {options}{url} {suite} {MAIN}\n")).collect()
}

/// Returns the option with Debian's keys, where the system has them.
fn keys() -> String {
    if Path::new(KEYS).exists() { format!("[signed-by={KEYS}] ") } else { String::new() }
}

/// Returns addresses and archives of a release, from the targets of a system of the release `own`, one on a line:
/// creator, address, code name and component.
fn of_system(targets: &str, own: &str, release: &str) -> Vec<(String, String)> {
    let mut lines: Vec<(String, String)> = Vec::new();
    for line in targets.lines() {
        let [by, url, code_name, component] = line.split('|').collect::<Vec<_>>()[..] else { continue };
        let Some(part) = code_name.strip_prefix(own).filter(|part| PARTS.contains(part)) else { continue };
        let found = (url.to_owned(), format!("{release}{part}"));
        if by == "Packages" && component == MAIN && !own.is_empty() && !lines.contains(&found) {
            lines.push(found);
        }
    }
    lines
}

/// Checks the name of a package (Debian Policy, 5.6.7): apt would take another word for an option, a pattern, or for
/// what is to be removed.
///
/// # Errors
/// It is not one.
pub fn package_name(text: &str) -> Result<String, String> {
    let is_start = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_one = text.len() >= 2
        && text.starts_with(is_start)
        && !text.ends_with('-')
        && text.chars().all(|c| is_start(c) || matches!(c, '+' | '-' | '.'));
    if is_one {
        Ok(text.to_owned())
    } else {
        Err("expected the name of a package of Debian's, such as curl".to_owned())
    }
}

/// Checks the address of a mirror.
///
/// # Errors
/// It is not an address that a `sources.list` takes.
pub fn mirror(text: &str) -> Result<String, String> {
    let kinds = ["http://", "https://", "file:/", "copy:/", "mirror+file:/"];
    let is_one = kinds.iter().any(|kind| text.strip_prefix(kind).is_some_and(|rest| !rest.is_empty()))
        && !text.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '[' | ']' | '#'));
    if is_one {
        Ok(text.to_owned())
    } else {
        Err("expected an address such as http://HOST/debian, or file:/FOLDER".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGETS: &str = "Packages|http://one/debian/|bookworm|main\n\
        DEP-11|http://one/debian/|bookworm|main\n\
        Packages|http://one/debian/|bookworm|contrib\n\
        Packages|http://one/debian/|bookworm-updates|main\n\
        Packages|http://one/debian/|bookworm-backports|main\n\
        Packages|http://two/security/|bookworm-security|main\n\
        Packages|http://other/|nodistro|main\n\
        Packages|http://one/debian/|bookworm|main\n";

    #[test]
    fn the_systems_sources_serve_another_release_too() {
        let lines = of_system(TARGETS, "bookworm", "trixie");
        assert_eq!(
            sources("deb", &lines, "[x=y] "),
            "deb [x=y] http://one/debian/ trixie main\ndeb [x=y] http://one/debian/ trixie-updates main\n\
             deb [x=y] http://two/security/ trixie-security main\n"
        );
        assert!(of_system(TARGETS, "", "trixie").is_empty());
        assert!(of_system(TARGETS, "sid", "trixie").is_empty());
        assert!(of_system("Packages|x|bookworm\n\n", "bookworm", "trixie").is_empty());
    }

    #[test]
    fn each_mirror_has_lists_of_its_own() {
        let cache = Cache::at(PathBuf::from("/nonexistent"));
        let folder = |url: &str| {
            let lines = vec![(url.to_owned(), "trixie".to_owned())];
            Archive { cache: &cache, release: Release { name: "trixie", mirror: Some("") }, lines }.folder()
        };
        assert_ne!(folder("http://one/"), folder("http://two/"));
        assert_eq!(folder("http://one/"), folder("http://one/"));
    }

    #[test]
    fn lists_are_used_for_a_day() {
        let dir = tempfile::tempdir().unwrap();
        let stamp = dir.path().join(FETCHED);
        assert!(!is_fresh(&stamp));
        let file = std::fs::File::create(&stamp).unwrap();
        assert!(is_fresh(&stamp));
        file.set_modified(SystemTime::now() - FRESH).unwrap();
        assert!(!is_fresh(&stamp));
    }

    #[test]
    fn a_word_that_is_no_package_or_mirror_is_refused() {
        for good in ["curl", "g++", "libc6", "0ad", "linux-image-6.1", "python3.11"] {
            assert_eq!(package_name(good).as_deref(), Ok(good));
        }
        for bad in ["", "x", "-o", "--purge", "curl-", "?all", "~i", "a b", "a=1", "a/b", "Curl", "a\n"] {
            assert!(package_name(bad).unwrap_err().starts_with("expected"), "{bad}");
        }
        for good in ["http://x/debian", "https://x", "file:/srv/mirror", "mirror+file:/etc/m"] {
            assert_eq!(mirror(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "http://",
            "x",
            "ftp://x",
            "http://x y",
            "http://x\ndeb",
            "file:/x [trusted=yes]",
            "http://x#",
        ] {
            assert!(mirror(bad).unwrap_err().starts_with("expected"), "{bad}");
        }
    }
}
