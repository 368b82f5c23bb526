//! The parts of the guest: the user's files, each read once, and the stock ones.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use hv_machine::initrd::Module;
use hv_machine::{Identity, Image, RNG_SEED_LEN, Spec, linux, words};
use hv_wire::control::Service;

use super::args::{Args, OWN_ROOT};
use super::image::System;
use super::modules::Modules;
use crate::input::{self, Input};
use crate::machine::load::{STIMER_INTID, VMBUS_INTID};
use crate::machine::platform::{longest, platform};
use crate::setup::cache::Cache;
use crate::setup::stock;
use crate::symbols::Symbols;
use crate::{report, ui};

/// The module that detects VMBus.
const VMBUS: &str = "hv_vmbus";

/// Locations of the kernel in a kernel tree (Linux, arch/arm64/boot/Makefile), uncompressed first.
const IMAGES: [&str; 10] = [
    "Image",
    "vmlinuz.efi",
    "Image.gz",
    "Image.zst",
    "Image.xz",
    "Image.lz4",
    "Image.lzo",
    "Image.lzma",
    "Image.bz2",
    "vmlinuz",
];

/// The files that the user gave.
#[derive(Debug)]
pub(super) struct Given {
    /// The kernel, unpacked, and its description.
    kernel: Option<(Vec<u8>, report::Kernel)>,
    initrd: Option<Vec<u8>>,
    modules: Option<Vec<Module>>,
    /// Names for guest addresses: those given by the user, else those of an ELF kernel.
    pub(super) symbols: Symbols,
}

impl Given {
    /// Reads the files.
    pub(super) fn read(args: &Args) -> anyhow::Result<Self> {
        let longest = longest(args.memory);
        let tree = args.tree.as_deref();
        let symbols = match &args.symbols {
            Some(file) => Some(Symbols::read(file)?),
            None => input::first_file(tree.map(|tree| tree.join("System.map")))?
                .map(|map| Symbols::read(&map.as_path().into()))
                .transpose()?,
        };
        let initrd = args.initrd.as_ref().map(|file| file.read("initrd", longest)).transpose()?;
        let file = match (&args.kernel, tree) {
            (Some(file), _) => Some(file.clone()),
            (None, Some(tree)) => Some(Input::File(image_in(tree)?)),
            (None, None) => None,
        };
        let kernel = match file {
            Some(file) => {
                let packed = file.read("kernel", longest)?;
                let container = hv_machine::kernel_container(&packed);
                let kernel = hv_machine::unpack_kernel(packed, args.memory)
                    .with_context(|| format!("cannot use the kernel {file}"))?;
                let about = about(file.name(), container, &kernel);
                Some((kernel, about))
            }
            None => None,
        };
        let version = kernel.as_ref().and_then(|(kernel, _)| linux::version(kernel));
        let modules = match (&args.modules, tree) {
            (Some(folder), _) => {
                let modules = Modules::open(folder, version)?;
                Some(modules.load(&wanted(args, &modules))?)
            }
            (None, Some(tree)) if args.initrd.is_none() && !args.no_initrd => {
                modules_in(tree, version, args)?
            }
            (None, _) => None,
        };
        if let Some(version) = version {
            warn_of_versions(version, modules.as_deref().unwrap_or_default());
        }
        let bytes = kernel.as_ref().map(|(bytes, _)| bytes.as_slice()).unwrap_or_default();
        let symbols = symbols.unwrap_or_else(|| own_symbols(bytes));
        Ok(Self { kernel, initrd, modules, symbols })
    }

    /// Takes the system of a disk, `name`.
    pub(super) fn of_system(system: System, name: &Path, args: &Args) -> anyhow::Result<Self> {
        let System { path, kernel, initrd, .. } = system;
        let path = format!("{}:{path}", name.display());
        let container = hv_machine::kernel_container(&kernel);
        let kernel = hv_machine::unpack_kernel(kernel, args.memory)
            .with_context(|| format!("cannot use the kernel {path}"))?;
        let symbols = args.symbols.as_ref().map(Symbols::read).transpose()?;
        let symbols = symbols.unwrap_or_else(|| own_symbols(&kernel));
        let about = about(path, container, &kernel);
        Ok(Self { kernel: Some((kernel, about)), initrd, modules: None, symbols })
    }

    /// Builds the guest with the user's own kernel, and describes the kernel.
    pub(super) fn own(&self, args: &Args) -> anyhow::Result<Option<(Image, report::Kernel)>> {
        let Some((kernel, about)) = &self.kernel else { return Ok(None) };
        let build = |initrd| {
            build(args, kernel.clone(), initrd)
                .with_context(|| format!("cannot use the kernel {}", about.path))
        };
        let initrd = match &self.initrd {
            Some(initrd) => Some(initrd.clone()),
            None if self.wants_stock_initrd(args, kernel) => {
                // Errors in the kernel are reported before anything is fetched.
                build(None)?;
                self.stock_initrd(args, kernel)?
            }
            None => None,
        };
        Ok(Some((build(initrd)?, about.clone())))
    }

