//! What `hv boot` writes beside its report, and what it could not write.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::output::Folder;
use crate::ui;

/// The folder of `--keep`, if there is one, and all that could not be written to it or elsewhere.
pub(super) struct Keep {
    folder: Option<(Folder, PathBuf)>,
    pub(super) failed: Vec<anyhow::Error>,
}

impl Keep {
    pub(super) fn open(dir: Option<&Path>) -> anyhow::Result<Self> {
        let open = |dir: &Path| {
            let folder = Folder::make(dir);
            let folder =
                folder.with_context(|| format!("cannot make the folder {} of --keep", dir.display()));
            Ok::<_, anyhow::Error>((folder?, dir.to_owned()))
        };
        Ok(Self { folder: dir.map(open).transpose()?, failed: Vec::new() })
    }

    pub(super) fn write(&mut self, name: &str, bytes: &[u8]) {
        let written = self.folder.as_ref().map_or(Ok(()), |(folder, _)| folder.write(name, bytes));
        self.note(name, written.err().as_ref());
    }

    /// Makes a file that grows.
    pub(super) fn create(&mut self, name: &str) -> Option<File> {
        let made = self.folder.as_ref().map(|(folder, _)| folder.create(name))?;
        self.note(name, made.as_ref().err());
        made.ok()
    }

    /// Notes what could not be written.
    pub(super) fn note(&mut self, name: &str, error: Option<&std::io::Error>) {
        if let (Some((_, dir)), Some(error)) = (&self.folder, error) {
            self.failed.push(anyhow::anyhow!("cannot write {}: {error}", dir.join(name).display()));
        }
    }

    /// Says what could not be written, and tells whether there is anything.
    pub(super) fn complain(&self) -> bool {
        self.failed.iter().for_each(ui::error);
        !self.failed.is_empty()
    }
}
