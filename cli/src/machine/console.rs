//! The guest's console: shown while it runs, and kept.

use std::fs::File;
use std::io::{Read, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Most bytes that are kept in memory, from the end.
const KEPT: usize = 1 << 18;

/// Where the console is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sink {
    /// On stdout.
    Stdout,
    /// On stderr, since stdout carries the result.
    Stderr,
    /// Nowhere.
    Nowhere,
}

/// A thread that moves the console's bytes.
#[derive(Debug)]
pub(crate) struct Console {
    kept: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

impl Console {
    /// Shows and keeps what comes out of `pipe`, and writes it to `log` if there is one.
    pub(crate) fn start(mut pipe: impl Read + Send + 'static, sink: Sink, mut log: Option<File>) -> Self {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&kept);
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = pipe.read(&mut buffer) {
                let bytes = &buffer[..length];
                show(sink, bytes);
                if log.as_mut().is_some_and(|log| log.write_all(bytes).is_err()) {
                    log = None;
                }
                let mut kept = shared.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend_from_slice(bytes);
                if kept.len() > 2 * KEPT {
                    let surplus = kept.len() - KEPT;
                    kept.drain(..surplus);
                }
            }
        });
        Self { kept, thread }
    }

    /// Waits for the end and gives the last part of the text.
    pub(crate) fn finish(self) -> String {
        let _ = self.thread.join();
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&kept).into_owned()
    }
}

/// A reader that went away is no reason to stop the guest.
fn show(sink: Sink, bytes: &[u8]) {
    let _ = match sink {
        Sink::Stdout => {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(bytes).and_then(|()| stdout.flush())
        }
        Sink::Stderr => std::io::stderr().write_all(bytes),
        Sink::Nowhere => Ok(()),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chatty_guest_does_not_fill_memory() {
        let text = vec![b'x'; 5 * KEPT];
        let kept = Console::start(std::io::Cursor::new(text), Sink::Nowhere, None).finish();
        assert!((KEPT..=2 * KEPT).contains(&kept.len()));
    }

    #[test]
    fn bytes_that_are_no_text_are_kept_readable() {
        let kept = Console::start(&b"a\xffb"[..], Sink::Nowhere, None).finish();
        assert_eq!(kept, "a\u{fffd}b");
    }
}
