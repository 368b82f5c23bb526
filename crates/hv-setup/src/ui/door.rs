//! Output to stdout and stderr: a queue, and a thread that empties it.
//!
//! A reader that does not read (a paused pager, a stopped terminal) blocks the thread and nothing else. If both streams
//! lead to the same place they share a queue, which preserves the order.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IsTerminal as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use crate::interrupt;

/// Maximum number of queued bytes before a guest's console output is dropped, or another writer waits.
const ROOM: usize = 1 << 20;
/// Number of bytes written at a time: a pipe takes this many atomically (POSIX, `PIPE_BUF` of Linux).
const PIECE: usize = 4096;
/// How long a reader may be stalled before the end of a run stops waiting for it.
const GRACE: Duration = Duration::from_secs(2);
/// Maximum time that the end of a run waits for a reader in total.
const LONGEST: Duration = Duration::from_secs(10);

/// An output stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Results.
    Stdout,
    /// Progress and messages.
    Stderr,
}

impl Stream {
    /// Returns true if it is a terminal.
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Stdout => io::stdout().is_terminal(),
            Self::Stderr => io::stderr().is_terminal(),
        }
    }

    /// Calls `act` with the descriptor itself: the buffers of the standard library have locks that a reader could
    /// block.
    fn with<R>(self, act: impl FnOnce(BorrowedFd<'_>) -> R) -> R {
        match self {
            Self::Stdout => act(io::stdout().as_fd()),
            Self::Stderr => act(io::stderr().as_fd()),
        }
    }

    /// Writes as much as possible without waiting: the process is about to end.
    pub(super) fn write_at_once(self, bytes: &[u8]) {
        self.with(|fd| {
            let mut ready = [PollFd::new(&fd, PollFlags::OUT)];
            if rustix::event::poll(&mut ready, Some(&rustix::event::Timespec::default())) == Ok(1) {
                let _ = rustix::io::write(fd, bytes);
            }
        });
    }

    /// Writes some of `bytes`; waits as long as the reader blocks.
    fn write(self, bytes: &[u8]) -> io::Result<usize> {
        self.with(|fd| {
            loop {
                match rustix::io::write(fd, bytes) {
                    // Another process may have made the shared file description non-blocking.
                    Err(rustix::io::Errno::AGAIN) => {
                        let _ = rustix::event::poll(&mut [PollFd::new(&fd, PollFlags::OUT)], None);
                    }
                    Err(rustix::io::Errno::INTR) => {}
                    result => return Ok(result?),
                }
            }
        })
    }
}

/// The origin of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The tool itself.
    Text,
    /// The guest's console.
    Console,
    /// A command in the guest, of which nothing may be lost.
    Command,
}

/// Behaviour of writers when the reader is slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Manner {
    /// Writers wait, as in any program; a signal ends the wait.
    #[default]
    Wait,
    /// Writers do not wait, because a guest is running: output that does not fit is dropped and counted.
    Drop,
}

#[derive(Debug)]
struct Chunk {
    stream: Stream,
    kind: Kind,
    bytes: Vec<u8>,
}

/// A queue and its thread.
#[derive(Debug, Default)]
pub(super) struct Door {
    state: Mutex<State>,
    /// Signalled when something is added or removed.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Chunk>,
    /// Number of bytes in the queue.
    waiting: usize,
    /// Kind and length of the piece that the thread is writing.
    writing: Option<(Kind, usize)>,
    /// When the reader last took something, or was first given something to take.
    moved: Option<Instant>,
    manner: Manner,
    /// The end of the run stopped waiting for the reader.
    given_up: bool,
    /// The thread is running.
    served: bool,
    /// The reader of stdout or stderr is gone, or the end of the run stopped waiting for it.
    gone: [bool; 2],
    /// Why output to stdout was lost.
    failed: Option<io::Error>,
    dropped: Dropped,
}

/// Bytes that a reader did not take in time.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dropped {
    /// Of the guest's console.
    pub console: u64,
    /// Of the tool's text.
    pub text: u64,
}

impl Dropped {
    fn add(&mut self, kind: Kind, bytes: usize) {
        let place = match kind {
            Kind::Text | Kind::Command => &mut self.text,
            Kind::Console => &mut self.console,
        };
        *place = place.saturating_add(bytes as u64);
    }
}

