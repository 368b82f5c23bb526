//! What an image can boot, the default first.

use std::cmp::Ordering;

use anyhow::Context as _;

use super::config::{Entry, MOST, bls, grub};
use super::unified::Unified;
use super::volume::Volume;

/// Bytes of a grub.cfg at most, and of an entry of the Boot Loader Specification.
const LONGEST: u64 = 1 << 20;
const LONGEST_ENTRY: u64 = 1 << 16;
/// Folders of entries of the Boot Loader Specification: of the EFI and of a boot partition, and of a root.
const BLS: [&str; 2] = ["loader/entries", "boot/loader/entries"];
/// Folder of unified kernel images, and what their names end with.
const UNIFIED_FOLDER: &str = "EFI/Linux";
const UNIFIED: &str = ".efi";
/// Places of grub's menu on a root or on a boot partition.
const GRUB: [&str; 4] = ["boot/grub/grub.cfg", "boot/grub2/grub.cfg", "grub/grub.cfg", "grub2/grub.cfg"];
/// Folders of kernels on a root or on a boot partition.
const KERNELS: [&str; 2] = ["boot/", ""];

/// What is found on the file systems of an image, and why more is not.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) entries: Vec<Entry>,
    pub(super) troubles: Vec<String>,
    /// Bytes of a unified kernel image at most.
    pub(super) most: u64,
}

/// Returns what a unified kernel image is called: FAT does not tell upper from lower case.
fn unified_id(name: &str) -> Option<&str> {
    let (id, end) = name.split_at_checked(name.len().checked_sub(UNIFIED.len())?)?;
    end.eq_ignore_ascii_case(UNIFIED).then_some(id)
}

impl Found {
    /// Finds all entries: those of the Boot Loader Specification, else those of grub, else the kernels that exist.
    pub(super) fn find(&mut self, volumes: &[Volume]) {
        for of in [Self::of_bls, Self::of_grub, Self::of_kernels] {
            self.entries = of(self, volumes);
            if !self.entries.is_empty() {
                break;
            }
        }
    }

    /// Keeps why something cannot be read.
    fn judged<T: Default>(&mut self, read: anyhow::Result<T>) -> T {
        read.unwrap_or_else(|error| {
            let trouble = format!("{error:#}");
            if self.troubles.len() < MOST && !self.troubles.contains(&trouble) {
                self.troubles.push(trouble);
            }
            T::default()
        })
    }

    /// Reads a file as text; nothing if it is not there.
    fn text(&mut self, volume: &Volume, path: &str, most: u64) -> Option<String> {
        let bytes = self.judged(volume.read(path, most))?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn of_bls(&mut self, volumes: &[Volume]) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut default = None;
        for (number, volume) in volumes.iter().enumerate() {
            for folder in BLS {
                let names = self.judged(volume.names(folder));
                let names = names.iter().filter(|name| name.ends_with(".conf"));
                for name in names.take(MOST.saturating_sub(entries.len())) {
                    let text = self.text(volume, &format!("{folder}/{name}"), LONGEST_ENTRY);
                    entries.extend(text.and_then(|text| bls(name, &text, number)));
                }
            }
            entries.extend(self.of_unified(volume, number, MOST.saturating_sub(entries.len())));
            let loader = self.text(volume, "loader/loader.conf", LONGEST_ENTRY).unwrap_or_default();
            let mut lines = loader.lines().filter_map(|line| line.trim().split_once([' ', '\t']));
            let line = lines.find(|(key, _)| *key == "default").map(|(_, name)| name.trim().to_owned());
            default = default.or(line);
        }
        entries.sort_by(|a, b| newer(&a.version, &b.version).then_with(|| newer(&a.id, &b.id)));
        let stem = |name| str::strip_suffix(name, ".conf").or_else(|| unified_id(name));
        let default = default.as_deref().map(|name| stem(name).unwrap_or(name));
        let is_it = |entry: &Entry, name: &str| match name.strip_suffix('*') {
            Some(start) => entry.id.starts_with(start),
            None => entry.id == name,
        };
        if let Some(at) = default.and_then(|name| entries.iter().position(|entry| is_it(entry, name))) {
            let first = entries.remove(at);
            entries.insert(0, first);
        }
        entries
    }

