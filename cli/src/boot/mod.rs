//! `hv boot`: one guest, from the kernel file to the report.

use std::path::PathBuf;

use crate::exit::{self, Exit};

/// Boot a kernel in a Hyper-V partition and report what it did
///
/// Without options: Debian's stock 6.12 kernel for clouds on two VPs, which finds Hyper-V, loads its own hv_vmbus.ko,
/// connects to VMBus and powers off. What is missing is installed or downloaded first, once.
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", exit::HELP))]
pub(crate) struct Args {
    /// Kernel to boot: an arm64 Image (plain, gzip'd, or an EFI zboot image) or an ELF64 program entered at EL1
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  cargo hv boot
  cargo hv boot --vps 8 --json report.json
  cargo hv boot --stock 6.1 --firmware dt
  cargo hv boot --kernel arch/arm64/boot/Image --initrd initrd.img --append 'loglevel=7'";

/// Runs the command.
pub(crate) fn run(_args: &Args) -> anyhow::Result<Exit> {
    anyhow::bail!("this build has no machine yet")
}