/// Returns the queue of a stream.
pub(super) fn of(stream: Stream) -> &'static Door {
    static STDOUT: OnceLock<Door> = OnceLock::new();
    static STDERR: OnceLock<Door> = OnceLock::new();
    match stream {
        Stream::Stderr if !share() => STDERR.get_or_init(Door::default),
        _ => STDOUT.get_or_init(Door::default),
    }
}

/// Returns true if both streams lead to the same place.
fn share() -> bool {
    static SHARE: OnceLock<bool> = OnceLock::new();
    *SHARE.get_or_init(|| {
        let place = |stream: Stream| {
            stream.with(|fd| rustix::fs::fstat(fd)).map(|stat| (stat.st_dev, stat.st_ino, stat.st_rdev))
        };
        let (out, err) = (place(Stream::Stdout), place(Stream::Stderr));
        (out.is_ok() && out == err) || (Stream::Stdout.is_terminal() && Stream::Stderr.is_terminal())
    })
}

impl Door {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the behaviour of writers from now on.
    pub(super) fn set_manner(&self, manner: Manner) {
        self.lock().manner = manner;
    }

    /// Adds output to the queue; returns false if it was dropped.
    pub(super) fn put(&'static self, stream: Stream, kind: Kind, bytes: &[u8]) -> bool {
        let mut state = self.lock();
        if bytes.is_empty() {
            return true;
        }
        // The tool's text in a run with a guest is short, and is the purpose of the run.
        let waits = |state: &State| state.manner == Manner::Wait || kind == Kind::Command;
        while state.waiting >= ROOM && !state.gone[stream as usize] && waits(&state) {
            if interrupt::requested() {
                state.dropped.add(kind, bytes.len());
                return false;
            }
            state = self.pause(state);
        }
        if state.gone[stream as usize] {
            return false;
        }
        if state.waiting >= ROOM && kind == Kind::Console {
            state.dropped.add(kind, bytes.len());
            return false;
        }
        if !state.served {
            state.served = true;
            let writer = std::thread::Builder::new().name("output".into()).spawn(|| self.serve());
            if writer.is_err() {
                // Written directly, rather than lost.
                let _ = stream.write(bytes);
                return true;
            }
        }
        if state.waiting == 0 && state.writing.is_none() {
            state.moved = Some(Instant::now());
        }
        state.waiting += bytes.len();
        state.queue.push_back(Chunk { stream, kind, bytes: bytes.to_vec() });
        self.changed.notify_all();
        true
    }

    /// Waits until everything is written, however long the reader takes; returns false if it is gone, or a signal has
    /// arrived.
    pub(super) fn settle(&self, stream: Stream) -> bool {
        let mut state = self.lock();
        while state.waiting != 0 || state.writing.is_some() {
            if interrupt::requested() {
                return false;
            }
            state = self.pause(state);
        }
        !state.gone[stream as usize]
    }

    /// Returns true if the reader does not keep up, so that a progress display would be out of date.
    pub(super) fn is_behind(&self) -> bool {
        self.lock().waiting > PIECE
    }

    /// Returns true if the reader of a stream is gone.
    pub(super) fn is_gone(&self, stream: Stream) -> bool {
        self.lock().gone[stream as usize]
    }

    /// Waits for a change, for a short time at most.
    fn pause<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let result = self.changed.wait_timeout(state, crate::process::POLL);
        result.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Writes the contents of the queue, in an endless loop.
    fn serve(&self) {
        loop {
            let (stream, piece) = self.take();
            let mut rest = &piece[..];
            let result = loop {
                match stream.write(rest) {
                    Ok(length) if length < rest.len() => rest = &rest[length..],
                    Ok(_) => break Ok(()),
                    Err(error) => break Err(error),
                }
            };
            let mut state = self.lock();
            state.writing = None;
            state.moved = Some(Instant::now());
            if let Err(error) = result {
                state.gone[stream as usize] = true;
                // A reader that is gone is not an error: nothing could be reported to it.
                if error.kind() != ErrorKind::BrokenPipe && stream == Stream::Stdout {
                    state.failed.get_or_insert(error);
                }
                state.discard(|chunk| chunk.stream == stream);
            }
            self.changed.notify_all();
        }
    }

