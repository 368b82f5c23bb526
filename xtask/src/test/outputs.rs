//! A run's output, to files and to readers: nothing is held up, lost, forged or overwritten.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;

use super::context::{Context, HUNG_SECONDS, console};
use super::life::until;
use super::runner::Step;
use super::signals::end;
use hv_setup::exit::Exit;

/// The files of `--keep`.
const KEPT: [&str; 6] =
    ["cmdline.txt", "qemu.txt", "console.txt", "report.bin", "report.json", "qemu-messages.txt"];

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    vec![
        Step::new("output/reader-that-does-not-read", not_read),
        Step::new("output/result-to-a-slow-pipe-after-a-signal", slow_pipe),
        Step::new("output/planted-links", planted),
        Step::new("output/unwritable-costs-only-itself", unwritable),
        Step::new("output/terminal-is-as-before", terminal),
        Step::new("output/names-drive-no-terminal", names),
        Step::new("output/help-without-a-command", help),
    ]
}

/// Checks that help in place of an error is laid out as help is.
fn help(context: &Context) -> anyhow::Result<()> {
    for line in [&[][..], &["ctl"]] {
        let ran = context.hv(line)?;
        let all = || format!("exit code {:?}, stdout:\n{}\nstderr:\n{}", ran.code, ran.stdout, ran.stderr);
        ensure!(ran.code == Some(Exit::Usage as i32) && ran.stdout.is_empty(), "{}", all());
        let commands = ran.stderr.split_once("\nCommands:\n").map(|(_, commands)| commands);
        ensure!(commands.is_some_and(|commands| commands.starts_with("  ")), "{}", all());
    }
    Ok(())
}

/// Checks that a run whose stdout and stderr are not read ends by its signal, with all files.
fn not_read(context: &Context) -> anyhow::Result<()> {
    let dir = context.folder()?;
    let (keep, report) = (dir.join("keep"), dir.join("report.json"));
    let mut line: Vec<&std::ffi::OsStr> =
        ["boot", "--vps", "1", "--run", "shell"].map(AsRef::as_ref).to_vec();
    line.extend(["--keep".as_ref(), keep.as_os_str(), "--json".as_ref(), report.as_os_str()]);
    let mut child = context.command(&line)?.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // The smallest possible pipe.
    let stdout = child.stdout.as_ref().context("no stdout")?;
    rustix::pipe::fcntl_setpipe_size(stdout, 4096)?;
    let result = (|| {
        at_shell(&mut child, &keep)?;
        // A reader that has read nothing for two seconds is given up (hv-setup, src/ui/door.rs).
        std::thread::sleep(Duration::from_secs(4));
        end(&mut child, Signal::INT)
    })();
    let _ = child.kill();
    let _ = child.wait();
    result?;
    let json: Value = serde_json::from_slice(&fs::read(&report)?)?;
    ensure!(
        json["console_dropped_bytes"].as_u64().is_some_and(|bytes| bytes > 0),
        "console_dropped_bytes in {json}"
    );
    for name in KEPT {
        ensure!(keep.join(name).is_file(), "--keep lacks {name}");
    }
    Ok(())
}

/// Waits until the guest of a run that keeps its files in `keep` is at its shell.
fn at_shell(child: &mut Child, keep: &Path) -> anyhow::Result<()> {
    until("the guest is at its shell", || {
        ensure!(child.try_wait()?.is_none(), "hv boot ended early:\n{}", console(keep));
        Ok(console(keep).contains("hv: shell"))
    })
}

/// Sends a run a Ctrl-C when its guest is at its shell.
fn interrupt_at_shell(child: &mut Child, keep: &Path) -> anyhow::Result<()> {
    at_shell(child, keep)?;
    let pid = Pid::from_raw(i32::try_from(child.id())?).context("no process id")?;
    Ok(rustix::process::kill_process(pid, Signal::INT)?)
}

