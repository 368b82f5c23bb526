//! Progress of lengthy tasks. Several simultaneous tasks share one line of the terminal.

use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::door::{self, Kind, Stream};
use super::filter;
use crate::size;

/// Interval between updates of the progress line.
const TICK: Duration = Duration::from_millis(120);
/// Frames of the spinner.
const SPINNER: [char; 4] = ['|', '/', '-', '\\'];
/// Erases the progress line.
const ERASE: &str = "\r\x1b[2K";

/// The tasks shown to the user.
static BOARD: Mutex<Board> = Mutex::new(Board { entries: Vec::new(), next: 0, shown: false, ticks: None });

#[derive(Debug)]
struct Board {
    entries: Vec<Entry>,
    /// Number of the next task.
    next: usize,
    /// The progress line is on the terminal.
    shown: bool,
    /// Number of updates so far; `None` while no thread draws.
    ticks: Option<usize>,
}

#[derive(Debug)]
struct Entry {
    number: usize,
    what: String,
    /// Bytes done, and total.
    bytes: Option<(u64, u64)>,
    started: Instant,
}

fn board() -> MutexGuard<'static, Board> {
    BOARD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes text with the progress line removed; the line reappears below it.
pub(super) fn without_picture<R>(write: impl FnOnce() -> R) -> R {
    let mut board = board();
    board.erase();
    write()
}

impl Board {
    fn erase(&mut self) {
        if std::mem::take(&mut self.shown) {
            put(ERASE);
        }
    }

    fn draw(&mut self, tick: usize) {
        // A stopped terminal gets one update when it continues, not all that were missed.
        if !door::of(Stream::Stderr).is_behind() {
            let width = rustix::termios::tcgetwinsize(io::stderr()).map_or(80, |size| size.ws_col.max(1));
            put(&format!("{ERASE}{}", picture(&self.entries, tick, usize::from(width))));
            self.shown = true;
        }
    }
}

/// Formats the tasks as one line, each with an equal share of it.
fn picture(entries: &[Entry], tick: usize, width: usize) -> String {
    // The last column stays free: some terminals wrap after it.
    let share = (width.saturating_sub(2) / entries.len().max(1)).saturating_sub(3);
    let mut line = String::from(SPINNER[tick % SPINNER.len()]);
    for (place, entry) in entries.iter().enumerate() {
        let mut end = String::new();
        if let Some((done, all)) = entry.bytes {
            let _ = write!(end, " {}", size::progress(done, all));
        }
        let _ = write!(end, " [{} s]", entry.started.elapsed().as_secs());
        let room = share.saturating_sub(end.chars().count());
        let what: String = if entry.what.chars().count() > room {
            entry.what.chars().take(room.saturating_sub(1)).chain(['…']).collect()
        } else {
            entry.what.clone()
        };
        let _ = write!(line, "{}{what}{end}", if place == 0 { " " } else { " | " });
    }
    // A narrow terminal has no room for the ends of the parts.
    line.chars().take(width.saturating_sub(1)).collect()
}

fn put(text: &str) {
    door::of(Stream::Stderr).put(Stream::Stderr, Kind::Text, text.as_bytes());
}

/// Draws the progress line until there are no tasks.
fn draw() {
    loop {
        {
            let mut board = board();
            let tick = board.ticks.unwrap_or_default();
            if board.entries.is_empty() {
                board.ticks = None;
                return;
            }
            board.draw(tick);
            board.ticks = Some(tick + 1);
        }
        std::thread::sleep(TICK);
    }
}

/// A lengthy task: part of the progress line on a terminal, otherwise a line when it starts.
#[derive(Clone, Debug)]
pub struct Task(Arc<Place>);

/// A task's entry on the board, removed when it ends.
#[derive(Debug)]
struct Place {
    /// `None` for a task that is not shown.
    number: Option<usize>,
}

impl Task {
    /// Starts a task of unknown length.
    pub fn new(what: impl Into<String>) -> Self {
        let what = what.into();
        if !Stream::Stderr.is_terminal() {
            super::note(&what);
        }
        Self::with(what, None)
    }

    /// Starts a task with a known number of bytes.
    pub fn bytes(what: impl Into<String>, bytes: u64) -> Self {
        let what = what.into();
        if !Stream::Stderr.is_terminal() {
            super::note(&format!("{what} ({})", size::size(bytes)));
        }
        Self::with(what, Some((0, bytes)))
    }

    /// Starts a task that is only shown on a terminal.
    pub fn quiet(what: impl Into<String>) -> Self {
        Self::with(what.into(), None)
    }

    fn with(what: String, bytes: Option<(u64, u64)>) -> Self {
        if !Stream::Stderr.is_terminal() {
            return Self(Arc::new(Place { number: None }));
        }
        let mut board = board();
        let number = board.next;
        board.next += 1;
        let what = filter::one_line(&what).into_owned();
        board.entries.push(Entry { number, what, bytes, started: Instant::now() });
        if board.ticks.is_none() {
            board.ticks = Some(0);
            std::thread::spawn(draw);
        }
        Self(Arc::new(Place { number: Some(number) }))
    }

    /// Returns true if the task is shown.
    #[must_use]
    pub fn is_shown(&self) -> bool {
        self.0.number.is_some()
    }

    /// Updates the description.
    pub fn say(&self, what: impl Into<String>) {
        let what = what.into();
        self.change(|entry| entry.what = filter::one_line(&what).into_owned());
    }

    /// Updates the number of bytes done.
    pub fn position(&self, bytes: u64) {
        self.change(|entry| entry.bytes = entry.bytes.map(|(_, all)| (bytes.min(all), all)));
    }

    fn change(&self, change: impl FnOnce(&mut Entry)) {
        let Some(number) = self.0.number else { return };
        if let Some(entry) = board().entries.iter_mut().find(|entry| entry.number == number) {
            change(entry);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        let mut board = board();
        board.entries.retain(|entry| entry.number != number);
        board.erase();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(what: &str, bytes: Option<(u64, u64)>) -> Entry {
        Entry { number: 0, what: what.to_owned(), bytes, started: Instant::now() }
    }

    #[test]
    fn tasks_share_one_line_of_the_terminal() {
        let one = [entry("Building hypervisor", None)];
        assert!(picture(&one, 1, 80).starts_with("/ Building hypervisor ["));
        let two = [entry(&"a".repeat(200), Some((5_000_000, 70_000_000))), entry(&"b".repeat(200), None)];
        for width in 0..200 {
            let line = picture(&two, 0, width);
            assert!(line.chars().count() < width.max(1) || line.is_empty(), "{width}: {line}");
        }
        let line = picture(&two, 0, 80);
        assert!(
            line.contains("a… 4.8/66.8 MiB [") && line.contains(" | bbb") && line.contains("b… ["),
            "{line}"
        );
    }

    #[test]
    fn a_task_leaves_the_board_with_its_last_clone() {
        let number = board().next + 1000;
        board().entries.push(Entry { number, ..entry("one", Some((0, 10))) });
        let task = Task(Arc::new(Place { number: Some(number) }));
        let clone = task.clone();
        clone.say("two\u{1b}[2J");
        clone.position(99);
        let seen = |number| {
            let board = board();
            let entry = board.entries.iter().find(|entry| entry.number == number)?;
            Some((entry.what.clone(), entry.bytes))
        };
        assert_eq!(seen(number), Some(("two\\u001b[2J".to_owned(), Some((10, 10)))));
        drop(task);
        assert!(seen(number).is_some());
        drop(clone);
        assert_eq!(seen(number), None);
    }
}
