//! Patterns in the command's words. The user's shell expands those that match paths of the host; what it leaves is
//! expanded here, by the guest's paths.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use glob::Pattern;

/// Bytes of paths from which on no more are looked for: Linux takes fewer (execve(2), "Limits on size of arguments and
/// environment"), and says so when the command is started.
const ENOUGH: usize = 4 << 20;

/// Replaces each word that is a pattern of paths below a named folder with the paths that match it, in their order. A
/// word that matches none stays as it is.
pub(crate) fn expand(words: Vec<OsString>) -> Vec<OsString> {
    let matching = |word: OsString| {
        let paths = paths(&word);
        if paths.is_empty() { vec![word] } else { paths }
    };
    words.into_iter().flat_map(matching).collect()
}

/// Returns true if a name is a pattern (POSIX.1-2017, XCU 2.13, "Pattern Matching Notation").
fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// Returns true if a word is a pattern of paths, and names the first folder. One that begins with a pattern is likely a
/// regular expression of sed or awk: `/[a-z]*/`.
fn is_of_paths(word: &str) -> bool {
    let folder = word.strip_prefix('/').and_then(|rest| rest.split_once('/'));
    folder.is_some_and(|(first, below)| !first.is_empty() && !is_pattern(first) && is_pattern(below))
}

/// Returns the paths that match a word.
fn paths(word: &OsString) -> Vec<OsString> {
    let Some(text) = word.to_str().filter(|text| is_of_paths(text)) else { return Vec::new() };
    let mut found = vec![PathBuf::from("/")];
    for part in text.split('/').filter(|part| !part.is_empty()) {
        found = if is_pattern(part) { matches(&found, part) } else { under(&found, part) };
    }
    let folders = text.ends_with('/');
    let exists = |path: &Path| if folders { path.is_dir() } else { path.symlink_metadata().is_ok() };
    found.retain(|path| exists(path));
    let finish = |path: PathBuf| {
        let mut bytes = path.into_os_string().into_vec();
        bytes.extend(folders.then_some(b'/'));
        OsString::from_vec(bytes)
    };
    found.into_iter().map(finish).collect()
}

/// Returns a name in each of these folders.
fn under(folders: &[PathBuf], name: &str) -> Vec<PathBuf> {
    folders.iter().map(|folder| folder.join(name)).collect()
}

/// Returns the paths in these folders whose names match a pattern. Folders that cannot be read have none, as in a
/// shell.
fn matches(folders: &[PathBuf], pattern: &str) -> Vec<PathBuf> {
    // To the crate `**` is all folders below; to a shell it is one `*`.
    let mut single = String::with_capacity(pattern.len());
    for letter in pattern.chars() {
        if letter != '*' || !single.ends_with('*') {
            single.push(letter);
        }
    }
    let Ok(compiled) = Pattern::new(&single) else { return Vec::new() };
    let (mut found, mut bytes) = (Vec::new(), 0);
    for folder in folders {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        // A dot at a name's start is matched by a dot alone. Names need not be text.
        let fits = |name: &OsString| {
            (!name.as_bytes().starts_with(b".") || pattern.starts_with('.'))
                && compiled.matches(&name.to_string_lossy())
        };
        let mut names: Vec<OsString> =
            entries.flatten().map(|entry| entry.file_name()).filter(|name| fits(name)).collect();
        names.sort();
        for name in names {
            let path = folder.join(name);
            bytes += path.as_os_str().len();
            if bytes > ENOUGH {
                return found;
            }
            found.push(path);
        }
    }
    found
}
