//! The user's files, each read once, and the guest with the user's own kernel.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use hv_machine::initrd::Module;
use hv_machine::{Image, linux, words};

use super::args::{Args, OWN_ROOT};
use super::guest::{about, build, stock_initrd, wanted};
use super::image::System;
use super::modules::Modules;
use crate::input::{self, Input};
use crate::machine::platform::longest;
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

/// What the user's own files give.
pub(super) struct Given {
    /// The guest with the user's own kernel, and the kernel's description.
    pub(super) own: Option<(Image, report::Kernel)>,
    pub(super) initrd: Option<Vec<u8>>,
    pub(super) modules: Option<Vec<Module>>,
    /// Names for guest addresses: those given by the user, else those of an ELF kernel.
    pub(super) symbols: Symbols,
}

/// Takes the system of a disk, with the disk's name, or else reads the user's files; and builds the guest with the
/// user's own kernel, if there is one.
pub(super) fn read(args: &Args, system: Option<(System, PathBuf)>) -> anyhow::Result<Given> {
    let files = match system {
        Some((system, disk)) => Files::of_system(system, &disk, args)?,
        None => Files::read(args)?,
    };
    let own = files.image(args)?;
    let Files { initrd, modules, symbols, .. } = files;
    Ok(Given { own, initrd, modules, symbols })
}

/// The files that the user gave.
struct Files {
    /// The kernel, unpacked, and its description.
    kernel: Option<(Vec<u8>, report::Kernel)>,
    initrd: Option<Vec<u8>>,
    modules: Option<Vec<Module>>,
    symbols: Symbols,
}

impl Files {
    /// Reads the files.
    fn read(args: &Args) -> anyhow::Result<Self> {
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
        let packed = file.map(|file| anyhow::Ok((file.read("kernel", longest)?, file))).transpose()?;
        let kernel = packed
            .map(|(packed, file)| unpack(packed, file.name(), &format!("the kernel {file}"), args))
            .transpose()?;
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
    fn of_system(system: System, name: &Path, args: &Args) -> anyhow::Result<Self> {
        let System { path, kernel, initrd, .. } = system;
        let path = format!("{}:{path}", name.display());
        let what = format!("the kernel {path}");
        let kernel = unpack(kernel, path, &what, args)?;
        let symbols = args.symbols.as_ref().map(Symbols::read).transpose()?;
        let symbols = symbols.unwrap_or_else(|| own_symbols(&kernel.0));
        Ok(Self { kernel: Some(kernel), initrd, modules: None, symbols })
    }

    /// Builds the guest with the user's own kernel, and describes the kernel.
    fn image(&self, args: &Args) -> anyhow::Result<Option<(Image, report::Kernel)>> {
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
                self.initrd_of_stock(args, kernel)?
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
    fn initrd_of_stock(&self, args: &Args, kernel: &[u8]) -> anyhow::Result<Option<Vec<u8>>> {
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
        stock_initrd(args, &busybox, modules).map(Some)
    }
}

/// Unpacks a kernel and describes it; `what` names it in errors.
fn unpack(
    packed: Vec<u8>,
    path: String,
    what: &str,
    args: &Args,
) -> anyhow::Result<(Vec<u8>, report::Kernel)> {
    let container = hv_machine::kernel_container(&packed);
    let kernel =
        hv_machine::unpack_kernel(packed, args.memory).with_context(|| format!("cannot use {what}"))?;
    let about = about(path, container, &kernel);
    Ok((kernel, about))
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
