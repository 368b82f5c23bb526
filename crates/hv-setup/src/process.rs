//! Child processes that are waited for: their output is collected, and a signal to this process ends them.

use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;

use crate::{interrupt, size, ui};

/// Maximum number of bytes kept from a child's output, from its end. A child's output may come from a guest.
const KEPT: usize = 64 << 20;
/// Maximum number of bytes in a line; a longer line counts as several.
const LINE: u64 = 64 << 10;

/// Polling interval of waiting loops.
pub const POLL: Duration = Duration::from_millis(20);

/// Result of a finished child.
pub struct Finished {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its stdout, as text.
    pub stdout: String,
    /// Its stderr, as text.
    pub stderr: String,
}

impl Finished {
    /// Returns the lines of stderr that describe the error: those with `marker`, else the last one, else how the child
    /// ended.
    pub fn complaint(&self, marker: &str) -> String {
        let marked: Vec<&str> = self.stderr.lines().filter(|line| line.starts_with(marker)).collect();
        if marked.is_empty() {
            let last = self.stderr.lines().rev().find(|line| !line.trim().is_empty());
            return last.map_or_else(|| silent(self.status), |line| line.trim().to_owned());
        }
        marked.join("; ")
    }
}

/// Describes the end of a child that has printed nothing: its status, and what to do if a signal ended it.
#[must_use]
pub fn silent(status: ExitStatus) -> String {
    // SIGKILL and SIGSYS: the numbers on x86 and Arm (signal(7)).
    let hint = match status.signal() {
        Some(9) => "; the system ends programs like this when memory is short, so free some or ask for less",
        Some(31) => "; a sandbox forbids it something, so run it outside of the container or service",
        _ => "",
    };
    format!("it ended without a message ({status}){hint}")
}

/// Runs a command to completion, calling `tick` meanwhile.
pub fn run(command: &mut Command, mut tick: impl FnMut()) -> anyhow::Result<Finished> {
    let _orderly = interrupt::orderly();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))?;
    let stdout = child.stdout.take().map(|pipe| collect(pipe, |_| {}));
    let stderr = child.stderr.take().map(|pipe| collect(pipe, |_| {}));
    let status = wait(&mut child, &mut tick)?;
    let text = |reader: Option<Reader>| reader.map(Reader::take).unwrap_or_default();
    let stdout = text(stdout);
    // Output that is parsed must be complete; of error messages the last ones are enough.
    anyhow::ensure!(
        stdout.left_out == 0,
        "{} prints more than {}",
        command.get_program().to_string_lossy(),
        size::size(KEPT as u64)
    );
    Ok(Finished { status, stdout: stdout.text, stderr: text(stderr).text })
}

/// Waits for a child; an interrupt stops it first.
pub fn wait(child: &mut Child, tick: &mut dyn FnMut()) -> anyhow::Result<ExitStatus> {
    let _orderly = interrupt::orderly();
    loop {
        if let Some(status) = child.try_wait()? {
            interrupt::check()?;
            return Ok(status);
        }
        if let Err(stop) = interrupt::check() {
            terminate(child);
            return Err(stop.into());
        }
        tick();
        std::thread::sleep(POLL);
    }
}

