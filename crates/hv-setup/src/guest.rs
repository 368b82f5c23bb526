//! Programs of Debian's arm64 packages, for guests that want more than busybox: unpacked, never installed.

use std::path::{Path, PathBuf};

use super::apt::Apt;
use super::cache::Cache;
use super::system;

/// Downloads packages, if Debian has newer ones than last time, and unpacks them with all that they depend on below
/// `root`, a folder that does not exist.
pub fn unpack(cache: &Cache, packages: &[&str], root: &Path) -> anyhow::Result<()> {
    system::require_debian(packages.first().copied().unwrap_or_default())?;
    let lock = cache.lock()?;
    Apt::update(cache, &lock)?.unpack(packages, root)
}

/// Downloads the newest version of one package, without what it depends on, and returns its file.
///
/// # Errors
/// Debian has no such package, or it cannot be downloaded.
pub fn download(cache: &Cache, package: &str) -> anyhow::Result<PathBuf> {
    system::require_debian(package)?;
    let lock = cache.lock()?;
    Ok(Apt::update(cache, &lock)?.download(package)?.file)
}