    /// Returns true if the user's own kernel gets the stock initramfs: Linux does, unless it has a root elsewhere.
    fn wants_stock_initrd(&self, args: &Args, kernel: &[u8]) -> bool {
        let own_root = OWN_ROOT.iter().any(|key| words::is_given(&args.append, key));
        let asked = !args.run.is_empty() || args.agent.is_some() || self.modules.is_some();
        !args.no_initrd && (asked || (linux::version(kernel).is_some() && !own_root))
    }

    /// Builds the stock initramfs for the user's own kernel. If it was not requested and is not available, the kernel
    /// gets none.
    fn stock_initrd(&self, args: &Args, kernel: &[u8]) -> anyhow::Result<Option<Vec<u8>>> {
        let busybox = match Cache::open().and_then(|cache| stock::busybox(&cache)) {
            Err(error) if args.run.is_empty() && args.agent.is_none() && self.modules.is_none() => {
                ui::note(&format!(
                    "The kernel gets no initramfs, because there is no busybox for it ({error:#}); give --initrd"
                ));
                return Ok(None);
            }
            busybox => busybox?,
        };
        let modules = self.modules.as_deref().unwrap_or_default();
        let has_vmbus = modules.iter().any(|module| module.name == VMBUS) || linux::has_vmbus(kernel);
        if linux::version(kernel).is_some() && !has_vmbus {
            ui::note(
                "The kernel has no driver for VMBus built in (CONFIG_HYPERV=y) and gets no module hv_vmbus, so it will \
                 not connect: give --tree the built kernel tree, or --modules the folder of its modules",
            );
        }
        Ok(Some(hv_machine::initrd::stock(&read(&busybox)?, modules, args.agent.as_deref())?))
    }

    /// Builds the guest with a stock kernel, and describes the kernel.
    pub(super) fn stock(
        &self,
        args: &Args,
        kernel: &stock::Kernel,
        busybox: &Path,
    ) -> anyhow::Result<(Image, report::Kernel)> {
        let initrd = match (&self.initrd, &self.modules) {
            (Some(initrd), _) => Some(initrd.clone()),
            (None, _) if args.no_initrd => None,
            (None, Some(modules)) => {
                Some(hv_machine::initrd::stock(&read(busybox)?, modules, args.agent.as_deref())?)
            }
            (None, None) => {
                let folder = kernel.modules.first().and_then(|file| file.parent());
                let folder =
                    folder.with_context(|| format!("{} contains no Hyper-V modules", kernel.package))?;
                let mut modules = Modules::open(folder, None)?;
                // Those of devices are unpacked when one is asked for.
                if !args.device_modules().is_empty() || !args.load.iter().all(|name| modules.knows(name)) {
                    modules = Modules::open(&stock::drivers(&Cache::open()?, args.stock())?, None)?;
                }
                let modules = modules.load(&wanted(args, &modules))?;
                Some(hv_machine::initrd::stock(&read(busybox)?, &modules, args.agent.as_deref())?)
            }
        };
        let packed = read(&kernel.image)?;
        let container = hv_machine::kernel_container(&packed);
        let image = build(args, packed, initrd)?;
        let about = about(kernel.image.display().to_string(), container, image.kernel());
        Ok((image, report::Kernel { package: Some(kernel.package.clone()), ..about }))
    }
}

/// Finds the kernel in a built tree.
fn image_in(tree: &Path) -> anyhow::Result<PathBuf> {
    let boot = tree.join("arch/arm64/boot");
    let found = input::first_file(IMAGES.iter().map(|name| boot.join(name)))?;
    found.with_context(|| {
        format!(
            "{} has no kernel: expected Image in arch/arm64/boot; give --tree the folder where `make ARCH=arm64 Image \
             modules` ran (with O=, the output folder)",
            tree.display()
        )
    })
}

/// Finds the modules in a built tree, which may have none if everything is built in.
fn modules_in(tree: &Path, version: Option<&str>, args: &Args) -> anyhow::Result<Option<Vec<Module>>> {
    if !["modules.order", "modules.dep", "lib/modules"].iter().any(|name| tree.join(name).exists()) {
        return Ok(None);
    }
    let modules = Modules::open(tree, version)?;
    // Modules that were not named may be missing; that the kernel will not connect is reported elsewhere.
    if args.load == [VMBUS] && !modules.knows(VMBUS) {
        return Ok(None);
    }
    modules.load(&wanted(args, &modules)).map(Some)
}

