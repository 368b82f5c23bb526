//! The exit codes.

use std::io::{self, Write as _};

use clap::error::ErrorKind;

use crate::{interrupt, ui};

/// The exit code of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The command succeeded; a guest powered off.
    Success = 0,
    /// A test failed, nothing was found, a guest refused, something is missing, or a figure is worse than before.
    Failed = 1,
    /// A bad option, a bad input file, something that is missing and could not be installed, or an output that could
    /// not be written.
    Usage = 2,
    /// The guest reported a crash.
    Crash = 3,
    /// The guest asked for a reset.
    Reset = 4,
    /// The time given by `--timeout` ran out.
    Timeout = 5,
    /// The hypervisor panicked or did not start, or QEMU or KVM ended by itself.
    Machine = 6,
    /// The guest switched all of its VPs off.
    VpsOff = 7,
    /// The guest broke a rule of the level given by `--strict`.
    Strict = 8,
    /// Interrupted: Ctrl-C, SIGTERM, SIGQUIT, or the terminal was closed.
    Interrupted = 130,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Parses the command line. Prints an error, or the help that was asked for, and returns the exit code.
///
/// # Errors
/// The program ends with this exit code.
pub fn command_line<C: clap::FromArgMatches>(command: clap::Command) -> Result<C, Exit> {
    let line = command.try_get_matches().and_then(|mut line| C::from_arg_matches_mut(&mut line));
    line.map_err(|error| {
        // Help is coloured and laid out: it contains no text from elsewhere.
        if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            let _ = error.print();
            return Exit::Usage;
        }
        if error.use_stderr() {
            ui::bad_command_line(&error);
            ui::finish();
            return Exit::Usage;
        }
        helped(error.print().and_then(|()| std::io::stdout().flush()))
    })
}

/// Returns the exit code once help was printed. A reader that has seen enough is not a failure.
fn helped(printed: io::Result<()>) -> Exit {
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            ui::error(&anyhow::Error::new(error).context("cannot write to stdout"));
            ui::finish();
            Exit::Usage
        }
        _ => Exit::Success,
    }
}

/// Ends a program: prints the error, waits until all output has been read, and returns the exit code.
pub fn end(result: anyhow::Result<Exit>) -> std::process::ExitCode {
    end_as(result.map(|exit| exit as u8), Exit::Usage as u8)
}

/// Does the same as [`end`] for a program that ends with another one's status; `failed` is the code for its own
/// failures.
pub fn end_as(result: anyhow::Result<u8>, failed: u8) -> std::process::ExitCode {
    let code = result.unwrap_or_else(|error| {
        if interrupt::is_cause(&error) {
            // What the signal came in the middle of has not failed.
            ui::error(&interrupt::Interrupted.into());
            return Exit::Interrupted as u8;
        }
        ui::error(&error);
        failed
    });
    // A result that was not written is a failure.
    if ui::finish() { code.into() } else { failed.into() }
}

/// The table of exit codes for `--help`. Its lines fit a terminal of 80 columns: what wraps is no longer a table.
pub const HELP: &str = "\
Exit codes:
  0    success; the guest powered off
  1    a test failed (test, conformance), nothing was found (abi, rules),
       the guest refused or has no answer (ctl, snapshot), something is
       missing (doctor), or a figure is worse than before (bench)
  2    a bad option, a bad input file, something that is missing and could not
       be installed, or an output that could not be written, however the guest
       ended
  3    the guest reported a crash
  4    the guest asked for a reset
  5    the time given by --timeout ran out
  6    the hypervisor panicked or did not start, or QEMU or KVM ended by itself
  7    the guest switched all of its VPs off
  8    the guest broke a rule of the level given by --strict=LEVEL, however it
       ended
  130  interrupted: Ctrl-C, SIGTERM, SIGQUIT, or the terminal was closed";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_that_nothing_reads_to_its_end_is_no_failure() {
        assert_eq!(helped(Ok(())), Exit::Success);
        assert_eq!(helped(Err(io::ErrorKind::BrokenPipe.into())), Exit::Success);
        assert_eq!(helped(Err(io::ErrorKind::StorageFull.into())), Exit::Usage);
    }
}
