//! The control files of a package, and dpkg's records of it.
//!
//! Sources: dpkg's manual pages deb-control(5), deb-conffiles(5) and deb-triggers(5); dpkg's doc/triggers.txt and
//! lib/dpkg/triglib.c for the files of triggers.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, ensure};

use super::archive::{Half, Member, members};

/// Bytes of a control file at most.
const LONGEST: u64 = 16 << 20;
/// dpkg's folder for them.
const INFO: &str = "var/lib/dpkg/info";

/// A package's control files.
#[derive(Debug, Default)]
pub(super) struct Control {
    /// The stanza.
    text: String,
    /// The others, with their modes.
    pub(super) files: Vec<(String, u32, Vec<u8>)>,
    /// Its configuration files.
    pub(super) conffiles: BTreeSet<String>,
    /// Its name, as in `libc6:arm64` if it may be installed for several architectures.
    full_name: String,
}

impl Control {
    /// Reads those of a package file.
    ///
    /// # Errors
    /// It has none, or invalid ones.
    pub(super) fn read(file: &Path) -> anyhow::Result<Self> {
        let mut all = Self::default();
        members(file, Half::Control, |member| all.take(member))?;
        all.judge()?;
        Ok(all)
    }

    /// Takes a member.
    fn take(&mut self, member: &mut Member<'_>) -> anyhow::Result<()> {
        if !member.entry.header().entry_type().is_file() {
            return Ok(());
        }
        let (name, mode, mut contents) = (member.path.clone(), member.entry.header().mode()?, Vec::new());
        (&mut member.entry).take(LONGEST + 1).read_to_end(&mut contents)?;
        ensure!(contents.len() as u64 <= LONGEST, "its file {name} has more than {LONGEST} bytes");
        let is_name =
            name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        ensure!(
            is_name,
            "its control file has the name {name:?}, expected lower-case letters, digits and hyphens"
        );
        match &*name {
            "control" => {
                self.text = String::from_utf8(contents).context("its control file is not UTF-8")?;
                return Ok(());
            }
            "conffiles" => {
                // Other lines have flags before the path: those are to be removed.
                let text = String::from_utf8_lossy(&contents);
                let lines = text.lines().filter(|line| line.starts_with('/'));
                self.conffiles.extend(lines.map(|line| line.trim_end().to_owned()));
            }
            _ => {}
        }
        self.files.push((name, mode, contents));
        Ok(())
    }

    /// Checks the stanza, which becomes a part of dpkg's status file, and keeps its names.
    fn judge(&mut self) -> anyhow::Result<()> {
        let text = self.text.trim_end();
        let is_blank = |line: &str| line.trim().is_empty();
        let has_status = text.lines().any(|line| line.to_ascii_lowercase().starts_with("status:"));
        ensure!(
            !text.lines().any(is_blank) && !has_status,
            "its control file has a blank line or a status: expected one stanza of a package"
        );
        let package = self.field("Package").context("its control file names no package")?.to_owned();
        let architecture = self.field("Architecture").unwrap_or_default().to_owned();
        let is_word = |word: &str| {
            word.starts_with(|c: char| c.is_ascii_alphanumeric())
                && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
        };
        ensure!(
            is_word(&package) && is_word(&architecture),
            "its name is {package:?}:{architecture:?}, expected words"
        );
        let is_same = self.field("Multi-Arch") == Some("same");
        self.full_name = if is_same { format!("{package}:{architecture}") } else { package };
        Ok(())
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }

    /// Returns the place of a control file in dpkg's records.
    pub(super) fn place(&self, name: &str) -> String {
        format!("{INFO}/{}.{name}", self.full_name)
    }

    /// Returns its stanza in dpkg's status file: unpacked, with configuration files that await dpkg's decision.
    pub(super) fn status(&self) -> String {
        let files: String = self.conffiles.iter().map(|file| format!(" {file} newconffile\n")).collect();
        let files = if files.is_empty() { files } else { format!("Conffiles:\n{files}") };
        format!("{}\nStatus: install ok unpacked\n{files}\n", self.text.trim_end())
    }

    /// Adds the triggers that it waits for: lines by dpkg's files, which are `File` for paths, and else the trigger's
    /// name.
    pub(super) fn triggers(&self, all: &mut BTreeMap<String, String>) {
        let text = self.files.iter().find(|(name, ..)| name == "triggers");
        let text = text.map(|(.., contents)| String::from_utf8_lossy(contents)).unwrap_or_default();
        for line in text.lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            let (Some(kind), Some(trigger)) = (words.next(), words.next()) else { continue };
            let flag = match kind {
                "interest" | "interest-await" => "",
                "interest-noawait" => "/noawait",
                _ => continue,
            };
            let waits = format!("{}{flag}\n", self.full_name);
            if trigger.starts_with('/') {
                *all.entry("File".into()).or_default() += &format!("{trigger} {waits}");
            } else if !trigger.contains('/') && !trigger.starts_with('.') {
                // Its name is a file's.
                *all.entry(trigger.into()).or_default() += &waits;
            }
        }
    }
}
