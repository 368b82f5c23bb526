//! The root of a system on a disk, for the code that makes its image.

use std::fs::File;

use anyhow::Context as _;

use super::entries::newer;
use super::partitions;
use super::volume::Volume;

/// What the names of kernels begin with, and those of their initrds.
const KERNEL: &str = "vmlinuz-";
const INITRD: &str = "initrd.img-";

/// The root of a system.
pub(crate) struct Root(Volume);

/// An installed kernel.
#[derive(Debug)]
pub(crate) struct Installed {
    pub(crate) version: String,
    pub(crate) kernel: Vec<u8>,
    pub(crate) initrd: Vec<u8>,
}

impl Root {
    /// Finds the root on a disk: the file system that has /etc and /boot.
    ///
    /// # Errors
    /// There is none, or reading it fails.
    pub(crate) fn find(disk: File) -> anyhow::Result<Self> {
        for part in partitions::find(disk)? {
            let Some(volume) = Volume::open(part)? else { continue };
            let names = volume.names("")?;
            if ["etc", "boot"].iter().all(|folder| names.iter().any(|name| name == folder)) {
                return Ok(Self(volume));
            }
        }
        anyhow::bail!("there is no root file system: expected ext4 with /etc and /boot")
    }

    /// Reads a file of up to `most` bytes.
    ///
    /// # Errors
    /// It is not there or is longer, or reading it fails.
    pub(crate) fn read(&self, path: &str, most: u64) -> anyhow::Result<Vec<u8>> {
        self.get(path, most)?.with_context(|| format!("there is no {path}"))
    }

    /// Reads a file of up to `most` bytes; `None` if it is not there.
    ///
    /// # Errors
    /// It is longer, or reading it fails.
    pub(crate) fn get(&self, path: &str, most: u64) -> anyhow::Result<Option<Vec<u8>>> {
        self.0.read(path, most)
    }

    /// Reads the newest kernel and its initrd, of up to `most` bytes each.
    ///
    /// # Errors
    /// There is none, or reading it fails.
    pub(crate) fn newest(&self, most: u64) -> anyhow::Result<Installed> {
        let names = self.0.names("boot")?;
        let versions = names.iter().filter_map(|name| name.strip_prefix(KERNEL));
        let version = versions.min_by(|a, b| newer(a, b)).context("there is no kernel in /boot")?.to_owned();
        let kernel = self.read(&format!("/boot/{KERNEL}{version}"), most)?;
        let initrd = self.read(&format!("/boot/{INITRD}{version}"), most)?;
        Ok(Installed { version, kernel, initrd })
    }
}
