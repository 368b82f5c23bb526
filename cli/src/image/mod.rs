//! `hv image`: makes images of systems for `hv boot --disk`, without root and without an ARM64 machine.
//!
//! 1. apt downloads the packages with all that they depend on, into the cache (`hv_setup::debian`).
//! 2. [`table`] makes an image: a GPT, an EFI partition, and an empty ext4. [`bundle`] makes one tar of the packages,
//!    with dpkg's records ([`control`]) and the system's own files ([`own`]).
//! 3. [`guest`]: a stock kernel with the agent of `hv exec` unpacks and configures it on the image (`configure.sh`).
//! 4. [`efi`] reads kernel, initrd and boot loader from the root, and writes the EFI partition.
//!
//! The result is a [`layer`] in the cache. Packages of `--include` are a layer above that of the packages which all
//! images have. The file that the user gets is a copy, with the [`keys`] of `--ssh-key`.

mod archive;
mod bundle;
mod control;
mod debian;
mod efi;
mod guest;
mod keys;
mod layer;
mod own;
mod table;

use clap::Subcommand;

pub(crate) use layer::IMAGES;

use crate::exit::Exit;

/// Make images of systems
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    system: System,
}

#[derive(Debug, Subcommand)]
enum System {
    Debian(debian::Args),
}

/// Runs the command.
///
/// # Errors
/// Making the image fails.
pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    match &args.system {
        System::Debian(args) => debian::run(args),
    }
}