/// Returns the modules to load: those that were asked for, and those of the guest's devices where they are not part of
/// the kernel.
fn wanted(args: &Args, modules: &Modules) -> Vec<String> {
    let devices = args.device_modules().into_iter().filter(|name| modules.knows(name)).map(str::to_owned);
    args.load.iter().cloned().chain(devices).collect()
}

/// Warns if a module belongs to another kernel, which rejects it.
fn warn_of_versions(version: &str, modules: &[Module]) {
    for module in modules.iter().filter(|module| !module.version.is_empty() && module.version != version) {
        ui::note(&format!(
            "The module {} was built for Linux {}, and the kernel is {version}: it may reject the module",
            module.name, module.version
        ));
    }
}

/// Reads the symbols of an ELF kernel.
fn own_symbols(kernel: &[u8]) -> Symbols {
    Symbols::of_elf(kernel).unwrap_or_else(|many| {
        ui::note(&format!("The kernel's symbols are left out: {many}"));
        Symbols::default()
    })
}

/// Describes an unpacked kernel, except for its page size.
fn about(path: String, container: Option<&'static str>, kernel: &[u8]) -> report::Kernel {
    report::Kernel {
        path,
        package: None,
        format: if hv_machine::is_aarch64_elf(kernel) { "ELF64" } else { "Image" }.into(),
        container: container.map(Into::into),
        version: linux::version(kernel).map(str::to_owned),
        page_size_bytes: None,
    }
}

/// Builds the guest.
fn build(args: &Args, kernel: Vec<u8>, initrd: Option<Vec<u8>>) -> anyhow::Result<Image> {
    let platform = platform(args.services().has(Service::Video));
    let uuid = args.uuid.map_or(Identity::DEFAULT.uuid, uuid::Uuid::into_bytes);
    Ok(hv_machine::build(
        Spec::new(&platform, kernel, seed(args.deterministic)?)
            .with_initrd(initrd)
            .with_append(args.command_line())
            .with_memory(args.memory)
            .with_vps(args.vps)
            .with_firmware(args.firmware.into())
            .with_vmbus_intid(VMBUS_INTID)
            .with_stimer_intid(STIMER_INTID)
            .with_identity(Identity::DEFAULT.with_uuid(uuid).with_azure(args.azure)),
    )?)
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    input::read(file, input::LONGEST).with_context(|| format!("cannot read {}", file.display()))
}

/// Returns entropy for the guest.
fn seed(deterministic: bool) -> anyhow::Result<[u8; RNG_SEED_LEN]> {
    if deterministic { Ok([0x5a; RNG_SEED_LEN]) } else { random() }
}

/// Returns unpredictable bytes.
pub(crate) fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    let random = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    random.context("cannot read /dev/urandom")?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_seed_is_the_same_each_time_and_a_random_one_is_not() {
        assert_eq!(seed(true).unwrap(), seed(true).unwrap());
        assert_ne!(seed(false).unwrap(), seed(false).unwrap());
    }

    #[test]
    fn a_tree_gives_its_plainest_kernel() {
        let tree = tempfile::tempdir().unwrap();
        let error = image_in(tree.path()).unwrap_err().to_string();
        assert!(error.contains("make ARCH=arm64"), "{error}");
        let boot = tree.path().join("arch/arm64/boot");
        std::fs::create_dir_all(&boot).unwrap();
        for name in ["Image.lz4", "Image.gz", "Image"] {
            std::fs::write(boot.join(name), "").unwrap();
            assert_eq!(image_in(tree.path()).unwrap(), boot.join(name));
        }
    }

    #[test]
    fn a_tree_need_not_have_modules() {
        let tree = tempfile::tempdir().unwrap();
        let args = Args::of_words("");
        assert_eq!(modules_in(tree.path(), None, &args).unwrap(), None);
        std::fs::write(tree.path().join("modules.order"), "fs/xfs/xfs.o\n").unwrap();
        assert_eq!(modules_in(tree.path(), None, &args).unwrap(), None);
        assert!(modules_in(tree.path(), None, &Args::of_words("--load hv_utils")).is_err());
    }

    #[test]
    fn what_devices_need_is_loaded_where_it_is_there() {
        let tree = tempfile::tempdir().unwrap();
        std::fs::write(tree.path().join("modules.order"), "a/hv_vmbus.o\nb/hv_storvsc.o\nc/ext4.o\n")
            .unwrap();
        let modules = Modules::open(tree.path(), None).unwrap();
        let wanted = |words: &str| wanted(&Args::of_words(words), &modules);
        assert_eq!(wanted(""), ["hv_vmbus"]);
        assert_eq!(wanted("--disk a"), ["hv_vmbus", "hv_storvsc"]);
        assert_eq!(wanted("--disk a --append root=/dev/sda"), ["hv_vmbus", "hv_storvsc", "ext4"]);
    }
}
