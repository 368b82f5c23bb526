//! Memory that QEMU maps privately over a file: which pages it has of its own by now, and their contents.
//!
//! Linux tells by `/proc/PID/pagemap` and `/proc/PID/mem` (Linux, Documentation/admin-guide/mm/pagemap.rst; proc(5)),
//! for a child of this process.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::{Arc, OnceLock};

use anyhow::Context as _;

use super::PIECE;

/// Bits of an entry of `pagemap`: the page is in memory; it is in swap; it is one of a file or of shared memory.
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const OF_FILE: u64 = 1 << 61;
/// Bytes of an entry.
const ENTRY: usize = size_of::<u64>();
/// What a host may ask for before it lets a process's memory be read (proc(5), `kernel.yama.ptrace_scope`).
const RIGHT: &str = "with kernel.yama.ptrace_scope of 2 or more it takes CAP_SYS_PTRACE";
/// Entries that are read at once: first, and at most.
const ENTRIES: Range<usize> = 16..4096;

/// The private mapping of a file, once QEMU has made it, or why it cannot be read. A copy is another handle of the
/// same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Own(Arc<OnceLock<Result<Private, String>>>);

impl Own {
    /// Finds the mapping of `size` bytes of the file in QEMU, a child of this process. A machine runs as well where the
    /// host does not let it be read.
    pub(super) fn find(&self, child: u32, file: &File, size: u64) {
        self.0.get_or_init(|| Private::of(child, file, size).map_err(|error| format!("{error:#}")));
    }

    /// Returns the mapping, if QEMU has made it.
    ///
    /// # Errors
    /// It was not found, or the host does not let it be read.
    pub(super) fn get(&self) -> anyhow::Result<Option<&Private>> {
        let found = self.0.get().map(Result::as_ref).transpose();
        found.map_err(|why| {
            anyhow::anyhow!("what QEMU has of its own cannot be read: {why}; see that /proc is mounted")
        })
    }
}

/// A private mapping of a whole file in another process.
#[derive(Debug)]
pub(super) struct Private {
    /// Its memory, or why the host does not let it be read: that takes the right to trace, and `pagemap` does not.
    mem: Result<File, String>,
    pagemap: File,
    /// Its address in that process.
    start: u64,
    size: u64,
    page: u64,
}

impl Private {
    /// Finds the mapping of `size` bytes of this file in the process, which is a child of this one.
    ///
    /// # Errors
    /// It has none, or has ended.
    pub(super) fn of(process: u32, file: &File, size: u64) -> anyhow::Result<Self> {
        let name = |file: &str| format!("/proc/{process}/{file}");
        let open = |file: &str| File::open(name(file)).with_context(|| format!("cannot open {}", name(file)));
        let inode = file.metadata()?.ino();
        let maps = std::fs::read_to_string(name("maps")).context("cannot see what QEMU has mapped")?;
        let start = maps.lines().find_map(|line| Area::of(line).filter(|area| area.is(inode, size)));
        let start = start.context("QEMU has not mapped the machine's memory")?.start;
        let page = rustix::param::page_size() as u64;
        let mem = open("mem").map_err(|error| format!("{error:#}"));
        Ok(Self { mem, pagemap: open("pagemap")?, start, size, page })
    }

    /// Reads bytes of the mapping, wherever they are.
    pub(super) fn read(&self, offset: u64, bytes: &mut [u8]) -> anyhow::Result<()> {
        let mem = self
            .mem
            .as_ref()
            .map_err(|why| anyhow::anyhow!("QEMU's memory cannot be read: {why}; {RIGHT}"))?;
        mem.read_exact_at(bytes, self.start + offset).context("cannot read QEMU's memory")
    }

    /// Returns true if the process has a page of its own among those with these bytes.
    pub(super) fn is_own(&self, offset: u64, length: u64) -> anyhow::Result<bool> {
        Ok(self.next_own(offset, offset + length)?.is_some())
    }

    /// Returns the first pages from `offset` up to `end` that the process has of its own, without those after the next
    /// page that it shares, and up to [`PIECE`] bytes or a page.
    pub(super) fn next_own(&self, offset: u64, end: u64) -> anyhow::Result<Option<Range<u64>>> {
        let mut found: Option<Range<u64>> = None;
        self.entries(offset, end, |at, is_own| {
            match &mut found {
                None if is_own => found = Some(at..at + self.page),
                Some(run) if is_own && at + self.page - run.start <= PIECE as u64 => run.end += self.page,
                found => return found.is_none(),
            }
            true
        })?;
        Ok(found)
    }

    /// Returns the bytes of the pages that the process has of its own.
    pub(super) fn own_bytes(&self) -> anyhow::Result<u64> {
        let mut bytes = 0;
        self.entries(0, self.size, |_, is_own| {
            bytes += if is_own { self.page } else { 0 };
            true
        })?;
        Ok(bytes)
    }

