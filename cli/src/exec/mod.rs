//! `hv exec`: one command in a guest, as if it ran here: its output, its input, its exit status.
//!
//! The guest is that of `hv boot` with a small agent of ours in its initramfs (bare/agent), which connects to the tool
//! over a Hyper-V socket. [`session`] talks to it; [`input`] reads stdin; [`terminal`] is the user's, for a shell;
//! [`share`] serves folders; [`junit`] is the result for machines.

mod input;
mod junit;
mod session;
mod share;
mod terminal;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::IsTerminal as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use hv_wire::control::share_step;

use crate::boot::{self, Agent, Ended};
use crate::exit::Exit;
use crate::machine::folder::EXEC_PREFIX;
use crate::setup::programs;
use crate::{TOOL, input as files, interrupt, output, ui};
use junit::{Case, Transcript, Verdict};
use session::{Command, Outcome, Progress, Session};
use share::{Dir, Opened};
use terminal::Terminal;

/// `hv exec` itself failed.
pub(crate) const FAILED: u8 = 125;
/// The command exists but is not a program.
const NO_PROGRAM: u8 = 126;
/// There is no such command.
const NOT_FOUND: u8 = 127;
/// The time limit was reached.
const TIMEOUT: u8 = 124;
/// The guest reported a crash.
const CRASH: u8 = 123;
/// The machine ended before the command did.
const LOST: u8 = 122;
/// The command succeeded, and the guest broke a rule of the level given by `--strict`.
const STRICT: u8 = 121;

/// Lines of the console that are shown when the command did not end.
const TAIL: usize = 20;
/// How Linux begins to say why it panics (kernel/panic.c).
const PANIC: &str = "Kernel panic - not syncing";