/// Asks a child to end, and kills it if it does not.
fn terminate(child: &mut Child) {
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    for _ in 0..150 {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(POLL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// A thread that reads a pipe line by line.
#[derive(Debug)]
pub struct Reader {
    kept: Arc<Mutex<Kept>>,
    thread: std::thread::JoinHandle<()>,
}

/// The kept part of a text.
#[derive(Debug, Default)]
struct Kept {
    /// Its end.
    text: String,
    /// Number of bytes dropped before it.
    left_out: u64,
}

impl Kept {
    /// Adds a line. At twice `most` bytes the older half is dropped.
    fn push(&mut self, line: &str, most: usize) {
        self.text.push_str(line);
        if self.text.len() > most.saturating_mul(2) {
            let start = self.text.len() - most;
            let start = (start..self.text.len()).find(|&at| self.text.is_char_boundary(at)).unwrap_or(start);
            self.left_out += start as u64;
            self.text.drain(..start);
        }
    }
}

/// Collects the output of a pipe, as much as fits, and passes every line to `each`.
pub fn collect(pipe: impl Read + Send + 'static, mut each: impl FnMut(&str) + Send + 'static) -> Reader {
    let kept = Arc::new(Mutex::new(Kept::default()));
    let shared = Arc::clone(&kept);
    let thread = std::thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut line = Vec::new();
        while matches!(reader.by_ref().take(LINE).read_until(b'\n', &mut line), Ok(1..)) {
            let readable = String::from_utf8_lossy(&line);
            shared.lock().unwrap_or_else(PoisonError::into_inner).push(&readable, KEPT / 2);
            each(readable.trim_end());
            line.clear();
        }
    });
    Reader { kept, thread }
}

impl Reader {
    /// Returns the text up to the close of the pipe; only its end if it was long.
    pub fn finish(self) -> String {
        self.take().text
    }

    fn take(self) -> Kept {
        let _ = self.thread.join();
        std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Runs two functions in parallel, and waits for both.
///
/// # Errors
/// The error of the first one that failed; if both did, the other error is printed.
pub fn both<A: Send, B: Send>(
    one: impl FnOnce() -> anyhow::Result<A> + Send,
    other: impl FnOnce() -> anyhow::Result<B> + Send,
) -> anyhow::Result<(A, B)> {
    let (one, other) = std::thread::scope(|scope| {
        let one = scope.spawn(one);
        let other = other();
        (one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), other)
    });
    match (one, other) {
        (Ok(one), Ok(other)) => Ok((one, other)),
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
        (Err(error), Err(second)) => {
            // A signal ends both, and is reported once.
            if !second.is::<interrupt::Interrupted>() {
                ui::error(&second);
            }
            Err(error)
        }
    }
}

/// Finds a program in `$PATH`.
pub fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok() && file.is_file())
}

/// Finds a program of the system's administrator: in `$PATH`, which users often have without the folder for these, or
/// in that folder.
pub fn which_system(program: &str) -> Option<PathBuf> {
    which(program).or_else(|| Some(Path::new("/usr/sbin").join(program)).filter(|path| path.is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_things_run_side_by_side_and_one_error_is_enough() {
        let (to_one, from_other) = std::sync::mpsc::channel();
        let (to_other, from_one) = std::sync::mpsc::channel();
        // Each waits for the other: run one after the other, they would never end.
        let met = both(
            move || Ok(to_other.send(1).is_ok() && from_other.recv() == Ok(2)),
            move || Ok(to_one.send(2).is_ok() && from_one.recv() == Ok(1)),
        );
        assert_eq!(met.unwrap(), (true, true));
        let fail = |text: &'static str| move || -> anyhow::Result<()> { anyhow::bail!(text) };
        assert_eq!(both(fail("one"), || Ok(())).unwrap_err().to_string(), "one");
        assert_eq!(both(|| Ok(()), fail("other")).unwrap_err().to_string(), "other");
        assert_eq!(both(fail("one"), fail("other")).unwrap_err().to_string(), "one");
    }

    #[test]
    fn a_child_that_says_nothing_is_told_by_its_status() {
        let said = |script| run(Command::new("sh").args(["-c", script]), || {}).unwrap().complaint("E:");
        assert_eq!(said("exit 3"), "it ended without a message (exit status: 3)");
        let killed = said("kill -9 $$");
        assert!(killed.contains("(signal: 9") && killed.contains("memory is short"), "{killed}");
        assert_eq!(said("echo why >&2; exit 1"), "why");
    }

    #[test]
    fn of_a_long_text_the_end_is_kept() {
        let mut kept = Kept::default();
        for _ in 0..1000 {
            kept.push("\u{e4}\u{f6}\u{fc}.\n", 100);
            assert!(kept.text.len() <= 200);
        }
        assert_eq!(kept.left_out + kept.text.len() as u64, 8000);
        assert!(kept.text.len() >= 99 && kept.text.ends_with(".\n"));
    }

    #[test]
    fn a_pipe_without_end_or_lines_costs_no_more_than_its_share() {
        let whole = 2 * KEPT as u64 + 5000;
        let longest = Arc::new(Mutex::new(0));
        let shared = Arc::clone(&longest);
        let kept = collect(std::io::repeat(b'x').take(whole), move |line| {
            let mut longest = shared.lock().unwrap();
            *longest = line.len().max(*longest);
        })
        .take();
        assert!(kept.text.len() <= KEPT);
        assert_eq!(kept.left_out + kept.text.len() as u64, whole);
        assert_eq!(*longest.lock().unwrap() as u64, LINE);
    }

    #[test]
    fn output_that_is_not_whole_is_an_error() {
        let mut command = Command::new("head");
        command.args(["-c", &(KEPT + 2).to_string(), "/dev/zero"]);
        let error = run(&mut command, || {}).err().map(|error| error.to_string());
        assert!(error.as_deref().is_some_and(|error| error.contains("head prints more than")), "{error:?}");
    }
}
