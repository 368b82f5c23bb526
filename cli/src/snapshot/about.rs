//! What a snapshot of `hv snapshot` says of its machine.

use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Key, Options};
use crate::disks::SavedDisks;
use crate::report::Kernel;
use crate::setup::cache::sha256;
use crate::setup::qemu::Qemu;
use crate::ui;

/// Version of the folder and of the files in it.
const FORMAT: u32 = 3;

/// The versions that a snapshot fits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Versions {
    /// [`FORMAT`].
    format: u32,
    /// Version of the tool.
    tool: String,
    /// Digest of the hypervisor's file, which is in the machine's RAM: the tool must speak its language.
    hypervisor: String,
    /// Version of QEMU: another one may not take its state.
    qemu: String,
}

/// What is known of a saved machine besides its memory.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct About {
    pub(crate) versions: Versions,
    /// When it was saved, as of RFC 3339.
    pub(crate) saved: String,
    /// The options that it was started with.
    pub(crate) options: Options,
    pub(crate) kernel: Kernel,
    pub(crate) command_line: String,
    /// Bytes of the machine's RAM.
    pub(crate) ram_size: u64,
    pub(crate) disks: SavedDisks,
    /// The name of the next request to the hypervisor: it may answer an earlier one yet.
    pub(crate) next_request: u32,
}

/// The version alone: another format may say everything else in another way.
#[derive(Deserialize)]
struct FormatAlone {
    versions: VersionsAlone,
}

#[derive(Deserialize)]
struct VersionsAlone {
    format: u32,
    #[serde(default)]
    tool: String,
}

impl Versions {
    /// Returns those of this tool, with this hypervisor and QEMU.
    ///
    /// # Errors
    /// The hypervisor's file cannot be read.
    pub(crate) fn current(hypervisor: &Path, qemu: &Qemu) -> anyhow::Result<Self> {
        let digest = sha256(hypervisor).with_context(|| format!("cannot read {}", hypervisor.display()))?;
        let tool = env!("CARGO_PKG_VERSION").to_owned();
        Ok(Self { format: FORMAT, tool, hypervisor: digest, qemu: qemu.version.clone() })
    }

    /// Judges whether this tool, with its hypervisor and its QEMU, can resume a machine that was saved with these
    /// versions.
    ///
    /// # Errors
    /// What does not fit, and what to do.
    pub(crate) fn judge(&self, current: &Self) -> anyhow::Result<()> {
        let tool = ui::one_line(&self.tool);
        ensure!(
            self.qemu == current.qemu,
            "it was saved with QEMU {}, and this is QEMU {}, which may not take it; name the other one with --qemu, or boot the \
             machine again and save it",
            ui::one_line(&self.qemu),
            current.qemu
        );
        ensure!(
            self.hypervisor == current.hypervisor,
            "it was saved with the hypervisor of hv {tool}, and that of this hv {} is another one; use that tool, or boot the \
             machine again and save it",
            current.tool
        );
        Ok(())
    }
}

impl About {
    /// Reads it from bytes, and returns it with the key of the machine's file.
    ///
    /// # Errors
    /// It is none, or of another format.
    pub(super) fn read(bytes: &[u8]) -> anyhow::Result<(Self, Key)> {
        let versions = serde_json::from_slice::<FormatAlone>(bytes);
        let VersionsAlone { format, tool } = versions.context("it is not what hv snapshot writes")?.versions;
        ensure!(
            format == FORMAT,
            "it has format {format}, of hv {}, and this hv {} reads format {FORMAT}; use that tool, or boot the machine again and \
             save it again",
            ui::one_line(&tool),
            env!("CARGO_PKG_VERSION")
        );
        let about: Self = serde_json::from_slice(bytes).context("it is not what hv snapshot writes")?;
        Ok((about, key(bytes)))
    }

    /// Returns its bytes, with the key of the machine's file.
    pub(super) fn write(&self) -> anyhow::Result<(Vec<u8>, Key)> {
        let bytes = serde_json::to_vec_pretty(self)?;
        let key = key(&bytes);
        Ok((bytes, key))
    }
}

/// Returns the key of the machine: no other file goes with these bytes.
fn key(about: &[u8]) -> Key {
    Key(Sha256::digest(about).into())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Describes a machine without disks.
    pub(in super::super) fn about(ram_size: u64) -> About {
        let text = format!(
            r#"{{"versions": {{"format": {FORMAT}, "tool": "0.1.0", "hypervisor": "ab", "qemu": "7.2.0"}},
                "saved": "2026-01-01T00:00:00Z",
                "options": {{"vps": 2, "memory": 536870912, "cpu": "cortex-a72", "firmware": "acpi", "devices": 1,
                             "network": null, "strict": null, "inject": null, "hotplug_room": 0, "uuid": null}},
                "kernel": {{"path": "Image", "package": null, "format": "Image", "container": null, "version": null,
                            "page_size_bytes": 4096}},
                "command_line": "quiet",
                "ram_size": {ram_size},
                "disks": {{"backings": [], "disks": [], "added": 0, "window_base": 0, "uuid": "{}"}},
                "next_request": 7}}"#,
            "00000000-0000-0000-0000-000000000000"
        );
        About::read(text.as_bytes()).unwrap().0
    }

    #[test]
    fn what_is_written_is_read_under_the_same_key() {
        let (bytes, key) = about(4 << 20).write().unwrap();
        let (read, same) = About::read(&bytes).unwrap();
        assert_eq!((read.write().unwrap().0, same), (bytes.clone(), key));
        let mut other = bytes;
        let at = other.windows(5).position(|word| word == b"quiet").unwrap();
        other[at] = b'Q';
        assert_ne!(About::read(&other).unwrap().1, same);
    }

    #[test]
    fn each_version_that_does_not_fit_is_refused_with_both() {
        let saved = about(4 << 20).versions;
        assert!(saved.judge(&saved).is_ok());
        let refused = |current: Versions| saved.judge(&current).unwrap_err().to_string();
        let error = refused(Versions { qemu: "9.9.9".into(), ..saved.clone() });
        assert!(error.contains("QEMU 7.2.0") && error.contains("QEMU 9.9.9"), "{error}");
        let error = refused(Versions { hypervisor: "cd".into(), tool: "0.9.0".into(), ..saved.clone() });
        assert!(error.contains("hv 0.1.0") && error.contains("hv 0.9.0"), "{error}");
    }

    #[test]
    fn another_format_is_refused_before_anything_else_is_read() {
        let error = About::read(br#"{"versions": {"format": 9, "tool": "9.0"}, "new": 1}"#).unwrap_err();
        assert!(error.to_string().contains("format 9, of hv 9.0"), "{error}");
        for bad in ["", "{}", "[1]", r#"{"versions": {"format": "1"}}"#, r#"{"versions": {"format": 3}}"#] {
            let error = format!("{:#}", About::read(bad.as_bytes()).unwrap_err());
            assert!(error.starts_with("it is not what hv snapshot writes"), "{bad}: {error}");
        }
    }
}
