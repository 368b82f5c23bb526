//! `hv clean`: removes the contents of the cache, or some kinds of them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use clap::ValueEnum;

use crate::exit::Exit;
use crate::image::IMAGES;
use crate::machine::folder;
use crate::machines::Machines;
use crate::setup::cache::{Cache, Removal, SOURCES};
use crate::setup::size::size;
use crate::snapshot::SNAPSHOT;
use crate::ui;

/// Remove the contents of hv's cache, or list them
///
/// The cache holds what was downloaded, unpacked and built. It is $XDG_CACHE_HOME/hv-arm64, else ~/.cache/hv-arm64.
/// What a run needs is fetched again. What another running hv uses stays. Installed packages (QEMU) and Rust targets
/// are kept. Folders for sockets that killed runs have left are removed: those of
/// debuggers, and those of `hv exec`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Kinds of contents to remove [default: all]
    #[arg(value_name = "KIND", value_enum)]
    kinds: Vec<Kind>,
    /// Only list the contents, with their kinds and sizes
    #[arg(long)]
    list: bool,
    /// Only contents that nothing uses: sources of hv programs that are gone or were replaced
    #[arg(long)]
    unused: bool,
}

const EXAMPLES: &str = "\
Examples:
  cargo hv clean --list
  cargo hv clean --unused
  cargo hv clean disks downloads
  cargo hv clean";

/// A kind of the cache's contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Kind {
    /// Stock kernels, their modules and busybox
    Kernels,
    /// Raw images that qcow2, VHD and VHDX disks were converted to
    Disks,
    /// Sources of an installed hv, and what was built from them
    Sources,
    /// Booted machines that `hv exec` resumes
    Snapshots,
    /// Images that `hv image` makes, finished and unfinished
    Images,
    /// UEFI firmware
    Firmware,
    /// The newest QEMU, for tests
    Qemu,
    /// Debian's packages and lists
    Downloads,
    /// Folders for sockets left by killed runs, of debuggers and of `hv exec`
    Sockets,
    /// Remains of killed runs, and anything else
    Other,
}

impl Kind {
    /// Returns the kind of the cache's entry of this name.
    fn of(name: &str) -> Self {
        match name {
            "busybox" => Self::Kernels,
            "disks" => Self::Disks,
            "uefi" => Self::Firmware,
            "newest-qemu" => Self::Qemu,
            "apt" | "debs" => Self::Downloads,
            _ if name.starts_with(SOURCES) => Self::Sources,
            _ if name.starts_with(SNAPSHOT) => Self::Snapshots,
            _ if name.starts_with(IMAGES) => Self::Images,
            _ if name.starts_with("apt-") => Self::Downloads,
            _ if name.starts_with("linux-") => Self::Kernels,
            _ => Self::Other,
        }
    }

    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// Removable item.
#[derive(Debug, PartialEq, Eq)]
struct Item {
    kind: Kind,
    name: String,
    bytes: u64,
    /// Why it stays, or may go.
    state: &'static str,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    // A list of machines removes what killed ones have left, of which the rest of this knows nothing.
    let _ = Machines::open().and_then(|machines| machines.list());
    let sockets = (args.kinds.is_empty() && !args.unused) || args.kinds.contains(&Kind::Sockets);
    let left = if sockets { folder::left(!args.list) } else { Vec::new() };
    let sockets = left.iter().map(|path| Item {
        kind: Kind::Sockets,
        name: ui::one_line(&path.display().to_string()).into_owned(),
        bytes: 0,
        state: "",
    });
    let cache = Cache::open()?;
    let items = selected(&cache, args)?;
    if args.list {
        ui::out(&table(items.into_iter().chain(sockets).collect(), cache.dir()));
        return Ok(Exit::Success);
    }
    for socket in sockets {
        ui::out(&format!("{} removed\n", socket.name));
    }
    let dir = ui::one_line(&cache.dir().display().to_string()).into_owned();
    if items.is_empty() {
        ui::out(&format!("nothing to remove in {dir}\n"));
        return Ok(Exit::Success);
    }
    let guard = cache.lock()?;
    let mut removed = 0;
    for item in items {
        // The lock has removed what killed runs have left.
        if !cache.entry(&item.name).exists() && fs::symlink_metadata(cache.entry(&item.name)).is_err() {
            removed += item.bytes;
            continue;
        }
        match cache.remove(&guard, &item.name)? {
            Removal::Done => removed += item.bytes,
            Removal::InUse => ui::note(&format!("{} stays: a running hv uses it", ui::one_line(&item.name))),
        }
    }
    // What the removal itself needed.
    let _ = fs::remove_dir(cache.entry("tmp"));
    ui::out(&format!("{} removed from {dir}\n", size(removed)));
    Ok(Exit::Success)
}

/// Returns the cache's entries that the options select, by kind and name.
fn selected(cache: &Cache, args: &Args) -> anyhow::Result<Vec<Item>> {
    let mut items = Vec::new();
    for name in cache.names()? {
        let kind = Kind::of(&name);
        let unused = cache.is_unused(&name);
        if (args.unused && !unused) || (!args.kinds.is_empty() && !args.kinds.contains(&kind)) {
            continue;
        }
        let state = match unused {
            true => "unused",
            false if cache.is_in_use(&name) => "in use",
            false => "",
        };
        let bytes = bytes(&cache.entry(&name));
        items.push(Item { kind, name, bytes, state });
    }
    items.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    Ok(items)
}

/// Formats the items, with a sum for each kind.
fn table(items: Vec<Item>, dir: &Path) -> String {
    let sum = |items: &[Item]| size(items.iter().map(|item| item.bytes).sum());
    let mut text = String::new();
    for kind in items.chunk_by(|a, b| a.kind == b.kind) {
        text.push_str(&format!("{:10} {:>10}\n", kind[0].kind.name(), sum(kind)));
        for item in kind {
            let state = if item.state.is_empty() { String::new() } else { format!("  ({})", item.state) };
            text.push_str(&format!(
                "           {:>10}  {}{state}\n",
                size(item.bytes),
                ui::one_line(&item.name)
            ));
        }
    }
    let dir = dir.display().to_string();
    text.push_str(&format!("{:10} {:>10}  in {}\n", "total", sum(&items), ui::one_line(&dir)));
    text
}

/// Returns the bytes that a file, or everything below a folder, occupies: what is sparse counts by its blocks. Does not
/// follow links.
fn bytes(path: &Path) -> u64 {
    /// Bytes of a block of `st_blocks`: stat(2).
    const BLOCK: u64 = 512;
    let Ok(meta) = fs::symlink_metadata(path) else { return 0 };
    let below = if meta.is_dir() { fs::read_dir(path).ok() } else { None };
    below.into_iter().flatten().flatten().map(|entry| bytes(&entry.path())).sum::<u64>()
        + if meta.is_file() { meta.len().min(meta.blocks().saturating_mul(BLOCK)) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(kinds: &[Kind], unused: bool) -> Args {
        Args { kinds: kinds.to_vec(), list: false, unused }
    }

    fn filled() -> (tempfile::TempDir, Cache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path().join("cache"));
        for (name, bytes) in [
            ("linux-6.12-cloud", 2048),
            ("disks", 512),
            ("sources-0.1.0-old", 1),
            ("snapshot-1", 5),
            ("apt", 3),
        ] {
            fs::create_dir_all(cache.entry(name)).unwrap();
            fs::write(cache.entry(name).join("file"), vec![0; bytes]).unwrap();
        }
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("mine"), "mine").unwrap();
        std::os::unix::fs::symlink(&outside, cache.entry("disks").join("link")).unwrap();
        (dir, cache)
    }

