//! `hv doctor`: what is there and what is missing.

use crate::exit::Exit;

/// Say what is installed and cached, and what is missing
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs the command.
pub(crate) fn run(_args: &Args) -> anyhow::Result<Exit> {
    anyhow::bail!("nothing to look at yet")
}
