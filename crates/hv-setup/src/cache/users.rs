//! The users of unpacked sources: each build of the tool has a folder of its own in the cache, with what was built from
//! it. A folder names the programs that use it, and goes when none of them is left.

use std::fs;
use std::path::{Path, PathBuf};

use super::held::Removal;
use super::{Cache, Lock};
use crate::input;
use crate::output::Folder;

/// What the names of folders with sources begin with.
pub const SOURCES: &str = "sources-";
/// Name of the file in them that lists the programs, one on a line.
const USERS: &str = "users";
/// Maximum size of that file in bytes.
const LONGEST: u64 = 1 << 20;

impl Cache {
    /// Returns the programs that use the folder called `name` and still exist.
    #[must_use]
    pub fn users(&self, name: &str) -> Vec<PathBuf> {
        let text = input::read(&self.entry(name).join(USERS), LONGEST).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        text.lines().map(PathBuf::from).filter(|program| program.is_file()).collect()
    }

    /// Returns true if no program that exists is known to use this folder with sources.
    #[must_use]
    pub fn is_unused(&self, name: &str) -> bool {
        name.starts_with(SOURCES) && self.users(name).is_empty() && !self.is_in_use(name)
    }

    /// Records that `program` uses the folder called `name` from now on, and no other one. Returns the names of folders
    /// that were removed, since the last program that used them is gone or is this one.
    ///
    /// # Errors
    /// The cache cannot be written.
    pub fn use_sources(&self, guard: &Lock, name: &str, program: &Path) -> anyhow::Result<Vec<String>> {
        let mut removed = Vec::new();
        for other in self.names()?.into_iter().filter(|other| other.starts_with(SOURCES) && other != name) {
            // A folder without a list of users comes from a tool that did not record them.
            if !self.entry(&other).join(USERS).is_file() {
                continue;
            }
            let left: Vec<_> = self.users(&other).into_iter().filter(|user| user != program).collect();
            self.set_users(&other, &left)?;
            if left.is_empty() && self.remove(guard, &other)? == Removal::Done {
                removed.push(other);
            }
        }
        let mut users = self.users(name);
        if !users.iter().any(|user| user == program) {
            users.push(program.to_owned());
            self.set_users(name, &users)?;
        }
        Ok(removed)
    }

    fn set_users(&self, name: &str, users: &[PathBuf]) -> anyhow::Result<()> {
        let lines: String = users.iter().map(|user| format!("{}\n", user.display())).collect();
        Ok(Folder::make(&self.entry(name))?.write(USERS, lines.as_bytes())?)
    }
}

/// Returns the path of the running program; `None` if it has been replaced since it was started, so that its path leads
/// to another one.
#[must_use]
pub fn running_program() -> Option<PathBuf> {
    std::env::current_exe().ok().filter(|program| fs::metadata(program).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_go_with_the_last_program_that_used_them() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path().join("cache"));
        let guard = cache.lock().unwrap();
        let program = |name: &str| {
            let path = dir.path().join(name);
            fs::write(&path, "").unwrap();
            path
        };
        let uses = |name: &str, program: &Path| {
            fs::create_dir_all(cache.entry(name)).unwrap();
            cache.use_sources(&guard, name, program).unwrap()
        };
        let (one, two) = (program("one"), program("two"));
        fs::create_dir_all(cache.entry("sources-unknown")).unwrap();
        fs::create_dir_all(cache.entry("kernel")).unwrap();
        assert!(uses("sources-1", &one).is_empty());
        assert!(uses("sources-1", &two).is_empty());
        // A new build at the path of the first: the second still has the old one.
        assert!(uses("sources-2", &one).is_empty());
        assert_eq!(cache.users("sources-1"), std::slice::from_ref(&two));
        // The second is deleted, and its sources go when a third comes.
        fs::remove_file(&two).unwrap();
        assert!(cache.is_unused("sources-1") && !cache.is_unused("sources-2") && !cache.is_unused("kernel"));
        assert_eq!(uses("sources-3", &program("three")), ["sources-1"]);
        // One that runs keeps what it uses.
        cache.hold("sources-2");
        assert!(uses("sources-4", &one).is_empty());
        assert!(cache.entry("sources-2").exists() && !cache.is_unused("sources-2"));
        assert!(cache.entry("kernel").exists() && cache.entry("sources-unknown").exists());
    }
}
