//! Files that the user names to be read.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use anyhow::Context as _;

/// Most bytes of a file where the guest has less memory: a kernel may come with debug information.
pub(crate) const LONGEST: u64 = 1 << 30;

/// Reads a file that goes into a guest with `memory` bytes. `what` names it in an error.
pub(crate) fn for_guest(what: &str, file: &Path, memory: u64) -> anyhow::Result<Vec<u8>> {
    read(file, memory.max(LONGEST))
        .with_context(|| format!("cannot read {what} {}; give the path of a readable file", file.display()))
}

/// Reads a file of at most `most` bytes. A device or a pipe without an end is an error, not the end of the host's memory.
pub(crate) fn read(file: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {most} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_an_end_is_refused() {
        let error = read(Path::new("/dev/zero"), 1 << 20).unwrap_err();
        assert!(error.to_string().contains("more than 1048576 bytes"), "{error}");
        assert!(read(Path::new("/nonexistent"), 1).is_err());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "four").unwrap();
        assert_eq!(read(file.path(), 4).unwrap(), b"four");
        assert!(read(file.path(), 3).is_err());
    }

    #[test]
    fn a_missing_file_is_named() {
        let text = for_guest("kernel", Path::new("no/such/kernel"), 0).unwrap_err().to_string();
        assert!(text.contains("kernel no/such/kernel"), "{text}");
    }
}