    /// Takes the next piece out of the queue.
    fn take(&self) -> (Stream, Vec<u8>) {
        let mut state = self.lock();
        loop {
            if let Some(mut chunk) = state.queue.pop_front() {
                let rest = chunk.bytes.split_off(chunk.bytes.len().min(PIECE));
                if !rest.is_empty() {
                    state.queue.push_front(Chunk { bytes: rest, ..chunk });
                }
                state.waiting -= chunk.bytes.len();
                state.writing = Some((chunk.kind, chunk.bytes.len()));
                return (chunk.stream, chunk.bytes);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Drops queued console output if the reader has stopped reading, and returns how much has been lost so far.
    pub(super) fn settle_console(&self) -> u64 {
        let mut state = self.lock();
        let stuck = state.moved.is_some_and(|moved| moved.elapsed() >= GRACE);
        if stuck && (state.waiting != 0 || state.writing.is_some()) {
            let console = state.discard(|chunk| chunk.kind == Kind::Console);
            state.dropped.console += console.console;
        }
        state.dropped.console
    }

    /// Waits until everything is written; after a run with a guest, or after a signal, does not wait for a stalled
    /// reader. Returns what was lost.
    pub(super) fn drain(&self) -> Dropped {
        let started = Instant::now();
        let mut state = self.lock();
        while !state.given_up && (state.waiting != 0 || state.writing.is_some()) {
            let bounded = state.manner == Manner::Drop || interrupt::requested();
            let still = state.moved.map_or(started, |moved| moved.max(started)).elapsed();
            if bounded && (still >= GRACE || started.elapsed() >= LONGEST) {
                if let Some((kind, length)) = state.writing {
                    state.dropped.add(kind, length);
                }
                let rest = state.discard(|_| true);
                state.dropped.console += rest.console;
                state.dropped.text += rest.text;
                state.gone = [true; 2];
                state.given_up = true;
                break;
            }
            state = self.pause(state);
        }
        state.dropped
    }

    /// Does the same as [`Door::drain`].
    ///
    /// # Errors
    /// Why output to stdout was lost, for example a full disk.
    pub(super) fn finish(&self) -> io::Result<Dropped> {
        let dropped = self.drain();
        self.lock().failed.take().map_or(Ok(dropped), Err)
    }
}

impl State {
    /// Removes chunks from the queue without writing them.
    fn discard(&mut self, which: impl Fn(&Chunk) -> bool) -> Dropped {
        let mut dropped = Dropped::default();
        self.queue.retain(|chunk| {
            let goes = which(chunk);
            if goes {
                dropped.add(chunk.kind, chunk.bytes.len());
                self.waiting -= chunk.bytes.len();
            }
            !goes
        });
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Creates a queue whose thread never writes.
    fn stuck(manner: Manner) -> &'static Door {
        let state = State { served: true, manner, ..State::default() };
        Box::leak(Box::new(Door { state: Mutex::new(state), changed: Condvar::new() }))
    }

    #[test]
    fn a_console_that_is_not_read_is_dropped_and_counted_and_the_report_is_not() {
        let door = stuck(Manner::Drop);
        for _ in 0..ROOM / PIECE {
            assert!(door.put(Stream::Stdout, Kind::Console, &[b'x'; PIECE]));
        }
        assert!(!door.put(Stream::Stdout, Kind::Console, &[b'x'; 100]));
        assert!(door.put(Stream::Stdout, Kind::Text, b"report"));
        assert_eq!(door.lock().dropped, Dropped { console: 100, text: 0 });
        // The reader has not been stalled long enough yet; then it has.
        assert_eq!(door.settle_console(), 100);
        door.lock().moved = Instant::now().checked_sub(GRACE);
        assert_eq!(door.settle_console(), 100 + ROOM as u64);
        assert_eq!(door.lock().waiting, "report".len());
        assert_eq!(door.finish().unwrap(), Dropped { console: 100 + ROOM as u64, text: 6 });
        assert!(!door.put(Stream::Stdout, Kind::Text, b"late"));
    }

    #[test]
    fn pieces_come_out_in_their_order_and_are_counted_once() {
        let door = stuck(Manner::Wait);
        door.put(Stream::Stdout, Kind::Console, &[b'a'; PIECE + 1]);
        door.put(Stream::Stderr, Kind::Text, b"b");
        assert_eq!(door.take(), (Stream::Stdout, vec![b'a'; PIECE]));
        assert_eq!(door.take(), (Stream::Stdout, vec![b'a'; 1]));
        assert_eq!(door.take(), (Stream::Stderr, vec![b'b']));
        assert_eq!(door.lock().waiting, 0);
    }
}
