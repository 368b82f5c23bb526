//! Room on disk: a run that has filled the disk ends there, and says so, instead of failing test by test.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use hv_setup::{size, sources};

/// Below this, what a test writes may not fit: the most is a machine's RAM beside a copy of its disk.
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

    /// Returns an error if a folder is short of room; for a run in which a test has failed.
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

/// Returns the bytes that a user may still write in a folder, or where it will be made.
fn free(folder: &Path) -> anyhow::Result<u64> {
    let there = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    let found = rustix::fs::statvfs(there)
        .with_context(|| format!("cannot read how much of {} is free", there.display()))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Returns an error if `free` bytes are too few.
fn judge(folder: &Path, free: u64) -> anyhow::Result<()> {
    anyhow::ensure!(
        free >= SHORT,
        "a test has failed, and {} has {} free, where a test may write {}: free some (`cargo clean`, \
         `cargo hv clean`), or set TMPDIR or XDG_CACHE_HOME to a larger place, and run the tests again",
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
        assert!(error.contains("/t has 14 MiB free, where a test may write 1 GiB: free some"), "{error}");
    }

    #[test]
    fn a_folder_that_is_yet_to_be_made_counts_as_the_one_it_will_be_in() {
        let parent = tempfile::tempdir().unwrap();
        let found = free(&parent.path().join("a/b")).unwrap();
        let expected = free(parent.path()).unwrap();
        assert!(found.abs_diff(expected) < SHORT, "{found} {expected}");
        assert!(free(Path::new("relative")).is_ok());
    }
}
