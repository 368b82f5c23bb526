//! The cache: one folder per thing, each with a manifest of what is in it.
//!
//! A folder appears by a rename when it is complete, so an interrupted run leaves no half of anything. What is used is
//! checked against the manifest first; a damaged folder counts as absent and is made again.

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

/// Name of the manifest in each folder.
const MANIFEST: &str = "manifest.json";
/// Name of the file that is locked while the cache changes.
pub const LOCK: &str = "lock";
/// Most bytes of it: it has a line for each file.
const LONGEST_MANIFEST: u64 = 16 << 20;

/// The folder that belongs to this tool.
#[derive(Debug, Clone)]
pub struct Cache {
    dir: PathBuf,
}

/// Held while something is added to the cache.
pub struct Lock {
    _file: File,
    _orderly: Orderly,
}

/// What is in a folder of the cache, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Which pieces of the package were taken; another number means that the folder has to be made again.
    pub recipe: u32,
    /// Debian package.
    pub package: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of each file, by its path inside the folder.
    pub files: BTreeMap<String, String>,
}

impl Cache {
    /// The cache of this user: `$XDG_CACHE_HOME/hv-arm64`, else `~/.cache/hv-arm64`. Nothing is created yet.
    pub fn open() -> anyhow::Result<Self> {
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
        let base = base.context("neither XDG_CACHE_HOME nor HOME is set to an absolute path; set HOME")?;
        Ok(Self { dir: base.join("hv-arm64") })
    }

    /// A cache in another place.
    #[must_use]
    pub fn at(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Removes everything in it. A run that has just started may miss what it has found here, and says so.
    pub fn clear(&self) -> anyhow::Result<()> {
        let _lock = self.lock()?;
        for entry in fs::read_dir(&self.dir)?.flatten().filter(|entry| entry.file_name() != LOCK) {
            // The type is the entry's own: a link is removed, not what it leads to.
            let removed = match entry.file_type() {
                Ok(kind) if kind.is_dir() => fs::remove_dir_all(entry.path()),
                _ => fs::remove_file(entry.path()),
            };
            removed.with_context(|| format!("cannot remove {}", entry.path().display()))?;
        }
        Ok(())
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Waits until no other run changes the cache, and clears what a killed one left behind.
    pub fn lock(&self) -> anyhow::Result<Lock> {
        let explain = || format!("cannot write to the cache {}; set XDG_CACHE_HOME", self.dir.display());
        let file = Folder::make(&self.dir).and_then(|folder| folder.lasting(LOCK)).with_context(explain)?;
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let _task = ui::Task::new("Waiting for another hv that fills the cache");
            while rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                interrupt::check()?;
                std::thread::sleep(crate::process::POLL);
            }
        }
        let orderly = interrupt::orderly();
        let _ = fs::remove_dir_all(self.temporary());
        Ok(Lock { _file: file, _orderly: orderly })
    }

    fn temporary(&self) -> PathBuf {
        self.dir.join("tmp")
    }

    /// A folder for work in progress, gone when it is dropped.
    pub fn scratch(&self, _lock: &Lock) -> anyhow::Result<tempfile::TempDir> {
        fs::create_dir_all(self.temporary())?;
        Ok(tempfile::tempdir_in(self.temporary())?)
    }

    /// Path of the folder called `name`.
    pub fn entry(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The manifest of the folder called `name`, once all of its files were found to be as they should be.
    pub fn verified(&self, name: &str, recipe: u32) -> Option<Manifest> {
        self.check(name, recipe).ok()
    }

    /// As [`Cache::verified`]; or else which file is damaged, or `None` if nothing is there that could be.
    pub fn check(&self, name: &str, recipe: u32) -> Result<Manifest, Option<PathBuf>> {
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

    /// Makes `files`, which stand in the folder `made`, the content of the folder called `name`.
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
            bail!("the package {} holds nothing that is needed", manifest.package);
        }
        Folder::make(made)?.write(MANIFEST, &serde_json::to_vec_pretty(&manifest)?)?;
        let target = self.entry(name);
        let old = self.scratch(lock)?;
        match fs::rename(&target, old.path().join("old")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => fs::rename(made, &target).context("cannot fill the cache")?,
        }
        Ok(manifest)
    }
}

/// SHA-256 of a file, in hexadecimal.
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