/// Checks that a pipe gets the whole report of a run that a signal has ended, though its reader is slower than the
/// tool.
fn slow_pipe(context: &Context) -> anyhow::Result<()> {
    use rustix::fs::{CWD, FileType, Mode, OFlags};
    let dir = context.folder()?;
    let (keep, fifo) = (dir.join("keep"), dir.join("fifo"));
    rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    let reader = rustix::fs::open(&fifo, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    // It has no room for the report until this is read. To JSON it is nothing.
    rustix::pipe::fcntl_setpipe_size(&reader, 4096)?;
    fs::write(&fifo, [b' '; 4000])?;
    let mut line: Vec<&std::ffi::OsStr> =
        ["boot", "--quiet", "--vps", "1", "--run", "shell"].map(AsRef::as_ref).to_vec();
    line.extend(["--keep".as_ref(), keep.as_os_str(), "--json".as_ref(), fifo.as_os_str()]);
    let mut child = context.command(&line)?.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let mut text = Vec::new();
    let result = (|| {
        interrupt_at_shell(&mut child, &keep)?;
        // The report goes there first.
        until("the report is written", || Ok(keep.join("report.json").exists()))?;
        until("hv boot has ended", || {
            let ended = child.try_wait()?.is_some();
            let mut buffer = [0; 512];
            // Without a writer, or without bytes, there is nothing to read.
            let length = rustix::io::read(&reader, &mut buffer).unwrap_or(0);
            text.extend_from_slice(&buffer[..length]);
            Ok(ended && length == 0)
        })
    })();
    let _ = child.kill();
    let status = child.wait()?;
    result?;
    ensure!(status.code() == Some(Exit::Interrupted as i32), "hv boot ended with {status}");
    ensure!(text.len() > 4096, "a report of {} bytes tries nothing", text.len());
    let json: Value = serde_json::from_slice(&text).context("the report in the pipe")?;
    ensure!(json["exit"] == "interrupted", "{json}");
    Ok(())
}

/// Checks that links in place of results are replaced, and that their targets stay.
fn planted(context: &Context) -> anyhow::Result<()> {
    let dir = context.folder()?;
    let keep = dir.join("keep");
    fs::create_dir(&keep)?;
    let victims: Vec<_> =
        KEPT.iter().chain(&["json", "trace"]).map(|name| dir.join(format!("victim-{name}"))).collect();
    let links: Vec<_> =
        KEPT.iter().map(|name| keep.join(name)).chain([dir.join("json"), dir.join("trace")]).collect();
    for (victim, link) in victims.iter().zip(&links) {
        fs::write(victim, "precious")?;
        symlink(victim, link)?;
    }
    let mut line: Vec<&std::ffi::OsStr> =
        ["boot", "--quiet", "--vps", "1", "--timeout", HUNG_SECONDS].map(AsRef::as_ref).to_vec();
    line.extend(["--keep".as_ref(), keep.as_os_str(), "--json".as_ref(), links[6].as_os_str()]);
    line.extend(["--trace".as_ref(), links[7].as_os_str()]);
    let done = context.hv(&line)?;
    ensure!(done.code == Some(Exit::Success as i32), "exit code {:?}: {}", done.code, done.stderr);
    for (victim, link) in victims.iter().zip(&links) {
        ensure!(fs::read(victim)? == b"precious", "{} was followed", link.display());
        ensure!(!link.is_symlink(), "{} was not written", link.display());
    }
    Ok(())
}

/// Checks that each output that cannot be written is reported, and that the others are complete.
fn unwritable(context: &Context) -> anyhow::Result<()> {
    let dir = context.folder()?;
    let keep = dir.join("keep");
    fs::create_dir_all(keep.join("report.bin/occupied"))?;
    fs::create_dir_all(keep.join("console.txt/occupied"))?;
    let line = [
        "boot",
        "--vps",
        "1",
        "--timeout",
        HUNG_SECONDS,
        "--json",
        "/dev/full",
        "--trace",
        "/dev/full",
        "--keep",
    ];
    let mut line: Vec<&std::ffi::OsStr> = line.map(AsRef::as_ref).to_vec();
    line.push(keep.as_os_str());
    let done = context.hv(&line)?;
    let all = || format!("exit code {:?}\n{}\n{}", done.code, done.stdout, done.stderr);
    ensure!(done.code == Some(Exit::Usage as i32), "{}", all());
    ensure!(done.stdout.contains("\n  exit         power-off"), "no report: {}", all());
    let errors: Vec<&str> = done.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    for part in ["the trace to /dev/full", "the report to /dev/full", "report.bin", "console.txt"] {
        ensure!(errors.iter().any(|error| error.contains(part)), "nothing on {part}: {}", all());
    }
    ensure!(errors.len() == 4, "{}", all());
    let report: Value = serde_json::from_slice(&fs::read(keep.join("report.json"))?)?;
    ensure!(report["exit"] == "power-off", "{report}");
    Ok(())
}

/// Checks the output of a guest that hides text, queries the terminal and sets its title, on a terminal.
fn terminal(context: &Context) -> anyhow::Result<()> {
    let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    grantpt(&screen)?;
    unlockpt(&screen)?;
    let name = ptsname(&screen, Vec::new())?;
    let open = || File::options().read(true).write(true).open(name.to_str().unwrap_or_default());
    // The kernel prints its command line as it is.
    let evil = "x=\x1b]0;owned\x07\x1b[6n\x1b[8m\x1b[?1049h\x1b[?25l\x1b[2J\u{9b}c\x1b]52;c;eA==\x07end";
    let line = ["boot", "--vps", "1", "--timeout", HUNG_SECONDS, "--append", evil];
    let mut command = context.command(&line)?;
    let mut child = command.stdout(open()?).stderr(open()?).spawn()?;
    // The command holds the terminal's other side, too.
    drop(command);
    let shown = all_of(screen);
    let status = child.wait()?;
    let shown = shown?;
    ensure!(status.success(), "hv boot ended with {status}:\n{shown}");
    for part in ["\x1b]", "\x1b[6n", "\u{9b}", "\x1b[c", "owned"] {
        ensure!(!shown.contains(part), "{part:?} came to the terminal:\n{shown:?}");
    }
    let tag = shown.split_once("its report begins with \"").and_then(|(_, rest)| rest.split('"').next());
    let tag = tag.context("no report was announced")?;
    let (before, report) =
        shown.rsplit_once(&format!("\n{tag}\r\n")).with_context(|| format!("no {tag:?}: {shown:?}"))?;
    ensure!(report.contains("  exit         power-off") && !report.contains('\x1b'), "{report:?}");
    let (_, undone) =
        before.rsplit_once("\x1b[8m").with_context(|| format!("no attribute was let through: {before:?}"))?;
    for part in ["\x1b[0m", "\x1b[?1049l", "\x1b[?25h", "\x1b[r"] {
        ensure!(undone.contains(part), "{part:?} is not undone: {undone:?}");
    }
    Ok(())
}

/// Reads all that comes to a terminal until every process has closed it.
fn all_of(screen: OwnedFd) -> anyhow::Result<String> {
    let mut screen = File::from(screen);
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match screen.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => bytes.extend_from_slice(&buffer[..length]),
            // Linux's sign of the end.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Checks names of files, wrong words and texts of reports, with escape sequences in them.
fn names(context: &Context) -> anyhow::Result<()> {
    let evil = "a\x1b[31mb\u{202e}c\u{9b}8md\x07";
    let dir = context.folder()?;
    let file = dir.join(format!("{evil}\nerror: forged"));
    fs::write(&file, "no kernel, no trace")?;
    let path = file.to_string_lossy();
    let log = dir.join("log");
    let run = "@hv begin 1 cases=1 vps=1 conduit=smccc granule=4096\n@hv run a/b\n@hv fail a/b ";
    fs::write(&log, format!("{run}{evil}\n@hv end passed=0 failed=1 skipped=0\n"))?;
    let log = log.to_string_lossy();
    for line in [
        vec!["boot", "--kernel", &*path],
        vec!["boot", "--symbols", &*path],
        vec!["trace", &*path],
        vec!["boot", evil],
        vec!["boot", "--firmware", evil],
        vec!["boot", &*path],
        vec!["boot", "--memory", &*path],
        vec!["completions", &*path],
        vec!["conformance", "--read", &*path],
        vec!["conformance", "--read", &*log],
        vec!["conformance", "--read", &*log, "--format", "tap"],
        vec!["conformance", "--read", &*log, "--format", "json"],
        vec!["conformance", "--read", &*log, "--format", "junit"],
    ] {
        let done = context.hv(&line)?;
        let text = format!("{}{}", done.stdout, done.stderr);
        ensure!(done.code.is_some_and(|code| code != 0), "{line:?} ended with {:?}:\n{text}", done.code);
        ensure!(!text.contains(['\x1b', '\u{202e}', '\u{9b}', '\x07']), "{line:?} shows {text:?}");
        let forged = text.lines().filter(|line| line.starts_with("error: forged")).count();
        ensure!(forged == 0, "{line:?} shows {text:?}");
    }
    Ok(())
}
