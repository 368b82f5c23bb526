//! Files that the user names for a result.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};

/// Fails where a file could not be written at the end of a long run.
pub(crate) fn check(what: &str, option: &str, file: &Path) -> anyhow::Result<()> {
    let dir = folder(file);
    if file.as_os_str() != "-" && (file.is_dir() || !dir.is_dir()) {
        bail!(
            "cannot write the {what} to {}: give {option} the path of a file in a folder that exists",
            file.display()
        );
    }
    Ok(())
}

/// Writes a file whole or not at all, if it is a plain one.
pub(crate) fn write(what: &str, file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    use std::io::Write as _;
    let explain = || format!("cannot write the {what} to {}", file.display());
    if fs::metadata(file).is_ok_and(|meta| !meta.is_file()) {
        return fs::write(file, bytes).with_context(explain);
    }
    let mut temporary = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder(file))
        .with_context(explain)?;
    temporary.write_all(bytes).with_context(explain)?;
    temporary.persist(file).with_context(explain)?;
    Ok(())
}

/// Where a file is or will be.
fn folder(file: &Path) -> &Path {
    file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_that_cannot_be_written_is_known_before_the_run() {
        for bad in ["/nonexistent/report.json", "/"] {
            let error = check("report", "--json", Path::new(bad)).unwrap_err().to_string();
            assert!(error.contains(bad) && error.contains("--json"), "{error}");
        }
        assert!(check("report", "--json", Path::new("-")).is_ok());
        assert!(check("report", "--json", Path::new("report.json")).is_ok());
    }

    #[test]
    fn a_file_is_replaced_whole_and_a_full_device_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("report.json");
        for text in ["a longer text", "short"] {
            write("report", &file, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a temporary file is left");
        assert!(write("report", Path::new("/dev/full"), b"text").is_err());
    }
}
