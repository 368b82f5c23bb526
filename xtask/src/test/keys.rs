//! The keyboard of `hv boot` and of `hv exec`: a terminal's keys, and what is piped in.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, ensure};
use rustix::termios::{Winsize, tcsetwinsize};

use super::context::{Context, HUNG_SECONDS};
use super::life::until;
use super::runner::Step;
use super::signals::{echoes, terminal};
use hv_setup::exit::Exit;
use hv_setup::process;

/// Rows and columns of the terminal.
const SIZE: (u16, u16) = (37, 111);

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    vec![
        Step::new("keys/6.12/shell", shell),
        Step::new("keys/6.12/three-breaks", three_breaks),
        Step::new("keys/6.12/guest-that-does-not-read", not_reading),
        Step::new("keys/6.12/piped", piped),
        Step::new("keys/6.12/exec", exec),
    ]
}

/// A run of the tool at a terminal. Dropping it ends the run.
struct Session {
    child: Child,
    keys: File,
    terminal: OwnedFd,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Session {
    fn start(context: &Context, words: &[&str]) -> anyhow::Result<Self> {
        let (ours, theirs) = terminal()?;
        resize(&theirs, SIZE)?;
        let line = context.command(words)?;
        // Without --fork it becomes the program.
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(line.get_program()).args(line.get_args());
        let variables =
            line.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
        command.envs(variables.collect::<Vec<(OsString, OsString)>>());
        command.stdin(theirs.try_clone()?).stdout(theirs.try_clone()?).stderr(theirs.try_clone()?);
        let child = command.spawn().context("cannot start setsid")?;
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut screen, all) = (File::from(ours.try_clone()?), Arc::clone(&shown));
        // It ends when nothing has the terminal open.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = screen.read(&mut buffer) {
                all.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..length]);
            }
        });
        Ok(Self { child, keys: File::from(ours), terminal: theirs, shown })
    }

    fn text(&self) -> String {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&shown).into_owned()
    }

    fn shows(&mut self, text: &str) -> anyhow::Result<()> {
        let found = until(text, || {
            ensure!(self.child.try_wait()?.is_none(), "it has ended");
            Ok(self.text().contains(text))
        });
        found.with_context(|| format!("the terminal shows:\n{}", self.text()))
    }

    fn press(&mut self, keys: &[u8]) -> anyhow::Result<()> {
        Ok(self.keys.write_all(keys)?)
    }

    /// Checks, at a shell, that Ctrl-C is the guest's and ends the command there, and that there is help.
    fn breaks(&mut self) -> anyhow::Result<()> {
        // Said by the command that Ctrl-C ends: the terminal is its own by then, and no longer the shell's.
        self.press(b"sh -c \"echo wait''ing; exec sleep 1000\"\r")?;
        self.shows("\nwaiting\r")?;
        self.press(b"\x03")?;
        self.press(b"echo still a''live\r")?;
        self.shows("\nstill alive\r")?;
        self.controls_jobs()?;
        self.press(b"\x01h")?;
        self.shows("Ctrl-A X ")
    }

    /// Checks, at a shell, that Ctrl-Z stops the command, and that the shell continues it.
    fn controls_jobs(&mut self) -> anyhow::Result<()> {
        self.press(b"sh -c \"echo re''ady; read line; echo and read \\$line\"\r")?;
        self.shows("\nready\r")?;
        self.press(b"\x1a")?;
        self.shows("Stopped")?;
        self.press(b"echo mean''while; fg\r")?;
        self.shows("\nmeanwhile\r")?;
        self.press(b"a line\r")?;
        self.shows("\nand read a line\r")
    }

    fn ended(&mut self, code: Exit) -> anyhow::Result<()> {
        let ended = until("it has ended", || Ok(self.child.try_wait()?.is_some()));
        ended.with_context(|| format!("the terminal shows:\n{}", self.text()))?;
        let status = self.child.wait()?;
        ensure!(status.code() == Some(code as i32), "it ended with {status}:\n{}", self.text());
        ensure!(echoes(&self.terminal)?, "the terminal does not echo");
        // Neither a question that the terminal would answer, nor an answer that it has given.
        ensure!(!self.text().contains("\u{1b}[6n"), "a question to the terminal is left");
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn resize(terminal: &OwnedFd, (ws_row, ws_col): (u16, u16)) -> anyhow::Result<()> {
    Ok(tcsetwinsize(terminal, Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 })?)
}

