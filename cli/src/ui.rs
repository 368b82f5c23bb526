//! What a person sees: progress and messages on stderr, results on stdout.

use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::sync::{Arc, OnceLock};
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

/// Why something did not get to stdout.
static LOST: OnceLock<std::io::Error> = OnceLock::new();

/// Writes to stdout. What does not get there is remembered for [`delivered`].
pub(crate) fn out(text: &str) {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        // A reader that went away is no error: there is nobody left to tell.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let _ = LOST.set(error);
        }
        _ => {}
    }
}

/// Fails if a part of what went to [`out`] is lost, as on a full disk.
pub(crate) fn delivered() -> anyhow::Result<()> {
    match LOST.get() {
        Some(error) => Err(anyhow::anyhow!("cannot write to stdout: {error}")),
        None => Ok(()),
    }
}

/// A task that takes a while: a spinner or a bar on a terminal, else one line when it starts.
#[derive(Clone)]
pub(crate) struct Task(Arc<Bar>);

struct Bar(ProgressBar);

impl Task {
    /// Starts a task of unknown length.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self::with(ProgressBar::new_spinner(), "{spinner} {msg} [{elapsed}]", what.into())
    }

    /// Starts a task that is done after so many bytes.
    pub(crate) fn bytes(what: impl Into<String>, bytes: u64) -> Self {
        let what = format!("{} ({} MB)", what.into(), bytes.div_ceil(1_000_000));
        let template = "{spinner} {msg} {bar:24} {bytes}/{total_bytes} [{elapsed}]";
        Self::with(ProgressBar::new(bytes), template, what)
    }

    /// Starts a task that is of interest only to a person who watches.
    pub(crate) fn quiet(what: impl Into<String>) -> Self {
        let bar = ProgressBar::new_spinner();
        if std::io::stderr().is_terminal() {
            return Self::with(bar, "{spinner} {msg} [{elapsed}]", what.into());
        }
        bar.set_draw_target(ProgressDrawTarget::hidden());
        Self(Arc::new(Bar(bar)))
    }

    /// True if somebody sees it.
    pub(crate) fn is_shown(&self) -> bool {
        !self.0.0.is_hidden()
    }

    /// Writes something while the task is not in the way.
    pub(crate) fn suspend<R>(&self, write: impl FnOnce() -> R) -> R {
        self.0.0.suspend(write)
    }

    fn with(bar: ProgressBar, template: &str, what: String) -> Self {
        if !std::io::stderr().is_terminal() {
            note(&what);
            bar.set_draw_target(ProgressDrawTarget::hidden());
            return Self(Arc::new(Bar(bar)));
        }
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what);
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(Arc::new(Bar(bar)))
    }

    /// Says what is going on now.
    pub(crate) fn say(&self, what: impl Into<String>) {
        self.0.0.set_message(what.into());
    }

    /// How many bytes are done.
    pub(crate) fn position(&self, bytes: u64) {
        self.0.0.set_position(bytes);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Ends a line that a guest left open.
pub(crate) fn line_end(stderr: bool) {
    if stderr {
        note("");
    } else {
        out("\n");
    }
}
