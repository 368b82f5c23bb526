//! The programs of a run: the hypervisor and QEMU, unless it is one over KVM, and a stock kernel.

use std::path::{Path, PathBuf};

use super::args::Args;
use crate::input::Named;
use crate::machine::Accel;
use crate::setup::cache::Cache;
use crate::setup::qemu::{self, Qemu};
use crate::setup::stock;
use crate::{build, net, process, timings};

/// Name of this part of a run.
pub(super) const PART: &str = "programs";

/// What a run needs besides the guest's own files.
pub(super) struct Programs<T> {
    /// The hypervisor's file, which may be a copy that is removed with this value, and QEMU; unless KVM runs the guest.
    pub(super) emulator: Option<(Named, Qemu)>,
    /// What was made of a stock kernel, if one was asked for.
    pub(super) stock: Option<T>,
}

/// What makes nothing of a stock kernel: none is asked for.
pub(super) type NoStock = fn(stock::Kernel, PathBuf) -> anyhow::Result<()>;

/// Sets up what a run needs besides the guest: the hypervisor and QEMU, unless KVM runs it, and for a stock kernel that
/// kernel and busybox, of which `stock` makes the guest.
///
/// What is missing is built, installed and fetched in parallel.
pub(super) fn set_up<T: Send>(
    args: &Args,
    stock: Option<impl FnOnce(stock::Kernel, PathBuf) -> anyhow::Result<T> + Send>,
) -> anyhow::Result<Programs<T>> {
    net::set_up(&args.net)?;
    let fetched = || stock::kernel(&Cache::open()?, args.stock());
    let guest = || {
        let Some(make) = stock else { return Ok(None) };
        let (kernel, busybox) = timings::part_of(PART, "stock kernel", fetched)?;
        timings::part_of(PART, "guest's image", || make(kernel, busybox)).map(Some)
    };
    if args.accel == Some(Accel::Kvm) {
        return Ok(Programs { emulator: None, stock: guest()? });
    }
    // What the user named is checked before anything is installed or built.
    let given = args.hypervisor.as_ref().map(|file| build::hypervisor(Some(file))).transpose()?;
    let checked = |program: Option<&Path>| {
        timings::part_of(PART, "QEMU's version", || {
            let qemu = qemu::prepare(program)?;
            args.cpu.as_deref().map(|model| qemu::check_cpu(&qemu, model)).transpose()?;
            anyhow::Ok(qemu)
        })
    };
    let found = || args.cpu.is_some().then(qemu::find).flatten();
    let named = args.qemu.clone().or_else(found);
    let named = named.as_deref().map(|program| checked(Some(program))).transpose()?;
    let built = || timings::part_of(PART, "hypervisor's build", || build::hypervisor(None));
    let (hypervisor, (qemu, stock)) = process::both(
        || given.map_or_else(built, Ok),
        || process::both(|| named.map_or_else(|| checked(None), Ok), guest),
    )?;
    Ok(Programs { emulator: Some((hypervisor, qemu)), stock })
}
