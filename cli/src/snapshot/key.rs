//! The key of a machine in the cache: a digest of everything that makes the machine what it is when its agent connects.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use hv_machine::{Firmware, Image};
use hv_wire::BootInfo;
use sha2::{Digest as _, Sha256};
use zerocopy::IntoBytes as _;

use super::file::FORMAT;
use crate::child;
use crate::machine::{self, Emulator, Layout, Settings};
use crate::setup::cache::sha256;

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key(pub(super) [u8; 32]);

impl Key {
    /// Returns the digest as a part of a file's name.
    pub(super) fn name(&self) -> String {
        self.0[..16].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What makes the machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inputs<'i> {
    /// The machine's configuration; of QEMU and the hypervisor, the files count.
    pub(crate) settings: &'i Settings,
    /// Its RAM.
    pub(crate) layout: Layout,
    /// The guest.
    pub(crate) image: &'i Image,
    /// How the machine is described to the guest.
    pub(crate) firmware: Firmware,
    /// The hypervisor's boot information.
    pub(crate) orders: &'i BootInfo,
}

impl Inputs<'_> {
    /// Returns the key.
    ///
    /// # Errors
    /// A program cannot be read.
    pub(crate) fn key(&self) -> anyhow::Result<Key> {
        let program = |path: &Path| {
            sha256(path).with_context(|| format!("cannot read {}", path.display())).map(String::into_bytes)
        };
        let emulator = self.settings.emulator.as_ref().context("a machine without QEMU")?;
        let hypervisor = emulator.hypervisor.as_deref().context("a machine without a hypervisor")?;
        // The image was made by this tool, and so will the answers to the guest be.
        let programs = [Path::new(child::SELF), &emulator.qemu.path, hypervisor];
        let programs = programs.map(program).into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        Ok(self.with(emulator, &programs))
    }

    /// Returns the key of a machine with programs of these digests.
    fn with(&self, emulator: &Emulator, programs: &[Vec<u8>]) -> Key {
        // Where a copy of the hypervisor lies does not matter.
        let emulator = Emulator { hypervisor: Some(PathBuf::from("HYPERVISOR")), ..emulator.clone() };
        let line = OsString::from(machine::command_line(self.settings, &emulator, self.layout));
        // The host's time is used by a service alone, which such a machine does not have.
        let orders = BootInfo { host_time: 0, ..*self.orders };
        let Image { segments, entry, x0, page_size: _, command_line } = self.image;
        let mut sum = Sum(Sha256::new());
        sum.add(&FORMAT.to_le_bytes());
        programs.iter().for_each(|program| sum.add(program));
        sum.add(emulator.qemu.version.as_bytes());
        sum.add(line.as_bytes());
        sum.add(format!("{:?}", self.firmware).as_bytes());
        sum.add(orders.as_bytes());
        sum.add(command_line.as_bytes());
        sum.add(&entry.to_le_bytes());
        sum.add(&x0.to_le_bytes());
        // The device tree is left out: it has the seed of this run, and all else that it says is known by the rest.
        for (address, bytes) in segments.iter().filter(|(address, _)| address != x0) {
            sum.add(&address.to_le_bytes());
            sum.add(bytes);
        }
        Key(sum.0.finalize().into())
    }
}

