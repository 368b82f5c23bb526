//! Room on disk: a run that has filled the disk ends there, and says so, instead of failing test by test.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use hv_setup::{size, sources};

/// Below this, what a test writes may not fit: the largest, a machine's RAM beside a copy of its disk, takes 1 GiB.
const SHORT: u64 = 1 << 30;

/// What a first run of all tests without `--all` writes: 7 GiB of builds, the rest are kernels, images and machines.
const FIRST_RUN: u64 = 10 << 30;

/// The folders that tests write to.
pub(super) struct Room(Vec<PathBuf>);

impl Room {
    /// Finds the folders: that of the builds, that for temporary files, and the cache.
    pub(super) fn new(cache: PathBuf) -> anyhow::Result<Self> {
        Ok(Self(vec![sources::checkout()?, std::env::temp_dir(), cache]))
    }

    /// Returns an error if a folder is short of room.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        self.0.iter().try_for_each(|folder| judge(folder, free(folder)?))
    }

    /// Returns a warning if a first run of all tests, with nothing built yet, may not fit.
    pub(super) fn warning(&self) -> anyhow::Result<Option<String>> {
        let [builds, ..] = &*self.0 else { return Ok(None) };
        let first = !builds.join("target/debug").is_dir();
        let free = free(builds)?;
        Ok((first && free < FIRST_RUN).then(|| {
            format!(
                "{} has {} free; a first run of all tests writes about {}",
                builds.display(),
                size::size(free),
                size::size(FIRST_RUN)
            )
        }))
    }
}

/// Returns the bytes that a user may still write in a folder.
fn free(folder: &Path) -> anyhow::Result<u64> {
    let found = rustix::fs::statvfs(folder)
        .with_context(|| format!("cannot read how much of {} is free", folder.display()))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Returns an error if `free` bytes are too few.
fn judge(folder: &Path, free: u64) -> anyhow::Result<()> {
    anyhow::ensure!(
        free >= SHORT,
        "{} has {} free, and the tests need {}: free some (`cargo clean`, `cargo hv clean`) and run them again",
        folder.display(),
        size::size(free),
        size::size(SHORT)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_with_its_figures() {
        let folder = Path::new("/t");
        assert!(judge(folder, SHORT).is_ok());
        let error = judge(folder, 14 << 20).unwrap_err().to_string();
        assert!(error.starts_with("/t has 14 MiB free, and the tests need 1 GiB: free some"), "{error}");
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        let room = Room(vec![std::env::temp_dir(), PathBuf::from("/nonexistent")]);
        let error = room.check().unwrap_err().to_string();
        assert!(error.contains("/nonexistent"), "{error}");
    }
}