/// The options.
#[derive(Debug, clap::Args)]
#[command(
    about = "Run a command in a guest, and exit with its status",
    long_about = "Run a command in a guest, and exit with its status\n\nBoots like `hv boot`, or resumes a machine that \
                  was booted with the same inputs before; runs the command as root in the stock initramfs, passes \
                  stdin, stdout and stderr through, and ends the machine. The guest's console is not shown, except for \
                  its last lines if the command did not finish. Without a command: a shell.",
    after_help = HELP
)]
// The group of the flattened options has this structure's name.
#[group(skip)]
// What the command could not run with is refused: see `judge_agent`.
#[command(mut_arg("initrd", |arg| arg.hide(true)), mut_arg("no_initrd", |arg| arg.hide(true)))]
#[command(mut_arg("from", |arg| arg.hide(true)), mut_arg("entry", |arg| arg.hide(true)))]
#[command(mut_arg("run", |arg| arg.hide_possible_values(true).help(ACTIONS).long_help(None)))]
pub(crate) struct Args {
    #[command(flatten)]
    boot: boot::Args,
    /// Run it on a terminal of its own, as a shell needs
    /// [default without a command, if stdin and stdout are a terminal]; Ctrl-A X ends the machine, and Ctrl-A H helps
    #[arg(long)]
    shell: bool,
    /// Print the report to stderr
    #[arg(long)]
    report: bool,
    /// Write the command as a test case to a JUnit file: passed, failed (by its status), or in error (without one)
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Share a folder with the guest, at /PATH or at the same path as on the host; read-only, or writable with ,rw; can
    /// be repeated
    #[arg(long, value_name = "DIR[:/PATH][,rw]")]
    dir: Vec<Dir>,
    /// Boot the machine, even if one with the same inputs was booted before and is cached
    #[arg(long)]
    cold: bool,
    /// Give the command patterns as they are: otherwise a word like /sys/class/* that your shell has left is replaced
    /// with the guest's paths that match it, if there are any
    #[arg(long)]
    no_glob: bool,
    /// The command and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// What `--run` is for here.
const ACTIONS: &str = "Do before the command: hotplug, poke or net, separated by commas; actions of the stock initramfs as for `hv boot`";

const HELP: &str = "\
Examples:
  cargo hv exec -- uname -r
  cargo hv exec --stock 16k --vps 4 -- cat /proc/cpuinfo
  cargo hv exec --tree ~/linux -- dmesg
  cargo hv exec -- cat /sys/bus/vmbus/devices/*/class_id
  cargo hv exec --disk data.img -- sha256sum /dev/sda
  cargo hv exec --junit test.xml -- sh -c 'test -c /dev/rtc0'
  cargo hv exec --dir ~/tests:/tests -- sh /tests/run.sh
  cargo hv exec --dir out:/out,rw -- sh -c 'dmesg > /out/dmesg'
  cargo hv exec --dir tests:/t -- sh /t/all.sh
  cargo hv exec

Exit codes:
  the command's own, 128 + N if signal N ended it, or
  121  the guest broke a rule of the level given by --strict=LEVEL, though the
       command succeeded
  122  the machine ended before the command did
  123  the guest reported a crash
  124  the time given by --timeout ran out
  125  hv exec failed: a bad option or input file, something that is missing,
       or an output that could not be written
  126  the command is not a program that the guest can run
  127  there is no such command
  130  interrupted: Ctrl-C, SIGTERM, or the terminal was closed";

/// Returns true if an invalid command line is one of `hv exec`.
pub(crate) fn is_meant() -> bool {
    std::env::args_os().nth(1).is_some_and(|word| word == "exec")
}

/// Explains where the command goes, for an invalid command line without `--`.
pub(crate) fn advise() {
    let has = |words: &[&str]| std::env::args_os().any(|word| words.iter().any(|one| word == *one));
    if !has(&["--", "-h", "--help"]) {
        ui::note(&format!(
            "  tip: the command goes after --, and options before it: {TOOL} exec --vps 4 -- uname -r"
        ));
        ui::finish();
    }
}

/// Runs the command, and returns the exit code.
pub(crate) fn run(args: &Args) -> anyhow::Result<u8> {
    if let Some(file) = &args.junit {
        output::check("JUnit report", "--junit", file)?;
    }
    let mut options = args.boot.clone();
    options.judge_agent()?;
    let shares = share::open(&args.dir)?;
    let mut command = command(args)?;
    command.shares = shares.iter().map(Opened::mounted).collect();
    let name = command.words.iter().map(|word| String::from_utf8_lossy(word)).collect::<Vec<_>>().join(" ");
    let session = Session::default();
    let transcript = command.transcript.clone().unwrap_or_default();
    let result = run_in_guest(args, &mut options, &session, (command, shares));
    let (kernel, verdict) = match &result {
        Ok(Ran { kernel, verdict, .. }) => (kernel.as_str(), verdict.clone()),
        Err(error) => ("", Verdict::Error(format!("hv exec: {error:#}"))),
    };
    if let Some(file) = &args.junit {
        let [out, err] = transcript.texts();
        let class = file.file_stem().unwrap_or_default().to_string_lossy();
        let (took, outputs) = (session.took(), [&*out, &*err]);
        let case = Case { name: &name, class: &class, kernel, verdict, took, outputs };
        if let Err(error) = case.write(file) {
            ui::error(&error);
            return result.map(|_| FAILED);
        }
    }
    result.map(|ran| ran.code)
}

/// A run that came to an end.
struct Ran {
    code: u8,
    kernel: String,
    verdict: Verdict,
}

/// Boots a guest, runs the command in it, and reports how it ended.
fn run_in_guest(
    args: &Args,
    options: &mut boot::Args,
    session: &Session,
    (mut command, shares): (Command, Vec<Opened>),
) -> anyhow::Result<Ran> {
    let name =
        command.words.first().map(|word| String::from_utf8_lossy(word).into_owned()).unwrap_or_default();
    let agent = programs::agent()?;
    let agent =
        files::read(&agent, files::LONGEST).with_context(|| format!("cannot read {}", agent.display()))?;
    // A signal between two of the next steps would leave the folder.
    let _orderly = interrupt::orderly();
    let own = options.is_without_sockets().then(folder_for_sockets).transpose()?;
    let path = own.as_ref().map(|folder| folder.path().to_owned());
    let _undo = path.clone().map(|path| interrupt::on_second_signal(move || drop(fs::remove_dir_all(&path))));
    // Removed before the undo is dropped.
    let _folder = own;
    let terminal = command.terminal.is_some();
    let agent = Agent { program: agent, terminal, cold: args.cold, shares: shares.len() };
    options.set_agent(agent, path.as_deref())?;
    command.renew = options.has_own_time();
    let paths: Vec<_> = command.shares.iter().map(|(_, path)| path.clone()).collect();
    let ended = boot::run_agent(options, session.speaks(), |listener, for_shares| {
        shares.into_iter().zip(for_shares).for_each(|(share, listener)| share.serve(listener));
        session.start(listener, command);
    })?;
    let (progress, outcome) = session.end();
    if args.report {
        ui::note(ended.report.trim_end());
    }
    let lines = reasons(outcome, &ended, progress, (&name, &paths));
    lines.iter().for_each(|line| ui::note(line));
    let code = if ended.written { code(outcome, ended.end, ended.exit == Exit::Strict) } else { FAILED };
    let verdict = verdict(outcome, code, &lines);
    Ok(Ran { code, kernel: ended.kernel, verdict })
}

/// Makes a folder for the agent's sockets. Its lock is that of the machine which uses it: until then it is empty, and
/// made again if `hv clean` has removed it.
fn folder_for_sockets() -> anyhow::Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix(EXEC_PREFIX)
        .permissions(Permissions::from_mode(0o700))
        .tempdir()
        .context("cannot make a folder for sockets")
}

/// Returns the verdict on the command as a test.
fn verdict(outcome: Option<Outcome>, code: u8, reasons: &[String]) -> Verdict {
    // The last is the reason, the ones before are the end of the console.
    let reason = || match reasons.split_last() {
        Some((reason, console)) => [std::slice::from_ref(reason), console].concat().join("\n"),
        None => format!("hv exec: exit code {code}"),
    };
    match outcome {
        _ if code == 0 => Verdict::Passed,
        Some(Outcome::Exited(status)) if code == status => Verdict::Failed(format!("exit status {status}")),
        Some(Outcome::Killed(signal)) if code == signal.saturating_add(128) => {
            Verdict::Failed(format!("signal {signal}"))
        }
        Some(_) if code == STRICT => Verdict::Failed(reason()),
        _ if code == Exit::Interrupted as u8 => Verdict::Error("hv exec: interrupted".to_owned()),
        _ => Verdict::Error(reason()),
    }
}

/// Returns the command to run, and its terminal.
fn command(args: &Args) -> anyhow::Result<Command> {
    let at_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let on_terminal = args.shell || (args.command.is_empty() && at_terminal);
    ensure!(
        !on_terminal || at_terminal,
        "--shell: stdin and stdout are not a terminal; give a command without --shell, or run it under script(1)"
    );
    let words = match &args.command[..] {
        [] => vec![b"sh".to_vec()],
        words => words.iter().map(|word| word.as_bytes().to_vec()).collect(),
    };
    let transcript = args.junit.as_ref().map(|_| Transcript::default());
    Ok(Command {
        words,
        glob: !args.no_glob,
        terminal: on_terminal.then(Terminal::current),
        transcript,
        renew: false,
        shares: Vec::new(),
    })
}

/// Returns why the command, whose first word is `name`, did not end, or not well: the end of the console, and last the
/// reason. `paths` are those of the folders in the guest.
fn reasons(
    outcome: Option<Outcome>,
    ended: &Ended,
    progress: Progress,
    (name, paths): (&str, &[PathBuf]),
) -> Vec<String> {
    match (outcome, ended.exit) {
        (Some(Outcome::NotStarted(error)), _) => {
            let hint = if name.starts_with('-') { "; options of hv exec go before --" } else { "" };
            let name = if name.is_empty() { "''".into() } else { ui::one_line(name) };
            vec![format!(
                "hv exec: the guest cannot run {name}: {}{hint}",
                std::io::Error::from_raw_os_error(error)
            )]
        }
        (Some(Outcome::NotShared(which, step, error)), _) => {
            let path = paths.get(which as usize).map_or_else(String::new, |path| path.display().to_string());
            let (failed, hint) = match step {
                share_step::FOLDER => ("make that folder", "; give another path: DIR:/PATH"),
                share_step::FUSE => (
                    "open /dev/fuse",
                    "; its kernel needs CONFIG_FUSE_FS, built in or as the module fuse (give --tree or --modules)",
                ),
                share_step::CONNECTION => ("connect to the tool", ""),
                _ => ("mount it", ""),
            };
            vec![format!(
                "hv exec: the guest cannot have the folder of --dir at {}: cannot {failed}: {}{hint}",
                ui::one_line(&path),
                std::io::Error::from_raw_os_error(error)
            )]
        }
        (Some(_), Exit::Success | Exit::Interrupted) | (None, Exit::Interrupted) => Vec::new(),
        (Some(_), _) => vec![format!("hv exec: {}", ui::one_line(&ended.reason))],
        (None, _) => {
            let lines: Vec<&str> = ended.console.lines().filter(|line| !line.trim().is_empty()).collect();
            let shown = excerpt(&lines);
            let mut reasons: Vec<String> =
                shown.iter().map(|line| format!("  {}", ui::one_line(line.trim_end()))).collect();
            let what = match progress {
                Progress::None => "the guest's agent had not connected",
                Progress::Ready => "the command had not ended",
                Progress::Invalid => "invalid or unexpected message from the guest's agent",
            };
            let above = if lines.is_empty() {
                "it has printed nothing on its console"
            } else {
                "the end of its console is shown"
            };
            reasons.push(format!("hv exec: {what}: {}; {above}", ui::one_line(&ended.reason)));
            reasons
        }
    }
}

/// Returns the last lines of a console, and before them why Linux panicked, should that be further up.
fn excerpt<'c>(lines: &[&'c str]) -> Vec<&'c str> {
    let last = lines.len().saturating_sub(TAIL);
    let panic = lines[..last].iter().rfind(|line| line.contains(PANIC));
    let panic = panic.map(|line| [*line, "..."]).into_iter().flatten();
    panic.chain(lines[last..].iter().copied()).collect()
}

/// Returns the exit code for the end of the command and that of the machine, in a run that has `broken` a rule or not.
fn code(outcome: Option<Outcome>, machine: Exit, broken: bool) -> u8 {
    match (outcome, machine) {
        (_, Exit::Interrupted) => Exit::Interrupted as u8,
        (_, Exit::Crash) => CRASH,
        (None, Exit::Timeout) => TIMEOUT,
        (None, Exit::Usage) => FAILED,
        (None, _) => LOST,
        (Some(outcome), _) => match outcome.code() {
            0 if broken => STRICT,
            code => code,
        },
    }
}
