//! `hv clean`: removes the contents of the cache.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use crate::exit::Exit;
use crate::machine::folder;
use crate::setup::cache::Cache;
use crate::ui;

/// Remove the contents of hv's cache, or list them
///
/// The cache holds what was downloaded, unpacked and built: stock kernels, busybox, UEFI firmware, and an installed
/// hv's sources. It is $XDG_CACHE_HOME/hv-arm64, else ~/.cache/hv-arm64. What a run needs is fetched again. Installed
/// packages (QEMU) and Rust targets are kept. Debugger socket folders left by killed runs are removed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  cargo hv clean --list\n  cargo hv clean")]
pub(crate) struct Args {
    /// Only list the contents, with sizes
    #[arg(long)]
    list: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    for folder in folder::left(!args.list) {
        let path = folder.display();
        ui::out(&if args.list { format!("{:>10}  {path}\n", size(0)) } else { format!("{path} removed\n") });
    }
    let cache = Cache::open()?;
    let entries = entries(cache.dir())?;
    for (name, bytes) in entries.iter().filter(|_| args.list) {
        ui::out(&format!("{:>10}  {name}\n", size(*bytes)));
    }
    let total = size(entries.iter().map(|(_, bytes)| bytes).sum());
    if args.list {
        ui::out(&format!("{total:>10}  in {}\n", cache.dir().display()));
    } else if entries.is_empty() {
        ui::out(&format!("nothing in {}\n", cache.dir().display()));
    } else {
        cache.clear()?;
        ui::out(&format!("{total} removed from {}\n", cache.dir().display()));
    }
    Ok(Exit::Success)
}

/// Returns name and size of the cache's entries, sorted by name.
fn entries(dir: &Path) -> anyhow::Result<Vec<(String, u64)>> {
    let listed = match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.with_context(|| format!("cannot read the cache {}", dir.display()))?,
    };
    let mut found: Vec<_> = listed
        .flatten()
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), bytes(&entry.path())))
        .filter(|(name, _)| name != crate::setup::cache::LOCK)
        .collect();
    found.sort();
    Ok(found)
}

/// Returns the size of a file, or of everything below a folder. Does not follow links.
fn bytes(path: &Path) -> u64 {
    let Ok(meta) = fs::symlink_metadata(path) else { return 0 };
    let below = if meta.is_dir() { fs::read_dir(path).ok() } else { None };
    below.into_iter().flatten().flatten().map(|entry| bytes(&entry.path())).sum::<u64>()
        + if meta.is_file() { meta.len() } else { 0 }
}

/// Formats a size: "12.3 MiB".
fn size(bytes: u64) -> String {
    if bytes < 1 << 20 {
        format!("{:.1} KiB", bytes as f64 / 1024.0)
    } else {
        format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_cache_is_removed_and_no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path().join("cache"));
        let outside = dir.path().join("outside");
        fs::create_dir_all(cache.dir().join("kernel")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("mine"), "mine").unwrap();
        fs::write(cache.dir().join("kernel/Image"), vec![0; 2048]).unwrap();
        std::os::unix::fs::symlink(&outside, cache.dir().join("kernel/link")).unwrap();
        std::os::unix::fs::symlink(&outside, cache.dir().join("planted")).unwrap();
        let found = super::entries(cache.dir()).unwrap();
        assert_eq!(found, [("kernel".to_owned(), 2048), ("planted".to_owned(), 0)]);
        cache.clear().unwrap();
        assert!(super::entries(cache.dir()).unwrap().is_empty());
        assert_eq!(fs::read_to_string(outside.join("mine")).unwrap(), "mine");
    }

    #[test]
    fn a_cache_that_was_never_made_is_empty() {
        assert!(super::entries(Path::new("/nonexistent/hv-arm64")).unwrap().is_empty());
        assert_eq!((size(512), size(3 << 20)), ("0.5 KiB".to_owned(), "3.0 MiB".to_owned()));
    }
}
