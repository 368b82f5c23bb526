//! The guest's output: collected, and written by a thread of its own.
//!
//! The guest prints byte by byte. If each were written at once, the tool would wake for each, and two threads would
//! meet at the pipe's lock for each: on an emulated machine with two processors the VPs then wait for that lock more
//! than they run, and a boot takes minutes.

use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::accounts::lock;

/// Bytes that wait at most; then the guest waits, too.
const ROOM: usize = 64 << 10;
/// How long output is collected, from its first byte on.
const COLLECTED: Duration = Duration::from_millis(10);

/// The guest's output on its way out.
#[derive(Debug, Default)]
pub(crate) struct Console {
    state: Mutex<State>,
    /// There are bytes for a writer that has none.
    added: Condvar,
    /// There is room again, or nothing is left.
    written: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// The writer has nothing to do.
    is_idle: bool,
    /// The writer has bytes that are not written yet.
    is_writing: bool,
}

impl Console {
    /// Takes a byte. Waits while there is no room.
    pub(crate) fn push(&self, byte: u8) {
        let mut state = lock(&self.state);
        while state.waiting.len() >= ROOM {
            state = self.written.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting.push(byte);
        if std::mem::take(&mut state.is_idle) {
            self.added.notify_one();
        }
    }

    /// Writes what is pushed, until the process ends.
    pub(crate) fn work(&self, mut write: impl FnMut(&[u8])) -> ! {
        let mut bytes = Vec::new();
        loop {
            self.take(&mut bytes);
            write(&bytes);
            bytes.clear();
            lock(&self.state).is_writing = false;
            self.written.notify_all();
        }
    }

    /// Waits for bytes, and takes them.
    fn take(&self, bytes: &mut Vec<u8>) {
        let mut state = lock(&self.state);
        if state.waiting.is_empty() {
            state.is_idle = true;
            while state.waiting.is_empty() {
                state = self.added.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
        drop(state);
        thread::sleep(COLLECTED);
        let mut state = lock(&self.state);
        std::mem::swap(&mut state.waiting, bytes);
        state.is_writing = true;
    }

    /// Waits until all is written.
    pub(crate) fn finish(&self) {
        let mut state = lock(&self.state);
        while state.is_writing || !state.waiting.is_empty() {
            state = self.written.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;

    /// Returns a console whose writer sends what it writes, after it was let to.
    fn console() -> (&'static Console, mpsc::Receiver<Vec<u8>>, mpsc::Sender<()>) {
        let console: &'static Console = Box::leak(Box::default());
        let (sender, written) = mpsc::channel();
        let (go, gate) = mpsc::channel();
        thread::spawn(move || {
            console.work(|bytes| {
                let _ = gate.recv();
                let _ = sender.send(bytes.to_vec());
            })
        });
        (console, written, go)
    }

    #[test]
    fn bytes_are_written_together_in_their_order_and_all_of_them() {
        let (console, written, go) = console();
        // Nothing has to be waited for.
        console.finish();
        for round in 0..3_u8 {
            (0..200).for_each(|byte| console.push(byte ^ round));
            let mut all = Vec::new();
            let mut writes = 0;
            while all.len() < 200 {
                go.send(()).unwrap();
                all.extend(written.recv().unwrap());
                writes += 1;
            }
            console.finish();
            assert!(all.into_iter().eq((0..200).map(|byte| byte ^ round)));
            assert!(writes < 100, "{writes} writes of 200 bytes");
        }
    }

    #[test]
    fn writes_are_no_more_than_the_time_has_room_for() {
        let console: &'static Console = Box::leak(Box::default());
        let (sender, written) = mpsc::channel();
        let began = Instant::now();
        thread::spawn(move || console.work(|bytes| sender.send(bytes.len()).unwrap_or_default()));
        for _ in 0..200 {
            console.push(b'x');
            // A guest takes longer for a byte than its writer.
            thread::sleep(Duration::from_micros(100));
        }
        console.finish();
        let most = began.elapsed().as_millis() / COLLECTED.as_millis() + 1;
        let writes: Vec<usize> = written.try_iter().collect();
        assert_eq!(writes.iter().sum::<usize>(), 200);
        assert!(writes.len() as u128 <= most, "{} writes, expected at most {most}", writes.len());
    }

    #[test]
    fn the_guest_waits_while_there_is_no_room_and_the_end_for_the_writer() {
        let (console, written, go) = console();
        let (done, is_done) = mpsc::channel();
        let all = 3 * ROOM;
        thread::spawn(move || {
            (0..all).for_each(|_| console.push(b'x'));
            let _ = done.send(());
            console.finish();
            let _ = done.send(());
        });
        // What the writer holds, and a full room: the rest waits.
        assert!(is_done.recv_timeout(Duration::from_millis(100)).is_err());
        let mut bytes = 0;
        while bytes < all {
            go.send(()).unwrap();
            let more = written.recv().unwrap();
            assert!(more.len() <= ROOM);
            bytes += more.len();
        }
        assert_eq!(bytes, all);
        (0..2).for_each(|_| is_done.recv().unwrap());
    }
}
