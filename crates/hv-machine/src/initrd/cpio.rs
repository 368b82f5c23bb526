//! Writer for the cpio "newc" format, from which Linux unpacks an initramfs.
//!
//! Source: Linux, Documentation/driver-api/early-userspace/buffer-format.rst.

use super::super::Error;

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// The longest path that Linux accepts: PATH_MAX less the NUL.
const MAX_PATH: usize = 4095;

/// An archive being written. Everything belongs to root and has timestamp 0, so equal contents give equal bytes.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

impl Archive {
    /// Creates an empty archive.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a directory. Parents must be added before their contents.
    pub fn dir(&mut self, path: &str) -> Result<(), Error> {
        self.entry(path, DIRECTORY | 0o755, (0, 0), b"")
    }

    /// Adds a regular file with permissions `mode`.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<(), Error> {
        self.entry(path, REGULAR | mode & 0o7777, (0, 0), content)
    }

    /// Adds a symbolic link to `target`.
    pub fn symlink(&mut self, path: &str, target: &str) -> Result<(), Error> {
        self.entry(path, SYMLINK | 0o777, (0, 0), target.as_bytes())
    }

    /// Adds a character device, readable and writable by root.
    pub fn character_device(&mut self, path: &str, major: u32, minor: u32) -> Result<(), Error> {
        self.entry(path, CHARACTER_DEVICE | 0o600, (major, minor), b"")
    }

    /// Ends the archive and returns it.
    pub fn finish(mut self) -> Result<Vec<u8>, Error> {
        self.inode = u32::MAX;
        self.entry("TRAILER!!!", 0, (0, 0), b"")?;
        Ok(self.bytes)
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), data: &[u8]) -> Result<(), Error> {
        let bad = |reason| Error::Cpio { path: path.to_owned(), reason };
        if path.is_empty() || path.len() > MAX_PATH || path.contains('\0') {
            return Err(bad("its path is empty, longer than 4095 bytes, or contains a NUL"));
        }
        let size = u32::try_from(data.len()).map_err(|_| bad("it has 4 GiB or more"))?;
        let links = if mode & 0o170_000 == DIRECTORY { 2 } else { 1 };
        self.inode = self.inode.wrapping_add(1);
        self.bytes.extend_from_slice(b"070701");
        let name_size = path.len() as u32 + 1;
        let fields = [self.inode, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name_size, 0]
            .map(|field| format!("{field:08X}"));
        self.bytes.extend_from_slice(fields.concat().as_bytes());
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
        Ok(())
    }

    /// Pads to a multiple of four bytes, as names and contents require.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
pub(crate) mod test {
    use super::*;

    /// One entry of an archive.
    pub(crate) struct Entry {
        pub(crate) path: String,
        pub(crate) mode: u32,
        pub(crate) device: (u32, u32),
        pub(crate) data: Vec<u8>,
    }

    /// Reads an archive back, up to its trailer, which must be the last entry.
    pub(crate) fn entries(mut archive: &[u8]) -> Vec<Entry> {
        let mut entries = Vec::new();
        loop {
            assert_eq!(&archive[..6], b"070701");
            let field = |index: usize| {
                let text = std::str::from_utf8(&archive[6 + index * 8..14 + index * 8]).expect("hexadecimal");
                u32::from_str_radix(text, 16).expect("hexadecimal")
            };
            let name_end = 110 + field(11) as usize;
            let data_start = name_end.next_multiple_of(4);
            let data_end = data_start + field(6) as usize;
            assert_eq!(archive[name_end - 1], 0);
            let path = String::from_utf8(archive[110..name_end - 1].to_vec()).expect("UTF-8");
            if path == "TRAILER!!!" {
                assert_eq!(archive.len(), data_end.next_multiple_of(4));
                return entries;
            }
            let (mode, device, data) =
                (field(1), (field(9), field(10)), archive[data_start..data_end].to_vec());
            entries.push(Entry { path, mode, device, data });
            archive = &archive[data_end.next_multiple_of(4)..];
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut archive = Archive::new();
        archive.dir("dev").expect("dir");
        archive.character_device("dev/console", 5, 1).expect("device");
        archive.file("a", 0o755, b"hello").expect("file");
        archive.symlink("sh", "busybox").expect("link");
        let entries = entries(&archive.finish().expect("finish"));
        let seen: Vec<_> =
            entries.iter().map(|e| (e.path.as_str(), e.mode, e.device, e.data.as_slice())).collect();
        assert_eq!(
            seen,
            [
                ("dev", 0o40755, (0, 0), &b""[..]),
                ("dev/console", 0o20600, (5, 1), b""),
                ("a", 0o100_755, (0, 0), b"hello"),
                ("sh", 0o120_777, (0, 0), b"busybox"),
            ]
        );
    }

    #[test]
    fn paths_that_the_format_cannot_hold_are_refused() {
        let mut archive = Archive::new();
        for path in ["", "a\0b", &"a".repeat(4096)] {
            assert!(matches!(archive.dir(path), Err(Error::Cpio { .. })));
        }
    }
}
