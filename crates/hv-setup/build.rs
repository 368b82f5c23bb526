//! Packs the sources of the programs in `bare/` into the tool, so an installed `hv` works without its checkout.

use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

/// Inputs of a build of the programs, below the project's root.
const PACKED: [&str; 4] = ["Cargo.toml", "bare", "crates", "LICENSE-MIT"];
/// Folders with build output.
const LEFT_OUT: [&str; 1] = ["target"];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_PACKED").is_none() {
        return;
    }
    let root = variable("CARGO_MANIFEST_DIR").join("../..");
    let mut files = Vec::new();
    for name in PACKED {
        walk(&root.join(name), &mut files);
    }
    files.sort();
    let mut hash = DefaultHasher::new();
    let mut list = String::new();
    for file in &files {
        println!("cargo:rerun-if-changed={}", file.display());
        let name = file.strip_prefix(&root).expect("a file below the root");
        let name = name.to_str().expect("a file name in UTF-8");
        let content = fs::read(file).expect("a readable file");
        (name, &content).hash(&mut hash);
        let absolute = fs::canonicalize(file).expect("a file");
        writeln!(list, "    ({name:?}, include_bytes!({absolute:?})),").expect("write to memory");
    }
    let key = hash.finish();
    let code = format!(
        "/// Names the packed sources.\n\
         pub(super) const KEY: &str = \"{key:016x}\";\n\
         /// Path below the root, and contents.
         pub(super) static FILES: &[(&str, &[u8])] = &[\n{list}];\n"
    );
    fs::write(variable("OUT_DIR").join("sources.rs"), code).expect("write to OUT_DIR");
}

/// Returns a path from an environment variable that cargo sets.
fn variable(name: &str) -> PathBuf {
    std::env::var_os(name).map(PathBuf::from).unwrap_or_else(|| panic!("cargo sets {name}"))
}

/// Adds a file, or all files below a folder.
fn walk(path: &Path, files: &mut Vec<PathBuf>) {
    if !path.is_dir() {
        files.push(path.to_owned());
        return;
    }
    println!("cargo:rerun-if-changed={}", folder_marker(path).display());
    for entry in fs::read_dir(path).expect("a readable folder").flatten() {
        let name = entry.file_name();
        if !LEFT_OUT.iter().any(|left_out| name == *left_out) {
            walk(&entry.path(), files);
        }
    }
}

/// Returns what to watch for a folder: watching the folder itself would include build output below `bare/target`.
fn folder_marker(path: &Path) -> PathBuf {
    if path.join(LEFT_OUT[0]).exists() { path.join("Cargo.toml") } else { path.to_owned() }
}
