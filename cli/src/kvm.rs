//! The process of a machine over KVM: this program again, as QEMU is one.

#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
use std::{
    io::{self, Write as _},
    path::PathBuf,
    process,
};

#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
use crate::exit::Exit;

/// Name of the command: like no other, so that it is never suggested for a mistyped one.
pub(crate) const NAME: &str = "__kvm";

/// Run the machine whose RAM is this file over KVM
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The machine's RAM, with the boot information
    ram: PathBuf,
    /// The files of its disks, in their order
    disks: Vec<PathBuf>,
}

/// Runs the machine, and ends the process: with 0 if the report says how the run ended.
///
/// It does so here: the process is confined now, and may not even ask what its streams are, as `ui` does at a program's
/// end. An error goes to the tool that started this one, which filters what it shows.
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
pub(crate) fn run(args: &Args) -> ! {
    let exit = match hv_vmm::run(&args.ram, &args.disks) {
        Ok(()) => Exit::Success,
        Err(error) => {
            let _ = writeln!(io::stderr(), "hv: {error:#}");
            Exit::Machine
        }
    };
    process::exit(exit as i32)
}
