//! Progress of what takes a while.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

use super::door::{self, Kind, Stream};
use super::filter;

/// Pictures a second.
const RATE: u8 = 20;

/// A task that takes a while: a spinner or a bar on a terminal, else one line when it starts.
#[derive(Clone)]
pub struct Task(Arc<Bar>);

struct Bar(ProgressBar);

impl Task {
    /// Starts a task of unknown length.
    pub fn new(what: impl Into<String>) -> Self {
        Self::with(ProgressBar::new_spinner(), "{spinner} {msg} [{elapsed}]", what.into())
    }

    /// Starts a task that is done after so many bytes.
    pub fn bytes(what: impl Into<String>, bytes: u64) -> Self {
        let what = format!("{} ({} MB)", what.into(), bytes.div_ceil(1_000_000));
        let template = "{spinner} {msg} {bar:24} {bytes}/{total_bytes} [{elapsed}]";
        Self::with(ProgressBar::new(bytes), template, what)
    }

    /// Starts a task that is of interest only to a person who watches.
    pub fn quiet(what: impl Into<String>) -> Self {
        let bar = ProgressBar::new_spinner();
        if Stream::Stderr.is_terminal() {
            return Self::with(bar, "{spinner} {msg} [{elapsed}]", what.into());
        }
        bar.set_draw_target(ProgressDrawTarget::hidden());
        Self(Arc::new(Bar(bar)))
    }

    /// True if somebody sees it.
    pub fn is_shown(&self) -> bool {
        !self.0.0.is_hidden()
    }

    /// Writes something while the task is not in the way.
    pub fn suspend<R>(&self, write: impl FnOnce() -> R) -> R {
        self.0.0.suspend(write)
    }

    fn with(bar: ProgressBar, template: &str, what: String) -> Self {
        if !Stream::Stderr.is_terminal() {
            super::note(&what);
            bar.set_draw_target(ProgressDrawTarget::hidden());
            return Self(Arc::new(Bar(bar)));
        }
        bar.set_draw_target(ProgressDrawTarget::term_like_with_hz(Box::<Drawing>::default(), RATE));
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(filter::one_line(&what).into_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(Arc::new(Bar(bar)))
    }

    /// Says what is going on now.
    pub fn say(&self, what: impl Into<String>) {
        self.0.0.set_message(filter::one_line(&what.into()).into_owned());
    }

    /// How many bytes are done.
    pub fn position(&self, bytes: u64) {
        self.0.0.set_position(bytes);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Draws a bar through the door to stderr.
#[derive(Debug, Default)]
struct Drawing(Mutex<String>);

impl Drawing {
    fn add(&self, text: &str) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_str(text);
        Ok(())
    }

    fn go(&self, n: usize, direction: char) -> io::Result<()> {
        if n == 0 { Ok(()) } else { self.add(&format!("\x1b[{n}{direction}")) }
    }
}

impl TermLike for Drawing {
    fn width(&self) -> u16 {
        rustix::termios::tcgetwinsize(io::stderr()).map_or(80, |size| size.ws_col.max(1))
    }

    fn height(&self) -> u16 {
        rustix::termios::tcgetwinsize(io::stderr()).map_or(24, |size| size.ws_row.max(1))
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.go(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.go(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.go(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.go(n, 'D')
    }

    fn write_line(&self, line: &str) -> io::Result<()> {
        self.add(line)?;
        self.add("\n")
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.add(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.add("\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        let picture = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let door = door::of(Stream::Stderr);
        if !door.is_behind() {
            door.put(Stream::Stderr, Kind::Text, picture.as_bytes());
        }
        Ok(())
    }
}
