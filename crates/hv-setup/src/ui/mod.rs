//! What a person sees: progress and messages on stderr, results on stdout. All of it goes through here, and whatever
//! comes from elsewhere (names of files and symbols, texts of guests, messages of other programs) is text and nothing
//! else when it comes to a terminal. A guest's console has a filter of its own.

mod door;
mod filter;
mod screen;
mod task;

use std::io::{self, Write};

use door::{Kind, Manner};

pub use door::Stream;
pub use filter::{one_line, printable};
pub use screen::Screen;
pub use task::Task;

/// Prints an error with its causes.
pub fn error(error: &anyhow::Error) {
    problem("error", &format!("{error:#}"));
}

/// Prints what clap says of a command line: words of the user's are in it, and a shell may have taken them from a folder.
pub fn bad_command_line(error: &clap::Error) {
    note(error.render().to_string().trim_end());
}

/// Prints a line of a severity; further lines of `text` are set off, so that none of them passes for a message.
fn problem(severity: &str, text: &str) {
    let mut message = format!("{severity}: ");
    for (number, line) in text.trim_end().lines().enumerate() {
        let set_off = number != 0 && !line.starts_with([' ', '\t']);
        message.push_str(if number == 0 { "" } else { "\n" });
        message.push_str(if set_off { "  " } else { "" });
        message.push_str(line);
    }
    note(&message);
}

/// Prints a line for the person who waits.
pub fn note(text: &str) {
    put(Stream::Stderr, &format!("{text}\n"));
}

/// Writes to stdout. What does not get there is remembered for [`finish`].
pub fn out(text: &str) {
    put(Stream::Stdout, text);
}

fn put(stream: Stream, text: &str) -> bool {
    task::without_picture(|| door::of(stream).put(stream, Kind::Text, printable(text).as_bytes()))
}

/// Writes a part of a guest's console; never waits.
pub fn console(stream: Stream, bytes: &[u8]) {
    door::of(stream).put(stream, Kind::Console, bytes);
}

/// Ends a line that a guest left open.
pub fn end_line(stream: Stream) {
    put(stream, "\n");
}

/// Writes what undoes a guest's changes of the terminal.
pub fn restore(stream: Stream, screen: &mut Screen) {
    door::of(stream).put(stream, Kind::Text, &screen.restore());
}

/// Has nothing wait for the readers of stdout and stderr from now on: a guest runs.
pub fn wait_for_nobody() {
    for stream in [Stream::Stdout, Stream::Stderr] {
        door::of(stream).set_manner(Manner::Drop);
    }
}

/// Bytes of a guest's console that its reader did not take in time, at the end of a run.
pub fn settle_console(stream: Stream) -> u64 {
    door::of(stream).settle_console()
}

/// Waits until what was shown is read, as far as it is; gives the bytes of the console that were not.
pub fn drain(stream: Stream) -> u64 {
    door::of(stream).drain().console
}

/// Waits until all is written, as far as it is read. False if a part of what went to [`out`] is lost, as on a full disk,
/// which is then said.
pub fn finish() -> bool {
    let result = door::of(Stream::Stdout).finish();
    if let Ok(dropped) = &result {
        let (console, text) = (dropped.console, dropped.text);
        if console + text != 0 {
            note(&format!(
                "warning: stdout was not read in time: {console} bytes of the console and {text} bytes of other text are left out"
            ));
        }
    }
    if let Err(lost) = &result {
        problem("error", &format!("cannot write to stdout: {lost}"));
    }
    let _ = door::of(Stream::Stderr).finish();
    result.is_ok()
}

/// Stdout for what is too much for one text.
#[derive(Debug, Default)]
pub struct Output {
    /// The start of a line.
    rest: Vec<u8>,
}

impl Output {
    /// Passes on what ends at `length`.
    fn pass(&mut self, length: usize) -> io::Result<()> {
        let text = String::from_utf8_lossy(&self.rest[..length]).into_owned();
        self.rest.drain(..length);
        if put(Stream::Stdout, &text) || !door::of(Stream::Stdout).is_gone(Stream::Stdout) {
            Ok(())
        } else {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.rest.extend_from_slice(bytes);
        if let Some(end) = self.rest.iter().rposition(|&byte| byte == b'\n') {
            self.pass(end + 1)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pass(self.rest.len())
    }
}
