//! `hv snapshot`: asks a machine that runs to save itself.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::ensure;

use super::client::{self, Asked};
use super::ctl::absolute;
use super::lines::{Request, SavedLine};
use super::target::Target;
use crate::exit::Exit;
use crate::setup::size::size;
use crate::setup::value;
use crate::ui;

/// Save a running machine with its disks to a folder, which `hv boot --from` resumes
///
/// The machine is paused while it is saved, and continues afterwards. NAME is a name of `hv ps`, or a socket of
/// `hv boot --control SOCKET`; it can be left out if one machine with a control port runs. A machine that depends on
/// something outside of it is refused, with the reason: a disk that is rw, sockets (--vsock), a debugger, a trace.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP, allow_missing_positional = true)]
pub(crate) struct Args {
    /// Name of the machine, or the socket of its control port [default: the one that runs]
    #[arg(value_name = "NAME")]
    machine: Option<OsString>,
    /// Name of the machine, as given to `hv boot`
    #[arg(long, value_name = "NAME", conflicts_with = "machine")]
    name: Option<OsString>,
    /// The new folder
    folder: PathBuf,
    /// Print the reply as JSON
    #[arg(long)]
    json: bool,
    /// Seconds to wait [default: 600]
    #[arg(long, value_name = "SECS", value_parser = value::seconds)]
    timeout: Option<u32>,
}

const HELP: &str = "\
Examples:
  cargo hv boot --name web --run shell --disk data.img
  cargo hv snapshot web booted
  cargo hv boot --from booted --name test1
  cargo hv boot --from booted --name test2

Exit codes:
  0    the snapshot was written
  1    the machine cannot be saved, or was not
  2    a bad option, or no such machine
  5    it was not saved in time
  130  interrupted; there is no snapshot";

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    let folder = absolute(&args.folder)?;
    ensure!(
        args.folder.symlink_metadata().is_err(),
        "{} already exists; give another name, or remove it",
        args.folder.display()
    );
    let request = Request::Snapshot { folder };
    let target = Target::find(args.machine.as_deref().or(args.name.as_deref()))?;
    let task = ui::Task::new(format!("Saving {target} to {}", args.folder.display()));
    let asked = Asked { command: "hv snapshot", json: args.json, timeout: args.timeout };
    let exit = client::ask(&target, request, &asked);
    drop(task);
    exit
}

/// Formats what was made, for users.
pub(super) fn text(saved: &SavedLine) -> String {
    let SavedLine { bytes, paused_ms } = saved;
    format!("{}; the machine stood still for {}.{:03} s\n", size(*bytes), paused_ms / 1000, paused_ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_may_be_left_out_or_named_in_two_ways() {
        #[derive(clap::Parser)]
        struct Whole {
            #[command(flatten)]
            args: Args,
        }
        let parse =
            |words: &str| <Whole as clap::Parser>::try_parse_from(words.split(' ')).map(|whole| whole.args);
        let args = parse("snapshot folder").unwrap();
        assert_eq!((args.machine, args.folder), (None, "folder".into()));
        let args = parse("snapshot web folder --timeout 5").unwrap();
        assert_eq!((args.machine, args.folder), (Some("web".into()), "folder".into()));
        let args = parse("snapshot --name web folder").unwrap();
        assert_eq!((args.name, args.folder), (Some("web".into()), "folder".into()));
        assert!(parse("snapshot").is_err() && parse("snapshot --name web vm folder").is_err());
    }

    #[test]
    fn what_was_made_is_a_line() {
        assert_eq!(
            text(&SavedLine { bytes: 3 << 20, paused_ms: 1007 }),
            "3 MiB; the machine stood still for 1.007 s\n"
        );
    }
}