/// Boots to the shell.
fn at_shell(context: &Context) -> anyhow::Result<Session> {
    let mut session =
        Session::start(context, &["boot", "--vps", "1", "--run", "shell", "--timeout", HUNG_SECONDS])?;
    session.shows("hv: shell\r")?;
    session.shows("# ")?;
    Ok(session)
}

fn shell(context: &Context) -> anyhow::Result<()> {
    let mut session = at_shell(context)?;
    session.press(b"stty size\r")?;
    session.shows("\n37 111\r")?;
    session.breaks()?;
    session.press(b"\x01x")?;
    session.ended(Exit::Interrupted)
}

/// Checks that a guest that hangs does not trap the user.
fn three_breaks(context: &Context) -> anyhow::Result<()> {
    let mut session = at_shell(context)?;
    session.press(b"trap '' INT; echo de''af; while :; do :; done\r")?;
    session.shows("\ndeaf\r")?;
    session.press(b"\x03\x03")?;
    session.press(b"\x01h")?;
    session.shows("Ctrl-A X ")?;
    ensure!(session.child.try_wait()?.is_none(), "two were enough");
    session.press(b"\x03\x03\x03")?;
    session.ended(Exit::Interrupted)
}

/// Checks that the first Ctrl-C ends the run without a shell and a prompt.
fn not_reading(context: &Context) -> anyhow::Result<()> {
    let mut session =
        Session::start(context, &["boot", "--vps", "1", "--run", "wait", "--timeout", HUNG_SECONDS])?;
    // The line is whole: after the guest's carriage return the terminal adds its own.
    session.shows("hv: waiting\r\r\n")?;
    session.press(b"\x03")?;
    session.ended(Exit::Interrupted)
}

/// Checks that the shell of `hv exec` follows the terminal's size, and has the same keys.
fn exec(context: &Context) -> anyhow::Result<()> {
    let mut session = Session::start(context, &["exec", "--vps", "1", "--timeout", HUNG_SECONDS])?;
    session.shows("# ")?;
    session.press(b"stty size\r")?;
    session.shows("\n37 111\r")?;
    resize(&session.terminal, (21, 70))?;
    session.press(b"until [ \"$(stty size)\" = '21 70' ]; do sleep 0.1; done; echo re''sized\r")?;
    session.shows("\nresized\r")?;
    session.breaks()?;
    session.press(b"\x03\x03\x03")?;
    session.ended(Exit::Interrupted)
}

/// Checks that a script on stdin is typed, and the shell ends with it.
fn piped(context: &Context) -> anyhow::Result<()> {
    let mut child = context
        .command(&["boot", "--vps", "1", "--run", "shell", "--timeout", HUNG_SECONDS])?
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut pipe = child.stdin.take().context("no stdin")?;
    // More than the console's driver has room for at a time.
    let mut script = "# a line that says nothing\n".repeat(400);
    script.push_str("echo $((6 * 7)) is a''ll\n");
    let writer = std::thread::spawn(move || pipe.write_all(script.as_bytes()));
    let stdout = child.stdout.take().map(|pipe| process::collect(pipe, |_| {}));
    let status = process::wait(&mut child, &mut || {})?;
    let stdout = stdout.map(process::Reader::finish).unwrap_or_default();
    ensure!(writer.join().is_ok_and(|written| written.is_ok()), "the script was not read");
    ensure!(status.code() == Some(Exit::Success as i32), "it ended with {status}: {stdout}");
    ensure!(stdout.contains("42 is all\r\n"), "{stdout}");
    untyped(context)
}

/// Checks that a script for a shell that never comes is told of.
fn untyped(context: &Context) -> anyhow::Result<()> {
    let script = context.folder()?.join("script");
    std::fs::write(&script, "echo all\n")?;
    let line = ["boot", "--quiet", "--run", "crash,shell", "--timeout", HUNG_SECONDS];
    let done = context.command(&line)?.stdin(std::fs::File::open(&script)?).output()?;
    let stderr = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.code() == Some(Exit::Crash as i32), "{}: {stderr}", done.status);
    ensure!(stderr.contains("was not typed: the guest has shown no prompt"), "{stderr}");
    Ok(())
}
