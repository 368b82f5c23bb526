//! The hidden command of `hv` that starts a child, above all QEMU: it ties the child's lifetime to ours, then replaces
//! itself with the child.
//!
//! A parent-death signal must be set by the child itself between fork and exec. Rust allows code at that point only
//! with `unsafe`; a separate command that sets the signal and then replaces itself needs none.

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

/// Name of the command: like no other, so that it is never suggested for a mistyped one.
pub const NAME: &str = "__tied";
/// This program, even if a build has replaced its file in the meantime.
pub const SELF: &str = "/proc/self/exe";

/// Returns a command that runs `program` until this process dies, for whatever reason.
pub fn tied(program: &Path, arguments: &[OsString]) -> Command {
    tied_by(Path::new(SELF), program, arguments)
}

/// Does the same as [`tied`] for a program without that command, through `hv`, which has it.
pub fn tied_by(hv: &Path, program: &Path, arguments: &[OsString]) -> Command {
    let mut command = Command::new(hv);
    command.arg(NAME).arg(std::process::id().to_string()).arg("--").arg(program).args(arguments);
    command
}

/// Runs the command; returns only on failure.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .context("cannot tie a program to this process")?;
    // The parent may have died before the signal was set.
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
    anyhow::ensure!(parent == Some(args.parent), "the parent process is gone");
    let (program, arguments) = args.command.split_first().context("no program given")?;
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot start {}", program.to_string_lossy()))
}