    /// Calls `take` with the offset of each page, and whether it is the process's own, until it returns false. Looks
    /// ahead no further than it has come, so a caller that stops at each page of many reads no more in all.
    fn entries(&self, offset: u64, end: u64, mut take: impl FnMut(u64, bool) -> bool) -> anyhow::Result<()> {
        let (mut page, end) = (offset / self.page, end.min(self.size).div_ceil(self.page));
        let first = self.start / self.page;
        let mut ahead = ENTRIES.start;
        let mut buffer = Vec::new();
        while page < end {
            let count = (end - page).min(ahead as u64);
            buffer.resize(count as usize * ENTRY, 0);
            self.pagemap
                .read_exact_at(&mut buffer, (first + page) * ENTRY as u64)
                .context("cannot see QEMU's pages")?;
            for (n, entry) in buffer.as_chunks().0.iter().enumerate() {
                let entry = u64::from_ne_bytes(*entry);
                let is_own = entry & SWAPPED != 0 || entry & (PRESENT | OF_FILE) == PRESENT;
                if !take((page + n as u64) * self.page, is_own) {
                    return Ok(());
                }
            }
            page += count;
            ahead = (ahead * 2).min(ENTRIES.end);
        }
        Ok(())
    }
}

/// A line of `/proc/PID/maps`: a mapping of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Area {
    start: u64,
    end: u64,
    is_private: bool,
    offset: u64,
    inode: u64,
}

impl Area {
    fn of(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let is_private = words.next()?.ends_with('p');
        let [offset, _device, inode] = [words.next()?, words.next()?, words.next()?];
        let hex = |word| u64::from_str_radix(word, 16).ok();
        Some(Self {
            start: hex(start)?,
            end: hex(end)?,
            is_private,
            offset: hex(offset)?,
            inode: inode.parse().ok()?,
        })
    }

    /// Returns true if this is the private mapping of `size` bytes of a file from its start.
    fn is(&self, inode: u64, size: u64) -> bool {
        self.is_private && self.offset == 0 && self.inode == inode && self.end - self.start == size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = 4096;

    /// A mapping of which these pages are the process's own.
    fn mapping(pages: u64, own: impl Fn(u64) -> bool) -> Private {
        let pagemap = tempfile::tempfile().unwrap();
        let entries =
            (0..pages).flat_map(|page| (PRESENT | if own(page) { 0 } else { OF_FILE }).to_ne_bytes());
        pagemap.write_all_at(&entries.collect::<Vec<u8>>(), 0).unwrap();
        Private { mem: Err("none".into()), pagemap, start: 0, size: pages * PAGE, page: PAGE }
    }

    /// Returns all runs of pages of the process's own.
    fn runs(mapping: &Private) -> Vec<Range<u64>> {
        let (mut runs, mut at) = (Vec::new(), 0);
        while let Some(run) = mapping.next_own(at, mapping.size).unwrap() {
            at = run.end;
            runs.push(run.start / PAGE..run.end / PAGE);
        }
        runs
    }

    #[test]
    fn runs_are_all_pages_of_its_own_and_no_others() {
        let own = |page| page % 1000 == 7 || (5000..5040).contains(&page) || page == 9999;
        let mapping = mapping(10_000, own);
        let found = runs(&mapping);
        assert!(found.iter().cloned().flatten().eq((0..10_000).filter(|page| own(*page))), "{found:?}");
        assert!(
            found.iter().all(|run| run.end - run.start <= 16) && found.contains(&(5016..5032)),
            "{found:?}"
        );
        assert_eq!(
            mapping.own_bytes().unwrap(),
            found.iter().map(|run| run.end - run.start).sum::<u64>() * PAGE
        );
        assert!(mapping.is_own(7 * PAGE, 1).unwrap() && !mapping.is_own(8 * PAGE, 999 * PAGE).unwrap());
    }

    #[test]
    fn to_find_many_pages_takes_a_few_looks_at_each() {
        let read = || {
            let io = std::fs::read_to_string("/proc/thread-self/io").unwrap();
            let bytes = io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap();
            bytes.parse::<u64>().unwrap()
        };
        for every in [1, 2, 3, 100, 5000] {
            let mapping = mapping(20_000, |page| page % every == 0);
            let before = read();
            assert!(!runs(&mapping).is_empty());
            // Each run is found by looking at up to 16 pages, or twice as far as it is away.
            let looked = (read() - before) / ENTRY as u64;
            assert!(looked < 20 * 20_000, "{looked} entries for every {every} of 20000 pages");
        }
    }

    #[test]
    fn the_mapping_is_the_private_one_of_the_file() {
        let line = "7f2f5a200000-7f2f7a200000 rw-p 00000000 fe:00 1835041    /home/user/booted/ram";
        let area = Area::of(line).unwrap();
        assert_eq!(area.start, 0x7f2f_5a20_0000);
        assert!(area.is(1_835_041, 512 << 20));
        assert!(!area.is(1_835_040, 512 << 20) && !area.is(1_835_041, 256 << 20));
        for other in [line.replace("rw-p", "rw-s"), line.replace("00000000", "00001000")] {
            assert!(!Area::of(&other).unwrap().is(1_835_041, 512 << 20), "{other}");
        }
        assert_eq!(Area::of("7ffc00000000-7ffc00021000 rw-p"), None);
        assert_eq!(Area::of(""), None);
    }

    #[test]
    fn a_process_without_the_file_is_an_error() {
        let file = tempfile::tempfile().unwrap();
        let error = Private::of(std::process::id(), &file, 4096).unwrap_err().to_string();
        assert_eq!(error, "QEMU has not mapped the machine's memory");
        assert!(Private::of(u32::MAX, &file, 4096).is_err());
    }
}
