//! A byte stream to the tool or to passt: a socket that never makes anyone wait but the thread which serves it.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use hv_control::Pipe;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

/// Bytes that wait for the other end at most. The longest message of a port is half of it.
pub(crate) const ROOM: usize = 256 << 10;

/// What wakes a thread that waits for its stream.
#[derive(Debug)]
pub(crate) struct Bell(OwnedFd);

impl Bell {
    /// Creates one.
    ///
    /// # Errors
    /// The system has no more descriptors.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?))
    }

    /// Wakes the thread, now or when it waits next. Locks may be held: it never blocks.
    pub(crate) fn ring(&self) {
        // A counter that has no room rings already.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Forgets how often it rang.
    pub(crate) fn clear(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

/// One end of a stream.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: File,
    /// Bytes that were written, and that the other end has no room for.
    waiting: VecDeque<u8>,
    broken: Option<Errno>,
}

impl Stream {
    /// Takes a socket, whose reads and writes do not wait from now on.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn new(socket: File) -> io::Result<Self> {
        fcntl_setfl(&socket, fcntl_getfl(&socket)? | OFlags::NONBLOCK)?;
        Ok(Self { socket, waiting: VecDeque::new(), broken: None })
    }

    /// Returns true while bytes wait for the other end.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Waits until the bell rings, something has come, if `hears`, or the other end has room again, if `sends`.
    pub(crate) fn wait(&self, bell: &Bell, hears: bool, sends: bool) {
        let mut events = PollFlags::empty();
        events.set(PollFlags::IN, hears);
        events.set(PollFlags::OUT, sends);
        // A socket whose other end has gone is ready for good, whatever is asked for.
        let of_socket = self.broken.is_none() && !events.is_empty();
        let mut waited = vec![PollFd::new(&bell.0, PollFlags::IN)];
        waited.extend(of_socket.then(|| PollFd::new(&self.socket, events)));
        let _ = poll(&mut waited, None);
    }

    /// Takes the stream for broken: nothing more comes or goes, and what waits is dropped.
    pub(crate) fn lose(&mut self, why: Errno) {
        self.broken = Some(why);
        self.waiting = VecDeque::new();
    }

    /// Notes an error other than that there is nothing, or no room, at the moment.
    fn judge(&mut self, result: Result<usize, Errno>) -> Result<usize, Errno> {
        match result {
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(error) => {
                self.lose(error);
                Err(error)
            }
            Ok(bytes) => Ok(bytes),
        }
    }
}

impl Pipe for Stream {
    type Broken = Errno;

    fn room(&mut self) -> Result<usize, Errno> {
        self.broken.map_or(Ok(ROOM.saturating_sub(self.waiting.len())), Err)
    }

    fn read(&mut self, into: &mut [u8]) -> Result<usize, Errno> {
        self.broken.map_or(Ok(()), Err)?;
        // The other end has closed.
        let read = rustix::io::read(&self.socket, &mut *into);
        let read = if read == Ok(0) && !into.is_empty() { Err(Errno::PIPE) } else { read };
        self.judge(read)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        self.broken.map_or(Ok(()), Err)?;
        self.waiting.extend(bytes);
        Ok(())
    }

    fn flush(&mut self) {
        while self.broken.is_none() && !self.waiting.is_empty() {
            let (front, _) = self.waiting.as_slices();
            let written = rustix::io::write(&self.socket, front);
            match self.judge(written) {
                Ok(0) | Err(_) => return,
                Ok(bytes) => drop(self.waiting.drain(..bytes)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;

    fn stream() -> (Stream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Stream::new(File::from(OwnedFd::from(ours))).unwrap(), theirs)
    }

    #[test]
    fn what_the_other_end_has_no_room_for_waits_and_is_bounded() {
        let (mut stream, mut theirs) = stream();
        let mut sent = Vec::new();
        while stream.room().unwrap() >= 4096 {
            let bytes = [sent.len() as u8; 4096];
            stream.write(&bytes).unwrap();
            sent.extend(bytes);
            stream.flush();
        }
        assert!(stream.has_waiting() && sent.len() > ROOM);
        theirs.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut came = vec![0; sent.len()];
        let mut at = 0;
        while at < came.len() {
            at += theirs.read(&mut came[at..]).unwrap();
            stream.flush();
        }
        assert!(came == sent && stream.room() == Ok(ROOM));
    }

    #[test]
    fn nothing_to_read_is_no_error_and_the_end_is_one_for_good() {
        let (mut stream, mut theirs) = stream();
        let mut bytes = [0; 8];
        assert_eq!(stream.read(&mut bytes), Ok(0));
        theirs.write_all(b"abc").unwrap();
        assert_eq!((stream.read(&mut bytes), &bytes[..3]), (Ok(3), &b"abc"[..]));
        assert_eq!(stream.read(&mut []), Ok(0));
        drop(theirs);
        assert_eq!(stream.read(&mut bytes), Err(Errno::PIPE));
        assert_eq!((stream.room(), stream.write(b"x")), (Err(Errno::PIPE), Err(Errno::PIPE)));
        // It no longer waits for the socket, which is ready for good.
        let bell = Bell::new().unwrap();
        bell.ring();
        stream.wait(&bell, true, false);
    }

    #[test]
    fn a_bell_that_rang_before_wakes_at_once_and_rings_once() {
        let ((stream, theirs), bell) = (stream(), Bell::new().unwrap());
        bell.ring();
        bell.ring();
        stream.wait(&bell, true, false);
        bell.clear();
        let waited = std::thread::scope(|scope| {
            let waiter = scope.spawn(|| stream.wait(&bell, true, false));
            std::thread::sleep(Duration::from_millis(20));
            let early = waiter.is_finished();
            bell.ring();
            waiter.join().unwrap();
            early
        });
        assert!(!waited);
        drop(theirs);
    }
}
