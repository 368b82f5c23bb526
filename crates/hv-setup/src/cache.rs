//! The cache: one folder per item, each with a manifest of its contents.
//!
//! A complete folder appears through a rename, so an interrupted run leaves nothing incomplete. Items are checked
//! against the manifest before use; a damaged folder counts as absent and is rebuilt.

mod held;
mod users;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::interrupt::{self, Orderly};
use crate::output::Folder;
use crate::{input, ui};

pub use held::Removal;
pub use users::{SOURCES, running_program};

/// Name of the manifest in each folder.
const MANIFEST: &str = "manifest.json";
/// Name of the file that is locked during changes to the cache.
pub const LOCK: &str = "lock";
/// Name of the folder of running machines, where the user's session has no folder for such things. It is not content of
/// the cache.
pub const MACHINES: &str = "machines";
/// Maximum size of a manifest in bytes: it has a line per file.
const LONGEST_MANIFEST: u64 = 16 << 20;

/// The cache folder of this tool.
#[derive(Debug, Clone)]
pub struct Cache {
    dir: PathBuf,
}

/// Lock held during additions to the cache.
pub struct Lock {
    _file: File,
    _orderly: Orderly,
}

/// Contents and origin of a folder in the cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the selection of files; another version means that the folder must be rebuilt.
    pub recipe: u32,
    /// Debian package.
    pub package: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of each file, by its path inside the folder.
    pub files: BTreeMap<String, String>,
}

impl Cache {
    /// Opens the cache of this user: `$XDG_CACHE_HOME/hv-arm64`, else `~/.cache/hv-arm64`. Creates nothing yet.
    pub fn open() -> anyhow::Result<Self> {
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
        let base = base.context("neither XDG_CACHE_HOME nor HOME is set to an absolute path; set HOME")?;
        Ok(Self { dir: base.join("hv-arm64") })
    }

    /// Opens a cache in another folder.
    #[must_use]
    pub fn at(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Returns the folder of the cache.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Waits until no other run changes the cache, and removes the remains of killed runs.
    pub fn lock(&self) -> anyhow::Result<Lock> {
        let explain = || format!("cannot write to the cache {}; set XDG_CACHE_HOME", self.dir.display());
        let file = self.lock_file().with_context(explain)?;
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let _task = ui::Task::new("Waiting for another hv to fill the cache");
            while rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                interrupt::check()?;
                std::thread::sleep(crate::process::POLL);
            }
        }
        Ok(self.locked(file))
    }

    /// Does the same as [`Cache::lock`], but returns `None` if another run changes the cache, or it cannot be written.
    #[must_use]
    pub fn try_lock(&self) -> Option<Lock> {
        let file = self.lock_file().ok()?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
        Some(self.locked(file))
    }

    fn lock_file(&self) -> std::io::Result<File> {
        Folder::make(&self.dir)?.lasting(LOCK)
    }

    fn locked(&self, file: File) -> Lock {
        let orderly = interrupt::orderly();
        let _ = fs::remove_dir_all(self.temporary());
        Lock { _file: file, _orderly: orderly }
    }

    fn temporary(&self) -> PathBuf {
        self.dir.join("tmp")
    }

    /// Creates a folder for work in progress, which is removed when dropped.
    pub fn scratch(&self, _lock: &Lock) -> anyhow::Result<tempfile::TempDir> {
        fs::create_dir_all(self.temporary())?;
        Ok(tempfile::tempdir_in(self.temporary())?)
    }

    /// Returns the path of the folder called `name`.
    pub fn entry(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Returns the manifest of the folder called `name`, if all of its files match it. The folder stays while this
    /// process runs.
    pub fn verified(&self, name: &str, recipe: u32) -> Option<Manifest> {
        self.check(name, recipe).ok()
    }

    /// Does the same as [`Cache::verified`], but returns which file is damaged, or `None` if the folder is absent.
    pub fn check(&self, name: &str, recipe: u32) -> Result<Manifest, Option<PathBuf>> {
        self.hold(name);
        let dir = self.entry(name);
        let file = dir.join(MANIFEST);
        let text = input::read(&file, LONGEST_MANIFEST).map_err(|_| None)?;
        let manifest: Manifest = serde_json::from_slice(&text).map_err(|_| Some(file))?;
        if manifest.recipe != recipe {
            return Err(None);
        }
        for (file, sum) in &manifest.files {
            let file = dir.join(file);
            if sha256(&file).ok().as_ref() != Some(sum) {
                return Err(Some(file));
            }
        }
        Ok(manifest)
    }

    /// Makes `files`, from the folder `made`, the contents of the folder called `name`.
    pub fn publish(
        &self,
        lock: &Lock,
        name: &str,
        made: &Path,
        mut manifest: Manifest,
        files: &[String],
    ) -> anyhow::Result<Manifest> {
        for file in files {
            manifest.files.insert(file.clone(), sha256(&made.join(file))?);
        }
        if manifest.files.is_empty() {
            bail!("the package {} contains none of the needed files", manifest.package);
        }
        Folder::make(made)?.write(MANIFEST, &serde_json::to_vec_pretty(&manifest)?)?;
        let target = self.entry(name);
        let old = self.scratch(lock)?;
        match fs::rename(&target, old.path().join("old")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => fs::rename(made, &target).context("cannot fill the cache")?,
        }
        self.hold(name);
        Ok(manifest)
    }
}