/// A digest of byte strings, each with its length before it.
struct Sum(Sha256);

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros as _;

    use super::*;
    use crate::machine::Typing;
    use crate::setup::qemu::Qemu;

    fn settings() -> Settings {
        Settings {
            emulator: Some(Emulator {
                qemu: Qemu { path: "/usr/bin/qemu".into(), version: "7.2".into(), sandbox: true },
                hypervisor: Some("/x/hypervisor".into()),
                cpu: "cortex-a72".into(),
            }),
            vps: 2,
            backings: Vec::new(),
            deterministic: false,
            control: false,
            sockets: true,
            network: None,
            gdb: None,
            monitor: true,
            timeout: None,
            typing: Typing::Nothing,
            silence: None,
        }
    }

    fn image() -> Image {
        Image {
            segments: vec![(0x4040_0000, b"kernel".to_vec()), (0x4800_0000, b"seed".to_vec())],
            entry: 0x4040_0000,
            x0: 0x4800_0000,
            page_size: None,
            command_line: "quiet".to_owned(),
        }
    }

    /// The key of a machine in which `change` has changed something.
    fn key(change: impl FnOnce(&mut Settings, &mut Image, &mut BootInfo, &mut Vec<Vec<u8>>)) -> Key {
        let (mut settings, mut image, mut orders) = (settings(), image(), BootInfo::new_zeroed());
        let mut programs = vec![b"tool".to_vec(), b"qemu".to_vec(), b"hypervisor".to_vec()];
        change(&mut settings, &mut image, &mut orders, &mut programs);
        let (settings, image, orders) = (&settings, &image, &orders);
        Inputs {
            settings,
            layout: Layout::apart(516 << 20, 512 << 20),
            image,
            firmware: Firmware::Acpi,
            orders,
        }
        .with(settings.emulator.as_ref().unwrap(), &programs)
    }

    #[test]
    fn the_same_machine_has_the_same_key() {
        let same = key(|_, _, _, _| {});
        assert_eq!(same, key(|_, image, _, _| image.segments[1].1 = b"other seed".to_vec()));
        assert_eq!(same, key(|_, _, orders, _| orders.host_time = 7));
        assert_eq!(same, key(|settings, _, _, _| qemu(settings).hypervisor = Some("copy".into())));
        assert_eq!(same, key(|settings, _, _, _| settings.timeout = Some(std::time::Duration::from_secs(1))));
        assert_eq!(same.name().len(), 32);
    }

    fn qemu(settings: &mut Settings) -> &mut Emulator {
        settings.emulator.as_mut().unwrap()
    }

    #[test]
    fn every_input_has_its_part_in_the_key() {
        let keys = [
            key(|_, _, _, _| {}),
            key(|settings, _, _, _| qemu(settings).cpu.push_str(",pmu=off")),
            key(|settings, _, _, _| settings.vps = 3),
            key(|settings, _, _, _| qemu(settings).qemu.version.push('1')),
            key(|settings, _, _, _| qemu(settings).qemu.path = "/opt/qemu".into()),
            key(|settings, _, _, _| qemu(settings).qemu.sandbox = false),
            key(|_, image, _, _| image.segments[0].1[0] = b'K'),
            key(|_, image, _, _| image.segments[0].0 += 4096),
            key(|_, image, _, _| image.segments.push((0x5000_0000, b"initrd".to_vec()))),
            key(|_, image, _, _| image.entry += 4),
            key(|_, image, _, _| image.command_line.push('!')),
            key(|_, _, orders, _| orders.flags = 1),
            key(|_, _, orders, _| orders.ram_size = 1),
            key(|_, _, _, programs| programs[0].push(b'2')),
            key(|_, _, _, programs| programs[1].push(b'2')),
            key(|_, _, _, programs| programs[2].push(b'2')),
            // The same bytes, cut differently.
            key(|_, _, _, programs| (programs[0], programs[1]) = (b"toolq".to_vec(), b"emu".to_vec())),
        ];
        for (n, one) in keys.iter().enumerate() {
            assert!(!keys[..n].contains(one), "{n}");
        }
        let (settings, image, orders) = (&settings(), &image(), &BootInfo::new_zeroed());
        let inputs = Inputs {
            settings,
            layout: Layout::apart(516 << 20, 512 << 20),
            image,
            firmware: Firmware::Acpi,
            orders,
        };
        let with = |inputs: Inputs<'_>| inputs.with(settings.emulator.as_ref().unwrap(), &[]);
        assert_ne!(with(inputs), with(Inputs { firmware: Firmware::Both, ..inputs }));
        assert_ne!(with(inputs), with(Inputs { layout: Layout::apart(518 << 20, 512 << 20), ..inputs }));
    }
}
