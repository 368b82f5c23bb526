//! Patterns in the command's words. The user's shell expands those that match paths of the host; what it leaves is
//! expanded here, by the guest's paths.

use std::ffi::OsString;

use glob::{MatchOptions, glob_with};

/// How a shell matches: `*` and `?` match neither a slash nor a dot at the start of a name (POSIX.1-2017, XCU 2.13.3).
const SHELL: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// Replaces each word that is a pattern of absolute paths with the paths that match it, in their order. A word that
/// matches none stays as it is.
pub(crate) fn expand(words: Vec<OsString>) -> Vec<OsString> {
    let matching = |word: OsString| {
        let paths = paths(&word);
        if paths.is_empty() { vec![word] } else { paths }
    };
    words.into_iter().flat_map(matching).collect()
}

/// Returns the paths that match a word.
fn paths(word: &OsString) -> Vec<OsString> {
    let Some(text) = word.to_str().filter(|text| text.starts_with('/') && text.contains(['*', '?', '[']))
    else {
        return Vec::new();
    };
    // The crate's `**` goes down all folders; a shell's is one `*`.
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if c != '*' || !pattern.ends_with('*') {
            pattern.push(c);
        }
    }
    let Ok(found) = glob_with(&pattern, SHELL) else { return Vec::new() };
    // Folders that cannot be read have no matches, as in a shell.
    found.flatten().map(OsString::from).collect()
}
