//! What the user sees: progress and messages on stderr, results on stdout. All output goes through here, and text from
//! elsewhere (file names, symbols, guest text, messages of other programs) is neutralized before it reaches a terminal.
//! A guest's console has its own filter.

mod door;
mod filter;
mod screen;
mod task;

use std::io::{self, Write};

use door::{Kind, Manner};

use crate::size;

pub use door::Stream;
pub use filter::{one_line, printable};
pub use screen::Screen;
pub use task::Task;

/// Prints an error with its causes.
pub fn error(error: &anyhow::Error) {
    problem("error", &format!("{error:#}"));
}

/// Prints clap's error about a command line: it contains the user's words, which a shell may have taken from file
/// names.
pub fn bad_command_line(error: &clap::Error) {
    note(&error.render().to_string());
}

/// Prints a message with a severity.
fn problem(severity: &str, text: &str) {
    note(&format!("{severity}: {text}"));
}

/// Prints a message; further lines of `text` are indented, so that none can pass for another message.
pub fn note(text: &str) {
    let mut message = String::new();
    for (number, line) in text.trim_end().lines().enumerate() {
        let set_off = number != 0 && !line.starts_with([' ', '\t']);
        message.push_str(if number == 0 { "" } else { "\n" });
        message.push_str(if set_off { "  " } else { "" });
        if number == MOST_LINES {
            message.push('…');
            break;
        }
        message.push_str(&shortened(line));
    }
    lines(&message);
}

/// Maximum number of lines of a message, and bytes of a line that are shown at its beginning and at its end. It may
/// quote a file, or another program, whatever their length.
const MOST_LINES: usize = 1000;
const BEGINNING: usize = 6000;
const END: usize = 2000;

/// Cuts the middle out of a line that is too long.
fn shortened(line: &str) -> std::borrow::Cow<'_, str> {
    if line.len() <= BEGINNING + END {
        return line.into();
    }
    let boundary = |at: usize| (at..line.len()).find(|&at| line.is_char_boundary(at)).unwrap_or(line.len());
    let (first, rest) = line.split_at(boundary(BEGINNING));
    let (hidden, last) = rest.split_at(boundary(line.len() - END) - first.len());
    format!("{first} … ({} not shown) … {last}", size::size(hidden.len() as u64)).into()
}

/// Prints lines that are not a single message to stderr: a table, or what another program says.
pub fn lines(text: &str) {
    put(Stream::Stderr, &format!("{}\n", text.trim_end()));
}

/// Writes to stdout. A failure is recorded for [`finish`].
pub fn out(text: &str) {
    put(Stream::Stdout, text);
}

fn put(stream: Stream, text: &str) -> bool {
    task::without_picture(|| door::of(stream).put(stream, Kind::Text, printable(text).as_bytes()))
}

/// Writes part of a guest's console; never waits.
pub fn console(stream: Stream, bytes: &[u8]) {
    door::of(stream).put(stream, Kind::Console, bytes);
}

/// Writes output of a command in the guest, and waits until it has room; returns false if it is no longer read.
pub fn command(stream: Stream, bytes: &[u8]) -> bool {
    door::of(stream).put(stream, Kind::Command, bytes)
}

/// Waits until the output of [`command`] is written; returns false if it will not be.
pub fn settle(stream: Stream) -> bool {
    door::of(stream).settle(stream)
}

/// Ends a line that the guest left open.
pub fn end_line(stream: Stream) {
    put(stream, "\n");
}

/// Reverts a guest's changes to the terminal.
pub fn restore(stream: Stream, screen: &mut Screen) {
    door::of(stream).put(stream, Kind::Text, &screen.restore());
}

/// Does the same as [`restore`], ahead of the queue, and without waiting.
pub fn restore_at_once(stream: Stream, screen: &mut Screen) {
    stream.write_at_once(&screen.restore());
}

/// Stops waiting for the readers of stdout and stderr from now on: a guest is running.
pub fn never_wait() {
    for stream in [Stream::Stdout, Stream::Stderr] {
        door::of(stream).set_manner(Manner::Drop);
    }
}

/// Returns the number of console bytes that the reader did not take in time, at the end of a run.
pub fn settle_console(stream: Stream) -> u64 {
    door::of(stream).settle_console()
}

/// Waits until all output has been read, as far as it will be; returns the number of console bytes that were not.
pub fn drain(stream: Stream) -> u64 {
    door::of(stream).drain().console
}

/// Waits until all output is written, as far as it is read. If part of the output of [`out`] is lost, for example
/// because the disk is full, reports that and returns false.
pub fn finish() -> bool {
    let result = door::of(Stream::Stdout).finish();
    if let Ok(dropped) = &result {
        let (console, text) = (dropped.console, dropped.text);
        if console + text != 0 {
            note(&format!(
                "warning: stdout was not read in time: {} of the console and {} of other text are lost",
                size::size(console),
                size::size(text)
            ));
        }
    }
    if let Err(lost) = &result {
        problem("error", &format!("cannot write to stdout: {lost}"));
    }
    let _ = door::of(Stream::Stderr).finish();
    result.is_ok()
}

/// Stdout for output that is too large for one string.
#[derive(Debug, Default)]
pub struct Output {
    /// The start of an incomplete line.
    rest: Vec<u8>,
}

impl Output {
    /// Passes on everything up to `length`.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_line_the_middle_is_left_out() {
        let line = "é".repeat(1 << 20);
        let short = shortened(&line);
        assert!(short.len() < 2 * (BEGINNING + END) && short.contains("not shown"), "{}", short.len());
        assert!(short.starts_with('é') && short.ends_with('é'));
        let line = "x".repeat(BEGINNING + END);
        assert_eq!(shortened(&line), line);
    }
}