/// Returns the SHA-256 of a file, in hexadecimal.
pub fn sha256(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => hash.update(&buffer[..n]),
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache_with_one_file() -> (tempfile::TempDir, Cache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache { dir: dir.path().join("hv-arm64") };
        let lock = cache.lock().unwrap();
        let made = cache.scratch(&lock).unwrap();
        fs::create_dir(made.path().join("piece")).unwrap();
        fs::write(made.path().join("piece/a"), "content").unwrap();
        let manifest =
            Manifest { recipe: 3, package: "p".into(), version: "1".into(), files: BTreeMap::new() };
        cache.publish(&lock, "piece", &made.path().join("piece"), manifest, &["a".into()]).unwrap();
        (dir, cache)
    }

    #[test]
    fn what_was_published_is_found() {
        let (_dir, cache) = cache_with_one_file();
        let manifest = cache.verified("piece", 3).unwrap();
        assert_eq!(manifest.files["a"], "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73");
        assert!(!cache.entry("tmp").join("piece").exists());
    }

    #[test]
    fn a_changed_byte_makes_the_folder_absent() {
        let (_dir, cache) = cache_with_one_file();
        fs::write(cache.entry("piece").join("a"), "contemt").unwrap();
        assert_eq!(cache.verified("piece", 3), None);
    }

    #[test]
    fn a_lost_file_makes_the_folder_absent() {
        let (_dir, cache) = cache_with_one_file();
        fs::remove_file(cache.entry("piece").join("a")).unwrap();
        assert_eq!(cache.verified("piece", 3), None);
    }

    #[test]
    fn another_recipe_makes_the_folder_absent() {
        let (_dir, cache) = cache_with_one_file();
        assert_eq!(cache.verified("piece", 4), None);
    }

    #[test]
    fn a_folder_can_be_replaced() {
        let (_dir, cache) = cache_with_one_file();
        let lock = cache.lock().unwrap();
        let made = cache.scratch(&lock).unwrap();
        fs::create_dir(made.path().join("again")).unwrap();
        fs::write(made.path().join("again/b"), "").unwrap();
        let manifest =
            Manifest { recipe: 3, package: "p".into(), version: "2".into(), files: BTreeMap::new() };
        cache.publish(&lock, "piece", &made.path().join("again"), manifest, &["b".into()]).unwrap();
        assert_eq!(cache.verified("piece", 3).unwrap().version, "2");
        assert!(!cache.entry("piece").join("a").exists());
    }
}
