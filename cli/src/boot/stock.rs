//! The guest with a stock kernel: with what the user gave, and else with the stock initramfs.

use std::path::Path;

use anyhow::Context as _;
use hv_machine::Image;
use hv_machine::initrd::Module;

use super::args::Args;
use super::guest;
use super::modules::Modules;
use crate::report;
use crate::setup::cache::Cache;
use crate::setup::stock::{self, Kernel};

/// Builds the guest with the user's initramfs or modules, if there are any, and describes the kernel.
pub(super) fn image(
    args: &Args,
    kernel: &Kernel,
    busybox: &Path,
    (initrd, modules): (Option<Vec<u8>>, Option<&[Module]>),
) -> anyhow::Result<(Image, report::Kernel)> {
    let initrd = match (initrd, modules) {
        (Some(initrd), _) => Some(initrd),
        (None, _) if args.no_initrd => None,
        (None, Some(modules)) => Some(guest::stock_initrd(args, busybox, modules)?),
        (None, None) => Some(guest::stock_initrd(args, busybox, &own_modules(args, kernel)?)?),
    };
    let packed = guest::read(&kernel.image)?;
    let container = hv_machine::kernel_container(&packed);
    let image = guest::build(args, packed, initrd)?;
    let about = guest::about(kernel.image.display().to_string(), container, image.kernel());
    Ok((image, report::Kernel { package: Some(kernel.package.clone()), ..about }))
}

/// Loads the kernel's own modules that the guest needs.
fn own_modules(args: &Args, kernel: &Kernel) -> anyhow::Result<Vec<Module>> {
    let folder = kernel.modules.first().and_then(|file| file.parent());
    let folder = folder.with_context(|| format!("{} contains no Hyper-V modules", kernel.package))?;
    let mut modules = Modules::open(folder, None)?;
    // Those of devices are unpacked when one is asked for.
    if !args.device_modules().is_empty() || !args.load.iter().all(|name| modules.knows(name)) {
        modules = Modules::open(&stock::drivers(&Cache::open()?, args.stock())?, None)?;
    }
    modules.load(&guest::wanted(args, &modules))
}
