//! The programs of a run: the hypervisor, QEMU, and a stock kernel.

use std::path::{Path, PathBuf};

use super::args::Args;
use crate::input::Named;
use crate::setup::cache::Cache;
use crate::setup::qemu::{self, Qemu};
use crate::setup::stock;
use crate::{build, process};

/// What a run needs besides the guest's own files.
pub(super) struct Programs {
    /// The hypervisor's file; it may be a copy that is removed with this value.
    pub(super) hypervisor: Named,
    pub(super) qemu: Qemu,
    /// The stock kernel and busybox, if they were asked for.
    pub(super) stock: Option<(stock::Kernel, PathBuf)>,
}

/// Sets up what a run needs besides the guest: the hypervisor, QEMU, and for a stock kernel that kernel and busybox.
///
/// What is missing is built, installed and fetched in parallel.
pub(super) fn set_up(args: &Args, stock: bool) -> anyhow::Result<Programs> {
    // The user's files and --cpu are checked before anything is installed or built.
    let given = args.hypervisor.as_ref().map(|file| build::hypervisor(Some(file))).transpose()?;
    let checked = |program: Option<&Path>| {
        let qemu = qemu::prepare(program)?;
        args.cpu.as_deref().map(|model| qemu::check_cpu(&qemu, model)).transpose()?;
        anyhow::Ok(qemu)
    };
    let present = args.qemu.clone().or_else(qemu::find);
    let qemu = present.as_deref().map(|program| checked(Some(program))).transpose()?;
    let (hypervisor, (qemu, stock)) = process::both(
        || given.map_or_else(|| build::hypervisor(None), Ok),
        || {
            process::both(
                || qemu.map_or_else(|| checked(None), Ok),
                || stock.then(|| stock::kernel(&Cache::open()?, args.stock())).transpose(),
            )
        },
    )?;
    Ok(Programs { hypervisor, qemu, stock })
}