    /// Finds the unified kernel images of a volume: entries of type 2.
    fn of_unified(&mut self, volume: &Volume, number: usize, most: usize) -> Vec<Entry> {
        let names = self.judged(volume.names(UNIFIED_FOLDER));
        let names = names.iter().filter_map(|name| Some((unified_id(name)?, name)));
        let mut entries = Vec::new();
        for (id, name) in names.take(most) {
            let kernel = format!("{UNIFIED_FOLDER}/{name}");
            let file = self.judged(volume.read(&kernel, self.most)).unwrap_or_default();
            let parts = self.judged(Unified::of(&file).with_context(|| kernel.clone()));
            let Some(Unified { title, version, options, .. }) = parts else { continue };
            let (id, volume) = (id.to_owned(), number);
            entries.push(Entry {
                id,
                title,
                version,
                kernel,
                options,
                unified: true,
                volume,
                ..Entry::default()
            });
        }
        entries
    }

    fn of_grub(&mut self, volumes: &[Volume]) -> Vec<Entry> {
        for (number, volume) in volumes.iter().enumerate() {
            for path in GRUB {
                let text = self.text(volume, path, LONGEST).unwrap_or_default();
                let entries = grub(&text, number);
                if !entries.is_empty() {
                    return entries;
                }
            }
        }
        Vec::new()
    }

    fn of_kernels(&mut self, volumes: &[Volume]) -> Vec<Entry> {
        let mut entries = Vec::new();
        let top: Vec<Vec<String>> = volumes.iter().map(|volume| self.judged(volume.names(""))).collect();
        let is_root = |number: &usize| top[*number].iter().any(|name| name == "etc");
        for (number, volume) in volumes.iter().enumerate() {
            for folder in KERNELS {
                let names = self.judged(volume.names(folder));
                for version in names.iter().filter_map(|name| name.strip_prefix("vmlinuz-")).take(MOST) {
                    // The root is the volume with /boot, else another one.
                    let mut all = Some(number).into_iter().chain(0..volumes.len());
                    let Some(root) = all.find(is_root).and_then(|root| volumes[root].as_root()) else {
                        let why =
                            anyhow::anyhow!("/{folder}vmlinuz-{version} has no root file system (ext4)");
                        self.judged(Err::<(), _>(why));
                        continue;
                    };
                    let initrds = [
                        format!("initrd.img-{version}"),
                        format!("initramfs-{version}.img"),
                        format!("initramfs-{version}"),
                        format!("initrd-{version}"),
                    ];
                    let initrd = initrds.into_iter().find(|name| names.contains(name));
                    entries.push(Entry {
                        id: format!("vmlinuz-{version}"),
                        title: format!("Linux {version}"),
                        version: version.to_owned(),
                        kernel: format!("/{folder}vmlinuz-{version}"),
                        initrd: initrd.map(|name| format!("/{folder}{name}")).into_iter().collect(),
                        options: format!("{root} ro"),
                        unified: false,
                        volume: number,
                    });
                }
            }
        }
        entries.sort_by(|a, b| newer(&a.version, &b.version));
        entries
    }
}

/// Compares versions, the newer one first: numbers as numbers, and the rest as text.
pub(super) fn newer(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let number = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let order = match (number(a), number(b)) {
            (0, 0) => match (a.first(), b.first()) {
                (None, None) => return Ordering::Equal,
                // What comes before a release is older than that.
                (Some(b'~'), Some(b'~')) => Ordering::Equal,
                (Some(b'~'), _) => return Ordering::Greater,
                (_, Some(b'~')) => return Ordering::Less,
                (a, b) => b.cmp(&a),
            },
            (m, n) => {
                let digits = |text: &[u8], count: usize| {
                    let zeros = text[..count].iter().take_while(|byte| **byte == b'0').count();
                    (count - zeros, text[zeros..count].to_vec())
                };
                let order = digits(b, n).cmp(&digits(a, m));
                (a, b) = (&a[m..], &b[n..]);
                if order != Ordering::Equal {
                    return order;
                }
                continue;
            }
        };
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (&a[1..], &b[1..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newer_version_is_first() {
        let mut versions = ["6.1.0-9", "6.1.0-10", "6.12~rc3", "6.12", "6.12.1", "5.10.0-30", ""];
        versions.sort_by(|a, b| newer(a, b));
        assert_eq!(versions, ["6.12.1", "6.12", "6.12~rc3", "6.1.0-10", "6.1.0-9", "5.10.0-30", ""]);
    }
}
