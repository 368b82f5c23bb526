//! What a person sees: progress and messages on stderr, results on stdout.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Prints an error with its causes on one line.
pub(crate) fn error(error: &anyhow::Error) {
    let text = format!("{error:#}");
    let _ = writeln!(std::io::stderr(), "error: {}", text.trim_end());
}

/// Prints a line for the person who waits, unless nobody does.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Writes to stdout. A reader that went away is no error: there is nobody left to tell.
pub(crate) fn out(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// A task that takes a while: a spinner or a bar on a terminal, else one line when it starts.
pub(crate) struct Task(ProgressBar);

impl Task {
    /// Starts a task of unknown length.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        let what = what.into();
        if !std::io::stderr().is_terminal() {
            note(&what);
            return Self(ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()));
        }
        let bar = ProgressBar::new_spinner().with_message(what);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} [{elapsed}]") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }

    /// Says what is going on now.
    pub(crate) fn say(&self, what: impl Into<String>) {
        self.0.set_message(what.into());
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
