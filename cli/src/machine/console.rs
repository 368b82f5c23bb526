//! The guest's console: shown while it runs, and recorded.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::interrupt;
use crate::setup::size::size;
use crate::ui::{self, Screen, Stream};

/// Maximum number of bytes kept in memory, from the end.
pub(crate) const KEPT: usize = 1 << 18;
/// Maximum size of the log: no guest fills the disk.
const LOG: u64 = 256 << 20;

/// Destination of the console, if it is shown: stderr if the result goes to stdout.
pub(crate) type Sink = Option<Stream>;

/// An additional consumer of the guest's output, called on its arrival.
pub(crate) type Heard = Option<Box<dyn FnMut(&[u8]) + Send>>;

/// What remains of a console.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// The last part of the output.
    pub(crate) text: String,
    /// Bytes at its beginning that are not of this run, but of the one that was saved.
    pub(crate) earlier: usize,
    /// Number of bytes that the reader of the console did not take in time.
    pub(crate) dropped: u64,
    /// Number of bytes before those of `text`.
    pub(crate) left_out: u64,
    /// Why the log is incomplete.
    pub(crate) log_failed: Option<io::Error>,
}

/// The end of the output, and when the last of it came.
#[derive(Debug)]
struct Tail {
    text: Vec<u8>,
    at: Instant,
}

/// Prompt of root's shell, after its folder.
const ROOT: &[u8] = b"# ";

/// What tells that the guest reads input: its output ends in a line without an end, as that of a shell and of a login
/// does; or a shell of root's that announces itself has its prompt.
#[derive(Clone, Debug)]
pub(super) struct Prompt(Arc<Mutex<Tail>>);

impl Prompt {
    /// Returns true if there is such a line, and nothing else has come for as long as `quiet`. With `after`, the line
    /// that announces a shell, returns true if the shell's prompt came behind it: the kernel may print at any time, and
    /// a line of its own changes nothing.
    pub(super) fn is_there(&self, after: Option<&str>, quiet: Duration) -> bool {
        let tail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(after) = after else {
            return tail.text.last().is_some_and(|&last| last != b'\n') && tail.at.elapsed() >= quiet;
        };
        memchr::memmem::rfind(&tail.text, after.as_bytes())
            .is_some_and(|at| memchr::memmem::find(&tail.text[at + after.len()..], ROOT).is_some())
    }
}

/// A thread that copies the console's bytes.
#[derive(Debug)]
pub(crate) struct Console {
    kept: Arc<Mutex<Tail>>,
    thread: JoinHandle<Option<io::Error>>,
    sink: Sink,
    /// Number of bytes that the guest has printed.
    printed: Arc<AtomicU64>,
}

impl Console {
    /// Shows and records the output of `pipe`, and writes it to `log` if given.
    pub(crate) fn start(
        pipe: impl Read + Send + 'static,
        sink: Sink,
        log: Option<File>,
        heard: Heard,
    ) -> Self {
        let kept = Arc::new(Mutex::new(Tail { text: Vec::new(), at: Instant::now() }));
        let shared = Arc::clone(&kept);
        let printed = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&printed);
        let thread = std::thread::spawn(move || pump(pipe, sink, (log, heard), &shared, &count));
        Self { kept, thread, sink, printed }
    }

    /// Puts what the guest has printed earlier, under another QEMU, before its output.
    pub(crate) fn precede(&self, earlier: &[u8]) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.text.splice(0..0, earlier.iter().copied());
    }

    /// Returns what remains of the output so far, when it is called.
    pub(crate) fn so_far(&self) -> impl Fn() -> Vec<u8> + Send + use<> {
        let kept = Arc::clone(&self.kept);
        move || {
            let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.text[kept.text.len().saturating_sub(KEPT)..].to_vec()
        }
    }

    /// Returns the number of bytes that the guest has printed so far.
    pub(crate) fn printed(&self) -> u64 {
        self.printed.load(Ordering::Relaxed)
    }

    /// Returns what tells when the guest reads input.
    pub(super) fn prompt(&self) -> Prompt {
        Prompt(Arc::clone(&self.kept))
    }

    /// Waits for the end of the guest's output.
    pub(crate) fn finish(self) -> Kept {
        let log_failed = self.thread.join().unwrap_or_default();
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let printed = self.printed.load(Ordering::Relaxed);
        // What this run has printed comes last.
        let own = usize::try_from(printed).map_or(kept.text.len(), |printed| printed.min(kept.text.len()));
        let (earlier, own) = kept.text.split_at(kept.text.len() - own);
        let mut text = String::from_utf8_lossy(earlier).into_owned();
        let earlier = text.len();
        text.push_str(&String::from_utf8_lossy(own));
        Kept {
            left_out: printed.saturating_sub(kept.text.len() as u64),
            text,
            earlier,
            dropped: self.sink.map_or(0, ui::settle_console),
            log_failed,
        }
    }
}

fn lock(screen: &Mutex<Screen>) -> MutexGuard<'_, Screen> {
    screen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Copies bytes until there are no more, and returns the error that ended the log.
