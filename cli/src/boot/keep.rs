//! The files that `hv boot` writes, and write errors.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use zerocopy::IntoBytes as _;

use crate::exit::Exit;
use crate::machine::{Accel, Outcome};
use crate::output::{self, Folder};
use crate::report::Summary;
use crate::ui;

/// The folder of `--keep` and the file of `--json`, if given, and the errors of all writes there and elsewhere.
pub(super) struct Keep {
    folder: Option<(Folder, PathBuf)>,
    json: Option<PathBuf>,
    pub(super) failed: Vec<anyhow::Error>,
}

impl Keep {
    /// Opens or creates the folder.
    pub(super) fn open(dir: Option<&Path>, json: Option<PathBuf>) -> anyhow::Result<Self> {
        let open = |dir: &Path| {
            let folder = Folder::make(dir);
            let folder =
                folder.with_context(|| format!("cannot create the folder {} of --keep; give the path of a folder that exists or can be created", dir.display()));
            Ok::<_, anyhow::Error>((folder?, dir.to_owned()))
        };
        Ok(Self { folder: dir.map(open).transpose()?, json, failed: Vec::new() })
    }

    /// Writes a file, completely or not at all.
    pub(super) fn write(&mut self, name: &str, bytes: &[u8]) {
        let written = self.folder.as_ref().map_or(Ok(()), |(folder, _)| folder.write(name, bytes));
        self.note(name, written.err().as_ref());
    }

    /// Creates a file that is written gradually.
    pub(super) fn create(&mut self, name: &str) -> Option<File> {
        let made = self.folder.as_ref().map(|(folder, _)| folder.create(name))?;
        self.note(name, made.as_ref().err());
        made.ok()
    }

    /// Writes the output of a run.
    pub(super) fn outcome(&mut self, outcome: &Outcome) {
        self.note("console.txt", outcome.log_failed.as_ref());
        let mut bytes = outcome.report.as_bytes().to_vec();
        for vp in &outcome.vps {
            bytes.extend_from_slice(vp.as_bytes());
        }
        self.write("report.bin", &bytes);
        let messages = match outcome.accel {
            Accel::Kvm => "kvm-messages.txt",
            Accel::Tcg => "qemu-messages.txt",
        };
        self.write(messages, outcome.complaints.as_bytes());
    }

    /// Returns true if stdout gets the report as JSON.
    pub(super) fn is_json_printed(&self) -> bool {
        self.json.as_deref().is_some_and(is_stdout)
    }

    /// Writes the report as JSON, to the folder and, unless it is that of a wrong use, to the file of `--json`.
    pub(super) fn report(&mut self, summary: &Summary) -> anyhow::Result<()> {
        let json = serde_json::to_string_pretty(summary)? + "\n";
        self.write("report.json", json.as_bytes());
        let file = self.json.as_deref().filter(|file| !is_stdout(file) && summary.outcome() != Exit::Usage);
        if let Some(file) = file {
            self.failed.extend(output::write("report", file, json.as_bytes()).err());
        }
        Ok(())
    }

    /// Writes the report again to the places where it was written and can be replaced.
    pub(super) fn report_again(&mut self, summary: &Summary) -> anyhow::Result<()> {
        if !self.failed.is_empty() {
            return Ok(());
        }
        self.json = self.json.take().filter(|file| file.symlink_metadata().is_ok_and(|meta| meta.is_file()));
        self.report(summary)
    }

    /// Records a write error.
    fn note(&mut self, name: &str, error: Option<&std::io::Error>) {
        if let (Some((_, dir)), Some(error)) = (&self.folder, error) {
            self.failed.push(anyhow::anyhow!("cannot write {}: {error}", dir.join(name).display()));
        }
    }

    /// Prints the write errors, and returns whether there were any.
    pub(super) fn complain(&self) -> bool {
        self.failed.iter().for_each(ui::error);
        !self.failed.is_empty()
    }
}

/// Returns true for the name of stdout.
fn is_stdout(file: &Path) -> bool {
    file.as_os_str() == "-"
}
