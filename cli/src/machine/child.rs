//! The hidden command between us and QEMU: it ties QEMU's life to ours, then becomes QEMU.
//!
//! A parent-death signal has to be set by the child itself between fork and exec. Rust offers that place only with
//! `unsafe`; a command of our own that does it and then replaces itself needs none.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use rustix::process::Signal;

use crate::exit::Exit;

/// Become a program that dies with its parent
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Process id of the parent
    parent: i32,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Name of the command.
pub(crate) const NAME: &str = "exec-tied";
/// This very program, even where a build has replaced its file meanwhile.
pub(crate) const SELF: &str = "/proc/self/exe";

/// A command that runs `program` until we die, however that happens.
pub(crate) fn tied(program: &Path, arguments: &[OsString]) -> Command {
    let mut command = Command::new(SELF);
    command.arg(NAME).arg(std::process::id().to_string()).arg("--").arg(program).args(arguments);
    command
}

/// Runs the command; returns only if it failed.
pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .context("cannot tie QEMU to this process")?;
    // The parent may have died before that.
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
    anyhow::ensure!(parent == Some(args.parent), "the parent is gone");
    let (program, arguments) = args.command.split_first().context("no program given")?;
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot start {}", program.to_string_lossy()))
}
