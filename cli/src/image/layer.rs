//! Layers of images in the cache: a folder each, with an image whose packages are configured. Its name is a digest of
//! all that it is made of. Work on one continues where it was interrupted.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::table::{self, Table};
use crate::output::Folder;
use crate::setup::cache::{Cache, Manifest};
use crate::{input, interrupt, process, ui};

/// What the names of their folders in the cache begin with.
pub(crate) const IMAGES: &str = "image-";
/// What those of unfinished ones end with.
const UNFINISHED: &str = "-unfinished";
/// Layers that are kept: those that were used last.
const KEPT: usize = 4;
/// Version of what is in a folder.
const RECIPE: u32 = 2;
/// Names of the image, of what is known of it, of the bundle, and of the file that is locked during work.
const IMAGE: &str = "image";
const ABOUT: &str = "about.json";
const BUNDLE: &str = "bundle";
const LOCK: &str = "lock";
/// Bytes of a file with what is known of an image at most.
const LONGEST: u64 = 4096;

/// A layer, whether it is there or not.
#[derive(Debug)]
pub(super) struct Layer<'a> {
    cache: &'a Cache,
    name: String,
}

/// What is known of a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct About {
    /// The identities of its partitions.
    pub(super) efi: String,
    pub(super) root: String,
    /// Its bundle is unpacked.
    pub(super) unpacked: bool,
}

impl About {
    pub(super) fn new(table: Table) -> Self {
        Self { efi: table.efi, root: table.root, unpacked: false }
    }

    pub(super) fn table(&self) -> Table {
        Table { efi: self.efi.clone(), root: self.root.clone() }
    }
}

/// A layer that is complete.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) image: PathBuf,
    pub(super) about: About,
}

/// A layer on which this process works.
#[derive(Debug)]
pub(super) struct Work {
    folder: PathBuf,
    _lock: File,
}

impl<'a> Layer<'a> {
    /// Returns the layer made of these inputs.
    pub(super) fn of<S: AsRef<str>>(cache: &'a Cache, inputs: impl IntoIterator<Item = S>) -> Self {
        let mut sum = Sha256::new();
        for input in inputs {
            // With its length, so that no two lists of inputs are the same text.
            sum.update((input.as_ref().len() as u64).to_le_bytes());
            sum.update(input.as_ref());
        }
        let sum: String = sum.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        Self { cache, name: format!("{IMAGES}{sum}") }
    }

    /// Returns the layer, if it is complete and undamaged.
    pub(super) fn find(&self) -> Option<Ready> {
        let _task = ui::Task::quiet("Checking the cached image");
        self.cache.verified(&self.name, RECIPE)?;
        let folder = self.cache.entry(&self.name);
        let about = read(&folder)?;
        // The time of its last use decides what is kept.
        let _ = File::open(&folder).and_then(|folder| folder.set_modified(std::time::SystemTime::now()));
        Some(Ready { image: folder.join(IMAGE), about })
    }

    /// Begins or continues the work on it, when no other process works on it.
    ///
    /// # Errors
    /// A write to the cache fails; or a signal came.
    pub(super) fn begin(&self) -> anyhow::Result<Work> {
        let name = format!("{}{UNFINISHED}", self.name);
        let folder = self.cache.entry(&name);
        loop {
            let lock = Folder::make(self.cache.dir())?.inner(&name)?.lasting(LOCK)?;
            self.cache.hold(&name);
            if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
                let _task = ui::Task::new("Waiting for another hv that makes the same image");
                while rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
                    interrupt::check()?;
                    std::thread::sleep(process::POLL);
                }
            }
            // The other one may have given the folder its final name.
            if same(&lock, &folder.join(LOCK)) {
                return Ok(Work { folder, _lock: lock });
            }
            self.cache.release(&name);
        }
    }

    /// Gives a layer its name, and removes those that were used longest ago.
    ///
    /// # Errors
    /// A write to the cache fails.
    pub(super) fn publish(
        &self,
        work: Work,
        package: &str,
        version: &str,
        about: About,
    ) -> anyhow::Result<Ready> {
        let _task = ui::Task::new("Keeping the image for the next time");
        let guard = self.cache.lock()?;
        // The last boot has allocated what is mapped.
        table::dig(&work.image())?;
        let manifest = Manifest {
            recipe: RECIPE,
            package: package.into(),
            version: version.into(),
            files: BTreeMap::new(),
        };
        self.cache.publish(
            &guard,
            &self.name,
            &work.folder,
            manifest,
            &[IMAGE.to_owned(), ABOUT.to_owned()],
        )?;
        // Only now: until the folder has its name, the lock keeps others out of it, and a run that is killed needs the
        // bundle to go on.
        for name in [BUNDLE, LOCK] {
            fs::remove_file(self.cache.entry(&self.name).join(name))?;
        }
        self.cache.release(&format!("{}{UNFINISHED}", self.name));
        // The next run tries again what this one could not remove.
        let _ = self.cache.keep_newest(&guard, IMAGES, KEPT);
        Ok(Ready { image: self.cache.entry(&self.name).join(IMAGE), about })
    }

    /// Removes the folder of work that another process has done.
    pub(super) fn abandon(&self, work: Work) {
        // All at once: a process that begins meanwhile makes a folder of its own. What stays is removed by `hv clean`.
        let _ = self.cache.lock().and_then(|guard| {
            let scratch = self.cache.scratch(&guard)?;
            Ok(fs::rename(&work.folder, scratch.path().join(UNFINISHED))?)
        });
        self.cache.release(&format!("{}{UNFINISHED}", self.name));
    }
}

impl Work {
    pub(super) fn image(&self) -> PathBuf {
        self.folder.join(IMAGE)
    }

    pub(super) fn bundle(&self) -> PathBuf {
        self.folder.join(BUNDLE)
    }

    /// Returns what is known of its image, if its bundle is unpacked there. Otherwise removes what there is.
    pub(super) fn unpacked(&self) -> anyhow::Result<Option<About>> {
        let about = read(&self.folder).filter(|about| about.unpacked);
        if about.is_some() && self.image().is_file() && self.bundle().is_file() {
            return Ok(about);
        }
        for name in [ABOUT, IMAGE, BUNDLE] {
            match fs::remove_file(self.folder.join(name)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error)
                        .with_context(|| format!("cannot remove {name} in {}", self.folder.display()));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// Returns what is known of its image.
    pub(super) fn about(&self) -> anyhow::Result<About> {
        read(&self.folder)
            .with_context(|| format!("{} is missing or damaged", self.folder.join(ABOUT).display()))
    }

    /// Keeps what is known of its image.
    pub(super) fn keep(&self, about: &About) -> anyhow::Result<()> {
        Ok(Folder::make(&self.folder)?.write(ABOUT, &serde_json::to_vec_pretty(about)?)?)
    }
}

/// Reads what is known of the image in a folder.
fn read(folder: &Path) -> Option<About> {
    let text = input::read(&folder.join(ABOUT), LONGEST).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Returns true if a path still leads to this file.
fn same(file: &File, path: &Path) -> bool {
    let (here, there) = (rustix::fs::fstat(file), rustix::fs::lstat(path));
    matches!((here, there), (Ok(here), Ok(there)) if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino))
}

#[cfg(test)]
mod tests;
