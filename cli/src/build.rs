//! `hv build`: the programs in bare/, for the bare-metal target.

use crate::exit::Exit;

/// Build the hypervisor
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs the command.
pub(crate) fn run(_args: &Args) -> anyhow::Result<Exit> {
    anyhow::bail!("this build has no hypervisor yet")
}
