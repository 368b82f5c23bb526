//! Checks what is said of files: those that ARCHITECTURE.md names exist, unsafe code is where its table has it, and the
//! book's examples are as short as the book says.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Folders with what is built, and what git keeps.
const SKIPPED: [&str; 2] = ["target", ".git"];

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn architecture() -> String {
    std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap()
}

/// Returns all files and folders of the project, as paths from its root.
pub(crate) fn entries() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            if SKIPPED.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            let path = folder.join(entry.file_name());
            found.insert(path.to_str().unwrap().to_owned());
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            }
        }
    }
    found
}

/// Returns the texts in backquotes, outside of blocks.
fn quoted(text: &str) -> Vec<&str> {
    let prose = text.split("```").step_by(2);
    prose.flat_map(|part| part.split('`').skip(1).step_by(2)).collect()
}

/// Returns true for the name of a file or folder: it ends like one, or begins like a path from the root.
fn is_path(text: &str) -> bool {
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
    let ends = [".rs", ".s", ".js", ".md", ".toml"].iter().any(|end| text.ends_with(end));
    let begins =
        ["bare/", "cli/", "crates/", "docs/", "fuzz/", "xtask/"].iter().any(|at| text.starts_with(at));
    plain && (ends || begins)
}

/// Returns true if there is a file or folder whose path ends like this: the text says which crate it is in.
fn exists(entries: &BTreeSet<String>, path: &str) -> bool {
    let path = path.trim_end_matches('/');
    let in_crate = path.split_once('/').map(|(name, rest)| format!("crates/{name}/src/{rest}"));
    let ends = format!("/{path}");
    entries.contains(path)
        || in_crate.is_some_and(|path| entries.contains(&path))
        || entries.iter().any(|entry| entry.ends_with(&ends))
}

#[test]
fn files_that_are_named_exist() {
    let (entries, text) = (entries(), architecture());
    let paths: Vec<_> = quoted(&text).into_iter().filter(|text| is_path(text)).collect();
    assert!(paths.len() > 60, "the names are not found: {paths:?}");
    let missing: Vec<_> = paths.into_iter().filter(|path| !exists(&entries, path)).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md names {missing:?}, which do not exist");
    assert!(!exists(&entries, "trap/vector.s") && exists(&entries, "hv-host/delivery.rs"));
}

/// Returns the places of the table of unsafe code, from its first column: files, and folders that end with `/`.
fn rooms(text: &str) -> Vec<&str> {
    let section = text.split_once("\n## Where unsafe lives\n").unwrap().1.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with('|') && line.contains('`'));
    rows.filter_map(|row| row.split('|').nth(1)).flat_map(quoted).collect()
}

/// Returns true if code outside of comments is unsafe, or promises what the compiler does not check.
fn has_unsafe(text: &str) -> bool {
    let code = text.lines().map(|line| line.split("//").next().unwrap());
    code.flat_map(|line| {
        line.match_indices("unsafe ").map(move |(at, word)| (&line[..at], &line[at + word.len()..]))
    })
    .any(|(before, after)| {
        let whole = !before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        whole && ["{", "fn ", "impl", "extern", "trait "].iter().any(|what| after.starts_with(what))
    })
}

#[test]
fn unsafe_code_is_where_the_table_has_it() {
    let (entries, text) = (entries(), architecture());
    let rooms = rooms(&text);
    assert!(rooms.len() > 8, "the table is not found: {rooms:?}");
    // This file has such words in texts.
    let is_source = |path: &&String| path.ends_with(".rs") && path.as_str() != file!();
    let files: Vec<_> = entries
        .iter()
        .filter(is_source)
        .filter(|path| has_unsafe(&std::fs::read_to_string(root().join(path)).unwrap()))
        .collect();
    let inside = |path: &str, room: &str| path == room || room.ends_with('/') && path.starts_with(room);
    let outside: Vec<_> = files.iter().filter(|path| !rooms.iter().any(|room| inside(path, room))).collect();
    assert!(outside.is_empty(), "unsafe code outside of the rooms of ARCHITECTURE.md: {outside:?}");
    let empty: Vec<_> = rooms.iter().filter(|room| !files.iter().any(|path| inside(path, room))).collect();
    assert!(empty.is_empty(), "rooms of ARCHITECTURE.md without unsafe code: {empty:?}");
}

#[test]
fn unsafe_code_is_found() {
    for text in ["unsafe { f() }", "pub unsafe fn f() {}", "unsafe impl Sync for X {}", "Some(unsafe { x })"]
    {
        assert!(has_unsafe(text), "{text}");
    }
    for text in ["// unsafe { f() }", "#![forbid(unsafe_code)]", "no_unsafe { x }", "it is unsafe to f"] {
        assert!(!has_unsafe(text), "{text}");
    }
}

fn source(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// Counts the lines of code: those that are not empty, and not comments alone.
fn code_lines(text: &str) -> usize {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

#[test]
fn the_books_example_has_sixty_lines() {
    assert!(source("docs/src/vmbus.md").contains("\nSixty lines,"), "the book says how long it is");
    let file = source("crates/hv-drivers/tests/drivers/first_sector.rs");
    let example = file.split_once("// ANCHOR: example\n").unwrap().1.split_once("// ANCHOR_END").unwrap().0;
    let lines = example.lines().count();
    assert!((40..=60).contains(&lines), "the example has {lines} lines");
}

#[test]
fn the_unikernel_that_serves_has_at_most_three_hundred_lines_of_code() {
    assert!(source("docs/src/vmbus.md").contains("is a unikernel of at most 300 lines of code"));
    let is_part = |path: &&String| path.starts_with("bare/serve/src/") && path.ends_with(".rs");
    let entries = entries();
    let files: Vec<_> = entries.iter().filter(is_part).map(|path| source(path)).collect();
    assert!(files.len() > 3, "the program's files are not found");
    let lines: usize = files.iter().map(|text| code_lines(text)).sum();
    assert!((200..=300).contains(&lines), "bare/serve has {lines} lines of code");
    assert_eq!(code_lines("// no\n\n  /// no\nfn yes() {} // yes\n//! no\n}\n"), 2);
}
