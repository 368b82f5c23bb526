//! A system on a disk: its own kernel, initrd and command line, as its boot loader would take them.
//!
//! An image is hostile input. Everything is read through a [`part::Part`], which stays within its partition and has a
//! budget of bytes; each file has a limit before it sizes anything. All of it runs on a thread of its own with a time
//! limit, for loops in a file system's structures that read nothing new.

mod config;
mod entries;
mod ext4;
mod part;
mod partitions;
mod root;
mod unified;
mod volume;

use std::fs::File;
use std::path::Path;
use std::sync::Once;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use config::Entry;
use entries::Found;
pub(crate) use root::Root;
use unified::Unified;
use volume::Volume;

use crate::{interrupt, ui};

/// Characters of an entry's name that are shown.
const SHOWN: usize = 120;
/// How long an image is read at most.
const LIMIT: Duration = Duration::from_secs(120);
/// How often a signal is looked for meanwhile.
const TICK: Duration = Duration::from_millis(100);

/// What a disk's system boots.
#[derive(Debug)]
pub(crate) struct System {
    /// The entry's name, for users.
    pub(crate) title: String,
    /// The kernel's path in the image.
    pub(crate) path: String,
    pub(crate) kernel: Vec<u8>,
    pub(crate) initrd: Option<Vec<u8>>,
    /// The command line.
    pub(crate) options: String,
}

/// Name of the thread that reads an image.
const READER: &str = "image";

/// Has a panic of the thread that reads an image say nothing: the crate for ext4 may have a fault that a corrupt file
/// system finds, and its reader's end is one clear error.
fn silence() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if std::thread::current().name() != Some(READER) {
                others(info);
            }
        }));
    });
}

/// Finds the system on a disk, `name`; `None` if it has none. `wanted`: the name of its entry, or a part of its title.
/// `most`: maximum size of a kernel or an initrd.
///
/// # Errors
/// The entry is not there, or cannot be read.
pub(crate) fn find(
    disk: File,
    name: &Path,
    wanted: Option<&str>,
    most: u64,
) -> anyhow::Result<Option<System>> {
    let (done, result) = channel();
    let owned = wanted.map(str::to_owned);
    let search = move || drop(done.send(search(disk, owned.as_deref(), most)));
    silence();
    std::thread::Builder::new().name(READER.into()).spawn(search).context("cannot start a thread")?;
    let end = Instant::now() + LIMIT;
    let found = loop {
        interrupt::check()?;
        match result.recv_timeout(TICK) {
            Ok(found) => break found,
            Err(RecvTimeoutError::Timeout) if Instant::now() < end => {}
            Err(RecvTimeoutError::Timeout) => {
                break Err(anyhow::anyhow!("it took more than {} seconds to read it", LIMIT.as_secs()));
            }
            Err(RecvTimeoutError::Disconnected) => {
                break Err(anyhow::anyhow!("its file systems are corrupt in a way that ended the reader"));
            }
        }
    };
    let (system, troubles) = found.with_context(|| {
        let other = if wanted.is_some() { "" } else { "; --stock 6.12 boots Debian's kernel beside it" };
        format!("cannot boot from the disk {}{other}", name.display())
    })?;
    if system.is_none() && !troubles.is_empty() {
        let troubles = troubles.iter().map(|trouble| format!("\n{}", ui::one_line(trouble)));
        ui::note(&format!(
            "The disk {} has no system of its own that can be read; the stock kernel boots:{}",
            name.display(),
            troubles.collect::<String>()
        ));
    }
    Ok(system)
}

/// Searches like [`find`], and also returns what could not be read.
fn search(disk: File, wanted: Option<&str>, most: u64) -> anyhow::Result<(Option<System>, Vec<String>)> {
    let (mut volumes, mut found) = (Vec::new(), Found { most, ..Found::default() });
    for part in partitions::find(disk)? {
        match Volume::open(part) {
            Ok(volume) => volumes.extend(volume),
            Err(error) => found.troubles.push(format!("{error:#}")),
        }
    }
    found.find(&volumes);
    let Found { entries, troubles, .. } = found;
    let Some(wanted) = wanted else {
        let system = entries.first().map(|entry| load(&volumes, entry, most)).transpose()?;
        return Ok((system, troubles));
    };
    let exact = entries.iter().find(|entry| entry.id == wanted);
    match exact.or_else(|| entries.iter().find(|entry| entry.title.contains(wanted))) {
        Some(entry) => Ok((Some(load(&volumes, entry, most)?), troubles)),
        None if entries.is_empty() => {
            let troubles = troubles.iter().map(|trouble| format!("\n{}", ui::one_line(trouble)));
            bail!(
                "--entry {wanted}: it has no kernel: expected entries of systemd-boot, unified kernel images, a grub.cfg, or \
                 /boot/vmlinuz-*, on ext2, ext3, ext4 or FAT{}",
                troubles.collect::<String>()
            )
        }
        None => {
            let names: String = entries.iter().map(|entry| format!("\n{}", shown(entry))).collect();
            bail!("--entry {wanted}: there is no such entry; it has{names}")
        }
    }
}

/// Formats an entry for users.
fn shown(entry: &Entry) -> String {
    let text = ui::one_line(&format!("{}: {}", entry.id, entry.title)).into_owned();
    text.chars().take(SHOWN).collect()
}

/// Reads what an entry names.
fn load(volumes: &[Volume], entry: &Entry, most: u64) -> anyhow::Result<System> {
    let read = |path: &str| {
        let own = volumes.get(entry.volume).into_iter();
        // Paths of grub are those of its `root`, which may be a partition of its own.
        let found = own.chain(volumes).find_map(|volume| volume.read(path, most).transpose());
        let what = || format!("{} of the entry {}", ui::one_line(path), shown(entry));
        found.transpose().with_context(what)?.with_context(|| format!("there is no {}", what()))
    };
    let name = ui::one_line(&entry.kernel).into_owned();
    if entry.unified {
        let file = read(&entry.kernel)?;
        let parts = Unified::of(&file)?.with_context(|| format!("{name} has changed while it was read"))?;
        return Ok(System {
            title: shown(entry),
            path: name,
            kernel: parts.kernel.to_vec(),
            initrd: parts.initrd.map(<[u8]>::to_vec),
            options: entry.options.clone(),
        });
    }
    let mut initrd = Vec::new();
    for path in &entry.initrd {
        initrd.extend(read(path)?);
        ensure!(
            initrd.len() as u64 <= most,
            "the initrds of the entry {} have more than {most} bytes",
            shown(entry)
        );
    }
    Ok(System {
        title: shown(entry),
        path: name,
        kernel: read(&entry.kernel)?,
        initrd: (!entry.initrd.is_empty()).then_some(initrd),
        options: entry.options.clone(),
    })
}

#[cfg(test)]
mod tests;