    #[test]
    fn kinds_are_removed_by_themselves() {
        let (_dir, cache) = filled();
        let names = |args: &Args| {
            selected(&cache, args)
                .unwrap()
                .into_iter()
                .map(|item| (item.name, item.bytes))
                .collect::<Vec<_>>()
        };
        let all = [
            ("linux-6.12-cloud", 2048),
            ("disks", 512),
            ("sources-0.1.0-old", 1),
            ("snapshot-1", 5),
            ("apt", 3),
        ];
        let all = all.map(|(name, bytes)| (name.to_owned(), bytes));
        assert_eq!(names(&args(&[], false)), all, "a link's target does not count");
        assert_eq!(names(&args(&[Kind::Disks, Kind::Downloads], false)), [all[1].clone(), all[4].clone()]);
        assert_eq!(names(&args(&[], true)), [all[2].clone()]);
        assert_eq!(names(&args(&[Kind::Disks], true)), []);
    }

    #[test]
    fn the_list_has_kinds_and_sizes_and_says_what_is_unused() {
        let (_dir, cache) = filled();
        cache.hold("disks");
        let text = table(selected(&cache, &args(&[], false)).unwrap(), Path::new("/cache"));
        let expected = "kernels         2 KiB\n\
                        \u{20}               2 KiB  linux-6.12-cloud\n\
                        disks       512 bytes\n\
                        \u{20}           512 bytes  disks  (in use)\n\
                        sources        1 byte\n\
                        \u{20}              1 byte  sources-0.1.0-old  (unused)\n\
                        snapshots     5 bytes\n\
                        \u{20}             5 bytes  snapshot-1\n\
                        downloads     3 bytes\n\
                        \u{20}             3 bytes  apt\n\
                        total         2.5 KiB  in /cache\n";
        assert_eq!(text, expected);
        let planted = Item { kind: Kind::Other, name: "x\nerror: forged".to_owned(), bytes: 0, state: "" };
        assert!(!table(vec![planted], Path::new("/a\nb")).contains("\nerror"), "a name is on its line");
    }

    #[test]
    fn a_sparse_file_counts_by_its_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = fs::File::create(dir.path().join("sparse")).unwrap();
        std::io::Write::write_all(&mut file, &[1; 8192]).unwrap();
        file.set_len(1 << 30).unwrap();
        let found = bytes(dir.path());
        assert!((8192..1 << 20).contains(&found), "{found}");
    }

    #[test]
    fn a_cache_that_was_never_made_is_empty() {
        assert!(selected(&Cache::at("/nonexistent/hv-arm64".into()), &args(&[], false)).unwrap().is_empty());
    }
}