fn pump(
    mut pipe: impl Read,
    sink: Sink,
    (mut log, mut heard): (Option<File>, Heard),
    kept: &Mutex<Tail>,
    printed: &AtomicU64,
) -> Option<io::Error> {
    // Unfiltered to a file or a pipe; a terminal would interpret it.
    let terminal = sink.filter(|stream| stream.is_terminal());
    let screen = terminal.map(|_| Arc::new(Mutex::new(Screen::default())));
    let _undo = terminal.zip(screen.clone()).map(|(stream, screen)| {
        // The lock is held only while a chunk is filtered.
        interrupt::on_second_signal(move || ui::restore_at_once(stream, &mut lock(&screen)))
    });
    let mut failed = None;
    let mut at_start = true;
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = pipe.read(&mut buffer) {
        let bytes = &buffer[..length];
        if let Some(heard) = &mut heard {
            heard(bytes);
        }
        at_start = bytes.last() == Some(&b'\n');
        match (sink, &screen) {
            (Some(stream), Some(screen)) => {
                let passed = lock(screen).pass(bytes);
                ui::console(stream, &passed);
            }
            (Some(stream), None) => ui::console(stream, bytes),
            (None, _) => {}
        }
        let before = printed.fetch_add(length as u64, Ordering::Relaxed);
        let written = log.as_mut().map(|log| match before.saturating_add(length as u64) {
            ..=LOG => log.write_all(bytes),
            _ => Err(io::Error::other(format!("it has reached {}; the rest is dropped", size(LOG)))),
        });
        if let Some(Err(error)) = written {
            failed = Some(error);
            log = None;
        }
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.at = Instant::now();
        kept.text.extend_from_slice(bytes);
        if kept.text.len() > 2 * KEPT {
            let surplus = kept.text.len() - KEPT;
            kept.text.drain(..surplus);
        }
    }
    match (sink, &screen) {
        (Some(stream), Some(screen)) => ui::restore(stream, &mut lock(screen)),
        // A line that the guest left open.
        (Some(stream), None) if !at_start => ui::end_line(stream),
        _ => {}
    }
    failed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_a_line_without_an_end() {
        let is_there = |text: &'static str, after: Option<&str>| {
            let console = Console::start(text.as_bytes(), None, None, None);
            let prompt = console.prompt();
            console.finish();
            prompt.is_there(after, Duration::ZERO)
        };
        assert!(is_there("hv: shell\r\n/ # ", None) && is_there("login: ", None));
        assert!(!is_there("", None) && !is_there("[    1.0] booting\r\n", None));
        assert!(is_there("hv: shell\r\n/ # ", Some("hv: shell\r\n")));
        assert!(
            !is_there("hv: shell\r\n", Some("hv: shell\r\n"))
                && !is_there("[    1.0] ", Some("hv: shell\r\n"))
        );
        // The kernel prints behind the prompt, and the shell's banner comes in pieces.
        assert!(is_there("hv: shell\r\n/ # [    9.9] rcu: a stall\r\n", Some("hv: shell\r\n")));
        assert!(!is_there("hv: shell\r\n\r", Some("hv: shell\r\n")));
        let console = Console::start(&b"# "[..], None, None, None);
        let prompt = console.prompt();
        console.finish();
        assert!(!prompt.is_there(None, Duration::MAX), "it may be the middle of a line");
    }

    #[test]
    fn a_chatty_guest_does_not_fill_memory() {
        let text = vec![b'x'; 5 * KEPT];
        let kept = Console::start(io::Cursor::new(text), None, None, None).finish().text;
        assert!((KEPT..=2 * KEPT).contains(&kept.len()));
    }

    #[test]
    fn a_chatty_guest_does_not_fill_a_disk() {
        use io::Seek as _;
        let mut log = tempfile::tempfile().unwrap();
        let console =
            Console::start(io::repeat(b'x').take(LOG + 5000), None, Some(log.try_clone().unwrap()), None);
        let failed = console.finish().log_failed.unwrap().to_string();
        assert!(failed.contains("the rest is dropped"), "{failed}");
        assert!((LOG - 4096..=LOG).contains(&log.seek(io::SeekFrom::End(0)).unwrap()));
    }

    #[test]
    fn bytes_that_are_no_text_are_kept_readable() {
        let kept = Console::start(&b"a\xffb"[..], None, None, None).finish().text;
        assert_eq!(kept, "a\u{fffd}b");
    }

    #[test]
    fn what_was_printed_earlier_comes_first() {
        let console = Console::start(&b"later"[..], None, None, None);
        console.precede(b"earli\xff, ");
        let Kept { text, earlier, left_out, .. } = console.finish();
        assert_eq!((&*text, &text[earlier..], left_out), ("earli\u{fffd}, later", "later", 0));
        let much = vec![b'x'; 5 * KEPT];
        let console = Console::start(io::Cursor::new(much), None, None, None);
        console.precede(b"earlier, ");
        let kept = console.finish();
        // What this run has printed alone fills what is kept.
        assert_eq!(kept.earlier, 0);
    }

    #[test]
    fn a_prompt_before_a_line_of_the_kernels_is_found_by_the_shell_that_announced_itself() {
        const SHELL: &str = "hv: shell\r\n";
        let found = |text: &'static [u8], after| {
            let console = Console::start(&b""[..], None, None, None);
            console.precede(text);
            console.prompt().is_there(after, Duration::ZERO)
        };
        let printed = b"hv: shell\r\n/ # [9.1] hv_balloon: Ballooned pages\r\n";
        assert!(!found(printed, None) && found(printed, Some(SHELL)));
        assert!(found(b"login: ", None) && !found(b"login: ", Some(SHELL)));
    }

    #[test]
    fn a_log_that_cannot_be_written_is_told_of_and_costs_nothing_else() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let kept = Console::start(&b"text"[..], None, Some(full), None).finish();
        assert_eq!(kept.text, "text");
        assert!(kept.log_failed.is_some());
    }
}
