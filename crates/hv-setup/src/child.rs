//! The hidden command of `hv` between us and a child, QEMU above all: it ties the child's life to ours, then becomes it.
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
pub struct Args {
    /// Process id of the parent
    parent: i32,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Name of the command.
pub const NAME: &str = "exec-tied";
/// This very program, even where a build has replaced its file meanwhile.
pub const SELF: &str = "/proc/self/exe";

/// A command that runs `program` until we die, however that happens.
pub fn tied(program: &Path, arguments: &[OsString]) -> Command {
    tied_by(Path::new(SELF), program, arguments)
}

/// As [`tied`], where this program has no such command: `hv` is one that has.
pub fn tied_by(hv: &Path, program: &Path, arguments: &[OsString]) -> Command {
    let mut command = Command::new(hv);
    command.arg(NAME).arg(std::process::id().to_string()).arg("--").arg(program).args(arguments);
    command
}

/// Runs the command; returns only if it failed.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .context("cannot tie a program to this process")?;
    // The parent may have died before that.
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
    anyhow::ensure!(parent == Some(args.parent), "the parent is gone");
    let (program, arguments) = args.command.split_first().context("no program given")?;
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot start {}", program.to_string_lossy()))
}
